"""Envelope, API key 58."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, binary, int16


class EnvelopeRequest(Request, api_key=58, versions="0", flexible="0+", listeners=("controller",)):
    """Carries a client's request, with its principal and address, from a broker to the controller (KIP-590)."""

    request_data: bytes = binary("0+", zero_copy=True)
    request_principal: bytes | None = binary("0+", nullable="0+")
    client_host_address: bytes = binary("0+")


class EnvelopeResponse(Response, api_key=58, versions="0", flexible="0+"):
    """Carries the controller's response back."""

    response_data: bytes | None = binary("0+", nullable="0+", default=None, zero_copy=True)
    error_code: int = int16("0+")
