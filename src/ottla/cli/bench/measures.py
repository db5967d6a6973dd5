"""What a run measured, without clock or network: rates and percentiles of latencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

PERCENTILES = (50.0, 95.0, 99.0, 99.9)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of the values do not exceed. `ordered` must not be empty."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


class Latencies(NamedTuple):
    """A summary of latencies in milliseconds."""

    samples: int
    average: float
    percentiles: dict[str, float]
    longest: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latencies | None:
        """None without any."""
        if not seconds:
            return None
        ordered = sorted(1000 * one for one in seconds)
        found = {f"p{percent:g}": percentile(ordered, percent) for percent in PERCENTILES}
        return cls(len(ordered), sum(ordered) / len(ordered), found, ordered[-1])


class Result(NamedTuple):
    """What came of a run."""

    what: str
    topic: str
    records: int
    size_bytes: int
    seconds: float
    failed: int = 0
    latencies: Latencies | None = None
    first_record_seconds: float | None = None
    """Until the first record was there, counted from the start of the run."""

    @property
    def records_per_second(self) -> float:
        return self.records / self.seconds if self.seconds > 0 else 0.0

    @property
    def mib_per_second(self) -> float:
        return self.size_bytes / 2**20 / self.seconds if self.seconds > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        """Numbers with their units in the names."""
        latencies = self.latencies
        return {
            "what": self.what,
            "topic": self.topic,
            "records": self.records,
            "failed": self.failed,
            "size_bytes": self.size_bytes,
            "seconds": round(self.seconds, 4),
            "records_per_second": round(self.records_per_second, 1),
            "mib_per_second": round(self.mib_per_second, 3),
            "first_record_ms": None
            if self.first_record_seconds is None
            else round(1000 * self.first_record_seconds, 3),
            "latency_ms": None
            if latencies is None
            else {
                "samples": latencies.samples,
                "average": round(latencies.average, 3),
                **{name: round(value, 3) for name, value in latencies.percentiles.items()},
                "max": round(latencies.longest, 3),
            },
        }

    def as_fields(self) -> dict[str, object]:
        """The same for people."""
        from ottla.cli.units import size_text

        fields: dict[str, object] = {
            "records": f"{self.records:,} in {self.seconds:.2f} s, {size_text(self.size_bytes)}",
            "throughput": f"{self.records_per_second:,.0f} records/s, {self.mib_per_second:.1f} MiB/s",
        }
        if self.first_record_seconds is not None:
            fields["first record"] = f"after {1000 * self.first_record_seconds:.1f} ms"
        if self.latencies is not None:
            parts = [f"{name} {value:.2f}" for name, value in self.latencies.percentiles.items()]
            parts = [f"average {self.latencies.average:.2f}", *parts, f"max {self.latencies.longest:.2f}"]
            fields["latency"] = f"{', '.join(parts)} ms ({self.latencies.samples:,} samples)"
        if self.failed:
            fields["failed"] = self.failed
        return fields
