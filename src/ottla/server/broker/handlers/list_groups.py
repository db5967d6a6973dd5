"""ListGroups (key 16), versions 0-5: the groups that this broker coordinates.

Version notes.  1: throttle time.  3: flexible.  4: filter by state (KIP-518).  5: filter by type, type in the answer
(KIP-848).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.group_answers import answer_plain

if TYPE_CHECKING:
    from ottla.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(broker: Broker, request: ListGroupsRequest, context: RequestContext) -> ListGroupsResponse | DelayedResponse:
    """COORDINATOR_LOAD_IN_PROGRESS while any partition is being loaded, since the list would be incomplete."""
    return answer_plain(broker.groups.list_groups(request.states_filter, request.types_filter))
