"""Fetch (key 1), versions 4-18: read record batches, waiting for them if there are none yet.

Version notes. 5: log start offsets. 7: fetch sessions (KIP-227). 9: current leader epoch (KIP-320). 10: zstd is
understood (KIP-110); as in Kafka 4, nothing is withheld from older versions. 11: rack id, preferred read replica, and
consumers may read from followers (KIP-392). 12: flexible; last fetched epoch and diverging epoch (KIP-595). 13: topic
ids (KIP-516). 15: the replica's id moves into ReplicaState. 16: current leader and node endpoints beside
NOT_LEADER_OR_FOLLOWER (KIP-951). 17, 18: follower fields.

Followers' fetches are `follower_fetch`'s. The answer waits until min_bytes can be read, max_wait_ms pass, or there is
an error to tell. Ranges in the page cache are read on the event loop, cold ones in a worker thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.server.broker.broker import DelayedResponse
from ottla.server.broker.delayed_fetch import DelayedFetch
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

_FIRST_TOPIC_ID_VERSION = 13
_FIRST_REPLICA_STATE_VERSION = 15
_FIRST_SESSION_VERSION = 7
_FIRST_RACK_VERSION = 11
_FIRST_LEADER_HINT_VERSION = 16


def handle(
    broker: Broker, request: FetchRequest, context: RequestContext
) -> FetchResponse | DelayedResponse | Awaitable[FetchResponse]:
    """Answer at once when there is something to say, else wait."""
    version = context.api_version
    replica_id = request.replica_id if version < _FIRST_REPLICA_STATE_VERSION else request.replica_state.replica_id
    if replica_id >= 0:
        from ottla.server.broker.follower_fetch import handle_follower, refused_follower

        if broker.authorizer is not None and (refusal := refused_follower(broker, request, context)) is not None:
            return refusal
        return handle_follower(broker, request, context, replica_id)
    session = None
    if request.session_epoch == FINAL_EPOCH or version < _FIRST_SESSION_VERSION:
        if request.session_id:
            broker.fetch_sessions.close(request.session_id, context.principal)
        entries: Sequence[FetchedPartition] = _entries(request, version)
    elif request.session_epoch == INITIAL_EPOCH:
        if request.session_id:
            broker.fetch_sessions.close(request.session_id, context.principal)
        entries = _entries(request, version)
    else:
        session = broker.fetch_sessions.resume(
            request.session_id,
            request.session_epoch,
            uses_topic_ids=version >= _FIRST_TOPIC_ID_VERSION,
            owner=context.principal,
        )
        entries = _update_session(broker, session, request, version)
        if not entries:
            session = None
    max_bytes = min(request.max_bytes, broker.config["fetch.max.bytes"])
    connection = context.connection
    send_files = connection is not None and connection.can_send_files
    reader = FetchReader(broker, entries, version, replica_id, request.isolation_level, max_bytes, send_files)
    if broker.reads_from_racks and version >= _FIRST_RACK_VERSION:
        reader.client_rack, reader.listener_name = request.rack_id, context.listener_name
    if broker.authorizer is not None:
        _hide_topics(broker, reader, context)
    reader.plan()
    answer = _Answer(broker, reader, session, request.session_epoch, context)
    min_bytes = min(request.min_bytes, max_bytes)
    if request.max_wait_ms <= 0 or not entries or reader.total_bytes >= min_bytes or reader.urgent:
        cold = reader.load()
        return answer.after_cold_reads(cold) if cold else answer.response()
    wait_ms = request.max_wait_ms
    if connection is not None and connection.login is not None:
        wait_ms = connection.login.longest_wait_ms(wait_ms)
    return answer.wait(min_bytes, wait_ms)


def error_response(
    request: FetchRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> FetchResponse | None:
    """A refusal of the whole request: a top-level code from version 7 on, before that one for each partition."""
    if context.api_version >= _FIRST_SESSION_VERSION:
        return FetchResponse(error_code=code)
    return FetchResponse(
        responses=[
            FetchableTopicResponse(
                topic=topic.topic,
                partitions=[
                    PartitionData(partition_index=partition.partition, error_code=code, high_watermark=-1, records=b"")
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def throttled_response(broker: Broker, request: FetchRequest, response: FetchResponse) -> FetchResponse:
    """For a client above its quota: no records, and its session as if it had not asked."""
    session = broker.fetch_sessions.get(response.session_id)
    if response.error_code or session is None:
        return FetchResponse(error_code=response.error_code, session_id=response.session_id)
    if request.session_epoch == INITIAL_EPOCH:
        broker.fetch_sessions.close(response.session_id, session.owner)
        return FetchResponse()
    for topic in response.responses:
        name = topic.topic_id if session.uses_topic_ids else topic.topic
        for data in topic.partitions:
            entry = session.partitions.get((name, data.partition_index))
            if entry is not None:
                entry.forget_answer()
    return FetchResponse(session_id=response.session_id)


def _hide_topics(broker: Broker, reader: FetchReader, context: RequestContext) -> None:
    """Let the reader find no topic that the client may not read."""
    from ottla.server.broker.permissions.asking import Visible, denied_topics

    denied = denied_topics(broker, context, [entry.topic for entry in reader.entries])
    if denied:
        reader.denied |= denied
        reader.topics = Visible(reader.topics.get, denied)


def _entries(request: FetchRequest, version: int) -> list[FetchedPartition]:
    if version >= _FIRST_TOPIC_ID_VERSION:
        return [FetchedPartition(topic.topic_id, wanted) for topic in request.topics for wanted in topic.partitions]
    return [FetchedPartition(topic.topic, wanted) for topic in request.topics for wanted in topic.partitions]


def _update_session(
    broker: Broker, session: FetchSession, request: FetchRequest, version: int
) -> Sequence[FetchedPartition]:
    """Take the request over into its session; an emptied session is closed, and the answer then has session id 0."""
    if request.topics or request.forgotten_topics_data:
        uses_topic_ids = version >= _FIRST_TOPIC_ID_VERSION
        session.update(
            (
                (topic.topic_id if uses_topic_ids else topic.topic, wanted)
                for topic in request.topics
                for wanted in topic.partitions
            ),
            forgotten_partitions(request.forgotten_topics_data, uses_topic_ids=uses_topic_ids),
        )
        if not session.partitions:
            broker.fetch_sessions.close(session.session_id, session.owner)
            return ()
    broker.fetch_sessions.advance(session, broker.env.clock.now_ms())
    return list(session.partitions.values())


class _Answer:
    """Puts the response together, now, after a wait, or after cold reads."""

    __slots__ = ("broker", "context", "permitted", "reader", "session", "session_epoch", "session_requested")

    def __init__(
        self,
        broker: Broker,
        reader: FetchReader,
        session: FetchSession | None,
        session_epoch: int,
        context: RequestContext,
    ) -> None:
        self.broker = broker
        self.reader = reader
        self.session = session
        self.session_requested = session_epoch == INITIAL_EPOCH and reader.version >= _FIRST_SESSION_VERSION
        self.session_epoch = session.epoch if session is not None else 0
        self.context = context
        self.permitted = None if broker.authorizer is None else broker.authorizer.version

    def wait(self, min_bytes: int, max_wait_ms: int) -> DelayedResponse:
        """Answer when there is enough to read, at the latest after `max_wait_ms`."""
        delayed = DelayedResponse()

        def ready() -> None:
            if delayed.usage is not None:
                delayed.usage.resume()
            try:
                authorizer = self.broker.authorizer
                if authorizer is not None and (authorizer.version is None or authorizer.version != self.permitted):
                    _hide_topics(self.broker, self.reader, self.context)  # permissions have changed meanwhile
                self.reader.plan()
                cold = self.reader.load()
            except Exception as error:
                delayed.fail(error)
                return
            if cold:
                delayed.continue_with(self.after_cold_reads(cold))
            else:
                delayed.respond_with(self.response)

        delayed.on_cancel = DelayedFetch(self.reader, min_bytes, max_wait_ms, ready).cancel
        return delayed

    async def after_cold_reads(self, cold: list[int]) -> FetchResponse:
        """Read in a worker thread what is not in the page cache, then answer."""
        reader = self.reader
        loaded = await self.broker.env.run_blocking(reader.load_cold, cold)
        reader.put_cold(cold, loaded)
        return self.response()

    def response(self) -> FetchResponse:
        """The response of what the reader holds, reduced to the news in an incremental session."""
        reader = self.reader
        entries, results = reader.entries, reader.results
        session_id = INVALID_SESSION_ID
        if self.session is not None:
            if self.session.epoch != self.session_epoch:
                # Another connection went on with the same session while this one waited.
                return FetchResponse(
                    error_code=ErrorCode.INVALID_FETCH_SESSION_EPOCH, session_id=self.session.session_id
                )
            session_id = self.session.session_id
            news = [pair for pair in zip(entries, results, strict=True) if pair[0].has_news(pair[1])]
            self.session.rotate(entry for entry, data in news if data.records)
            response = FetchResponse(session_id=session_id, responses=by_topic(news))
        else:
            if self.session_requested:
                session_id = self._create_session()
            response = FetchResponse(session_id=session_id, responses=by_topic(zip(entries, results, strict=True)))
        if reader.urgent and reader.version >= _FIRST_LEADER_HINT_VERSION:
            add_endpoints(response, self.broker.image, self.context.listener_name)
        return response

    def _create_session(self) -> int:
        reader = self.reader
        session = self.broker.fetch_sessions.create(
            len(reader.entries),
            privileged=False,
            uses_topic_ids=reader.version >= _FIRST_TOPIC_ID_VERSION,
            now_ms=self.broker.env.clock.now_ms(),
            owner=self.context.principal,
        )
        if session is None:
            return INVALID_SESSION_ID
        for entry, data in zip(reader.entries, reader.results, strict=True):
            entry.has_news(data)
            session.partitions[(entry.topic, entry.request.partition)] = entry
        return session.session_id
