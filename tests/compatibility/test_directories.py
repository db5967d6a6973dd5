"""Data directories: Kafka's dump tool reads what we wrote, we open what Kafka wrote, and Kafka opens it again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.brokers import ApacheKafka, Broker, OttlaOnProperties
from ottla.protocol.messages.streams_group_describe import StreamsGroupDescribeRequest, StreamsGroupDescribeResponse
from tests.compatibility.differential.group_scenarios import coordinator_ready
from tests.compatibility.differential.streams_scenarios import Group as StreamsGroup
from tests.compatibility.differential.streams_scenarios import table as streams_table
from tests.compatibility.differential.world import World
from tests.compatibility.drivers import ALL_CODECS, Client, Java, Message, wait_until
from tests.compatibility.topics import create_topic
from tests.conftest import SETTINGS, MakeBroker

pytestmark = pytest.mark.xdist_group("tools")

FEATURES = "org.apache.kafka.tools.FeatureCommand"
CLIENT_METRICS = "org.apache.kafka.tools.ClientMetricsCommand"
DUMP = "org.apache.kafka.tools.DumpLogSegments"
COMPLAINTS = (
    "isvalid: false",
    "mismatch",
    "Non-",
    "not found",
    "sanity check failed",
    "Found ",
    "Could not",
    "Exception",
)


def dump(java: Java, *files: Path, options: tuple[str, ...] = ()) -> str:
    """The dump tool's output; it must not complain about anything."""
    output = java.tool(DUMP, "--files", ",".join(map(str, files)), *options)
    assert not [line for line in output.splitlines() if any(complaint in line for complaint in COMPLAINTS)]
    return output


def fill(broker: Broker, writer: Client) -> dict[str, int]:
    """Topics with every codec, rolled segments, sequence numbers and a group that committed; name → records."""
    counts = {}
    for codec in ALL_CODECS:
        topic = create_topic(broker.bootstrap, f"topic-{codec}", 2, {"segment.bytes": str(1 << 20)})
        for number in range(4):
            randomness = Random(number)
            values = [randomness.randbytes(2000).hex().encode() for _ in range(200)]
            messages = [
                Message(index % 2, b"key %d" % index, value, (("h", b"1"),)) for index, value in enumerate(values)
            ]
            writer.produce(broker.bootstrap, topic, messages, codec=codec, idempotent=number % 2 == 1)
        counts[topic] = 800
    commit(broker, "readers", {f"topic-{codec}": 123 for codec in ALL_CODECS})
    return counts


def commit(broker: Broker, group: str, offsets: dict[str, int]) -> None:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "log_level": 0})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset) for topic, offset in offsets.items()], asynchronous=False)
    consumer.close()


def committed(broker: Broker, group: str, topics: list[str]) -> dict[str, int]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "log_level": 0})
    found = consumer.committed([TopicPartition(topic, 0) for topic in topics], timeout=20)
    consumer.close()
    return {one.topic: one.offset for one in found}


def has_committed(kafka: Broker, group: str, offsets: dict[str, int]) -> bool:
    """Whether Kafka tells these offsets; right after its start it may not know yet that it coordinates the group."""
    try:
        return committed(kafka, group, list(offsets)) == offsets
    except KafkaException as error:
        if error.args[0].code() != KafkaError.NOT_COORDINATOR:
            raise
        return False


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_kafka_dump_log_reads_what_we_wrote(
    how: str, java: Java, make_broker: MakeBroker, clients: dict[str, Client]
) -> None:
    broker = make_broker()
    counts = fill(broker, clients["confluent-kafka"])
    getattr(broker, how)()
    data = broker.log_directory
    for topic, count in counts.items():
        logs = sorted(data.glob(f"{topic}-[01]/*.log"))
        assert len(logs) > 2 or topic != "topic-none"
        output = dump(java, *logs, options=("--deep-iteration", "--print-data-log"))
        assert output.count("| offset: ") == count
        assert output.count("headerKeys: [h]") == count
        assert f"compresscodec: {topic.removeprefix('topic-')}" in output
        dump(java, *sorted(data.glob(f"{topic}-[01]/*.index")), options=("--verify-index-only",))
        dump(java, *sorted(data.glob(f"{topic}-[01]/*.timeindex")))
        for snapshot in data.glob(f"{topic}-[01]/*.snapshot"):
            assert "producerId: " in dump(java, snapshot) or "-0/00000000000000000000" in str(snapshot)
    offsets = "".join(
        dump(java, log, options=("--offsets-decoder", "--print-data-log"))
        for log in sorted(data.glob("__consumer_offsets-*/*.log"))
        if log.stat().st_size
    )
    assert '"group":"readers"' in offsets
    assert '"offset":123' in offsets
    metadata = [*sorted((data / "__cluster_metadata-0").glob("*.log"))]
    records = dump(java, *metadata, options=("--cluster-metadata-decoder",))
    for topic in counts:
        assert f'"name":"{topic}"' in records
    assert "REGISTER_BROKER_RECORD" in records
    assert "LeaderChange" in records
    for checkpoint in sorted((data / "__cluster_metadata-0").glob("*.checkpoint")):
        dump(java, checkpoint, options=("--cluster-metadata-decoder",))


class Handover:
    """One data directory that Apache Kafka and Ottla open in turn; only one of them runs at a time."""

    def __init__(self, directory: Path) -> None:
        heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
        self.kafka = ApacheKafka(directory, settings=SETTINGS, heap=heap)
        self.ottla = OttlaOnProperties(
            directory / "ottla", self.kafka.properties, self.kafka.log_directory, port=self.kafka.port
        )


