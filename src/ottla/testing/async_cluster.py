"""A cluster of tests for code in an event loop: the helpers of `operations` and `groups`, awaited."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, cast

from ottla.client.errors import IllegalStateError
from ottla.testing.groups import GroupOperations
from ottla.testing.runner import STOPPED_DURING_CALL
from ottla.testing.steps import Ask, drive_async

if TYPE_CHECKING:
    from ottla.testing.cluster import Cluster
    from ottla.testing.faults import Faults

P = ParamSpec("P")
T = TypeVar("T")

_OPERATIONS = GroupOperations()


def awaitable(
    helper: Callable[Concatenate[GroupOperations, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[AsyncCluster, P], Coroutine[Any, Any, T]]:
    """A helper as a coroutine of whatever event loop awaits it."""

    @functools.wraps(helper)
    async def call(self: AsyncCluster, /, *arguments: P.args, **named: P.kwargs) -> T:
        return await drive_async(helper(_OPERATIONS, *arguments, **named), self._ask)

    return call


class AsyncCluster:
    """A `Cluster` for code in an event loop: the same helpers, awaited. Any loop will do, and several at once."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def start(self) -> Self:
        """Start the brokers; cancelled, stop them."""
        try:
            await asyncio.to_thread(self.cluster.start)
        except asyncio.CancelledError:
            await self.stop()  # when the start that is under way is over
            raise
        return self

    async def stop(self) -> None:
        """Stop the brokers in order."""
        await asyncio.to_thread(self.cluster.stop)

    async def reset(self) -> None:
        """As `Cluster.reset`."""
        await asyncio.to_thread(self.cluster.reset)

    async def kill(self, broker: int = 0, *, power_loss: bool = False) -> None:
        """As `Cluster.kill`."""
        await asyncio.to_thread(functools.partial(self.cluster.kill, broker, power_loss=power_loss))

    @property
    def faults(self) -> Faults:
        """As `Cluster.faults`. Its calls do not wait; to wait for a hit, await `wait_hit_async`."""
        return self.cluster.faults

    async def skip(self, seconds: float) -> None:
        """As `Cluster.skip`."""
        await asyncio.to_thread(self.cluster.skip, seconds)

    async def restart(self, broker: int = 0, *others: int) -> None:
        """As `Cluster.restart`."""
        await asyncio.to_thread(self.cluster.restart, broker, *others)

    @property
    def bootstrap_servers(self) -> str:
        """Where clients begin."""
        return self.cluster.bootstrap_servers

    @property
    def is_running(self) -> bool:
        """Whether any broker runs."""
        return self.cluster.is_running

    def client_settings(
        self, user: str | None = None, mechanism: str = "PLAIN", *, librdkafka: bool = False
    ) -> dict[str, str]:
        """As `Cluster.client_settings`."""
        return self.cluster.client_settings(user, mechanism, librdkafka=librdkafka)

    def __repr__(self) -> str:
        return f"<AsyncCluster{repr(self.cluster)[8:]}"

    topics = awaitable(GroupOperations.topics)
    create_topic = awaitable(GroupOperations.create_topic)
    delete_topic = awaitable(GroupOperations.delete_topic)
    produce = awaitable(GroupOperations.produce)
    records = awaitable(GroupOperations.records)
    read = awaitable(GroupOperations.read)
    end_offsets = awaitable(GroupOperations.end_offsets)
    start_offsets = awaitable(GroupOperations.start_offsets)
    groups = awaitable(GroupOperations.groups)
    group = awaitable(GroupOperations.group)
    committed = awaitable(GroupOperations.committed)
    lag = awaitable(GroupOperations.lag)
    wait_until = awaitable(GroupOperations.wait_until)
    assert_topic_empty = awaitable(GroupOperations.assert_topic_empty)
    assert_lag_zero = awaitable(GroupOperations.assert_lag_zero)
    assert_group_stable = awaitable(GroupOperations.assert_group_stable)
    assert_group_empty = awaitable(GroupOperations.assert_group_empty)

    async def _ask(self, ask: Ask) -> Any:
        thread = self.cluster._asked(ask.node_id)
        future: concurrent.futures.Future[Any] = thread.submit(cast(Any, ask.action(thread.node)))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and task is not None and not task.cancelling():
                raise IllegalStateError(STOPPED_DURING_CALL, hint="") from None
            raise
