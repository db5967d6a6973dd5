"""As even as subscriptions allow, and then with as few moves as possible.

The broker's ``uniform`` assignor (topics by id) and the clients' ``sticky`` ones (topics by name).

1. Everybody keeps what it has, as far as it still subscribes to it.
2. What nobody has goes to the subscriber with the least, topics with few subscribers first.
3. While a member has at least two partitions more than another, one moves: directly where both subscribe to the topic,
   or along a chain of members that each pass one partition on. Without such a chain the loads are as even as they can
   be: this is the optimal semi-matching of Harvey, Ladner, Lovász and Tamir.

Where all members subscribe to the same topics, quotas say who gives away how much, without any search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from heapq import heapify, heapreplace
from typing import Generic, TypeVar

Topic = TypeVar("Topic", bytes, str)
Subscriptions = Mapping[str, Set[Topic]]
"""Each member's topics."""


def assign(
    subscriptions: Subscriptions[Topic],
    had: Mapping[str, Mapping[Topic, tuple[int, ...]]],
    partition_counts: Mapping[Topic, int],
) -> dict[str, Mapping[Topic, tuple[int, ...]]]:
    """Every partition of a subscribed topic has one owner; see the module for which.

    `had` is what each member has until now, and `partition_counts` knows all topics that somebody subscribes to. A
    member whose partitions are those it had gets the very same mapping.
    """
    if not subscriptions:
        return {}
    kept, unassigned = _kept(subscriptions, had, partition_counts)
    first = next(iter(subscriptions.values()))
    if all(topics is first or topics == first for topics in subscriptions.values()):
        _fill_quotas(kept, unassigned)
    else:
        _Balance(subscriptions, kept).spread(unassigned)
    return {member_id: _same_or_new(had[member_id], partitions) for member_id, partitions in kept.items()}


def _same_or_new(
    had: Mapping[Topic, tuple[int, ...]], partitions: dict[Topic, set[int]]
) -> Mapping[Topic, tuple[int, ...]]:
    assigned = {topic: tuple(sorted(indexes)) for topic, indexes in partitions.items() if indexes}
    return had if assigned == had else assigned


def _kept(
    subscriptions: Subscriptions[Topic],
    had: Mapping[str, Mapping[Topic, tuple[int, ...]]],
    partition_counts: Mapping[Topic, int],
) -> tuple[dict[str, dict[Topic, set[int]]], dict[Topic, list[int]]]:
    """What each member keeps, and what nobody has; a partition that two had stays with the first."""
    subscribed: set[Topic] = set().union(*subscriptions.values())
    owned: dict[Topic, set[int]] = {topic: set() for topic in subscribed}
    kept: dict[str, dict[Topic, set[int]]] = {}
    for member_id, topics in subscriptions.items():
        mine: dict[Topic, set[int]] = {}
        for topic, partitions in had[member_id].items():
            if topic in topics:
                count = partition_counts[topic]
                indexes = {index for index in partitions if index < count} - owned[topic]
                owned[topic] |= indexes
                mine[topic] = indexes
        kept[member_id] = mine
    unassigned = {
        topic: [index for index in range(partition_counts[topic]) if index not in owned[topic]]
        for topic in sorted(subscribed)
    }
    return kept, unassigned


def _load(partitions: dict[Topic, set[int]]) -> int:
    return sum(map(len, partitions.values()))


def _fill_quotas(kept: dict[str, dict[Topic, set[int]]], unassigned: dict[Topic, list[int]]) -> None:
    """All subscribe to the same: the members with the most keep the larger quotas, the others are filled up."""
    loads = {member_id: _load(partitions) for member_id, partitions in kept.items()}
    free = [(topic, index) for topic, indexes in unassigned.items() for index in indexes]
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
            topic, index = next(given)
            kept[member_id].setdefault(topic, set()).add(index)


def _released(partitions: dict[Topic, set[int]], count: int) -> Iterator[tuple[Topic, int]]:
    """Take so many partitions away, one topic after the other, the highest first."""
    for topic in sorted(partitions):
        while partitions[topic] and count:
            index = max(partitions[topic])
            partitions[topic].remove(index)
            count -= 1
            yield topic, index


