"""InitProducerId, API key 22."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, boolean, int16, int32, int64, string


class InitProducerIdRequest(
    Request, api_key=22, versions="0-6", flexible="2+", listeners=("broker",), latest_unstable=True
):
    """Asks for a producer id and epoch; with a transactional id it fences the earlier producer (KIP-98, KIP-360)."""

    transactional_id: str | None = string("0+", nullable="0+", entity="transactionalId")
    transaction_timeout_ms: int = int32("0+")
    producer_id: int = int64("3+", default=-1, entity="producerId")
    producer_epoch: int = int16("3+", default=-1)
    enable_2pc: bool = boolean("6+", default=False)
    keep_prepared_txn: bool = boolean("6+", default=False)


class InitProducerIdResponse(Response, api_key=22, versions="0-6", flexible="2+"):
    """Producer id and epoch; with v6 also those of a transaction that was kept (KIP-939)."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    error_code: int = int16("0+")
    producer_id: int = int64("0+", default=-1, entity="producerId")
    producer_epoch: int = int16("0+")
    ongoing_txn_producer_id: int = int64("6+", default=-1, entity="producerId")
    ongoing_txn_producer_epoch: int = int16("6+", default=-1)
