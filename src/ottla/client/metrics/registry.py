"""Sensors and the metrics measured from them.

Time is an argument, in milliseconds of a monotonic clock; the windows are `metrics.num.samples` samples of
`metrics.sample.window.ms`. One thread writes (or all do under the interpreter's lock: a lost update costs a metric a
little truth, nothing else).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple

Tags = tuple[tuple[str, str], ...]
Measure = Literal["rate", "rate-per-hour", "avg", "max", "min", "total", "count", "value"]


class MetricName(NamedTuple):
    """A metric: its name, group and tags (pairs, in order)."""

    name: str
    group: str
    tags: Tags = ()

    def __str__(self) -> str:
        tags = "".join(f", {name}={value}" for name, value in self.tags)
        return f"{self.group}:{self.name}{tags}"


class MetricSpec(NamedTuple):
    """How a metric is measured: which measure of which sensor, and what it says."""

    name: str
    sensor: str
    measure: Measure
    description: str


class _Sample:
    __slots__ = ("count", "maximum", "minimum", "started_ms", "total")

    def __init__(self, started_ms: int) -> None:
        self.restart(started_ms)

    def restart(self, started_ms: int) -> None:
        self.started_ms = started_ms
        self.count = 0
        self.total = 0.0
        self.maximum = float("-inf")
        self.minimum = float("inf")


class Sensor:
    """Values as they come, in rolling windows and in total."""

    __slots__ = ("_current", "_samples", "_window_ms", "count", "last", "total")

    def __init__(self, now_ms: int, *, samples: int = 2, window_ms: int = 30_000) -> None:
        self._window_ms = window_ms
        self._samples = [_Sample(now_ms) for _ in range(samples)]
        self._current = self._samples[0]
        self.count = 0
        self.total = 0.0
        self.last = float("nan")

    def record(self, value: float, now_ms: int) -> None:
        """Take one value."""
        sample = self._current
        if now_ms - sample.started_ms >= self._window_ms:
            sample = self._advance(now_ms)
        sample.count += 1
        sample.total += value
        if value > sample.maximum:
            sample.maximum = value
        if value < sample.minimum:
            sample.minimum = value
        self.count += 1
        self.total += value
        self.last = value

    def measure(self, measure: Measure, now_ms: int) -> float:
        """The value of a measure now; NaN where nothing was recorded that it could be made of."""
        if measure == "total":
            return self.total
        if measure == "count":
            return float(self.count)
        if measure == "value":
            return self.last
        live = self._live(now_ms)
        if measure == "rate":
            return sum(sample.total for sample in live) / self._elapsed_s(live, now_ms)
        if measure == "rate-per-hour":
            return sum(sample.count for sample in live) / self._elapsed_s(live, now_ms) * 3600
        count = sum(sample.count for sample in live)
        if not count:
            return float("nan")
        if measure == "avg":
            return sum(sample.total for sample in live) / count
        if measure == "max":
            return max(sample.maximum for sample in live)
        return min(sample.minimum for sample in live)

    def _advance(self, now_ms: int) -> _Sample:
        """The oldest sample becomes the current one."""
        sample = min(self._samples, key=lambda each: (each is self._current, each.started_ms, each.count))
        sample.restart(now_ms)
        self._current = sample
        return sample

    def _live(self, now_ms: int) -> list[_Sample]:
        reach = self._window_ms * len(self._samples)
        return [sample for sample in self._samples if sample.count and now_ms - sample.started_ms < reach]

    def _elapsed_s(self, live: Iterable[_Sample], now_ms: int) -> float:
        """Seconds that the live samples stand for: at least all windows but the current one, as in Kafka, so that
        the first event does not look like an immense rate."""
        oldest = min((sample.started_ms for sample in live), default=now_ms)
        least = self._window_ms * (len(self._samples) - 1)
        return max(now_ms - oldest, least, 1) / 1000


Gauge = Callable[[], float]


class Metrics:
    """All metrics of one client. `clock` gives milliseconds; `tags` (such as client-id) go to every metric."""

    def __init__(
        self,
        clock: Callable[[], int],
        *,
        tags: Mapping[str, str] | None = None,
        samples: int = 2,
        window_ms: int = 30_000,
    ) -> None:
        self.now_ms = clock
        self.tags: Tags = tuple((tags or {}).items())
        self._samples = samples
        self._window_ms = window_ms
        self._measured: dict[MetricName, tuple[Sensor, Measure]] = {}
        self._gauges: dict[MetricName, Gauge] = {}
        self._descriptions: dict[tuple[str, str], str] = {}

    def sensors(
        self, group: str, specs: Iterable[MetricSpec], tags: Mapping[str, str] | None = None
    ) -> dict[str, Sensor]:
        """Make the sensors that the specs name, and register their metrics with these tags besides the client's."""
        made: dict[str, Sensor] = {}
        now_ms = self.now_ms()
        all_tags = self.tags + tuple((tags or {}).items())
        for name, sensor_name, measure, description in specs:
            sensor = made.get(sensor_name)
            if sensor is None:
                sensor = made[sensor_name] = Sensor(now_ms, samples=self._samples, window_ms=self._window_ms)
            self._measured[MetricName(name, group, all_tags)] = sensor, measure
            self._descriptions.setdefault((group, name), description)
        return made

    def gauge(
        self, group: str, name: str, description: str, value: Gauge, tags: Mapping[str, str] | None = None
    ) -> None:
        """Register a metric that is asked when somebody looks."""
        self._gauges[MetricName(name, group, self.tags + tuple((tags or {}).items()))] = value
        self._descriptions.setdefault((group, name), description)

    def drop(self, tags: Mapping[str, str]) -> None:
        """Forget all metrics that carry these tags: a partition that is no longer ours."""
        wanted = set(tags.items())
        for table in (self._measured, self._gauges):
            for name in [name for name in table if wanted <= set(name.tags)]:
                del table[name]

    def remove(self, name: MetricName) -> None:
        """Forget one metric."""
        self._measured.pop(name, None)
        self._gauges.pop(name, None)

    def describe(self, name: MetricName) -> str:
        """What a metric says, in one sentence."""
        return self._descriptions.get((name.group, name.name), "")

    def snapshot(self) -> dict[MetricName, float]:
        """Every metric and its value now."""
        now_ms = self.now_ms()
        values = {name: sensor.measure(measure, now_ms) for name, (sensor, measure) in list(self._measured.items())}
        for name, gauge in list(self._gauges.items()):
            values[name] = float(gauge())
        return values

    def is_cumulative(self, name: MetricName) -> bool:
        """Whether a metric only ever grows: a sum, where the others are momentary."""
        measured = self._measured.get(name)
        return measured is not None and measured[1] in ("total", "count")


def parse_specs(table: str) -> tuple[MetricSpec, ...]:
    """Specs from a text with a metric a line: `name sensor measure what it says`."""
    specs = []
    for line in table.strip().splitlines():
        name, sensor, measure, description = line.split(None, 3)
        specs.append(MetricSpec(name, sensor, measure, description))  # type: ignore[arg-type]
    return tuple(specs)