class _Balance(Generic[Topic]):
    """Members with different subscriptions. ``owners[topic]`` are the members that have partitions of it."""

    def __init__(self, subscriptions: Subscriptions[Topic], kept: dict[str, dict[Topic, set[int]]]) -> None:
        self.kept: dict[str, dict[Topic, set[int]]] = kept
        self.loads = {member_id: _load(partitions) for member_id, partitions in kept.items()}
        self.topics_of: dict[str, list[Topic]] = {
            member_id: sorted(topics) for member_id, topics in subscriptions.items()
        }
        self.subscribers: dict[Topic, list[str]] = {}
        for member_id in sorted(subscriptions):
            for topic in self.topics_of[member_id]:
                self.subscribers.setdefault(topic, []).append(member_id)
        self.owners: dict[Topic, set[str]] = {topic: set() for topic in self.subscribers}
        for member_id, partitions in kept.items():
            for topic, indexes in partitions.items():
                if indexes:
                    self.owners[topic].add(member_id)

    def spread(self, unassigned: dict[Topic, list[int]]) -> None:
        """Give out what nobody has, then even out."""
        for topic in sorted(unassigned, key=lambda topic: (len(self.subscribers[topic]), topic)):
            self._give_out(topic, unassigned[topic])
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
            for giver, topic, taker in chain:
                self._move(giver, topic, taker, count)

    def _how_many(self, chain: list[tuple[str, Topic, str]]) -> int:
        """One, or as many as both ends are away from the average: after a crowd joined there are thousands to move."""
        average, remainder = divmod(sum(self.loads.values()), len(self.loads))
        away = min(self.loads[chain[0][0]] - average - bool(remainder), average - self.loads[chain[-1][2]])
        return max(1, min(away, *(len(self.kept[giver][topic]) for giver, topic, _ in chain)))

    def _give_out(self, topic: Topic, indexes: Iterable[int]) -> None:
        heap = [(self.loads[member_id], member_id) for member_id in self.subscribers[topic]]
        heapify(heap)
        for index in indexes:
            load, member_id = heap[0]
            heapreplace(heap, (load + 1, member_id))
            self.loads[member_id] += 1
            self.kept[member_id].setdefault(topic, set()).add(index)
            self.owners[topic].add(member_id)

    def _lightest(self, settled: set[str], heavy: int) -> str | None:
        """The member with the least that may still gain; None when all loads are as even as they can be."""
        heaviest = max(self.loads.values())
        if heaviest < heavy:
            return None
        candidates = [(load, member_id) for member_id, load in self.loads.items() if member_id not in settled]
        load, member_id = min(candidates, default=(heaviest, ""))
        return member_id if load + 1 < heaviest else None

    def _chain_to(self, member_id: str, settled: set[str], heavy: int) -> list[tuple[str, Topic, str]]:
        """The shortest chain (giver, topic, taker) from a heavy member with two more; empty settles who was reached.

        Those who can be reached have at most one more than this member, which has the least (or are not heavy): nobody
        of them can gain.
        """
        enough = max(self.loads[member_id] + 2, heavy)
        came_by: dict[str, tuple[Topic, str] | None] = {member_id: None}
        seen_topics: set[Topic] = set()
        layer = [member_id]
        while layer:
            found: list[str] = []
            for taker in layer:
                for topic in self.topics_of[taker]:
                    if topic not in seen_topics:
                        seen_topics.add(topic)
                        fresh = [owner for owner in self.owners[topic] if owner not in came_by]
                        came_by.update((owner, (topic, taker)) for owner in fresh)
                        found += fresh
            if found:
                giver = max(found, key=lambda owner: (self.loads[owner], owner))
                if self.loads[giver] >= enough:
                    return _links(giver, came_by)
            layer = sorted(found)
        settled.update(came_by)
        return []

    def _move(self, giver: str, topic: Topic, taker: str, count: int) -> None:
        indexes = sorted(self.kept[giver][topic])[-count:]
        self.kept[giver][topic].difference_update(indexes)
        self.kept[taker].setdefault(topic, set()).update(indexes)
        self.owners[topic].add(taker)
        if not self.kept[giver][topic]:
            self.owners[topic].remove(giver)
        self.loads[giver] -= count
        self.loads[taker] += count


def _links(giver: str, came_by: dict[str, tuple[Topic, str] | None]) -> list[tuple[str, Topic, str]]:
    links = []
    while (step := came_by[giver]) is not None:
        topic, taker = step
        links.append((giver, topic, taker))
        giver = taker
    return links
