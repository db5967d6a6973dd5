"""How Ottla grows on one host: with brokers, with partitions; and what a cluster costs that nobody uses.

    python -m benchmarks.growth [--only brokers,partitions,idle] [--rounds 3] [--secs 5]

`brokers`: one to four brokers, topics without replicas and, from three brokers on, with three. `partitions`: ten, a
hundred, a thousand of them, every request to another one. `idle`: three nodes, without topics and with a thousand
partitions of three replicas.

Loads are plain sockets with batches made beforehand, in as many processes as there are cores, and share these with the
brokers: see how much of a core the brokers had before calling a throughput their limit. Processor time is the
scheduler's, of all threads of all nodes. Figures of one case are the medians of its rounds.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from benchmarks.cluster import SETTINGS, create_topic, drop_topic, leaders_of, until
from benchmarks.clusters import OTTLA, Cluster, places
from benchmarks.measure import memory_mb
from benchmarks.micro_produce import cpu_ns
from benchmarks.wire import PRODUCE, Connection, check_produce, produce_body, pump, record_batch

MOST_BROKERS = 4
PARTITIONS_OF_A_BROKER = 4
PARTITIONS = (10, 100, 1000)
REPLICAS = 3
RECORD_BYTES = 100
BATCH_RECORDS = 160
IN_FLIGHT = 5
IDLE_S = 20.0
SETTLE_S = 3.0
"""What connecting and creating topics has started is over then."""
CLUSTER_SETTINGS = {**SETTINGS, "broker.session.timeout.ms": "9000", "broker.heartbeat.interval.ms": "2000"}
"""The times of Kafka's documentation: what an idle cluster does depends on them."""

Row = tuple[str, dict[str, float]]
"""A case and its figures, by their units."""


@dataclass(frozen=True)
class Share:
    """What one process produces: to these partitions of a topic, by the address of their leaders."""

    topic: str
    partitions: Mapping[str, Sequence[int]]
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--secs", type=float, default=5.0)
    options = parser.parse_args()
    for name in options.only.split(","):
        found: dict[str, dict[str, list[float]]] = {}
        for number in range(options.rounds):
            for case, figures in CASES[name](options.secs):
                text = ", ".join(f"{figure:.4g} {unit}" for unit, figure in figures.items())
                print(f"round {number + 1} {case}: {text}", file=sys.stderr)
                for unit, figure in figures.items():
                    found.setdefault(case, {}).setdefault(unit, []).append(figure)
        print(_table(name, found))
    return 0


def brokers(seconds: float) -> Iterator[Row]:
    """The same load for more and more brokers."""
    for count in range(1, MOST_BROKERS + 1):
        with _cluster(count) as cluster:
            for replicas in (1, REPLICAS) if count >= REPLICAS else (1,):
                name = f"{count} brokers, {replicas} replicas"
                yield name, _produce(cluster, count * PARTITIONS_OF_A_BROKER, replicas, seconds)


def partitions(seconds: float) -> Iterator[Row]:
    """The same load on more and more partitions."""
    for count, replicas in ((1, 1), (REPLICAS, REPLICAS)):
        with _cluster(count) as cluster:
            for size in PARTITIONS:
                name = f"{size} partitions, {count} brokers, {replicas} replicas"
                yield name, _produce(cluster, size, replicas, seconds)


def idle(seconds: float) -> Iterator[Row]:
    """Three nodes that nobody asks for anything."""
    del seconds
    with _cluster(REPLICAS) as cluster:
        yield "no topic", _rest(cluster)
        for size in PARTITIONS[1:]:
            topic = _topic(cluster, size, REPLICAS)
            yield f"{size} partitions, {REPLICAS} replicas", _rest(cluster)
            drop_topic(cluster, topic)


CASES: Mapping[str, Callable[[float], Iterator[Row]]] = {"brokers": brokers, "partitions": partitions, "idle": idle}


