"""SaslHandshake, API key 17."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, array, int16, string


class SaslHandshakeRequest(Request, api_key=17, versions="0-1", listeners=("broker", "controller")):
    """Sasl Handshake Request."""

    mechanism: str = string("0+")


class SaslHandshakeResponse(Response, api_key=17, versions="0-1"):
    """Sasl Handshake Response."""

    error_code: int = int16("0+")
    mechanisms: list[str] = array("string", "0+")
