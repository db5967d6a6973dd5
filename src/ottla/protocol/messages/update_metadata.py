"""UpdateMetadata, API key 6."""

from __future__ import annotations

from ottla.protocol.message import Request, Response


class UpdateMetadataRequest(Request, api_key=6, versions="none"):
    """Spread metadata among brokers in ZooKeeper mode; removed in Kafka 4.0."""


class UpdateMetadataResponse(Response, api_key=6, versions="none"):
    """Answered UpdateMetadataRequest; removed in Kafka 4.0."""
