"""A producer state and somebody who answers its requests by hand."""

from __future__ import annotations

from ottla.client.producer.transaction_messages import Kind, PendingRequest
from ottla.client.producer.transactions import ProducerState
from ottla.core.ids import TopicPartition
from ottla.protocol.message import Response
from ottla.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnResponse
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopicResult,
)
from ottla.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

A = TopicPartition("a", 0)
B = TopicPartition("b", 0)


class Batch:
    """A batch of `records_count` records that goes nowhere."""

    def __init__(self, tp: TopicPartition = A, records_count: int = 1) -> None:
        self.tp = tp
        self.records_count = records_count
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1
        self.transactional = False

    def restamp(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self.producer_id, self.producer_epoch, self.base_sequence = producer_id, producer_epoch, base_sequence

    @property
    def numbers(self) -> tuple[int, int, int]:
        return self.producer_id, self.producer_epoch, self.base_sequence


class Talk:
    """`version` of transactions; the producer id is 7, and the epochs are the coordinator's."""

    def __init__(self, transactional_id: str | None = "id", *, version: int = 2, **options: object) -> None:
        self.state = ProducerState(transactional_id, backoff=lambda attempt: 100 * 2**attempt, **options)  # type: ignore[arg-type]
        self.state.learn_transaction_version(version)
        self.version = version
        self.epoch = -1
        self.now_ms = 1000
        self.asked: list[Kind] = []

    def ready(self) -> Talk:
        """The state of a producer that may begin, or send when it is not transactional."""
        if self.state.is_transactional:
            completion = self.state.init_transactions()
            self.answer()
            assert completion.done
        else:
            assert not self.state.may_send(A)
            self.answer()
            assert self.state.may_send(A)
        return self

    def in_transaction(self, *partitions: TopicPartition) -> Talk:
        self.ready()
        self.state.begin()
        for tp in partitions:
            self.state.record_appended(tp)
            self.state.may_send(tp)
        if partitions and self.version == 1:
            self.answer()
        return self

    def send(self, tp: TopicPartition = A, records_count: int = 1) -> Batch:
        assert self.state.may_send(tp)
        assert not self.state.must_hold_back(tp)
        batch = Batch(tp, records_count)
        self.state.stamp(batch)
        self.state.check_invariants()
        return batch

    def pending(self) -> PendingRequest:
        found = self.state.next_request(self.now_ms)
        assert found is not None, "nothing to ask"
        self.asked.append(found.kind)
        return found

    def answer(self, code: int = 0, *, pending: PendingRequest | None = None) -> bool:
        """Answer the request that is needed, with an error code where there is one."""
        pending = pending or self.pending()
        moved = self.state.answered(pending, self.response(pending, code), self.now_ms)
        self.state.check_invariants()
        return moved

    def response(self, pending: PendingRequest, code: int) -> Response:
        request = pending.request
        if isinstance(request, InitProducerIdRequest):
            if code:
                return InitProducerIdResponse(error_code=code)
            self.epoch += 1
            return InitProducerIdResponse(producer_id=7, producer_epoch=self.epoch)
        if isinstance(request, AddPartitionsToTxnRequest):
            return added({TopicPartition(t.name, p): code for t in request.v3_and_below_topics for p in t.partitions})
        if isinstance(request, TxnOffsetCommitRequest):
            return committed(
                {TopicPartition(t.name, p.partition_index): code for t in request.topics for p in t.partitions}
            )
        if isinstance(request, EndTxnRequest):
            if code or pending.max_version != 5:
                return EndTxnResponse(error_code=code)
            self.epoch += 1
            return EndTxnResponse(producer_id=7, producer_epoch=self.epoch)
        return AddOffsetsToTxnResponse(error_code=code)


def added(codes: dict[TopicPartition, int]) -> AddPartitionsToTxnResponse:
    return AddPartitionsToTxnResponse(
        results_by_topic_v3_and_below=[
            AddPartitionsToTxnTopicResult(
                name=tp.topic,
                results_by_partition=[
                    AddPartitionsToTxnPartitionResult(partition_index=tp.partition, partition_error_code=code)
                ],
            )
            for tp, code in codes.items()
        ]
    )


def committed(codes: dict[TopicPartition, int]) -> TxnOffsetCommitResponse:
    return TxnOffsetCommitResponse(
        topics=[
            TxnOffsetCommitResponseTopic(
                name=tp.topic,
                partitions=[TxnOffsetCommitResponsePartition(partition_index=tp.partition, error_code=code)],
            )
            for tp, code in codes.items()
        ]
    )
