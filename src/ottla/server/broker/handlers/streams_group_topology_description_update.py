"""StreamsGroupTopologyDescriptionUpdate (key 93), version 0: a member describes the group's topology (KIP-1331).

Members are asked by a flag in a heartbeat's answer, if `group.streams.topology.description.plugin.class` is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.group_answers import answer_plain
from ottla.server.broker.group_protocols import check_protocol

if TYPE_CHECKING:
    from ottla.protocol.messages.streams_group_topology_description_update import (
        StreamsGroupTopologyDescriptionUpdateRequest,
        StreamsGroupTopologyDescriptionUpdateResponse,
    )
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: StreamsGroupTopologyDescriptionUpdateRequest, context: RequestContext
) -> StreamsGroupTopologyDescriptionUpdateResponse | DelayedResponse:
    """UNSUPPORTED_VERSION where descriptions are not kept."""
    check_protocol(broker, "streams")
    return answer_plain(broker.streams_groups.update_description(request))
