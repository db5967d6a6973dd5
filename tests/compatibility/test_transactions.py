"""Transactions with librdkafka (version 1) and Java (version 2, and 1 where the feature is lowered), and the tools."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from benchmarks.brokers import Broker
from tests.compatibility.drivers import ClientError, Java, wait_until
from tests.compatibility.test_streams_groups import (
    LINES,
    PARTITIONS,
    MakeApplication,
    counts,
    make_application,
    write,
)
from tests.compatibility.topics import create_topic
from tests.conftest import MakeBroker

__all__ = ["make_application"]

pytestmark = pytest.mark.xdist_group("tools")

CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
FEATURES = "org.apache.kafka.tools.FeatureCommand"
PERFORMANCE = "org.apache.kafka.tools.ProducerPerformance"
TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand"
SETTINGS = {"transaction.state.log.num.partitions": "4"}


def new_producer(bootstrap: str, transactional_id: str, **settings: object) -> Producer:
    producer = Producer(
        {"bootstrap.servers": bootstrap, "transactional.id": transactional_id, "log_level": 0, **settings}
    )
    producer.init_transactions(20)
    return producer


def read(bootstrap: str, topic: str, partitions: int = 1, *, committed: bool = True) -> list[bytes]:
    """All that a consumer sees up to its end of each partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "-",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, index, 0) for index in range(partitions)])
    found: list[bytes] = []
    ends = 0
    while ends < partitions:
        message = consumer.poll(10)
        assert message is not None, "no end of partition"
        if message.error() is None:
            found.append(message.value())
        else:
            ends += 1
    consumer.close()
    return found


@pytest.fixture
def consumer(bootstrap: str, name: str) -> Iterator[Consumer]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": name, "auto.offset.reset": "earliest"})
    yield consumer
    consumer.close()


def test_only_committed_transactions_are_seen(bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, partitions=2)
    producer = new_producer(bootstrap, name)
    for number in range(6):
        producer.begin_transaction()
        for partition in range(2):
            producer.produce(name, b"%d" % number, partition=partition)
        producer.flush(10)
        assert read(bootstrap, name, 2).count(b"%d" % number) == 0
        if number % 2:
            producer.commit_transaction(10)
        else:
            producer.abort_transaction(10)
    assert sorted(read(bootstrap, name, 2)) == [b"1", b"1", b"3", b"3", b"5", b"5"]
    assert Counter(read(bootstrap, name, 2, committed=False)) == {b"%d" % number: 2 for number in range(6)}


def test_a_producer_with_the_same_id_fences_the_one_before(bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name)
    old = new_producer(bootstrap, name)
    old.begin_transaction()
    old.produce(name, b"old")
    old.flush(10)
    new = new_producer(bootstrap, name)
    new.begin_transaction()
    new.produce(name, b"new")
    new.commit_transaction(10)
    with pytest.raises(KafkaException) as raised:
        old.commit_transaction(10)
    assert raised.value.args[0].fatal()
    assert read(bootstrap, name) == [b"new"]


def test_positions_are_committed_with_the_records(bootstrap: str, name: str, consumer: Consumer) -> None:
    create_topic(bootstrap, name)
    create_topic(bootstrap, f"{name}-out")
    source = Producer({"bootstrap.servers": bootstrap})
    for number in range(10):
        source.produce(name, b"%d" % number)
    source.flush(10)
    consumer.subscribe([name])
    producer = new_producer(bootstrap, name)
    for outcome in ("abort", "commit"):
        messages = consumer.consume(10, 20)
        assert len(messages) == 10
        producer.begin_transaction()
        for message in messages:
            producer.produce(f"{name}-out", message.value())
        position = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(position, consumer.consumer_group_metadata(), 10)
        if outcome == "abort":
            producer.abort_transaction(10)
            assert consumer.committed(consumer.assignment(), 10)[0].offset < 0
            consumer.seek(TopicPartition(name, 0, 0))
        else:
            producer.commit_transaction(10)
    assert consumer.committed(consumer.assignment(), 10)[0].offset == 10
    assert read(bootstrap, f"{name}-out") == [b"%d" % number for number in range(10)]


def test_a_transaction_outlives_the_broker(make_broker: MakeBroker, name: str) -> None:
    broker = make_broker(SETTINGS)
    create_topic(broker.bootstrap, name)
    producer = new_producer(broker.bootstrap, name)
    for number in range(3):
        producer.begin_transaction()
        producer.produce(name, b"%d before" % number)
        producer.flush(10)
        broker.kill()
        broker.start()
        producer.produce(name, b"%d after" % number)
        producer.commit_transaction(30)
    assert read(broker.bootstrap, name) == [
        b"%d %s" % (number, when) for number in range(3) for when in (b"before", b"after")
    ]
    producer.begin_transaction()
    producer.produce(name, b"lost")
    producer.flush(10)
    broker.stop()
    broker.start()
    other = new_producer(broker.bootstrap, name)
    other.begin_transaction()
    other.produce(name, b"last")
    other.commit_transaction(10)
    assert read(broker.bootstrap, name)[6:] == [b"last"]


def test_an_open_transaction_that_nobody_ends_times_out(make_broker: MakeBroker, name: str) -> None:
    broker = make_broker({**SETTINGS, "transaction.abort.timed.out.transaction.cleanup.interval.ms": "200"})
    create_topic(broker.bootstrap, name)
    producer = new_producer(broker.bootstrap, name, **{"transaction.timeout.ms": 1000})
    producer.begin_transaction()
    producer.produce(name, b"too slow")
    producer.flush(10)
    plain = Producer({"bootstrap.servers": broker.bootstrap})
    plain.produce(name, b"plain")
    plain.flush(10)
    assert read(broker.bootstrap, name) == []
    wait_until(lambda: read(broker.bootstrap, name) == [b"plain"], "the end of the transaction")
    with pytest.raises(KafkaException):
        producer.commit_transaction(10)


