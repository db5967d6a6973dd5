"""SyncGroup (key 14), versions 0-5: the leader hands in the assignment, every member takes its part.

Version notes.  1: throttle time.  3: group instance id (KIP-345).  4: flexible.  5: protocol type and name have to be
there and are checked (KIP-559).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.sync_group import SyncGroupResponse
from ottla.server.broker.group_answers import answer_plain

if TYPE_CHECKING:
    from ottla.protocol.messages.sync_group import SyncGroupRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext

_FIRST_VERSION_WITH_PROTOCOL = 5


def handle(broker: Broker, request: SyncGroupRequest, context: RequestContext) -> SyncGroupResponse | DelayedResponse:
    """Parked until the leader's assignment is stored."""
    if context.api_version >= _FIRST_VERSION_WITH_PROTOCOL and None in (request.protocol_type, request.protocol_name):
        return SyncGroupResponse(error_code=ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    return answer_plain(broker.groups.sync(request))
