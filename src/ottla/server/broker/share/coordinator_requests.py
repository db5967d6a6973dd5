"""The share coordinators of the whole cluster behind one door: here at once, elsewhere with a request (KIP-932).

A request may name share partitions of several coordinators. Each share partition is asked of its own, all that goes to
one broker for one group and of one kind shares a request, and the answers are put together again. Nothing is tried
again here: who asked does, and the coordinator is then found anew.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.topics import SHARE_STATE_TOPIC
from ottla.protocol.messages import (
    delete_share_group_state,
    initialize_share_group_state,
    read_share_group_state,
    read_share_group_state_summary,
    write_share_group_state,
)
from ottla.server.broker.neighbours import NOBODY, Neighbours, coordinator_of
from ottla.server.broker.outbox import Outbox
from ottla.server.coordinator.result import Pending, gathered
from ottla.server.coordinator.share_state.records import SharePartitionKey
from ottla.server.peers.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.server.broker.broker import Broker
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage

logger = logging.getLogger(__name__)

# A write waits for its commit at the coordinator, for share.coordinator.write.timeout.ms (5 s) at most.
_TIMEOUT_MS = 10_000


class _Kind(NamedTuple):
    """One of the five requests; ``method`` is what the coordinator calls it."""

    method: str
    request: Callable[..., Any]
    topic: Callable[..., Any]
    partition_result: Callable[..., Any]
    topic_result: Callable[..., Any]
    response: Callable[..., Any]


_INITIALIZE = _Kind(
    "initialize",
    initialize_share_group_state.InitializeShareGroupStateRequest,
    initialize_share_group_state.InitializeStateData,
    initialize_share_group_state.PartitionResult,
    initialize_share_group_state.InitializeStateResult,
    initialize_share_group_state.InitializeShareGroupStateResponse,
)
_READ = _Kind(
    "read",
    read_share_group_state.ReadShareGroupStateRequest,
    read_share_group_state.ReadStateData,
    read_share_group_state.PartitionResult,
    read_share_group_state.ReadStateResult,
    read_share_group_state.ReadShareGroupStateResponse,
)
_WRITE = _Kind(
    "write",
    write_share_group_state.WriteShareGroupStateRequest,
    write_share_group_state.WriteStateData,
    write_share_group_state.PartitionResult,
    write_share_group_state.WriteStateResult,
    write_share_group_state.WriteShareGroupStateResponse,
)
_DELETE = _Kind(
    "delete",
    delete_share_group_state.DeleteShareGroupStateRequest,
    delete_share_group_state.DeleteStateData,
    delete_share_group_state.PartitionResult,
    delete_share_group_state.DeleteStateResult,
    delete_share_group_state.DeleteShareGroupStateResponse,
)
_SUMMARY = _Kind(
    "read_summary",
    read_share_group_state_summary.ReadShareGroupStateSummaryRequest,
    read_share_group_state_summary.ReadStateSummaryData,
    read_share_group_state_summary.PartitionResult,
    read_share_group_state_summary.ReadStateSummaryResult,
    read_share_group_state_summary.ReadShareGroupStateSummaryResponse,
)


class _Destination(NamedTuple):
    node_id: int
    kind: _Kind
    group_id: str


class _Asked(NamedTuple):
    topic_id: bytes
    data: Any
    pending: Pending[Any]


class ShareCoordinators:
    """The five state requests, for whichever coordinators they are. Each answers with the response or a ``Pending``.

    A coordinator that cannot be asked is COORDINATOR_NOT_AVAILABLE in the results of its share partitions. Where the
    coordinators have no topic yet it is created, as Apache Kafka does when somebody looks for one of them.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._neighbours = Neighbours(broker)
        self._outbox: Outbox[_Destination, _Asked] = Outbox(
            self._deliver, lambda asked: ((asked.topic_id, asked.data.partition), asked.pending)
        )
        self._creating: asyncio.Task[None] | None = None

    async def ensure_topic(self) -> None:
        """Have the coordinators' topic created; ApiError when it cannot be."""
        if SHARE_STATE_TOPIC not in self._broker.image.topics.by_name:
            await self._broker.share_state.ensure_topic()

    def initialize(self, request: initialize_share_group_state.InitializeShareGroupStateRequest) -> Any:
        """Begin, or begin anew, at an offset and in a state epoch."""
        return self._ask(_INITIALIZE, request)

    def read(self, request: read_share_group_state.ReadShareGroupStateRequest) -> Any:
        """The whole state, for a leader that takes over."""
        return self._ask(_READ, request)

    def write(self, request: write_share_group_state.WriteShareGroupStateRequest) -> Any:
        """Changes since the last write."""
        return self._ask(_WRITE, request)

    def delete(self, request: delete_share_group_state.DeleteShareGroupStateRequest) -> Any:
        """Forget share partitions."""
        return self._ask(_DELETE, request)

    def read_summary(self, request: read_share_group_state_summary.ReadShareGroupStateSummaryRequest) -> Any:
        """Offsets without the states of records."""
        return self._ask(_SUMMARY, request)

    # A part of the node (`server.node.coordinators.Part`)

    def load(self, image: MetadataImage) -> None:
        """Nothing to take over: coordinators are looked up when they are asked."""

    def on_metadata_change(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Nothing to take over."""

    def stop(self) -> None:
        """Answer nobody any more."""
        self._outbox.stop()
        if self._creating is not None:
            self._creating.cancel()

    async def _create_topic(self) -> None:
        try:
            await self.ensure_topic()
        except ApiError as error:
            logger.info("the topic of the share coordinators cannot be created: %s", error)
        finally:
            self._creating = None

    def _ask(self, kind: _Kind, request: Any) -> Any:
        broker, group_id = self._broker, request.group_id
        leaders = [
            [
                coordinator_of(
                    broker, SHARE_STATE_TOPIC, str(SharePartitionKey(group_id, topic.topic_id, data.partition))
                )
                for data in topic.partitions
            ]
            for topic in request.topics
        ]
        here = broker.node_id
        if all(leader == here for of_topic in leaders for leader in of_topic):
            return getattr(broker.share_state, kind.method)(request)
        outcomes = [
            self._ask_one(kind, group_id, topic.topic_id, data, leader)
            for topic, of_topic in zip(request.topics, leaders, strict=True)
            for data, leader in zip(topic.partitions, of_topic, strict=True)
        ]

        def shaped(results: list[Any]) -> Any:
            remaining = iter(results)
            return kind.response(
                results=[
                    kind.topic_result(topic_id=topic.topic_id, partitions=[next(remaining) for _ in topic.partitions])
                    for topic in request.topics
                ]
            )

        return gathered(outcomes, shaped)

    def _ask_one(self, kind: _Kind, group_id: str, topic_id: bytes, data: Any, leader: int) -> Any:
        """The result of one share partition, or a ``Pending`` of it."""

        def refused(code: ErrorCode, message: str | None = None) -> Any:
            return kind.partition_result(
                partition=data.partition, error_code=code, error_message=message or code.message
            )

        if leader == NOBODY:
            if SHARE_STATE_TOPIC not in self._broker.image.topics.by_name and self._creating is None:
                self._creating = asyncio.get_running_loop().create_task(self._create_topic())
            return refused(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if leader != self._broker.node_id:
            pending: Pending[Any] = Pending(refused)
            self._outbox.put(_Destination(leader, kind, group_id), _Asked(topic_id, data, pending))
            return pending
        request = kind.request(group_id=group_id, topics=[kind.topic(topic_id=topic_id, partitions=[data])])
        try:
            answer = getattr(self._broker.share_state, kind.method)(request)
        except ApiError as error:
            return refused(error.code, error.message)
        return gathered([answer], _only_result)

    async def _deliver(self, destination: _Destination, number: int, batch: list[_Asked]) -> None:
        node_id, kind, group_id = destination
        topics: dict[bytes, list[Any]] = {}
        for asked in batch:
            topics.setdefault(asked.topic_id, []).append(asked.data)
        request = kind.request(
            group_id=group_id,
            topics=[kind.topic(topic_id=topic_id, partitions=partitions) for topic_id, partitions in topics.items()],
        )
        found: dict[tuple[bytes, int], Any] = {}
        try:
            response = await self._neighbours.ask(
                node_id, request, channel=f"share state {kind.method}", timeout_ms=_TIMEOUT_MS
            )
            found = {
                (topic.topic_id, result.partition): result for topic in response.results for result in topic.partitions
            }
        except PeerError as error:
            logger.info("no answer from the share coordinator on broker %d: %s", node_id, error)
        for topic_id, data, pending in batch:
            result = found.get((topic_id, data.partition))
            pending.release(pending.refusal(ErrorCode.COORDINATOR_NOT_AVAILABLE) if result is None else result)


def _only_result(responses: list[Any]) -> Any:
    return responses[0].results[0].partitions[0]
