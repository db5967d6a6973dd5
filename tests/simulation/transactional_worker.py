"""Programs of a simulation that consume, transform and produce in transactions, and one that reads what they committed.

A worker is a Kafka Streams task in a few lines: input ``n`` is the number ``n``, its result is written to one of two
partitions, and the position goes along as the group's offset. It gives up now and then without a word, loses answers,
has requests that arrive long after it aborted the transaction they belong to, and a twin with the same transactional
id: whoever initializes last fences the other.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random
from typing import TypeVar

from ottla.core.errors import ErrorCode as E
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
)
from ottla.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)
from ottla.records.batch import batches, crc_matches
from ottla.records.control import read_end_transaction_marker
from ottla.records.record import Record, build_batch, read_batch_records
from tests.simulation.wire_client import WireClient

R = TypeVar("R", bound=Response)

ADDRESS = "127.0.0.1:9092"
INPUT, OUTPUT = "input", "output"
PARTITIONS = 2
GROUP = "workers"
TIMEOUT_MS = 5_000
WAIT_A_MOMENT = (
    E.COORDINATOR_LOAD_IN_PROGRESS,
    E.COORDINATOR_NOT_AVAILABLE,
    E.NOT_COORDINATOR,
    E.CONCURRENT_TRANSACTIONS,
    E.UNSTABLE_OFFSET_COMMIT,
    E.UNKNOWN_TOPIC_OR_PARTITION,
    E.NOT_ENOUGH_REPLICAS,
    E.NOT_LEADER_OR_FOLLOWER,
    E.LEADER_NOT_AVAILABLE,
)


class GaveUpError(Exception):
    """The worker can not go on: fenced, too late, or it just stops."""


class Worker:
    """One process with a transactional id. ``version`` is the transaction.version that its protocol speaks."""

    def __init__(self, random: Random, version: int) -> None:
        self.random = random
        self.version = version
        self.commits = 0
        self.fenced = 0
        self._late: list[asyncio.Future[None]] = []
        self._client: WireClient | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Work until cancelled, beginning again after each trouble."""
        while True:
            try:
                await self._live()
            except GaveUpError:
                await asyncio.sleep(self.random.expovariate(2))
            finally:
                self._disconnect()

    # One life

    async def _live(self) -> None:
        await self._find("workers-1", key_type=1)
        await self._find(GROUP, key_type=0)
        made = await self._until(
            InitProducerIdRequest(transactional_id="workers-1", transaction_timeout_ms=TIMEOUT_MS),
            4,
            InitProducerIdResponse,
            lambda response: response.error_code,
        )
        self.producer_id, self.epoch = made.producer_id, made.producer_epoch
        self.sequences = [0] * PARTITIONS
        position = await self._committed()
        while True:
            count = self.random.randint(1, 4)
            is_commit = self.random.random() < 0.8
            await self._transaction(range(position, position + count), is_commit)
            if is_commit:
                position += count
                self.commits += 1
            await asyncio.sleep(self.random.expovariate(10))

    async def _transaction(self, inputs: range, is_commit: bool) -> None:
        used = sorted({number % PARTITIONS for number in inputs})
        if self.version < 2:
            await self._add_partitions(used)
        for partition in used:
            await self._produce(partition, [number for number in inputs if number % PARTITIONS == partition])
            if self.random.random() < 0.05:
                raise GaveUpError("as if it was killed")
        await self._commit_offsets(inputs.stop)
        if self.random.random() < 0.05:
            await asyncio.sleep(TIMEOUT_MS / 1000 * 4)
        await self._end(is_commit=is_commit)

    async def _end(self, *, is_commit: bool) -> None:
        request = EndTxnRequest(
            transactional_id="workers-1",
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            committed=is_commit,
        )
        version = 5 if self.version >= 2 else 3
        ended = await self._until(request, version, EndTxnResponse, lambda response: response.error_code)
        if self.version >= 2:
            self.producer_id, self.epoch = ended.producer_id, ended.producer_epoch
            self.sequences = [0] * PARTITIONS

    async def _add_partitions(self, used: list[int]) -> None:
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id="workers-1",
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.epoch,
            v3_and_below_topics=[AddPartitionsToTxnTopic(name=OUTPUT, partitions=used)],
        )
        await self._until(
            request,
            3,
            AddPartitionsToTxnResponse,
            lambda response: response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code,
        )
        offsets = AddOffsetsToTxnRequest(
            transactional_id="workers-1",
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            group_id=GROUP,
        )
        await self._until(offsets, 3, AddOffsetsToTxnResponse, lambda response: response.error_code)

    async def _produce(self, partition: int, numbers: list[int]) -> None:
        batch = build_batch(
            [Record(timestamp_ms=1_700_000_000_000, value=b"%d" % number) for number in numbers],
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=self.sequences[partition],
            transactional=True,
        )
        data = PartitionProduceData(index=partition, records=bytes(batch))
        request = ProduceRequest(
            transactional_id="workers-1",
            acks=-1,
            timeout_ms=30_000,
            topic_data=[TopicProduceData(name=OUTPUT, partition_data=[data])],
        )
        version = 12 if self.version >= 2 else self.random.choice((9, 11))
        if self.random.random() < 0.04:
            # It is stuck somewhere, and comes when nobody waits for it any more.
            self._late.append(asyncio.ensure_future(self._send_late(request, version)))
            await self._end(is_commit=False)
            raise GaveUpError("a request takes too long")
        await self._until(
            request, version, ProduceResponse, lambda response: response.responses[0].partition_responses[0].error_code
        )
        self.sequences[partition] += len(numbers)

    async def _commit_offsets(self, position: int) -> None:
        offset = TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=position, committed_metadata="")
        request = TxnOffsetCommitRequest(
            transactional_id="workers-1",
            group_id=GROUP,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            topics=[TxnOffsetCommitRequestTopic(name=INPUT, partitions=[offset])],
        )
        version = 5 if self.version >= 2 else 3
        await self._until(
            request, version, TxnOffsetCommitResponse, lambda response: response.topics[0].partitions[0].error_code
        )

    async def _committed(self) -> int:
        asked = OffsetFetchRequestTopics(name=INPUT, partition_indexes=[0])
        request = OffsetFetchRequest(
            groups=[OffsetFetchRequestGroup(group_id=GROUP, topics=[asked])], require_stable=True
        )

        def code(response: OffsetFetchResponse) -> int:
            group = response.groups[0]
            return group.error_code or group.topics[0].partitions[0].error_code

        found = await self._until(request, 8, OffsetFetchResponse, code)
        return max(found.groups[0].topics[0].partitions[0].committed_offset, 0)

    async def _find(self, key: str, *, key_type: int) -> None:
        request = FindCoordinatorRequest(key=key, key_type=key_type)
        await self._until(request, 3, FindCoordinatorResponse, lambda response: response.error_code)

    # The wire, with its troubles

    async def _until(self, request: Request, version: int, response: type[R], code_of: object) -> R:
        """Send until there is an answer that is none of "wait a moment", again after every lost connection."""
        for _ in range(400):
            try:
                answer = await self._ask(request, version, response)
            except (OSError, asyncio.IncompleteReadError):
                self._disconnect()
                await asyncio.sleep(0.02)
                continue
            code = code_of(answer)  # type: ignore[operator]
            if code == E.NONE:
                return answer
            if code not in WAIT_A_MOMENT:
                self.fenced += code in (E.PRODUCER_FENCED, E.INVALID_PRODUCER_EPOCH)
                raise GaveUpError(f"{type(request).__name__}: {E(code).name}")
            await asyncio.sleep(0.03)
        raise GaveUpError(f"{type(request).__name__} is never answered")

    async def _ask(self, request: Request, version: int, response: type[R]) -> R:
        if self._client is None:
            reader, self._writer = await asyncio.open_connection("127.0.0.1", 9092)
            self._client = WireClient(reader, self._writer)
        if self.random.random() < 0.04:
            # The connection breaks, before or after the request has arrived.
            asked = asyncio.ensure_future(self._client.ask(request, version, response))
            await asyncio.sleep(self.random.expovariate(1 / 0.001))
            asked.cancel()
            raise ConnectionResetError
        return await self._client.ask(request, version, response)

    async def _send_late(self, request: Request, version: int) -> None:
        await asyncio.sleep(self.random.expovariate(10))
        with suppress(OSError, asyncio.IncompleteReadError):
            async with WireClient.connected(ADDRESS) as client:
                await client.ask(request, version, ProduceResponse)

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._client = self._writer = None


