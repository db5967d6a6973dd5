"""The smallest sender that keeps to `ProducerState`'s rules, over the model network."""

from __future__ import annotations

import asyncio
from collections import deque
from random import Random
from typing import Any

from ottla.client.errors import ConnectionFailedError, KafkaError, KafkaTimeoutError
from ottla.client.producer.completion import Completion
from ottla.client.producer.transaction_requests import TransactionRequests
from ottla.client.producer.transactions import ProducerState
from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from tests.client.producer.model_network import NODES, ModelNetwork

REFUSED_FOR_NOW = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_ENOUGH_REPLICAS)


class Batch:
    """What `SequencedBatch` asks for, and who waits."""

    def __init__(self, tp: TopicPartition, number: int, expires_at: float) -> None:
        self.tp = tp
        self.number = number
        self.values: list[str] = []
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1
        self.transactional = False
        self.expires_at = expires_at
        self.retry_at = 0.0
        self.outcome = ""
        """ "acknowledged", "failed", or nothing yet."""
        self.was_sent = False
        self.on_wire = False

    @property
    def records_count(self) -> int:
        return len(self.values)

    def restamp(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        assert not self.on_wire
        self.producer_id, self.producer_epoch, self.base_sequence = producer_id, producer_epoch, base_sequence


class MiniProducer:
    """One producer. `delivery_timeout` in seconds; `refusals`: how likely a batch is refused for good."""

    def __init__(
        self,
        network: ModelNetwork,
        dice: Random,
        transactional_id: str | None = None,
        *,
        delivery_timeout: float = 30.0,
        refusals: float = 0.0,
        max_batch: int = 4,
    ) -> None:
        self.network = network
        self.dice = dice
        self.delivery_timeout = delivery_timeout
        self.refusals = refusals
        self.max_batch = max_batch
        self.state = ProducerState(transactional_id, backoff=lambda attempt: min(20 * 2**attempt, 1000))
        self.requests = TransactionRequests(network, self.state, on_progress=self.pump)
        self.queues: dict[TopicPartition, deque[Batch]] = {}
        self.batches: list[Batch] = []
        self._number = 0
        self._pump_at: asyncio.TimerHandle | None = None

    def send(self, tp: TopicPartition, value: str) -> Batch:
        self.state.record_appended(tp)
        queue = self.queues.setdefault(tp, deque())
        if not queue or queue[-1].base_sequence >= 0 or len(queue[-1].values) >= self.max_batch:
            self._number += 1
            queue.append(Batch(tp, self._number, asyncio.get_running_loop().time() + self.delivery_timeout))
            self.batches.append(queue[-1])
        queue[-1].values.append(value)
        asyncio.get_running_loop().call_later(self.dice.choice((0, 0.003, 0.01)), self.pump)
        return queue[-1]

    async def flush(self) -> None:
        while any(not batch.outcome for batch in self.batches):
            self.pump()
            await asyncio.sleep(0.02)

    async def wait(self, completion: Completion, timeout_ms: int | None = None) -> None:
        await self.requests.wait(completion, timeout_ms)

    def pump(self) -> None:
        now = asyncio.get_running_loop().time()
        for batch in self.batches:
            if not batch.outcome and now >= batch.expires_at:
                self._expire(batch)
        refusal = self.state.refusal()
        for tp, queue in self.queues.items():
            if refusal is not None:
                for batch in queue:
                    self.state.drop(batch)
                    batch.outcome = "failed"
                queue.clear()
            while queue and self._may_send(tp, queue[0], now):
                self._send(queue.popleft())
        self.state.check_invariants()
        if any(self.queues.values()):
            if self._pump_at is not None:
                self._pump_at.cancel()
            self._pump_at = asyncio.get_running_loop().call_later(0.02, self.pump)

    def _may_send(self, tp: TopicPartition, batch: Batch, now: float) -> bool:
        if now < batch.retry_at or not self.state.may_send(tp):
            return False
        return self.state.may_resend(batch) if batch.base_sequence >= 0 else not self.state.must_hold_back(tp)

    def _expire(self, batch: Batch) -> None:
        if batch in self.queues[batch.tp]:
            self.queues[batch.tp].remove(batch)
        batch.outcome = "failed"
        self.state.expired(batch, KafkaTimeoutError("too late"))

    def _send(self, batch: Batch) -> None:
        self.state.stamp(batch)
        batch.was_sent = batch.on_wire = True
        tp, producer, sequence = batch.tp, (batch.producer_id, batch.producer_epoch), batch.base_sequence
        values = list(batch.values)
        refused = self.dice.random() < self.refusals

        def carry_out() -> tuple[ErrorCode, int]:
            trouble = self.network.trouble
            if self.dice.random() < trouble / 2:
                self.network.leaders[tp] = self.dice.randrange(NODES)
                return self.dice.choice(REFUSED_FOR_NOW), -1
            if refused:
                return ErrorCode.INVALID_RECORD, -1
            result = self.network.cluster.produce(tp, producer, sequence, values, self.state.transactional_id)
            if self.dice.random() < trouble / 3:
                return ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, -1
            return result

        answer = self.network.send(self.network.leaders.setdefault(tp, 0), carry_out)
        answer.add_done_callback(lambda answer: self._answered(batch, answer))

    def _answered(self, batch: Batch, answer: asyncio.Future[Any]) -> None:
        batch.on_wire = False
        error: KafkaError | None = None if answer.cancelled() else answer.exception()  # type: ignore[assignment]
        code, offset = (ErrorCode.NETWORK_EXCEPTION, -1) if error is not None else answer.result()
        assert error is None or isinstance(error, ConnectionFailedError)
        if batch.outcome:
            if code == ErrorCode.NONE:
                self.state.acknowledged(batch, offset)
        elif code == ErrorCode.NONE:
            self.state.acknowledged(batch, offset)
            batch.outcome = "acknowledged"
        else:
            verdict = self.state.failed(batch, code)
            if verdict.action == "retry":
                batch.retry_at = asyncio.get_running_loop().time() + self.dice.choice((0.01, 0.1))
                queue = self.queues[batch.tp]
                place = sum(other.number < batch.number for other in queue)
                queue.insert(place, batch)
            else:
                batch.outcome = "failed" if verdict.action == "fail" else "acknowledged"
        self.pump()

    async def close(self) -> None:
        await self.requests.close()
        for batch in self.batches:
            batch.outcome = batch.outcome or "failed"
        for queue in self.queues.values():
            queue.clear()
