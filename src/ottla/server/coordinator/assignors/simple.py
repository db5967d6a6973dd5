"""The `simple` assignor of share groups (KIP-932): partitions may be shared, and as few as possible change hands.

Every partition goes to about the same number of members, rounded up, so that nobody is idle, and every member gets
about the same number of partitions. Where all members subscribe to the same topics that holds over all partitions,
otherwise within each topic. Balance goes before stickiness.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence

from ottla.server.coordinator.assignors.assignor import MemberSpec, ordered
from ottla.server.coordinator.modern_group import Assignment

_Pair = tuple[bytes, int]


def assign(members: Mapping[str, MemberSpec], assignable: Mapping[bytes, Collection[int]]) -> dict[str, Assignment]:
    """Each member's partitions; ``assignable`` says which partitions of the topics may be handed out."""
    pairs = {
        topic_id: [(topic_id, partition) for partition in sorted(partitions)]
        for topic_id, partitions in assignable.items()
    }
    subscriptions = {spec.topic_ids for spec in members.values()}
    if len(subscriptions) <= 1:
        topic_ids = next(iter(subscriptions), frozenset())
        together = [pair for topic_id in sorted(topic_ids) for pair in pairs.get(topic_id, ())]
        rounds = [(list(members), together)]
    else:
        rounds = [
            ([member_id for member_id, spec in members.items() if topic_id in spec.topic_ids], pairs[topic_id])
            for topic_id in sorted(pairs)
        ]
    had = {
        member_id: {(topic_id, index) for topic_id, indexes in spec.target.items() for index in indexes}
        for member_id, spec in members.items()
    }
    result: dict[str, dict[bytes, set[int]]] = {member_id: {} for member_id in members}
    for member_ids, partitions in rounds:
        for member_id, shared in _shared(member_ids, partitions, had).items():
            for topic_id, index in shared:
                result[member_id].setdefault(topic_id, set()).add(index)
    return {member_id: ordered(partitions) for member_id, partitions in result.items()}


def _shared(
    member_ids: Sequence[str], partitions: Sequence[_Pair], had: Mapping[str, set[_Pair]]
) -> dict[str, list[_Pair]]:
    """Partitions by member: each partition to as many members, each member as many partitions, as is its due."""
    member_count, partition_count = len(member_ids), len(partitions)
    if not member_count or not partition_count:
        return {}
    sharing = -(-member_count // partition_count)
    total = sharing * partition_count
    holders = dict.fromkeys(partitions, 0)
    shares: dict[str, list[_Pair]] = {}
    unfilled: deque[tuple[str, int]] = deque()
    for number, member_id in enumerate(member_ids):
        # The parts differ by one at most and add up to the total.
        due = -(-total * (number + 1) // member_count) + (-total * number // member_count)
        share = shares[member_id] = []
        for pair in sorted(had[member_id]):
            if len(share) < due and holders.get(pair, sharing) < sharing:
                share.append(pair)
                holders[pair] += 1
        if len(share) < due:
            unfilled.append((member_id, due))
    for pair in partitions:
        missing = sharing - holders[pair]
        for _ in range(len(unfilled)):
            if not missing:
                break
            member_id, due = unfilled.popleft()
            share = shares[member_id]
            if not (pair in had[member_id] and pair in share):
                share.append(pair)
                missing -= 1
            if len(share) < due:
                unfilled.append((member_id, due))
    return shares
