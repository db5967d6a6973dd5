"""The clients of a cluster that is being harmed: librdkafka's in processes of their own, and Apache Kafka's in Java.

Each leaves a history in JSON lines, in the words of `tests.simulation.history`.

    python -m tests.cluster.chaos_clients produce BOOTSTRAP TOPIC PARTITIONS RATE NAME FILE
    python -m tests.cluster.chaos_clients consume BOOTSTRAP TOPICS PROTOCOL GROUP NAME FILE

PROTOCOL is that of the group: classic, or consumer (KIP-848).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from benchmarks.brokers import java

FLUSH_S = 90
JAVA_HEAP = "-Xmx256m"
SETTINGS_FILE = "CHAOS_CLIENT_SETTINGS"
"""The variable that says where the settings are with which clients get in, as JSON; unset where everybody does."""
COMMON: dict[str, Any] = {"log_level": 0, "reconnect.backoff.max.ms": 500}
if SETTINGS_FILE in os.environ:
    COMMON |= json.loads(Path(os.environ[SETTINGS_FILE]).read_text())
CONSUMING = {"auto.offset.reset": "earliest", "isolation.level": "read_committed", "enable.auto.commit": False}
GROUP_METADATA_BYTES = 11
COMMIT_S = 1.0
"""Between two commits of a member."""
PRODUCER_SETTINGS = "enable.idempotence=true\nretries=2147483647\ndelivery.timeout.ms=300000\nmax.block.ms=300000\n"


class Recorder:
    """Writes operations; times are those of the machine's steady clock, which all processes share."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", buffering=1 << 16)

    def write(self, **operation: Any) -> None:
        self._file.write(json.dumps(operation) + "\n")

    def close(self) -> None:
        self._file.close()


class Stopped:
    """Set by SIGTERM."""

    def __init__(self) -> None:
        self.now = False
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _stop(self, *_: object) -> None:
        self.now = True


def produce(bootstrap: str, topic: str, partitions: int, name: str, rate: float, path: Path) -> None:
    """Numbered records, idempotent, acks=all, until SIGTERM; then waits for the answers that are owed."""
    stopped, recorder = Stopped(), Recorder(path)
    number = life = 0
    open_ones: dict[str, dict[str, Any]] = {}
    while not stopped.now:
        life += 1
        process, broken = f"{name}.{life}", False
        producer = Producer(
            {
                **COMMON,
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "message.timeout.ms": 300_000,
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


def consume(bootstrap: str, topics: list[str], protocol: str, group: str, name: str, path: Path) -> None:
    """One member of a group, until SIGTERM; now and then it commits how far it is."""
    stopped, recorder = Stopped(), Recorder(path)
    classic = {"session.timeout.ms": 6000} if protocol == "classic" else {}
    member = {"group.id": group, "group.protocol": protocol, **classic}
    consumer = Consumer({**COMMON, **CONSUMING, "bootstrap.servers": bootstrap, **member})
    positions: dict[tuple[str, int], int] = {}
    stints = 0

    def on_change(*_: object) -> None:
        nonlocal stints
        stints += 1
        positions.clear()

    consumer.subscribe(topics, on_assign=on_change, on_revoke=on_change, on_lost=on_change)
    committed_s = time.monotonic()
    while not stopped.now:
        invoked_s = time.monotonic()
        found: dict[tuple[str, int], list[tuple[int, str]]] = defaultdict(list)
        for message in consumer.consume(500, 0.2):
            if message.error() is None:
                found[str(message.topic()), int(message.partition() or 0)].append(record_of(message))
        for (topic, partition), records in found.items():
            positions[topic, partition] = records[-1][0] + 1
            recorder.write(
                kind="consume",
                process=name,
                invoked_s=invoked_s,
                completed_s=time.monotonic(),
                outcome="ok",
                topic=topic,
                partition=partition,
                isolation="read_committed",
                records=records,
                stint=f"{name}:{stints}",
            )
        if positions and time.monotonic() - committed_s > COMMIT_S:
            _commit(consumer, group, positions, recorder)
            positions.clear()
            committed_s = time.monotonic()
    consumer.close()
    recorder.close()


def _commit(consumer: Consumer, group: str, positions: dict[tuple[str, int], int], recorder: Recorder) -> None:
    before, invoked_s = membership(consumer), time.monotonic()
    offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in positions.items()]
    try:
        done = {
            (one.topic, one.partition)
            for one in consumer.commit(offsets=offsets, asynchronous=False) or ()
            if one.error is None
        }
    except (
        KafkaException
    ):  # a coordinator that is away, or a member that is none any more: what comes next is committed
        done = set()
    completed_s = time.monotonic()
    # In which epoch it was committed is known only if it is the same before and after.
    is_known = membership(consumer) == before
    for (topic, partition), offset in positions.items():
        is_done = is_known and (topic, partition) in done
        recorder.write(
            kind="commit",
            process=before[0],
            invoked_s=invoked_s,
            completed_s=completed_s if is_done else None,
            outcome="ok" if is_done else "unknown",
            group=group,
            topic=topic,
            partition=partition,
            offset=offset,
            member=before[0],
            epoch=before[1],
        )


def record_of(message: Any) -> tuple[int, str]:
    """Its offset and its value."""
    return message.offset(), message.value().decode()


def membership(consumer: Consumer) -> tuple[str, int]:
    """The member id, and the generation or member epoch, that librdkafka has now."""
    metadata = bytes(consumer.consumer_group_metadata())  # b"CGMDv2:", generation, group id, member id, instance id
    strings = metadata[GROUP_METADATA_BYTES:].split(b"\0")
    return strings[1].decode(), int.from_bytes(metadata[GROUP_METADATA_BYTES - 4 : GROUP_METADATA_BYTES], "little")


class JavaProducer:
    """Apache Kafka's VerifiableProducer, idempotent."""

    def __init__(
        self, bootstrap: str, topic: str, rate: int, directory: Path, security: Mapping[str, str] | None = None
    ) -> None:
        self.topic = topic
        self.output = directory / "java-producer.log"
        self.started = time.monotonic()
        settings = directory / "java-producer.properties"
        more = "".join(f"{name}={value}\n" for name, value in (security or {}).items())
        settings.write_text(PRODUCER_SETTINGS + more)
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
        case ["produce", bootstrap, topic, partitions, rate, name, path]:
            produce(bootstrap, topic, int(partitions), name, float(rate), Path(path))
        case ["consume", bootstrap, topics, protocol, group, name, path]:
            consume(bootstrap, topics.split(","), protocol, group, name, Path(path))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
