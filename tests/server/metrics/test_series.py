"""What dashboards ask for is there, and moves."""

from __future__ import annotations

from pathlib import Path

import pytest

import ottla
from tests.server.metrics.scraping import Observed, Samples, load, value

SERIES = Path(__file__).parent / "testdata" / "series.txt"


def stated() -> list[tuple[str, str]]:
    lines = [line.split() for line in SERIES.read_text().splitlines() if line and not line.startswith("#")]
    return [(name, behaviour) for name, behaviour in lines]


@pytest.fixture(scope="module")
def looks() -> list[Samples]:
    """The metrics before, during and after a load."""
    with Observed(topics=["first"]) as observed:
        with ottla.Admin(observed.bootstrap) as admin:
            admin.describe_cluster()
            found = [observed.scrape()]
        with load(observed.bootstrap):
            found.append(observed.scrape())
        found.append(observed.scrape())
    return found


def test_the_list_names_nothing_twice() -> None:
    names = [name for name, _ in stated()]
    assert len(names) == len(set(names))
    assert {behaviour for _, behaviour in stated()} == {"moves", "steady", "quota"}


@pytest.mark.parametrize(("name", "behaviour"), stated())
def test_every_stated_series_exists_and_moves(looks: list[Samples], name: str, behaviour: str) -> None:
    before, during, after = looks
    if behaviour == "quota":
        assert any(("client_id", "limited") in labels for labels in during[name]), during.get(name)
        assert any(number > 0 for number in during[name].values()), during[name]
        return
    if name.startswith(("kafka_consumergroup_", "burrow_")):
        assert name in during
    else:
        assert name in before
        assert name in after
    if behaviour == "moves":
        assert before.get(name) != during.get(name)


def test_counts_are_what_was_done(looks: list[Samples]) -> None:
    _, during, after = looks
    assert value(during, "kafka_server_brokertopicmetrics_messagesinpersec", topic="orders") == 305  # with one marker
    assert value(during, "kafka_topic_partitions", topic="orders") == 3
    assert value(during, "kafka_network_requestmetrics_errorspersec", request="Produce", error="MESSAGE_TOO_LARGE") == 1
    assert value(during, "kafka_network_requestmetrics_errorspersec", request="Produce", error="INVALID_RECORD") == 1
    assert sum(during["kafka_server_brokertopicmetrics_bytesrejectedpersec"].values()) > 5000
    assert value(during, "kafka_server_brokertopicmetrics_nokeycompactedtopicrecordspersec") == 1
    assert value(during, "kafka_consumergroup_members", consumergroup="classic") == 1
    assert value(during, "kafka_server_group_coordinator_metrics_consumer_group_count", state="Stable") == 1
    assert value(during, "kafka_server_group_coordinator_metrics_group_count", protocol="share") == 1
    assert value(during, "kafka_server_sharegroupmetrics_recordacknowledgementspersec", acktype="Accept") > 0
    assert value(during, "kafka_server_group_coordinator_metrics_group_completed_rebalance_count") == 1
    assert value(during, "kafka_server_group_coordinator_metrics_consumer_group_rebalance_count") >= 1
    assert value(during, "kafka_server_socket_server_metrics_connection_count") > 4
    assert value(after, "kafka_server_kafkaserver_brokerstate") == 3
    assert value(after, "kafka_cluster_partition_replicascount", topic="orders", partition="0") == 1


def test_totals_never_go_back_when_a_topic_goes() -> None:
    name = "kafka_server_brokertopicmetrics_messagesinpersec"
    with Observed() as observed:
        with ottla.Admin(observed.bootstrap) as admin, ottla.Producer(observed.bootstrap) as producer:
            admin.create_topics("gone")
            producer.send("gone", b"x").result(timeout_s=10)
            total = observed.scrape()[name][()]
            admin.delete_topics("gone")
            after = observed.scrape()[name]
        assert after[()] >= total
        assert not any(("topic", "gone") in labels for labels in after)


def test_names_can_be_chosen() -> None:
    with Observed(**{"metrics.names": "strimzi"}) as observed:
        names = observed.scrape()
        assert "kafka_server_brokertopicmetrics_messagesin_total" in names
        assert not {name for name in names if name.endswith("persec") or name.startswith(("kafka_topic", "burrow"))}
        asked = observed.scrape("?names=exporter")
        assert "kafka_brokers" in asked
        assert "kafka_server_brokertopicmetrics_messagesin_total" not in asked
        status, text = observed.get("/metrics?names=graphite")
        assert status == 400
        assert "graphite" in text
