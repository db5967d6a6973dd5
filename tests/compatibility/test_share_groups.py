"""Share groups with Apache Kafka's own consumer and tools (KIP-932): a topic as a work queue."""

from __future__ import annotations

import os
import re
import threading
import time

import pytest
from confluent_kafka import AcknowledgeType, Producer, ShareConsumer

from tests.compatibility.drivers import Java, Message, wait_until
from tests.compatibility.topics import create_topic
from tests.conftest import MakeBroker

pytestmark = pytest.mark.xdist_group("tools")

CONFIGS = "kafka.admin.ConfigCommand"
CONSOLE = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"
PERFORMANCE = "org.apache.kafka.tools.ShareConsumerPerformance"
WORKER = "ShareWorker"


def configure(java: Java, bootstrap: str, group: str, **settings: str) -> None:
    """Settings of the group, dots written as underscores."""
    given = ",".join(f"{key.replace('_', '.')}={value}" for key, value in settings.items())
    java.tool(
        CONFIGS,
        *("--bootstrap-server", bootstrap, "--alter", "--entity-type", "groups", "--entity-name", group),
        *("--add-config", given),
    )


def produce(java: Java, bootstrap: str, topic: str, *values: str) -> None:
    java.produce(bootstrap, topic, [Message(0, None, value.encode()) for value in values])


def work(java: Java, bootstrap: str, group: str, topic: str, count: int | str, *settings: str) -> list[str]:
    """Let a worker do what the records say until it was given `count` of them."""
    return java.tool(WORKER, bootstrap, group, topic, count, 30_000, *settings).splitlines()


def test_console_share_consumer_gets_every_record_once(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, partitions=2)
    configure(java, bootstrap, name, share_auto_offset_reset="earliest")
    produce(java, bootstrap, name, *(f"job {number}" for number in range(30)))
    lines: list[str] = []
    for count in (10, 20):
        lines += java.tool(
            CONSOLE,
            *("--bootstrap-server", bootstrap, "--topic", name, "--group", name),
            *("--max-messages", count, "--timeout-ms", 20_000),
        ).splitlines()
    assert sorted(lines) == sorted(f"job {number}" for number in range(30))


def test_explicit_acknowledgements(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name)
    configure(java, bootstrap, name, share_auto_offset_reset="earliest", share_delivery_count_limit="3")
    jobs = ["accept", "release,accept", "reject", "release", "accept", "renew,accept"]
    produce(java, bootstrap, name, *jobs)
    lines = work(java, bootstrap, name, name, 6 + 1 + 2 + 1)
    by_offset: dict[str, list[str]] = {}
    for line in lines:
        offset, _, rest = line.partition(" ")
        by_offset.setdefault(offset, []).append(rest)
    assert by_offset == {
        "0": ["1 accept"],
        "1": ["1 release", "2 accept"],
        "2": ["1 reject"],
        "3": ["1 release", "2 release", "3 release"],
        "4": ["1 accept"],
        "5": ["1 renew", "1 accept"],
    }
    # All of them are settled now.
    produce(java, bootstrap, name, "accept")
    assert work(java, bootstrap, name, name, 1) == ["6 1 accept"]


def test_performance_tool(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, partitions=2)
    configure(java, bootstrap, name, share_auto_offset_reset="earliest")
    produce(java, bootstrap, name, *("x" * 100 for _ in range(5_000)))
    output = java.tool(
        PERFORMANCE,
        *("--bootstrap-server", bootstrap, "--topic", name, "--group", name, "--num-records", 5_000),
        *("--threads", 3, "--timeout", 20_000, "--hide-header"),
    )
    consumed = [field.strip() for field in output.strip().splitlines()[-1].split(",")]
    assert 5_000 <= int(consumed[5]) <= 5_500, output


def test_a_broker_that_is_killed_while_workers_work(java: Java, make_broker: MakeBroker, name: str) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, name)
    configure(java, broker.bootstrap, name, share_auto_offset_reset="earliest")
    jobs = 2_000
    lines: list[str] = []

    def consume() -> None:
        lines.extend(work(java, broker.bootstrap, name, name, f"~{jobs}", "max.poll.records=50"))

    worker = threading.Thread(target=consume)
    worker.start()
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "log_level": 0})
    for number in range(jobs):
        producer.produce(name, b"accept")
        producer.poll(0)
        if number % 50 == 0:
            time.sleep(0.1)
        if number == jobs // 2:
            broker.kill()
            broker.start()
    assert producer.flush(30) == 0
    worker.join(60)
    delivered = [int(line.split()[0]) for line in lines if "failed" not in line]
    assert set(delivered) == set(range(jobs))
    # What was not acknowledged when the broker ended came again, and nothing else.
    assert len(delivered) < jobs + 500
    producer.produce(name, b"accept")
    assert producer.flush(30) == 0
    assert work(java, broker.bootstrap, name, name, 1) == [f"{jobs} 1 accept"]


@pytest.mark.skipif(os.environ.get("OTTLA_TEST_BROKER") == "kafka", reason="Kafka has it from 4.4 on")
def test_dead_letter_queue(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name)
    queue = create_topic(bootstrap, f"dlq.{name}", config={"errors.deadletterqueue.group.enable": "true"})
    configure(
        java,
        bootstrap,
        name,
        share_auto_offset_reset="earliest",
        share_delivery_count_limit="2",
        errors_deadletterqueue_topic_name=queue,
        errors_deadletterqueue_copy_record_enable="true",
    )
    produce(java, bootstrap, name, "accept", "reject", "release")
    assert len(work(java, bootstrap, name, name, 4)) == 4
    wait_until(lambda: len(java.consume(bootstrap, queue, 2, timeout=2)) == 2, "two dead letters")
    letters = {message.value: dict(message.headers) for message in java.consume(bootstrap, queue, 2)}
    assert set(letters) == {b"reject", b"release"}
    for value, offset, count in ((b"reject", b"1", b"1"), (b"release", b"2", b"2")):
        headers = letters[value]
        assert headers["__dlq.errors.topic"] == name.encode()
        assert headers["__dlq.errors.group"] == name.encode()
        assert headers["__dlq.errors.partition"] == b"0"
        assert headers["__dlq.errors.offset"] == offset
        assert headers["__dlq.errors.delivery.count"] == count
        assert re.fullmatch(rb"Offset (rejected|delivery count) .*", headers["__dlq.errors.message"] or b"")


def test_workers_of_confluent_kafka(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, partitions=2)
    configure(java, bootstrap, name, share_auto_offset_reset="earliest")
    produce(java, bootstrap, name, *(f"job {number}" for number in range(100)))
    settings = {"bootstrap.servers": bootstrap, "group.id": name, "share.acknowledgement.mode": "explicit"}
    done: list[bytes] = []
    released: set[bytes] = set()
    with ShareConsumer(settings) as one, ShareConsumer(settings) as two:
        workers = (one, two)
        for worker in workers:
            worker.subscribe([name])
        deadline = time.monotonic() + 30
        while len(done) < 100 and time.monotonic() < deadline:
            for worker in workers:
                for job in worker.poll(0.2):
                    assert job.error() is None
                    value = job.value() or b""
                    if value.endswith(b"7") and value not in released:
                        released.add(value)
                        worker.acknowledge(job, AcknowledgeType.RELEASE)
                    else:
                        done.append(value)
                        worker.acknowledge(job, AcknowledgeType.ACCEPT)
                assert set(worker.commit_sync().values()) <= {None}
    assert sorted(done) == sorted(b"job %d" % number for number in range(100))
    assert len(released) == 10
