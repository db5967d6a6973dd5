"""The last numbers that clients pushed, for whoever looks at the broker's metrics: bounded, and forgotten in time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from ottla.server.broker.telemetry.otlp import Metric

MOST_SAMPLES: Final = 50_000
"""Over all clients; those heard of longest ago go first."""
MOST_OF_A_PUSH: Final = 1_000
_LONGEST_TEXT: Final = 200


class Sample(NamedTuple):
    """One number: the metric's own name (`org.apache.kafka.…`), whether it only grows, its attributes."""

    name: str
    is_total: bool
    attributes: tuple[tuple[str, str], ...]
    value: float


class Pushed(NamedTuple):
    """What one client instance pushed last; `client` says who it is."""

    client: Mapping[str, str]
    samples: list[Sample]
    expires_at_ms: int


def samples_of(metrics: Iterable[Metric]) -> list[Sample]:
    """The gauges and sums among them; clients of Kafka push nothing else."""
    found: list[Sample] = []
    for metric in metrics:
        value = metric.value
        if isinstance(value, (int, float)) and len(found) < MOST_OF_A_PUSH and len(metric.name) <= _LONGEST_TEXT:
            attributes = tuple((key, str(text)[:_LONGEST_TEXT]) for key, text in sorted(metric.attributes.items()))
            found.append(Sample(metric.name, metric.kind == "sum" and not metric.is_delta, attributes, value))
    return found


class LatestSamples:
    """By client instance. Times in epoch milliseconds."""

    def __init__(self) -> None:
        self._pushed: OrderedDict[bytes, Pushed] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def keep(self, instance_id: bytes, client: Mapping[str, str], samples: list[Sample], expires_at_ms: int) -> None:
        """The newest push of a client instance."""
        self._forget(instance_id)
        self._pushed[instance_id] = Pushed(client, samples, expires_at_ms)
        self._count += len(samples)
        while self._count > MOST_SAMPLES and len(self._pushed) > 1:
            self._forget(next(iter(self._pushed)))

    def pushed(self, now_ms: int) -> Iterator[Pushed]:
        """What is not too old."""
        for instance_id, one in list(self._pushed.items()):
            if one.expires_at_ms <= now_ms:
                self._forget(instance_id)
            else:
                yield one

    def _forget(self, instance_id: bytes) -> None:
        known = self._pushed.pop(instance_id, None)
        if known is not None:
            self._count -= len(known.samples)
