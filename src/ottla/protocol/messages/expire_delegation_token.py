"""ExpireDelegationToken, API key 40."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, binary, int16, int32, int64


class ExpireDelegationTokenRequest(
    Request, api_key=40, versions="1-2", flexible="2+", listeners=("broker", "controller")
):
    """Expire Delegation Token Request."""

    hmac: bytes = binary("0+")
    expiry_time_period_ms: int = int64("0+")


class ExpireDelegationTokenResponse(Response, api_key=40, versions="1-2", flexible="2+"):
    """Expire Delegation Token Response."""

    error_code: int = int16("0+")
    expiry_timestamp_ms: int = int64("0+")
    throttle_time_ms: int = int32("0+")
