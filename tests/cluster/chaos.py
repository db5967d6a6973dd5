"""Real processes, real clients, and somebody who harms the cluster all the time; then the history is checked.

    python -m tests.cluster.chaos --minutes 30 [--seed 1] [--kinds ottla,ottla,ottla] [--no-java] [--no-network]

Three nodes, broker and controller in one; librdkafka's idempotent producers and a consumer group, and Apache Kafka's
producer in Java. Faults come one after the other, each to one node: `kill -9`, an orderly restart, SIGSTOP, and, where
network namespaces are allowed, lines that are cut (to everybody, or to one other node in one direction or both) or bad.
In the end everything is healed, producers get their last answers, and every partition is read from its first record to
its last, on each replica. Nothing acknowledged may be missing, in another order, or there twice; replicas must be equal
to the byte. Exit code 1, and the directory is kept, when something is wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.brokers import BrokerError
from benchmarks.clusters import OTTLA, Cluster, Place, places
from benchmarks.wire import Connection, WireError
from tests.cluster import network
from tests.cluster.chaos_clients import JavaProducer
from tests.simulation.history import check

MODULE = "tests.cluster.chaos"
NODES = 3
PARTITIONS = 4
WHOLE_S = 120
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
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{number} x {name}" for name, number in sorted(self.faults.items()))
        told = f"{self.produced} records sent, {self.acknowledged} acknowledged, {self.consumed} consumed; {faults}"
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
    with_java: bool = True,
    net: network.Network | None = None,
    report: Callable[[str], object] = print,
) -> Outcome:
    """Harm a cluster in `directory` for so long, and tell what became of it."""
    rng, outcome = random.Random(seed), Outcome()
    cluster = Cluster(directory / "nodes", _places(kinds, net), SETTINGS)
    clients = directory / "clients"
    clients.mkdir(parents=True)
    with cluster:
        topics = _make_topics(cluster, with_java)
        workers, java_producer = _start_clients(cluster, clients, with_java)
        try:
            faults = Faults(cluster, net, rng, outcome)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(rng.uniform(0.5, 4.0))
                report(f"{end - time.monotonic():6.0f} s left: {faults.one()}")
                _check_alive(cluster)
            _heal(cluster, topics)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(400)
            if java_producer is not None:
                java_producer.stop()
        _heal(cluster, topics)
        operations = list(_histories(clients))
        finals = list(_final_reads(cluster, topics))
        if java_producer is not None:
            seen = {value for one in finals if one["topic"] == java_producer.topic for _, value in one["records"]}
            operations += java_producer.history(seen)
        operations += finals
        _settle(operations, outcome)
        outcome.problems += [str(anomaly) for anomaly in check(operations)]
        outcome.problems += _differences(cluster, topics)
    return outcome


def _places(kinds: Iterable[str], net: network.Network | None) -> list[Place]:
    found = places(kinds)
    if net is None:
        return found
    return [
        Place(p.kind, p.node_id, p.roles, 9092, 9093, host=net.address(p.node_id), prefix=net.prefix(p.node_id))
        for p in found
    ]


def _make_topics(cluster: Cluster, with_java: bool) -> list[str]:
    names = ["numbers", *(["java"] if with_java else [])]
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    for name, future in admin.create_topics([NewTopic(name, PARTITIONS, NODES) for name in names]).items():
        try:
            future.result(30)
        except KafkaException as error:
            raise BrokerError(f"{name} could not be made: {error}") from error
    return names


def _start_clients(
    cluster: Cluster, directory: Path, with_java: bool
) -> tuple[list[subprocess.Popen[bytes]], JavaProducer | None]:
    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.cluster.chaos_clients", *arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL)

    bootstrap = cluster.bootstrap
    files = {name: str(directory / f"{name}.jsonl") for name in "abcd"}
    workers = [start("produce", bootstrap, "numbers", str(PARTITIONS), name, "200", files[name]) for name in "ab"]
    workers += [start("consume", bootstrap, "numbers", "readers", name, files[name]) for name in "cd"]
    return workers, JavaProducer(bootstrap, "java", 100, directory) if with_java else None


def _check_alive(cluster: Cluster) -> None:
    """A node that ends by itself is a finding."""
    for node in cluster.nodes.values():
        if node.process is not None and node.process.poll() is not None:
            raise BrokerError(f"node {node.place.node_id} ended by itself:\n{node.output[-3000:]}")


def _heal(cluster: Cluster, topics: list[str]) -> None:
    """Wait until every node is back and every replica in sync."""
    cluster.wait_until_whole(WHOLE_S)
    deadline = time.monotonic() + WHOLE_S
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
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
            records: list[tuple[int, str]] = []
            with _leader(cluster, topic, partition) as connection:
                for batch in connection.read_all(topic, partition):
                    if not batch.crc_matches:
                        raise WireError(f"{topic}-{partition}: wrong checksum at {batch.base_offset}")
                    if not batch.is_control:
                        texts = [(value or b"").decode() for value in batch.values()]
                        records += list(enumerate(texts, batch.base_offset))
            yield {
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


def _leader(cluster: Cluster, topic: str, partition: int) -> Connection:
    for node in cluster.brokers:
        with suppress(OSError, WireError), Connection(node.bootstrap, timeout=10) as connection:
            _, partitions = connection.metadata([topic]).topics[topic]
            return Connection(cluster.nodes[partitions[partition][1]].bootstrap)
    raise WireError(f"nobody knows who leads {topic}-{partition}")


def _settle(operations: list[dict[str, Any]], outcome: Outcome) -> None:
    for one in operations:
        if one["kind"] == "produce":
            outcome.produced += 1
            outcome.acknowledged += one["outcome"] == "ok"
        elif not one.get("final"):
            outcome.consumed += len(one["records"])


def _differences(cluster: Cluster, topics: list[str]) -> list[str]:
    """Replicas that are not equal to the byte."""
    found = []
    for topic in topics:
        for partition in range(PARTITIONS):
            contents = {
                node.place.node_id: b"".join(
                    path.read_bytes() for path in sorted((node.log_directory / f"{topic}-{partition}").glob("*.log"))
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
    parser.add_argument("--no-java", action="store_true", help="without Apache Kafka's own producer")
    parser.add_argument("--no-network", action="store_true", help="without network namespaces")
    options = parser.parse_args()
    net = None
    if not options.no_network and network.is_possible():
        code = network.isolated(MODULE, sys.argv[1:])
        if code is not None:
            return code
        net = network.Network(range(1, NODES + 1))
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        outcome = run(
            directory,
            seconds=options.minutes * 60,
            seed=options.seed,
            kinds=options.kinds.split(","),
            with_java=not options.no_java,
            net=net,
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
