"""DescribeAcls (key 29), versions 1-3 (KIP-140, KIP-290): the ACLs that a filter matches, by resource.

Every node answers from its own picture of the cluster. Version notes. 2: flexible.
3: user resources. Refusals: SECURITY_DISABLED (no authorizer).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.describe_acls import (
    AclDescription,
    DescribeAclsRequest,
    DescribeAclsResource,
    DescribeAclsResponse,
)
from ottla.server.broker.broker import CloseConnectionError
from ottla.server.security.acl_filter import AclFilter

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


def handle(broker: Broker, request: DescribeAclsRequest, context: RequestContext) -> DescribeAclsResponse:
    """Look through the image."""
    wanted = AclFilter(
        request.resource_type_filter,
        request.resource_name_filter,
        request.pattern_type_filter,
        request.principal_filter,
        request.host_filter,
        request.operation,
        request.permission_type,
    )
    if wanted.has_zero_codes:
        raise CloseConnectionError("a DescribeAcls request with codes that stand for nothing")
    if broker.authorizer is None:
        raise ApiError(ErrorCode.SECURITY_DISABLED, "No Authorizer is configured on the broker")
    resources: dict[tuple[int, str, int], list[AclDescription]] = {}
    for acl in wanted.matching(broker.image.acls).values():
        resources.setdefault((acl.resource_type, acl.resource_name, acl.pattern_type), []).append(
            AclDescription(
                principal=acl.principal,
                host=acl.host,
                operation=acl.operation,
                permission_type=acl.permission_type,
            )
        )
    return DescribeAclsResponse(
        error_message=None,
        resources=[
            DescribeAclsResource(resource_type=resource_type, resource_name=name, pattern_type=pattern_type, acls=acls)
            for (resource_type, name, pattern_type), acls in resources.items()
        ],
    )
