"""Share fetches and acknowledgements, one request at a time with each broker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.client.errors import CorruptRecordsError, KafkaError, RecordDeserializationError, error_for
from ottla.client.model import Node
from ottla.client.share.deliveries import (
    GAP,
    Acknowledgements,
    AcknowledgeType,
    Deliveries,
    SharedPartition,
    records_in,
)
from ottla.client.share.sessions import Limits, ShareSession
from ottla.core.binary import Buffer
from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.messages import share_acknowledge, share_fetch
from ottla.protocol.messages.share_acknowledge import ShareAcknowledgeResponse
from ottla.protocol.messages.share_fetch import AcquiredRecords, ShareFetchResponse
from ottla.records.batch import CorruptRecordError, batches
from ottla.records.reader import ConsumerRecord, RecordCursor, UndeserializableRecordError

if TYPE_CHECKING:
    from ottla.client.metrics.share import ShareMetrics
    from ottla.client.network.cluster import Cluster
    from ottla.client.share.membership import ShareMembership

Settled = Callable[[Acknowledgements, KafkaError | None], None]
_ALL = 1 << 30
_Partition = share_fetch.PartitionData | share_acknowledge.PartitionData


class Acquired(NamedTuple):
    """What a fetch brought of a partition."""

    node_id: int
    partition: SharedPartition
    records: Buffer
    ranges: list[AcquiredRecords]


class ShareFetcher:
    """Keeps a session with each broker that leads partitions of the assignment."""

    def __init__(
        self,
        cluster: Cluster,
        membership: ShareMembership,
        deliveries: Deliveries,
        limits: Limits,
        settled: Settled,
        metrics: ShareMetrics | None = None,
    ) -> None:
        self._cluster = cluster
        self._membership = membership
        self._deliveries = deliveries
        self._limits = limits
        self._settled = settled
        self._metrics = metrics
        self._sessions: dict[int, ShareSession] = {}
        self._requests: dict[int, asyncio.Task[None]] = {}
        self.ready: deque[Acquired] = deque()
        self.changed = asyncio.Event()
        """Set when something happened that a waiting poll has to see."""
        self.error: KafkaError | None = None
        self.lock_timeout_ms: int | None = None
        """For how long records are locked, as a broker has said last."""

    @property
    def max_records(self) -> int:
        return self._limits.max_records

    def limit(self, max_records: int) -> None:
        """Ask for so many records at a time from now on."""
        if max_records != self._limits.max_records:
            self._limits = replace(self._limits, max_records=max_records)

    @property
    def nodes(self) -> Iterable[int]:
        """The brokers there are sessions with."""
        return self._sessions.keys()

    def wanted(self) -> dict[int, list[SharedPartition]]:
        """What is assigned, by leader; what has none now, or no name yet, waits for newer metadata."""
        found: dict[int, list[SharedPartition]] = {}
        metadata = self._cluster.metadata
        for topic_id, partitions in self._membership.assignment.items():
            name = metadata.topic_names.get(topic_id)
            for number in partitions:
                leader = metadata.leader(TopicPartition(name, number)) if name is not None else None
                if name is None:
                    self._cluster.interest_in_ids([topic_id])
                elif leader is None:
                    self._cluster.request_metadata_update()
                else:
                    found.setdefault(leader[0], []).append(SharedPartition(topic_id, name, number))
        return found

    def fetch(self) -> None:
        """Ask every broker that is not busy for records of what is assigned."""
        wanted = self.wanted()
        for node_id in wanted.keys() | self._sessions.keys():
            self._start(node_id, wanted.get(node_id, []))

    def acknowledge(self) -> None:
        """Tell brokers that are not busy what became of records, without fetching."""
        for node_id in self._deliveries.nodes_with_pending():
            self._start(node_id, None)

    async def flush(self) -> None:
        """Until everything that is acknowledged was told and answered."""
        while True:
            self.acknowledge()
            busy = [self._requests[node] for node in self._requests]
            if not busy:
                return
            await asyncio.wait(busy)

    async def close(self) -> None:
        """Tell what is acknowledged and end all sessions: brokers release the rest at once."""
        running = list(self._requests.values())
        if running:
            await asyncio.wait(running)
        await asyncio.gather(*[self._end(session) for session in self._sessions.values() if not session.is_new])
        self._sessions.clear()

    async def abandon(self) -> None:
        """End without another word."""
        for task in self._requests.values():
            task.cancel()
        await asyncio.gather(*self._requests.values(), return_exceptions=True)

    def _start(self, node_id: int, wanted: list[SharedPartition] | None) -> None:
        """Begin a request, a fetch of `wanted` unless it is None; nothing when one is under way."""
        if node_id in self._requests or self._cluster.connect_delay_ms(node_id) > 0:
            return
        session = self._sessions.get(node_id)
        if session is None:
            session = ShareSession(node_id, self._membership.group_id, self._membership.member_id)
            self._sessions[node_id] = session
        if session.is_new:
            # The locks went with the session in which they were taken.
            self._settle(self._deliveries.take(node_id), error_for(ErrorCode.SHARE_SESSION_NOT_FOUND))
            if not wanted:
                return
        elif wanted is not None and not wanted and not session.partitions and not self._deliveries.has_pending:
            return
        task = asyncio.ensure_future(self._exchange(session, wanted))
        self._requests[node_id] = task
        task.add_done_callback(lambda _: self._done(node_id))

    def _done(self, node_id: int) -> None:
        self._requests.pop(node_id, None)
        self.changed.set()

    async def _exchange(self, session: ShareSession, wanted: list[SharedPartition] | None) -> None:
        acknowledgements = self._deliveries.take(session.node_id)
        request: share_fetch.ShareFetchRequest | share_acknowledge.ShareAcknowledgeRequest
        if wanted is not None:
            request = session.fetch_request(wanted, acknowledgements, self._limits)
        elif acknowledgements:
            request = session.acknowledge_request(acknowledgements)
        else:
            return
        started_ms = self._cluster.now_ms()
        try:
            response = await self._cluster.request(session.node_id, request)
        except KafkaError as error:
            session.lost()
            self._settle(acknowledgements, error)
            self._settle(self._deliveries.lose(session.node_id), error)
            if not error.retriable:
                self.error = error
            self._cluster.request_metadata_update()
            return
        assert isinstance(response, ShareFetchResponse | ShareAcknowledgeResponse)
        if response.acquisition_lock_timeout_ms:
            self.lock_timeout_ms = response.acquisition_lock_timeout_ms
        if response.error_code:
            self._refused(session, acknowledgements, error_for(response.error_code, response.error_message))
            return
        session.answered(0)
        self._answered(session.node_id, acknowledgements, response)
        if self._metrics is not None and isinstance(response, ShareFetchResponse):
            self._count(response, self._cluster.now_ms() - started_ms)

    def _refused(self, session: ShareSession, acknowledgements: Acknowledgements, error: KafkaError) -> None:
        """The whole request was refused."""
        self._settle(acknowledgements, error)
        if not session.answered(error.number or 0):
            self._settle(self._deliveries.lose(session.node_id), error)
        elif not error.retriable and error.code != ErrorCode.UNKNOWN_MEMBER_ID:
            self.error = error  # an unknown member joins again with its next heartbeat

    def _answered(
        self,
        node_id: int,
        acknowledgements: Acknowledgements,
        response: ShareFetchResponse | ShareAcknowledgeResponse,
    ) -> None:
        open_acknowledgements = dict(acknowledgements)
        names = self._cluster.metadata.topic_names
        leaders = []
        for topic_id, data in _partitions(response):
            name = names.get(topic_id)
            if name is None:
                continue
            partition = SharedPartition(topic_id, name, data.partition_index)
            code, message = _acknowledge_error(data)
            if partition in open_acknowledgements:
                done = {partition: open_acknowledgements.pop(partition)}
                self._settle(done, error_for(code, message) if code else None)
            if data.error_code:
                if data.current_leader.leader_id >= 0:
                    leaders.append((partition.topic_partition, *_leader(data)))
                is_fetched = isinstance(data, share_fetch.PartitionData)
                self._partition_failed(data.error_code, data.error_message, is_fetched=is_fetched)
            elif isinstance(data, share_fetch.PartitionData) and data.acquired_records:
                self.ready.append(Acquired(node_id, partition, data.records or b"", data.acquired_records))
        # A partition that the answer does not mention had no error.
        self._settle(open_acknowledgements, None)
        if leaders:
            nodes = [Node(node.node_id, node.host, node.port, node.rack) for node in response.node_endpoints]
            self._cluster.learn_leaders(leaders, nodes)

    def _partition_failed(self, code: int, message: str | None, *, is_fetched: bool) -> None:
        error = error_for(code, message)
        if error.code is not None and error.code.refreshes_metadata:
            self._cluster.request_metadata_update()
        elif is_fetched and not error.retriable:  # of acknowledgements the callback hears
            self.error = error

    def _settle(self, acknowledgements: Acknowledgements, error: KafkaError | None) -> None:
        if not acknowledgements:
            return
        if self._metrics is not None:
            count = records_in(acknowledgements)
            self._metrics.acknowledged(count)
            if error is not None:
                self._metrics.acknowledgement_failed(count)
        self._settled(acknowledgements, error)

    async def _end(self, session: ShareSession) -> None:
        acknowledgements = self._deliveries.take(session.node_id)
        try:
            response = await self._cluster.request(session.node_id, session.close_request(acknowledgements))
        except KafkaError as error:
            self._settle(acknowledgements, error)
            return
        assert isinstance(response, ShareAcknowledgeResponse)
        if response.error_code:
            self._settle(acknowledgements, error_for(response.error_code, response.error_message))
        else:
            self._answered(session.node_id, acknowledgements, response)

    def _count(self, response: ShareFetchResponse, latency_ms: int) -> None:
        assert self._metrics is not None
        size = records = 0
        for _, data in _partitions(response):
            assert isinstance(data, share_fetch.PartitionData)
            size += len(data.records or b"")
            records += sum(acquired.last_offset - acquired.first_offset + 1 for acquired in data.acquired_records)
        self._metrics.fetch.fetch_answered(size, records, latency_ms, response.throttle_time_ms)


class Unpacked(NamedTuple):
    """Records of a partition for the application, and what is said of the offsets that have none for it."""

    records: list[ConsumerRecord[Any, Any]]
    verdicts: dict[int, int]
    """Offset → type: gaps, records that could not be deserialized (released) or read at all (rejected)."""
    errors: list[KafkaError]


def unpack(acquired: Acquired, key_deserializer: Any, value_deserializer: Any) -> Unpacked:
    """Read the acquired records out of the batches they came in."""
    found = Unpacked([], {}, [])
    for first, last, delivery_count in (
        (one.first_offset, one.last_offset, one.delivery_count) for one in acquired.ranges
    ):
        missing = dict.fromkeys(range(first, last + 1), GAP)
        for position, header in batches(acquired.records):
            if header.is_control or header.last_offset < first or header.base_offset > last:
                continue
            next_offset: int | None = first
            while next_offset is not None:
                cursor = RecordCursor(
                    acquired.records,
                    position,
                    header,
                    topic=acquired.partition.topic,
                    partition=acquired.partition.partition,
                    from_offset=next_offset,
                    end_offset=last + 1,
                    delivery_count=delivery_count,
                )
                next_offset = _read(cursor, found, missing, key_deserializer, value_deserializer)
        found.verdicts.update(missing)
    return found


def _read(cursor: RecordCursor, found: Unpacked, missing: dict[int, int], key: Any, value: Any) -> int | None:
    """Read a batch; returns where to go on behind a record that its deserializer refused, None at the end."""
    records: list[ConsumerRecord[Any, Any]] = []
    go_on = None
    try:
        while cursor.take(_ALL, key, value, records):
            pass
    except UndeserializableRecordError as problem:
        found.errors.append(_undeserializable(problem))
        missing[problem.offset] = AcknowledgeType.RELEASE
        go_on = problem.offset + 1
    except CorruptRecordError as problem:
        found.errors.append(CorruptRecordsError(f"records of {cursor.topic}-{cursor.partition} are corrupt: {problem}"))
        for offset in missing:
            if cursor.next_offset <= offset <= cursor.header.last_offset:
                missing[offset] = AcknowledgeType.REJECT
    for record in records:
        missing.pop(record.offset, None)
    found.records.extend(records)
    return go_on


def _undeserializable(problem: UndeserializableRecordError) -> RecordDeserializationError:
    error = RecordDeserializationError(
        f"{problem}: {problem.__cause__}",
        hint="It was released, and comes again until the group's share.delivery.count.limit.",
    )
    error.topic, error.partition, error.offset = problem.topic, problem.partition, problem.offset
    error.origin, error.raw_key, error.raw_value = problem.origin, problem.raw_key, problem.raw_value
    return error


def _partitions(response: ShareFetchResponse | ShareAcknowledgeResponse) -> Iterator[tuple[bytes, _Partition]]:
    for topic in response.responses:
        for data in topic.partitions:
            yield topic.topic_id, data


def _acknowledge_error(data: _Partition) -> tuple[int, str | None]:
    if isinstance(data, share_fetch.PartitionData):
        return data.acknowledge_error_code, data.acknowledge_error_message
    return data.error_code, data.error_message


def _leader(data: _Partition) -> tuple[int, int]:
    return data.current_leader.leader_id, data.current_leader.leader_epoch
