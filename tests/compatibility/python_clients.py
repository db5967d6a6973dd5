"""The Python clients: confluent-kafka, kafka-python and aiokafka.

They run in a driver process like the clients of other languages (`python -m tests.compatibility.python_clients`): what
they leave behind, such as sockets that nobody closes, then troubles no other test.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.brokers import ROOT
from tests.compatibility.drivers import (
    Client,
    ClientError,
    DriverProcess,
    Member,
    Message,
    ProcessClient,
    from_json,
    to_json,
    to_text,
)


class PythonClient(Client):
    """A client inside the driver process."""

    package: str


class PythonProcess(ProcessClient):
    """A Python client as the tests see it: the same abilities, in the driver process."""

    def __init__(self, process: DriverProcess, kind: type[PythonClient]) -> None:
        super().__init__(process, library=kind.name)
        self.package = kind.package
        for ability in ("name", "codecs", "strategies", "static_members", "null_headers", "idempotent"):
            setattr(self, ability, getattr(kind, ability))

    @staticmethod
    def start() -> DriverProcess:
        command = [sys.executable, "-W", "ignore", "-m", "tests.compatibility.python_clients"]
        return DriverProcess(lambda: command, directory=str(ROOT))

    def missing(self) -> str | None:
        return None if importlib.util.find_spec(self.package) else f"the Python package {self.package}"


class ThreadMember(Member):
    """Keeps what the client's callbacks report; the client itself runs in a thread until `leaving` is set."""

    def __init__(self, run: Callable[[ThreadMember], None]) -> None:
        self.leaving = threading.Event()
        self.partitions: set[int] = set()
        self.values: list[bytes] = []
        self.rebalances = 0
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._run, args=(run,), daemon=True)
        self._thread.start()

    def _run(self, run: Callable[[ThreadMember], None]) -> None:
        try:
            run(self)
        except Exception as problem:
            self.problem = repr(problem)

    def assigned(self, partitions: set[int]) -> None:
        self.partitions = self.partitions | partitions
        self.rebalances += 1

    def revoked(self, partitions: set[int]) -> None:
        self.partitions = self.partitions - partitions

    def describe(self) -> dict[str, Any]:
        return {
            "assignment": sorted(self.partitions),
            "received": list(self.values),
            "rebalances": self.rebalances,
            "problem": self.problem,
        }

    def leave(self) -> None:
        self.leaving.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the member does not stop"


class Confluent(PythonClient):
    """confluent-kafka, on librdkafka."""

    name = "confluent-kafka"
    package = "confluent_kafka"
    strategies = ("range", "roundrobin", "cooperative-sticky")

    def produce(
        self, bootstrap: str, topic: str, messages: Sequence[Message], *, codec: str = "none", idempotent: bool = False
    ) -> list[int]:
        from confluent_kafka import Producer

        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "compression.type": codec,
                "enable.idempotence": idempotent,
                "acks": "all",
                "linger.ms": 20,
                "log_level": 0,
            }
        )
        offsets: dict[int, int] = {}
        problems: list[str] = []

        def delivered(index: int) -> Callable[[Any, Any], None]:
            def report(error: Any, message: Any) -> None:
                if error:
                    problems.append(str(error))
                offsets[index] = message.offset()

            return report

        for index, message in enumerate(messages):
            producer.produce(
                topic,
                value=message.value,
                key=message.key,
                partition=message.partition,
                headers=list(message.headers),
                on_delivery=delivered(index),
                **({} if message.timestamp is None else {"timestamp": message.timestamp}),
            )
        left = producer.flush(30)
        if problems or left:
            raise ClientError(problems[0] if problems else f"{left} messages not delivered")
        return [offsets[index] for index in range(len(messages))]

    def consume(
        self, bootstrap: str, topic: str, count: int, *, committed: bool = False, timeout: float = 20
    ) -> list[Message]:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "not-used",
                "enable.auto.commit": False,
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "check.crcs": True,
                "fetch.wait.max.ms": 100,
                "log_level": 0,
            }
        )
        try:
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
            found: list[Message] = []
            deadline = time.monotonic() + timeout
            while len(found) < count and time.monotonic() < deadline:
                for message in consumer.consume(count, 0.2):
                    if message.error():
                        raise ClientError(str(message.error()))
                    found.append(
                        Message(
                            message.partition(),
                            message.key(),
                            message.value(),
                            tuple(message.headers() or ()),
                            message.timestamp()[1],
                            message.offset(),
                        )
                    )
            return found
        finally:
            consumer.close()

    def join(
        self, bootstrap: str, group: str, topic: str, *, strategy: str = "range", instance: str | None = None
    ) -> Member:
        from confluent_kafka import Consumer

        def run(member: ThreadMember) -> None:
            settings = {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "log_level": 0,
            }
            if strategy == "consumer":
                settings["group.protocol"] = "consumer"
            else:
                settings |= {
                    "session.timeout.ms": 10000,
                    "heartbeat.interval.ms": 300,
                    "partition.assignment.strategy": strategy,
                }
            if instance is not None:
                settings["group.instance.id"] = instance
            consumer = Consumer(settings)
            consumer.subscribe(
                [topic],
                on_assign=lambda _, given: member.assigned({one.partition for one in given}),
                on_revoke=lambda _, taken: member.revoked({one.partition for one in taken}),
                on_lost=lambda _, taken: member.revoked({one.partition for one in taken}),
            )
            try:
                while not member.leaving.is_set():
                    message = consumer.poll(0.1)
                    if message is not None and not message.error():
                        member.values.append(message.value())
                        consumer.commit(message, asynchronous=False)
            finally:
                consumer.close()

        return ThreadMember(run)


