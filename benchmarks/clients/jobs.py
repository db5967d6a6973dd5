"""What a client is asked to do: one job runs in a process of its own and says what it cost."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from benchmarks.measure import Measures, memory_mb

BATCH_BYTES = 1_000_000
"""`batch.size` for every client: librdkafka's default, and what its own benchmarks use."""
LINGER_MS = 5
POLL_RECORDS = 500
HELD_RECORDS = 1_000_000
TIMEOUT_S = 60


@dataclass(frozen=True)
class Job:
    """`count` records of `size` bytes; `prefilled` topics hold as many."""

    client: str
    kind: str
    bootstrap: str
    topic: str
    size: int
    compression: str
    count: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))


Worker = Callable[[Job, "Stopwatch"], None]


class Stopwatch:
    """Times what lies between `start` and `stop`: connecting and importing are not part of a rate."""

    def __init__(self) -> None:
        self.measures: Measures = {}
        self._wall = self._cpu = 0.0
        self._memory = 0.0

    def start(self) -> None:
        self._memory = memory_mb(os.getpid())["rss_mb"]
        self._wall, self._cpu = time.perf_counter(), _cpu()

    def stop(self, records: int) -> None:
        seconds, cpu = time.perf_counter() - self._wall, _cpu() - self._cpu
        self.measures.update(records_s=records / seconds, client_cpu_us=cpu / records * 1e6)

    def weigh(self) -> None:
        """Resident memory that came since `start`."""
        self.measures["held_mb"] = memory_mb(os.getpid())["rss_mb"] - self._memory

    @contextmanager
    def broker_paused(self) -> Iterator[None]:
        """Meanwhile the broker does nothing: what is sent stays with the client."""
        _ask("pause")
        try:
            yield
        finally:
            _ask("continue")


def values_of(size: int) -> tuple[bytes, ...]:
    from benchmarks.payloads import payloads

    return payloads(size)


def check_count(expected: int, found: int) -> None:
    if found < expected:
        raise RuntimeError(f"{found} of {expected} records were handled")


def _ask(what: str) -> None:
    print(what, flush=True)
    sys.stdin.readline()


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
