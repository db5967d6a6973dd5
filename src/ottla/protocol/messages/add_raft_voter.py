"""AddRaftVoter, API key 80."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, Struct, array, boolean, int16, int32, string, uint16, uuid


class Listener(Struct):
    name: str = string("0+", key=True)
    host: str = string("0+")
    port: int = uint16("0+")


class AddRaftVoterRequest(Request, api_key=80, versions="0-1", flexible="0+", listeners=("controller", "broker")):
    """Adds a voter to the metadata quorum (KIP-853)."""

    cluster_id: str | None = string("0+", nullable="0+")
    timeout_ms: int = int32("0+")
    voter_id: int = int32("0+")
    voter_directory_id: bytes = uuid("0+")
    listeners: list[Listener] = array(Listener, "0+")
    ack_when_committed: bool = boolean("1+", default=True)


class AddRaftVoterResponse(Response, api_key=80, versions="0-1", flexible="0+"):
    """Outcome of AddRaftVoterRequest."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+", ignorable=True)
