"""A key goes to the partition to which Java's and librdkafka's own producers send it."""

from __future__ import annotations

import json
import random
import subprocess

import pytest
from confluent_kafka import Consumer, Producer

import ottla
from tests.compatibility.drivers import Java
from tests.compatibility.test_java_tools import CONSOLE_PRODUCER
from tests.compatibility.topics import create_topic

PARTITIONS = 17
_chance = random.Random(11)
KEYS = [b"", b"\x00", b"\xff" * 9] + [_chance.randbytes(length % 60) for length in range(400)]
TEXTS = sorted({"".join(_chance.choices("aZ09 -_äß漢字🦦", k=1 + length % 30)) for length in range(400)})


def ours(bootstrap: str, topic: str, keys: list[bytes], **settings: object) -> list[int]:
    with ottla.Producer(bootstrap, settings) as producer:
        deliveries = [producer.send(topic, b"", key) for key in keys]
        return [delivery.result(30).partition for delivery in deliveries]


@pytest.mark.parametrize(
    "partitioner", ["consistent_random", "consistent", "murmur2_random", "murmur2", "fnv1a_random", "fnv1a"]
)
def test_partitions_of_keys_are_librdkafkas(partitioner: str, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, PARTITIONS)
    theirs: dict[int, int] = {}
    producer = Producer(
        {"bootstrap.servers": bootstrap, "partitioner": partitioner, "sticky.partitioning.linger.ms": 0}
    )
    # The random ones take an empty key for none, where it matters nothing what they do.
    keys = [key for key in KEYS if key or not partitioner.endswith("_random")]
    for index, key in enumerate(keys):

        def delivered(error: object, message: object, index: int = index) -> None:
            assert error is None
            theirs[index] = message.partition()  # type: ignore[attr-defined]

        producer.produce(name, b"", key, on_delivery=delivered)
    assert producer.flush(30) == 0
    assert ours(bootstrap, name, keys, partitioner=partitioner) == [theirs[index] for index in range(len(keys))]


def test_partitions_of_keys_are_javas(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, PARTITIONS)
    java.tool(
        CONSOLE_PRODUCER,
        *("--bootstrap-server", bootstrap, "--topic", name),
        *("--reader-property", "parse.key=true", "--reader-property", "key.separator=|"),
        input="".join(f"{text}|x\n" for text in TEXTS),
    )
    theirs: dict[str, int] = {}
    with ottla.Consumer(bootstrap, auto_offset_reset="earliest", key_deserializer=str) as consumer:
        consumer.assign([ottla.TopicPartition(name, partition) for partition in range(PARTITIONS)])
        while len(theirs) < len(TEXTS):
            records = consumer.poll(30)
            assert records
            theirs |= {record.key: record.partition for record in records if record.key is not None}
    assert ours(bootstrap, name, [text.encode() for text in TEXTS]) == [theirs[text] for text in TEXTS]


def test_librdkafka_and_we_read_what_the_other_wrote(bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, 2)
    headers = [("a", b"1"), ("a", None), ("ü", b"\xff")]
    with ottla.Producer(bootstrap, compression_type="lz4") as producer:
        written = producer.send(
            name, None, b"key", partition=1, timestamp_ms=1_700_000_000_123, headers=headers
        ).result(30)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": name, "auto.offset.reset": "earliest"})
    consumer.subscribe([name])
    message = consumer.poll(30)
    assert message is not None
    assert (message.key(), message.value(), message.partition(), message.offset()) == (b"key", None, 1, written.offset)
    assert message.headers() == headers
    assert message.timestamp()[1] == written.timestamp_ms == 1_700_000_000_123
    consumer.close()
    theirs = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd"})
    theirs.produce(name, b"value", None, partition=0, timestamp=1_700_000_000_456, headers=headers)
    assert theirs.flush(30) == 0
    with ottla.Consumer(bootstrap, auto_offset_reset="earliest") as reader:
        reader.assign([ottla.TopicPartition(name, 0)])
        (record,) = reader.poll(30)
    assert (record.key, record.value, record.timestamp_ms) == (None, b"value", 1_700_000_000_456)
    assert record.headers == tuple(headers)


PRODUCE = """
import ottla, sys, time
with ottla.Producer(sys.argv[1], client_id="measured") as producer:
    print(producer.client_instance_id(30))
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        producer.send(sys.argv[2], b"value").result(30)
        time.sleep(0.05)
"""


def test_metrics_that_the_cluster_asks_for_are_pushed(make_broker: object, name: str) -> None:
    import sys

    broker = make_broker()  # type: ignore[operator]
    with ottla.Admin(broker.bootstrap) as admin:
        resource = ottla.admin.ConfigResource.client_metrics("all")
        admin.set_config(resource, {"metrics": "*", "interval.ms": 200, "match": "client_id=measured"})
    run = subprocess.run(
        [sys.executable, "-c", PRODUCE, broker.bootstrap, name], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [json.loads(line) for line in (broker.log_directory / "client-metrics.jsonl").read_text().splitlines()]
    mine = [line for line in lines if line["client_instance_id"] == run.stdout.strip()]
    assert len(mine) >= 3
    assert [line["terminating"] for line in mine].count(True) == 1
    last = mine[-1]
    assert last["terminating"]
    assert (last["client_software_name"], last["client_id"]) == ("ottla", "measured")
    values = {metric["name"]: metric["value"] for metric in last["metrics"]}
    assert values["org.apache.kafka.producer.record.send.total"] >= 10
    assert values["org.apache.kafka.producer.topic.byte.total"] > 0
    assert values["org.apache.kafka.producer.node.request.latency.avg"] >= 0
    assert values["org.apache.kafka.producer.connection.count"] >= 1