# Java


def produce_with_java(java: Java, bootstrap: str, topic: str, transactional_id: str) -> None:
    java.tool(
        PERFORMANCE,
        *("--topic", topic, "--num-records", 500, "--throughput", 2000, "--record-size", 20),
        *("--transactional-id", transactional_id, "--transaction-duration-ms", 40, "--bootstrap-server", bootstrap),
    )


def consume_with_java(java: Java, bootstrap: str, topic: str, count: int) -> list[str]:
    return java.tool(
        CONSOLE_CONSUMER,
        *("--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning", "--max-messages", count),
        *("--isolation-level", "read_committed", "--timeout-ms", 15000),
    ).splitlines()


def test_java_producer_in_each_version_of_the_protocol(java: Java, make_broker: MakeBroker, name: str) -> None:
    broker = make_broker(SETTINGS)
    java_arguments = ("--bootstrap-server", broker.bootstrap)
    assert re.search(
        r"transaction\.version.*FinalizedVersionLevel: 2", java.tool(FEATURES, *java_arguments, "describe")
    )
    create_topic(broker.bootstrap, name)
    produce_with_java(java, broker.bootstrap, name, "before")
    for level in (1, 0):
        java.tool(FEATURES, *java_arguments, "downgrade", "--feature", f"transaction.version={level}")
        produce_with_java(java, broker.bootstrap, name, "before")
        produce_with_java(java, broker.bootstrap, name, f"level-{level}")
    java.tool(FEATURES, *java_arguments, "upgrade", "--feature", "transaction.version=2")
    produce_with_java(java, broker.bootstrap, name, "before")
    assert len(consume_with_java(java, broker.bootstrap, name, 3000)) == 3000
    listed = java.tool(TRANSACTIONS, *java_arguments, "list")
    assert len(re.findall(r"CompleteCommit", listed)) == 3


def test_kafka_transactions(java: Java, make_broker: MakeBroker, name: str) -> None:
    broker = make_broker(SETTINGS)

    def tool(*arguments: object) -> str:
        return java.tool(TRANSACTIONS, "--bootstrap-server", broker.bootstrap, *arguments)

    create_topic(broker.bootstrap, name)
    done, held = new_producer(broker.bootstrap, "done"), new_producer(broker.bootstrap, "held")
    for producer in (done, held):
        producer.begin_transaction()
        producer.produce(name, b"value")
        producer.flush(10)
    done.commit_transaction(10)
    time.sleep(0.1)
    assert re.search(r"done\s+\d+\s+\d+\s+CompleteCommit", tool("list"))
    assert re.search(r"held\s+\d+\s+\d+\s+Ongoing", tool("list"))
    assert "done" not in tool("list", "--duration-filter", "10", "--transactional-id-pattern", "h.*d")
    assert "held" in tool("list", "--duration-filter", "10", "--transactional-id-pattern", "h.*d")
    assert "held" not in tool("list", "--duration-filter", "600000")
    described = tool("describe", "--transactional-id", "held")
    assert re.search(rf"held\s+\d+\s+0\s+Ongoing\s+60000\s+.*{name}-0", described), described
    producers = tool("describe-producers", "--topic", name, "--partition", 0)
    assert re.search(r"\d+\s+0\s+0\s+0\s+\d+\s+1\s+None", producers) or "None" in producers
    assert tool("find-hanging", "--broker-id", 1).count("\n") <= 1, "its coordinator knows of it"

    start_offset = re.findall(r"(\d+)\s*$", producers, re.MULTILINE)
    tool("abort", "--topic", name, "--partition", 0, "--start-offset", start_offset[0])
    assert re.findall(r"None\s*$", tool("describe-producers", "--topic", name, "--partition", 0), re.MULTILINE)
    assert read(broker.bootstrap, name) == [b"value"]

    tool("forceTerminateTransaction", "--transactionalId", "held")
    wait_until(lambda: re.search(r"held\s+\d+\s+\d+\s+(CompleteAbort|Empty)", tool("list")), "the end")
    with pytest.raises(KafkaException):
        held.commit_transaction(10)
    with pytest.raises(ClientError, match="Failed to list transactions"):
        tool("list", "--transactional-id-pattern", "(")


def test_streams_counts_words_exactly_once(
    java: Java, make_broker: MakeBroker, make_application: MakeApplication, name: str
) -> None:
    broker: Broker = make_broker(SETTINGS)
    for suffix in ("text", "counts"):
        create_topic(broker.bootstrap, f"{name}-{suffix}", partitions=PARTITIONS)
    settings = (
        "group.protocol=classic",
        "processing.guarantee=exactly_once_v2",
        "producer.transaction.timeout.ms=5000",
        "main.consumer.session.timeout.ms=6000",
    )
    application = make_application(broker.bootstrap, name, *settings)
    lines: list[str] = []
    for step in range(3):
        lines += LINES * 50
        write(java, broker.bootstrap, name, LINES * 50)
        if step == 1:
            broker.kill()
            broker.start()
    expected = Counter(word for line in lines for word in line.split())
    wait_until(lambda: counts(broker.bootstrap, name) == expected, f"{dict(expected)}")
    application.close()
