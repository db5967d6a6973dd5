"""The ``range`` assignor: of each topic every subscriber gets one contiguous range of partitions.

Members stand in a fixed order (static ones by instance id, then the others by member id), so that two topics with as
many partitions and the same subscribers are split alike: whoever gets partition 3 of one gets partition 3 of the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from ottla.server.coordinator.assignors.assignor import MemberSpec
from ottla.server.coordinator.modern_group import Assignment


def assign(members: Mapping[str, MemberSpec], partition_counts: Mapping[bytes, int]) -> dict[str, Assignment]:
    """The first ``count % subscribers`` subscribers of a topic get one partition more than the others."""
    subscribers: dict[bytes, list[str]] = {}
    for member_id in sorted(members, key=lambda member_id: _rank(member_id, members[member_id])):
        for topic_id in sorted(members[member_id].topic_ids):
            subscribers.setdefault(topic_id, []).append(member_id)
    assigned: dict[str, dict[bytes, tuple[int, ...]]] = {member_id: {} for member_id in members}
    for topic_id, member_ids in subscribers.items():
        quota, extra = divmod(partition_counts[topic_id], len(member_ids))
        begin = 0
        for position, member_id in enumerate(member_ids):
            end = begin + quota + (position < extra)
            if begin == end:
                break
            assigned[member_id][topic_id] = tuple(range(begin, end))
            begin = end
    return dict(assigned)


def _rank(member_id: str, spec: MemberSpec) -> tuple[bool, str]:
    return (True, member_id) if spec.instance_id is None else (False, spec.instance_id)
