"""What a cluster of Apache Kafka's and Ottla's nodes must do: a check for each thing, on brokers of either kind.

    python -m tests.compatibility.mixed LAYOUT [CHECK ...]

starts a layout of `LAYOUTS` in a temporary directory and tells what each check came to. Every check gives each kind of
broker each part in turn: leader and follower, coordinator and client of a coordinator.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Producer, ShareConsumer, TopicPartition

import ottla
from benchmarks.brokers import BrokerError
from benchmarks.clusters import BOTH, KAFKA, OTTLA, Cluster, KafkaNode, OttlaNode, places
from benchmarks.wire import Connection, WireError
from ottla import Admin
from ottla.admin import ConfigResource, ElectionType, NewTopic
from ottla.errors import KafkaError, UnknownTopicError
from tests.simulation.history import check as check_history

CONTROLLER, BROKER = ("controller",), ("broker",)
RECORDS = 200
PATIENCE_S = 45.0
HEAP = "-Xmx256m -Xms96m -XX:TieredStopAtLevel=1"

LAYOUTS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "kafka controller": [(KAFKA, CONTROLLER), (KAFKA, BROKER), (OTTLA, BROKER)],
    "ottla controller": [(OTTLA, CONTROLLER), (KAFKA, BROKER), (OTTLA, BROKER)],
    "kafka controllers": [(KAFKA, BOTH), (KAFKA, BOTH), (KAFKA, BOTH), (OTTLA, BROKER), (OTTLA, BROKER)],
    "ottla controllers": [(OTTLA, BOTH), (OTTLA, BOTH), (OTTLA, BOTH), (KAFKA, BROKER), (KAFKA, BROKER)],
    "quorum of both": [(KAFKA, BOTH), (OTTLA, BOTH), (OTTLA, BOTH)],
    "quorum of both, mostly Kafka": [(KAFKA, BOTH), (KAFKA, BOTH), (OTTLA, BOTH)],
}


class Replicas(NamedTuple):
    """Of a partition: ids of brokers."""

    leader: int | None
    replicas: list[int]
    isr: set[int]


class Mixed:
    """A running cluster and what the checks ask of it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.admin = Admin(cluster.bootstrap, default_api_timeout_ms=30_000)

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
        for partition, described in self.partitions(topic).items():

            def contents(partition: int = partition, replicas: list[int] = described.replicas) -> set[bytes]:
                nodes = [self.cluster.nodes[replica] for replica in replicas]
                return {
                    b"".join(p.read_bytes() for p in sorted((n.log_directory / f"{topic}-{partition}").glob("*.log")))
                    for n in nodes
                }

            self.wait(lambda contents=contents: len(contents()) == 1, f"replicas of {topic}-{partition} are equal")  # type: ignore[misc]

    def produce(self, topic: str, count: int, prefix: str = "record") -> None:
        """`count` records into each partition, acks=all and idempotent."""
        failed: list[object] = []

        def on_delivery(error: object, _: object) -> None:
            if error is not None:
                failed.append(error)

        producer = Producer({"bootstrap.servers": self.bootstrap, "log_level": 0, "enable.idempotence": True})
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
            if leaders[_java_hash(key) % len(leaders)] == node_id:
                return key
        raise AssertionError(f"{node_id} leads no partition of {topic}: {leaders}")

    def spread(self, topic: str) -> None:
        """See to it that brokers of each kind lead partitions of an internal topic, which the first client created."""
        self.wait(lambda: len(self.partitions(topic)) > 0, f"{topic} is there")
        ids = {kind: self.ids(kind) for kind in (KAFKA, OTTLA)}
        order = [one for pair in zip(ids[KAFKA], ids[OTTLA], strict=False) for one in pair]
        plan = {p: order[p % len(order) :] + order[: p % len(order)] for p in self.partitions(topic)}
        self.reassign({(topic, partition): replicas[:2] for partition, replicas in plan.items()})
        self.elect(topic)

    def elect(self, topic: str) -> None:
        """The preferred replica of each partition leads."""
        with suppress(KafkaError):
            self.admin.elect_leaders(
                ElectionType.PREFERRED, [ottla.TopicPartition(topic, p) for p in self.partitions(topic)]
            )

        def all_preferred() -> bool:
            return all(one.leader == one.replicas[0] for one in self.partitions(topic).values())

        self.wait(all_preferred, f"preferred replicas of {topic} lead")

    def reassign(self, plan: dict[tuple[str, int], list[int]]) -> None:
        """As kafka-reassign-partitions does it, and wait."""
        moves = [{"topic": t, "partition": p, "replicas": replicas} for (t, p), replicas in plan.items()]
        path = self.cluster.directory / "plan.json"
        path.write_text(json.dumps({"version": 1, "partitions": moves}))
        common = ["--bootstrap-server", self.bootstrap, "--reassignment-json-file", str(path)]
        self.tool("kafka-reassign-partitions", *common, "--execute")

        def moved() -> bool:
            found = {topic: self.partitions(topic) for topic, _ in plan}
            return all(
                found[t][p].replicas == replicas and found[t][p].isr == set(replicas)
                for (t, p), replicas in plan.items()
            )

        self.wait(moved, f"moved: {plan}")
        told = self.tool("kafka-reassign-partitions", *common, "--verify")
        assert "is still in progress" not in told, told

    def tool(self, name: str, *arguments: str) -> str:
        command = [sys.executable, "-m", "ottla", name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{name} {arguments}: {done.stdout}{done.stderr}"
        return done.stdout


def _java_hash(text: str) -> int:
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF


# What is checked


def brokers_register_and_serve(mixed: Mixed) -> None:
    """Brokers of both kinds register, heartbeat, are unfenced, and tell the same of the cluster."""
    everybody = {node.place.node_id for node in mixed.cluster.brokers}
    for node in mixed.cluster.brokers:
        with Connection(node.bootstrap) as connection:
            assert set(connection.metadata([]).brokers) == everybody
    described = mixed.tool("kafka-cluster", "list-endpoints", "--bootstrap-server", mixed.bootstrap)
    assert all(str(node.port) in described for node in mixed.cluster.brokers), described
    features = mixed.tool("kafka-features", "--bootstrap-server", mixed.bootstrap, "describe")
    assert "metadata.version" in features, features


def each_follows_the_other(mixed: Mixed) -> None:
    """Ottla follows Kafka, and Kafka follows Ottla, with acks=all and min.insync.replicas=2; replicas are equal."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("both", [[kafka, ottla], [ottla, kafka]], min_insync_replicas="2")
    mixed.produce("both", RECORDS)
    assert mixed.read("both") == {p: [f"record-{p}-{n}" for n in range(RECORDS)] for p in (0, 1)}
    mixed.wait_in_sync("both")
    mixed.assert_replicas_equal("both")


def leaders_change_places(mixed: Mixed) -> None:
    """Ottla's broker is killed: Kafka's leads, and is written to; it comes back, truncates, catches up, leads again."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("moving", [[ottla, kafka]] * 2, min_insync_replicas="1")
    mixed.produce("moving", RECORDS, "first")
    node = mixed.cluster.nodes[ottla]
    node.kill()
    mixed.wait(lambda: {p.leader for p in mixed.partitions("moving").values()} == {kafka}, "Kafka's broker leads")
    mixed.produce("moving", RECORDS, "second")
    node.spawn()
    mixed.wait_in_sync("moving")
    mixed.elect("moving")
    mixed.produce("moving", RECORDS, "third")
    expected = [f"{prefix}-%d-{n}" for prefix in ("first", "second", "third") for n in range(RECORDS)]
    assert mixed.read("moving") == {p: [one % p for one in expected] for p in (0, 1)}
    mixed.assert_replicas_equal("moving")


def groups_on_either(mixed: Mixed) -> None:
    """Groups of both protocols on coordinators of either kind; offsets survive a move to the other kind and back."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("grouped", [[kafka, ottla], [ottla, kafka]])
    mixed.produce("grouped", RECORDS)
    _committed(mixed, "first")
    mixed.spread("__consumer_offsets")
    for protocol in ("classic", "consumer"):
        for coordinator in (kafka, ottla):
            group = mixed.key_led_by("__consumer_offsets", coordinator, f"group-{protocol}")
            assert _consume(mixed, group, protocol, 2 * RECORDS) == 2 * RECORDS
            described = mixed.admin.describe_consumer_groups(group)[group]
            assert described.coordinator.id == coordinator
            # The partition's other replica leads: its kind reads what the first has written.
            partition = _java_hash(group) % len(mixed.partitions("__consumer_offsets"))
            before = mixed.partitions("__consumer_offsets")[partition].replicas
            mixed.reassign({("__consumer_offsets", partition): before[::-1]})
            mixed.elect("__consumer_offsets")
            assert _committed(mixed, group) == {0: RECORDS, 1: RECORDS}
            mixed.reassign({("__consumer_offsets", partition): before})
            mixed.elect("__consumer_offsets")
            assert _committed(mixed, group) == {0: RECORDS, 1: RECORDS}


def _consume(mixed: Mixed, group: str, protocol: str, count: int) -> int:
    settings: dict[str, object] = {
        "bootstrap.servers": mixed.bootstrap,
        "group.id": group,
        "group.protocol": protocol,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "log_level": 0,
    }
    consumer = Consumer(settings)
    consumer.subscribe(["grouped"])
    seen, deadline = 0, time.monotonic() + PATIENCE_S
    while seen < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        seen += message is not None and message.error() is None
    consumer.commit(asynchronous=False)
    consumer.close()
    return seen


def _committed(mixed: Mixed, group: str) -> dict[int, int | None]:
    found = mixed.admin.list_consumer_group_offsets(group)[group]
    return {where.partition: None if one is None else one.offset for where, one in found.items()}


def transactions_on_either(mixed: Mixed) -> None:
    """Transactions on coordinators of either kind, with partitions and offsets on both kinds: all or nothing."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("exact", [[kafka, ottla], [ottla, kafka]], min_insync_replicas="2")
    _transact(mixed, "first-one", "nothing", commit=True)
    mixed.spread("__transaction_state")
    mixed.wait(lambda: len(mixed.partitions("__consumer_offsets")) > 0, "there are offsets")
    expected: list[str] = []
    for coordinator in (kafka, ottla):
        transactional_id = mixed.key_led_by("__transaction_state", coordinator, "tx")
        for number in range(3):
            name = f"{coordinator}-{number}"
            for commit in (False, True):
                _transact(mixed, transactional_id, f"{name}-{commit}", commit=commit)
            expected.append(f"{name}-True")
    found = mixed.read("exact")
    for partition in (0, 1):
        assert found[partition] == ["nothing"] + expected, (partition, found[partition])
    mixed.assert_replicas_equal("exact")


def _transact(mixed: Mixed, transactional_id: str, value: str, *, commit: bool) -> None:
    producer = Producer({"bootstrap.servers": mixed.bootstrap, "transactional.id": transactional_id, "log_level": 0})
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    for partition in (0, 1):
        producer.produce("exact", value, partition=partition)
    reader = Consumer({"bootstrap.servers": mixed.bootstrap, "group.id": f"of-{value}", "log_level": 0})
    offsets = [TopicPartition("exact", partition, 7) for partition in (0, 1)]
    producer.send_offsets_to_transaction(offsets, reader.consumer_group_metadata(), PATIENCE_S)
    if commit:
        producer.commit_transaction(PATIENCE_S)
    else:
        producer.flush(PATIENCE_S)
        producer.abort_transaction(PATIENCE_S)
    committed = {one.partition: one.offset for one in reader.committed(offsets, PATIENCE_S)}
    expected = 7 if commit else -1001
    assert committed == {0: expected, 1: expected}, (transactional_id, value, committed)
    reader.close()


def share_groups_on_either(mixed: Mixed) -> None:
    """Queues over partitions that both kinds lead: every record is delivered once, by coordinators of either kind."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("jobs", [[kafka, ottla], [ottla, kafka]])
    mixed.produce("jobs", 50)
    for coordinator in (kafka, ottla):
        group = mixed.key_led_by("__consumer_offsets", coordinator, "queue")
        mixed.admin.set_config(ConfigResource.group(group), {"share.auto.offset.reset": "earliest"})
        worker = ShareConsumer({"bootstrap.servers": mixed.bootstrap, "group.id": group, "log_level": 0})
        worker.subscribe(["jobs"])
        seen: list[str] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(seen) < 100 and time.monotonic() < deadline:
            seen += [(one.value() or b"").decode() for one in worker.poll(0.5) if one.error() is None]
        worker.commit_sync()
        worker.close()
        assert sorted(seen) == sorted(f"record-{p}-{n}" for p in (0, 1) for n in range(50)), len(seen)


def topics_move_while_clients_work(mixed: Mixed) -> None:
    """Topics go from Kafka to Ottla and back while clients work: nothing is lost, doubled or reordered."""
    _move(mixed, "moved", [KAFKA, OTTLA, KAFKA])


def _move(mixed: Mixed, topic: str, stations: list[str]) -> None:
    partitions = 3
    ids = {kind: mixed.ids(kind)[:2] for kind in stations}
    mixed.create(topic, [ids[stations[0]]] * partitions)
    directory = mixed.cluster.directory / f"clients-{topic}"
    directory.mkdir()

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.cluster.chaos_clients", *arguments])

    names = "ab"
    workers = [
        start("produce", mixed.bootstrap, topic, str(partitions), name, "200", str(directory / f"{name}.jsonl"))
        for name in names
    ]
    workers.append(
        start("consume", mixed.bootstrap, topic, "classic", f"readers-{topic}", "c", str(directory / "c.jsonl"))
    )
    try:
        for kind in stations[1:]:
            time.sleep(1.5)
            mixed.reassign({(topic, partition): ids[kind] for partition in range(partitions)})
        time.sleep(1.5)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(120)
    operations = [json.loads(line) for path in directory.glob("*.jsonl") for line in path.read_text().splitlines()]
    produced = [one for one in operations if one["kind"] == "produce"]
    assert len(produced) > 200
    assert {one["outcome"] for one in produced} == {"ok"}
    operations += [_final_read(mixed, topic, partition) for partition in range(partitions)]
    assert [str(anomaly) for anomaly in check_history(operations)] == []
    consumed = sum(len(one["records"]) for one in operations if one["kind"] == "consume" and not one.get("final"))
    assert consumed > 0


def _final_read(mixed: Mixed, topic: str, partition: int) -> dict[str, Any]:
    leader = mixed.partitions(topic)[partition].leader
    records: list[tuple[int, str]] = []
    assert leader is not None
    with Connection(mixed.cluster.nodes[leader].bootstrap) as connection:
        for batch in connection.read_all(topic, partition):
            assert batch.crc_matches
            records += list(enumerate(((value or b"").decode() for value in batch.values()), batch.base_offset))
    return {
        "kind": "consume",
        "process": "the end",
        "invoked_s": time.monotonic(),
        "completed_s": time.monotonic(),
        "outcome": "ok",
        "topic": topic,
        "partition": partition,
        "isolation": "read_uncommitted",
        "records": records,
        "final": True,
        "start": 0,
        "end": records[-1][0] + 1 if records else 0,
    }


def kafka_leaves(mixed: Mixed) -> None:
    """All topics go to Ottla, Kafka's brokers are stopped in order and unregistered, what they had is there."""
    leaving, staying = mixed.brokers(KAFKA), mixed.ids(OTTLA)
    topics = mixed.all_topics()
    mixed.reassign({(topic, p): staying[:2] for topic in topics for p in mixed.partitions(topic)})
    for node in leaving:
        assert node.stop() in (0, 143)
        if node.place.is_controller:
            continue
        number = str(node.place.node_id)
        mixed.tool(
            "kafka-cluster", "unregister", "--bootstrap-server", mixed.brokers(OTTLA)[0].bootstrap, "--id", number
        )
    rest = Mixed(mixed.cluster)

    def only_ottla() -> bool:
        return {node.id for node in rest.admin.describe_cluster().nodes} == set(staying)

    rest.wait(only_ottla, "only Ottla is there")
    for topic in ("both", "exact"):
        if topic in topics:
            rest.produce(topic, 10, "last")
            assert rest.read(topic)[0][-1] == "last-0-9"


CHECKS: dict[str, Callable[[Mixed], None]] = {
    check.__name__: check
    for check in (
        brokers_register_and_serve,
        each_follows_the_other,
        leaders_change_places,
        groups_on_either,
        transactions_on_either,
        share_groups_on_either,
        topics_move_while_clients_work,
        kafka_leaves,
    )
}


@contextmanager
def running(
    layout: str, directory: Path, settings: Mapping[str, str] | None = None, first_voters: Sequence[int] = ()
) -> Iterator[Mixed]:
    """A cluster of this layout below `directory`, which goes with it; `first_voters` makes its quorum dynamic."""
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
    cluster = Cluster(
        directory, places(kinds, roles), common | dict(settings or {}), first_voters=first_voters, heap=HEAP
    )
    with cluster:
        yield Mixed(cluster)


def main() -> int:
    layout, *names = sys.argv[1:]
    directory = Path(tempfile.mkdtemp(prefix="mixed-"))
    kept = directory.with_name(directory.name + "-logs")
    failed = 0
    started = time.monotonic()
    try:
        with running(layout, directory) as mixed:
            print(f"{layout}: up after {time.monotonic() - started:.1f} s", flush=True)
            for name in names or CHECKS:
                since = time.monotonic()
                try:
                    CHECKS[name](mixed)
                    print(f"  {time.monotonic() - since:5.1f} s  {name}", flush=True)
                except Exception:
                    failed += 1
                    print(f"  {time.monotonic() - since:5.1f} s  {name} FAILED\n{traceback.format_exc()}", flush=True)
            kept.mkdir()
            for node in mixed.cluster.nodes.values():
                shutil.copy(node.directory / "broker.log", kept / f"{node.place.node_id}-{node.place.kind}.log")
    except BrokerError as error:
        print(f"{layout}: {error}")
        failed += 1
    print(f"{failed} failed; logs in {kept}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
