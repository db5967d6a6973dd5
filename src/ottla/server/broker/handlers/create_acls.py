"""CreateAcls (key 30), versions 1-3 (KIP-140, KIP-290): add ACLs; what is there already stays as it is.

Answered by the controller; Version notes. 2: flexible. 3: user resources. Refusals:
SECURITY_DISABLED (no authorizer), and for each ACL INVALID_REQUEST, or POLICY_VIOLATION for all (too many).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.create_acls import AclCreationResult, CreateAclsRequest, CreateAclsResponse
from ottla.server.broker.authorization import CLUSTER_NAME, ResourceType, tell_changes
from ottla.server.broker.broker import CloseConnectionError
from ottla.server.controller.configs import Refusal
from ottla.server.metadata.image import AclImage
from ottla.server.security.acl_filter import rule_text

if TYPE_CHECKING:
    from ottla.protocol.messages.create_acls import AclCreation
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(broker: Broker, request: CreateAclsRequest, context: RequestContext) -> CreateAclsResponse:
    """Have the controller decide about those that can be."""
    for one in request.creations:
        if not (one.resource_type and one.resource_pattern_type and one.operation and one.permission_type):
            raise CloseConnectionError("a CreateAcls request with codes that stand for nothing")
    if broker.authorizer is None:
        raise ApiError(ErrorCode.SECURITY_DISABLED, "No Authorizer is configured.")
    refusals = [_refusal(one) for one in request.creations]
    wanted = [_acl(one) for one, refusal in zip(request.creations, refusals, strict=True) if refusal is None]
    answers = iter(await broker.controller.create_acls(wanted))
    outcomes = [refusal or next(answers) for refusal in refusals]
    made = (_acl(one) for one, outcome in zip(request.creations, outcomes, strict=True) if not outcome.code)
    tell_changes(broker, context, (f"added {rule_text(acl)}" for acl in made))
    return CreateAclsResponse(
        results=[AclCreationResult(error_code=outcome.code, error_message=outcome.text) for outcome in outcomes]
    )


def error_response(
    request: CreateAclsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> CreateAclsResponse:
    """The code for each ACL."""
    return CreateAclsResponse(
        results=[AclCreationResult(error_code=code, error_message=message) for _ in request.creations]
    )


def _refusal(one: AclCreation) -> Refusal | None:
    if one.resource_type == ResourceType.CLUSTER and one.resource_name != CLUSTER_NAME:
        return Refusal(ErrorCode.INVALID_REQUEST, f"The only valid name for the CLUSTER resource is {CLUSTER_NAME}")
    if not one.resource_name:
        return Refusal(ErrorCode.INVALID_REQUEST, "Invalid empty resource name")
    return None


def _acl(one: AclCreation) -> AclImage:
    return AclImage(
        one.resource_type,
        one.resource_name,
        one.resource_pattern_type,
        one.principal,
        one.host,
        one.operation,
        one.permission_type,
    )
