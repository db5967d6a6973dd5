"""DescribeGroups (key 15), versions 0-6: state, members and assignments of classic groups.

Version notes.  1: throttle time.  3: authorized operations (KIP-430).  4: group instance id.  5: flexible.  6: an
absent group is GROUP_ID_NOT_FOUND with a message; before, it is described as Dead without an error (KIP-1043).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_groups import DescribedGroup, DescribeGroupsResponse
from ottla.server.broker.group_answers import ALL_GROUP_OPERATIONS, answer_all

if TYPE_CHECKING:
    from ottla.protocol.messages.describe_groups import DescribeGroupsRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext

_FIRST_VERSION_WITH_NOT_FOUND = 6


def handle(
    broker: Broker, request: DescribeGroupsRequest, context: RequestContext
) -> DescribeGroupsResponse | DelayedResponse:
    """One entry per asked group, in the order asked, as of what is committed."""
    version = context.api_version

    def shape(outcomes: list[DescribedGroup | ErrorCode]) -> DescribeGroupsResponse:
        groups = [
            _described(group_id, outcome, version) for group_id, outcome in zip(request.groups, outcomes, strict=True)
        ]
        if request.include_authorized_operations:
            for group in groups:
                if group.error_code == ErrorCode.NONE:
                    group.authorized_operations = ALL_GROUP_OPERATIONS
        return DescribeGroupsResponse(groups=groups)

    outcomes: list[Any] = [broker.groups.describe_group(group_id) for group_id in request.groups]
    return answer_all(outcomes, shape)


def error_response(
    request: DescribeGroupsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DescribeGroupsResponse:
    """The same code for every group."""
    return DescribeGroupsResponse(
        groups=[DescribedGroup(group_id=group_id, error_code=code) for group_id in request.groups]
    )


def _described(group_id: str, outcome: DescribedGroup | ErrorCode, version: int) -> DescribedGroup:
    if isinstance(outcome, DescribedGroup):
        return outcome
    if outcome is not ErrorCode.GROUP_ID_NOT_FOUND:
        return DescribedGroup(group_id=group_id, error_code=outcome)
    if version < _FIRST_VERSION_WITH_NOT_FOUND:
        return DescribedGroup(group_id=group_id, group_state="Dead")
    return DescribedGroup(
        group_id=group_id,
        group_state="Dead",
        error_code=ErrorCode.GROUP_ID_NOT_FOUND,
        error_message=f"Group {group_id} not found.",
    )
