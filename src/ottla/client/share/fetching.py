"""Share fetches and acknowledgements, one request at a time with each broker.

Whatever is taken from `Deliveries` to be told is settled once: with the broker's answer, or with the error that stands
in for it, be it that the client is closed. A broker that has nothing but errors to say is asked again after a pause
(retry.backoff.ms … .max.ms); whenever nothing is on its way though something is assigned, a timer wakes the poll.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.client.errors import (
    ClientClosedError,
    CorruptRecordsError,
    KafkaError,
    RecordDeserializationError,
    error_for,
)
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
from ottla.records.batch import BatchHeader, CorruptRecordError, batches
from ottla.records.reader import ConsumerRecord, RecordCursor, UndeserializableRecordError

if TYPE_CHECKING:
    from ottla.client.metrics.share import ShareMetrics
    from ottla.client.network.cluster import Cluster
    from ottla.client.share.membership import ShareMembership

_LOG = logging.getLogger("ottla.client")
Settled = Callable[[Acknowledgements, KafkaError | None], None]
_ALL = 1 << 30
_Partition = share_fetch.PartitionData | share_acknowledge.PartitionData


class Acquired(NamedTuple):
    """What a fetch brought of a partition."""

    node_id: int
    partition: SharedPartition
    records: Buffer
    ranges: list[AcquiredRecords]
    lock_ends_ms: int
    """By then their lock has run out for certain, by this client's steady clock: somebody else may have them."""


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
        self._carried: dict[int, Acknowledgements] = {}
        """What the requests take along."""
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at_ms = 0
        self.ready: deque[Acquired] = deque()
        self.changed = asyncio.Event()
        """Set when something happened that a waiting poll has to see."""
        self.error: KafkaError | None = None
        self.lock_timeout_ms: int | None = None
        """For how long records are locked, as a broker has said last."""
        cluster.add_metadata_listener(lambda _: self.changed.set())

    @property
    def max_records(self) -> int:
        return self._limits.max_records

    def limit(self, max_records: int) -> None:
        """Ask for so many records at a time from now on."""
        if max_records != self._limits.max_records:
            self._limits = replace(self._limits, max_records=max_records)

    @property
    def nodes(self) -> Iterable[int]:
        """The brokers there are sessions with; from any thread."""
        return tuple(self._sessions)

    def wanted(self) -> dict[int, list[SharedPartition]]:
        """What is assigned, by leader; what has none now, or no name yet, waits for newer metadata."""
        found: dict[int, list[SharedPartition]] = {}
        metadata = self._cluster.metadata
        nameless = []
        has_leaders = True
        for topic_id, partitions in self._membership.assignment.items():
            name = metadata.topic_names.get(topic_id)
            if name is None:
                nameless.append(topic_id)
                continue
            for number in partitions:
                leader = metadata.leader(TopicPartition(name, number))
                if leader is None:
                    has_leaders = False
                else:
                    found.setdefault(leader[0], []).append(SharedPartition(topic_id, name, number))
        self._cluster.interest_in_ids(nameless)
        if not has_leaders:
            self._cluster.request_metadata_update()
        if nameless or not has_leaders:
            self._wake_in(self._cluster.backoff.max_ms)
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
            concerned = self._carried.keys() | self._deliveries.nodes_with_pending()
            busy = [self._requests[node] for node in concerned if node in self._requests]
            if not busy:
                return
            await asyncio.wait(busy)

    async def close(self) -> None:
        """Tell what is acknowledged and end all sessions: brokers release the rest at once."""
        while self._requests:
            await asyncio.wait(self._requests.values())
        for session in self._sessions.values():
            if not session.is_new:
                acknowledgements = self._deliveries.take(session.node_id)
                request = session.close_request(acknowledgements)
                self._launch(session, self._exchange(session, request, acknowledgements), acknowledgements)
        while self._requests:
            await asyncio.wait(self._requests.values())
        self._end()

    async def abandon(self) -> None:
        """End without another word."""
        tasks = list(self._requests.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._end()

    def _end(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for node_id in self._sessions.keys() | self._deliveries.nodes_with_pending():
            self._lose(node_id, ClientClosedError("the session ended before this was acknowledged."))
        self._sessions.clear()

    def _wake_in(self, delay_ms: int) -> None:
        """Have the poll look again by then."""
        at_ms = self._cluster.now_ms() + delay_ms
        if self._alarm is not None:
            if self._alarm_at_ms <= at_ms:
                return
            self._alarm.cancel()
        self._alarm_at_ms = at_ms
        self._alarm = self._cluster.bind().call_later(delay_ms / 1000, self._woken)

    def _woken(self) -> None:
        self._alarm = None
        self.changed.set()

    def _start(self, node_id: int, wanted: list[SharedPartition] | None) -> None:
        """Begin a request, a fetch of `wanted` unless it is None; nothing when one is under way."""
        if node_id in self._requests:
            return
        session = self._sessions.get(node_id)
        if session is None:
            session = ShareSession(node_id, self._membership.group_id, self._membership.member_id)
            self._sessions[node_id] = session
        if session.is_new:
            # The locks went with the session in which they were taken.
            self._lose(node_id, error_for(ErrorCode.SHARE_SESSION_NOT_FOUND))
            if not wanted:
                return
        if wanted is not None:
            now_ms = self._cluster.now_ms()
            delay_ms = max(session.retry_at_ms - now_ms, self._cluster.connect_delay_ms(node_id))
            if delay_ms > 0:
                self._wake_in(delay_ms)
                wanted = None
        acknowledgements = self._deliveries.take(node_id)
        request: share_fetch.ShareFetchRequest | share_acknowledge.ShareAcknowledgeRequest
        if wanted is None:
            if not acknowledgements:
                return
            request = session.acknowledge_request(acknowledgements)
        elif wanted or session.partitions or acknowledgements:
            request = session.fetch_request(wanted, acknowledgements, self._limits)
        else:
            return
        self._launch(session, self._exchange(session, request, acknowledgements), acknowledgements)

    def _launch(
        self, session: ShareSession, exchange: Coroutine[Any, Any, None], acknowledgements: Acknowledgements
    ) -> None:
        node_id = session.node_id
        if acknowledgements:
            self._carried[node_id] = acknowledgements
        task = self._requests[node_id] = asyncio.ensure_future(exchange)
        task.add_done_callback(lambda done: self._done(node_id, done))

    def _done(self, node_id: int, task: asyncio.Task[None]) -> None:
        self._requests.pop(node_id, None)
        carried = self._carried.pop(node_id, {})
        if task.cancelled():
            self._settle(carried, ClientClosedError("the client was closed before a broker had answered."))
        elif (problem := task.exception()) is not None:
            _LOG.error("A share request failed as it never should", exc_info=problem)
            self.error = KafkaError(f"a share request failed as it never should: {problem!r}.", retriable=False)
        self.changed.set()

    async def _exchange(
        self,
        session: ShareSession,
        request: share_fetch.ShareFetchRequest | share_acknowledge.ShareAcknowledgeRequest,
        acknowledgements: Acknowledgements,
    ) -> None:
        started_ms = self._cluster.now_ms()
        try:
            response = await self._cluster.request(session.node_id, request)
        except KafkaError as error:
            session.lost()
            self._settle(acknowledgements, error)
            self._lose(session.node_id, error)
            self._pause(session)
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
        self._answered(session, acknowledgements, response)
        if self._metrics is not None and isinstance(response, ShareFetchResponse):
            self._count(response, self._cluster.now_ms() - started_ms)

    def _refused(self, session: ShareSession, acknowledgements: Acknowledgements, error: KafkaError) -> None:
        """The whole request was refused."""
        self._settle(acknowledgements, error)
        is_over = not session.answered(error.number or 0)
        if is_over:
            self._lose(session.node_id, error)
        elif not error.retriable and error.code != ErrorCode.UNKNOWN_MEMBER_ID:
            self.error = error  # an unknown member joins again with its next heartbeat
        if not is_over or error.code is ErrorCode.SHARE_SESSION_LIMIT_REACHED or session.failures:
            self._pause(session)  # otherwise a new session may begin at once
        else:
            session.failures += 1

    def _pause(self, session: ShareSession) -> None:
        """Nothing came of a request: the next fetch has to wait."""
        session.retry_at_ms = self._cluster.now_ms() + self._cluster.backoff.delay_ms(session.failures)
        session.failures += 1

    def _lose(self, node_id: int, error: KafkaError) -> None:
        """The locks at a node are gone: of what is acknowledged there, in the application's hands, or not yet."""
        self._settle(self._deliveries.lose(node_id), error)
        if self.ready:
            self.ready = deque(acquired for acquired in self.ready if acquired.node_id != node_id)

    def _answered(
        self,
        session: ShareSession,
        acknowledgements: Acknowledgements,
        response: ShareFetchResponse | ShareAcknowledgeResponse,
    ) -> None:
        open_acknowledgements = {(one.topic_id, one.partition): one for one in acknowledgements}
        is_fetch = isinstance(response, ShareFetchResponse)
        has_failed = has_records = False
        leaders = []
        for topic_id, data in _partitions(response):
            place = topic_id, data.partition_index
            # By the names we asked with: metadata may have lost the topic since.
            partition = open_acknowledgements.pop(place, None)
            if partition is not None:
                code, message = _acknowledge_error(data)
                self._settle({partition: acknowledgements[partition]}, error_for(code, message) if code else None)
            partition = partition or session.partitions.get(place)
            if partition is None:
                continue
            if data.error_code:
                has_failed = True
                if data.current_leader.leader_id >= 0:
                    leaders.append((partition.topic_partition, *_leader(data)))
                self._partition_failed(partition, data, is_fetch=is_fetch)
            elif isinstance(data, share_fetch.PartitionData) and data.acquired_records:
                has_records = True
                lock_ends_ms = self._cluster.now_ms() + (self.lock_timeout_ms or _ALL)
                records, ranges = data.records or b"", data.acquired_records
                self.ready.append(Acquired(session.node_id, partition, records, ranges, lock_ends_ms))
        # A partition that the answer does not mention had no error.
        self._settle({one: acknowledgements[one] for one in open_acknowledgements.values()}, None)
        if leaders:
            nodes = [Node(node.node_id, node.host, node.port, node.rack) for node in response.node_endpoints]
            self._cluster.learn_leaders(leaders, nodes)
        if has_records or (is_fetch and not has_failed):
            session.failures = session.retry_at_ms = 0
        elif is_fetch:
            self._pause(session)

    def _partition_failed(self, partition: SharedPartition, data: _Partition, *, is_fetch: bool) -> None:
        error = error_for(data.error_code, data.error_message)
        if error.code is not None and error.code.refreshes_metadata:
            self._cluster.request_metadata_update()
        elif is_fetch and not error.retriable:  # what is wrong with acknowledgements is told to who asks for it
            error = error_for(data.error_code, f"{partition.topic_partition}: {error.message}")
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


def unpack(acquired: Acquired, key_deserializer: Any, value_deserializer: Any, check_crcs: bool = True) -> Unpacked:
    """Read the acquired records out of the batches they came in."""
    found = Unpacked([], {}, [])
    topic, partition = acquired.partition.topic, acquired.partition.partition
    located: list[tuple[int, BatchHeader]] = []
    try:
        for batch in batches(acquired.records):
            located.append(batch)  # noqa: PERF402 (what stands in front of the damage is kept)
    except CorruptRecordError as problem:
        found.errors.append(_corrupt(topic, partition, problem))
    # What is in no batch is a gap; with damage nobody knows, and it may be whole when it comes again.
    unseen = AcknowledgeType.RELEASE if found.errors else GAP
    for first, last, delivery_count in (
        (one.first_offset, one.last_offset, one.delivery_count) for one in acquired.ranges
    ):
        missing: dict[int, int] = dict.fromkeys(range(first, last + 1), unseen)
        for position, header in located:
            if header.is_control or header.last_offset < first or header.base_offset > last:
                continue
            next_offset: int | None = first
            while next_offset is not None:
                cursor = RecordCursor(
                    acquired.records,
                    position,
                    header,
                    topic=topic,
                    partition=partition,
                    from_offset=next_offset,
                    end_offset=last + 1,
                    delivery_count=delivery_count,
                    check_crc=check_crcs,
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
        found.errors.append(_corrupt(cursor.topic, cursor.partition, problem))
        for offset in missing:
            if cursor.next_offset <= offset <= cursor.header.last_offset:
                missing[offset] = AcknowledgeType.REJECT
    for record in records:
        missing.pop(record.offset, None)
    found.records.extend(records)
    return go_on


def _corrupt(topic: str, partition: int, problem: CorruptRecordError) -> CorruptRecordsError:
    return CorruptRecordsError(f"records of {topic}-{partition} are corrupt: {problem}")


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