@pytest.fixture
def handover(tmp_path: Path, java: Java) -> Iterator[Handover]:
    del java  # only because the directory needs Apache Kafka
    handover = Handover(tmp_path / "node")
    yield handover
    handover.kafka.stop()
    handover.ottla.stop()


def transactions(broker: Broker) -> None:
    """A topic with a committed, an aborted and another committed transaction."""
    create_topic(broker.bootstrap, "transactions")
    producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": "writer", "log_level": 0})
    producer.init_transactions(30)
    for label, end in (("a", "commit"), ("b", "abort"), ("c", "commit")):
        producer.begin_transaction()
        for number in range(3):
            producer.produce("transactions", f"{label}{number}")
        producer.flush(20)
        getattr(producer, f"{end}_transaction")(20)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_we_open_a_directory_that_apache_kafka_wrote(
    how: str, handover: Handover, clients: dict[str, Client], java: Java
) -> None:
    kafka, ottla, writer = handover.kafka, handover.ottla, clients["confluent-kafka"]
    kafka.start()
    counts = fill(kafka, writer)
    create_topic(kafka.bootstrap, "configured", 3, {"max.message.bytes": "5000", "retention.ms": "864000000"})
    transactions(kafka)
    topics = {topic: writer.consume(kafka.bootstrap, topic, count) for topic, count in counts.items()}
    commit(kafka, "more readers", {"topic-zstd": 77})
    run_streams(kafka, "first")
    streams_group = described_streams_group(kafka)
    getattr(kafka, how)()

    ottla.start()
    assert committed(ottla, "readers", list(counts)) == dict.fromkeys(counts, 123)
    assert committed(ottla, "more readers", ["topic-zstd"]) == {"topic-zstd": 77}
    for topic, messages in topics.items():
        found = writer.consume(ottla.bootstrap, topic, len(messages))
        assert sorted(found, key=place) == sorted(messages, key=place)
    visible = writer.consume(ottla.bootstrap, "transactions", 6, committed=True)
    assert [message.value for message in visible] == [b"a0", b"a1", b"a2", b"c0", b"c1", b"c2"]
    assert len(writer.consume(ottla.bootstrap, "transactions", 9)) == 9
    admin = AdminClient({"bootstrap.servers": ottla.bootstrap, "log_level": 0})
    assert len(admin.list_topics("configured").topics["configured"].partitions) == 3
    more = [Message(0, None, b"ours %d" % number) for number in range(50)]
    writer.produce(ottla.bootstrap, "topic-lz4", more, codec="lz4", idempotent=True)
    create_topic(ottla.bootstrap, "made-by-us", 2)
    writer.produce(ottla.bootstrap, "made-by-us", more)
    commit(ottla, "readers", {"topic-zstd": 200})
    assert described_streams_group(ottla) == streams_group
    run_streams(ottla, "second")
    streams_group = described_streams_group(ottla)
    assert administered(java, ottla) == ("1", [])
    administer(java, ottla)
    ottla.stop()

    kafka.start()
    found = writer.consume(kafka.bootstrap, "topic-lz4", counts["topic-lz4"] + 50)
    assert len(found) == counts["topic-lz4"] + 50
    assert len(writer.consume(kafka.bootstrap, "made-by-us", 50)) == 50
    wait_until(lambda: has_committed(kafka, "readers", {"topic-zstd": 200}), "the commit made with us")
    assert described_streams_group(kafka) == streams_group
    assert administered(java, kafka) == ("0", ["kept"])


def run_streams(broker: Broker, member: str) -> None:
    """A member joins a streams group, which reads one topic and keeps state in another."""
    world = World("member", broker.bootstrap)
    world.common = world.supported
    group = StreamsGroup(world, "application")
    group.join("joins", member, streams_table(world, "topic-none", "topic-lz4"))
    world.close()


def described_streams_group(broker: Broker) -> StreamsGroupDescribeResponse:
    """The group, described as soon as it is loaded."""
    world = World("administrator", broker.bootstrap)
    world.common = world.supported
    coordinator_ready(world, "application")
    described: StreamsGroupDescribeResponse = world.ask_quietly(
        StreamsGroupDescribeRequest(group_ids=["application"]), 0
    )
    world.close()
    for subtopology in described.groups[0].topology.subtopologies:
        # Numbers that follow from the topics, and are not stored.
        subtopology.state_changelog_topics[0].partitions = 0
    described.groups[0].members.sort(key=lambda member: member.member_id)
    described.throttle_time_ms = 0
    return described


def administer(java: Java, broker: Broker) -> None:
    """A feature disabled and a subscription made, with metrics that came in beside the logs."""
    server = ("--bootstrap-server", broker.bootstrap)
    java.tool(FEATURES, *server, "disable", "--feature", "share.version")
    java.tool(CLIENT_METRICS, *server, "--alter", "--name", "kept", "--metrics", "*", "--interval", 60000)
    (broker.log_directory / "client-metrics.jsonl").write_text("{}\n")


def administered(java: Java, broker: Broker) -> tuple[str, list[str]]:
    """The level of the feature, and the subscriptions."""
    server = ("--bootstrap-server", broker.bootstrap)
    (level,) = re.findall(
        r"Feature: share.version .*FinalizedVersionLevel: (\S+)", java.tool(FEATURES, *server, "describe")
    )
    return level, java.tool(CLIENT_METRICS, *server, "--list").split()


def place(message: Message) -> tuple[int, int]:
    return message.partition, message.offset or 0
