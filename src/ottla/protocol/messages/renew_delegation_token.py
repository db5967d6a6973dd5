"""RenewDelegationToken, API key 39."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, binary, int16, int32, int64


class RenewDelegationTokenRequest(
    Request, api_key=39, versions="1-2", flexible="2+", listeners=("broker", "controller")
):
    """Prolongs a delegation token."""

    hmac: bytes = binary("0+")
    renew_period_ms: int = int64("0+")


class RenewDelegationTokenResponse(Response, api_key=39, versions="1-2", flexible="2+"):
    """The token's new expiry."""

    error_code: int = int16("0+")
    expiry_timestamp_ms: int = int64("0+")
    throttle_time_ms: int = int32("0+")
