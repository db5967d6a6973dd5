"""EndTxn, API key 26."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, boolean, int16, int32, int64, string


class EndTxnRequest(Request, api_key=26, versions="0-5", flexible="3+", listeners=("broker",)):
    """Commits or aborts a transaction."""

    transactional_id: str = string("0+", entity="transactionalId")
    producer_id: int = int64("0+", entity="producerId")
    producer_epoch: int = int16("0+")
    committed: bool = boolean("0+")


class EndTxnResponse(Response, api_key=26, versions="0-5", flexible="3+"):
    """Outcome; since v5 the producer id and epoch to go on with (KIP-890)."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    producer_id: int = int64("5+", default=-1, ignorable=True, entity="producerId")
    producer_epoch: int = int16("5+", default=-1, ignorable=True)
