"""Administration beyond topics and groups, with Apache Kafka's own tools; metrics that real clients push."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from confluent_kafka import Producer

from benchmarks.brokers import Broker
from tests.compatibility.drivers import ClientError, Java, wait_until
from tests.compatibility.topics import create_topic
from tests.conftest import MakeBroker

pytestmark = pytest.mark.xdist_group("tools")

CONFIGS = "kafka.admin.ConfigCommand"
CLIENT_METRICS = "org.apache.kafka.tools.ClientMetricsCommand"
FEATURES = "org.apache.kafka.tools.FeatureCommand"
QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand"
ELECTION = "org.apache.kafka.tools.LeaderElectionCommand"
REASSIGN = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
CLUSTER = "org.apache.kafka.tools.ClusterTool"


class Tool:
    """One tool at one broker."""

    def __init__(self, java: Java, class_name: str, bootstrap: str) -> None:
        self.java, self.class_name, self.bootstrap = java, class_name, bootstrap

    def __call__(self, *arguments: object) -> str:
        return self.java.tool(self.class_name, "--bootstrap-server", self.bootstrap, *arguments)

    def refused(self, *arguments: object) -> str:
        with pytest.raises(ClientError) as error:
            self(*arguments)
        return str(error.value)


def levels(features: Tool) -> dict[str, str]:
    """Feature → finalized level, as the tool shows it."""
    return dict(re.findall(r"Feature: (\S+) .*FinalizedVersionLevel: (\S+)", features("describe")))


def test_kafka_features(java: Java, make_broker: MakeBroker) -> None:
    broker = make_broker()
    features = Tool(java, FEATURES, broker.bootstrap)
    replicas = "eligible.leader.replicas.version"
    assert {name: levels(features)[name] for name in ("metadata.version", "kraft.version", replicas)} == {
        "metadata.version": "4.3-IV0",
        "kraft.version": "1",
        replicas: "1",
    }
    features("disable", "--feature", replicas)
    assert levels(features)[replicas] == "0"
    assert "can be upgraded" in features("upgrade", "--feature", "metadata.version=31", "--dry-run")
    assert levels(features)["metadata.version"] == "4.3-IV0"
    features("upgrade", "--feature", "metadata.version=31", "--feature", f"{replicas}=1")
    assert (levels(features)["metadata.version"], levels(features)[replicas]) == ("4.4-IV0", "1")
    assert "might delete metadata" in features.refused("downgrade", "--feature", "metadata.version=29")
    features("downgrade", "--feature", "metadata.version=30")
    assert "There is no such feature" in features.refused("upgrade", "--feature", "no.such=1")
    broker.stop()
    broker.start()
    assert (levels(features)["metadata.version"], levels(features)[replicas]) == ("4.3-IV0", "1")
    features("disable", "--feature", replicas)
    assert levels(features)[replicas] == "0"


def test_kafka_metadata_quorum(java: Java, bootstrap: str) -> None:
    quorum = Tool(java, QUORUM, bootstrap)
    status = quorum("describe", "--status")
    assert re.search(r"LeaderId:\s+1\b", status)
    assert re.search(r'CurrentVoters:\s+\[\{"id": 1, "directoryId": "\S{22}"', status)
    assert re.search(r"CurrentObservers:\s+\[\]", status)
    header, row = quorum("describe", "--replication").strip().splitlines()
    assert header.split()[:3] == ["NodeId", "DirectoryId", "LogEndOffset"]
    assert (row.split()[0], row.split()[3], row.split()[-1]) == ("1", "0", "Leader")


def test_settings_of_groups(java: Java, bootstrap: str, name: str) -> None:
    configs = Tool(java, CONFIGS, bootstrap)
    group = ("--entity-type", "groups", "--entity-name", name)
    configs("--alter", *group, "--add-config", "consumer.session.timeout.ms=50000,share.auto.offset.reset=earliest")
    described = configs("--describe", *group)
    assert "consumer.session.timeout.ms=50000" in described
    assert "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000" in described
    assert "DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000" in described
    assert name in configs("--describe", "--entity-type", "groups")
    assert "must be greater than or equal to" in configs.refused(
        "--alter", *group, "--add-config", "consumer.session.timeout.ms=5"
    )
    configs("--alter", *group, "--delete-config", "consumer.session.timeout.ms,share.auto.offset.reset")
    wait_until(lambda: "50000" not in configs("--describe", *group), "no settings")


def test_log_levels(java: Java, bootstrap: str) -> None:
    configs = Tool(java, CONFIGS, bootstrap)
    loggers = ("--entity-type", "broker-loggers", "--entity-name", "1")
    configs("--alter", *loggers, "--add-config", "ottla.server.broker=DEBUG,ottla.server.log=ERROR")
    described = configs("--describe", *loggers)
    assert "ottla.server.broker=DEBUG" in described
    assert "ottla.server.broker.connection=DEBUG" in described, "it follows its parent"
    assert "ottla.server.log=ERROR" in described
    assert "not a supported log level" in configs.refused("--alter", *loggers, "--add-config", "ottla=LOUD")
    assert "no.such.logger" in configs.refused("--alter", *loggers, "--add-config", "no.such.logger=INFO")
    configs("--alter", *loggers, "--delete-config", "ottla.server.broker,ottla.server.log")
    assert "ottla.server.broker=INFO" in configs("--describe", *loggers)


def test_leaders_and_replicas(java: Java, bootstrap: str, name: str, tmp_path: Any) -> None:
    create_topic(bootstrap, name, 2)
    elect = Tool(java, ELECTION, bootstrap)
    assert "already elected" in elect("--election-type", "preferred", "--topic", name, "--partition", 0)
    elect("--election-type", "preferred", "--all-topic-partitions")
    assert "UnknownTopicOrPartition" in elect.refused("--election-type", "unclean", "--topic", name, "--partition", 9)
    plan = tmp_path / "plan.json"
    reassign = Tool(java, REASSIGN, bootstrap)
    plan.write_text(json.dumps({"version": 1, "partitions": [{"topic": name, "partition": 0, "replicas": [1]}]}))
    file = ("--reassignment-json-file", plan)
    assert "Successfully started" in reassign("--execute", *file)
    assert "is completed" in reassign("--verify", *file)
    assert "No partition reassignments found" in reassign("--list")
    with pytest.raises(ClientError, match="not currently registered"):
        java.tool(CLUSTER, "unregister", "--bootstrap-server", bootstrap, "--id", 7)


def test_kafka_client_metrics(java: Java, bootstrap: str, name: str) -> None:
    metrics = Tool(java, CLIENT_METRICS, bootstrap)
    metrics("--alter", "--name", name, "--metrics", "a.,b.", "--interval", 60000, "--match", f"client_id={name}")
    described = metrics("--describe", "--name", name)
    assert all(text in described for text in ("interval.ms=60000", f"match=client_id={name}", "metrics=a.,b."))
    assert name in metrics("--list").split()
    assert "interval must be between" in metrics.refused("--alter", "--name", name, "--interval", 5)
    assert "Illegal client matching pattern" in metrics.refused("--alter", "--name", name, "--match", "color=blue")
    metrics("--delete", "--name", name)
    assert name not in metrics("--list").split()


def pushed(broker: Broker, software: str) -> list[dict[str, Any]]:
    path = broker.log_directory / "client-metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line["client_software_name"] == software]


def values(line: dict[str, Any]) -> dict[str, Any]:
    return {metric["name"]: metric["value"] for metric in line["metrics"]}


def test_java_pushes_what_it_is_asked_for(java: Java, make_broker: MakeBroker) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, "t")
    metrics = Tool(java, CLIENT_METRICS, broker.bootstrap)
    metrics("--alter", "--name", "consumers", "--metrics", "org.apache.kafka.consumer.", "--interval", 100)
    member = java.join(broker.bootstrap, "g", "t")
    wait_until(lambda: len(pushed(broker, "apache-kafka-java")) >= 2, "two pushes")
    member.leave()
    wait_until(lambda: pushed(broker, "apache-kafka-java")[-1]["terminating"], "the last push")
    first, *_, last = pushed(broker, "apache-kafka-java")
    assert first["client_instance_id"] == last["client_instance_id"]
    assert last["client_software_version"].startswith("4.")
    assert last["client_source_address"] == "127.0.0.1"
    assert last["resource"]["group_id"] == "g"
    assert all(name.startswith("org.apache.kafka.consumer.") for name in values(last))
    assert values(last)["org.apache.kafka.consumer.connection.creation.total"] >= 1, "a total, not what is new"


def test_librdkafka_pushes_what_it_is_asked_for(java: Java, make_broker: MakeBroker) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, "t")
    metrics = Tool(java, CLIENT_METRICS, broker.bootstrap)
    metrics("--alter", "--name", "all", "--metrics", "*", "--interval", 100, "--match", "client_id=wanted.*")
    settings = {"bootstrap.servers": broker.bootstrap, "enable.metrics.push": True, "log_level": 0}
    producers = [Producer({**settings, "client.id": client_id}) for client_id in ("wanted-1", "other")]

    def lines() -> list[dict[str, Any]]:
        for producer in producers:
            producer.produce("t", b"x")
            producer.flush(5)
        return pushed(broker, "confluent-kafka-python")

    wait_until(lambda: len(lines()) >= 3, "three pushes")
    assert {line["client_id"] for line in lines()} == {"wanted-1"}
    assert values(lines()[-1])["org.apache.kafka.producer.connection.creation.total"] >= 1
