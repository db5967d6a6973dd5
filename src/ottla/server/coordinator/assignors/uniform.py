"""The ``uniform`` assignor: as even as subscriptions allow, and then with as few moves as possible."""

from __future__ import annotations

from collections.abc import Mapping

from ottla.assignors import even
from ottla.server.coordinator.assignors.assignor import MemberSpec
from ottla.server.coordinator.modern_group import Assignment


def assign(members: Mapping[str, MemberSpec], partition_counts: Mapping[bytes, int]) -> dict[str, Assignment]:
    """Every partition of a subscribed topic has one owner; one who keeps its partitions gets the very same mapping."""
    topics = {member_id: spec.topic_ids for member_id, spec in members.items()}
    return even.assign(topics, {member_id: spec.target for member_id, spec in members.items()}, partition_counts)
