"""AddPartitionsToTxn, API key 24."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, Struct, array, boolean, int16, int32, int64, string


class AddPartitionsToTxnTopic(Struct, versions="0+"):
    name: str = string("0+", key=True, entity="topicName")
    partitions: list[int] = array("int32", "0+")


class AddPartitionsToTxnTransaction(Struct):
    transactional_id: str = string("4+", key=True, entity="transactionalId")
    producer_id: int = int64("4+", entity="producerId")
    producer_epoch: int = int16("4+")
    verify_only: bool = boolean("4+", default=False)
    topics: list[AddPartitionsToTxnTopic] = array(AddPartitionsToTxnTopic, "4+")


class AddPartitionsToTxnRequest(Request, api_key=24, versions="0-5", flexible="3+", listeners=("broker",)):
    """Makes partitions part of a transaction; brokers verify several transactions in one batch since v4 (KIP-890)."""

    transactions: list[AddPartitionsToTxnTransaction] = array(AddPartitionsToTxnTransaction, "4+")
    v3_and_below_transactional_id: str = string("0-3", entity="transactionalId")
    v3_and_below_producer_id: int = int64("0-3", entity="producerId")
    v3_and_below_producer_epoch: int = int16("0-3")
    v3_and_below_topics: list[AddPartitionsToTxnTopic] = array(AddPartitionsToTxnTopic, "0-3")


class AddPartitionsToTxnPartitionResult(Struct, versions="0+"):
    partition_index: int = int32("0+", key=True)
    partition_error_code: int = int16("0+")


class AddPartitionsToTxnTopicResult(Struct, versions="0+"):
    name: str = string("0+", key=True, entity="topicName")
    results_by_partition: list[AddPartitionsToTxnPartitionResult] = array(AddPartitionsToTxnPartitionResult, "0+")


class AddPartitionsToTxnResult(Struct):
    transactional_id: str = string("4+", key=True, entity="transactionalId")
    topic_results: list[AddPartitionsToTxnTopicResult] = array(AddPartitionsToTxnTopicResult, "4+")


class AddPartitionsToTxnResponse(Response, api_key=24, versions="0-5", flexible="3+"):
    """Outcome of each partition of each transaction."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("4+", ignorable=True)
    results_by_transaction: list[AddPartitionsToTxnResult] = array(AddPartitionsToTxnResult, "4+")
    results_by_topic_v3_and_below: list[AddPartitionsToTxnTopicResult] = array(AddPartitionsToTxnTopicResult, "0-3")
