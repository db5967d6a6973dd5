"""DescribeGroups (key 15), versions 0-6: state, members and assignments of classic groups.

Version notes.  1: throttle time.  3: authorized operations (KIP-430).  4: group instance id.  5: flexible.  6: an
absent group is GROUP_ID_NOT_FOUND with a message; before, it is described as Dead without an error (KIP-1043).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.describe_groups import DescribedGroup, DescribeGroupsResponse
from ottla.server.broker.group_answers import ALL_GROUP_OPERATIONS

if TYPE_CHECKING:
    from ottla.protocol.messages.describe_groups import DescribeGroupsRequest
    from ottla.server.broker.broker import Broker, RequestContext

_FIRST_VERSION_WITH_NOT_FOUND = 6


def handle(broker: Broker, request: DescribeGroupsRequest, context: RequestContext) -> DescribeGroupsResponse:
    """One entry per asked group, in the order asked."""
    groups = []
    for group_id in request.groups:
        described = _describe(broker, group_id, context.api_version)
        if request.include_authorized_operations and described.error_code == ErrorCode.NONE:
            described.authorized_operations = ALL_GROUP_OPERATIONS
        groups.append(described)
    return DescribeGroupsResponse(groups=groups)


def _describe(broker: Broker, group_id: str, version: int) -> DescribedGroup:
    try:
        described = broker.groups.describe_group(group_id)
    except ApiError as error:
        return DescribedGroup(group_id=group_id, error_code=error.code)
    if described is not None:
        return described
    if version < _FIRST_VERSION_WITH_NOT_FOUND:
        return DescribedGroup(group_id=group_id, group_state="Dead")
    return DescribedGroup(
        group_id=group_id,
        group_state="Dead",
        error_code=ErrorCode.GROUP_ID_NOT_FOUND,
        error_message=f"Group {group_id} not found.",
    )
