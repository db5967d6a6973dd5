"""JoinGroup (key 11), versions 0-9: become a member of a classic group, wait for its next generation.

Version notes.  0: the session timeout serves as rebalance timeout.  1: rebalance timeout.  2: throttle time.  4: an
unknown member gets MEMBER_ID_REQUIRED and an id first (KIP-394).  5: group instance id (KIP-345).  6: flexible.  7:
protocol type in the answer (KIP-559), and no protocol name in a refusal.  8: reason (KIP-800).  9: skip_assignment
(KIP-814).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.acl import AclOperation
from ottla.protocol.messages.join_group import JoinGroupResponse
from ottla.server.broker.group_answers import answer, answer_plain

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.protocol.messages.join_group import JoinGroupRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext

_FIRST_VERSION_WITHOUT_NAME = 7


def handle(broker: Broker, request: JoinGroupRequest, context: RequestContext) -> JoinGroupResponse | DelayedResponse:
    """Parked until the generation is complete, unless it is refused.  The host gets Kafka's slash."""
    version = context.api_version
    may_describe = None
    if broker.authorizer is not None:
        from ottla.server.broker.permissions.asking import asker

        may_describe = asker(broker, context, AclOperation.DESCRIBE)
    outcome = broker.groups.join(request, version, context.client_id or "", "/" + context.client_host, may_describe)
    if version < _FIRST_VERSION_WITHOUT_NAME:
        return answer_plain(outcome)
    return answer(outcome, _without_name)


def error_response(
    request: JoinGroupRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> JoinGroupResponse:
    """A refusal of the member."""
    response = JoinGroupResponse(error_code=code, generation_id=-1)
    return response if context.api_version < _FIRST_VERSION_WITHOUT_NAME else _without_name(response)


def _without_name(response: JoinGroupResponse) -> JoinGroupResponse:
    """A refusal names no protocol: null, where older versions have an empty name."""
    if response.error_code:
        response.protocol_name = None
    return response
