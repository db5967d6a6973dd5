"""Real processes, real clients, and somebody who harms the cluster all the time; then the history is checked.

    python -m tests.cluster.chaos --minutes 30 [--seed 1] [--kinds ottla,ottla,ottla] [--secure]

Three nodes, broker and controller in one; librdkafka's idempotent producers, consumer groups of both protocols,
programs that copy in transactions, and Apache Kafka's producer in Java. Faults come one after the other: `kill -9` of
one node, of two or of all, an orderly restart, SIGSTOP, and, where network namespaces are allowed, lines that are cut
(to everybody, or to one other node in one direction or both) or bad. In the end everything is healed, producers get
their last answers, groups come to the end of what is there, and every partition is read from its first record to its
last. Nothing acknowledged may be missing, in another order, or there twice; every record has one committed copy; groups
stand where they committed last; replicas must be equal to the byte. Exit code 1, and the directory is kept, when
something is wrong.

With `--secure` nobody is anybody (`tests.cluster.secured`): then none of the honest may ever have been refused, and
nothing may be on a disk in clear.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from benchmarks.brokers import BrokerError
from benchmarks.clusters import OTTLA, Cluster, Place, places
from benchmarks.wire import LATEST, Connection, WireError
from tests.cluster import network
from tests.cluster.chaos_clients import COMMON, SETTINGS_FILE, JavaProducer, record_of
from tests.cluster.chaos_transactions import uncopied
from tests.cluster.secured import CLIENT, NODE, Secured
from tests.simulation.history import check

INPUT, OUTPUT = "numbers", "copies"
GROUPS = {"readers": "classic", "members": "consumer", "copiers": "classic"}
"""The protocol of each group."""
READER = "-"
"""A group of nobody: who reads everything in the end."""
MODULE = "tests.cluster.chaos"
NODES = 3
PARTITIONS = 4
RATE = 200.0
"""Records a second of each producer."""
WHOLE_S = 120
CAUGHT_UP_S = 180
"""Until every group is at the end of what it reads, all being healed and producers gone."""
END_S = 400
"""Until a client has ended that was asked to."""
SETTINGS = {
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "3",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
    "auto.create.topics.enable": "false",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "replica.lag.time.max.ms": "5000",
}


@dataclass
class Outcome:
    """What a run came to."""

    faults: Counter[str] = field(default_factory=Counter)
    produced: int = 0
    acknowledged: int = 0
    consumed: int = 0
    transactions: int = 0
    commits: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{number} x {name}" for name, number in sorted(self.faults.items()))
        told = f"{self.produced} records sent, {self.acknowledged} acknowledged, {self.consumed} consumed; "
        told += f"{self.transactions} transactions and {self.commits} positions committed; {faults}"
        return "\n".join([told, *self.problems[:50], f"{len(self.problems)} problems"])


class Faults:
    """Harms one node at a time."""

    def __init__(self, cluster: Cluster, net: network.Network | None, rng: random.Random, outcome: Outcome) -> None:
        self._cluster = cluster
        self._network = net
        self._random = rng
        self._outcome = outcome
        self._kinds: dict[str, Callable[[int], None]] = {
            "kill -9": self._kill,
            "kill -9 several": self._kill_several,
            "restart": self._restart,
            "SIGSTOP": self._freeze,
        }
        if net is not None:
            self._kinds |= {"cut off": self._cut, "cut between two": self._cut_between}
            if net.can_slow_down:
                self._kinds["bad line"] = self._slow_down

    def one(self) -> str:
        """Harm a node, wait, heal it; what was done."""
        name = self._random.choice(list(self._kinds))
        node = self._random.choice(list(self._cluster.nodes))
        self._outcome.faults[name] += 1
        self._kinds[name](node)
        return f"{name} {node}"

    def _kill(self, node: int) -> None:
        self._cluster.nodes[node].kill()
        time.sleep(self._random.choice((0.1, 1.0, 4.0, 8.0)))
        self._cluster.nodes[node].spawn()

    def _kill_several(self, node: int) -> None:
        """All but one, or all: each has what it wrote when it comes back."""
        spared = self._random.choice((node, None))
        killed = [one for name, one in self._cluster.nodes.items() if name != spared]
        for one in killed:
            one.kill()
            time.sleep(self._random.choice((0.0, 0.3)))
        self._random.shuffle(killed)
        for one in killed:
            time.sleep(self._random.choice((0.0, 1.0, 4.0)))
            one.spawn()

    def _restart(self, node: int) -> None:
        self._cluster.nodes[node].stop()
        self._cluster.nodes[node].spawn()

    def _freeze(self, node: int) -> None:
        process = self._cluster.nodes[node].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        time.sleep(self._random.choice((0.5, 2.0, 5.0, 10.0)))
        process.send_signal(signal.SIGCONT)

    def _cut(self, node: int) -> None:
        assert self._network is not None
        self._network.cut(node)
        time.sleep(self._random.choice((1.0, 5.0, 10.0)))
        self._network.heal()

    def _cut_between(self, node: int) -> None:
        assert self._network is not None
        other = self._random.choice([one for one in self._cluster.nodes if one != node])
        self._network.cut_between(node, other, one_way=self._random.random() < 0.5)
        time.sleep(self._random.choice((1.0, 5.0, 10.0)))
        self._network.heal()

    def _slow_down(self, node: int) -> None:
        assert self._network is not None
        self._network.slow_down(node, delay_ms=50, jitter_ms=30, loss_percent=5)
        time.sleep(self._random.choice((2.0, 8.0)))
        self._network.heal()


def run(
    directory: Path,
    *,
    seconds: float,
    seed: int,
    kinds: Iterable[str] = (OTTLA,) * NODES,
    rate: float = RATE,
    with_java: bool = True,
    net: network.Network | None = None,
    is_secure: bool = False,
    report: Callable[[str], object] = print,
) -> Outcome:
    """Harm a cluster in `directory` for so long, and tell what became of it."""
    rng, outcome = random.Random(seed), Outcome()
    found = _places(kinds, net)
    secured = Secured(directory / "security", {place.node_id: place.host for place in found}) if is_secure else None
    cluster = Cluster(directory / "nodes", found, SETTINGS, security=secured)
    clients = directory / "clients"
    clients.mkdir(parents=True)
    if secured is not None:
        _let_clients_in(secured, clients)
    with _running(cluster):
        topics = _make_topics(cluster, with_java, secured)
        producers, readers, java_producer = _start_clients(cluster, clients, rate, with_java, secured)
        try:
            faults = Faults(cluster, net, rng, outcome)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(rng.uniform(0.5, 4.0))
                report(f"{end - time.monotonic():6.0f} s left: {faults.one()}")
                _check_alive(cluster, [*producers, *readers])
            _heal(cluster, topics)
            _end(producers)
            outcome.problems += _catch_up(cluster)
        finally:
            _end([*producers, *readers])
            if java_producer is not None:
                java_producer.stop()
        _heal(cluster, topics)
        operations = list(_histories(clients))
        finals = [*_final_reads(cluster, topics), *_committed_reads(cluster), *_committed_offsets(cluster)]
        if java_producer is not None:
            reads = [one for one in finals if one["kind"] == "consume" and one["topic"] == java_producer.topic]
            seen = {value for one in reads for _, value in one["records"]}
            operations += java_producer.history(seen)
        operations += finals
        _settle(operations, outcome)
        outcome.problems += [str(anomaly) for anomaly in check(operations)]
        outcome.problems += uncopied(operations, INPUT, OUTPUT)
        outcome.problems += _differences(cluster, topics, secured)
    if secured is not None:
        outcome.problems += [f"refused: {one}" for one in secured.refusals()]
        outcome.problems += [
            f"in clear: {one}" for node in cluster.brokers for one in secured.leaks(node.log_directory)
        ]
    return outcome


@contextmanager
def _running(cluster: Cluster) -> Iterator[None]:
    """As the cluster itself is a context; but what the nodes have written stays."""
    try:
        cluster.start()
        yield
    finally:
        for node in cluster.nodes.values():
            node.kill()


def _places(kinds: Iterable[str], net: network.Network | None) -> list[Place]:
    found = places(kinds)
    if net is None:
        return found
    return [
        Place(p.kind, p.node_id, p.roles, 9092, 9093, host=net.address(p.node_id), prefix=net.prefix(p.node_id))
        for p in found
    ]


def _let_clients_in(secured: Secured, directory: Path) -> None:
    """Clients here, and those in processes of their own, say who they are."""
    path = directory / "settings.json"
    path.write_text(json.dumps(secured.librdkafka()))
    os.environ[SETTINGS_FILE] = str(path)
    COMMON.update(secured.librdkafka())


def _allow_clients(admin: AdminClient) -> None:
    """What they need, and nothing else."""
    topics = ((ResourceType.TOPIC, "*", one) for one in (AclOperation.READ, AclOperation.WRITE))
    groups = ((ResourceType.GROUP, name, AclOperation.READ) for name in (*GROUPS, READER))
    transactions = [(ResourceType.TRANSACTIONAL_ID, "*", AclOperation.WRITE)]
    rules = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{CLIENT}", "*", operation, AclPermissionType.ALLOW)
        for kind, name, operation in (*topics, *groups, *transactions)
    ]
    for future in admin.create_acls(rules).values():
        future.result(30)


def _make_topics(cluster: Cluster, with_java: bool, secured: Secured | None) -> list[str]:
    names = [INPUT, OUTPUT, *(["java"] if with_java else [])]
    login = {} if secured is None else secured.librdkafka(NODE)
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0, **login})
    if secured is not None:
        _allow_clients(admin)
    for name, future in admin.create_topics([NewTopic(name, PARTITIONS, NODES) for name in names]).items():
        try:
            future.result(30)
        except KafkaException as error:
            raise BrokerError(f"{name} could not be made: {error}") from error
    return names


def _start_clients(
    cluster: Cluster, directory: Path, rate: float, with_java: bool, secured: Secured | None
) -> tuple[list[subprocess.Popen[bytes]], list[subprocess.Popen[bytes]], JavaProducer | None]:
    """Those who write to the input, and those who read it."""
    bootstrap = cluster.bootstrap

    def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
        name = arguments[-1]
        path = directory / (f"{name}.jsonl" if module == "chaos_clients" else name)
        command = [sys.executable, "-m", f"tests.cluster.{module}", *arguments, str(path)]
        with (directory / f"{name}.log").open("wb") as output:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=output)

    def produce(name: str) -> subprocess.Popen[bytes]:
        return start("chaos_clients", "produce", bootstrap, INPUT, str(PARTITIONS), str(rate), name)

    def consume(name: str, group: str) -> subprocess.Popen[bytes]:
        return start("chaos_clients", "consume", bootstrap, f"{INPUT},{OUTPUT}", GROUPS[group], group, name)

    producers = [produce(name) for name in "ab"]
    readers = [consume(f"{group}-{number}", group) for group in ("readers", "members") for number in (1, 2)]
    readers += [start("chaos_transactions", bootstrap, INPUT, OUTPUT, "copiers", f"copier-{n}") for n in (1, 2)]
    if not with_java:
        return producers, readers, None
    login = None if secured is None else secured.java()
    return producers, readers, JavaProducer(bootstrap, "java", 100, directory, login)


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(END_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            raise BrokerError(f"a client does not end: {worker.args!r}") from None


def _catch_up(cluster: Cluster) -> list[str]:
    """Wait until every group stands at the end of the input; what does not get there."""
    ends = {}
    for partition in range(PARTITIONS):
        with _leader(cluster, INPUT, partition) as connection:
            ends[partition] = connection.list_offset(INPUT, partition, LATEST)
    deadline, behind = time.monotonic() + CAUGHT_UP_S, dict.fromkeys(GROUPS, "nowhere")
    while behind and time.monotonic() < deadline:
        time.sleep(0.5)
        for group in list(behind):
            with suppress(KafkaException):
                at = {one.partition: one.offset for one in _positions(cluster, group, INPUT)}
                behind[group] = f"at {at}"
                if at == ends:
                    del behind[group]
    return [f"stuck: {group} is {where} {CAUGHT_UP_S} s later, and not at {ends}" for group, where in behind.items()]


def _positions(cluster: Cluster, group: str, topic: str) -> list[TopicPartition]:
    """What a group has committed. KafkaException when it is not known now."""
    consumer = Consumer({**COMMON, "bootstrap.servers": cluster.bootstrap, "group.id": group})
    try:
        found = consumer.committed([TopicPartition(topic, partition) for partition in range(PARTITIONS)], 10)
    finally:
        consumer.close()
    for one in found:
        if one.error is not None:
            raise KafkaException(one.error)
    return list(found)


def _check_alive(cluster: Cluster, clients: list[subprocess.Popen[bytes]]) -> None:
    """Whoever ends by itself is a finding."""
    for client in clients:
        if client.poll() is not None:
            raise BrokerError(f"a client ended by itself: {client.args!r}")
    for node in cluster.nodes.values():
        if node.process is not None and node.process.poll() is not None:
            raise BrokerError(f"node {node.place.node_id} ended by itself:\n{node.output[-3000:]}")


def _heal(cluster: Cluster, topics: list[str]) -> None:
    """Wait until every node is back and every replica in sync."""
    cluster.wait_until_whole(WHOLE_S)
    deadline = time.monotonic() + WHOLE_S
    admin = AdminClient({**COMMON, "bootstrap.servers": cluster.bootstrap})
    while True:
        with suppress(KafkaException):
            known = admin.list_topics(timeout=5).topics
            if all(len(one.isrs) == NODES for topic in topics for one in known[topic].partitions.values()):
                return
        if time.monotonic() > deadline:
            raise BrokerError("not all replicas are in sync again")
        time.sleep(0.2)


def _histories(directory: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _final_reads(cluster: Cluster, topics: list[str]) -> Iterator[dict[str, Any]]:
    """Every partition from its first record to its last."""
    for topic in topics:
        for partition in range(PARTITIONS):
            invoked_s = time.monotonic()
            records: list[tuple[int, str]] = []
            with _leader(cluster, topic, partition) as connection:
                for batch in connection.read_all(topic, partition):
                    if not batch.crc_matches:
                        raise WireError(f"{topic}-{partition}: wrong checksum at {batch.base_offset}")
                    if not batch.is_control:
                        texts = [(value or b"").decode() for value in batch.values()]
                        records += list(enumerate(texts, batch.base_offset))
            yield _final_read(topic, partition, "read_uncommitted", records, invoked_s)


def _committed_reads(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """What those see in the end who read committed records, as a consumer tells it."""
    settings = {"group.id": READER, "isolation.level": "read_committed", "enable.partition.eof": True}
    for topic in (INPUT, OUTPUT):
        for partition in range(PARTITIONS):
            consumer = Consumer({**COMMON, **settings, "bootstrap.servers": cluster.bootstrap})
            consumer.assign([TopicPartition(topic, partition, 0)])
            records: list[tuple[int, str]] = []
            invoked_s, is_over = time.monotonic(), False
            while not is_over:
                for message in consumer.consume(500, 1.0):
                    if (error := message.error()) is None:
                        records.append(record_of(message))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        is_over = True
                if time.monotonic() - invoked_s > WHOLE_S:
                    raise BrokerError(f"{topic}-{partition} does not end for readers of committed records")
            consumer.close()
            yield _final_read(topic, partition, "read_committed", records, invoked_s)


def _committed_offsets(cluster: Cluster) -> Iterator[dict[str, Any]]:
    for group in GROUPS:
        for topic in (INPUT, OUTPUT):
            invoked_s = time.monotonic()
            for one in _positions(cluster, group, topic):
                yield {
                    "kind": "committed",
                    "process": "the end",
                    "invoked_s": invoked_s,
                    "completed_s": time.monotonic(),
                    "outcome": "ok",
                    "group": group,
                    "topic": topic,
                    "partition": one.partition,
                    "offset": None if one.offset < 0 else one.offset,
                    "final": True,
                }


def _final_read(
    topic: str, partition: int, isolation: str, records: list[tuple[int, str]], invoked_s: float
) -> dict[str, Any]:
    return {
        "kind": "consume",
        "process": "the end",
        "invoked_s": invoked_s,
        "completed_s": time.monotonic(),
        "outcome": "ok",
        "topic": topic,
        "partition": partition,
        "isolation": isolation,
        "records": records,
        "final": True,
        "start": 0,
        "end": records[-1][0] + 1 if records else 0,
    }


def _leader(cluster: Cluster, topic: str, partition: int) -> Connection:
    for node in cluster.brokers:
        with suppress(OSError, WireError), node.connect(10) as connection:
            _, partitions = connection.metadata([topic]).topics[topic]
            return cluster.nodes[partitions[partition][1]].connect()
    raise WireError(f"nobody knows who leads {topic}-{partition}")


def _settle(operations: list[dict[str, Any]], outcome: Outcome) -> None:
    for one in operations:
        if one["kind"] == "produce":
            outcome.produced += 1
            outcome.acknowledged += one["outcome"] == "ok"
        elif one["kind"] == "transaction":
            outcome.transactions += one["outcome"] == "ok"
        elif one["kind"] == "commit":
            outcome.commits += one["outcome"] == "ok"
        elif one["kind"] == "consume" and not one.get("final"):
            outcome.consumed += len(one["records"])


def _differences(cluster: Cluster, topics: list[str], secured: Secured | None) -> list[str]:
    """Replicas that are not equal to the byte."""
    found = []
    read = Path.read_bytes if secured is None else secured.read
    for topic in topics:
        for partition in range(PARTITIONS):
            contents = {
                node.place.node_id: b"".join(
                    read(path) for path in sorted((node.log_directory / f"{topic}-{partition}").glob("*.log"))
                )
                for node in cluster.brokers
            }
            if len(set(contents.values())) > 1:
                sizes = {node: len(content) for node, content in contents.items()}
                found.append(f"the replicas of {topic}-{partition} differ: {sizes} bytes")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join([OTTLA] * NODES), help="what the nodes are: ottla or kafka")
    parser.add_argument("--rate", type=float, default=RATE, help="records a second of each producer")
    parser.add_argument("--directory", type=Path, help="where nodes and clients have their data, below")
    parser.add_argument("--secure", action="store_true", help="TLS, SCRAM, ACLs, encrypted disks, audit")
    parser.add_argument("--no-java", action="store_true", help="without Apache Kafka's own producer")
    parser.add_argument("--no-network", action="store_true", help="without network namespaces")
    options = parser.parse_args()
    net = None
    if not options.no_network and network.is_possible():
        code = network.isolated(MODULE, sys.argv[1:])
        if code is not None:
            return code
        net = network.Network(range(1, NODES + 1))
    directory = Path(tempfile.mkdtemp(prefix="chaos-", dir=options.directory))
    try:
        outcome = run(
            directory,
            seconds=options.minutes * 60,
            seed=options.seed,
            kinds=options.kinds.split(","),
            rate=options.rate,
            with_java=not options.no_java,
            net=net,
            is_secure=options.secure,
        )
    except (BrokerError, WireError) as error:
        print(f"{error}\n(data in {directory})", file=sys.stderr)
        return 1
    print(outcome)
    if outcome.problems:
        print(f"data in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
