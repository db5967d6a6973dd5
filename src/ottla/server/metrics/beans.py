"""MBeans and the names they have in Prometheus, by rule.

Two dialects are in wide use, and mostly agree on gauges:

- `confluent`: everything in lower case behind `kafka_`; a meter is its count, a histogram its count and its quantiles.
- `strimzi` (the sample of Prometheus' own jmx_exporter): `…PerSec` becomes `…_total`, `…Percent` `…_percent`, the
  count of a histogram `…_count`.

Where both give the same name it is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ottla.server.metrics.exposition import Labels
    from ottla.server.metrics.scrape import Scrape

CONFLUENT = "confluent"
STRIMZI = "strimzi"
EXPORTER = "exporter"
BURROW = "burrow"


class Kind(Enum):
    """What an MBean is. METER and HISTOGRAM are Yammer's; an ATTRIBUTE is one of several of a `…-metrics` bean."""

    GAUGE = "gauge"
    METER = "meter"
    PERCENT_METER = "percent meter"
    HISTOGRAM = "histogram"
    ATTRIBUTE = "attribute"
    STATE = "state"


Value = Any
"""A number; a `Snapshot` for a histogram; a text for a state."""

Read = Callable[["Scrape"], "Value | Iterable[tuple[Labels, Value]]"]


class Bean(NamedTuple):
    """One row of the table. `read` gives a value, or several with their labels."""

    domain: str
    type: str
    name: str
    kind: Kind
    read: Read

    @property
    def object_name(self) -> str:
        """As JMX writes it, without its labels."""
        if self.kind in (Kind.ATTRIBUTE, Kind.STATE):
            return f"{self.domain}:type={self.type} {self.name}"
        return f"{self.domain}:type={self.type},name={self.name}"


class Part(Enum):
    """Which part of a value a family shows."""

    VALUE = "value"
    COUNT = "count"
    QUANTILES = "quantiles"
    COUNT_AND_QUANTILES = "count and quantiles"
    STATE = "state"


class Naming(NamedTuple):
    """One family that a bean becomes: its name, the type in Prometheus' terms, what it shows."""

    name: str
    type: str
    part: Part


# Types of `…-metrics` beans that a dialect writes in one word.
_ONE_WORD = {
    CONFLUENT: {"socket-server-metrics": "socketservermetrics"},
    STRIMZI: {
        "raft-metrics": "raftmetrics",
        "raft-channel-metrics": "raftchannelmetrics",
        "broker-metadata-metrics": "brokermetadatametrics",
    },
}


@lru_cache(maxsize=4096)
def _namings(domain: str, bean_type: str, name: str, kind: Kind, dialects: tuple[str, ...]) -> tuple[Naming, ...]:
    found: dict[str, Naming] = {}
    for dialect in dialects:
        rule = {CONFLUENT: _confluent, STRIMZI: _strimzi}.get(dialect)
        for naming in rule(domain, bean_type, name, kind) if rule is not None else ():
            known = found.get(naming.name)
            if known is not None and {known.part, naming.part} == {Part.QUANTILES, Part.COUNT_AND_QUANTILES}:
                naming = known if known.part is Part.COUNT_AND_QUANTILES else naming
            found[naming.name] = naming
    return tuple(found.values())


def namings(bean: Bean, dialects: Collection[str]) -> tuple[Naming, ...]:
    """The families of a bean in these dialects, each name once."""
    return _namings(bean.domain, bean.type, bean.name, bean.kind, tuple(dialects))


def _confluent(domain: str, bean_type: str, name: str, kind: Kind) -> list[Naming]:
    base = _base(domain, bean_type, name, kind, CONFLUENT)
    if kind is Kind.METER:
        return [Naming(base, "counter", Part.VALUE)]
    if kind is Kind.PERCENT_METER:
        return [Naming(f"{base}_oneminuterate", "gauge", Part.VALUE)]
    if kind is Kind.HISTOGRAM:
        return [Naming(base, "untyped", Part.COUNT_AND_QUANTILES)]
    return [Naming(base, *_simple(base, kind))]


def _strimzi(domain: str, bean_type: str, name: str, kind: Kind) -> list[Naming]:
    base = _base(domain, bean_type, name, kind, STRIMZI)
    if kind is Kind.METER:
        is_rate = base.endswith("persec")
        return [Naming(f"{base.removesuffix('persec')}_total" if is_rate else f"{base}_count", "counter", Part.VALUE)]
    if kind is Kind.PERCENT_METER or (kind is Kind.GAUGE and base.endswith("percent")):
        return [Naming(f"{base.removesuffix('percent').rstrip('_')}_percent", "gauge", Part.VALUE)]
    if kind is Kind.HISTOGRAM:
        return [Naming(base, "gauge", Part.QUANTILES), Naming(f"{base}_count", "counter", Part.COUNT)]
    return [Naming(base, *_simple(base, kind))]


def _simple(base: str, kind: Kind) -> tuple[str, Part]:
    if kind is Kind.STATE:
        return "gauge", Part.STATE
    return "counter" if base.endswith("_total") else "gauge", Part.VALUE


def _base(domain: str, bean_type: str, name: str, kind: Kind, dialect: str) -> str:
    if kind in (Kind.ATTRIBUTE, Kind.STATE):
        bean_type = _ONE_WORD[dialect].get(bean_type, bean_type)
    text = f"{domain}_{bean_type}_{name}" if bean_type else f"{domain}_{name}"
    return text.replace("-", "_").replace(".", "_").lower()
