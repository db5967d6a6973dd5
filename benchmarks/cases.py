"""The cases: which load with which parameters, in sections that a run can be narrowed to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from benchmarks import (
    load_cluster,
    load_compaction,
    load_groups,
    load_latency,
    load_share,
    load_throughput,
    load_transactions,
)
from benchmarks.load_throughput import RDKAFKA_PERFORMANCE
from benchmarks.measure import Measures
from benchmarks.topics import Options, Target

CREATE_TOPICS, ADD_PARTITIONS_TO_TXN, CONSUMER_GROUP_HEARTBEAT, SHARE_FETCH = 19, 24, 68, 78
K, M = 1000, 1_000_000
SIZES = (100, 1024)

Run = Callable[[Target, Options], Measures]


@dataclass(frozen=True)
class Case:
    """`needs` is an API key: a target that does not serve it is left out. `only` names the one target it is for."""

    section: str
    name: str
    run: Run
    needs: int | None = None
    only: str | None = None


def cases() -> Iterator[Case]:
    yield Case("startup", "start", load_cluster.start_up)
    yield Case("startup", "import and ready", load_cluster.import_and_ready, only="ottla")
    yield from _producing()
    yield from _consuming()
    for acks in (1, -1):
        yield Case("small", f"sync raw acks={_acks(acks)}", partial(load_latency.sync_raw, acks=acks))
    yield Case("small", "sync confluent-kafka acks=all", partial(load_latency.sync_confluent, acks="all"))
    yield Case("small", "10 connections x 5 in flight raw", load_latency.many_raw)
    yield Case("small", "10 producers x 5 in flight confluent-kafka", load_latency.many_confluent)
    for rate in (1000, 10_000):
        yield Case("e2e", f"{rate} records/s linger=0", partial(load_latency.end_to_end, rate=rate))
    yield Case("e2e", "10000 records/s linger=5", partial(load_latency.end_to_end, rate=10_000, linger=5))
    yield Case("partitions", "1000 partitions", load_cluster.thousand_partitions, CREATE_TOPICS)
    yield Case("connections", "500 connections", load_cluster.many_connections)
    for size in SIZES:
        yield Case("compaction", f"compaction {size}B", partial(load_compaction.compaction, size=size))
        mixed = partial(load_compaction.compaction, size=size, is_mixed=True)
        yield Case("compaction", f"compaction {size}B mixed", mixed)
    yield Case("txn", "100 records confluent-kafka", load_cluster.transactions, ADD_PARTITIONS_TO_TXN)
    for version in (1, 2):
        run = partial(load_transactions.transactions_raw, version=version)
        yield Case("txn", f"100 records raw version {version}", run, ADD_PARTITIONS_TO_TXN)
    for protocol, needs in (("classic", None), ("consumer", CONSUMER_GROUP_HEARTBEAT)):
        for members in (1, 10):
            run = partial(load_cluster.group_join, members=members, protocol=protocol)
            yield Case("group", f"join {protocol} {members}", run, needs)
    groups = "10000 groups, 1000 connected members"
    yield Case("group", groups, load_groups.ten_thousand_groups, CONSUMER_GROUP_HEARTBEAT)
    for partitions in (1, 8):
        run = partial(load_share.work_queue, partitions=partitions)
        workers = f"50 workers, {partitions} partitions, fetch"
        yield Case("share", f"{workers}, then acknowledge", run, SHARE_FETCH)
        yield Case("share", f"{workers} and acknowledge", partial(run, one_request=True), SHARE_FETCH)
        yield Case("share", f"{workers}, then acknowledge, batches of 100", partial(run, batch=100), SHARE_FETCH)


def _producing() -> Iterator[Case]:
    confluent = [(1, "none", M), (-1, "none", M), (-1, "none", 65_536), (-1, "lz4", M), (-1, "zstd", M)]
    java = [(1, "none", 65_536), (-1, "none", 65_536), (-1, "none", M), (-1, "lz4", 65_536)]
    rdkafka = [(1, "none", M), (-1, "none", M), (-1, "none", 65_536)] if RDKAFKA_PERFORMANCE.exists() else []
    for section, tool, load, shapes in (
        ("produce", "confluent-kafka", load_throughput.produce_confluent, confluent),
        ("produce-java", "java perf", load_throughput.produce_java, java),
        ("produce-rdkafka", "rdkafka_performance", load_throughput.produce_rdkafka, rdkafka),
    ):
        for size in SIZES:
            for acks, codec, batch in shapes:
                run = partial(load, size=size, acks=acks, codec=codec, batch=batch)
                yield Case(section, f"produce {tool} {size}B acks={_acks(acks)} {codec} batch={batch // K}K", run)
    for size, batch in ((100, 16 * K), (100, 64 * K), (1024, 64 * K), (1024, M)):
        run = partial(load_throughput.produce_raw, size=size, batch=batch)
        yield Case("produce-raw", f"produce raw {size}B acks=all batch={batch // K}K", run)


def _consuming() -> Iterator[Case]:
    for size in SIZES:
        loads = {
            "consume": ("confluent-kafka", load_throughput.consume_confluent),
            "consume-java": ("java perf", load_throughput.consume_java),
            "consume-rdkafka": ("rdkafka_performance", load_throughput.consume_rdkafka),
            "consume-raw": ("raw", load_throughput.consume_raw),
        }
        if not RDKAFKA_PERFORMANCE.exists():
            del loads["consume-rdkafka"]
        for section, (tool, load) in loads.items():
            yield Case(section, f"consume {tool} {size}B", partial(load, size=size))


def _acks(acks: int) -> str:
    return "all" if acks < 0 else str(acks)
