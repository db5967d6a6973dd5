"""Carries out what `ProducerState` needs: one task per producer, one request at a time, on the client's loop.

Nothing is decided here. The task sleeps until the state has something to say (`wake`) or a wait before a repetition is
over; coordinators are found and forgotten by the cluster.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from ottla.client.errors import FatalProducerError, KafkaError, KafkaTimeoutError
from ottla.client.producer.completion import Completion
from ottla.client.producer.transaction_messages import PendingRequest, Target
from ottla.client.producer.transactions import ProducerState
from ottla.protocol.message import Request, Response

LOGGER = logging.getLogger("ottla.client")

TRANSACTION_VERSION = "transaction.version"
"""The feature that says which version of transactions the cluster speaks (KIP-890)."""

_KEY_TYPES = {Target.GROUP_COORDINATOR: 0, Target.TRANSACTION_COORDINATOR: 1}


class RequestingCluster(Protocol):
    """What the task needs of the network."""

    def now_ms(self) -> int: ...

    def finalized_feature(self, name: str, /) -> int: ...

    async def any_node(self, timeout_ms: int, /) -> int: ...

    async def coordinator(self, key_type: int, key: str, timeout_ms: int, /) -> int: ...

    def forget_coordinator(self, key_type: int, key: str, /) -> None: ...

    async def request(
        self,
        node_id: int,
        request: Request,
        /,
        *,
        timeout_ms: int | None = None,
        min_version: int | None = None,
        max_version: int | None = None,
    ) -> Response: ...


class TransactionRequests:
    """`request_timeout_ms` bounds one request and one search for a coordinator; `on_progress` wakes the sender."""

    def __init__(
        self,
        cluster: RequestingCluster,
        state: ProducerState,
        *,
        request_timeout_ms: int = 30_000,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._cluster = cluster
        self._state = state
        self._request_timeout_ms = request_timeout_ms
        self._on_progress = on_progress
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        state.on_work = self.wake

    def start(self) -> None:
        """Idempotent; on the loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="ottla producer transactions")

    def wake(self) -> None:
        """There may be something to ask; starts the task when it is not running yet."""
        self._work.set()
        self.start()

    async def close(self, error: KafkaError | None = None) -> None:
        """Ends the task; whoever waits for a completion gets `error`."""
        self._state.on_work = None
        self._state.closed(error)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def wait(self, completion: Completion, timeout_ms: int | None) -> None:
        """Returns when the operation is done, or raises its error.

        KafkaTimeoutError after `timeout_ms` (None: never): the operation goes on, and the same call takes it up again.
        """
        if not completion.done:
            done = asyncio.get_running_loop().create_future()

            def finish(_: Completion) -> None:
                if not done.done():
                    done.set_result(None)

            completion.add_callback(finish)
            try:
                async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                    await done
            except TimeoutError:
                completion.abandoned = True
                raise KafkaTimeoutError(
                    f"{completion.what} was not done within {timeout_ms} ms",
                    hint=f"It goes on: call {completion.what} again to wait for its end.",
                ) from None
            except asyncio.CancelledError:
                completion.abandoned = True
                raise
        if completion.error is not None:
            raise completion.error

    async def _run(self) -> None:
        try:
            while True:
                await self._step()
                self._on_progress()
        except Exception as error:  # a fault of ours must not leave callers waiting for ever
            LOGGER.exception("the producer's transactions ended unexpectedly")
            self._state.closed(FatalProducerError(f"an unexpected error: {error}"))
            self._on_progress()

    async def _step(self) -> None:
        state, cluster = self._state, self._cluster
        self._work.clear()
        pending = state.next_request(cluster.now_ms())
        if pending is None:
            await self._sleep(state.retry_at_ms - cluster.now_ms())
        else:
            await self._carry_out(pending)

    async def _sleep(self, delay_ms: int) -> None:
        """Until there is work, or a repetition is due."""
        try:
            async with asyncio.timeout(delay_ms / 1000 if delay_ms > 0 else None):
                await self._work.wait()
        except TimeoutError:
            pass

    async def _carry_out(self, pending: PendingRequest) -> None:
        cluster, state = self._cluster, self._state
        sent = False
        try:
            node = await self._node_of(pending)
            sent = True
            response = await cluster.request(
                node,
                pending.request,
                timeout_ms=self._request_timeout_ms,
                min_version=pending.min_version,
                max_version=pending.max_version,
            )
        except KafkaError as error:
            self._forget(pending)
            state.request_failed(pending, error, cluster.now_ms(), sent=sent)
            return
        state.learn_transaction_version(cluster.finalized_feature(TRANSACTION_VERSION))
        if state.answered(pending, response, cluster.now_ms()):
            self._forget(pending)

    async def _node_of(self, pending: PendingRequest) -> int:
        if pending.target is Target.ANY:
            return await self._cluster.any_node(self._request_timeout_ms)
        return await self._cluster.coordinator(_KEY_TYPES[pending.target], pending.key, self._request_timeout_ms)

    def _forget(self, pending: PendingRequest) -> None:
        if pending.target is not Target.ANY:
            self._cluster.forget_coordinator(_KEY_TYPES[pending.target], pending.key)
