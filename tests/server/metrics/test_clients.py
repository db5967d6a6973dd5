"""Client metrics that were pushed (KIP-714), and metrics that are pushed on (OpenTelemetry)."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

import ottla
from ottla.admin import ConfigResource
from ottla.server.broker.telemetry.latest import MOST_OF_A_PUSH, MOST_SAMPLES, LatestSamples, Sample, samples_of
from ottla.server.broker.telemetry.otlp import Metric
from ottla.server.metrics.clients import families
from ottla.server.metrics.exposition import Family, Labels, pieces
from tests.server.metrics.scraping import Observed


def test_what_a_client_pushed_is_told_with_who_said_it() -> None:
    with Observed(topics=["orders"]) as observed:
        with ottla.Admin(observed.bootstrap) as admin:
            subscription = ConfigResource.client_metrics("all")
            admin.set_config(subscription, {"metrics": "org.apache.kafka.producer.", "interval.ms": 100})
        with ottla.Producer(observed.bootstrap, client_id="shop") as producer:
            producer.send("orders", b"x").result(timeout_s=10)
            deadline = time.monotonic() + 20
            found: dict[str, Any] = {}
            while not found:
                assert time.monotonic() < deadline
                time.sleep(0.05)
                samples = observed.scrape()
                found = {name: rows for name, rows in samples.items() if name.startswith("org_apache_kafka_producer_")}
        for rows in found.values():
            for labels in rows:
                assert dict(labels)["client_id"] == "shop"
                assert dict(labels)["client_instance_id"]
        assert sum(samples["kafka_server_client_metrics_instance_count"].values()) == 1


def sample(number: int) -> Sample:
    return Sample(f"org.apache.kafka.m{number}", False, (), number)


def test_pushes_are_forgotten_in_time() -> None:
    latest = LatestSamples()
    latest.keep(b"a", {"client_id": "a"}, [sample(1)], 1000)
    latest.keep(b"b", {"client_id": "b"}, [sample(1), sample(2)], 2000)
    assert [one.client["client_id"] for one in latest.pushed(999)] == ["a", "b"]
    assert [one.client["client_id"] for one in latest.pushed(1000)] == ["b"]
    assert len(latest) == 2
    assert list(latest.pushed(2000)) == []
    assert len(latest) == 0


def test_there_are_never_too_many() -> None:
    latest = LatestSamples()
    for number in range(100):
        latest.keep(bytes([number]), {}, [sample(n) for n in range(MOST_OF_A_PUSH)], 10)
    assert len(latest) == MOST_SAMPLES
    metrics = [Metric(f"m{number}", "gauge", 1.0, {}, "", 0, False) for number in range(2 * MOST_OF_A_PUSH)]
    assert len(samples_of(metrics)) == MOST_OF_A_PUSH


def test_names_and_attributes_are_fit_for_prometheus() -> None:
    class Telemetry:
        latest = LatestSamples()

    rows = [Sample("org.apache.kafka.x-y.total", True, (("node id", "1"), ("client_id", "forged")), 3.0)]
    Telemetry.latest.keep(b"a", {"client_id": 'a"b', "client_instance_id": "i"}, rows, 10)
    (family,) = [one for one in families(Telemetry, 0) if one is not None]  # type: ignore[arg-type]
    assert (family.name, family.type) == ("org_apache_kafka_x_y_total", "counter")
    ((labels, value),) = list(family.rows)
    assert labels.text == '{client_id="a\\"b",client_instance_id="i",node_id="1"}'
    assert value == 3.0


def test_no_client_makes_a_scrape_unreadable_or_speaks_for_another_one() -> None:
    """A label that is there twice, or has no name, and Prometheus takes nothing of the whole answer."""

    class Telemetry:
        latest = LatestSamples()

    attributes = (("", "1"), ("a-b", "2"), ("a.b", "3"), ("a_b", "4"), ("__name__", "up"), ("client.id", "forged"))
    rows = [Sample(name, False, attributes, 1.0) for name in ("", "5", "up", "zweiundvierzigµ\n# TYPE up")]
    Telemetry.latest.keep(b"a", {"client_id": "honest", "client_instance_id": "i"}, rows, 10)
    text = "".join(pieces(families(Telemetry, 0)))  # type: ignore[arg-type]
    lines = [line for line in text.splitlines() if not line.startswith("# ")]
    assert len(lines) == len(rows)
    for line in lines:
        found = re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*\{(.*)\} 1", line)
        assert found is not None, line
        names = [part.partition("=")[0] for part in found[1].split(",")]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", name) and not name.startswith("__") for name in names)
        assert 'client_id="honest"' in line


def test_what_clients_push_takes_no_name_of_the_brokers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"process_cpu_seconds_total", "process_open_fds"}
    pushed = [Family(name, "gauge", "", [(Labels((("client_id", "a"),)), 4711)]) for name in [*sorted(own), "more"]]
    monkeypatch.setattr("ottla.server.metrics.clients.families", lambda telemetry, now_ms: iter(pushed))
    with Observed() as observed:
        samples = observed.scrape()
        assert 4711 in samples["more"].values()
        for name in own & samples.keys():
            assert 4711 not in samples[name].values(), name
        assert "process_cpu_seconds_total" in samples


class Receiver:
    """Stands for an OTLP exporter: keeps what it is given."""

    def __init__(self) -> None:
        self.exports: list[Any] = []
        self.is_shut_down = False

    def export(self, data: Any) -> Any:
        from opentelemetry.sdk.metrics.export import MetricExportResult

        self.exports.append(data)
        return MetricExportResult.SUCCESS

    def shutdown(self) -> None:
        self.is_shut_down = True


def test_open_telemetry_sends_the_same() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from ottla.schema.config import BrokerConfig
    from ottla.server.metrics.opentelemetry import OpenTelemetry

    receiver = Receiver()
    with Observed(topics=["orders"]) as observed:
        with ottla.Producer(observed.bootstrap) as producer:
            producer.send("orders", b"x").result(timeout_s=10)
        thread = observed.cluster.threads[0]
        assert thread is not None
        config = BrokerConfig.of({"opentelemetry.endpoint": "http://unused", "opentelemetry.interval.ms": 1000})

        async def send() -> None:
            observation = thread.node._observation
            assert observation is not None
            metrics = observation.metrics()
            assert metrics is not None
            exporter = OpenTelemetry(metrics, config, thread.node.broker, make_exporter=lambda endpoint: receiver)
            collected = await exporter.collect()
            assert exporter._export(collected, 1)
            await exporter.close()

        thread.run(send())
    assert receiver.is_shut_down
    resource = receiver.exports[0].resource_metrics[0]
    assert resource.resource.attributes["service.name"] == "ottla"
    found = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    points = found["kafka_server_brokertopicmetrics_messagesin_total"].data.data_points
    assert {point.attributes.get("topic"): point.value for point in points}["orders"] == 1
    assert found["kafka_server_brokertopicmetrics_messagesin_total"].data.is_monotonic
    assert not hasattr(found["kafka_log_log_size"].data, "is_monotonic")
    quantiles = found["kafka_network_requestmetrics_totaltimems"].data.data_points
    assert any(point.attributes.get("quantile") == "0.99" for point in quantiles)
