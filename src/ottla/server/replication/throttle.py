"""Replication throttles (KIP-73): how fast the replicas that somebody has named may be fetched.

Which replicas: `leader.replication.throttled.replicas` and `follower.replication.throttled.replicas` of a topic, as
`partition:broker,…` or `*`. How fast: `leader.replication.throttled.rate` and `follower.replication.throttled.rate` of
a broker, bytes a second, measured over `replication.quota.window.num` windows. Only what is not in sync is held back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

UNLIMITED = 2**63 - 1
EVERY_REPLICA = "*"
LEADER_REPLICAS = "leader.replication.throttled.replicas"
FOLLOWER_REPLICAS = "follower.replication.throttled.replicas"
LEADER_RATE = "leader.replication.throttled.rate"
FOLLOWER_RATE = "follower.replication.throttled.rate"


def throttled_partitions(entries: Iterable[str], broker_id: int) -> frozenset[int] | None:
    """The partitions in which the replica of `broker_id` is throttled; None stands for all of them."""
    found = set()
    for entry in entries:
        if entry.strip() == EVERY_REPLICA:
            return None
        partition, _, broker = entry.partition(":")
        if broker.strip() == str(broker_id):
            found.add(int(partition))
    return frozenset(found)


class ReplicationThrottle:
    """One direction of one broker: what is throttled, and what has been moved lately."""

    __slots__ = ("_samples", "_throttled", "_total", "rate", "window_ms", "windows")

    def __init__(self, windows: int = 11, window_ms: int = 1000) -> None:
        self.rate = UNLIMITED
        self.windows = windows
        self.window_ms = window_ms
        self._throttled: dict[str, frozenset[int] | None] = {}
        self._samples: deque[list[int]] = deque()  # number of the window, bytes
        self._total = 0

    def set_replicas(self, topic: str, settings: Mapping[str, str], key: str, broker_id: int) -> None:
        """Take over the settings of a topic."""
        text = settings.get(key, "")
        partitions = throttled_partitions(filter(None, text.split(",")), broker_id) if text else frozenset()
        if partitions is None or partitions:
            self._throttled[topic] = partitions
        else:
            self._throttled.pop(topic, None)

    @property
    def is_used(self) -> bool:
        """Whether anything may have to wait."""
        return bool(self._throttled)

    def is_throttled(self, topic: str, partition: int) -> bool:
        """Whether a replica is among those that are held back."""
        partitions = self._throttled.get(topic, frozenset())
        return partitions is None or partition in partitions

    def record(self, size: int, now_ms: int) -> None:
        """So many bytes of throttled replicas were moved."""
        self._drop_old(now_ms)
        window = now_ms // self.window_ms
        if not self._samples or self._samples[-1][0] != window:
            self._samples.append([window, 0])
        self._samples[-1][1] += size
        self._total += size

    def is_exceeded(self, now_ms: int) -> bool:
        """Whether more was moved lately than the rate allows."""
        if self.rate >= UNLIMITED or not self._samples:
            return False
        self._drop_old(now_ms)
        return self._total * 1000 > self.rate * self.windows * self.window_ms

    def _drop_old(self, now_ms: int) -> None:
        oldest = now_ms // self.window_ms - self.windows + 1
        samples = self._samples
        while samples and samples[0][0] < oldest:
            self._total -= samples.popleft()[1]