class KafkaPython(PythonClient):
    """kafka-python, pure Python."""

    name = "kafka-python"
    package = "kafka"
    null_headers = False

    def produce(
        self, bootstrap: str, topic: str, messages: Sequence[Message], *, codec: str = "none", idempotent: bool = False
    ) -> list[int]:
        from kafka import KafkaProducer

        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent,
            acks="all",
            linger_ms=20,
        )
        try:
            futures = [
                producer.send(
                    topic,
                    value=message.value,
                    key=message.key,
                    partition=message.partition,
                    headers=list(message.headers),
                    timestamp_ms=message.timestamp,
                )
                for message in messages
            ]
            producer.flush(30)
            return [future.get(30).offset for future in futures]
        finally:
            producer.close()

    def consume(
        self, bootstrap: str, topic: str, count: int, *, committed: bool = False, timeout: float = 20
    ) -> list[Message]:
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            isolation_level="read_committed" if committed else "read_uncommitted",
            fetch_max_wait_ms=100,
        )
        try:
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            found: list[Message] = []
            deadline = time.monotonic() + timeout
            while len(found) < count and time.monotonic() < deadline:
                for records in consumer.poll(timeout_ms=200).values():
                    found += [_message(record) for record in records]
            return found
        finally:
            consumer.close()

    def join(
        self, bootstrap: str, group: str, topic: str, *, strategy: str = "range", instance: str | None = None
    ) -> Member:
        from kafka import ConsumerRebalanceListener, KafkaConsumer
        from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
        from kafka.coordinator.assignors.range import RangePartitionAssignor
        from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
        from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

        assignors = {
            "range": RangePartitionAssignor,
            "roundrobin": RoundRobinPartitionAssignor,
            "sticky": StickyPartitionAssignor,
            "cooperative-sticky": CooperativeStickyAssignor,
        }

        def run(member: ThreadMember) -> None:
            class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
                def on_partitions_assigned(self, assigned: Any) -> None:
                    member.assigned({one.partition for one in assigned})

                def on_partitions_revoked(self, revoked: Any) -> None:
                    member.revoked({one.partition for one in revoked})

            consumer = KafkaConsumer(
                bootstrap_servers=bootstrap,
                group_id=group,
                group_instance_id=instance,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=10000,
                heartbeat_interval_ms=300,
                fetch_max_wait_ms=100,
                partition_assignment_strategy=[assignors[strategy]],
            )
            consumer.subscribe([topic], listener=Listener())
            # A member that learns of the topic's partitions only after it has joined joins a second time at once, and
            # then sometimes stops: with Apache Kafka too.
            consumer.partitions_for_topic(topic)
            try:
                while not member.leaving.is_set():
                    records = [record for some in consumer.poll(timeout_ms=100).values() for record in some]
                    member.values += [record.value for record in records]
                    if records:
                        consumer.commit()
            finally:
                consumer.close()

        return ThreadMember(run)


