"""Tracing: a record and the work on it are in one trace, whoever carries it."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from ottla.client.producer.interceptors import ProducerRecord
from ottla.client.tracing import Tracing
from ottla.records.reader import ConsumerRecord


class Traced:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(self.provider)

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


def consumed(sent: ProducerRecord, offset: int = 7) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord(sent.topic, 3, offset, b"key", b"value", headers=tuple(sent.headers or ()))


def test_work_on_a_record_is_in_the_trace_of_its_sender() -> None:
    traced = Traced()
    tracer = traced.provider.get_tracer("application")
    with tracer.start_as_current_span("order"):
        sent = traced.tracing.on_send(ProducerRecord("orders", b"value", "key", headers={"kind": b"new"}))
    assert sent.headers[0] == ("kind", b"new")
    record = consumed(sent)
    traced.tracing.on_consume([record])
    with traced.tracing.process(record):
        pass
    spans = traced.spans()
    create, poll, process = spans["create orders"], spans["poll orders"], spans["process orders"]
    assert create.kind is SpanKind.PRODUCER
    assert process.kind is SpanKind.CONSUMER
    assert create.parent is not None
    assert process.parent is not None
    assert create.context.trace_id == process.context.trace_id == spans["order"].context.trace_id
    assert process.parent.span_id == create.context.span_id
    assert [link.context.span_id for link in poll.links] == [create.context.span_id]
    assert process.attributes is not None
    assert process.attributes["messaging.kafka.offset"] == 7
    assert process.attributes["messaging.destination.partition.id"] == "3"


def test_record_that_is_passed_on_has_one_context() -> None:
    traced = Traced()
    first = traced.tracing.on_send(ProducerRecord("orders", b"value"))
    second = traced.tracing.on_send(ProducerRecord("copies", b"value", headers=first.headers))
    assert [name for name, _ in second.headers] == ["traceparent"]
    assert second.headers != first.headers


def test_exception_is_recorded() -> None:
    traced = Traced()
    with pytest.raises(ZeroDivisionError), traced.tracing.process(ConsumerRecord("orders", 0, 0, None, None)):
        _ = 1 / 0
    (span,) = traced.exporter.get_finished_spans()
    assert not span.status.is_ok
    assert span.events[0].name == "exception"


def test_records_without_a_context_are_traced_too() -> None:
    traced = Traced()
    records = [ConsumerRecord("a", 0, 0, b"k", b"v"), ConsumerRecord("b", 0, 0, b"k", b"v", headers=(("x", None),))]
    assert traced.tracing.on_consume(records) is records
    assert traced.tracing.on_consume([]) == []
    (span,) = traced.exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 2
    assert not span.links
