"""DeleteGroups (key 42), versions 0-3: remove Empty groups with their offsets.

Version notes.  2: flexible.  3: error message per group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.delete_groups import DeleteGroupsResponse
from ottla.server.broker.group_answers import answer_all

if TYPE_CHECKING:
    from ottla.protocol.messages.delete_groups import DeleteGroupsRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: DeleteGroupsRequest, context: RequestContext
) -> DeleteGroupsResponse | DelayedResponse:
    """One result per group; a name given twice counts once."""
    outcomes = [broker.groups.delete_group(group_id) for group_id in dict.fromkeys(request.groups_names)]
    return answer_all(outcomes, lambda results: DeleteGroupsResponse(results=results))
