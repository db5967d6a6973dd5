"""DescribeTransactions, API key 65."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, Struct, array, int16, int32, int64, string


class DescribeTransactionsRequest(Request, api_key=65, versions="0", flexible="0+", listeners=("broker",)):
    """Asks a transaction coordinator for the state of transactional ids (KIP-664)."""

    transactional_ids: list[str] = array("string", "0+", entity="transactionalId")


class TopicData(Struct):
    topic: str = string("0+", key=True, entity="topicName")
    partitions: list[int] = array("int32", "0+")


class TransactionState(Struct):
    error_code: int = int16("0+")
    transactional_id: str = string("0+", entity="transactionalId")
    transaction_state: str = string("0+")
    transaction_timeout_ms: int = int32("0+")
    transaction_start_time_ms: int = int64("0+")
    producer_id: int = int64("0+", entity="producerId")
    producer_epoch: int = int16("0+")
    topics: list[TopicData] = array(TopicData, "0+")


class DescribeTransactionsResponse(Response, api_key=65, versions="0", flexible="0+"):
    """State, producer, timeout and partitions of each transaction."""

    throttle_time_ms: int = int32("0+")
    transaction_states: list[TransactionState] = array(TransactionState, "0+")