def _cluster(count: int) -> Cluster:
    # Topics say themselves how many replicas they have, internal ones are not made.
    settings = dict(CLUSTER_SETTINGS)
    settings |= {name: "1" for name in settings if name.endswith("replication.factor") and count < REPLICAS}
    if count < REPLICAS:
        settings["min.insync.replicas"] = "1"
    return Cluster(Path(tempfile.mkdtemp(prefix="bench-growth-")), places([OTTLA] * count), settings)


def _topic(cluster: Cluster, size: int, replicas: int) -> str:
    """A topic all of whose replicas are in sync."""
    topic = f"growth-{size}-{time.monotonic_ns()}"
    create_topic(cluster, topic, size, replicas)
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})

    def whole() -> bool:
        try:
            found = admin.list_topics(topic, timeout=5).topics[topic].partitions
        except KafkaException:
            return False
        return len(found) == size and all(len(one.isrs) == replicas and one.leader > 0 for one in found.values())

    until(whole)
    return topic


def _produce(cluster: Cluster, size: int, replicas: int, seconds: float) -> dict[str, float]:
    topic = _topic(cluster, size, replicas)
    until(lambda: len(leaders_of(cluster, topic)) == size)
    leaders = leaders_of(cluster, topic)
    workers = os.cpu_count() or 1
    shares = []
    for number in range(workers):
        by_address: dict[str, list[int]] = {}
        for partition in range(number, size, workers):
            by_address.setdefault(cluster.nodes[leaders[partition]].bootstrap, []).append(partition)
        shares.append(Share(topic, by_address, seconds))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(_load, [Share(one.topic, one.partitions, min(seconds, 1.0)) for one in shares]))
        before = _cpu_ns(cluster)
        done = list(pool.map(_load, shares))
        spent_ns = _cpu_ns(cluster) - before
    drop_topic(cluster, topic)
    requests, elapsed = sum(count for count, _ in done), max(seconds for _, seconds in done)
    records = requests * BATCH_RECORDS
    return {
        "MB/s": records * RECORD_BYTES / elapsed / 1e6,
        "CPU-s/GB": spent_ns / (records * RECORD_BYTES),
        "CPU us/record": spent_ns / records / 1e3,
        "cores of the brokers": spent_ns / elapsed / 1e9,
    }


def _load(share: Share) -> tuple[int, float]:
    """Requests and seconds; runs in a process of its own."""
    batch = record_batch([os.urandom(RECORD_BYTES)] * BATCH_RECORDS)
    with ExitStack() as stack:
        frames = {}
        for address, numbers in share.partitions.items():
            connection = stack.enter_context(Connection(address))
            bodies = [produce_body(share.topic, [(number, batch)]) for number in numbers]
            frames[connection] = itertools.cycle([connection.frame(PRODUCE, 3, body) for body in bodies])
        return pump(list(frames), lambda one: next(frames[one]), IN_FLIGHT, share.seconds, check=check_produce)


def _rest(cluster: Cluster) -> dict[str, float]:
    time.sleep(SETTLE_S)
    before, start = _cpu_ns(cluster), time.perf_counter()
    time.sleep(IDLE_S)
    spent_ns, elapsed = _cpu_ns(cluster) - before, time.perf_counter() - start
    nodes = len(cluster.pids)
    return {
        "% of a core per node": spent_ns / nodes / elapsed / 1e7,
        "RSS MB per node": statistics.mean(memory_mb(pid)["rss_mb"] for pid in cluster.pids),
    }


def _cpu_ns(cluster: Cluster) -> int:
    return sum(map(cpu_ns, cluster.pids))


def _table(name: str, found: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    units = list(next(iter(found.values())))
    lines = [f"| {name} | {' | '.join(units)} |", "| --- " * (len(units) + 1) + "|"]
    for case, figures in found.items():
        cells = (f"{statistics.median(figures[unit]):.3g}" for unit in units)
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
