"""SaslAuthenticate, API key 36."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, binary, int16, int64, string


class SaslAuthenticateRequest(Request, api_key=36, versions="0-2", flexible="2+", listeners=("broker", "controller")):
    """Sasl Authenticate Request."""

    auth_bytes: bytes = binary("0+")


class SaslAuthenticateResponse(Response, api_key=36, versions="0-2", flexible="2+"):
    """Sasl Authenticate Response."""

    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    auth_bytes: bytes = binary("0+")
    session_lifetime_ms: int = int64("1+", default=0, ignorable=True)
