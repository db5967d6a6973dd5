"""The three kinds of groups behind one interface: what differs is which calls of the Admin client serve them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ottla.client.admin.groups import GroupListing, GroupState, GroupType
from ottla.client.admin.offsets import OffsetSpec
from ottla.client.errors import KafkaError
from ottla.client.model import TopicPartition

if TYPE_CHECKING:
    import ottla


class Position(NamedTuple):
    """Where a group is in a partition."""

    offset: int
    lag: int | None = None
    """As the coordinator says; None: to be worked out from the partition's end."""


class Member(Protocol):
    """What members of all kinds have."""

    @property
    def member_id(self) -> str: ...
    @property
    def client_id(self) -> str: ...
    @property
    def host(self) -> str: ...


class Description(Protocol):
    """What descriptions of all kinds have."""

    @property
    def group_id(self) -> str: ...
    @property
    def state(self) -> GroupState: ...
    @property
    def members(self) -> tuple[Any, ...]: ...


class Kind:
    """Consumer groups, of either protocol."""

    name = "consumer group"
    command = "groups"
    types: tuple[GroupType, ...] = (GroupType.CONSUMER, GroupType.CLASSIC)

    def list(self, admin: ottla.Admin, states: Iterable[GroupState] = ()) -> list[GroupListing]:
        """The groups of this kind."""
        return sorted(admin.list_consumer_groups(states=states))

    def describe(self, admin: ottla.Admin, groups: Iterable[str]) -> Mapping[str, Any]:
        """Descriptions by group."""
        return admin.describe_consumer_groups(groups)

    def positions(self, admin: ottla.Admin, groups: Iterable[str]) -> dict[str, dict[TopicPartition, Position]]:
        """Committed offsets by group and partition; partitions without one are left out."""
        found = admin.list_consumer_group_offsets(groups)
        return {
            group: {tp: Position(one.offset) for tp, one in offsets.items() if one is not None}
            for group, offsets in found.items()
        }

    def alter(self, admin: ottla.Admin, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set offsets of a group without members."""
        admin.alter_consumer_group_offsets(group, offsets)

    def delete(self, admin: ottla.Admin, groups: Iterable[str]) -> None:
        """Delete groups without members."""
        admin.delete_consumer_groups(groups)

    def delete_offsets(self, admin: ottla.Admin, group: str, partitions: Iterable[TopicPartition]) -> None:
        """Forget the offsets of partitions."""
        admin.delete_consumer_group_offsets(group, partitions)


class ShareKind(Kind):
    """Share groups (KIP-932): the offset is where the share partition starts."""

    name = "share group"
    command = "share-groups"
    types = (GroupType.SHARE,)

    def list(self, admin: ottla.Admin, states: Iterable[GroupState] = ()) -> list[GroupListing]:
        """The groups of this kind."""
        return sorted(admin.list_groups(types=self.types, states=states))

    def describe(self, admin: ottla.Admin, groups: Iterable[str]) -> Mapping[str, Any]:
        """Descriptions by group."""
        return admin.describe_share_groups(groups)

    def positions(self, admin: ottla.Admin, groups: Iterable[str]) -> dict[str, dict[TopicPartition, Position]]:
        """Start offsets by group and partition."""
        found = admin.list_share_group_offsets(groups)
        return {
            group: {tp: Position(one.start_offset, one.lag) for tp, one in offsets.items() if one is not None}
            for group, offsets in found.items()
        }

    def alter(self, admin: ottla.Admin, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Move where a group without members starts."""
        admin.alter_share_group_offsets(group, offsets)

    def delete(self, admin: ottla.Admin, groups: Iterable[str]) -> None:
        """Delete groups without members."""
        admin.delete_share_groups(groups)

    def delete_offsets(self, admin: ottla.Admin, group: str, partitions: Iterable[TopicPartition]) -> None:
        """Forget where the group is in the topics of these partitions; share groups forget whole topics only."""
        admin.delete_share_group_offsets(group, sorted({tp.topic for tp in partitions}))


class StreamsKind(Kind):
    """Streams groups (KIP-1071)."""

    name = "streams group"
    command = "streams-groups"
    types = (GroupType.STREAMS,)

    def list(self, admin: ottla.Admin, states: Iterable[GroupState] = ()) -> list[GroupListing]:
        """The groups of this kind."""
        return sorted(admin.list_groups(types=self.types, states=states))

    def describe(self, admin: ottla.Admin, groups: Iterable[str]) -> Mapping[str, Any]:
        """Descriptions by group."""
        return admin.describe_streams_groups(groups)

    def positions(self, admin: ottla.Admin, groups: Iterable[str]) -> dict[str, dict[TopicPartition, Position]]:
        """Committed offsets by group and partition."""
        found = admin.list_streams_group_offsets(groups)
        return {
            group: {tp: Position(one.offset) for tp, one in offsets.items() if one is not None}
            for group, offsets in found.items()
        }

    def alter(self, admin: ottla.Admin, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set offsets of a group without members."""
        admin.alter_streams_group_offsets(group, offsets)

    def delete(self, admin: ottla.Admin, groups: Iterable[str]) -> None:
        """Delete groups without members."""
        admin.delete_streams_groups(groups)

    def delete_offsets(self, admin: ottla.Admin, group: str, partitions: Iterable[TopicPartition]) -> None:
        """Forget the offsets of partitions."""
        admin.delete_streams_group_offsets(group, partitions)


def listed_offsets(
    admin: ottla.Admin, partitions: Iterable[TopicPartition], spec: OffsetSpec | int
) -> dict[TopicPartition, int | None]:
    """Offsets of partitions; those that cannot be looked up, as of a topic that is gone, are left out."""
    wanted = dict.fromkeys(partitions, spec)
    if not wanted:
        return {}
    try:
        found = admin.list_offsets(wanted)
    except KafkaError as error:
        if not error.errors:
            raise
        found = dict(error.results)
    return {tp: one.offset for tp, one in found.items()}


def lag_of(position: Position | None, end_offset: int | None) -> int | None:
    """How many offsets a group has to go; None when it is not known."""
    if position is None:
        return None
    if position.lag is not None:
        return position.lag
    return None if end_offset is None else max(0, end_offset - position.offset)
