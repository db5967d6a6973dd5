"""Of each topic every subscriber gets a range of partitions, the first ones one more (as Java's RangeAssignor).

Topics with as many partitions and the same subscribers are split alike, so that joins by key find both sides in one
member. Where members and replicas tell their racks, and partitions differ in them, members get partitions near them as
far as the ranges' sizes (and the split alike) allow (KIP-881).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ottla.client.consumer.assignors.assignor import Assignments, Assignor, MemberSubscription, Topics, in_order
from ottla.core.ids import TopicPartition


class RangeAssignor(Assignor):
    """One range per topic and member; the default, together with cooperative-sticky."""

    name = "range"

    def assign(self, topics: Topics, members: Mapping[str, MemberSubscription]) -> Assignments:
        assignments: Assignments = {member_id: [] for member_id in members}
        subscribers: dict[str, list[str]] = {topic: [] for topic in topics}
        for member_id in in_order(members):
            for topic in frozenset(members[member_id].topics) & topics.keys():
                subscribers[topic].append(member_id)
        splits = [
            _Split(topic, partitions, {member_id: members[member_id].rack for member_id in subscribers[topic]})
            for topic, partitions in sorted(topics.items())
            if partitions and subscribers[topic]
        ]
        by_rack = any(split.by_rack for split in splits)
        if by_rack:
            _assign_near(splits)
        for split in splits:
            split.fill()
            for member_id, partitions in split.given.items():
                assignments[member_id] += [TopicPartition(split.topic, partition) for partition in partitions]
        if by_rack:
            for assigned in assignments.values():
                assigned.sort()
        return assignments


class _Split:
    """A topic's partitions being split among its subscribers, who stand in order."""

    def __init__(self, topic: str, partitions: Sequence[frozenset[str]], racks: dict[str, str | None]) -> None:
        self.topic = topic
        self.racks = racks
        self.partition_racks = partitions
        self.given: dict[str, list[int]] = {member_id: [] for member_id in racks}
        self.left = dict.fromkeys(range(len(partitions)))
        self.quota, self.extra = divmod(len(partitions), len(racks))
        members_racks = {rack for rack in racks.values() if rack}
        all_racks = frozenset().union(*partitions)
        self.knows_racks = bool(members_racks)
        self.by_rack = not members_racks.isdisjoint(all_racks) and any(racks != all_racks for racks in partitions)

    def room(self, member_id: str) -> int:
        return max(0, self.quota + (self.extra > 0) - len(self.given[member_id]))

    def is_near(self, member_id: str, partition: int) -> bool:
        rack = self.racks[member_id]
        return not rack or (self.knows_racks and rack in self.partition_racks[partition])

    def give(self, member_id: str, partitions: list[int]) -> None:
        given = self.given[member_id]
        given += partitions
        if partitions and len(given) > self.quota:
            self.extra -= 1
        for partition in partitions:
            del self.left[partition]

    def fill(self, near_only: bool = False) -> None:
        """What is left, in order, to whoever has room."""
        for member_id in self.racks:
            fitting = [partition for partition in self.left if not near_only or self.is_near(member_id, partition)]
            self.give(member_id, fitting[: self.room(member_id)])


def _assign_near(splits: list[_Split]) -> None:
    alike: dict[tuple[tuple[str, ...], int], list[_Split]] = {}
    for split in splits:
        count = len(split.partition_racks) if split.knows_racks else 0
        alike.setdefault((tuple(split.racks), count), []).append(split)
    for (member_ids, count), group in alike.items():
        if len(group) > 1:
            _assign_together(group, list(member_ids), count)
        elif group[0].by_rack:
            group[0].fill(near_only=True)


def _assign_together(splits: list[_Split], member_ids: list[str], count: int) -> None:
    """The same partition of all these topics to the first member that is near to all of them."""
    for partition in range(count):
        for member_id in member_ids:
            if all(split.room(member_id) and split.is_near(member_id, partition) for split in splits):
                for split in splits:
                    split.give(member_id, [partition])
                if not any(split.room(member_id) for split in splits):
                    member_ids.remove(member_id)
                break
