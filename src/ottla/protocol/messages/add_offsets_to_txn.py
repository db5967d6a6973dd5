"""AddOffsetsToTxn, API key 25."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, int16, int32, int64, string


class AddOffsetsToTxnRequest(Request, api_key=25, versions="0-4", flexible="3+", listeners=("broker",)):
    """Makes a group's offsets part of a transaction (KIP-98)."""

    transactional_id: str = string("0+", entity="transactionalId")
    producer_id: int = int64("0+", entity="producerId")
    producer_epoch: int = int16("0+")
    group_id: str = string("0+", entity="groupId")


class AddOffsetsToTxnResponse(Response, api_key=25, versions="0-4", flexible="3+"):
    """Outcome of AddOffsetsToTxnRequest."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
