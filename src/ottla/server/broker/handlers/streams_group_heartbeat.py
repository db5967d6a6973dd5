"""StreamsGroupHeartbeat (key 88), versions 0-1: a member of a streams group joins, stays or leaves (KIP-1071).

Version notes.  1: the acceptable recovery lag as int64; the broker may ask for a topology description (KIP-1331) and
tells of client tags that are missing.

Refusals: UNSUPPORTED_VERSION (streams groups are switched off), STREAMS_INVALID_TOPOLOGY, INVALID_REQUEST,
GROUP_ID_NOT_FOUND, UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH, GROUP_MAX_SIZE_REACHED, UNRELEASED_INSTANCE_ID,
FENCED_INSTANCE_ID. Topics that are missing, or have a wrong number of partitions, are told in the status list.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.topics import INTERNAL_TOPICS
from ottla.server.broker.authorization import AclOperation, ResourceType, allowed_names
from ottla.server.broker.group_answers import answer_plain
from ottla.server.broker.group_protocols import check_protocol
from ottla.server.controller.result import is_valid_topic_name
from ottla.server.coordinator.streams.admission import Heartbeat

if TYPE_CHECKING:
    from ottla.protocol.messages.streams_group_heartbeat import (
        StreamsGroupHeartbeatRequest,
        StreamsGroupHeartbeatResponse,
        Topology,
    )
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: StreamsGroupHeartbeatRequest, context: RequestContext
) -> StreamsGroupHeartbeatResponse | DelayedResponse:
    """Answered at once where the broker is alone."""
    check_protocol(broker, "streams")
    if request.topology is not None:
        names = _checked_topic_names(request.topology)
        visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.TOPIC, names)
        if len(visible) < len(names):
            raise ApiError(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
    call = Heartbeat(request, context.api_version, context.client_id or "", "/" + context.client_host)
    if broker.authorizer is None:
        return answer_plain(broker.streams_groups.heartbeat(call))
    from ottla.server.broker.permissions.asking import not_creatable

    return answer_plain(broker.streams_groups.heartbeat(call, partial(not_creatable, broker, context)))


def _checked_topic_names(topology: Topology) -> list[str]:
    names = list(
        dict.fromkeys(
            name
            for subtopology in topology.subtopologies
            for name in (
                *subtopology.source_topics,
                *subtopology.repartition_sink_topics,
                *(topic.name for topic in subtopology.repartition_source_topics),
                *(topic.name for topic in subtopology.state_changelog_topics),
            )
        )
    )
    internal = [name for name in names if name in INTERNAL_TOPICS]
    if internal:
        raise ApiError(
            ErrorCode.STREAMS_INVALID_TOPOLOGY,
            f"Use of Kafka internal topics {','.join(internal)} in a Kafka Streams topology is prohibited.",
        )
    invalid = [name for name in names if not is_valid_topic_name(name)]
    if invalid:
        raise ApiError(
            ErrorCode.STREAMS_INVALID_TOPOLOGY, f"Topic names {','.join(invalid)} are not valid topic names."
        )
    return names
