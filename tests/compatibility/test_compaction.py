"""Compacted topics as foreign clients, tools and brokers see them, and replicas moved by Kafka's own tool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.brokers import ApacheKafka, Broker, OttlaOnProperties, free_port
from tests.compatibility.drivers import Client, Java, wait_until
from tests.compatibility.test_directories import dump
from tests.compatibility.topics import create_topic
from tests.conftest import SETTINGS, MakeBroker

pytestmark = pytest.mark.xdist_group("tools")

CLEANER = {
    "log.cleaner.backoff.ms": "100",
    "offsets.topic.segment.bytes": str(1 << 20),
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
}
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.bytes": str(1 << 20),
    "min.cleanable.dirty.ratio": "0.01",
}
REASSIGN = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand"
KEYS = 300

Table = dict[bytes, bytes | None]


def fill(broker: Broker, topic: str) -> Table:
    """Some megabytes in every codec, with tombstones and transactions, one of them aborted; the committed table."""
    dice = Random(topic)
    table: Table = {}

    def send(producer: Producer, count: int, into: Table) -> None:
        for _ in range(count):
            key = b"key-%d" % dice.randrange(KEYS)
            value = None if dice.random() < 0.1 else dice.randbytes(dice.choice((10, 300, 900))).hex().encode()
            while True:
                try:
                    producer.produce(topic, value, key, partition=0)
                    break
                except BufferError:
                    producer.poll(0.1)
            into[key] = value
        producer.flush(30)

    settings = {"bootstrap.servers": broker.bootstrap, "log_level": 0, "linger.ms": 5}
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        send(Producer(settings | {"compression.type": codec, "enable.idempotence": codec == "lz4"}), 1200, table)
    writer = Producer(settings | {"transactional.id": f"writer-{topic}"})
    writer.init_transactions(30)
    for number in range(4):
        writer.begin_transaction()
        written: Table = {}
        send(writer, 700, written)
        if number % 2:
            writer.abort_transaction(30)
        else:
            writer.commit_transaction(30)
            table |= written
    # The active segment is never cleaned: what follows makes another one of it.
    send(Producer(settings), 1200, table)
    return table


def wait_until_clean(broker: Broker, topic: str) -> list[Path]:
    """The segments, once all of them but the last are clean."""
    checkpoint = broker.log_directory / "cleaner-offset-checkpoint"

    def segments() -> list[Path]:
        return sorted((broker.log_directory / f"{topic}-0").glob("*.log"))

    def is_clean() -> bool:
        lines = checkpoint.read_text().splitlines() if checkpoint.exists() else []
        entries = {line.split()[0]: int(line.split()[2]) for line in lines if len(line.split()) == 3}
        return entries.get(topic, -1) >= int(segments()[-1].stem) > 0

    wait_until(is_clean, f"{topic} is clean")
    return segments()


def table_of(broker: Broker, topic: str) -> Table:
    """What a read_committed consumer of the whole topic ends up with; how many records it took is `len(reads)`."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "group.id": "table",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    table: Table = {}
    while True:
        message = consumer.poll(20)
        assert message is not None, "the end of the topic does not come"
        if message.error():
            assert message.error().name() == "_PARTITION_EOF"
            break
        table[message.key()] = message.value()
    consumer.close()
    return table


def living(table: Table) -> Table:
    return {key: value for key, value in table.items() if value is not None}


def test_compacted_topic_is_read_and_dumped_by_kafka(
    java: Java, make_broker: MakeBroker, clients: dict[str, Client], name: str
) -> None:
    broker = make_broker(CLEANER)
    create_topic(broker.bootstrap, name, 1, COMPACTED)
    table = fill(broker, name)
    segments = wait_until_clean(broker, name)
    assert table_of(broker, name) == table  # tombstones stay for a day
    messages = clients["java"].consume(broker.bootstrap, name, 1, committed=True)
    assert messages[0].value is None or messages[0].key in table
    broker.stop()
    output = dump(java, *segments, options=("--deep-iteration", "--print-data-log"))
    clean_end = int(segments[-1].stem)
    assert "deleteHorizonMs: OptionalLong[" in output
    kept = {
        line.split("key: ")[1].split(" ")[0]
        for line in output.splitlines()
        if "| offset: " in line and "key: key-" in line
    }
    assert len(kept) == KEYS
    assert clean_end > 8000
    dump(java, *sorted(segments[0].parent.glob("*.index")), options=("--verify-index-only",))
    dump(java, *sorted(segments[0].parent.glob("*.timeindex")))
    broker.start()
    assert table_of(broker, name) == table


