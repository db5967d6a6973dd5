"""DeleteGroups (key 42), versions 0-3: remove Empty groups with their offsets.

Version notes.  2: flexible.  3: error message per group.

The offsets of a share group are at the share coordinator, and go first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError
from ottla.protocol.messages.delete_groups import DeletableGroupResult, DeleteGroupsResponse
from ottla.server.broker.group_answers import answer_all

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.core.errors import ErrorCode
    from ottla.protocol.messages.delete_groups import DeleteGroupsRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext
    from ottla.server.coordinator.result import Pending

_SHARE = "share"


def handle(
    broker: Broker, request: DeleteGroupsRequest, context: RequestContext
) -> DeleteGroupsResponse | DelayedResponse | Awaitable[DeleteGroupsResponse]:
    """One result per group; a name given twice counts once."""
    group_ids = list(dict.fromkeys(request.groups_names))
    if any(_is_share_group(broker, group_id) for group_id in group_ids):
        return _delete_with_share_groups(broker, group_ids)
    outcomes = [broker.groups.delete_group(group_id) for group_id in group_ids]
    return answer_all(outcomes, lambda results: DeleteGroupsResponse(results=results))


def error_response(
    request: DeleteGroupsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DeleteGroupsResponse:
    """The same code for every group."""
    group_ids = dict.fromkeys(request.groups_names)
    return DeleteGroupsResponse(
        results=[DeletableGroupResult(group_id=group_id, error_code=code) for group_id in group_ids]
    )


async def _delete_with_share_groups(broker: Broker, group_ids: list[str]) -> DeleteGroupsResponse:
    from ottla.server.coordinator.share.service import arrival

    results: list[DeletableGroupResult] = []
    for group_id in group_ids:
        outcome: DeletableGroupResult | Pending[DeletableGroupResult]
        if _is_share_group(broker, group_id):
            outcome = await broker.share_groups.delete_group(group_id)
        else:
            outcome = broker.groups.delete_group(group_id)
        results.append(await arrival(outcome))
    return DeleteGroupsResponse(results=results)


def _is_share_group(broker: Broker, group_id: str) -> bool:
    try:
        group = broker.groups.partition_of(group_id).shard.groups.get(group_id)
    except ApiError:
        return False
    return group is not None and group.group_type.value == _SHARE
