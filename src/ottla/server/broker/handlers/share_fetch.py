"""ShareFetch (key 78), versions 1-2: acquire records for a member of a share group, and acknowledge earlier ones.

Version notes. 2: a strict limit of records (`share_acquire_mode` 1, KIP-1206) and renewing (KIP-1222); a request that
renews fetches nothing, so that its answer does not use up the time it asks for.

Fetching and acknowledging go on side by side; the answer goes out when there are records, or the time is up, and the
acknowledgements are written. Session epoch 0 makes a session, -1 closes it, which gives back what it had acquired.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.share_fetch import (
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
    ShareFetchableTopicResponse,
    ShareFetchResponse,
)
from ottla.server.broker.broker import DelayedResponse
from ottla.server.broker.leader_hints import leader_endpoints
from ottla.server.broker.share.acknowledging import Acknowledgements
from ottla.server.broker.share.delivery import AcquireRequest
from ottla.server.broker.share.fetching import EMPTY, Found, ShareFetch
from ottla.server.broker.share.requests import checked_share_partitions, leader_hint
from ottla.server.broker.share.sessions import FINAL_EPOCH, INITIAL_EPOCH

if TYPE_CHECKING:
    from ottla.protocol.messages.share_fetch import AcknowledgementBatch, ShareFetchRequest
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.share.hosted import HostedSharePartition
    from ottla.server.broker.share.sessions import PartitionKey, SharedPartition, ShareSession
    from ottla.server.broker.share.share_partitions import SharePartitions

_FIRST_RENEW_VERSION = 2
_STRICT_RECORD_LIMIT = 1


def handle(broker: Broker, request: ShareFetchRequest, context: RequestContext) -> ShareFetchResponse | DelayedResponse:
    """Acknowledge, look for records, and answer when both are done."""
    share = checked_share_partitions(broker, request.group_id, request.member_id)
    is_renew = request.is_renew_ack and context.api_version >= _FIRST_RENEW_VERSION
    if is_renew:
        _check_renewing(request)
    try:
        session = _session(share, request, context)
    except ApiError as error:
        if error.code is ErrorCode.SHARE_SESSION_LIMIT_REACHED and request.max_wait_ms > 0:
            # The client would be back at once.
            return _refused_later(error, request.max_wait_ms)
        raise
    answer = _Answer(broker, share, session, request, context)
    if broker.authorizer is not None:
        answer.ask_permission()
    acknowledgements = [
        ((topic.topic_id, data.partition_index), data.acknowledgement_batches)
        for topic in request.topics
        for data in topic.partitions
        if data.acknowledgement_batches
    ]
    if acknowledgements:
        answer.acknowledge(acknowledgements)
    if request.share_session_epoch == FINAL_EPOCH:
        share.close_session(session)
    elif not is_renew and request.max_records > 0 and request.max_bytes > 0 and session.partitions:
        answer.fetch(session.rotated())
    return answer.now_or_later()


def _session(share: SharePartitions, request: ShareFetchRequest, context: RequestContext) -> ShareSession:
    """The session of this request, with what it adds and forgets."""
    group_id, member_id = request.group_id or "", request.member_id or ""
    epoch = request.share_session_epoch
    if epoch == FINAL_EPOCH:
        return share.sessions.get(group_id, member_id)
    keys = [(topic.topic_id, data.partition_index) for topic in request.topics for data in topic.partitions]
    if epoch == INITIAL_EPOCH:
        if any(data.acknowledgement_batches for topic in request.topics for data in topic.partitions):
            raise ApiError(ErrorCode.INVALID_REQUEST)
        return share.open_session(group_id, member_id, keys, context)
    session = share.sessions.resume(group_id, member_id, epoch)
    if keys:
        session.add(keys)
    if request.forgotten_topics_data:
        session.forget((topic.topic_id, index) for topic in request.forgotten_topics_data for index in topic.partitions)
    return session


def _check_renewing(request: ShareFetchRequest) -> None:
    wrong = [
        f"{name} must be set to 0, "
        for name, value in (
            ("maxBytes", request.max_bytes),
            ("minBytes", request.min_bytes),
            ("maxRecords", request.max_records),
            ("maxWaitMs", request.max_wait_ms),
        )
        if value
    ]
    if wrong:
        raise ApiError(ErrorCode.INVALID_REQUEST, "".join(wrong) + "if isRenewAck is true.")


def _refused_later(error: ApiError, wait_ms: int) -> DelayedResponse:
    delayed = DelayedResponse()
    timer = asyncio.get_running_loop().call_later(wait_ms / 1000, delayed.fail, error)
    delayed.on_cancel = timer.cancel
    return delayed


class _Answer:
    """Puts the response together from the two halves of the request."""

    __slots__ = (
        "_acknowledgements",
        "_broker",
        "_context",
        "_delayed",
        "_epoch",
        "_fetch",
        "_found",
        "_is_final",
        "_permitted",
        "_request",
        "_session",
        "_share",
        "denied",
    )

    def __init__(
        self,
        broker: Broker,
        share: SharePartitions,
        session: ShareSession,
        request: ShareFetchRequest,
        context: RequestContext,
    ) -> None:
        self._broker = broker
        self._share = share
        self._session = session
        self._epoch = session.epoch
        self._is_final = request.share_session_epoch == FINAL_EPOCH
        self._request = request
        self._context = context
        self._permitted: int | None = None
        self._acknowledgements: Acknowledgements | None = None
        self._fetch: ShareFetch | None = None
        self._found: Found | None = []
        self._delayed: DelayedResponse | None = None
        self.denied: frozenset[str | bytes] = frozenset()
        """Ids of topics that the member may not read."""

    def ask_permission(self) -> None:
        """Find out which topics are denied."""
        from ottla.server.broker.permissions.asking import denied_topics

        broker = self._broker
        assert broker.authorizer is not None
        self._permitted = broker.authorizer.version
        topic_ids = [*(key[0] for key in self._session.partitions), *(topic.topic_id for topic in self._request.topics)]
        self.denied = denied_topics(broker, self._context, topic_ids)

    def acknowledge(self, acknowledgements: list[tuple[PartitionKey, list[AcknowledgementBatch]]]) -> None:
        request = self._request
        self._acknowledgements = Acknowledgements(
            self._context.api_version, is_renew=request.is_renew_ack, on_done=self._maybe_respond
        )
        self._acknowledgements.denied = self.denied
        self._acknowledgements.apply(
            self._share,
            self._broker.image.topics,
            self._session.group_id,
            self._session.member_id,
            acknowledgements,
        )

    def fetch(self, entries: list[SharedPartition]) -> None:
        request, share = self._request, self._share
        group = share.group(self._session.group_id)

        def find(entry: SharedPartition) -> HostedSharePartition:
            if entry.topic_id in self.denied:
                raise ApiError(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
            return share.find(group, entry)

        def hide() -> None:
            for entry in entries if self.denied else ():
                if entry.topic_id in self.denied:
                    entry.hosted = None  # where it was found before: it is looked for again, and refused

        def hide_again() -> None:
            version = authorizer.version if authorizer is not None else None
            if version is None or version != self._permitted:
                self.ask_permission()
                hide()

        hide()
        authorizer = self._broker.authorizer
        connection = self._context.connection
        wait_ms = request.max_wait_ms
        if connection is not None and connection.login is not None:
            wait_ms = connection.login.longest_wait_ms(wait_ms)
        max_bytes = min(request.max_bytes, self._broker.config["fetch.max.bytes"])
        self._fetch = ShareFetch(
            entries,
            AcquireRequest(
                self._session.member_id,
                request.max_records,
                max(request.batch_size, 1),
                request.share_acquire_mode == _STRICT_RECORD_LIMIT,
            ),
            min_bytes=min(request.min_bytes, max_bytes),
            max_bytes=max_bytes,
            max_wait_ms=wait_ms,
            find=find,
            on_done=self._fetched,
            on_failed=self._failed,
            before_again=None if authorizer is None else hide_again,
        )
        self._found = self._fetch.start()

    def now_or_later(self) -> ShareFetchResponse | DelayedResponse:
        if self._is_complete:
            return self._response()
        self._delayed = DelayedResponse(None if self._fetch is None else self._fetch.cancel)
        return self._delayed

    @property
    def _is_complete(self) -> bool:
        return self._found is not None and (self._acknowledgements is None or not self._acknowledgements.outstanding)

    def _fetched(self, found: Found) -> None:
        self._found = found
        self._maybe_respond()

    def _failed(self, error: Exception) -> None:
        if self._delayed is not None:
            self._delayed.fail(error)

    def _maybe_respond(self) -> None:
        if self._delayed is not None and self._is_complete:
            self._delayed.respond_with(self._response)

    def _response(self) -> ShareFetchResponse:
        assert self._found is not None
        if self._session.epoch != self._epoch and not self._is_final:
            # The member went on with another request while this one waited.
            return ShareFetchResponse(error_code=ErrorCode.INVALID_SHARE_SESSION_EPOCH)
        topics: dict[bytes, list[PartitionData]] = {}
        leaders: set[int] = set()
        outcomes = {} if self._acknowledgements is None else self._acknowledgements.outcomes
        for entry, data in self._found:
            hint = leader_hint(self._broker, entry.topic_id, entry.index, data.error_code)
            if hint is not None:
                data.current_leader = LeaderIdAndEpoch(leader_id=hint[0], leader_epoch=hint[1])
                leaders.add(hint[0])
            outcome = outcomes.pop((entry.topic_id, entry.index), None) if outcomes else None
            if outcome is not None:
                data.acknowledge_error_code, data.acknowledge_error_message = outcome
            topics.setdefault(entry.topic_id, []).append(data)
        for (topic_id, index), (code, message) in outcomes.items():
            data = PartitionData(
                partition_index=index,
                acknowledge_error_code=code,
                acknowledge_error_message=message,
                records=EMPTY,
                acquired_records=[],
            )
            topics.setdefault(topic_id, []).append(data)
        settings = self._share.group_settings(self._session.group_id)
        return ShareFetchResponse(
            acquisition_lock_timeout_ms=settings.record_lock_duration_ms,
            responses=[ShareFetchableTopicResponse(topic_id=key, partitions=found) for key, found in topics.items()],
            node_endpoints=[
                NodeEndpoint(node_id=node.node_id, host=node.host, port=node.port, rack=node.rack)
                for node in leader_endpoints(self._broker.image, leaders, self._context.listener_name)
            ]
            if leaders
            else [],
        )
