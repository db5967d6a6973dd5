"""A share group (KIP-932): members, their assignment, and the topics whose share state exists. Changed by replay alone.

A partition can only be consumed when the share coordinator knows of it, so the group remembers how far each topic is:

    subscribed ──▶ initializing ──written down there──▶ initialized ──offsets deleted──▶ deleting ──gone there──▶ gone

Only initialized partitions are assigned.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.coordinator.group import GroupType, PartitionCommitCheck
from ottla.server.coordinator.modern_group import NO_ASSIGNMENT, Assignment, ModernGroup
from ottla.server.coordinator.modern_topics import SubscribedTopics
from ottla.server.coordinator.result import CoordinatorRecord

SHARE_PROTOCOL_TYPE = "share"


class ShareMember(NamedTuple):
    """One member; `_replace` makes the next one. ``client_host`` is as Kafka writes it, with a slash."""

    member_id: str
    member_epoch: int = 0
    previous_member_epoch: int = -1
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    subscribed_topic_names: frozenset[str] = frozenset()
    assigned: Assignment = NO_ASSIGNMENT


class StateTopic(NamedTuple):
    """A topic, and which partitions of it are meant."""

    name: str
    partitions: frozenset[int]


#: Topic id → the partitions whose share state is meant.
StateTopics = Mapping[bytes, StateTopic]

NO_TOPICS: StateTopics = {}


class ShareStateTopics(NamedTuple):
    """What the group knows of its share state; ``deleting`` has the names of topics."""

    initializing: StateTopics = NO_TOPICS
    initialized: StateTopics = NO_TOPICS
    deleting: Mapping[bytes, str] = {}

    def without(self, topic_ids: Iterable[bytes]) -> ShareStateTopics:
        """As if these topics had never been."""
        gone = frozenset(topic_ids)
        return ShareStateTopics(
            {topic_id: topic for topic_id, topic in self.initializing.items() if topic_id not in gone},
            {topic_id: topic for topic_id, topic in self.initialized.items() if topic_id not in gone},
            {topic_id: name for topic_id, name in self.deleting.items() if topic_id not in gone},
        )

    def mentions(self, topic_ids: Iterable[bytes]) -> bool:
        """Whether it says something about one of the topics."""
        return any(topic_id in part for topic_id in topic_ids for part in self)


def joined(topics: StateTopics, more: StateTopics) -> dict[bytes, StateTopic]:
    """The partitions of both; names as in ``more``."""
    result = dict(topics)
    for topic_id, topic in more.items():
        known = result.get(topic_id)
        result[topic_id] = topic if known is None else topic._replace(partitions=known.partitions | topic.partitions)
    return result


def separated(topics: StateTopics, fewer: StateTopics) -> dict[bytes, StateTopic]:
    """The partitions of ``topics`` that are not in ``fewer``."""
    result = {}
    for topic_id, topic in topics.items():
        taken = fewer.get(topic_id)
        partitions = topic.partitions if taken is None else topic.partitions - taken.partitions
        if partitions:
            result[topic_id] = topic._replace(partitions=partitions)
    return result


class ShareGroup(ModernGroup[ShareMember]):
    """One share group, `group.Group` to its shard.

    ``initializing_until_ms`` is ephemeral: until when (monotonic) an initialization under way is believed to go on; a
    restart knows of none and begins again.
    """

    group_type = GroupType.SHARE
    protocol_type = SHARE_PROTOCOL_TYPE

    __slots__ = ("_awaits_assignment", "initializing_until_ms", "state_topics")

    def __init__(self, group_id: str, topics: SubscribedTopics) -> None:
        super().__init__(group_id, topics)
        self.state_topics = ShareStateTopics()
        self.initializing_until_ms: dict[bytes, int] = {}
        self._awaits_assignment: bool | None = None

    @property
    def state_name(self) -> str:
        """Empty or Stable: nobody waits for anybody in a share group."""
        return "Stable" if self.members else "Empty"

    # -- assignment

    def changed(self) -> None:
        """A record was replayed, or topics changed."""
        self._awaits_assignment = None

    def awaits_assignment(self, existing: Container[bytes]) -> bool:
        """Whether partitions that were initialized, of topics somebody subscribes to, are assigned to nobody.

        Asked with every heartbeat, so the answer is kept until something changes.
        """
        if self._awaits_assignment is None:
            self._awaits_assignment = self._has_unassigned(existing)
        return self._awaits_assignment

    def _has_unassigned(self, existing: Container[bytes]) -> bool:
        if not self.members:
            return False
        assigned: dict[bytes, set[int]] = {}
        for assignment in self.target.values():
            for topic_id, partitions in assignment.items():
                assigned.setdefault(topic_id, set()).update(partitions)
        return any(
            topic.name in self.subscriptions
            and topic_id in existing
            and assigned.get(topic_id, frozenset()) != topic.partitions
            for topic_id, topic in self.state_topics.initialized.items()
        )

    # -- what the shard asks of any group

    def check_commit(
        self, member_id: str, group_instance_id: str | None, generation_id: int, version: int, *, transactional: bool
    ) -> PartitionCommitCheck | None:
        """A share group has no committed offsets."""
        raise self._no_consumer_group()

    def check_fetch(self, member_id: str | None, member_epoch: int) -> None:
        """Who asks is told that there are no committed offsets."""

    def check_offset_delete(self) -> None:
        """A share group has no committed offsets."""
        raise self._no_consumer_group()

    def check_delete(self) -> None:
        """ApiError NON_EMPTY_GROUP while there are members."""
        if self.members:
            raise ApiError(ErrorCode.NON_EMPTY_GROUP, "The group is not empty.")

    def retention_base_ms(self, topic: str, commit_timestamp_ms: int) -> int | None:
        """There are no offsets that could expire."""
        return None

    def may_expire(self) -> bool:
        """A share group stays until it is deleted: where it stands is worth keeping."""
        return False

    def tombstones(self) -> list[CoordinatorRecord]:
        """The records that forget the group; its share state has to be deleted before."""
        from ottla.server.coordinator.share import records

        return [
            record for member_id in self.members for record in records.member_tombstones(self.group_id, member_id)
        ] + records.group_tombstones(self.group_id)

    def _no_consumer_group(self) -> ApiError:
        return ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {self.group_id} is not a consumer group.")

    def check_invariants(self) -> None:
        """What holds between commands; for tests and simulations."""
        super().check_invariants()
        state = self.state_topics
        assert all(topic.partitions for part in (state.initializing, state.initialized) for topic in part.values())
        assert not state.deleting.keys() & state.initializing.keys()
