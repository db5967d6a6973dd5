"""What followers fetch from this leader: a session that knows where something has happened.

Theory of operation. A follower's session may hold thousands of partitions of which few change from one fetch to the
next. So it watches them all the time: a partition that was appended to, moved its high watermark, or is asked for at
another offset, becomes *pending*, and a fetch looks at those that are pending only. What has nothing more to tell is
pending no longer. A fetch that finds nothing is parked; the first append wakes it, in a later turn of the loop, so that
a burst of appends is one answer.

A partition that is not pending has a follower waiting at the end of its log. When something is appended the session
says since when (`FollowerProgress.was_waiting`), so that a quiet partition costs nothing and its follower is not late.
While the follower is not in the ISR every fetch counts: it comes in as soon as one shows that it may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.server.broker.broker import DelayedResponse
from ottla.server.broker.fetch_answers import add_endpoints, by_topic
from ottla.server.broker.fetch_reader import FetchReader
from ottla.server.broker.fetch_sessions import (
    FINAL_EPOCH,
    INITIAL_EPOCH,
    INVALID_SESSION_ID,
    FetchedPartition,
    FetchSession,
    forgotten_partitions,
)

if TYPE_CHECKING:
    from ottla.protocol.messages.fetch import FetchRequest
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.replication.partition import Partition
    from ottla.server.replication.throttle import ReplicationThrottle

_FIRST_TOPIC_ID_VERSION = 13
_FIRST_REPLICA_STATE_VERSION = 15
_FIRST_SESSION_VERSION = 7
_FIRST_LEADER_HINT_VERSION = 16

Answer = FetchResponse | DelayedResponse | Awaitable[FetchResponse]


def handle_follower(broker: Broker, request: FetchRequest, context: RequestContext, replica_id: int) -> Answer:
    """Answer a follower's fetch, at once when there is something to say."""
    version = context.api_version
    uses_topic_ids = version >= _FIRST_TOPIC_ID_VERSION
    sessions = broker.fetch_sessions
    is_full = request.session_epoch in (FINAL_EPOCH, INITIAL_EPOCH) or version < _FIRST_SESSION_VERSION
    if is_full:
        if request.session_id:
            sessions.close(request.session_id, context.principal)
        session = None
        if request.session_epoch == INITIAL_EPOCH and version >= _FIRST_SESSION_VERSION:
            size = sum(len(topic.partitions) for topic in request.topics)
            now_ms = broker.env.clock.now_ms()
            session = sessions.create(
                size, privileged=True, uses_topic_ids=uses_topic_ids, now_ms=now_ms, owner=context.principal
            )
        fetches = FollowerFetches(broker, replica_id, session)
        if session is not None:
            session.watch = fetches
    else:
        session = sessions.resume(
            request.session_id, request.session_epoch, uses_topic_ids=uses_topic_ids, owner=context.principal
        )
        if session.watch is None:
            session.watch = FollowerFetches(broker, replica_id, session)
        fetches = session.watch
    keyed = (
        (topic.topic_id if uses_topic_ids else topic.topic, wanted)
        for topic in request.topics
        for wanted in topic.partitions
    )
    fetches.update(keyed, forgotten_partitions(request.forgotten_topics_data, uses_topic_ids=uses_topic_ids))
    if session is not None and not is_full:
        if not session.partitions:
            sessions.close(session.session_id, session.owner)
            return FetchResponse()
        sessions.advance(session, broker.env.clock.now_ms())
    return fetches.fetch(request, context, is_full=is_full)


