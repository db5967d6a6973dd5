"""ExpireDelegationToken, API key 40."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, binary, int16, int32, int64


class ExpireDelegationTokenRequest(
    Request, api_key=40, versions="1-2", flexible="2+", listeners=("broker", "controller")
):
    """Changes the expiry of a delegation token, or expires it at once."""

    hmac: bytes = binary("0+")
    expiry_time_period_ms: int = int64("0+")


class ExpireDelegationTokenResponse(Response, api_key=40, versions="1-2", flexible="2+"):
    """The token's new expiry."""

    error_code: int = int16("0+")
    expiry_timestamp_ms: int = int64("0+")
    throttle_time_ms: int = int32("0+")
