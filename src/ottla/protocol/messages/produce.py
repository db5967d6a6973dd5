"""Produce, API key 0."""

from __future__ import annotations

from ottla.core.binary import Buffer
from ottla.protocol.message import (
    Request,
    Response,
    Struct,
    array,
    int16,
    int32,
    int64,
    record_set,
    string,
    struct,
    uuid,
)


class PartitionProduceData(Struct):
    index: int = int32("0+")
    records: Buffer | None = record_set("0+", nullable="0+")


class TopicProduceData(Struct):
    name: str = string("0-12", ignorable=True, key=True, entity="topicName")
    topic_id: bytes = uuid("13+", ignorable=True, key=True)
    partition_data: list[PartitionProduceData] = array(PartitionProduceData, "0+")


class ProduceRequest(Request, api_key=0, versions="3-13", flexible="9+", listeners=("broker",)):
    """Writes record batches to partitions that this broker leads; idempotent and transactional since v3
    (KIP-98), topics by id since v13 (KIP-516).
    """

    transactional_id: str | None = string("3+", nullable="3+", default=None, entity="transactionalId")
    acks: int = int16("0+")
    timeout_ms: int = int32("0+")
    topic_data: list[TopicProduceData] = array(TopicProduceData, "0+")


class BatchIndexAndErrorMessage(Struct):
    batch_index: int = int32("8+")
    batch_index_error_message: str | None = string("8+", nullable="8+", default=None)


class LeaderIdAndEpoch(Struct):
    leader_id: int = int32("10+", default=-1, entity="brokerId")
    leader_epoch: int = int32("10+", default=-1)


class PartitionProduceResponse(Struct):
    index: int = int32("0+")
    error_code: int = int16("0+")
    base_offset: int = int64("0+")
    log_append_time_ms: int = int64("2+", default=-1, ignorable=True)
    log_start_offset: int = int64("5+", default=-1, ignorable=True)
    record_errors: list[BatchIndexAndErrorMessage] = array(BatchIndexAndErrorMessage, "8+", ignorable=True)
    error_message: str | None = string("8+", nullable="8+", default=None, ignorable=True)
    current_leader: LeaderIdAndEpoch = struct(LeaderIdAndEpoch, "10+", tag=0, tagged="10+")


class TopicProduceResponse(Struct):
    name: str = string("0-12", ignorable=True, key=True, entity="topicName")
    topic_id: bytes = uuid("13+", ignorable=True, key=True)
    partition_responses: list[PartitionProduceResponse] = array(PartitionProduceResponse, "0+")


class NodeEndpoint(Struct):
    node_id: int = int32("10+", key=True, entity="brokerId")
    host: str = string("10+")
    port: int = int32("10+")
    rack: str | None = string("10+", nullable="10+", default=None)


class ProduceResponse(Response, api_key=0, versions="3-13", flexible="9+"):
    """Base offset or error of each partition; v8 names the records refused (KIP-467), v10 the current
    leader (KIP-951).
    """

    responses: list[TopicProduceResponse] = array(TopicProduceResponse, "0+")
    throttle_time_ms: int = int32("1+", default=0, ignorable=True)
    node_endpoints: list[NodeEndpoint] = array(NodeEndpoint, "10+", tag=0, tagged="10+")