def test_offsets_survive_the_compaction_of_their_topic(make_broker: MakeBroker, name: str) -> None:
    broker = make_broker(CLEANER)
    create_topic(broker.bootstrap, name, 300)
    settings = {"bootstrap.servers": broker.bootstrap, "log_level": 0}
    consumer = Consumer(settings | {"group.id": "readers"})
    partitions = range(300)
    writer = Producer(settings | {"transactional.id": "writer"})
    writer.init_transactions(30)
    group = Consumer(settings | {"group.id": "in a transaction"})
    for number in range(1, 80):
        consumer.commit(offsets=[TopicPartition(name, index, number) for index in partitions], asynchronous=False)
        if number == 20:
            writer.begin_transaction()
            writer.send_offsets_to_transaction([TopicPartition(name, 0, 7)], group.consumer_group_metadata(), 30)
            writer.commit_transaction(30)
    wait_until_clean(broker, "__consumer_offsets")
    writer.begin_transaction()
    writer.send_offsets_to_transaction([TopicPartition(name, 1, 8)], group.consumer_group_metadata(), 30)
    for number in range(80, 120):
        consumer.commit(offsets=[TopicPartition(name, index, number) for index in partitions], asynchronous=False)
    broker.kill()
    broker.start()
    writer.commit_transaction(30)
    found = consumer.committed([TopicPartition(name, index) for index in partitions], timeout=20)
    assert {one.offset for one in found} == {119}
    wait_until(
        lambda: (
            [one.offset for one in group.committed([TopicPartition(name, 0), TopicPartition(name, 1)], timeout=20)]
            == [7, 8]
        ),
        "the offsets of both transactions",
    )
    consumer.close()
    group.close()


class Handover:
    """One data directory that Apache Kafka and Ottla open in turn."""

    def __init__(self, directory: Path) -> None:
        heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
        self.kafka = ApacheKafka(directory, settings=SETTINGS | CLEANER, heap=heap)
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


def test_either_broker_goes_on_with_what_the_other_has_cleaned(handover: Handover, name: str) -> None:
    kafka, ottla = handover.kafka, handover.ottla
    kafka.start()
    create_topic(kafka.bootstrap, name, 1, COMPACTED)
    table = fill(kafka, name)
    wait_until_clean(kafka, name)
    kafka.kill()
    ottla.start()
    assert table_of(ottla, name) == table
    table |= fill(ottla, name)
    wait_until_clean(ottla, name)
    assert table_of(ottla, name) == table
    ottla.stop()
    kafka.start()
    assert table_of(kafka, name) == table
    table |= fill(kafka, name)
    wait_until_clean(kafka, name)
    assert table_of(kafka, name) == table


@pytest.fixture
def two_directories(tmp_path: Path) -> Iterator[Broker]:
    port = free_port()
    properties = tmp_path / "server.properties"
    properties.write_text(
        f"node.id=1\nlog.dirs={tmp_path}/one,{tmp_path}/other\nlisteners=PLAINTEXT://127.0.0.1:{port}\n"
    )
    broker = OttlaOnProperties(tmp_path / "node", properties, tmp_path / "one", port=port)
    yield broker.start()
    broker.stop()


def test_replicas_are_moved_by_the_reassignment_tool(
    java: Java, two_directories: Broker, tmp_path: Path, name: str
) -> None:
    broker, other = two_directories, tmp_path / "other"
    create_topic(broker.bootstrap, name, 1, COMPACTED)
    table = fill(broker, name)
    server = ("--bootstrap-server", broker.bootstrap)
    home = broker.log_directory if (broker.log_directory / f"{name}-0").exists() else other
    target = other if home == broker.log_directory else broker.log_directory
    plan = tmp_path / "plan.json"
    partition = {"topic": name, "partition": 0, "replicas": [1], "log_dirs": [str(target)]}
    plan.write_text(json.dumps({"version": 1, "partitions": [partition]}))
    java.tool(REASSIGN, *server, "--reassignment-json-file", plan, "--execute")
    wait_until(
        lambda: "completed successfully" in java.tool(REASSIGN, *server, "--reassignment-json-file", plan, "--verify"),
        "the move is done",
    )
    assert (target / f"{name}-0").exists()
    wait_until(lambda: not (home / f"{name}-0").exists(), "the old directory is gone")
    described = json.loads(java.tool(LOG_DIRS, *server, "--describe", "--topic-list", name).splitlines()[-1])
    places = {
        directory["logDir"]: [(replica["partition"], replica["isFuture"]) for replica in directory["partitions"]]
        for directory in described["brokers"][0]["logDirs"]
    }
    assert places == {str(target): [(f"{name}-0", False)], str(home): []}
    assert table_of(broker, name) == table
    broker.kill()
    broker.start()
    assert table_of(broker, name) == table