class Reader:
    """Reads the output as a consumer with read_committed does, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: Counter[int] = Counter()
        self.positions = [0] * PARTITIONS
        self.aborted = 0
        self._dropping: list[set[int]] = [set() for _ in range(PARTITIONS)]

    async def poll(self, client: WireClient, partition: int) -> tuple[int, int]:
        """Read what there is; (last stable offset, high watermark)."""
        while True:
            wanted = FetchPartition(
                partition=partition, fetch_offset=self.positions[partition], partition_max_bytes=20_000
            )
            request = FetchRequest(
                max_wait_ms=0,
                min_bytes=0,
                max_bytes=1_000_000,
                isolation_level=1,
                topics=[FetchTopic(topic=OUTPUT, partitions=[wanted])],
            )
            response = await client.ask(request, 12, FetchResponse)
            [data] = response.responses[0].partitions
            assert data.error_code == E.NONE, data
            records = data.records or b""
            if not records:
                return data.last_stable_offset, data.high_watermark
            pending = sorted((found.first_offset, found.producer_id) for found in data.aborted_transactions or ())
            for position, header in batches(records):
                assert crc_matches(records, position, header)
                if header.last_offset < self.positions[partition]:
                    continue
                self._batch(partition, read_batch_records(records, position, header), header, pending)
                self.positions[partition] = header.next_offset

    def _batch(self, partition: int, records: list[Record], header: object, pending: list[tuple[int, int]]) -> None:
        dropping = self._dropping[partition]
        while pending and pending[0][0] <= header.last_offset:  # type: ignore[attr-defined]
            dropping.add(pending.pop(0)[1])
        producer_id: int = header.producer_id  # type: ignore[attr-defined]
        if header.is_control:  # type: ignore[attr-defined]
            marker = read_end_transaction_marker(records[0])
            assert marker is not None
            if not marker.is_commit:
                dropping.discard(producer_id)
        elif producer_id in dropping:
            self.aborted += len(records)
        else:
            for record in records:
                number = int(record.value or b"")
                assert number % PARTITIONS == partition
                self.seen[number] += 1
                assert self.seen[number] == 1, f"input {number} has been committed twice"
