"""StopReplica, API key 5."""

from __future__ import annotations

from ottla.protocol.message import Request, Response


class StopReplicaRequest(Request, api_key=5, versions="none"):
    """Stop Replica Request."""


class StopReplicaResponse(Response, api_key=5, versions="none"):
    """Stop Replica Response."""
