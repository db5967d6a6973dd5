"""Which tests may run beside each other, when several processes share the work.

Tests of clusters in real processes, Apache Kafka's among them, need what a small machine has: they run one after
another, in one process. All other tests go wherever there is time.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

ONE_AFTER_ANOTHER = (
    "tests/cluster/test_chaos.py",
    "tests/cluster/test_start_brokers.py",
    "tests/compatibility/test_cluster_differential.py",
    "tests/compatibility/test_mixed_cluster.py",
)

ONE_PIECE = ("tests/compatibility/test_login_matrix.py",)
"""Tests that look at what one long run has found."""


class Scheduling(LoadScopeScheduling):
    """Hands out tests one by one, and those of clusters as one piece."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(ONE_PIECE):
            return nodeid.partition("::")[0]
        return "clusters" if nodeid.startswith(ONE_AFTER_ANOTHER) else nodeid
