"""Kafka inside the test process, and what tests are built from.

    from ottla.testing import Cluster

    with Cluster() as kafka:
        ...

`cluster` has the brokers and the helpers, `pytest_plugin` the fixtures, `unittest` the mix-in. `sim` is what Ottla's
own tests are built from: a seeded virtual-time loop and an environment for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.lazy import load

if TYPE_CHECKING:
    from ottla.testing.async_cluster import AsyncCluster as AsyncCluster
    from ottla.testing.cluster import Cluster as Cluster
    from ottla.testing.groups import Group as Group
    from ottla.testing.unittest import KafkaMixin as KafkaMixin
    from ottla.testing.unittest import KafkaTestCase as KafkaTestCase

_HOMES = {
    "AsyncCluster": "ottla.testing.async_cluster",
    "Cluster": "ottla.testing.cluster",
    "Group": "ottla.testing.groups",
    "KafkaMixin": "ottla.testing.unittest",
    "KafkaTestCase": "ottla.testing.unittest",
}
"""Where each public name lives; loaded on first use."""

__all__ = [*_HOMES]  # noqa: PLE0604 (the names are those of the table)


def __getattr__(name: str) -> object:
    return load(name, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
