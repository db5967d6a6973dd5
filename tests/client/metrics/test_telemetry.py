"""Telemetry: when a client asks and pushes, and that what it pushes can be read."""

from __future__ import annotations

from random import Random

import pytest

from ottla.client.errors import ConnectionFailedError, UnsupportedVersionError
from ottla.client.metrics.otlp import write_metrics
from ottla.client.metrics.registry import MetricName, Metrics, parse_specs
from ottla.client.metrics.telemetry import (
    DEFAULT_INTERVAL_MS,
    NEVER_MS,
    Collector,
    Subscription,
    TelemetrySession,
    telemetry_name,
)
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsResponse
from ottla.server.broker.telemetry.otlp import read_metrics

INSTANCE = bytes(range(16))


def subscription(**fields: object) -> GetTelemetrySubscriptionsResponse:
    defaults: dict[str, object] = {
        "client_instance_id": INSTANCE,
        "subscription_id": 5,
        "push_interval_ms": 1000,
        "requested_metrics": ["org.apache.kafka.producer."],
        "accepted_compression_types": [4, 3],
    }
    return GetTelemetrySubscriptionsResponse(**{**defaults, **fields})


def session(**fields: object) -> TelemetrySession:
    made = TelemetrySession(Random(1))
    made.subscribed(subscription(**fields), 10_000)
    return made


def test_first_push_is_jittered_and_the_next_come_at_the_interval() -> None:
    made = session()
    assert made.client_instance_id == INSTANCE
    assert made.wants_push
    assert 10_500 <= made.due_ms <= 11_500
    made.pushed(0, 20_000)
    assert made.due_ms == 21_000


def test_client_that_nobody_wants_metrics_of_only_asks_again() -> None:
    made = session(requested_metrics=[])
    assert not made.wants_push
    assert made.due_ms == 11_000


@pytest.mark.parametrize(
    ("code", "due_ms"),
    [
        (ErrorCode.UNKNOWN_SUBSCRIPTION_ID, 20_000),
        (ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, 20_000),
        (ErrorCode.TELEMETRY_TOO_LARGE, 21_000),
        (ErrorCode.THROTTLING_QUOTA_EXCEEDED, 21_000),
        (ErrorCode.INVALID_RECORD, NEVER_MS),
        (ErrorCode.UNKNOWN_SERVER_ERROR, NEVER_MS),
    ],
)
def test_refused_push_asks_for_the_subscription_again(code: ErrorCode, due_ms: int) -> None:
    made = session()
    made.pushed(code, 20_000)
    assert not made.wants_push
    assert made.due_ms == due_ms


def test_cluster_without_telemetry_is_left_alone() -> None:
    made = TelemetrySession(Random(1))
    made.failed(ConnectionFailedError(), 0)
    assert 0 < made.due_ms < DEFAULT_INTERVAL_MS
    made.failed(UnsupportedVersionError(), 0)
    assert made.due_ms == NEVER_MS


def test_names_in_a_push_are_kafkas() -> None:
    name = MetricName("records-lag-max", "consumer-fetch-manager-metrics")
    assert telemetry_name(name) == "org.apache.kafka.consumer.fetch.manager.records.lag.max"


@pytest.mark.parametrize("is_delta", [False, True])
def test_broker_reads_what_was_written(is_delta: bool) -> None:
    metrics = Metrics(lambda: 0, tags={"client-id": "c"})
    specs = parse_specs("sent-total sent total Sent.\nsent-avg sent avg Sent at once.\nlost-avg lost avg Lost.")
    sent = metrics.sensors("producer-topic-metrics", specs, {"topic": "naïve"})["sent"]
    collector = Collector(metrics, 1000)
    wanted = Subscription(1, 1000, (), is_delta, ("org.apache.kafka.producer",))
    values = []
    for time_ms in (2000, 3000):
        sent.record(3, 0)
        data = read_metrics(
            write_metrics([("transactional_id", "x" * 300)], collector.points(wanted, time_ms), time_ms)
        )
        assert data.resource == {"transactional_id": "x" * 300}
        points = {point.name: point for point in data.metrics}
        assert set(points) == {
            "org.apache.kafka.producer.topic.sent.total",
            "org.apache.kafka.producer.topic.sent.avg",
        }
        total = points["org.apache.kafka.producer.topic.sent.total"]
        assert total.attributes == {"topic": "naïve"}
        assert (total.kind, total.is_delta, total.time_ms) == ("sum", is_delta, time_ms)
        values.append(total.value)
    assert values == ([3, 3] if is_delta else [3, 6])


def test_only_wanted_metrics_are_pushed() -> None:
    metrics = Metrics(lambda: 0)
    metrics.gauge("admin-client-metrics", "open", "Open ones.", lambda: 1)
    metrics.gauge("producer-metrics", "open", "Open ones.", lambda: 1)
    collector = Collector(metrics, 0)
    assert [point.name for point in collector.points(Subscription(1, 1, (), True, ("org.apache.kafka.a",)), 0)] == [
        "org.apache.kafka.admin.client.open"
    ]
    assert len(collector.points(Subscription(1, 1, (), True, ("",)), 0)) == 2
