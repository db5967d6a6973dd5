"""What brokers of Apache Kafka and of Ottla do together: a check for each thing.

    python -m tests.compatibility.mixed_brokers LAYOUT [CHECK ...]

starts a layout of `mixed.LAYOUTS` in a temporary directory and tells what each check came to. Each gives every kind
of broker every part in turn: leader and follower, coordinator and client of a coordinator.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, ShareConsumer, TopicPartition

from benchmarks.brokers import BrokerError
from benchmarks.clusters import KAFKA, OTTLA
from benchmarks.wire import Connection
from ottla.admin import ConfigResource, TopicPartitionReplica
from tests.compatibility.mixed import PATIENCE_S, Mixed, running
from tests.simulation.history import check as check_history

RECORDS = 200

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
    groups = [
        (mixed.key_led_by("__consumer_offsets", coordinator, f"group-{protocol}"), protocol, coordinator)
        for protocol in ("classic", "consumer")
        for coordinator in (kafka, ottla)
    ]
    for group, protocol, coordinator in groups:
        assert _consume(mixed, group, protocol, 2 * RECORDS) == 2 * RECORDS
        described = mixed.admin.describe_consumer_groups(group)[group]
        assert described.coordinator.id == coordinator
    for _ in ("there", "back"):
        mixed.turn_round("__consumer_offsets")
        for group, _, _ in groups:
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
    """Queues on coordinators of either kind, and both kinds of share coordinators: every record is delivered once."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("jobs", [[kafka, ottla], [ottla, kafka]])
    mixed.produce("jobs", 50)
    _committed(mixed, "first")
    mixed.spread("__consumer_offsets")
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
        mixed.spread("__share_group_state")


def topics_move_while_clients_work(mixed: Mixed) -> None:
    """Topics go from Kafka to Ottla and back while clients work: nothing is lost, doubled or reordered."""
    ids = {kind: mixed.ids(kind)[:2] for kind in (KAFKA, OTTLA)}
    mixed.create("moved", [ids[KAFKA]] * 3)
    with load(mixed, "moved"):
        for kind in (OTTLA, KAFKA):
            mixed.reassign({("moved", partition): ids[kind] for partition in range(3)})


@contextmanager
def load(mixed: Mixed, topic: str, partitions: int = 3) -> Iterator[None]:
    """Producers and a group at work on `topic`; at the end everything acknowledged is there once, in order."""
    directory = mixed.cluster.directory / f"clients-{topic}"
    directory.mkdir()

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "tests.cluster.chaos_clients", *arguments])

    def file(name: str) -> str:
        return str(directory / f"{name}.jsonl")

    workers = [start("produce", mixed.bootstrap, topic, str(partitions), "200", name, file(name)) for name in "ab"]
    workers.append(start("consume", mixed.bootstrap, topic, "classic", f"readers-{topic}", "c", file("c")))
    try:
        time.sleep(1.5)
        yield
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
    consumed = sum(len(one["records"]) for one in operations if one["kind"] == "consume")
    assert consumed > 0
    operations += [_final_read(mixed, topic, partition) for partition in range(partitions)]
    assert [str(anomaly) for anomaly in check_history(operations)] == []


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


def directories_are_known(mixed: Mixed) -> None:
    """Brokers with several data directories tell the controller where replicas are, and move them (KIP-858)."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("placed", [[kafka, ottla], [ottla, kafka]])
    mixed.produce("placed", 20)
    for broker in (kafka, ottla):
        replica = TopicPartitionReplica("placed", 0, broker)
        directories = mixed.admin.describe_log_dirs([broker])[broker]
        assert len(directories) == 2, directories
        now = mixed.admin.describe_replica_log_dirs([replica])[replica].current_log_dir
        (other,) = set(directories) - {now}
        mixed.admin.alter_replica_log_dirs({replica: other})

        def moved(replica: TopicPartitionReplica = replica, other: str = other) -> bool:
            return mixed.admin.describe_replica_log_dirs([replica])[replica].current_log_dir == other

        mixed.wait(moved, f"{replica} is in {other}")
    mixed.wait_in_sync("placed")
    mixed.produce("placed", 20, "more")
    assert mixed.read("placed")[0][-1] == "more-0-19"


def kafka_leaves(mixed: Mixed) -> None:
    """All topics go to Ottla, Kafka's brokers are stopped in order and unregistered, what they had is there."""
    staying = mixed.ids(OTTLA)
    topics = mixed.all_topics()
    mixed.reassign({(topic, p): staying[:2] for topic in topics for p in mixed.partitions(topic)})
    controllers = [node for node in mixed.cluster.nodes.values() if node.place.is_controller]
    spare = (len(controllers) - 1) // 2
    gone = set()
    for node in mixed.brokers(KAFKA):
        if node.place.is_controller:
            if not spare:
                continue
            spare -= 1
        assert node.stop() in (0, 143)
        number = str(node.place.node_id)
        gone.add(node.place.node_id)
        mixed.tool(
            "kafka-cluster", "unregister", "--bootstrap-server", mixed.brokers(OTTLA)[0].bootstrap, "--id", number
        )
    assert gone
    rest = Mixed(mixed.cluster)

    def without_them() -> bool:
        return not gone & {node.id for node in rest.admin.describe_cluster(include_fenced_brokers=True).nodes}

    rest.wait(without_them, f"{gone} are forgotten")
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
        directories_are_known,
        kafka_leaves,
    )
}


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
