"""Heartbeat, API key 12."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, int16, int32, string


class HeartbeatRequest(Request, api_key=12, versions="0-4", flexible="4+", listeners=("broker",)):
    """Keeps a classic member's session alive and learns of rebalances."""

    group_id: str = string("0+", entity="groupId")
    generation_id: int = int32("0+")
    member_id: str = string("0+")
    group_instance_id: str | None = string("3+", nullable="3+", default=None)


class HeartbeatResponse(Response, api_key=12, versions="0-4", flexible="4+"):
    """Whether the member may carry on or has to rejoin."""

    throttle_time_ms: int = int32("1+", ignorable=True)
    error_code: int = int16("0+")
