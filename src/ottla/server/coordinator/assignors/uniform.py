"""The ``uniform`` assignor: as even as subscriptions allow, and then with as few moves as possible.

1. Everybody keeps what it has, as far as it still subscribes to it.
2. What nobody has goes to the subscriber with the least, topics with few subscribers first.
3. While a member has at least two partitions more than another, one moves: directly where both subscribe to the topic,
   or along a chain of members that each pass one partition on. Without such a chain the loads are as even as they can
   be: this is the optimal semi-matching of Harvey, Ladner, Lovász and Tamir.

Where all members subscribe to the same topics, quotas say who gives away how much, without any search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heapreplace

from ottla.server.coordinator.assignors.assignor import MemberSpec, ordered
from ottla.server.coordinator.modern_group import Assignment

_Partitions = dict[bytes, set[int]]


def assign(members: Mapping[str, MemberSpec], partition_counts: Mapping[bytes, int]) -> dict[str, Assignment]:
    """Every partition of a subscribed topic has one owner; see the module for which."""
    if not members:
        return {}
    kept, unassigned = _kept(members, partition_counts)
    first = next(iter(members.values())).topic_ids
    if all(spec.topic_ids is first or spec.topic_ids == first for spec in members.values()):
        _fill_quotas(kept, unassigned)
    else:
        _Balance(members, kept).spread(unassigned)
    # A member whose partitions are those it had gets the very same mapping.
    return {member_id: _same_or_new(members[member_id].target, kept[member_id]) for member_id in members}


def _same_or_new(target: Assignment, partitions: _Partitions) -> Assignment:
    assigned = ordered(partitions)
    return target if assigned == target else assigned


def _kept(
    members: Mapping[str, MemberSpec], partition_counts: Mapping[bytes, int]
) -> tuple[dict[str, _Partitions], dict[bytes, list[int]]]:
    """What each member keeps, and what nobody has; a partition that two had stays with the first."""
    subscribed: set[bytes] = set().union(*(spec.topic_ids for spec in members.values()))
    owned: dict[bytes, set[int]] = {topic_id: set() for topic_id in subscribed}
    kept: dict[str, _Partitions] = {}
    for member_id, spec in members.items():
        mine: _Partitions = {}
        for topic_id, partitions in spec.target.items():
            if topic_id in spec.topic_ids:
                count = partition_counts[topic_id]
                indexes = {index for index in partitions if index < count} - owned[topic_id]
                owned[topic_id] |= indexes
                mine[topic_id] = indexes
        kept[member_id] = mine
    unassigned = {
        topic_id: [index for index in range(partition_counts[topic_id]) if index not in owned[topic_id]]
        for topic_id in sorted(subscribed)
    }
    return kept, unassigned


def _load(partitions: _Partitions) -> int:
    return sum(map(len, partitions.values()))


def _fill_quotas(kept: dict[str, _Partitions], unassigned: dict[bytes, list[int]]) -> None:
    """All subscribe to the same: the members with the most keep the larger quotas, the others are filled up."""
    loads = {member_id: _load(partitions) for member_id, partitions in kept.items()}
    free = [(topic_id, index) for topic_id, indexes in unassigned.items() for index in indexes]
    quota, extra = divmod(sum(loads.values()) + len(free), len(kept))
    wanting: list[tuple[str, int]] = []
    for position, member_id in enumerate(sorted(kept, key=lambda member_id: (-loads[member_id], member_id))):
        missing = quota + (position < extra) - loads[member_id]
        if missing > 0:
            wanting.append((member_id, missing))
        else:
            free += _released(kept[member_id], -missing)
    given = iter(free)
    for member_id, missing in wanting:
        for _ in range(missing):
            topic_id, index = next(given)
            kept[member_id].setdefault(topic_id, set()).add(index)


def _released(partitions: _Partitions, count: int) -> Iterator[tuple[bytes, int]]:
    """Take so many partitions away, one topic after the other, the highest first."""
    for topic_id in sorted(partitions):
        while partitions[topic_id] and count:
            index = max(partitions[topic_id])
            partitions[topic_id].remove(index)
            count -= 1
            yield topic_id, index


class _Balance:
    """Members with different subscriptions. ``owners[topic]`` are the members that have partitions of it."""

    def __init__(self, members: Mapping[str, MemberSpec], kept: dict[str, _Partitions]) -> None:
        self.kept = kept
        self.loads = {member_id: _load(partitions) for member_id, partitions in kept.items()}
        self.topics_of = {member_id: sorted(spec.topic_ids) for member_id, spec in members.items()}
        self.subscribers: dict[bytes, list[str]] = {}
        for member_id in sorted(members):
            for topic_id in self.topics_of[member_id]:
                self.subscribers.setdefault(topic_id, []).append(member_id)
        self.owners: dict[bytes, set[str]] = {topic_id: set() for topic_id in self.subscribers}
        for member_id, partitions in kept.items():
            for topic_id, indexes in partitions.items():
                if indexes:
                    self.owners[topic_id].add(member_id)

    def spread(self, unassigned: dict[bytes, list[int]]) -> None:
        """Give out what nobody has, then even out."""
        for topic_id in sorted(unassigned, key=lambda topic_id: (len(self.subscribers[topic_id]), topic_id)):
            self._give_out(topic_id, unassigned[topic_id])
        average = sum(self.loads.values()) / len(self.loads)
        # First from those that have more than their share: taking from others would only pass the want on.
        self._even_out(int(average) + 2)
        self._even_out(0)

    def _even_out(self, heavy: int) -> None:
        """Move from members with at least so many, as long as somebody gains."""
        settled: set[str] = set()
        while (member_id := self._lightest(settled, heavy)) is not None:
            chain = self._chain_to(member_id, settled, heavy)
            count = self._how_many(chain) if chain else 0
            for giver, topic_id, taker in chain:
                self._move(giver, topic_id, taker, count)

    def _how_many(self, chain: list[tuple[str, bytes, str]]) -> int:
        """One, or as many as both ends are away from the average: after a crowd joined there are thousands to move."""
        average, remainder = divmod(sum(self.loads.values()), len(self.loads))
        away = min(self.loads[chain[0][0]] - average - bool(remainder), average - self.loads[chain[-1][2]])
        return max(1, min(away, *(len(self.kept[giver][topic_id]) for giver, topic_id, _ in chain)))

    def _give_out(self, topic_id: bytes, indexes: Iterable[int]) -> None:
        heap = [(self.loads[member_id], member_id) for member_id in self.subscribers[topic_id]]
        heapify(heap)
        for index in indexes:
            load, member_id = heap[0]
            heapreplace(heap, (load + 1, member_id))
            self.loads[member_id] += 1
            self.kept[member_id].setdefault(topic_id, set()).add(index)
            self.owners[topic_id].add(member_id)

    def _lightest(self, settled: set[str], heavy: int) -> str | None:
        """The member with the least that may still gain; None when all loads are as even as they can be."""
        heaviest = max(self.loads.values())
        if heaviest < heavy:
            return None
        candidates = [(load, member_id) for member_id, load in self.loads.items() if member_id not in settled]
        load, member_id = min(candidates, default=(heaviest, ""))
        return member_id if load + 1 < heaviest else None

    def _chain_to(self, member_id: str, settled: set[str], heavy: int) -> list[tuple[str, bytes, str]]:
        """The shortest chain (giver, topic, taker) from a heavy member with two more; empty settles who was reached.

        Those who can be reached have at most one more than this member, which has the least (or are not heavy): nobody
        of them can gain.
        """
        enough = max(self.loads[member_id] + 2, heavy)
        came_by: dict[str, tuple[bytes, str] | None] = {member_id: None}
        seen_topics: set[bytes] = set()
        layer = [member_id]
        while layer:
            found: list[str] = []
            for taker in layer:
                for topic_id in self.topics_of[taker]:
                    if topic_id not in seen_topics:
                        seen_topics.add(topic_id)
                        fresh = [owner for owner in self.owners[topic_id] if owner not in came_by]
                        came_by.update((owner, (topic_id, taker)) for owner in fresh)
                        found += fresh
            if found:
                giver = max(found, key=lambda owner: (self.loads[owner], owner))
                if self.loads[giver] >= enough:
                    return _links(giver, came_by)
            layer = sorted(found)
        settled.update(came_by)
        return []

    def _move(self, giver: str, topic_id: bytes, taker: str, count: int) -> None:
        indexes = sorted(self.kept[giver][topic_id])[-count:]
        self.kept[giver][topic_id].difference_update(indexes)
        self.kept[taker].setdefault(topic_id, set()).update(indexes)
        self.owners[topic_id].add(taker)
        if not self.kept[giver][topic_id]:
            self.owners[topic_id].remove(giver)
        self.loads[giver] -= count
        self.loads[taker] += count


def _links(giver: str, came_by: dict[str, tuple[bytes, str] | None]) -> list[tuple[str, bytes, str]]:
    links = []
    while (step := came_by[giver]) is not None:
        topic_id, taker = step
        links.append((giver, topic_id, taker))
        giver = taker
    return links
