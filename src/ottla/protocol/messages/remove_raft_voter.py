"""RemoveRaftVoter, API key 81."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, int16, int32, string, uuid


class RemoveRaftVoterRequest(Request, api_key=81, versions="0", flexible="0+", listeners=("controller", "broker")):
    """Removes a voter from the metadata quorum (KIP-853)."""

    cluster_id: str | None = string("0+", nullable="0+")
    voter_id: int = int32("0+")
    voter_directory_id: bytes = uuid("0+")


class RemoveRaftVoterResponse(Response, api_key=81, versions="0", flexible="0+"):
    """Outcome of RemoveRaftVoterRequest."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+", ignorable=True)
