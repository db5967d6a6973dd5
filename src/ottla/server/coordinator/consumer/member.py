"""A member of a consumer group (KIP-848): what it said of itself, where it stands, what it may consume. Immutable.

    Stable ──target changed──▶ Unrevoked ──it gave up what it must──▶ Unreleased ──others gave up theirs──▶ Stable

A member that has nothing to give up, or nothing to wait for, skips the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from ottla.server.coordinator.modern_group import Assignment

#: Topic id → partition → the epoch in which the member got it.
PartitionEpochs = Mapping[bytes, Mapping[int, int]]

NO_PARTITIONS: PartitionEpochs = {}


class MemberState(IntEnum):
    """How far a member is on its way to the target; the numbers of its record."""

    STABLE = 0
    #: Has to give up partitions before its epoch may rise.
    UNREVOKED_PARTITIONS = 1
    #: Is at the target's epoch, and waits for partitions that others still have.
    UNRELEASED_PARTITIONS = 2
    #: A state that a newer Kafka wrote.
    UNKNOWN = 127

    @classmethod
    def _missing_(cls, value: object) -> MemberState:
        return cls.UNKNOWN


class ClassicMembership(NamedTuple):
    """What a member said that speaks the classic protocol; protocols are (name, metadata) in order of preference."""

    session_timeout_ms: int
    protocols: tuple[tuple[str, bytes], ...]

    @property
    def subscription_version(self) -> int:
        """Version of the ConsumerProtocol in which it takes its assignment."""
        return int.from_bytes(self.protocols[0][1][:2], "big", signed=True)


class ConsumerMember(NamedTuple):
    """One member; `_replace` makes the next one. ``client_host`` is as Kafka writes it, with a slash."""

    member_id: str
    member_epoch: int = 0
    previous_member_epoch: int = -1
    state: MemberState = MemberState.STABLE
    instance_id: str | None = None
    rack_id: str | None = None
    rebalance_timeout_ms: int = -1
    client_id: str = ""
    client_host: str = ""
    subscribed_topic_names: frozenset[str] = frozenset()
    #: Empty where it subscribes to names only. None only in records of a Kafka before regular expressions.
    subscribed_topic_regex: str | None = ""
    server_assignor: str | None = None
    assigned: PartitionEpochs = NO_PARTITIONS
    pending_revocation: PartitionEpochs = NO_PARTITIONS
    #: Only for members that speak the classic protocol.
    classic: ClassicMembership | None = None

    def is_reconciled_to(self, assignment_epoch: int) -> bool:
        """Has everything that the target of this epoch gives it."""
        return self.state is MemberState.STABLE and self.member_epoch == assignment_epoch

    def at_epoch(self, member_epoch: int) -> ConsumerMember:
        """The member in its next epoch, which may be the one it is in."""
        return self._replace(member_epoch=member_epoch, previous_member_epoch=self.member_epoch)

    def owns_all(self, owned: Assignment | None) -> bool:
        """Whether all of these partitions are assigned to the member; None, which says nothing, are not."""
        if owned is None:
            return False
        return all(index in self.assigned.get(topic_id, ()) for topic_id, indexes in owned.items() for index in indexes)

    def assignment_epoch(self, topic_id: bytes, partition: int) -> int | None:
        """In which epoch it got a partition that it has, or has to give up; None when it has nothing to do with it."""
        for partitions in (self.assigned, self.pending_revocation):
            epoch = partitions.get(topic_id, {}).get(partition)
            if epoch is not None:
                return epoch
        return None

    def left_for_a_while(self, epoch: int) -> ConsumerMember:
        """A static member that went, and keeps its seat: whoever comes back for it owns the partitions from epoch 0."""
        assigned = {topic_id: dict.fromkeys(epochs, 0) for topic_id, epochs in self.assigned.items()}
        return self._replace(member_epoch=epoch, assigned=assigned, pending_revocation=NO_PARTITIONS)
