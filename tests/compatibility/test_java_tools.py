"""Apache Kafka's own command line tools, each run as its shell script would, in one JVM."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.compatibility.drivers import Client, ClientError, Java, Message, wait_until
from tests.compatibility.topics import create_topic

pytestmark = pytest.mark.xdist_group("tools")

TOPICS = "org.apache.kafka.tools.TopicCommand"
CONFIGS = "kafka.admin.ConfigCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"


def test_kafka_topics(java: Java, bootstrap: str, name: str) -> None:
    def topics(*arguments: object) -> str:
        return java.tool(TOPICS, "--bootstrap-server", bootstrap, *arguments)

    assert "Created topic" in topics("--create", "--topic", name, "--partitions", 2, "--config", "retention.ms=60000")
    assert name in topics("--list").split()
    described = topics("--describe", "--topic", name)
    assert "PartitionCount: 2" in described
    assert "ReplicationFactor: 1" in described
    assert "retention.ms=60000" in described
    topics("--alter", "--topic", name, "--partitions", 3)
    wait_until(lambda: "PartitionCount: 3" in topics("--describe", "--topic", name), "three partitions")
    with pytest.raises(ClientError, match="already exists"):
        topics("--create", "--topic", name)
    topics("--delete", "--topic", name)
    wait_until(lambda: name not in topics("--list").split(), "no topic")


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_console_producer_and_consumer(java: Java, bootstrap: str, name: str, codec: str) -> None:
    create_topic(bootstrap, name)
    java.tool(
        CONSOLE_PRODUCER,
        *("--bootstrap-server", bootstrap, "--topic", name, "--compression-codec", codec),
        *("--reader-property", "parse.key=true", "--reader-property", "key.separator=|"),
        *("--reader-property", "parse.headers=true", "--reader-property", "null.marker=NONE"),
        input="a:1,b:2\tk1|first\na:3\tk2|NONE\nc:4\tk3|grüße\n",
    )
    output = java.tool(
        CONSOLE_CONSUMER,
        *("--bootstrap-server", bootstrap, "--topic", name, "--from-beginning", "--max-messages", 3),
        *("--timeout-ms", 20000, "--formatter-property", "print.key=true"),
        *("--formatter-property", "print.headers=true", "--formatter-property", "print.offset=true"),
    )
    assert output.splitlines() == [
        "Offset:0\ta:1,b:2\tk1\tfirst",
        "Offset:1\ta:3\tk2\tnull",
        "Offset:2\tc:4\tk3\tgrüße",
    ]


def test_console_consumer_in_a_group_goes_on_where_it_was(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name)

    def produce(text: str) -> None:
        java.tool(CONSOLE_PRODUCER, "--bootstrap-server", bootstrap, "--topic", name, input=text)

    def consume(count: int) -> list[str]:
        return java.tool(
            CONSOLE_CONSUMER,
            *("--bootstrap-server", bootstrap, "--topic", name, "--group", name, "--max-messages", count),
            *("--timeout-ms", 20000, "--command-property", "auto.offset.reset=earliest"),
        ).splitlines()

    produce("one\ntwo\nthree\n")
    assert consume(2) == ["one", "two"]
    produce("four\n")
    assert consume(2) == ["three", "four"]


def test_perf_tools(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, 2)
    report = java.tool(
        "org.apache.kafka.tools.ProducerPerformance",
        *("--topic", name, "--num-records", 20000, "--record-size", 200, "--throughput", -1),
        *("--command-property", f"bootstrap.servers={bootstrap}", "acks=all", "compression.type=lz4"),
    )
    assert "20000 records sent" in report
    line = java.tool(
        "org.apache.kafka.tools.ConsumerPerformance",
        *("--topic", name, "--num-records", 20000, "--bootstrap-server", bootstrap, "--hide-header"),
        *("--timeout", 20000, "--group", name),
    ).splitlines()[-1]
    assert int(line.split(",")[4]) == 20000


def test_kafka_configs(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name)

    def configs(*arguments: object) -> str:
        return java.tool(CONFIGS, "--bootstrap-server", bootstrap, *arguments)

    topic = ("--entity-type", "topics", "--entity-name", name)
    configs("--alter", *topic, "--add-config", "cleanup.policy=[compact,delete],segment.bytes=1048576")
    wait_until(lambda: "segment.bytes=1048576" in configs("--describe", *topic), "the settings")
    assert "cleanup.policy=compact,delete" in configs("--describe", *topic)
    configs("--alter", *topic, "--delete-config", "segment.bytes")
    wait_until(lambda: "segment.bytes=1048576" not in configs("--describe", *topic), "the default")
    assert "segment.bytes=1073741824" in configs("--describe", *topic, "--all")
    with pytest.raises(ClientError, match=r"(?i)config"):
        configs("--alter", *topic, "--add-config", "segment.bytes=many")
    default = ("--entity-type", "brokers", "--entity-default")
    configs("--alter", *default, "--add-config", "log.retention.ms=7200000")
    wait_until(lambda: "log.retention.ms=7200000" in configs("--describe", *default), "the cluster-wide setting")
    wait_until(
        lambda: re.search(r"retention\.ms=7200000.*DYNAMIC_DEFAULT_BROKER", configs("--describe", *topic, "--all")),
        "the topic's setting from the cluster-wide one",
    )
    configs("--alter", *default, "--delete-config", "log.retention.ms")


def test_kafka_consumer_groups(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, 2)
    java.produce(bootstrap, name, [Message(number % 2, None, b"%d" % number) for number in range(10)])

    def groups(*arguments: object) -> str:
        return java.tool(GROUPS, "--bootstrap-server", bootstrap, *arguments)

    member = java.join(bootstrap, name, name)
    wait_until(lambda: len(member.received) == 10, "all records")
    assert name in groups("--list").split()
    wait_until(lambda: len(re.findall(rf"{name} +[01] +5 +5 +0", groups("--describe", "--group", name))) == 2, "no lag")
    assert re.search(r"range +Stable +1", groups("--describe", "--group", name, "--state"))
    assert "consumer-" in groups("--describe", "--group", name, "--members", "--verbose")
    member.leave()
    wait_until(lambda: "Empty" in groups("--describe", "--group", name, "--state"), "an empty group")
    reset = groups("--group", name, "--reset-offsets", "--to-offset", 2, "--topic", f"{name}:1", "--execute")
    assert re.search(rf"{name} +1 +2", reset)
    assert re.search(rf"{name} +1 +2 +5 +3", groups("--describe", "--group", name))
    groups("--group", name, "--delete-offsets", "--topic", name)
    assert "Deletion of requested consumer groups" in groups("--group", name, "--delete")
    assert name not in groups("--list").split()


def test_small_tools(java: Java, bootstrap: str, name: str, tmp_path: Path) -> None:
    create_topic(bootstrap, name)
    java.produce(bootstrap, name, [Message(0, None, b"%d" % number) for number in range(10)])
    file = tmp_path / "offsets.json"
    file.write_text(json.dumps({"partitions": [{"topic": name, "partition": 0, "offset": 3}], "version": 1}))
    at = ("--bootstrap-server", bootstrap)
    deleted = java.tool("org.apache.kafka.tools.DeleteRecordsCommand", *at, "--offset-json-file", file)
    assert "low_watermark: 3" in deleted
    offsets = java.tool("org.apache.kafka.tools.GetOffsetShell", *at, "--topic", name, "--time", "earliest")
    assert offsets.strip() == f"{name}:0:3"
    assert java.tool("org.apache.kafka.tools.GetOffsetShell", *at, "--topic", name).strip() == f"{name}:0:10"
    described = java.tool("org.apache.kafka.tools.LogDirsCommand", *at, "--describe", "--topic-list", name)
    (broker,) = json.loads(described.splitlines()[-1])["brokers"]
    assert [one["partition"] for one in broker["logDirs"][0]["partitions"]] == [f"{name}-0"]
    versions = java.tool("org.apache.kafka.tools.BrokerApiVersionsCommand", *at)
    assert "Produce(0)" in versions
    assert "ClusterId" in java.tool("org.apache.kafka.tools.ClusterTool", "cluster-id", *at).title().replace(" ", "")
    assert "metadata.version" in java.tool("org.apache.kafka.tools.FeatureCommand", *at, "describe")
    producers = java.tool(
        "org.apache.kafka.tools.TransactionsCommand", *at, "describe-producers", "--topic", name, "--partition", 0
    )
    assert "ProducerId" in producers


def test_the_end_to_end_latency_tool(java: Java, bootstrap: str, name: str, clients: dict[str, Client]) -> None:
    create_topic(bootstrap, name)
    output = java.tool(
        "org.apache.kafka.tools.EndToEndLatency",
        *("--bootstrap-server", bootstrap, "--topic", name, "--num-records", 50, "--producer-acks", "all"),
        *("--record-size", 100),
    )
    assert "Percentiles" in output
