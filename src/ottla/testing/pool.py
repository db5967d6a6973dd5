"""Clusters that tests share: one for each set of settings, made as new for every test that asks for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.testing.cluster import Cluster, Topics


class Pool:
    """The clusters of a process. Those of a parent process are left to it: a forked child makes its own."""

    def __init__(self) -> None:
        self._clusters: dict[tuple[int, tuple[tuple[str, str], ...]], Cluster] = {}
        self._pid = os.getpid()

    def fresh(self, settings: Mapping[str, object], topics: Topics = (), brokers: int = 1) -> Cluster:
        """A running cluster of so many brokers with these settings, and with nothing in it but these topics."""
        if self._pid != os.getpid():
            self._clusters, self._pid = {}, os.getpid()
        key = brokers, tuple(sorted((name, str(value)) for name, value in settings.items()))
        cluster = self._clusters.get(key)
        if cluster is None:
            from ottla.testing.cluster import Cluster

            cluster = Cluster(brokers, settings=settings)
            cluster.start()
            self._clusters[key] = cluster
        else:
            try:
                cluster.reset()
            except BaseException:  # the next test finds another one
                del self._clusters[key]
                cluster.stop()
                raise
        cluster.add_topics(topics)
        return cluster

    def close(self) -> None:
        """Stop them."""
        if self._pid == os.getpid():
            while self._clusters:
                self._clusters.popitem()[1].stop()
