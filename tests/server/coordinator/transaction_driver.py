"""Drives a transaction shard by hand: simulated clock, records in a list, markers when the test says so."""

from __future__ import annotations

from typing import Any

from ottla.core.errors import ApiError
from ottla.core.ids import TopicPartition
from ottla.server.coordinator.result import Instant, Result
from ottla.server.coordinator.transactions.records import TransactionRecordCodec
from ottla.server.coordinator.transactions.settings import TransactionSettings
from ottla.server.coordinator.transactions.shard import NoProducerIdError, Producer, TransactionShard
from ottla.server.coordinator.transactions.state import Transaction
from ottla.server.metadata.image import MetadataImage

START_WALL_MS = 1_700_000_000_000
START_MONOTONIC_MS = 50_000
NO_PRODUCER: Producer = (-1, -1)
TIMEOUT_MS = 60_000


def partitions(*names: str) -> frozenset[TopicPartition]:
    """``t-0``, ``t-1`` …"""
    return frozenset(TopicPartition(topic, int(index)) for topic, _, index in (name.rpartition("-") for name in names))


class Driver:
    """Does what the shell does; ``log`` holds the encoded records, ``prepared`` who waits for markers."""

    def __init__(self, transaction_version: int = 2, settings: TransactionSettings | None = None) -> None:
        self.settings = settings or TransactionSettings()
        self.image = MetadataImage(features={"transaction.version": transaction_version})
        self.codec = TransactionRecordCodec()
        self.log: list[tuple[bytes, bytes | None]] = []
        self.prepared: list[str] = []
        self.elapsed_ms = 0
        self.ahead_ms = 0  # what the wall clock is ahead
        self.next_producer_id = 1000
        self.has_producer_ids = True
        self.shard = self._new_shard()

    def now(self) -> Instant:
        return Instant(START_MONOTONIC_MS + self.elapsed_ms, START_WALL_MS + self.elapsed_ms + self.ahead_ms)

    def _new_shard(self) -> TransactionShard:
        shard = TransactionShard(self.settings, self._take_producer_id, self.prepared.append, self.image)
        for offset, (key, value) in enumerate(self.log):
            decoded = self.codec.decode(key, value)
            assert decoded is not None
            shard.replay(decoded, offset, -1)
        assert not self.prepared
        shard.loaded(self.now())
        return shard

    def _take_producer_id(self) -> int:
        if not self.has_producer_ids:
            raise NoProducerIdError
        self.next_producer_id += 1
        return self.next_producer_id

    def restart(self) -> None:
        """A new shard out of the log; it says itself what is prepared."""
        self.prepared.clear()
        self.shard = self._new_shard()

    def apply(self, result: Result[Any]) -> Any:
        """Append and replay; the response."""
        for record in result.records or ():
            key, value = self.codec.encode(record)
            self.log.append((key, value))
            decoded = self.codec.decode(key, value)
            assert decoded is not None
            if record.value is not None:
                lost = {"last_producer_epoch": -1}
                if record.value_version == 0:
                    lost |= {"previous_producer_id": -1, "next_producer_id": -1, "client_version": 0}
                assert decoded.value == record.value._replace(**lost)
            self.shard.replay(record, len(self.log) - 1, -1)
        self.shard.check_invariants()
        return result.response

    def command(self, name: str, *arguments: Any, **options: Any) -> Any:
        """A command's response, or the code it is refused with."""
        try:
            return self.apply(getattr(self.shard, name)(*arguments, **options))
        except ApiError as error:
            return error.code

    # What clients do

    def init(self, key: str = "x", expected: Producer = NO_PRODUCER, timeout_ms: int = TIMEOUT_MS, **more: Any) -> Any:
        return self.command("init_producer_id", key, timeout_ms, expected, self.now(), **more)

    def add(self, producer: Producer, *names: str, key: str = "x", version: int = 2) -> Any:
        return self.command("add_partitions", key, producer, partitions(*names), version, self.now())

    def verify(self, producer: Producer, *names: str, key: str = "x") -> Any:
        return self.command("verify_partitions", key, producer, sorted(partitions(*names)))

    def end(self, producer: Producer, *, commit: bool = True, key: str = "x", version: int = 2) -> Any:
        return self.command("end_transaction", key, producer, is_commit=commit, client_version=version, now=self.now())

    # What the shell does

    def complete(self) -> list[tuple[str, Producer]]:
        """The markers of all that is prepared are written; who they were for."""
        done = []
        while self.prepared:
            key = self.prepared.pop(0)
            transaction = self.shard.transactions[key]
            producer = (transaction.producer_id, transaction.producer_epoch)
            self.apply(self.shard.complete(key, producer, self.now()))
            done.append((key, producer))
        return done

    def wait(self, milliseconds: int) -> None:
        """Time passes, timers run."""
        end_ms = self.elapsed_ms + milliseconds
        while True:
            deadline_ms = self.shard.next_deadline_ms()
            if deadline_ms is None or deadline_ms - START_MONOTONIC_MS > end_ms:
                break
            self.elapsed_ms = max(self.elapsed_ms, deadline_ms - START_MONOTONIC_MS)
            while (result := self.shard.take_due(self.now())) is not None:
                self.apply(result)
        self.elapsed_ms = end_ms

    def state(self, key: str = "x") -> str:
        return self.shard.transactions[key].state.title

    def transaction(self, key: str = "x") -> Transaction:
        return self.shard.transactions[key]

    def set_epoch(self, epoch: int, key: str = "x") -> Producer:
        """As if its epochs had been used up that far."""
        transaction = self.transaction(key)
        self.shard.transactions[key] = transaction._replace(producer_epoch=epoch)
        return transaction.producer_id, epoch
