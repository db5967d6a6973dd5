"""Which brokers should have which partitions: a plan that moves as little as balance and racks allow.

A core without I/O. What it keeps: a partition has as many replicas as it shall have, on different brokers that are
allowed, over as many racks as there can be. What it aims at: all brokers have as many replicas as each other, and as
many preferred leaders, give or take one (racks of different sizes may not allow that).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ottla.core.ids import TopicPartition

Assignment = dict[TopicPartition, tuple[int, ...]]


class PlacementError(Exception):
    """There is no such plan; the text says why."""


def plan(
    current: Mapping[TopicPartition, Sequence[int]],
    brokers: Mapping[int, str | None],
    *,
    replicas: int | None = None,
) -> Assignment:
    """Brokers of every partition, the preferred leader first.

    `brokers` are those that may be used, with their racks; `replicas` how many each partition shall have (as many as
    now, without). Raises `PlacementError` when there are fewer brokers than that.
    """
    wanted = {partition: len(now) if replicas is None else replicas for partition, now in current.items()}
    for partition, count in wanted.items():
        if not 0 < count <= len(brokers):
            raise PlacementError(f"{partition} shall have {count} replicas, and there are {len(brokers)} brokers")
    placement = _Placement(brokers, wanted)
    for partition in sorted(current):
        placement.keep(partition, current[partition])
    for partition in sorted(current):
        placement.fill(partition)
    placement.level()
    return _with_leaders(current, placement.placed, brokers)


class _Placement:
    """Replicas as they are put on brokers."""

    def __init__(self, brokers: Mapping[int, str | None], wanted: Mapping[TopicPartition, int]) -> None:
        # Brokers that do not say where they are count as one rack each: nothing is known to be shared.
        self._rack_of = {broker: f"/{broker}" if rack is None else rack for broker, rack in brokers.items()}
        self._racks = len(set(self._rack_of.values()))
        self._wanted = wanted
        self._load = dict.fromkeys(sorted(brokers), 0)
        self._full = -(-sum(wanted.values()) // len(brokers)) if brokers else 0
        self.placed: dict[TopicPartition, list[int]] = {partition: [] for partition in wanted}

    def keep(self, partition: TopicPartition, now: Sequence[int]) -> None:
        """Leave replicas where they are, as long as the broker is allowed, not full, and in a rack of its own."""
        for broker in now:
            if (
                broker in self._load
                and self._load[broker] < self._full
                and len(self.placed[partition]) < self._wanted[partition]
                and self._fits(partition, broker)
            ):
                self._put(partition, broker)

    def fill(self, partition: TopicPartition) -> None:
        """Put the replicas that are missing where racks, then brokers, have the least."""
        placed = self.placed[partition]
        while len(placed) < self._wanted[partition]:
            in_racks = self._in_racks(partition)
            broker = min(
                (one for one in self._load if one not in placed),
                key=lambda one: (in_racks[self._rack_of[one]], self._load[one], one),
            )
            self._put(partition, broker)

    def level(self) -> None:
        """Move replicas from the fullest brokers to the emptiest ones, while that helps and no rack forbids it."""
        while self._level_once():
            pass

    def _level_once(self) -> bool:
        by_load = sorted(self._load, key=lambda broker: (self._load[broker], broker))
        for fullest in reversed(by_load):
            for emptiest in by_load:
                if self._load[fullest] - self._load[emptiest] < 2:
                    break
                for partition, placed in self.placed.items():
                    if fullest in placed and emptiest not in placed and self._fits(partition, emptiest, fullest):
                        placed[placed.index(fullest)] = emptiest
                        self._load[fullest] -= 1
                        self._load[emptiest] += 1
                        return True
        return False

    def _put(self, partition: TopicPartition, broker: int) -> None:
        self.placed[partition].append(broker)
        self._load[broker] += 1

    def _fits(self, partition: TopicPartition, broker: int, instead_of: int | None = None) -> bool:
        """Whether the broker's rack has room for one more replica of the partition."""
        in_racks = self._in_racks(partition)
        if instead_of is not None:
            in_racks[self._rack_of[instead_of]] -= 1
        return in_racks[self._rack_of[broker]] < -(-self._wanted[partition] // self._racks)

    def _in_racks(self, partition: TopicPartition) -> Counter[str]:
        return Counter(self._rack_of[broker] for broker in self.placed[partition])


def _with_leaders(
    current: Mapping[TopicPartition, Sequence[int]],
    placed: Mapping[TopicPartition, list[int]],
    brokers: Mapping[int, str | None],
) -> Assignment:
    """The same brokers, in an order that gives each about as many partitions to lead; leaders stay where they can."""
    leads: Counter[int] = Counter()
    enough = -(-len(placed) // len(brokers)) if brokers else 0
    leader: dict[TopicPartition, int] = {}
    for partition in sorted(placed):
        first = next(iter(current[partition]), None)
        if first in placed[partition] and leads[first] < enough:
            leader[partition] = first
            leads[first] += 1
    for partition in sorted(placed):
        if partition not in leader:
            leader[partition] = min(placed[partition], key=lambda broker: (leads[broker], broker))
            leads[leader[partition]] += 1
    _level_leaders(placed, leader, leads)
    return {
        partition: (
            leader[partition],
            *(broker for broker in _in_order(current[partition], replicas) if broker != leader[partition]),
        )
        for partition, replicas in sorted(placed.items())
    }


def _level_leaders(
    placed: Mapping[TopicPartition, list[int]], leader: dict[TopicPartition, int], leads: Counter[int]
) -> None:
    changed = True
    while changed:
        changed = False
        for partition, now in leader.items():
            other = min(placed[partition], key=lambda broker: (leads[broker], broker))
            if leads[now] - leads[other] >= 2:
                leader[partition] = other
                leads[now] -= 1
                leads[other] += 1
                changed = True


def _in_order(now: Sequence[int], replicas: Sequence[int]) -> list[int]:
    """Replicas that stay keep their order; an unchanged partition is not told to move."""
    return [broker for broker in now if broker in replicas] + [broker for broker in replicas if broker not in now]
