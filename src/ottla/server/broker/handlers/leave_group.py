"""LeaveGroup (key 13), versions 0-5: members leave a classic group, or an administrator removes static ones.

Version notes.  0-2: one member, a top-level error.  1: throttle time.  3: several members, by member id or instance
id (KIP-345). 4: flexible.  5: reason (KIP-800).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.leave_group import LeaveGroupResponse, MemberIdentity
from ottla.server.broker.group_answers import answer, answer_plain

if TYPE_CHECKING:
    from ottla.protocol.messages.leave_group import LeaveGroupRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext

_FIRST_VERSION_WITH_MEMBERS = 3


def handle(broker: Broker, request: LeaveGroupRequest, context: RequestContext) -> LeaveGroupResponse | DelayedResponse:
    """Answered at once where the departure needs no record to be committed first."""
    if context.api_version >= _FIRST_VERSION_WITH_MEMBERS:
        return answer_plain(broker.groups.leave(request))
    request.members = [MemberIdentity(member_id=request.member_id)]
    return answer(broker.groups.leave(request), _single)


def _single(response: LeaveGroupResponse) -> LeaveGroupResponse:
    """The one member's error as the top-level one."""
    if response.error_code or not response.members:
        return LeaveGroupResponse(error_code=response.error_code)
    return LeaveGroupResponse(error_code=response.members[0].error_code)
