"""The process and its runtime, under the names that client libraries and the JVM's exporter use.

What dashboards ask of a JVM has an answer here as well: the memory of the process is its heap, Python's garbage
collector its collector.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

from ottla.server.metrics.exposition import NO_LABELS, Family, labels
from ottla.version import VERSION

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_COLLECTOR: Final = "python"


class GarbageWatch:
    """How long the garbage collector has worked, from `begin` on."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def begin(self) -> None:
        """Watch, until `end`."""
        gc.callbacks.append(self._called)

    def end(self) -> None:
        """Watch no more; fine a second time."""
        if self._called in gc.callbacks:
            gc.callbacks.remove(self._called)

    def _called(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._began


def families(garbage: GarbageWatch) -> Iterator[Family]:
    """All of them, as far as the system tells."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    resident, virtual, started = _memory_and_start(usage.ru_maxrss)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    total = _total_memory()

    def one(name: str, kind: str, text: str, value: float | None) -> Iterator[Family]:
        if value is not None:
            yield Family(name, kind, text, [(NO_LABELS, value)])

    yield from one("process_cpu_seconds_total", "counter", "CPU time of this process.", usage.ru_utime + usage.ru_stime)
    yield from one("process_resident_memory_bytes", "gauge", "Memory in use.", resident)
    yield from one("process_virtual_memory_bytes", "gauge", "Address space in use.", virtual)
    yield from one("process_open_fds", "gauge", "File descriptors in use.", _open_files())
    yield from one("process_max_fds", "gauge", "File descriptors that may be in use.", limit)
    yield from one("process_start_time_seconds", "gauge", "When this process has started.", started)
    heap = labels(("area", "heap"))
    for name in ("jvm_memory_used_bytes", "jvm_memory_bytes_used"):
        yield Family(name, "gauge", "Memory in use; of a process without a JVM, all of it.", [(heap, resident)])
    for name in ("jvm_memory_max_bytes", "jvm_memory_bytes_max"):
        yield Family(name, "gauge", "Memory of the machine.", [(heap, total)])
    collector = labels(("gc", _COLLECTOR))
    collections = sum(generation["collections"] for generation in gc.get_stats())
    yield Family(
        "jvm_gc_collection_seconds_sum", "counter", "Time of garbage collection.", [(collector, garbage.seconds)]
    )
    yield Family("jvm_gc_collection_seconds_count", "counter", "Garbage collections.", [(collector, collections)])
    for name in ("jvm_threads_current", "jvm_threads_live_threads"):
        yield from one(name, "gauge", "Threads.", threading.active_count())
    python = ".".join(map(str, sys.version_info[:3]))
    info = labels(("version", VERSION), ("python", python))
    yield Family("ottla_build_info", "gauge", "What is running.", [(info, 1)])


def _memory_and_start(most_kib: int) -> tuple[int, int | None, float | None]:
    """Resident and virtual bytes, and the start in seconds since 1970."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        with open("/proc/stat", "rb") as file:
            booted = next(int(line.split()[1]) for line in file if line.startswith(b"btime"))
    except (OSError, StopIteration):
        # Systems without /proc only tell the most it ever was.
        return most_kib * (1 if sys.platform == "darwin" else 1024), None, None
    return int(fields[21]) * _PAGE, int(fields[20]), booted + int(fields[19]) / _TICKS


def _open_files() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


def _total_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * _PAGE
