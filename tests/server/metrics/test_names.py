"""From an MBean to its names, and the text of samples."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ottla.core.histogram import Snapshot
from ottla.server.metrics.beans import CONFLUENT, STRIMZI, Bean, Kind, Part, namings
from ottla.server.metrics.exposition import NO_LABELS, Family, labels, number, pieces
from ottla.server.metrics.rates import Rates
from ottla.server.metrics.table import BEANS


def names(domain: str, bean_type: str, name: str, kind: Kind, *dialects: str) -> list[tuple[str, str]]:
    bean = Bean(domain, bean_type, name, kind, lambda scrape: 0)
    return [(naming.name, naming.part.value) for naming in namings(bean, dialects or (CONFLUENT, STRIMZI))]


def test_a_meter() -> None:
    bean = "kafka.server", "BrokerTopicMetrics", "BytesInPerSec", Kind.METER
    assert names(*bean) == [
        ("kafka_server_brokertopicmetrics_bytesinpersec", "value"),
        ("kafka_server_brokertopicmetrics_bytesin_total", "value"),
    ]
    assert names(*bean, STRIMZI) == [("kafka_server_brokertopicmetrics_bytesin_total", "value")]


def test_a_gauge_has_one_name_in_both() -> None:
    assert names("kafka.log", "Log", "Size", Kind.GAUGE) == [("kafka_log_log_size", "value")]


def test_percentages() -> None:
    assert names("kafka.server", "KafkaRequestHandlerPool", "RequestHandlerAvgIdlePercent", Kind.PERCENT_METER) == [
        ("kafka_server_kafkarequesthandlerpool_requesthandleravgidlepercent_oneminuterate", "value"),
        ("kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent", "value"),
    ]


def test_a_histogram_is_told_once() -> None:
    base = "kafka_network_requestmetrics_totaltimems"
    bean = "kafka.network", "RequestMetrics", "TotalTimeMs", Kind.HISTOGRAM
    assert names(*bean) == [(base, "count and quantiles"), (f"{base}_count", "count")]
    assert names(*bean, STRIMZI) == [(base, "quantiles"), (f"{base}_count", "count")]


def test_attributes() -> None:
    assert names("kafka.server", "raft-metrics", "current-leader", Kind.ATTRIBUTE) == [
        ("kafka_server_raft_metrics_current_leader", "value"),
        ("kafka_server_raftmetrics_current_leader", "value"),
    ]
    assert names("kafka.server", "socket-server-metrics", "connection-count", Kind.ATTRIBUTE) == [
        ("kafka_server_socketservermetrics_connection_count", "value"),
        ("kafka_server_socket_server_metrics_connection_count", "value"),
    ]


def test_no_two_rows_have_one_name() -> None:
    for dialects in ((CONFLUENT,), (STRIMZI,), (CONFLUENT, STRIMZI)):
        found = [(naming.name, naming.part) for bean in BEANS for naming in namings(bean, dialects)]
        assert len(found) == len(set(found)), {one for one in found if found.count(one) > 1}
        assert len({name for name, _ in found}) == len(found)


def test_names_are_fit_for_prometheus() -> None:
    for bean in BEANS:
        for naming in namings(bean, (CONFLUENT, STRIMZI)):
            assert re.fullmatch(r"kafka_[a-z0-9_]+", naming.name), naming
            assert isinstance(naming.part, Part)


def test_the_text_of_samples() -> None:
    snapshot = Snapshot(7, 1.0, (1.5, 2.0, 3.0, 4.0, 5.0, 6.0), 6.0)
    text = "".join(
        pieces(
            [
                Family("a", "gauge", "first", [(labels(("topic", 'we"ird\\\n')), 1), (NO_LABELS, 0.5)]),
                None,
                Family("b", "untyped", "second", [(labels(("request", "Produce")), snapshot)], "count and quantiles"),
                Family("c", "gauge", "third", [(NO_LABELS, "leader")], "state", "current_state"),
                Family("empty", "gauge", "nothing", []),
                Family("a", "gauge", "again", [(NO_LABELS, 3)]),
            ]
        )
    )
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert [(sample.labels, sample.value) for sample in found["a"].samples] == [
        ({"topic": 'we"ird\\\n'}, 1.0),
        ({}, 0.5),
    ]
    assert [sample.labels.get("quantile") for sample in found["b"].samples] == [
        None,
        "0.50",
        "0.75",
        "0.95",
        "0.98",
        "0.99",
        "0.999",
    ]
    assert found["c"].samples[0].labels == {"current_state": "leader"}
    assert set(found) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (True, "1"), (0.25, "0.25"), (float("nan"), "NaN"), (float("inf"), "+Inf"), (-float("inf"), "-Inf")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_rates_are_over_the_last_half_minute() -> None:
    rates = Rates(0)
    assert rates.record("a", 100, 10_000) == 10
    for second in range(11, 100):
        rates.record("a", 100, second * 1000)
    assert rates.record("a", 100, 100_000) == 0
    assert 1 <= rates.record("a", 130, 101_000) <= 1.1
