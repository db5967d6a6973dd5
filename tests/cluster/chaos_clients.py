"""The clients of a cluster that is being harmed: librdkafka's in processes of their own, and Apache Kafka's in Java.

Each leaves a history in JSON lines, in the words of `tests.simulation.history`.

    python -m tests.cluster.chaos_clients produce BOOTSTRAP TOPIC PARTITIONS NAME RATE FILE
    python -m tests.cluster.chaos_clients consume BOOTSTRAP TOPICS GROUP NAME FILE
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from benchmarks.brokers import java

FLUSH_S = 90
JAVA_HEAP = "-Xmx256m"
PRODUCER_SETTINGS = "enable.idempotence=true\nretries=2147483647\ndelivery.timeout.ms=300000\nmax.block.ms=300000\n"


class Recorder:
    """Writes operations; times are those of the machine's steady clock, which all processes share."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", buffering=1 << 16)

    def write(self, **operation: Any) -> None:
        self._file.write(json.dumps(operation) + "\n")

    def close(self) -> None:
        self._file.close()


class _Stopped:
    """Set by SIGTERM."""

    def __init__(self) -> None:
        self.now = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _stop(self, *_: object) -> None:
        self.now = True


def produce(bootstrap: str, topic: str, partitions: int, name: str, rate: float, path: Path) -> None:
    """Numbered records, idempotent, acks=all, until SIGTERM; then waits for the answers that are owed."""
    stopped, recorder = _Stopped(), Recorder(path)
    number = life = 0
    open_ones: dict[str, dict[str, Any]] = {}
    while not stopped.now:
        life += 1
        process, broken = f"{name}.{life}", False
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "log_level": 0,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "message.timeout.ms": 300_000,
                "reconnect.backoff.max.ms": 500,
                "topic.metadata.refresh.interval.ms": 10_000,
            }
        )

        def on_delivery(error: KafkaError | None, message: Any) -> None:
            value = message.value().decode()
            operation = open_ones.pop(value, None)
            if operation is not None:
                operation["completed_s"] = time.monotonic()
                operation["outcome"] = "ok" if error is None else "unknown"
                operation["offset"] = message.offset() if error is None else None
                recorder.write(**operation)

        started, sent = time.monotonic(), 0
        while not stopped.now and not broken:
            while sent < (time.monotonic() - started) * rate and not stopped.now and not broken:
                value = f"{name}-{number}"
                open_ones[value] = {
                    "kind": "produce",
                    "process": process,
                    "invoked_s": time.monotonic(),
                    "completed_s": None,
                    "outcome": "unknown",
                    "topic": topic,
                    "partition": number % partitions,
                    "value": value,
                    "offset": None,
                    "guarantee": "exactly once",
                    "ordered": True,
                    "number": number,
                }
                try:
                    producer.produce(topic, value.encode(), partition=number % partitions, on_delivery=on_delivery)
                    number += 1
                    sent += 1
                except BufferError:
                    del open_ones[value]
                    break
                except KafkaException as error:
                    del open_ones[value]
                    broken = error.args[0].fatal()
            producer.poll(0.01)
        producer.flush(FLUSH_S)
        for operation in open_ones.values():
            recorder.write(**operation)
        open_ones.clear()
    recorder.close()


def consume(bootstrap: str, topics: list[str], group: str, name: str, path: Path) -> None:
    """One member of a group, until SIGTERM."""
    stopped, recorder = _Stopped(), Recorder(path)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 0,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "reconnect.backoff.max.ms": 500,
        }
    )
    stints = 0

    def on_change(*_: object) -> None:
        nonlocal stints
        stints += 1

    consumer.subscribe(topics, on_assign=on_change, on_revoke=on_change, on_lost=on_change)
    committed = time.monotonic()
    while not stopped.now:
        invoked = time.monotonic()
        found: dict[tuple[str, int], list[tuple[int, str]]] = defaultdict(list)
        for message in consumer.consume(500, 0.2):
            if message.error() is None:
                found[message.topic(), message.partition()].append((message.offset(), message.value().decode()))
        for (topic, partition), records in found.items():
            recorder.write(
                kind="consume",
                process=name,
                invoked_s=invoked,
                completed_s=time.monotonic(),
                outcome="ok",
                topic=topic,
                partition=partition,
                isolation="read_committed",
                records=records,
                stint=f"{name}:{stints}",
            )
        if time.monotonic() - committed > 1:
            committed = time.monotonic()
            with suppress(KafkaException):  # nothing to commit, or a coordinator that is away: the next time
                consumer.commit(asynchronous=True)
    consumer.close()
    recorder.close()


class JavaProducer:
    """Apache Kafka's VerifiableProducer, idempotent."""

    def __init__(self, bootstrap: str, topic: str, rate: int, directory: Path) -> None:
        self.topic = topic
        self.output = directory / "java-producer.log"
        self.started = time.monotonic()
        settings = directory / "java-producer.properties"
        settings.write_text(PRODUCER_SETTINGS)
        options = ["--bootstrap-server", bootstrap, "--topic", topic, "--throughput", str(rate)]
        tool = [*java(JAVA_HEAP), "org.apache.kafka.tools.VerifiableProducer"]
        with self.output.open("wb") as output:
            command = [*tool, *options, "--command-config", str(settings)]
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def stop(self) -> None:
        """SIGTERM: it closes its producer, which waits for what is owed."""
        self.process.terminate()
        self.process.wait(FLUSH_S + 300)

    def history(self, seen: set[str]) -> Iterator[dict[str, Any]]:
        """Its operations; `seen` are all values that are in the topic, to know what it may have sent."""
        acknowledged: dict[int, dict[str, Any]] = {}
        failed: set[int] = set()
        for line in self.output.read_text().splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if event["name"] == "producer_send_success":
                    acknowledged[int(event["value"])] = event
                elif event["name"] == "producer_send_error":
                    failed.add(int(event["value"]))
        highest = max([*acknowledged, *failed, *map(int, seen)], default=-1)
        for number in range(highest + 1):
            event = acknowledged.get(number, {})
            yield {
                "kind": "produce",
                "process": "java",
                # When it was sent and answered is not told: at some time.
                "invoked_s": self.started,
                "completed_s": None,
                "outcome": "ok" if event else "unknown",
                "topic": self.topic,
                "partition": event.get("partition"),
                "value": str(number),
                "offset": event.get("offset"),
                "guarantee": "exactly once",
                "ordered": True,
                "number": number,
            }


def main(arguments: list[str]) -> None:
    match arguments:
        case ["produce", bootstrap, topic, partitions, name, rate, path]:
            produce(bootstrap, topic, int(partitions), name, float(rate), Path(path))
        case ["consume", bootstrap, topics, group, name, path]:
            consume(bootstrap, topics.split(","), group, name, Path(path))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
