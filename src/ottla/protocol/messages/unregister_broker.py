"""UnregisterBroker, API key 64."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, int16, int32, string


class UnregisterBrokerRequest(Request, api_key=64, versions="0", flexible="0+", listeners=("broker", "controller")):
    """Removes the registration of a broker."""

    broker_id: int = int32("0+", entity="brokerId")


class UnregisterBrokerResponse(Response, api_key=64, versions="0", flexible="0+"):
    """Outcome of UnregisterBrokerRequest."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
