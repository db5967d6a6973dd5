"""ControlledShutdown, API key 7."""

from __future__ import annotations

from ottla.protocol.message import Request, Response


class ControlledShutdownRequest(Request, api_key=7, versions="none"):
    """Announced a broker's shutdown in ZooKeeper mode; removed in Kafka 4.0."""


class ControlledShutdownResponse(Response, api_key=7, versions="none"):
    """Answered ControlledShutdownRequest; removed in Kafka 4.0."""
