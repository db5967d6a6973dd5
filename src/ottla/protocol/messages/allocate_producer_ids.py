"""AllocateProducerIds, API key 67."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, int16, int32, int64


class AllocateProducerIdsRequest(Request, api_key=67, versions="0", flexible="0+", listeners=("controller",)):
    """A broker asks the controller for a block of producer ids (KIP-730)."""

    broker_id: int = int32("0+", entity="brokerId")
    broker_epoch: int = int64("0+", default=-1)


class AllocateProducerIdsResponse(Response, api_key=67, versions="0", flexible="0+"):
    """First id and length of the block."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    producer_id_start: int = int64("0+", entity="producerId")
    producer_id_len: int = int32("0+")
