"""Assignors of classic groups: who of the members consumes which partitions. Pure, one module each.

`partition.assignment.strategy` names them (or Java's classes); `resolve` finds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from ottla.client.consumer.assignors.assignor import Assignor
from ottla.client.errors import ConfigError

_HOMES = {
    "range": ("ranges", "RangeAssignor"),
    "roundrobin": ("roundrobin", "RoundRobinAssignor"),
    "sticky": ("sticky", "StickyAssignor"),
    "cooperative-sticky": ("sticky", "CooperativeStickyAssignor"),
}
_JAVA = {f"org.apache.kafka.clients.consumer.{class_name}": name for name, (_, class_name) in _HOMES.items()}


def resolve(specs: Iterable[object]) -> tuple[Assignor, ...]:
    """Names (also Java's), assignors or their classes, in order of preference; ConfigError when one is none of them."""
    assignors = tuple(_resolve(spec) for spec in specs)
    names = [assignor.name for assignor in assignors]
    if not assignors or len(set(names)) < len(names):
        raise ConfigError(f"partition.assignment.strategy needs different assignors, not {names}.")
    return assignors


def _resolve(spec: object) -> Assignor:
    if isinstance(spec, str):
        name = _JAVA.get(spec.strip(), spec.strip())
        if name not in _HOMES:
            raise ConfigError(
                f"partition.assignment.strategy does not know {spec!r}.",
                hint=f"Use {', '.join(_HOMES)}, or hand in an Assignor of your own.",
            )
        module, class_name = _HOMES[name]
        spec = getattr(import_module(f"{__name__}.{module}"), class_name)
    assignor: object = spec() if isinstance(spec, type) else spec
    if not isinstance(assignor, Assignor):
        raise ConfigError(f"partition.assignment.strategy: {assignor!r} is no subclass of Assignor.")
    return assignor
