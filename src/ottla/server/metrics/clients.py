"""What clients pushed (KIP-714): `org.apache.kafka.producer.record.send.total` under that name, with who said it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ottla.server.metrics.exposition import Family, Labels, labels

if TYPE_CHECKING:
    from ottla.server.broker.telemetry.telemetry import Telemetry

_UNFIT = re.compile(r"[^a-zA-Z0-9_]")


def families(telemetry: Telemetry | None, now_ms: int) -> Iterator[Family | None]:
    """The last value of every metric of every client that is not silent for long; none when nobody pushes."""
    if telemetry is None:
        return
    found: dict[str, list[tuple[Labels, Any]]] = {}
    totals: set[str] = set()
    for pushed in telemetry.latest.pushed(now_ms):
        client = pushed.client
        who = [(name, client[name]) for name in ("client_id", "client_instance_id") if name in client]
        for sample in pushed.samples:
            name = _fit(sample.name)
            # Who says it comes last: it is not the client's to say. One label has one value, or nothing is readable.
            pairs = dict(who) | {_fit_label(key): value for key, value in sample.attributes} | dict(who)
            found.setdefault(name, []).append((labels(*pairs.items()), sample.value))
            if sample.is_total:
                totals.add(name)
        yield None
    for name, rows in sorted(found.items()):
        kind = "counter" if name in totals else "gauge"
        yield Family(name, kind, "Pushed by clients (KIP-714).", dict(rows).items())


def _fit(name: str) -> str:
    """A name as Prometheus takes it."""
    text = _UNFIT.sub("_", name)
    return text if text and not text[0].isdigit() else f"_{text}"


def _fit_label(name: str) -> str:
    """A label's name; those with two underscores in front are Prometheus' own, `__name__` above all."""
    text = _fit(name)
    return f"label{text}" if text.startswith("__") else text
