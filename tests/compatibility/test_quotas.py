"""Quotas as clients meet them: set with Kafka's own tool, felt by Java's and librdkafka's producers and consumers.

A rate is only ever bounded from above here: a busy machine may be slower for reasons of its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.brokers import Broker
from tests.compatibility.drivers import ClientError, Java, wait_until
from tests.compatibility.topics import create_topic
from tests.conftest import new_broker

pytestmark = pytest.mark.xdist_group("quotas")

CONFIGS = "kafka.admin.ConfigCommand"
LIMIT = 500_000
# A window that fills soon: with Kafka's default of 11 samples a client may send for ten seconds in advance.
SETTINGS = {"quota.window.num": "2", "controller.quota.window.num": "2"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker whose quotas are nobody else's."""
    broker = new_broker(tmp_path_factory.mktemp("quotas"), SETTINGS)
    broker.start()
    yield broker
    broker.stop()


def configs(java: Java, broker: Broker, *arguments: object) -> str:
    return java.tool(CONFIGS, "--bootstrap-server", broker.bootstrap, *arguments)


def set_quota(java: Java, broker: Broker, client_id: str, key: str, value: float) -> None:
    entity = ("--entity-type", "clients", "--entity-name", client_id)
    configs(java, broker, "--alter", *entity, "--add-config", f"{key}={value}")
    wait_until(lambda: key in configs(java, broker, "--describe", *entity), "the quota")


@pytest.mark.parametrize(
    ("entity", "key"),
    [
        (("--entity-type", "users", "--entity-name", "alice"), "producer_byte_rate=1024.0"),
        (("--entity-type", "users", "--entity-default"), "request_percentage=1200.5"),
        (("--entity-type", "clients", "--entity-name", "app"), "consumer_byte_rate=2048.0"),
        (("--entity-type", "clients", "--entity-default"), "controller_mutation_rate=1.0E9"),
        (
            ("--entity-type", "users", "--entity-name", "alice", "--entity-type", "clients", "--entity-default"),
            "consumer_byte_rate=4096.0",
        ),
        (("--entity-type", "ips", "--entity-name", "10.1.2.3"), "connection_creation_rate=10.0"),
        (("--entity-type", "ips", "--entity-default"), "connection_creation_rate=1.0E8"),
    ],
)
def test_kafka_configs_sets_describes_and_removes(
    java: Java, broker: Broker, entity: tuple[str, ...], key: str
) -> None:
    name, _, value = key.partition("=")
    number = value if name != "connection_creation_rate" else str(int(float(value)))
    configs(java, broker, "--alter", *entity, "--add-config", f"{name}={number}")
    wait_until(lambda: key in configs(java, broker, "--describe", *entity), "the quota")
    configs(java, broker, "--alter", *entity, "--delete-config", name)
    wait_until(lambda: key not in configs(java, broker, "--describe", *entity), "no quota")


def test_what_is_no_quota_is_refused(java: Java, broker: Broker) -> None:
    entity = ("--entity-type", "clients", "--entity-name", "app")
    with pytest.raises(ClientError, match="must be greater than 0"):
        configs(java, broker, "--alter", *entity, "--add-config", "producer_byte_rate=-1")


def test_the_java_producer_comes_down_to_its_quota(java: Java, broker: Broker, name: str) -> None:
    create_topic(broker.bootstrap, name)
    set_quota(java, broker, name, "producer_byte_rate", LIMIT)
    records, size = 3000, 1000
    started = time.monotonic()
    output = java.tool(
        "org.apache.kafka.tools.ProducerPerformance",
        *("--topic", name, "--num-records", records, "--record-size", size, "--throughput", -1, "--print-metrics"),
        *("--bootstrap-server", broker.bootstrap, "--command-property", f"client.id={name}"),
    )
    elapsed = time.monotonic() - started
    assert elapsed > records * size / LIMIT - 2, output
    throttled = re.search(r"produce-throttle-time-max:\{client-id=[^}]*\} *: ([0-9.]+)", output)
    assert throttled is not None, output
    assert float(throttled[1]) > 0


def test_librdkafka_comes_down_to_its_quota_and_tells_of_it(java: Java, broker: Broker, name: str) -> None:
    create_topic(broker.bootstrap, name)
    set_quota(java, broker, name, "producer_byte_rate", LIMIT)
    waits: list[float] = []
    producer = Producer(
        {
            "bootstrap.servers": broker.bootstrap,
            "client.id": name,
            "throttle_cb": lambda event: waits.append(event.throttle_time),
            "batch.size": 50_000,
            "linger.ms": 5,
        }
    )
    total, started = 0, time.monotonic()
    while total < 4 * LIMIT:
        producer.produce(name, bytes(1000))
        producer.poll(0)
        total += 1000
    assert producer.flush(60) == 0
    elapsed = time.monotonic() - started
    assert total / elapsed < LIMIT * 2, "a second's worth in advance, and what is on its way"
    assert elapsed > 2
    assert max(waits) > 0

    set_quota(java, broker, f"{name}-reader", "consumer_byte_rate", LIMIT)
    waits.clear()
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap,
            "client.id": f"{name}-reader",
            "group.id": name,
            "auto.offset.reset": "earliest",
            "throttle_cb": lambda event: waits.append(event.throttle_time),
            "fetch.message.max.bytes": 100_000,
        }
    )
    consumer.subscribe([name])
    values: list[int | None] = []
    deadline = time.monotonic() + 60
    first: float | None = None
    while len(values) < total // 1000 and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.5):
            assert not message.error()
            values.append(message.offset())
            first = first or time.monotonic()
    assert first is not None
    elapsed = time.monotonic() - first
    consumer.close()
    assert values == list(range(total // 1000)), "every record once, in order"
    assert elapsed > 1.5
    assert max(waits) > 0


def test_admin_clients_wait_for_their_mutations(java: Java, broker: Broker, name: str, tmp_path: Path) -> None:
    set_quota(java, broker, name, "controller_mutation_rate", 2)
    file = tmp_path / "admin.properties"
    file.write_text(f"client.id={name}\n")

    def create(topic: str, partitions: int) -> None:
        java.tool(
            "org.apache.kafka.tools.TopicCommand",
            *("--bootstrap-server", broker.bootstrap, "--command-config", file),
            *("--create", "--topic", topic, "--partitions", partitions),
        )

    create(f"{name}-1", 20)
    with pytest.raises(ClientError, match=r"(?i)quota"):
        create(f"{name}-2", 1)
    # librdkafka asks in a version that does not know the refusal: it is served, and its connection muted.
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "client.id": name, "log_level": 0})
    for number in (3, 4):
        started = time.monotonic()
        admin.create_topics([NewTopic(f"{name}-{number}", 1, 1)])[f"{name}-{number}"].result(60)
    assert time.monotonic() - started > 1
