"""ControlledShutdown, API key 7."""

from __future__ import annotations

from ottla.protocol.message import Request, Response


class ControlledShutdownRequest(Request, api_key=7, versions="none"):
    """Controlled Shutdown Request."""


class ControlledShutdownResponse(Response, api_key=7, versions="none"):
    """Controlled Shutdown Response."""
