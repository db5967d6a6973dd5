"""Between a producer and the model cluster: connections that delay, break and deliver late, and moving leaders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from ottla.client.errors import ConnectionFailedError, KafkaTimeoutError
from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
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
from tests.client.producer.model_broker import ModelCluster

NODES = 3
NOT_NOW = (
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.CONCURRENT_TRANSACTIONS,
)


class Connection:
    """In order, as TCP is. When it breaks, what had left may still arrive, some of it much later."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._last = 0.0
        self._waiting: list[tuple[asyncio.Future[Any], asyncio.TimerHandle, Callable[[], Any]]] = []
        self._open: list[asyncio.Future[Any]] = []
        self.is_broken = False

    def send(self, carry_out: Callable[[], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        self._last = max(self._last, loop.time() + self._dice.uniform(0.001, 0.02))
        answer: asyncio.Future[Any] = loop.create_future()

        def arrive() -> None:
            self._waiting[:] = [waiting for waiting in self._waiting if waiting[0] is not answer]
            result = carry_out()
            loop.call_later(self._dice.uniform(0.001, 0.02), finish, result)

        def finish(result: Any) -> None:
            if not answer.done() and not self.is_broken:
                answer.set_result(result)

        self._waiting.append((answer, loop.call_at(self._last, arrive), carry_out))
        self._open.append(answer)
        return answer

    def break_down(self) -> None:
        """Everything without an answer fails; a first part of what was under way arrives nevertheless."""
        if self.is_broken:
            return
        self.is_broken = True
        loop = asyncio.get_running_loop()
        arriving = self._dice.randint(0, len(self._waiting))
        delay = self._dice.choice((0.0, 0.05, 3.0, 20.0))
        for place, (_, timer, carry_out) in enumerate(self._waiting):
            when = timer.when() + delay
            timer.cancel()
            if place < arriving:
                loop.call_at(when, carry_out)
        for answer in self._open:
            if not answer.done():
                answer.set_exception(ConnectionFailedError("the connection broke"))
                answer.exception()


class ModelNetwork:
    """One client's way to the cluster; also what `TransactionRequests` takes for a cluster. `trouble`: 0 to 1."""

    def __init__(self, cluster: ModelCluster, dice: Random) -> None:
        self.cluster = cluster
        self.dice = dice
        self.trouble = 0.0
        self.leaders: dict[TopicPartition, int] = {}
        self._connections: dict[int, Connection] = {}

    def _connection(self, node: int) -> Connection:
        found = self._connections.get(node)
        if found is None or found.is_broken:
            found = self._connections[node] = Connection(self.dice)
        return found

    def send(self, node: int, carry_out: Callable[[], Any]) -> asyncio.Future[Any]:
        connection = self._connection(node)
        answer = connection.send(carry_out)
        if self.dice.random() < self.trouble:
            asyncio.get_running_loop().call_later(self.dice.uniform(0, 0.05), connection.break_down)
        return answer

    # As a cluster

    def now_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def finalized_feature(self, name: str) -> int:
        return self.cluster.version if name == "transaction.version" else 0

    async def any_node(self, timeout_ms: int) -> int:
        return self.dice.randrange(NODES)

    async def coordinator(self, key_type: int, key: str, timeout_ms: int) -> int:
        await asyncio.sleep(self.dice.uniform(0, 0.01))
        if self.dice.random() < self.trouble:
            raise KafkaTimeoutError("no coordinator was found")
        return self.dice.randrange(NODES) if self.dice.random() < self.trouble else 0

    def forget_coordinator(self, key_type: int, key: str) -> None:
        pass

    async def request(self, node_id: int, request: Request, **_: object) -> Response:
        answer: Response = await self.send(node_id, lambda: self._carry_out(request))
        return answer

    def _carry_out(self, request: Request) -> Response:
        """At the broker. Trouble comes before the deed, or (an answer that says less than happened) after it."""
        before = self.dice.choice(NOT_NOW) if self.dice.random() < self.trouble else None
        after = ErrorCode.COORDINATOR_NOT_AVAILABLE if self.dice.random() < self.trouble / 3 else None
        cluster = self.cluster
        if isinstance(request, InitProducerIdRequest):
            producer = request.producer_id, request.producer_epoch
            if before is not None:
                return InitProducerIdResponse(error_code=before)
            code, producer_id, epoch = cluster.init(request.transactional_id, producer, 60_000)
            return InitProducerIdResponse(error_code=after or code, producer_id=producer_id, producer_epoch=epoch)
        if isinstance(request, AddPartitionsToTxnRequest):
            producer = request.v3_and_below_producer_id, request.v3_and_below_producer_epoch
            tps = {TopicPartition(t.name, p) for t in request.v3_and_below_topics for p in t.partitions}
            code = before or cluster.add(request.v3_and_below_transactional_id, producer, partitions=tps)
            return _added(tps, after or code)
        producer = request.producer_id, request.producer_epoch  # type: ignore[attr-defined]
        if isinstance(request, AddOffsetsToTxnRequest):
            code = before or cluster.add(request.transactional_id, producer, group=request.group_id)
            return AddOffsetsToTxnResponse(error_code=after or code)
        if isinstance(request, TxnOffsetCommitRequest):
            positions = {
                TopicPartition(t.name, p.partition_index): p.committed_offset
                for t in request.topics
                for p in t.partitions
            }
            code = before or cluster.commit_offsets(request.transactional_id, producer, request.group_id, positions)
            return _committed(positions, after or code)
        assert isinstance(request, EndTxnRequest)
        if before is not None:
            return EndTxnResponse(error_code=before)
        code, producer_id, epoch = cluster.end(request.transactional_id, producer, request.committed)
        code = after or code
        if code != ErrorCode.NONE:
            return EndTxnResponse(error_code=code)
        return EndTxnResponse(producer_id=producer_id, producer_epoch=epoch)


def _added(tps: set[TopicPartition], code: int) -> AddPartitionsToTxnResponse:
    return AddPartitionsToTxnResponse(
        results_by_topic_v3_and_below=[
            AddPartitionsToTxnTopicResult(
                name=tp.topic,
                results_by_partition=[
                    AddPartitionsToTxnPartitionResult(partition_index=tp.partition, partition_error_code=code)
                ],
            )
            for tp in tps
        ]
    )


def _committed(positions: dict[TopicPartition, int], code: int) -> TxnOffsetCommitResponse:
    return TxnOffsetCommitResponse(
        topics=[
            TxnOffsetCommitResponseTopic(
                name=tp.topic,
                partitions=[TxnOffsetCommitResponsePartition(partition_index=tp.partition, error_code=code)],
            )
            for tp in positions
        ]
    )