class Aiokafka(PythonClient):
    """aiokafka, on asyncio."""

    name = "aiokafka"
    package = "aiokafka"
    strategies = ("range", "roundrobin", "sticky")

    def produce(
        self, bootstrap: str, topic: str, messages: Sequence[Message], *, codec: str = "none", idempotent: bool = False
    ) -> list[int]:
        return asyncio.run(self._produce(bootstrap, topic, messages, codec, idempotent))

    async def _produce(
        self, bootstrap: str, topic: str, messages: Sequence[Message], codec: str, idempotent: bool
    ) -> list[int]:
        from aiokafka import AIOKafkaProducer

        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=idempotent,
            acks="all",
            linger_ms=20,
        )
        await producer.start()
        try:
            sent = [
                await producer.send(
                    topic,
                    value=message.value,
                    key=message.key,
                    partition=message.partition,
                    headers=list(message.headers),
                    timestamp_ms=message.timestamp,
                )
                for message in messages
            ]
            return [(await delivered).offset for delivered in sent]
        finally:
            await producer.stop()

    def consume(
        self, bootstrap: str, topic: str, count: int, *, committed: bool = False, timeout: float = 20
    ) -> list[Message]:
        return asyncio.run(self._consume(bootstrap, topic, count, committed, timeout))

    async def _consume(self, bootstrap: str, topic: str, count: int, committed: bool, timeout: float) -> list[Message]:
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed" if committed else "read_uncommitted",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        try:
            found: list[Message] = []
            deadline = time.monotonic() + timeout
            while len(found) < count and time.monotonic() < deadline:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [_message(record) for record in records]
            return found
        finally:
            await consumer.stop()

    def join(
        self, bootstrap: str, group: str, topic: str, *, strategy: str = "range", instance: str | None = None
    ) -> Member:
        return ThreadMember(lambda member: asyncio.run(self._run(member, bootstrap, group, topic, strategy, instance)))

    async def _run(
        self, member: ThreadMember, bootstrap: str, group: str, topic: str, strategy: str, instance: str | None
    ) -> None:
        from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
        from aiokafka.coordinator.assignors.range import RangePartitionAssignor
        from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
        from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

        assignors = {
            "range": RangePartitionAssignor,
            "roundrobin": RoundRobinPartitionAssignor,
            "sticky": StickyPartitionAssignor,
        }

        class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
            def on_partitions_assigned(self, assigned: Any) -> None:
                member.assigned({one.partition for one in assigned})

            def on_partitions_revoked(self, revoked: Any) -> None:
                member.revoked({one.partition for one in revoked})

        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            group_instance_id=instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10000,
            heartbeat_interval_ms=300,
            fetch_max_wait_ms=100,
            partition_assignment_strategy=[assignors[strategy]],
        )
        consumer.subscribe([topic], listener=Listener())
        await consumer.start()
        try:
            while not member.leaving.is_set():
                found = (await consumer.getmany(timeout_ms=100)).values()
                records = [record for some in found for record in some]
                member.values += [record.value for record in records]
                if records:
                    await consumer.commit()
        finally:
            await consumer.stop()


def _message(record: Any) -> Message:
    headers = tuple((name, value) for name, value in record.headers)
    return Message(record.partition, record.key, record.value, headers, record.timestamp, record.offset)


class Driver:
    """Carries out the commands that drivers.py describes."""

    def __init__(self) -> None:
        self.libraries: dict[str, PythonClient] = {kind.name: kind() for kind in PYTHON_CLIENTS}
        self.members: dict[str, Member] = {}

    def carry_out(self, command: dict[str, Any]) -> dict[str, Any]:
        library = self.libraries[command["library"]]
        match command:
            case {"do": "produce", "bootstrap": bootstrap, "topic": topic, "codec": codec, "idempotent": idempotent}:
                messages = [from_json(record) for record in command["records"]]
                offsets = library.produce(bootstrap, topic, messages, codec=codec, idempotent=idempotent)
                return {"offsets": offsets}
            case {"do": "consume", "bootstrap": bootstrap, "topic": topic, "count": count, "committed": committed}:
                timeout = command["timeout_ms"] / 1000
                messages = library.consume(bootstrap, topic, count, committed=committed, timeout=timeout)
                return {"records": [to_json(message) for message in messages]}
            case {"do": "join", "bootstrap": bootstrap, "topic": topic, "group": group, "strategy": strategy}:
                member = library.join(bootstrap, group, topic, strategy=strategy, instance=command["instance"])
                self.members[command["member"]] = member
                return {}
            case {"do": "member"}:
                described = self.members[command["member"]].describe()
                return {**described, "received": [to_text(value) for value in described["received"]]}
            case {"do": "leave"}:
                self.members.pop(command["member"]).leave()
                return {}
        raise ClientError(f"no command {command}")


def main() -> None:
    driver = Driver()
    for line in sys.stdin:
        try:
            answer = driver.carry_out(json.loads(line))
        except Exception as problem:
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(answer), flush=True)


PYTHON_CLIENTS: tuple[type[PythonClient], ...] = (Confluent, KafkaPython, Aiokafka)

if __name__ == "__main__":
    main()
