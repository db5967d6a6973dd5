"""Producers, idempotent and with transactions in both of Kafka's protocols, and what they know they wrote."""

from __future__ import annotations

from dataclasses import dataclass, field

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
)
from ottla.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from ottla.records.compression import Codec
from ottla.records.record import Record, build_batch
from tests.simulation.workloads.client import RETRIABLE, BrokenError, Client

TopicPartition = tuple[str, int]
Content = tuple[bytes | None, bytes | None]
"""Key and value."""

FENCED = frozenset(
    {
        ErrorCode.PRODUCER_FENCED,
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.INVALID_PRODUCER_ID_MAPPING,
        ErrorCode.TRANSACTION_COORDINATOR_FENCED,
    }
)


class FencedError(Exception):
    """Somebody else is the producer of this transactional id now: this one must never write again."""


class AbortableError(Exception):
    """The transaction can only be aborted."""


@dataclass(eq=False)
class Transaction:
    """What is known of one. `outcome`: True committed, False aborted, None: nobody who knows has told."""

    name: str
    outcome: bool | None = None
    written: dict[TopicPartition, dict[int, Content]] = field(default_factory=dict)


@dataclass
class Ledger:
    """Everything the producers of one simulation know. `sent`: every value anybody tried to write, with its key."""

    transactions: list[Transaction] = field(default_factory=list)
    plain: dict[TopicPartition, dict[int, Content]] = field(default_factory=dict)
    sent: dict[TopicPartition, set[Content]] = field(default_factory=dict)


class IdempotentProducer:
    """Writes batches, each again and again until it is acknowledged; no batch may appear twice."""

    def __init__(self, client: Client, ledger: Ledger) -> None:
        self.client = client
        self.ledger = ledger
        self.producer_id = -1
        self.producer_epoch = -1
        self.sequences: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000)
        while (response := await self.client.insist(request, 4, InitProducerIdResponse)).error_code in RETRIABLE:
            await self.client.back_off()
        assert response.error_code == ErrorCode.NONE, response
        self.producer_id, self.producer_epoch, self.sequences = response.producer_id, response.producer_epoch, {}

    async def write(self, topic: str, partition: int, contents: list[Content]) -> int:
        """One batch; its base offset."""
        place = (topic, partition)
        self.ledger.sent.setdefault(place, set()).update(contents)
        request = self._request(topic, partition, contents)
        while True:
            try:
                response = await self.client.ask(request, 11, ProduceResponse)
            except BrokenError:
                await self.client.back_off()
                continue
            answer = response.responses[0].partition_responses[0]
            if answer.error_code == ErrorCode.NONE:
                break
            if answer.error_code not in RETRIABLE:
                # The broker has lost what this producer wrote last.
                assert self.client.cluster.may_lose, ErrorCode(answer.error_code)
                await self.start()
                request = self._request(topic, partition, contents)
            await self.client.back_off()
        self.sequences[place] = self.sequences.get(place, 0) + len(contents)
        known = self.ledger.plain.setdefault(place, {})
        _note(self.client, known, answer.base_offset, contents, place)
        return answer.base_offset

    def _request(self, topic: str, partition: int, contents: list[Content]) -> ProduceRequest:
        batch = self.batch(topic, partition, contents, transactional=False)
        return produce_request(None, topic, partition, batch)

    def batch(
        self,
        topic: str,
        partition: int,
        contents: list[Content],
        *,
        transactional: bool,
        compression: int | None = None,
    ) -> bytes:
        """The next batch, compressed in one way or another."""
        now_ms = self.client.cluster.now_ms()
        return bytes(
            build_batch(
                [Record(timestamp_ms=now_ms, key=key, value=value) for key, value in contents],
                compression=self.client.random.choice(list(Codec)) if compression is None else compression,
                producer_id=self.producer_id,
                producer_epoch=self.producer_epoch,
                base_sequence=self.sequences.get((topic, partition), 0),
                transactional=transactional,
            )
        )


