"""What every kind of group has in common: offsets, listing and deleting work on any of them through this view.

A shard keeps all its groups in one dict, because an id names one group whatever its kind; classic, consumer (KIP-848),
share (KIP-932) and streams groups (KIP-1071) each have a machine of their own that creates and changes theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from ottla.server.coordinator.result import CoordinatorRecord

#: Asked for each committed partition (topic, topic id, partition); raises ApiError when the sender may not commit it.
PartitionCommitCheck = Callable[[str, bytes, int], None]


class GroupType(Enum):
    """Kinds of groups under the names that ListGroups shows."""

    CLASSIC = "classic"
    CONSUMER = "consumer"
    SHARE = "share"
    STREAMS = "streams"


class Group(Protocol):
    """One group of any kind."""

    @property
    def group_id(self) -> str: ...

    @property
    def group_type(self) -> GroupType: ...

    @property
    def state_name(self) -> str:
        """The state as DescribeGroups and ListGroups show it."""

    @property
    def protocol_type(self) -> str | None:
        """``consumer``, ``share``, ``streams``, what classic members said, or None for offsets without membership."""

    def check_commit(
        self, member_id: str, group_instance_id: str | None, generation_id: int, version: int, *, transactional: bool
    ) -> PartitionCommitCheck | None:
        """ApiError unless this member may commit offsets in this generation (or member epoch).

        Where it depends on the partition (a member with an older epoch, KIP-848) the answer is a check to ask for each.

        ``version`` is that of OffsetCommit, or of TxnOffsetCommit when ``transactional``; an administrator or a
        consumer without membership has an empty member id and a negative generation.
        """

    def check_fetch(self, member_id: str | None, member_epoch: int) -> None:
        """ApiError unless this member may fetch offsets (KIP-848); -1 and None come from those without an epoch."""

    def check_offset_delete(self) -> None:
        """ApiError when an administrator may not remove offsets at all."""

    def check_delete(self) -> None:
        """ApiError NON_EMPTY_GROUP, or the like, unless the group may be deleted."""

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member consumes the topic; then its offsets are not deleted and do not expire."""

    def retention_base_ms(self, topic: str, commit_timestamp_ms: int) -> int | None:
        """When the retention of an offset began (wall clock); None while it does not run."""

    def may_expire(self) -> bool:
        """Whether the group itself goes when its last offset is gone."""

    def tombstones(self) -> list[CoordinatorRecord]:
        """The records that forget the group, without its offsets."""

    def check_invariants(self) -> None:
        """What holds between commands; for tests and simulations."""
