"""Headers in front of every request and response."""

from __future__ import annotations

from ottla.protocol.message import Header, int16, int32, string


class RequestHeader(Header, versions="1-2", flexible="2+"):
    """In front of every request: what it is, how to match its response, and who sends it. v2 adds tagged
    fields (KIP-482).
    """

    request_api_key: int = int16("0+")
    request_api_version: int = int16("0+")
    correlation_id: int = int32("0+")
    client_id: str | None = string("1+", nullable="1+", flexible="none")


class ResponseHeader(Header, versions="0-1", flexible="1+"):
    """In front of every response: the request it answers. v1 adds tagged fields (KIP-482)."""

    correlation_id: int = int32("0+")
