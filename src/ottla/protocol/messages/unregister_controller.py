"""UnregisterController, API key 94."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, int16, int32, string


class UnregisterControllerRequest(Request, api_key=94, versions="0", flexible="0+", listeners=("broker", "controller")):
    """Removes the registration of a controller (Kafka 4.4)."""

    controller_id: int = int32("0+")


class UnregisterControllerResponse(Response, api_key=94, versions="0", flexible="0+"):
    """Outcome of UnregisterControllerRequest."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+")
