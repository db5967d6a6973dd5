"""StopReplica, API key 5."""

from __future__ import annotations

from ottla.protocol.message import Request, Response


class StopReplicaRequest(Request, api_key=5, versions="none"):
    """Told brokers to stop replicas in ZooKeeper mode; removed in Kafka 4.0."""


class StopReplicaResponse(Response, api_key=5, versions="none"):
    """Answered StopReplicaRequest; removed in Kafka 4.0."""
