"""A share partition's way to its share coordinator: read its state, write changes, again when that is worth a try."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.protocol.messages import read_share_group_state as reading
from ottla.protocol.messages import write_share_group_state as writing
from ottla.server.broker.share.delivery import StateBatch, StateWrite
from ottla.server.coordinator.result import Pending

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

RETRY_BACKOFF_MS = 50
RETRY_BACKOFF_MAX_MS = 1_000
GIVE_UP_AFTER_MS = 10_000

_RETRIABLE = (
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
)
# A group that begins has its states made while its first members fetch already; where nobody has joined it, there is
# nothing to hand out either.
_NOT_THERE_YET = (*_RETRIABLE, ErrorCode.INVALID_REQUEST)
# What a client is told, where it is not UNKNOWN_SERVER_ERROR.
_TOLD = {
    ErrorCode.NONE: ErrorCode.NONE,
    ErrorCode.GROUP_ID_NOT_FOUND: ErrorCode.GROUP_ID_NOT_FOUND,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.FENCED_LEADER_EPOCH: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.FENCED_STATE_EPOCH: ErrorCode.NOT_LEADER_OR_FOLLOWER,
    **dict.fromkeys(_RETRIABLE, ErrorCode.COORDINATOR_NOT_AVAILABLE),
}
FENCING = (
    ErrorCode.GROUP_ID_NOT_FOUND,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
)
"""After these (as told) the state in memory is worth nothing: somebody else has the partition, or nobody."""


class ShareStateStore(Protocol):
    """The share coordinators, as far as they are needed here."""

    def read(self, request: reading.ReadShareGroupStateRequest) -> Any:
        """The response, or a `Pending` of it."""

    def write(self, request: writing.WriteShareGroupStateRequest) -> Any:
        """The response, or a `Pending` of it."""


class PersistedState:
    """What the share coordinator knows of a partition; `start_offset` is -1 when nobody has consumed it yet."""

    __slots__ = ("batches", "start_offset", "state_epoch")

    def __init__(self, start_offset: int, state_epoch: int, batches: list[StateBatch]) -> None:
        self.start_offset = start_offset
        self.state_epoch = state_epoch
        self.batches = batches


class Persister:
    """Reads and writes of one share partition. `open_store` gives the coordinator, which is made when first asked for.

    Errors arrive as clients are told of them. `close` drops what is under way: nobody is called back any more.
    """

    __slots__ = ("_group_id", "_index", "_is_closed", "_leader_epoch", "_open_store", "_retry", "_topic_id")

    def __init__(
        self, open_store: Callable[[], ShareStateStore], group_id: str, topic_id: bytes, index: int, leader_epoch: int
    ) -> None:
        self._open_store = open_store
        self._group_id = group_id
        self._topic_id = topic_id
        self._index = index
        self._leader_epoch = leader_epoch
        self._is_closed = False
        self._retry: asyncio.TimerHandle | None = None

    def read(self, done: Callable[[ErrorCode, PersistedState | None], None]) -> None:
        """Call `done` with the state, now or later."""
        wanted = reading.PartitionData(partition=self._index, leader_epoch=self._leader_epoch)
        request = reading.ReadShareGroupStateRequest(
            group_id=self._group_id,
            topics=[reading.ReadStateData(topic_id=self._topic_id, partitions=[wanted])],
        )

        def answered(code: ErrorCode, result: Any) -> None:
            state = None
            if code is ErrorCode.NONE:
                batches = [
                    StateBatch(batch.first_offset, batch.last_offset, batch.delivery_state, batch.delivery_count)
                    for batch in result.state_batches
                ]
                state = PersistedState(result.start_offset, result.state_epoch, batches)
            done(code, state)

        self._try(lambda: self._open_store().read(request), answered, _deadline(), RETRY_BACKOFF_MS, _NOT_THERE_YET)

    def write(self, write: StateWrite, state_epoch: int, done: Callable[[ErrorCode], None]) -> None:
        """Call `done` when the write has succeeded, or failed for good; now or later."""
        data = writing.PartitionData(
            partition=self._index,
            state_epoch=state_epoch,
            leader_epoch=self._leader_epoch,
            start_offset=write.start_offset,
            delivery_complete_count=write.delivery_complete_count,
            state_batches=[
                writing.StateBatch(first_offset=first, last_offset=last, delivery_state=state, delivery_count=count)
                for first, last, state, count in write.batches
            ],
        )
        request = writing.WriteShareGroupStateRequest(
            group_id=self._group_id,
            topics=[writing.WriteStateData(topic_id=self._topic_id, partitions=[data])],
        )
        self._try(lambda: self._open_store().write(request), lambda code, _: done(code), _deadline(), RETRY_BACKOFF_MS)

    def close(self) -> None:
        """Nobody waits any more."""
        self._is_closed = True
        if self._retry is not None:
            self._retry.cancel()

    def _try(
        self,
        send: Callable[[], Any],
        answered: Callable[[ErrorCode, Any], None],
        deadline: float,
        backoff_ms: int,
        retriable: tuple[ErrorCode, ...] = _RETRIABLE,
    ) -> None:
        def settle(response: Any) -> None:
            if self._is_closed:
                return
            result = response if isinstance(response, ApiError) else response.results[0].partitions[0]
            code = (
                result.code
                if isinstance(result, ApiError)
                else ERRORS.get(result.error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
            )
            loop = asyncio.get_running_loop()
            if code in retriable and loop.time() < deadline:
                following_ms = min(2 * backoff_ms, RETRY_BACKOFF_MAX_MS)
                self._retry = loop.call_later(
                    backoff_ms / 1000, self._try, send, answered, deadline, following_ms, retriable
                )
            else:
                answered(_TOLD.get(code, ErrorCode.UNKNOWN_SERVER_ERROR), result)

        if self._is_closed:
            return
        try:
            answer = send()
        except ApiError as error:
            answer = error
        except Exception:
            # Whoever waits for what is to be written would wait for ever.
            logger.exception("the share coordinator failed for group %s", self._group_id)
            answer = ApiError(ErrorCode.UNKNOWN_SERVER_ERROR)
        if isinstance(answer, Pending):
            if answer.response is None:
                answer.listener = settle
                return
            answer = answer.response
        settle(answer)


def _deadline() -> float:
    return asyncio.get_running_loop().time() + GIVE_UP_AFTER_MS / 1000
