"""What a process costs, read from /proc: processor time and memory of a process tree; and percentiles, and a lock."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KIB_IN_MB = 1.024e-3

Measures = dict[str, float]


def process_tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parent = int(_stat(int(entry))[1])
                children.setdefault(parent, []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        process = todo.pop()
        found.append(process)
        todo += children.get(process, [])
    return found


def cpu_seconds(pid: int | None) -> float:
    """User and system time of the process tree so far, in steps of a clock tick (10 ms)."""
    ticks = 0
    for process in process_tree(pid) if pid else ():
        with contextlib.suppress(OSError):
            ticks += sum(int(field) for field in _stat(process)[11:15])  # utime stime cutime cstime
    return ticks / TICKS_PER_SECOND


def started_at_ns(pid: int) -> int:
    """When the process was started, on CLOCK_BOOTTIME."""
    return int(_stat(pid)[19]) * 1_000_000_000 // TICKS_PER_SECOND


def memory_mb(pid: int | None) -> Measures:
    """Resident memory of the process tree, and its proportional share where pages are shared."""
    resident = proportional = 0
    for process in process_tree(pid) if pid else ():
        with contextlib.suppress(OSError):
            resident += _kib(Path(f"/proc/{process}/status").read_text(), r"VmRSS:\s+(\d+)")
            proportional += _kib(Path(f"/proc/{process}/smaps_rollup").read_text(), r"\nPss:\s+(\d+)")
    return {"rss_mb": resident * KIB_IN_MB, "pss_mb": proportional * KIB_IN_MB}


def percentiles(latencies_ns: Sequence[int], prefix: str = "") -> Measures:
    """p50, p99, p99.9 and the largest, in milliseconds."""
    ordered = sorted(latencies_ns)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1e6

    return {
        prefix + "p50_ms": at(0.5),
        prefix + "p99_ms": at(0.99),
        prefix + "p999_ms": at(0.999),
        prefix + "max_ms": ordered[-1] / 1e6,
    }


@dataclass
class Window:
    """A stretch of time and what it cost the broker and this process with its ended children."""

    seconds: float = 0.0
    broker_cpu_s: float = 0.0
    client_cpu_s: float = 0.0

    def rates(self, records: int, record_bytes: int, seconds: float | None = None) -> Measures:
        """Throughput and processor time per GB (1e9 bytes of record value)."""
        seconds = seconds or self.seconds
        gigabytes = records * record_bytes / 1e9
        measures = {"msgs_s": records / seconds, "mb_s": gigabytes * 1e3 / seconds}
        if self.broker_cpu_s:
            measures["broker_cpu_s_per_gb"] = self.broker_cpu_s / gigabytes
            measures["broker_cores"] = self.broker_cpu_s / self.seconds
        return {**measures, "client_cpu_s_per_gb": self.client_cpu_s / gigabytes}

    def per_request(self, requests: int, seconds: float | None = None) -> Measures:
        measures = {"requests_s": requests / (seconds or self.seconds)}
        if self.broker_cpu_s:
            measures["broker_cpu_us_per_request"] = self.broker_cpu_s / requests * 1e6
        return measures


@contextmanager
def window(pid: int | None) -> Iterator[Window]:
    """Measure what happens inside the `with` block."""
    measured = Window()
    broker, client, start = cpu_seconds(pid), _own_cpu_seconds(), time.perf_counter()
    yield measured
    measured.seconds = time.perf_counter() - start
    measured.broker_cpu_s = cpu_seconds(pid) - broker
    measured.client_cpu_s = _own_cpu_seconds() - client


def warm_memory(gigabytes: float) -> None:
    """Touch free memory and give it back, so that the page cache grows into pages that the machine really has.

    In a virtual machine the first touch of a page that the host has not backed yet, or has taken back, costs more than
    ten times the write itself (2.2 instead of 0.17 s/GB were seen), and it is charged to the broker that writes.
    """
    size = int(min(gigabytes * 1e9, 0.5 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)
    with mmap.mmap(-1, size, flags=flags):
        pass


class Lock:
    """An exclusive lock on a file, handed back about every `hold` seconds so that another benchmark gets its turn."""

    def __init__(self, path: Path, hold: float) -> None:
        self.path, self.hold = path, hold
        self._file: IO[str] | None = None
        self._since = 0.0

    def take(self) -> None:
        if self._file is not None and time.monotonic() - self._since > self.hold:
            self.drop()
            time.sleep(0.5)
        if self._file is None:
            self._file = self.path.open("a")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._since = time.monotonic()

    def drop(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _own_cpu_seconds() -> float:
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on: field n of the manual page is at n - 3."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def _kib(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    return int(found.group(1)) if found else 0
