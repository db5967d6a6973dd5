"""DeleteGroups, API key 42."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, Struct, array, int16, int32, string


class DeleteGroupsRequest(Request, api_key=42, versions="0-3", flexible="2+", listeners=("broker",)):
    """Deletes empty groups with their offsets."""

    groups_names: list[str] = array("string", "0+", entity="groupId")


class DeletableGroupResult(Struct):
    group_id: str = string("0+", key=True, entity="groupId")
    error_code: int = int16("0+")
    error_message: str | None = string("3+", nullable="3+", default=None, ignorable=True)


class DeleteGroupsResponse(Response, api_key=42, versions="0-3", flexible="2+"):
    """Outcome of each group."""

    throttle_time_ms: int = int32("0+")
    results: list[DeletableGroupResult] = array(DeletableGroupResult, "0+")
