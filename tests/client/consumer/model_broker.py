"""Brokers as fetching sees them: logs of real batches, leaders, fetch sessions. There is no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from ottla.client.model import Node, TopicPartition
from ottla.client.network.metadata import ClusterMetadata, PartitionMetadata, TopicMetadata
from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.fetch import (
    AbortedTransaction,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
)
from ottla.records.record import Record, build_batch


@dataclass
class Log:
    """A partition: batches as (base offset, next offset, bytes)."""

    leader: int
    leader_epoch: int = 0
    start: int = 0
    end: int = 0
    batches: list[tuple[int, int, bytes]] = field(default_factory=list)
    aborted: list[tuple[int, int, int]] = field(default_factory=list)
    """Producer, first offset, offset of the marker."""
    followers: set[int] = field(default_factory=set)

    def append(self, values: list[str], **options: object) -> None:
        records = [Record(timestamp_ms=1000 + index, value=value.encode()) for index, value in enumerate(values)]
        batch = build_batch(records, base_offset=self.end, leader_epoch=self.leader_epoch, **options)  # type: ignore[arg-type]
        self.batches.append((self.end, self.end + len(values), bytes(batch)))
        self.end += len(values)

    def read(self, offset: int, max_bytes: int) -> bytes:
        found = b""
        for _, next_offset, batch in self.batches:
            if next_offset <= offset:
                continue
            if found and len(found) + len(batch) > max_bytes:
                break
            found += batch
        return found


@dataclass
class Session:
    epoch: int
    partitions: dict[tuple[bytes | str, int], FetchPartition]


class ModelCluster:
    """Some brokers. With `ids` False they know topics by name only."""

    def __init__(self, nodes: int, *, ids: bool = True) -> None:
        self.nodes = range(1, nodes + 1)
        self.ids = ids
        self.logs: dict[TopicPartition, Log] = {}
        self.topic_ids: dict[str, bytes] = {}
        self.sessions: dict[int, dict[int, Session]] = {node: {} for node in self.nodes}
        self.next_session = 1
        self.hints = True
        self.address: Callable[[int], tuple[str, int]] = lambda node: ("host", node)
        self.errors: dict[TopicPartition, int] = {}
        """What to answer once."""

    def add_topic(self, name: str, partitions: int) -> None:
        self.topic_ids[name] = bytes([len(self.topic_ids) + 1]) * 16 if self.ids else ZERO_UUID
        for partition in range(partitions):
            leader = self.nodes[partition % len(self.nodes)]
            self.logs[TopicPartition(name, partition)] = Log(leader)

    def metadata(self) -> ClusterMetadata:
        topics = {}
        for name, topic_id in self.topic_ids.items():
            logs = sorted((tp.partition, log) for tp, log in self.logs.items() if tp.topic == name)
            partitions = tuple(
                PartitionMetadata(number, log.leader, log.leader_epoch, tuple(self.nodes), tuple(self.nodes))
                for number, log in logs
            )
            topics[name] = TopicMetadata(name, topic_id, partitions)
        return ClusterMetadata({node: Node(node, "host", node) for node in self.nodes}, topics)

    def move_leader(self, tp: TopicPartition, node: int) -> None:
        log = self.logs[tp]
        log.leader = node
        log.leader_epoch += 1

    # --- fetching

    def fetch(self, node: int, request: FetchRequest, *, names_only: bool = False) -> FetchResponse:
        """What the broker `node` answers."""
        sessions = self.sessions[node]
        by_id = self.ids and not names_only
        if request.session_epoch == 0:
            sessions.pop(request.session_id, None)
            session = Session(0, {})
            session_id = self.next_session
            self.next_session += 1
            sessions[session_id] = session
        elif request.session_epoch == -1 and not request.session_id:
            session_id, session = 0, Session(0, {})
        elif request.session_epoch == -1:
            sessions.pop(request.session_id, None)
            return FetchResponse()
        else:
            session_id = request.session_id
            found = sessions.get(session_id)
            if found is None:
                return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
            session = found
            if request.session_epoch != session.epoch:
                return FetchResponse(error_code=ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        session.epoch += 1
        for gone in request.forgotten_topics_data:
            for partition in gone.partitions:
                del session.partitions[gone.topic_id if by_id else gone.topic, partition]
        for topic in request.topics:
            for wanted in topic.partitions:
                session.partitions[topic.topic_id if by_id else topic.topic, wanted.partition] = wanted
        response = FetchResponse(session_id=session_id, responses=[], node_endpoints=[])
        left = request.max_bytes
        for (topic_key, number), wanted in session.partitions.items():
            data = self._partition(node, topic_key, number, wanted, request, left)
            left -= len(data.records or b"")
            if data.records or data.error_code or request.session_epoch < 1 or data.preferred_read_replica >= 0:
                name = "" if isinstance(topic_key, bytes) else topic_key
                topic_id = topic_key if isinstance(topic_key, bytes) else ZERO_UUID
                response.responses.append(FetchableTopicResponse(topic=name, topic_id=topic_id, partitions=[data]))
        if self.hints:
            for one in self.nodes:
                host, port = self.address(one)
                response.node_endpoints.append(NodeEndpoint(node_id=one, host=host, port=port))
        return response

    def _partition(
        self, node: int, topic: bytes | str, number: int, wanted: FetchPartition, request: FetchRequest, left: int
    ) -> PartitionData:
        names = {topic_id if self.ids else name: name for name, topic_id in self.topic_ids.items()}
        name = names.get(topic, topic)
        assert isinstance(name, str)
        tp = TopicPartition(name, number)
        data = PartitionData(partition_index=number, high_watermark=-1)
        log = self.logs.get(tp)
        if log is None:
            data.error_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            return data
        error = self.errors.pop(tp, 0)
        if not error:
            error = self._check(node, log, wanted)
        if error:
            data.error_code = error
            if error in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH) and self.hints:
                data.current_leader = LeaderIdAndEpoch(leader_id=log.leader, leader_epoch=log.leader_epoch)
            return data
        data.high_watermark = data.last_stable_offset = log.end
        data.log_start_offset = log.start
        if left > 0:
            data.records = log.read(wanted.fetch_offset, min(wanted.partition_max_bytes, left))
        if request.isolation_level:
            data.aborted_transactions = [
                AbortedTransaction(producer_id=producer_id, first_offset=first)
                for producer_id, first, last in log.aborted
                if last >= wanted.fetch_offset
            ]
        return data

    def _check(self, node: int, log: Log, wanted: FetchPartition) -> int:
        if node != log.leader and node not in log.followers:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        if 0 <= wanted.current_leader_epoch < log.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        if wanted.current_leader_epoch > log.leader_epoch:
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        if not log.start <= wanted.fetch_offset <= log.end:
            return ErrorCode.OFFSET_OUT_OF_RANGE
        return 0

    def lose_sessions(self, node: int, random: Random | None = None) -> None:
        """The broker restarts, or evicts."""
        self.sessions[node].clear()
