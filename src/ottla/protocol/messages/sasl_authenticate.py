"""SaslAuthenticate, API key 36."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, binary, int16, int64, string


class SaslAuthenticateRequest(Request, api_key=36, versions="0-2", flexible="2+", listeners=("broker", "controller")):
    """One step of the SASL exchange (KIP-152)."""

    auth_bytes: bytes = binary("0+")


class SaslAuthenticateResponse(Response, api_key=36, versions="0-2", flexible="2+"):
    """The server's answer to the step; session lifetime since v1 (KIP-368)."""

    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
    auth_bytes: bytes = binary("0+")
    session_lifetime_ms: int = int64("1+", default=0, ignorable=True)
