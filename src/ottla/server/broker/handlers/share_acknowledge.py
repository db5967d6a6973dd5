"""ShareAcknowledge (key 79), versions 1-2: accept, release, reject or renew records that the member has acquired.

Version notes. 2: renewing (KIP-1222), and the acquisition lock's duration in the answer.

The answer waits until the new states are written. Session epoch -1 closes the session, which gives back what it had
acquired and did not acknowledge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.share_acknowledge import (
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
    ShareAcknowledgeResponse,
    ShareAcknowledgeTopicResponse,
)
from ottla.server.broker.broker import DelayedResponse
from ottla.server.broker.leader_hints import leader_endpoints
from ottla.server.broker.share.acknowledging import Acknowledgements
from ottla.server.broker.share.requests import checked_share_partitions, leader_hint
from ottla.server.broker.share.sessions import FINAL_EPOCH, INITIAL_EPOCH

if TYPE_CHECKING:
    from ottla.protocol.messages.share_acknowledge import ShareAcknowledgeRequest
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.share.delivery import ShareSettings


def handle(
    broker: Broker, request: ShareAcknowledgeRequest, context: RequestContext
) -> ShareAcknowledgeResponse | DelayedResponse:
    """Hand the acknowledgements over; answer when they hold."""
    share = checked_share_partitions(broker, request.group_id, request.member_id)
    group_id, member_id = request.group_id or "", request.member_id or ""
    epoch = request.share_session_epoch
    if epoch == INITIAL_EPOCH:
        raise ApiError(ErrorCode.INVALID_SHARE_SESSION_EPOCH)
    if epoch == FINAL_EPOCH:
        session = share.sessions.get(group_id, member_id)
    else:
        session = share.sessions.resume(group_id, member_id, epoch)
    delayed = DelayedResponse()
    listener_name = context.listener_name

    def answer() -> ShareAcknowledgeResponse:
        return _response(broker, share.group_settings(group_id), acknowledgements, listener_name)

    acknowledgements = Acknowledgements(
        context.api_version, is_renew=request.is_renew_ack, on_done=lambda: delayed.respond_with(answer)
    )
    if broker.authorizer is not None:
        from ottla.server.broker.permissions.asking import denied_topics

        acknowledgements.denied = denied_topics(broker, context, [topic.topic_id for topic in request.topics])
    acknowledgements.apply(
        share,
        broker.image.topics,
        group_id,
        member_id,
        (
            ((topic.topic_id, data.partition_index), data.acknowledgement_batches)
            for topic in request.topics
            for data in topic.partitions
        ),
    )
    if epoch == FINAL_EPOCH:
        share.close_session(session)
    return delayed if acknowledgements.outstanding else answer()


def _response(
    broker: Broker, settings: ShareSettings, acknowledgements: Acknowledgements, listener_name: str
) -> ShareAcknowledgeResponse:
    topics: dict[bytes, list[PartitionData]] = {}
    leaders: set[int] = set()
    for (topic_id, index), (code, message) in acknowledgements.outcomes.items():
        data = PartitionData(partition_index=index, error_code=code, error_message=message)
        hint = leader_hint(broker, topic_id, index, code)
        if hint is not None:
            data.current_leader = LeaderIdAndEpoch(leader_id=hint[0], leader_epoch=hint[1])
            leaders.add(hint[0])
        topics.setdefault(topic_id, []).append(data)
    return ShareAcknowledgeResponse(
        acquisition_lock_timeout_ms=settings.record_lock_duration_ms,
        responses=[ShareAcknowledgeTopicResponse(topic_id=key, partitions=found) for key, found in topics.items()],
        node_endpoints=[
            NodeEndpoint(node_id=node.node_id, host=node.host, port=node.port, rack=node.rack)
            for node in leader_endpoints(broker.image, leaders, listener_name)
        ]
        if leaders
        else [],
    )
