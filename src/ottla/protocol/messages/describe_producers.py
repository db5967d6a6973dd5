"""DescribeProducers, API key 61."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, Struct, array, int16, int32, int64, string


class TopicRequest(Struct):
    name: str = string("0+", key=True, entity="topicName")
    partition_indexes: list[int] = array("int32", "0+")


class DescribeProducersRequest(Request, api_key=61, versions="0", flexible="0+", listeners=("broker",)):
    """Asks for the producers that partitions hold state of (KIP-664)."""

    topics: list[TopicRequest] = array(TopicRequest, "0+")


class ProducerState(Struct):
    producer_id: int = int64("0+", entity="producerId")
    producer_epoch: int = int32("0+")
    last_sequence: int = int32("0+", default=-1)
    last_timestamp: int = int64("0+", default=-1)
    coordinator_epoch: int = int32("0+")
    current_txn_start_offset: int = int64("0+", default=-1)


class PartitionResponse(Struct):
    partition_index: int = int32("0+")
    error_code: int = int16("0+")
    error_message: str | None = string("0+", nullable="0+", default=None)
    active_producers: list[ProducerState] = array(ProducerState, "0+")


class TopicResponse(Struct):
    name: str = string("0+", entity="topicName")
    partitions: list[PartitionResponse] = array(PartitionResponse, "0+")


class DescribeProducersResponse(Response, api_key=61, versions="0", flexible="0+"):
    """Producer id, epoch, sequence and open transaction of each producer."""

    throttle_time_ms: int = int32("0+")
    topics: list[TopicResponse] = array(TopicResponse, "0+")
