"""LeaderAndIsr, API key 4."""

from __future__ import annotations

from ottla.protocol.message import Request, Response


class LeaderAndIsrRequest(Request, api_key=4, versions="none"):
    """Leader And Isr Request."""


class LeaderAndIsrResponse(Response, api_key=4, versions="none"):
    """Leader And Isr Response."""