def refused_follower(broker: Broker, request: FetchRequest, context: RequestContext) -> FetchResponse | None:
    """What is answered to somebody who is no broker: of each partition that it may not be fetched.

    A session is not gone on with: who goes on with one was allowed to before, and hears why after it has begun anew.
    """
    from ottla.server.broker.authorization import AclOperation, allows_cluster

    if allows_cluster(broker, context, AclOperation.CLUSTER_ACTION):
        return None
    if request.session_id and request.session_epoch not in (FINAL_EPOCH, INITIAL_EPOCH):
        return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    return FetchResponse(
        responses=[
            FetchableTopicResponse(
                topic=topic.topic,
                topic_id=topic.topic_id,
                partitions=[
                    PartitionData(
                        partition_index=wanted.partition,
                        error_code=ErrorCode.TOPIC_AUTHORIZATION_FAILED,
                        high_watermark=-1,
                        records=b"",
                    )
                    for wanted in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


class FollowerFetches:
    """One follower's fetches from this broker: what its session holds, and what of it is pending.

    Without a session it lives as long as one fetch.
    """

    __slots__ = (
        "_broker",
        "_by_partition",
        "_context",
        "_entries",
        "_is_scheduled",
        "_last_fetch_ms",
        "_loop",
        "_min_bytes",
        "_parked",
        "_pending",
        "_reader",
        "_replica_id",
        "_session",
        "_session_epoch",
        "_timer",
    )

    def __init__(self, broker: Broker, replica_id: int, session: FetchSession | None) -> None:
        self._broker = broker
        self._replica_id = replica_id
        self._session = session
        self._session_epoch = 0
        self._entries = session.partitions if session is not None else {}
        self._pending: dict[FetchedPartition, None] = {}
        self._by_partition: dict[Partition, FetchedPartition] = {}
        self._loop = asyncio.get_running_loop()
        self._last_fetch_ms = 0
        self._parked: DelayedResponse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_scheduled = False
        self._min_bytes = 1
        self._reader: FetchReader | None = None
        self._context = (0, "")  # version and listener of the fetch that is being answered

    # What is fetched

    def update(self, fetched: object, forgotten: object) -> None:
        """Take over what a request lists: all of that is pending."""
        entries = self._entries
        for topic, wanted in fetched:  # type: ignore[attr-defined]
            key = (topic, wanted.partition)
            entry = entries.get(key)
            if entry is None:
                entry = entries[key] = FetchedPartition(topic, wanted)
            else:
                entry.wanted_now(wanted)
            self._pending[entry] = None
        for key in forgotten:  # type: ignore[attr-defined]
            entry = entries.pop(key, None)
            if entry is not None:
                self._pending.pop(entry, None)
                self._unwatch(entry)

    def close(self) -> None:
        """The session is gone: nobody fetches these partitions here any more."""
        for partition in self._by_partition:
            partition.unwatch(self)
        self._by_partition.clear()
        self._pending.clear()

    def _watch(self, entry: FetchedPartition, partition: Partition | None, watched: Partition | None) -> None:
        """Watch where the entry was found now; it may be another partition, of a topic that was made again."""
        if watched is partition:
            return
        if watched is not None:
            self._by_partition.pop(watched, None)
            watched.unwatch(self)
        if partition is not None:
            self._by_partition[partition] = entry
            partition.watch(self)

    def _unwatch(self, entry: FetchedPartition) -> None:
        self._watch(entry, None, entry.partition)
        entry.partition = None

    # Fetching

    def fetch(self, request: FetchRequest, context: RequestContext, *, is_full: bool) -> Answer:
        """Answer with what is pending, or park the request."""
        if self._parked is not None:
            self._overtaken()
        broker, session = self._broker, self._session
        version = context.api_version
        self._context = (version, context.listener_name)
        self._session_epoch = session.epoch if session is not None else 0
        now_ms = int(self._loop.time() * 1000)
        max_bytes = min(request.max_bytes, broker.config["fetch.max.bytes"])
        connection = context.connection
        reader = self._reader = FetchReader(
            broker,
            list(self._pending),
            version,
            self._replica_id,
            request.isolation_level,
            max_bytes,
            connection is not None and connection.can_send_files,
        )
        if version >= _FIRST_REPLICA_STATE_VERSION:
            reader.broker_epoch = request.replica_state.replica_epoch
        reader.fetched_at_ms = now_ms
        self._plan(reader)
        reader.fetched_at_ms = None
        self._last_fetch_ms = now_ms
        self._min_bytes = min(request.min_bytes, max_bytes)
        if request.max_wait_ms <= 0 or not self._entries or reader.total_bytes >= self._min_bytes or reader.urgent:
            cold = reader.load()
            return self._after_cold_reads(reader, cold, is_full) if cold else self._response(reader, is_full)
        return self._park(request.max_wait_ms, is_full)

    def _plan(self, reader: FetchReader) -> None:
        throttle = self._broker.replicas.leader_throttle
        if throttle is not None and throttle.is_used:
            reader.throttle = throttle if throttle.is_exceeded(int(self._loop.time() * 1000)) else None
        before = [entry.partition for entry in reader.entries]
        reader.plan()
        for entry, watched in zip(reader.entries, before, strict=True):
            self._watch(entry, entry.partition, watched)

    def _park(self, max_wait_ms: int, is_full: bool) -> DelayedResponse:
        parked = self._parked = DelayedResponse(self._cancelled)
        self._timer = self._loop.call_later(max_wait_ms / 1000, self._wake, is_full, True)
        self._is_scheduled = False
        return parked

    def log_grew(self, partition: Partition) -> None:
        """See `replication.partition.LogWatcher`."""
        entry = self._by_partition[partition]
        if entry not in self._pending:
            self._pending[entry] = None
            followers = partition.followers
            if followers is not None and (progress := followers.progress.get(self._replica_id)) is not None:
                progress.was_waiting(entry.request.fetch_offset, self._last_fetch_ms)
        if self._parked is not None and not self._is_scheduled:
            self._schedule()

    def partition_changed(self, partition: Partition) -> None:
        """See `replication.partition.LogWatcher`."""
        entry = self._by_partition[partition]
        self._pending[entry] = None
        if (
            self._parked is not None
            and not self._is_scheduled
            and (
                not partition.is_leader
                or partition.leader_epoch != entry.request.current_leader_epoch
                or self._broker.reads_from_racks
            )
        ):
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._loop.call_soon(self._wake, self._session is None, False)

    def _wake(self, is_full: bool, is_over: bool) -> None:
        """Answer the parked request, if there is enough to answer, or its time is over."""
        parked, reader = self._parked, self._reader
        self._is_scheduled = False
        if parked is None or reader is None:
            return
        try:
            reader.entries = list(self._pending)
            self._plan(reader)
            if not (is_over or reader.urgent or reader.total_bytes >= self._min_bytes or self._tells_offsets(reader)):
                return
            self._unpark()
            if parked.usage is not None:
                parked.usage.resume()
            cold = reader.load()
        except Exception as error:
            self._unpark()
            parked.fail(error)
            return
        if cold:
            parked.continue_with(self._after_cold_reads(reader, cold, is_full))
        else:
            parked.respond_with(lambda: self._response(reader, is_full))

    def _tells_offsets(self, reader: FetchReader) -> bool:
        """Where consumers read from followers, these hear of a new high watermark at once."""
        return self._broker.reads_from_racks and any(
            entry.knows_otherwise(data) for entry, data in zip(reader.entries, reader.results, strict=True)
        )

    def _unpark(self) -> None:
        self._parked = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancelled(self) -> None:
        self._unpark()
        if self._session is None:
            self.close()

    def _overtaken(self) -> None:
        """The follower has come back on another connection, while the broker held its request."""
        parked = self._parked
        self._unpark()
        if parked is not None:
            parked.respond(FetchResponse(error_code=ErrorCode.INVALID_FETCH_SESSION_EPOCH))

    async def _after_cold_reads(self, reader: FetchReader, cold: list[int], is_full: bool) -> FetchResponse:
        epoch = self._session_epoch
        loaded = await self._broker.env.run_blocking(reader.load_cold, cold)
        reader.put_cold(cold, loaded)
        if self._session is not None and self._session.epoch != epoch:
            return FetchResponse(error_code=ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        return self._response(reader, is_full)

    def _response(self, reader: FetchReader, is_full: bool) -> FetchResponse:
        session = self._session
        pairs = list(zip(reader.entries, reader.results, strict=True))
        told = [pair for pair in pairs if pair[0].has_news(pair[1]) or is_full]
        response = FetchResponse(
            session_id=INVALID_SESSION_ID if session is None else session.session_id, responses=by_topic(told)
        )
        throttle = self._broker.replicas.leader_throttle
        if throttle is not None and throttle.is_used:
            self._count_throttled(throttle, pairs)
        version, listener_name = self._context
        if reader.urgent and version >= _FIRST_LEADER_HINT_VERSION:
            add_endpoints(response, self._broker.image, listener_name)
        if session is None:
            self.close()
        else:
            for entry, data in pairs:
                self._settle(entry, data)
        return response

    def _count_throttled(
        self, throttle: ReplicationThrottle, pairs: Iterable[tuple[FetchedPartition, PartitionData]]
    ) -> None:
        size = sum(
            len(data.records)
            for entry, data in pairs
            if data.records
            and entry.partition is not None
            and throttle.is_throttled(entry.partition.topic, entry.partition.partition)
        )
        if size:
            throttle.record(size, int(self._loop.time() * 1000))

    def _settle(self, entry: FetchedPartition, data: PartitionData) -> None:
        """Whether a partition stays pending: it does until the follower has fetched what it got, and the rest."""
        pending = self._pending
        if entry not in pending:
            return  # forgotten meanwhile
        partition = entry.partition
        if data.records:
            # At the end of the line, so that a small max_bytes starves none.
            del pending[entry]
            pending[entry] = None
        elif (
            not data.error_code
            and data.diverging_epoch.epoch < 0
            and partition is not None
            and partition.log.log_end_offset == entry.request.fetch_offset
            and partition.log.high_watermark == data.high_watermark
            and partition.log.log_start_offset == data.log_start_offset
            and self._replica_id in partition.isr
        ):
            del pending[entry]
