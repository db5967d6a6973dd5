"""What an assignor is: pure, so that its result depends on its arguments alone.

The leader of a classic group runs one over the subscriptions of all members. To write your own, subclass `Assignor`,
set `name`, write `assign`, and hand an instance to the consumer; all members of a group need one of that name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from ottla.core.ids import TopicPartition

Topics = Mapping[str, Sequence[frozenset[str]]]
"""The subscribed topics that exist: for each partition the racks where it has replicas (empty: not known)."""

Assignments = dict[str, list[TopicPartition]]
"""Partitions by member id; every member is in it."""


class MemberSubscription(NamedTuple):
    """What a member says when it joins (and the assignor's own `user_data`)."""

    topics: tuple[str, ...]
    user_data: bytes | None = None
    owned: tuple[TopicPartition, ...] = ()
    """What it has and keeps meanwhile: cooperative members only."""
    generation: int = -1
    """In which it got `owned`; -1 when it does not say (subscriptions before version 2)."""
    rack: str | None = None
    instance_id: str | None = None


class Assignor(ABC):
    """Deals the partitions of a group's topics out to its members."""

    name: ClassVar[str]
    """What members of all languages call it: the protocol's name in JoinGroup."""
    is_cooperative: ClassVar[bool] = False
    """Members keep consuming while they rebalance (KIP-429). `assign` must then leave out, for now, what another member
    still has: who gives something up joins again at once, and the next round hands it out."""

    def user_data(self, owned: Iterable[TopicPartition] | None, generation: int) -> bytes | None:
        """What this member tells the leader's `assign` besides its subscription.

        `owned` is what the member had last, in that `generation`; None before its first assignment.
        """
        return None

    @abstractmethod
    def assign(self, topics: Topics, members: Mapping[str, MemberSubscription]) -> Assignments:
        """Each member's partitions. Topics that somebody subscribes to but that are not in `topics` do not exist."""


def in_order(members: Mapping[str, MemberSubscription]) -> list[str]:
    """The member ids as Java's assignors line them up: static members by instance id, then the others."""
    return sorted(members, key=lambda member_id: _rank(member_id, members[member_id].instance_id))


def _rank(member_id: str, instance_id: str | None) -> tuple[bool, str]:
    return (True, member_id) if instance_id is None else (False, instance_id)
