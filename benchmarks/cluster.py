"""A replicated cluster of Ottla beside one of Apache Kafka: throughput, processor time, how long a failure is felt.

    python -m benchmarks.cluster [--only throughput,latency,leader,controller] [--rounds 3] [--secs 5]

Three nodes each, broker and controller in one, all on this machine, with the same server.properties but for ports and
paths. Loads and failures go to one cluster and then the other, in turns. Producers are plain sockets with batches made
beforehand, acks=all on topics with three replicas and min.insync.replicas=2, so that next to all processor time is the
brokers'. A failure is `kill -9`; it is over when the next record has been acknowledged (a leader), or when a new
controller has made a topic (a controller). The session and quorum timeouts are the same for both.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import struct
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.brokers import BrokerError
from benchmarks.clusters import KAFKA, OTTLA, Cluster, places
from benchmarks.measure import percentiles
from benchmarks.wire import PRODUCE, Connection, WireError, check_produce, produce_body, pump, record_batch

NODES = 3
PARTITIONS = 6
IN_FLIGHT = 5
DESCRIBE_QUORUM = 55
# Version 0 is flexible: the header ends with (no) tags, and so does every part of the body.
_WHICH_QUORUM = b"\x00\x02\x13__cluster_metadata\x02" + bytes(4) + b"\x00\x00\x00"
SETTINGS: Mapping[str, str] = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "min.insync.replicas": "2",
    "default.replication.factor": "3",
    "auto.create.topics.enable": "false",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}
LOADS = (("100 B records, 16 KB batches", 100, 16_000), ("1 KiB records, 0.9 MB batches", 1024, 900_000))

Row = tuple[str, str, float]
"""Case, unit, figure."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="throughput,latency,leader,controller")
    parser.add_argument("--kinds", default=f"{OTTLA},{KAFKA}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=5.0)
    parser.add_argument("--warm-up", type=float, default=10.0, help="seconds of load before anything is measured")
    options = parser.parse_args()
    chosen = options.only.split(",")
    figures: dict[tuple[str, str], dict[str, list[float]]] = {}
    with ExitStack() as stack:
        clusters = {}
        try:
            for kind in options.kinds.split(","):
                clusters[kind] = stack.enter_context(Cluster(_directory(), places([kind] * NODES), SETTINGS))
        except BrokerError as error:
            print(error, file=sys.stderr)
            return 1
        for cluster in clusters.values():
            _warm_up(cluster, options.warm_up)
        for number in range(options.rounds):
            for kind, cluster in clusters.items():
                for name in chosen:
                    for case, unit, figure in CASES[name](cluster, options.secs):
                        figures.setdefault((case, unit), {}).setdefault(kind, []).append(figure)
                        print(f"round {number + 1} {kind:6} {case}: {figure:.4g} {unit}", file=sys.stderr)
    print(_table(figures))
    return 0


def throughput(cluster: Cluster, seconds: float) -> Iterator[Row]:
    """Batches to all partitions at once: what goes through, and what the brokers spend."""
    for name, record_bytes, batch_bytes in LOADS:
        topic = make_topic(cluster)
        batch = record_batch([os.urandom(record_bytes)] * (batch_bytes // record_bytes))
        payload = batch_bytes // record_bytes * record_bytes
        _pump(cluster, topic, batch, 1.0, IN_FLIGHT)
        before = cluster.cpu_seconds()
        requests, elapsed = _pump(cluster, topic, batch, seconds, IN_FLIGHT)
        spent = cluster.cpu_seconds() - before
        yield f"{name}, acks=all", "MB/s", requests * payload / elapsed / 1e6
        yield f"{name}, acks=all", "CPU-s/GB", spent / (requests * payload) * 1e9
        drop_topic(cluster, topic)


def latency(cluster: Cluster, seconds: float) -> Iterator[Row]:
    """One record at a time, until all replicas have it."""
    topic = make_topic(cluster)
    batch = record_batch([b"x" * 100])
    _pump(cluster, topic, batch, 1.0, 1, partitions=1)
    times: list[int] = []
    before = cluster.cpu_seconds()
    requests, _ = _pump(cluster, topic, batch, seconds, 1, partitions=1, on_round_trip=times.append)
    spent = cluster.cpu_seconds() - before
    found = percentiles(times)
    yield "one record, acks=all, p50", "ms", found["p50_ms"]
    yield "one record, acks=all, p99", "ms", found["p99_ms"]
    yield "one record, acks=all", "CPU-us/request", spent / requests * 1e6
    drop_topic(cluster, topic)


def leader(cluster: Cluster, seconds: float) -> Iterator[Row]:
    """The leader of a partition, which is not the controller, is killed: until the next record is acknowledged."""
    del seconds
    topic = make_topic(cluster, partitions=1)
    batch = record_batch([b"x" * 100])
    controller = quorum_leader(cluster)
    while (victim := leader_of(cluster, topic)) == controller:
        drop_topic(cluster, topic)
        topic = make_topic(cluster, partitions=1)
    produce_once(cluster, topic, batch)
    time.sleep(random.uniform(0.5, 1.0))  # anywhere between two heartbeats
    start = time.perf_counter()
    cluster.nodes[victim].kill()
    until(lambda: produce_once(cluster, topic, batch, timeout=1.0))
    yield "leader killed, until produced again", "s", time.perf_counter() - start
    _bring_back(cluster, victim, topic)
    drop_topic(cluster, topic)


def controller(cluster: Cluster, seconds: float) -> Iterator[Row]:
    """The active controller is killed: until another one has been elected, and until it has made a topic."""
    del seconds
    topic = make_topic(cluster, partitions=1)
    victim = quorum_leader(cluster)
    time.sleep(random.uniform(0.5, 1.0))
    start = time.perf_counter()
    cluster.nodes[victim].kill()
    until(lambda: quorum_leader(cluster) not in (victim, -1))
    yield "controller killed, until the next is elected", "s", time.perf_counter() - start
    made = f"bench-{uuid.uuid4().hex[:8]}"
    create_topic(cluster, made, 1, NODES - 1)
    yield "controller killed, until a topic is made", "s", time.perf_counter() - start
    _bring_back(cluster, victim, topic)
    drop_topic(cluster, made)
    drop_topic(cluster, topic)


CASES: Mapping[str, Callable[[Cluster, float], Iterator[Row]]] = {
    "throughput": throughput,
    "latency": latency,
    "leader": leader,
    "controller": controller,
}


def _warm_up(cluster: Cluster, seconds: float) -> None:
    """The first seconds of a fresh JVM cost several times what a warm one costs."""
    topic = make_topic(cluster)
    for _, record_bytes, batch_bytes in LOADS:
        batch = record_batch([os.urandom(record_bytes)] * (batch_bytes // record_bytes))
        _pump(cluster, topic, batch, seconds / len(LOADS), IN_FLIGHT)
    drop_topic(cluster, topic)


def make_topic(cluster: Cluster, partitions: int = PARTITIONS, replicas: int = NODES) -> str:
    """A topic of which every partition takes records."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    create_topic(cluster, topic, partitions, replicas)
    probe = record_batch([b"is anybody there"])
    for partition in range(partitions):
        until(lambda: produce_once(cluster, topic, probe, partition))  # noqa: B023 - called here and now
    return topic


def create_topic(cluster: Cluster, topic: str, partitions: int, replicas: int) -> None:
    """A topic that the controller has made."""
    admin = AdminClient({"bootstrap.servers": _reachable(cluster), "log_level": 0})

    def made() -> bool:
        future = admin.create_topics([NewTopic(topic, partitions, replicas)], request_timeout=2, operation_timeout=2)
        try:
            future[topic].result()
        except KafkaException as error:
            return "ALREADY_EXISTS" in error.args[0].name()
        return True

    until(made)


def drop_topic(cluster: Cluster, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": _reachable(cluster), "log_level": 0})
    admin.delete_topics([topic])[topic].result()


def leader_of(cluster: Cluster, topic: str) -> int:
    """Who leads partition 0; -1 for nobody."""
    return leaders_of(cluster, topic).get(0, -1)


def quorum_leader(cluster: Cluster) -> int:
    """The active controller, as the newest epoch that any node tells of has it; -1 when nobody knows."""
    found = (-1, -1)
    for node in cluster.brokers:
        if node.pid is None:
            continue
        with suppress(OSError, WireError), Connection(node.bootstrap, timeout=2) as connection:
            found = max(found, _read_quorum(bytes(connection.call(DESCRIBE_QUORUM, 0, _WHICH_QUORUM))))
    return found[1]


def _read_quorum(answer: bytes) -> tuple[int, int]:
    """(leader epoch, leader id) of a DescribeQuorum response behind its correlation id."""
    position = 1  # tags of the header
    (error,) = struct.unpack_from(">h", answer, position)
    if error or answer[position + 2] != 2:
        return -1, -1
    position += 3 + answer[position + 3] + 1  # behind the topic's name
    _, error, leader_id, epoch = struct.unpack_from(">ihii", answer, position)
    return (-1, -1) if error else (epoch, leader_id)


def produce_once(cluster: Cluster, topic: str, batch: bytes, partition: int = 0, timeout: float = 10.0) -> bool:
    """One batch to a partition, wherever it is led; whether it was acknowledged."""
    with suppress(OSError, WireError):
        node = cluster.nodes.get(leaders_of(cluster, topic).get(partition, -1))
        if node is None or node.pid is None:
            return False
        with Connection(node.bootstrap, timeout=timeout) as connection:
            connection.produce(topic, partition, batch)
            return True
    return False


def leaders_of(cluster: Cluster, topic: str) -> dict[int, int]:
    """Partition → leader, as a broker that runs tells; only those that are led by one that runs."""
    for node in cluster.brokers:
        if node.pid is not None:
            with suppress(OSError, WireError), Connection(node.bootstrap, timeout=2) as connection:
                error, partitions = connection.metadata([topic]).topics.get(topic, (3, {}))
                if not error and partitions:
                    found = {index: leader_id for index, (code, leader_id) in partitions.items() if code == 0}
                    return {i: n for i, n in found.items() if n in cluster.nodes and cluster.nodes[n].pid is not None}
    return {}


def _pump(
    cluster: Cluster,
    topic: str,
    batch: bytes,
    seconds: float,
    in_flight: int,
    *,
    partitions: int = PARTITIONS,
    on_round_trip: Callable[[int], object] | None = None,
) -> tuple[int, float]:
    """A connection for each partition, to its leader. Returns (requests, seconds)."""
    leaders = leaders_of(cluster, topic)
    with ExitStack() as stack:
        frames = {}
        for partition in range(partitions):
            bootstrap = cluster.nodes[leaders[partition]].bootstrap
            connection = stack.enter_context(Connection(bootstrap))
            frames[connection] = connection.frame(PRODUCE, 3, produce_body(topic, [(partition, batch)]))
        return pump(
            list(frames), frames.__getitem__, in_flight, seconds, check=check_produce, on_round_trip=on_round_trip
        )


def _bring_back(cluster: Cluster, victim: int, topic: str) -> None:
    """Start the killed node again, and wait until it is in sync and everything is as before."""
    cluster.nodes[victim].spawn()
    cluster.wait_until_whole()
    until(lambda: _in_sync(cluster, topic) == NODES)
    time.sleep(1)


def _in_sync(cluster: Cluster, topic: str) -> int:
    admin = AdminClient({"bootstrap.servers": _reachable(cluster), "log_level": 0})
    with suppress(KafkaException):
        partitions = admin.list_topics(topic, timeout=2).topics[topic].partitions
        return min((len(partition.isrs) for partition in partitions.values()), default=0)
    return 0


def _reachable(cluster: Cluster) -> str:
    return ",".join(node.bootstrap for node in cluster.brokers if node.pid is not None)


def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Ask again and again. Raises WireError."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise WireError(f"not within {timeout_s} s")
        time.sleep(0.01)


def _directory() -> Path:
    return Path(tempfile.mkdtemp(prefix="bench-cluster-"))


def _table(figures: Mapping[tuple[str, str], Mapping[str, list[float]]]) -> str:
    lines = ["| case | | ottla | kafka | ratio |", "| --- | --- | --- | --- | --- |"]
    for (case, unit), found in figures.items():
        ours, theirs = (statistics.median(found[kind]) if kind in found else None for kind in (OTTLA, KAFKA))
        ratio = f"{ours / theirs:.2f}x" if ours is not None and theirs else ""
        cells = ["" if figure is None else f"{figure:.4g}" for figure in (ours, theirs)]
        lines.append(f"| {case} | {unit} | {cells[0]} | {cells[1]} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
