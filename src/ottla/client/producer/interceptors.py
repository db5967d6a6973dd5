"""Interceptors: objects that see every record before it is sent, and every outcome (KIP-42).

What they raise is logged and changes nothing for the sender.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ottla.client.errors import KafkaError
from ottla.client.model import RecordMetadata
from ottla.client.producer.batches import Delivery, located

logger = logging.getLogger("ottla.client")


class ProducerRecord(NamedTuple):
    """A record as it was given to `send`."""

    topic: str
    value: Any = None
    key: Any = None
    partition: int | None = None
    timestamp_ms: Any = None
    headers: Any = None

    def arguments(self) -> tuple[str, Any, Any, int | None, Any, Any]:
        """What `Appender.try_send` takes."""
        return self.topic, self.value, self.key, self.partition, self.timestamp_ms, self.headers


class ProducerInterceptor(Protocol):
    """Any of these methods may be missing."""

    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        """The record to send instead, in the thread of whoever sends it, before it is serialized."""

    def on_acknowledgement(self, metadata: RecordMetadata, error: KafkaError | None) -> None:
        """The record was written, or not: then `metadata` has only the topic, and the partition if it is known."""

    def close(self) -> None:
        """The producer was closed."""


class Interceptors:
    """All interceptors of a producer, in order."""

    def __init__(self, interceptors: Sequence[object]) -> None:
        found = [each() if isinstance(each, type) else each for each in interceptors]
        self._on_send = _methods(found, "on_send")
        self._on_acknowledgement = _methods(found, "on_acknowledgement")
        self._close = _methods(found, "close")

    def sending(self, record: ProducerRecord) -> ProducerRecord:
        """What is sent in place of the record."""
        for intercept in self._on_send:
            try:
                changed = intercept(record)
            except Exception:
                logger.exception("an interceptor failed in on_send")
            else:
                record = record if changed is None else changed
        return record

    def watch(self, delivery: Delivery) -> None:
        """Tell the outcome when there is one."""
        if self._on_acknowledgement:
            delivery.add_done_callback(self._delivered)

    def refused(self, record: ProducerRecord, error: KafkaError) -> None:
        """`send` raises."""
        partition = -1 if record.partition is None else record.partition
        self._tell(RecordMetadata(record.topic, partition, -1, -1), error)

    def close(self) -> None:
        for close in self._close:
            try:
                close()
            except Exception:
                logger.exception("an interceptor failed in close")

    def _delivered(self, delivery: Delivery) -> None:
        batch, index = located(delivery.batch, delivery.index)
        self._tell(delivery.metadata(), batch.error_of(index))  # no more than a look in passing: nobody knows by it

    def _tell(self, metadata: RecordMetadata, error: KafkaError | None) -> None:
        for acknowledge in self._on_acknowledgement:
            try:
                acknowledge(metadata, error)
            except Exception:
                logger.exception("an interceptor failed in on_acknowledgement")


def _methods(interceptors: Sequence[object], name: str) -> list[Callable[..., Any]]:
    return [getattr(each, name) for each in interceptors if callable(getattr(each, name, None))]
