"""SaslHandshake, API key 17."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, array, int16, string


class SaslHandshakeRequest(Request, api_key=17, versions="0-1", listeners=("broker", "controller")):
    """Chooses a SASL mechanism; at v1 the exchange goes on in SaslAuthenticate (KIP-152)."""

    mechanism: str = string("0+")


class SaslHandshakeResponse(Response, api_key=17, versions="0-1"):
    """Whether the mechanism is enabled, and which ones are."""

    error_code: int = int16("0+")
    mechanisms: list[str] = array("string", "0+")
