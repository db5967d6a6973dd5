"""`python -m benchmarks.encryption`: what encryption at rest costs, the same work on two directories.

Two brokers of Ottla, in turns. The client is one process with one blocking connection for each case: what it costs is
the same for both. Throughput is in MB (1e6) of batches; processor time is the broker's alone. Segments that are read
are in the page cache.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import wire
from benchmarks.brokers import OttlaBroker
from benchmarks.measure import cpu_seconds

_WRITTEN, _READ, _SMALL = "written", "read", "small"
Work = Callable[[wire.Connection, float], tuple[int, int]]


@dataclass
class Target:
    """A broker and its figures: by case, MB/s (or requests/s) and processor seconds per GB (or 100,000 requests)."""

    broker: OttlaBroker
    figures: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """`run` works for so many seconds and says how many requests and bytes that were."""

    name: str
    run: Work
    is_small: bool = False


def produce(size: int, in_flight: int) -> Work:
    batch = wire.record_batch([bytes(size - 100)])

    def run(connection: wire.Connection, seconds: float) -> tuple[int, int]:
        body = wire.produce_body(_WRITTEN, [(0, batch)])
        send = lambda: connection.send(wire.PRODUCE, 3, body)  # noqa: E731
        count = wire.keep_in_flight(connection, send, wire.check_produce, in_flight, seconds)
        return count, count * len(batch)

    return run


def fetch(size: int, in_flight: int, topic: str = _READ) -> Work:
    def run(connection: wire.Connection, seconds: float) -> tuple[int, int]:
        received = 0
        body = wire.fetch_body(topic, {0: 0}, max_wait_ms=0, partition_max_bytes=size)

        def check(response: memoryview) -> None:
            nonlocal received
            for _, error, records in wire.read_fetch(response):
                assert not error, error
                received += len(records)

        send = lambda: connection.send(wire.FETCH, 4, body)  # noqa: E731
        return wire.keep_in_flight(connection, send, check, in_flight, seconds), received

    return run


CASES = [
    Case("produce, batches of 1 MB", produce(1_000_000, 4)),
    Case("produce, batches of 16 KB", produce(16_000, 8)),
    Case("fetch, 1 MB at a time", fetch(1_000_000, 2)),
    Case("fetch, 16 MB at a time", fetch(16_000_000, 2)),
    Case("produce, batches of 1 KB", produce(1_000, 8), is_small=True),
    Case("fetch, 16 KB at a time", fetch(16_000, 4, _SMALL), is_small=True),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each case and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--match", default="", help="only cases with this in their name")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if arguments.match in case.name]
    with tempfile.TemporaryDirectory(prefix="ottla-encryption-", dir="/var/tmp") as home:
        key = Path(home) / "key"
        key.write_bytes(bytes(range(32)))
        limits = {"log.retention.bytes": "2000000000", "log.segment.bytes": "500000000"}
        targets = [
            Target(OttlaBroker(Path(home) / "plain", settings=limits)),
            Target(OttlaBroker(Path(home) / "encrypted", settings=limits | {"encryption.key": f"file:{key}"})),
        ]
        try:
            for target in targets:
                target.broker.start()
                _prepare(target)
            for number in range(-1, arguments.rounds):  # the first one is a warm-up
                for case in chosen:
                    for target in targets:
                        figure = _measure(target, case, arguments.seconds)
                        if number >= 0:
                            target.figures.setdefault(case.name, []).append(figure)
        finally:
            for target in targets:
                target.broker.kill()
    _report(chosen, *targets)
    return 0


def _prepare(target: Target) -> None:
    """The topics, and 32 MB of records to read."""
    batch = wire.record_batch([bytes(999_900)])
    with wire.Connection(target.broker.bootstrap) as connection:
        connection.metadata([_WRITTEN, _READ, _SMALL], auto_create=True)
        for _ in range(32):
            connection.produce(_READ, 0, batch)
        small = wire.record_batch([bytes(900)])
        for _ in range(32):
            connection.produce(_SMALL, 0, small)


def _measure(target: Target, case: Case, seconds: float) -> tuple[float, float]:
    pid = target.broker.pid
    assert pid is not None, target.broker.output[-2000:]
    with wire.Connection(target.broker.bootstrap) as connection:
        before, start = cpu_seconds(pid), time.perf_counter()
        requests, size = case.run(connection, seconds)
        took, cost = time.perf_counter() - start, cpu_seconds(pid) - before
    amount = requests / 1e5 if case.is_small else size / 1e9
    return (requests if case.is_small else size / 1e6) / took, cost / amount


def _report(chosen: list[Case], plain: Target, encrypted: Target) -> None:
    print("| case | plain | encrypted | ratio | cpu: plain | cpu: encrypted |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for case in chosen:
        both = [target.figures[case.name] for target in (plain, encrypted)]
        speeds = [statistics.median(speed for speed, _ in figures) for figures in both]
        costs = [statistics.median(cost for _, cost in figures) for figures in both]
        unit, per = ("/s", "s/100k") if case.is_small else (" MB/s", "s/GB")
        cells = [f"{speed:,.0f}{unit}" for speed in speeds]
        cells.append(f"{speeds[1] / speeds[0]:.2f}")
        cells += [f"{cost:.2f} {per}" for cost in costs]
        print(f"| {case.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
