"""What the performance tools have in common: pacing, latencies, lines of progress, the table of metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ottla.cli.kafka.java_text import divide, fixed

_LATENCIES = 500_000
MEGABYTE = 1024 * 1024


class Throttle:
    """Keeps to about `per_second` records a second; negative: as fast as possible, 0: never."""

    def __init__(self, per_second: float, started_ms: int) -> None:
        self._per_second = per_second
        self._started_ms = started_ms

    def wait(self, sent: int, now_ms: int) -> None:
        """After record number `sent`: sleep when that was too fast."""
        if self._per_second < 0:
            return
        if self._per_second == 0:
            while True:
                time.sleep(3600)
        ahead = sent / self._per_second - (now_ms - self._started_ms) / 1000
        if ahead > 0 and now_ms > self._started_ms:
            time.sleep(ahead)


class LatencyStats:
    """Latencies of sent records in whole milliseconds. `record` may be called by several threads, one at a time."""

    def __init__(
        self, records_count: int, reporting_interval_ms: int, now_ms: int, *, is_steady_state: bool = False
    ) -> None:
        self._started_ms = self._window_started_ms = now_ms
        self._interval_ms = reporting_interval_ms
        self._sampling = records_count // min(records_count, _LATENCIES)
        self._is_steady_state = is_steady_state
        self._latencies: list[int] = []
        self.count = self._size = self._total_ms = self._maximum_ms = 0
        self._window_count = self._window_bytes = self._window_total_ms = self._window_maximum_ms = 0
        self.is_silent = False

    def record(self, latency_ms: int, size: int, now_ms: int) -> None:
        """One record was written."""
        if not self.count % self._sampling:
            self._latencies.append(latency_ms)
        self.count += 1
        self._size += size
        self._total_ms += latency_ms
        self._maximum_ms = max(self._maximum_ms, latency_ms)
        self._window_count += 1
        self._window_bytes += size
        self._window_total_ms += latency_ms
        self._window_maximum_ms = max(self._window_maximum_ms, latency_ms)
        if now_ms - self._window_started_ms >= self._interval_ms:
            if self._is_steady_state and self.count == self._window_count:
                print("In steady state.")
            if not self.is_silent:
                print(self._window(now_ms), flush=True)
            self._window_started_ms = now_ms
            self._window_count = self._window_bytes = self._window_total_ms = self._window_maximum_ms = 0

    def _window(self, now_ms: int) -> str:
        elapsed_s = (now_ms - self._window_started_ms) / 1000
        return (
            f"{self._window_count} records sent, {fixed(divide(self._window_count, elapsed_s), 1)} records/sec "
            f"({fixed(divide(self._window_bytes, elapsed_s) / MEGABYTE, 2)} MB/sec), "
            f"{fixed(divide(self._window_total_ms, self._window_count), 1)} ms avg latency, "
            f"{fixed(self._window_maximum_ms, 1)} ms max latency."
        )

    def total(self, now_ms: int) -> str:
        """The line of the whole test."""
        elapsed_s = (now_ms - self._started_ms) / 1000
        latencies = sorted(self._latencies)
        at = [latencies[int(part * len(latencies))] if latencies else 0 for part in (0.5, 0.95, 0.99, 0.999)]
        return (
            f"{self.count}{' steady state' if self._is_steady_state else ''} records sent, "
            f"{fixed(divide(self.count, elapsed_s), 6)} records/sec "
            f"({fixed(divide(self._size, elapsed_s) / MEGABYTE, 2)} MB/sec), "
            f"{fixed(divide(self._total_ms, self.count), 2)} ms avg latency, "
            f"{fixed(self._maximum_ms, 2)} ms max latency, "
            f"{at[0]} ms 50th, {at[1]} ms 95th, {at[2]} ms 99th, {at[3]} ms 99.9th."
        )


def print_metrics(metrics: Mapping[Any, object]) -> None:
    """All metrics of a client, sorted; keys have `group`, `name` and `tags`."""
    rows = sorted((f"{key.group}:{key.name}:{_tags(key.tags)}", value) for key, value in metrics.items())
    if not rows:
        return
    width = max(len(name) for name, _ in rows)
    print(f"\n{'Metric Name':<{width}}   Value")
    for name, value in rows:
        print(f"{name:<{width}} : {fixed(value, 3) if isinstance(value, float | int) else value}")


def _tags(tags: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{name}={value}" for name, value in tags) + "}"
