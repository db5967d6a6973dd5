"""Clusters of Apache Kafka's and Ottla's nodes, and what is asked of them; `mixed_brokers` and `mixed_quorum` check."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

import ottla
from benchmarks.clusters import BOTH, KAFKA, OTTLA, Cluster, KafkaNode, OttlaNode, places
from benchmarks.wire import WireError
from ottla import Admin
from ottla.admin import ElectionType, NewTopic
from ottla.errors import KafkaError, UnknownTopicError
from tests.cluster.secured import NODE, Secured

CONTROLLER, BROKER = ("controller",), ("broker",)
RECORDS = 200
PATIENCE_S = 45.0
HEAP = "-Xmx256m -Xms96m -XX:TieredStopAtLevel=1"

LAYOUTS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "kafka controller": [(KAFKA, CONTROLLER), (KAFKA, BROKER), (OTTLA, BROKER)],
    "ottla controller": [(OTTLA, CONTROLLER), (KAFKA, BROKER), (OTTLA, BROKER)],
    "kafka controllers": [(KAFKA, BOTH), (KAFKA, BOTH), (KAFKA, BOTH), (OTTLA, BROKER), (OTTLA, BROKER)],
    "ottla controllers": [(OTTLA, BOTH), (OTTLA, BOTH), (OTTLA, BOTH), (KAFKA, BROKER), (KAFKA, BROKER)],
    "one Kafka, with the controller": [(KAFKA, BOTH), (OTTLA, BROKER)],
    "one Ottla, with the controller": [(OTTLA, BOTH), (KAFKA, BROKER)],
    "quorum of both": [(KAFKA, BOTH), (OTTLA, BOTH), (OTTLA, BOTH)],
    "quorum of both, mostly Kafka": [(KAFKA, BOTH), (KAFKA, BOTH), (OTTLA, BOTH)],
}


class Replicas(NamedTuple):
    """Of a partition: ids of brokers."""

    leader: int | None
    replicas: list[int]
    isr: set[int]


class Mixed:
    """A running cluster and what the checks ask of it; where not everybody gets in, as one of its nodes."""

    def __init__(self, cluster: Cluster, secured: Secured | None = None) -> None:
        self.cluster, self.secured = cluster, secured
        settings = {} if secured is None else secured.java(NODE)
        self.login = {} if secured is None else secured.librdkafka(NODE)
        self.admin = Admin(cluster.bootstrap, settings, default_api_timeout_ms=30_000)

    @property
    def bootstrap(self) -> str:
        return self.cluster.bootstrap

    def brokers(self, kind: str) -> list[KafkaNode | OttlaNode]:
        """Those of a kind that run."""
        return [node for node in self.cluster.brokers if node.place.kind == kind and node.pid is not None]

    def ids(self, kind: str) -> list[int]:
        return [node.place.node_id for node in self.brokers(kind)]

    def create(self, topic: str, assignment: list[list[int]], **config: str) -> None:
        """Create a topic with these replicas; the first of each leads. Dots of settings are written as underscores."""
        settings = {name.replace("_", "."): value for name, value in config.items()}
        replicas = dict(enumerate(assignment))
        self.admin.create_topics([NewTopic(topic, replicas_assignments=replicas, configs=settings)])
        self.wait_in_sync(topic)

    def partitions(self, topic: str) -> dict[int, Replicas]:
        """As any broker describes them; empty when there is no such topic."""
        try:
            found = self.admin.describe_topics(topic)[topic].partitions
        except UnknownTopicError:
            return {}
        return {
            one.partition: Replicas(
                one.leader.id if one.leader else None,
                [node.id for node in one.replicas],
                {node.id for node in one.in_sync_replicas},
            )
            for one in found
        }

    def wait_in_sync(self, topic: str) -> None:
        def all_in_sync() -> bool:
            found = self.partitions(topic).values()
            return bool(found) and all(one.isr == set(one.replicas) and one.leader is not None for one in found)

        self.wait(all_in_sync, f"{topic} is in sync")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with suppress(KafkaError, WireError, OSError, KeyError):
                if condition():
                    return
            if time.monotonic() > deadline:
                raise AssertionError(f"not after {PATIENCE_S:.0f} s: {what}")
            time.sleep(0.1)

    def all_topics(self) -> list[str]:
        return list(self.admin.list_topics(list_internal=True))

    def assert_replicas_equal(self, topic: str) -> None:
        """Byte for byte, on the disks of all that have one."""
        read = Path.read_bytes if self.secured is None else self.secured.read
        for partition, described in self.partitions(topic).items():

            def contents(partition: int = partition, replicas: list[int] = described.replicas) -> set[bytes]:
                nodes = [self.cluster.nodes[replica] for replica in replicas]
                return {
                    b"".join(read(p) for p in sorted(n.directory.glob(f"*/{topic}-{partition}/*.log"))) for n in nodes
                }

            self.wait(lambda contents=contents: len(contents()) == 1, f"replicas of {topic}-{partition} are equal")  # type: ignore[misc]

    def produce(self, topic: str, count: int, prefix: str = "record") -> None:
        """`count` records into each partition, acks=all and idempotent."""
        failed: list[object] = []

        def on_delivery(error: object, _: object) -> None:
            if error is not None:
                failed.append(error)

        common = {"bootstrap.servers": self.bootstrap, "log_level": 0, **self.login}
        producer = Producer({**common, "enable.idempotence": True})
        for partition in self.partitions(topic):
            for number in range(count):
                value = f"{prefix}-{partition}-{number}"
                producer.produce(topic, value, partition=partition, on_delivery=on_delivery)
        assert producer.flush(PATIENCE_S) == 0
        assert not failed, failed[:3]

    def read(self, topic: str, **settings: object) -> dict[int, list[str]]:
        """All values of each partition, by an ordinary consumer, read_committed."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "reader",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "log_level": 0,
                **self.login,
                **settings,
            }
        )
        found: dict[int, list[str]] = {partition: [] for partition in self.partitions(topic)}
        consumer.assign([TopicPartition(topic, partition, 0) for partition in found])
        unread, deadline = set(found), time.monotonic() + PATIENCE_S
        while unread:
            assert time.monotonic() < deadline, f"{topic}: still reading {unread}"
            message = consumer.poll(0.5)
            if message is not None:
                if message.error():
                    unread.discard(message.partition() or 0)
                else:
                    found[message.partition() or 0].append((message.value() or b"").decode())
        consumer.close()
        return found

    def key_led_by(self, topic: str, node_id: int, prefix: str) -> str:
        """A group or transactional id whose partition of an internal topic is led by this broker."""
        leaders = {number: one.leader for number, one in self.partitions(topic).items()}
        for number in range(10_000):
            key = f"{prefix}-{number}"
            if leaders[java_hash(key) % len(leaders)] == node_id:
                return key
        raise AssertionError(f"{node_id} leads no partition of {topic}: {leaders}")

    def spread(self, topic: str) -> None:
        """See to it that brokers of each kind lead partitions of an internal topic, which the first client created."""
        self.wait(lambda: len(self.partitions(topic)) > 0, f"{topic} is there")
        ids = {kind: self.ids(kind) for kind in (KAFKA, OTTLA)}
        order = [one for pair in zip(ids[KAFKA], ids[OTTLA], strict=False) for one in pair]
        plan = {p: order[p % len(order) :] + order[: p % len(order)] for p in self.partitions(topic)}
        self.move(topic, {partition: replicas[:2] for partition, replicas in plan.items()})

    def elect(self, topic: str) -> None:
        """The preferred replica of each partition leads."""
        with suppress(KafkaError):
            self.admin.elect_leaders(
                ElectionType.PREFERRED, [ottla.TopicPartition(topic, p) for p in self.partitions(topic)]
            )

        def all_preferred() -> bool:
            return all(one.leader == one.replicas[0] for one in self.partitions(topic).values())

        self.wait(all_preferred, f"preferred replicas of {topic} lead")

    def move(self, topic: str, plan: dict[int, list[int]]) -> None:
        """These replicas, the first of which leads."""
        wanted = {ottla.TopicPartition(topic, partition): replicas for partition, replicas in plan.items()}
        self.admin.alter_partition_reassignments(wanted)
        self.wait(lambda: self._are_at({(topic, p): replicas for p, replicas in plan.items()}), f"{topic}: {plan}")
        self.elect(topic)

    def turn_round(self, topic: str) -> None:
        """The last replica of each partition is its first, and leads."""
        self.move(topic, {p: one.replicas[::-1] for p, one in self.partitions(topic).items()})

    def _are_at(self, plan: dict[tuple[str, int], list[int]]) -> bool:
        found = {topic: self.partitions(topic) for topic, _ in plan}
        return all(
            found[t][p].replicas == replicas and found[t][p].isr == set(replicas) for (t, p), replicas in plan.items()
        )

    def reassign(self, plan: dict[tuple[str, int], list[int]]) -> None:
        """As kafka-reassign-partitions does it, and wait."""
        moves = [{"topic": t, "partition": p, "replicas": replicas} for (t, p), replicas in plan.items()]
        path = self.cluster.directory / "plan.json"
        path.write_text(json.dumps({"version": 1, "partitions": moves}))
        common = ["--bootstrap-server", self.bootstrap, "--reassignment-json-file", str(path)]
        self.tool("kafka-reassign-partitions", *common, "--execute")

        self.wait(lambda: self._are_at(plan), f"moved: {plan}")
        told = self.tool("kafka-reassign-partitions", *common, "--verify")
        assert "is still in progress" not in told, told

    def tool(self, name: str, *arguments: str) -> str:
        command = [sys.executable, "-m", "ottla", name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{name} {arguments}: {done.stdout}{done.stderr}"
        return done.stdout


def java_hash(text: str) -> int:
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF


@contextmanager
def running(
    layout: str,
    directory: Path,
    settings: Mapping[str, str] | None = None,
    first_voters: Sequence[int] = (),
    release: str = "",
    is_secure: bool = False,
) -> Iterator[Mixed]:
    """A cluster of this layout below `directory`, which goes with it; `first_voters` makes its quorum dynamic,
    and `release` has the feature levels of an older one. With `is_secure` only those get in who belong."""
    kinds, roles = zip(*LAYOUTS[layout], strict=True)
    common = {
        "offsets.topic.num.partitions": "2",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "2",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "2",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "replica.lag.time.max.ms": "5000",
    }
    found = places(kinds, roles)
    secured = Secured(directory / "security", {place.node_id: place.host for place in found}) if is_secure else None
    cluster = Cluster(
        directory, found, common | dict(settings or {}), first_voters=first_voters, heap=HEAP, security=secured
    )
    for node in cluster.brokers:
        node.content["log.dirs"] += f",{node.directory / 'more-data'}"
    if release:
        for node in cluster.nodes.values():
            node.formatting = [*node.formatting, "--release-version", release]
    with cluster:
        mixed = Mixed(cluster, secured)
        with mixed.admin:
            yield mixed
