"""DeleteAcls (key 31), versions 1-3 (KIP-140, KIP-290): remove the ACLs that filters match.

Answered by the controller; Version notes. 2: flexible. 3: user resources. Refusals:
SECURITY_DISABLED (no authorizer), and for each filter INVALID_REQUEST (unknown codes; for all: it would be too many).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.delete_acls import (
    DeleteAclsFilterResult,
    DeleteAclsMatchingAcl,
    DeleteAclsRequest,
    DeleteAclsResponse,
)
from ottla.server.broker.authorization import tell_changes
from ottla.server.broker.broker import CloseConnectionError
from ottla.server.security.acl_filter import AclFilter, rule_text

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(broker: Broker, request: DeleteAclsRequest, context: RequestContext) -> DeleteAclsResponse:
    """Have the controller remove them."""
    filters = [
        AclFilter(
            one.resource_type_filter,
            one.resource_name_filter,
            one.pattern_type_filter,
            one.principal_filter,
            one.host_filter,
            one.operation,
            one.permission_type,
        )
        for one in request.filters
    ]
    if any(one.has_zero_codes for one in filters):
        raise CloseConnectionError("a DeleteAcls request with codes that stand for nothing")
    if broker.authorizer is None:
        raise ApiError(ErrorCode.SECURITY_DISABLED, "No Authorizer is configured.")
    removals = await broker.controller.delete_acls(filters)
    gone = dict.fromkeys(acl for removal in removals if not removal.refusal.code for acl in removal.acls)
    tell_changes(broker, context, (f"removed {rule_text(acl)}" for acl in gone))
    return DeleteAclsResponse(
        filter_results=[
            DeleteAclsFilterResult(
                error_code=removal.refusal.code,
                error_message=removal.refusal.text,
                matching_acls=[DeleteAclsMatchingAcl(**acl._asdict()) for acl in removal.acls],
            )
            for removal in removals
        ]
    )


def error_response(
    request: DeleteAclsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DeleteAclsResponse:
    """The code for each filter."""
    return DeleteAclsResponse(
        filter_results=[DeleteAclsFilterResult(error_code=code, error_message=message) for _ in request.filters]
    )
