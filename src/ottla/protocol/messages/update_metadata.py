"""UpdateMetadata, API key 6."""

from __future__ import annotations

from ottla.protocol.message import Request, Response


class UpdateMetadataRequest(Request, api_key=6, versions="none"):
    """Update Metadata Request."""


class UpdateMetadataResponse(Response, api_key=6, versions="none"):
    """Update Metadata Response."""
