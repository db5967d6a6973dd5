"""A client that must not notice what is done to its cluster: an idempotent producer and the one member of a group."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

AWAY = frozenset(
    (
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError._MAX_POLL_EXCEEDED,
    )
)
"""What clients try again by themselves, and tell their application at most in passing."""
PATIENCE_S = 60.0
RATE = 50.0


class Witness:
    """Begins with `with`. `settings` are those of librdkafka; the topic is there, and nobody else writes to it."""

    def __init__(self, settings: dict[str, Any], topic: str, group: str, partitions: int) -> None:
        self.noticed: list[str] = []
        """Whatever an application would have to do something about."""
        self.acknowledged = 0
        self._topic, self._partitions = topic, partitions
        self._settings = {**settings, "log_level": 0, "reconnect.backoff.max.ms": 500}
        common = {**self._settings, "error_cb": self._on_error}
        self._producer = Producer({**common, "enable.idempotence": True, "linger.ms": 5})
        self._consumer = Consumer(
            {**common, "group.id": group, "auto.offset.reset": "earliest", "session.timeout.ms": 6000}
        )
        self._sent = 0
        self._read: set[int] = set()
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._produce), threading.Thread(target=self._consume)]

    def __enter__(self) -> Witness:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def has_noticed_nothing(self) -> None:
        """It goes on at this moment, and nothing was wrong until now. AssertionError."""
        sent = self._sent
        deadline = time.monotonic() + PATIENCE_S
        while self.acknowledged < sent or len(self._read) < sent:
            told = f"{sent} sent, {self.acknowledged} acknowledged, {len(self._read)} read: {self.noticed}"
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
        assert not self.noticed, self.noticed

    def end(self) -> None:
        """No more; each record must be there once, in order. AssertionError."""
        self.__exit__()
        self.has_noticed_nothing()
        found = self._all()
        for numbers in found.values():
            assert numbers == sorted(set(numbers)), numbers
        assert sum(map(len, found.values())) == self._sent, self._sent

    def _on_error(self, error: KafkaError) -> None:
        if error.code() not in AWAY:
            self.noticed.append(str(error))

    def _on_delivery(self, error: KafkaError | None, _: Any) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.noticed.append(f"not delivered: {error}")

    def _produce(self) -> None:
        while not self._is_over.wait(1 / RATE):
            number = self._sent
            self._producer.produce(
                self._topic, b"%d" % number, partition=number % self._partitions, on_delivery=self._on_delivery
            )
            self._sent += 1
            self._producer.poll(0)
        self._producer.flush(PATIENCE_S)

    def _consume(self) -> None:
        self._consumer.subscribe([self._topic])
        while not self._is_over.is_set() or len(self._read) < self._sent:
            for message in self._consumer.consume(500, 0.2):
                if (error := message.error()) is None:
                    self._read.add(int(message.value() or b""))
                elif error.code() not in AWAY:
                    self.noticed.append(f"not read: {error}")
            if self._is_over.is_set() and self.noticed:
                break
        self._consumer.close()

    def _all(self) -> dict[int, list[int]]:
        """All records, partition by partition."""
        consumer = Consumer({**self._settings, "group.id": "shop", "enable.partition.eof": True})
        consumer.assign([TopicPartition(self._topic, one, OFFSET_BEGINNING) for one in range(self._partitions)])
        found: dict[int, list[int]] = defaultdict(list)
        unread, deadline = self._partitions, time.monotonic() + PATIENCE_S
        while unread and time.monotonic() < deadline:
            for message in consumer.consume(1000, 1.0):
                if (error := message.error()) is None:
                    found[int(message.partition() or 0)].append(int(message.value() or b""))
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread -= 1
                else:
                    raise KafkaException(error)
        consumer.close()
        return found