class TransactionalProducer(IdempotentProducer):
    """One instance of a transactional id, with transactions v1 or v2 (KIP-890)."""

    def __init__(self, client: Client, ledger: Ledger, transactional_id: str, *, timeout_ms: int, v2: bool) -> None:
        super().__init__(client, ledger)
        self.transactional_id = transactional_id
        self.timeout_ms = timeout_ms
        self.v2 = v2
        self.transaction: Transaction | None = None
        self.has_begun = False
        self._partitions: set[TopicPartition] = set()
        self._groups: set[str] = set()
        self._count = 0

    async def start(self) -> None:
        """Fence whoever was here before, and end what it left open."""
        await self._initialize(-1, -1)

    async def _initialize(self, producer_id: int, producer_epoch: int) -> None:
        request = InitProducerIdRequest(
            transactional_id=self.transactional_id,
            transaction_timeout_ms=self.timeout_ms,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
        )
        while True:
            response = await self.client.insist(request, 5 if self.v2 else 4, InitProducerIdResponse)
            code = ErrorCode(response.error_code)
            if code is ErrorCode.NONE:
                break
            if code in FENCED:
                raise FencedError(code.name)
            assert code in RETRIABLE, code
            await self.client.back_off()
        self.producer_id, self.producer_epoch, self.sequences = response.producer_id, response.producer_epoch, {}

    def begin(self) -> Transaction:
        assert self.transaction is None
        self._count += 1
        self.has_begun = False
        self._partitions, self._groups = set(), set()
        name = f"{self.transactional_id} {self.producer_id}/{self.producer_epoch} #{self._count}"
        self.transaction = Transaction(name)
        self.ledger.transactions.append(self.transaction)
        return self.transaction

    async def write(self, topic: str, partition: int, contents: list[Content]) -> int:
        assert self.transaction is not None
        place = (topic, partition)
        self.ledger.sent.setdefault(place, set()).update(contents)
        if not self.v2 and place not in self._partitions:
            await self._add_partition(topic, partition)
        self._partitions.add(place)
        batch = self.batch(topic, partition, contents, transactional=True)
        request = produce_request(self.transactional_id, topic, partition, batch)
        self.has_begun = True
        while True:
            try:
                response = await self.client.ask(request, 12 if self.v2 else 11, ProduceResponse)
            except BrokenError:
                await self.client.back_off()
                continue
            answer = response.responses[0].partition_responses[0]
            code = ErrorCode(answer.error_code)
            if code is ErrorCode.NONE:
                break
            if code not in RETRIABLE:
                # A refused epoch included: only the coordinator can say whether somebody else is here.
                raise AbortableError(code.name)
            await self.client.back_off()
        self.sequences[place] = self.sequences.get(place, 0) + len(contents)
        known = self.transaction.written.setdefault(place, {})
        _note(self.client, known, answer.base_offset, contents, place)
        return answer.base_offset

    async def _add_partition(self, topic: str, partition: int) -> None:
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.producer_epoch,
            v3_and_below_topics=[AddPartitionsToTxnTopic(name=topic, partitions=[partition])],
        )
        self.has_begun = True
        while True:
            response = await self.client.insist(request, 3, AddPartitionsToTxnResponse)
            [result] = response.results_by_topic_v3_and_below[0].results_by_partition
            if await self._is_done(ErrorCode(result.partition_error_code)):
                return

    async def commit_offsets(
        self, group_id: str, member_id: str, epoch: int, offsets: dict[TopicPartition, int]
    ) -> None:
        """Make the group's position a part of the transaction."""
        if not self.v2 and group_id not in self._groups:
            adding = AddOffsetsToTxnRequest(
                transactional_id=self.transactional_id,
                producer_id=self.producer_id,
                producer_epoch=self.producer_epoch,
                group_id=group_id,
            )
            self.has_begun = True
            while not await self._is_done(
                ErrorCode((await self.client.insist(adding, 3, AddOffsetsToTxnResponse)).error_code)
            ):
                pass
        self._groups.add(group_id)
        self.has_begun = True
        request = TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=group_id,
            producer_id=self.producer_id,
            producer_epoch=self.producer_epoch,
            generation_id_or_member_epoch=epoch,
            member_id=member_id,
            topics=[
                TxnOffsetCommitRequestTopic(
                    name=topic,
                    partitions=[
                        TxnOffsetCommitRequestPartition(
                            partition_index=partition, committed_offset=offset, committed_metadata=None
                        )
                    ],
                )
                for (topic, partition), offset in offsets.items()
            ],
        )
        while True:
            response = await self.client.insist(request, 5 if self.v2 else 3, TxnOffsetCommitResponse)
            codes = {ErrorCode(answer.error_code) for topic in response.topics for answer in topic.partitions}
            if codes == {ErrorCode.NONE}:
                return
            for code in codes - {ErrorCode.NONE}:
                await self._is_done(code)

    async def _is_done(self, code: ErrorCode) -> bool:
        if code is ErrorCode.NONE:
            return True
        if code in FENCED:
            raise FencedError(code.name)
        if code not in RETRIABLE:
            raise AbortableError(code.name)
        await self.client.back_off()
        return False

    async def end(self, *, is_commit: bool) -> None:
        """Commit or abort; AbortableError and FencedError leave the outcome to whoever comes next."""
        transaction = self.transaction
        assert transaction is not None
        if not self.has_begun:
            transaction.outcome, self.transaction = False, None
            return
        request = EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=self.producer_id,
            producer_epoch=self.producer_epoch,
            committed=is_commit,
        )
        while True:
            response = await self.client.insist(request, 5 if self.v2 else 4, EndTxnResponse)
            code = ErrorCode(response.error_code)
            if not is_commit and not self.v2 and code is ErrorCode.INVALID_TXN_STATE and not transaction.written:
                break  # its partitions never arrived
            if await self._is_done(code):
                break
        transaction.outcome, self.transaction = is_commit, None
        if self.v2:
            self.producer_id, self.producer_epoch, self.sequences = response.producer_id, response.producer_epoch, {}

    async def recover(self) -> None:
        """Abort after an error, and go on with an epoch in which nothing that is still on its way can count."""
        await self.end(is_commit=False)
        if not self.v2:
            await self._initialize(self.producer_id, self.producer_epoch)


def _note(
    client: Client, known: dict[int, Content], base_offset: int, contents: list[Content], place: TopicPartition
) -> None:
    for index, content in enumerate(contents):
        other = known.setdefault(base_offset + index, content)
        if other != content:
            client.cluster.fail_promise(
                f"{place}: offset {base_offset + index} was acknowledged for {other} and {content}"
            )


def produce_request(transactional_id: str | None, topic: str, partition: int, batch: bytes) -> ProduceRequest:
    data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=partition, records=batch)])
    return ProduceRequest(transactional_id=transactional_id, acks=-1, timeout_ms=30_000, topic_data=[data])
