"""LeaderAndIsr, API key 4."""

from __future__ import annotations

from ottla.protocol.message import Request, Response


class LeaderAndIsrRequest(Request, api_key=4, versions="none"):
    """Told brokers of leaders in ZooKeeper mode; removed in Kafka 4.0."""


class LeaderAndIsrResponse(Response, api_key=4, versions="none"):
    """Answered LeaderAndIsrRequest; removed in Kafka 4.0."""
