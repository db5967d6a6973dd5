"""Tracing with OpenTelemetry: who sent a record, and what was done with it, in one trace.

    tracing = ottla.Tracing()
    producer = ottla.Producer(..., interceptors=[tracing])
    consumer = ottla.Consumer(..., interceptors=[tracing])

    for record in consumer:
        with tracing.process(record):
            ...

A record that is sent gets a span of its own (`create`), and its context as a header (`traceparent`), which any client
can read. A poll that brings records is a span with a link to each of them (`receive`); `process` is the span of the
work on one. Names and attributes are OpenTelemetry's conventions for messaging. Needs the extra
`pip install "ottla[opentelemetry]"`; without it nothing of this is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.client.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

    from ottla.client.producer.interceptors import ProducerRecord
    from ottla.records.reader import ConsumerRecord

Records = TypeVar("Records", bound="Iterable[ConsumerRecord[Any, Any]]")
_MOST_LINKS = 128
"""OpenTelemetry's own limit of links of a span."""


class Tracing:
    """An interceptor for producers and consumers. `tracer_provider` is OpenTelemetry's global one by default."""

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        try:
            from opentelemetry import propagate, trace
        except ImportError:
            raise ConfigError(
                "tracing needs OpenTelemetry, which is not installed.", hint='pip install "ottla[opentelemetry]"'
            ) from None
        from ottla.version import VERSION

        self._trace = trace
        self._propagate = propagate
        self._tracer = trace.get_tracer("ottla", VERSION, tracer_provider)

    def on_send(self, record: ProducerRecord) -> ProducerRecord:
        """Give the record a span and its context as headers."""
        attributes = {**_where(record.topic, record.partition), "messaging.operation.name": "create"}
        if isinstance(record.key, str | bytes):
            attributes["messaging.kafka.message.key"] = _text(record.key)
        if record.value is None:
            attributes["messaging.kafka.message.tombstone"] = True
        kind = self._trace.SpanKind.PRODUCER
        with self._tracer.start_as_current_span(f"create {record.topic}", kind=kind, attributes=attributes):
            carrier: dict[str, str] = {}
            self._propagate.inject(carrier)
        return record._replace(headers=_with_headers(record.headers, carrier))

    def on_consume(self, records: Records) -> Records:
        """One span for what a poll brought, linked to the spans of its records."""
        links: list[Any] = []
        topics = set()
        count = 0
        for record in records:
            count += 1
            topics.add(record.topic)
            if len(links) < _MOST_LINKS:
                context = self._trace.get_current_span(self._extract(record)).get_span_context()
                if context.is_valid:
                    links.append(self._trace.Link(context))
        if count:
            topic = topics.pop() if len(topics) == 1 else None
            attributes = {
                **_where(topic, None),
                "messaging.operation.name": "poll",
                "messaging.operation.type": "receive",
                "messaging.batch.message_count": count,
            }
            name = f"poll {topic}" if topic else "poll"
            kind = self._trace.SpanKind.CLIENT
            self._tracer.start_span(name, kind=kind, attributes=attributes, links=links).end()
        return records

    @contextmanager
    def process(self, record: ConsumerRecord[Any, Any]) -> Iterator[Span]:
        """The span of the work on a record, in the trace of whoever sent it. An exception is recorded in it."""
        attributes = {
            **_where(record.topic, record.partition),
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.kafka.offset": record.offset,
        }
        if isinstance(record.key, str | bytes):
            attributes["messaging.kafka.message.key"] = _text(record.key)
        with self._tracer.start_as_current_span(
            f"process {record.topic}",
            context=self._extract(record),
            kind=self._trace.SpanKind.CONSUMER,
            attributes=attributes,
        ) as span:
            yield span

    def _extract(self, record: ConsumerRecord[Any, Any]) -> Any:
        carrier = {name: value.decode("utf-8", "replace") for name, value in record.headers if value is not None}
        return self._propagate.extract(carrier)


def _where(topic: str | None, partition: int | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {"messaging.system": "kafka"}
    if topic is not None:
        attributes["messaging.destination.name"] = topic
    if partition is not None:
        attributes["messaging.destination.partition.id"] = str(partition)
    return attributes


def _with_headers(headers: Any, carrier: Mapping[str, str]) -> list[tuple[str, Any]]:
    """The user's headers and the context's; a context that was passed on from elsewhere is replaced."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    kept = [(name, value) for name, value in pairs if name not in carrier]
    return kept + [(name, value.encode()) for name, value in carrier.items()]


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")
