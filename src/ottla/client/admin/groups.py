"""Groups of all kinds: list and delete them; describe consumer groups, of either protocol, and classic groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from ottla.client.admin.acls import AclOperation, operations
from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.outcomes import known, names, outcome, settle
from ottla.client.admin.routing import Coordinators, Target
from ottla.client.errors import KafkaError, UnsupportedVersionError, error_for
from ottla.client.model import Node, TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.codec import decode_prefix
from ottla.protocol.errors import ProtocolError
from ottla.protocol.messages import consumer_group_describe, describe_groups
from ottla.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
)
from ottla.protocol.messages.consumer_protocol import ConsumerProtocolAssignment
from ottla.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from ottla.protocol.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse
from ottla.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from ottla.protocol.messages.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse

GROUP = 0
"""Key type of groups among coordinators."""

CONSUMER_PROTOCOL_TYPE = "consumer"
_LEAVE_REASON = "member was removed by an admin"
_REASON_LENGTH = 255


class GroupType(StrEnum):
    """Which protocol a group follows."""

    UNKNOWN = "unknown"
    CLASSIC = "classic"
    CONSUMER = "consumer"
    SHARE = "share"
    STREAMS = "streams"


class GroupState(StrEnum):
    """Where a group stands."""

    UNKNOWN = "Unknown"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"
    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    NOT_READY = "NotReady"


class GroupListing(NamedTuple):
    """A group in a list. Type and state are None from brokers that do not tell (before Kafka 4.0, 2.6)."""

    group_id: str
    type: GroupType | None
    state: GroupState | None
    protocol_type: str
    """`consumer` for groups of consumers, `connect`, ...; empty where only offsets are committed."""

    @property
    def is_simple_consumer_group(self) -> bool:
        """It has committed offsets, but no members ever."""
        return self.type in (None, GroupType.CLASSIC) and not self.protocol_type


class MemberDescription(NamedTuple):
    """A member of a consumer group. What only the consumer protocol (KIP-848) has is None in a classic group."""

    member_id: str
    group_instance_id: str | None
    rack_id: str | None
    client_id: str
    host: str
    assignment: frozenset[TopicPartition]
    target_assignment: frozenset[TopicPartition] | None = None
    member_epoch: int | None = None
    upgraded: bool | None = None
    """Whether it follows the consumer protocol itself; False for a classic member of such a group."""


class ConsumerGroupDescription(NamedTuple):
    """A consumer group of either protocol. The epochs are None in a classic one."""

    group_id: str
    type: GroupType
    state: GroupState
    coordinator: Node
    partition_assignor: str
    members: tuple[MemberDescription, ...]
    is_simple_consumer_group: bool = False
    group_epoch: int | None = None
    target_assignment_epoch: int | None = None
    authorized_operations: frozenset[AclOperation] | None = None
    """None unless asked for."""


@dataclass(frozen=True, slots=True)
class ClassicMemberDescription:
    """A member of a classic group of any protocol type; what it said and got as the protocol's own bytes."""

    member_id: str
    group_instance_id: str | None
    client_id: str
    host: str
    metadata: bytes = field(repr=False)
    assignment: bytes = field(repr=False)


class ClassicGroupDescription(NamedTuple):
    """A classic group of any protocol type."""

    group_id: str
    protocol_type: str
    protocol: str
    """The protocol, e.g. the assignor, that the members agreed on."""
    state: GroupState
    coordinator: Node
    members: tuple[ClassicMemberDescription, ...]
    authorized_operations: frozenset[AclOperation] | None = None
    """None unless asked for."""


class MemberToRemove(NamedTuple):
    """A member of a classic group: by instance id if it is static, otherwise by member id."""

    group_instance_id: str | None = None
    member_id: str = ""

    def __str__(self) -> str:
        return self.group_instance_id or self.member_id


class GroupCalls(AdminCalls):
    """Calls about groups as such."""

    async def list_groups(
        self,
        *,
        states: Iterable[GroupState] = (),
        types: Iterable[GroupType] = (),
        protocol_types: Iterable[str] = (),
        timeout_s: float | None = None,
    ) -> list[GroupListing]:
        """The groups of all brokers that pass the filters (KIP-518, KIP-848); an empty filter lets all pass.

        When some brokers fail, the error's `errors` and `results` are by broker.
        """
        by_state = [state.value for state in states]
        by_type = [kind.value for kind in types]
        of_protocol = set(protocol_types)
        oldest = 5 if by_type else 4 if by_state else None

        async def ask(target: Target, asked: list[int]) -> dict[int, list[GroupListing]]:
            request = ListGroupsRequest(states_filter=by_state, types_filter=by_type)
            try:
                response = await target.request(request, ListGroupsResponse, min_version=oldest)
            except UnsupportedVersionError:
                if not by_type or set(by_type) - {"consumer", "classic"} or "classic" not in by_type:
                    raise
                request.types_filter = []  # a broker that knows no types has classic groups only
                response = await target.request(request, ListGroupsResponse, min_version=4 if by_state else None)
            if response.error_code:
                raise error_for(response.error_code)
            return {
                target.node_id: [
                    _listing(group)
                    for group in response.groups
                    if not of_protocol or group.protocol_type in of_protocol
                ]
            }

        loading = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.COORDINATOR_NOT_AVAILABLE
        listed = await self._routing.run_everywhere("list_groups", ask, timeout_s, *loading)
        found = {listing.group_id: listing for listings in listed.values() for listing in listings}
        return list(found.values())

    async def list_consumer_groups(
        self, *, states: Iterable[GroupState] = (), timeout_s: float | None = None
    ) -> list[GroupListing]:
        """The groups of consumers, of either protocol, and those that only have offsets."""
        listings = await self.list_groups(
            states=states, protocol_types=(CONSUMER_PROTOCOL_TYPE, ""), timeout_s=timeout_s
        )
        return [one for one in listings if one.type not in (GroupType.SHARE, GroupType.STREAMS)]

    async def describe_consumer_groups(
        self,
        group_ids: str | Iterable[str],
        *,
        include_authorized_operations: bool = False,
        timeout_s: float | None = None,
    ) -> dict[str, ConsumerGroupDescription]:
        """Consumer groups of either protocol with their members; a group nobody knows fails with GROUP_ID_NOT_FOUND."""

        async def ask(target: Target, asked: list[str]) -> dict[str, ConsumerGroupDescription | KafkaError]:
            described = await _describe_modern(target, asked, include_authorized_operations)
            missing = {
                group_id: error
                for group_id in asked
                if isinstance(error := described.get(group_id), KafkaError)
                and error.code in (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.UNSUPPORTED_VERSION)
            }
            if not missing:
                return described
            for group_id, group in (
                await _describe_classic(target, list(missing), include_authorized_operations)
            ).items():
                if not isinstance(group, KafkaError):
                    described[group_id] = _consumer_group(target, group, include_authorized_operations)
                elif group.code is not ErrorCode.GROUP_ID_NOT_FOUND or (
                    missing[group_id].code is ErrorCode.UNSUPPORTED_VERSION
                ):
                    described[group_id] = group  # otherwise the first answer says more
            return described

        route: Coordinators[str] = Coordinators(GROUP)
        return await self._routing.run("describe_consumer_groups", names(group_ids), route, ask, timeout_s)

    async def describe_classic_groups(
        self,
        group_ids: str | Iterable[str],
        *,
        include_authorized_operations: bool = False,
        timeout_s: float | None = None,
    ) -> dict[str, ClassicGroupDescription]:
        """Classic groups of any protocol type. Brokers before Kafka 4.0 show an unknown group as DEAD."""

        async def ask(target: Target, asked: list[str]) -> dict[str, ClassicGroupDescription | KafkaError]:
            described = await _describe_classic(target, asked, include_authorized_operations)
            return {
                group_id: group
                if isinstance(group, KafkaError)
                else ClassicGroupDescription(
                    group_id,
                    group.protocol_type,
                    group.protocol_data,
                    known(GroupState, group.group_state),
                    target.node,
                    tuple(
                        ClassicMemberDescription(
                            member.member_id,
                            member.group_instance_id,
                            member.client_id,
                            member.client_host,
                            bytes(member.member_metadata),
                            bytes(member.member_assignment),
                        )
                        for member in group.members
                    ),
                    operations(group.authorized_operations) if include_authorized_operations else None,
                )
                for group_id, group in described.items()
            }

        route: Coordinators[str] = Coordinators(GROUP)
        return await self._routing.run("describe_classic_groups", names(group_ids), route, ask, timeout_s)

    async def delete_consumer_groups(self, group_ids: str | Iterable[str], *, timeout_s: float | None = None) -> None:
        """Delete groups with all their offsets; one that has members fails with NON_EMPTY_GROUP."""
        await self._delete_groups("delete_consumer_groups", group_ids, timeout_s)

    async def delete_share_groups(self, group_ids: str | Iterable[str], *, timeout_s: float | None = None) -> None:
        """Delete share groups with their state; one that has members fails with NON_EMPTY_GROUP."""
        await self._delete_groups("delete_share_groups", group_ids, timeout_s)

    async def delete_streams_groups(self, group_ids: str | Iterable[str], *, timeout_s: float | None = None) -> None:
        """Delete streams groups with all their offsets; one that has members fails with NON_EMPTY_GROUP."""
        await self._delete_groups("delete_streams_groups", group_ids, timeout_s)

    async def _delete_groups(self, call: str, group_ids: str | Iterable[str], timeout_s: float | None) -> None:
        async def ask(target: Target, asked: list[str]) -> dict[str, KafkaError | None]:
            response = await target.request(DeleteGroupsRequest(groups_names=asked), DeleteGroupsResponse)
            return {
                result.group_id: outcome(result.error_code, result.error_message, None) for result in response.results
            }

        route: Coordinators[str] = Coordinators(GROUP)
        await self._routing.run(call, names(group_ids), route, ask, timeout_s)

    async def remove_members_from_consumer_group(
        self,
        group_id: str,
        members: Iterable[MemberToRemove] | None = None,
        *,
        reason: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Remove members, all without `members`, from a classic consumer group (KIP-345). Errors are by member."""
        if members is None:
            described = await self.describe_consumer_groups(group_id, timeout_s=timeout_s)
            wanted = [
                MemberToRemove(member.group_instance_id)
                if member.group_instance_id is not None
                else MemberToRemove(None, member.member_id)
                for member in described[group_id].members
            ]
        else:
            wanted = [MemberToRemove(*member) for member in members]

        async def ask(target: Target, asked: list[str]) -> dict[str, dict[MemberToRemove, KafkaError | None]]:
            request = LeaveGroupRequest(
                group_id=group_id,
                members=[
                    MemberIdentity(
                        member_id=member.member_id,
                        group_instance_id=member.group_instance_id,
                        reason=(reason or _LEAVE_REASON)[:_REASON_LENGTH],
                    )
                    for member in wanted
                ],
            )
            response = await target.request(request, LeaveGroupResponse, min_version=3)
            if response.error_code:
                raise error_for(response.error_code)
            return {group_id: _removed(wanted, response)}

        if wanted:
            route: Coordinators[str] = Coordinators(GROUP)
            found = await self._routing.run("remove_members_from_consumer_group", [group_id], route, ask, timeout_s)
            settle(found[group_id])


def assigned_partitions(data: bytes) -> frozenset[TopicPartition]:
    """The partitions in a classic consumer's assignment, which starts with its version."""
    if len(data) < 2:
        return frozenset()
    version = min(int.from_bytes(data[:2], "big", signed=True), ConsumerProtocolAssignment.VALID_VERSIONS[1])
    try:
        assignment, _ = decode_prefix(ConsumerProtocolAssignment, max(version, 0), data, 2)
    except ProtocolError as error:
        raise KafkaError(f"A member's assignment cannot be read: {error}") from None
    return frozenset(
        TopicPartition(topic.topic, partition)
        for topic in assignment.assigned_partitions
        for partition in topic.partitions
    )


def _listing(group: ListedGroup) -> GroupListing:
    return GroupListing(
        group.group_id,
        known(GroupType, group.group_type.lower()) if group.group_type else None,
        known(GroupState, group.group_state) if group.group_state else None,
        group.protocol_type,
    )


async def _describe_modern(
    target: Target, group_ids: list[str], include_authorized_operations: bool
) -> dict[str, ConsumerGroupDescription | KafkaError]:
    """ConsumerGroupDescribe. What is unsupported or not found may still be a classic group."""
    request = ConsumerGroupDescribeRequest(
        group_ids=group_ids, include_authorized_operations=include_authorized_operations
    )
    try:
        response = await target.request(request, ConsumerGroupDescribeResponse)
    except UnsupportedVersionError as error:
        return dict.fromkeys(group_ids, error)
    return {
        group.group_id: outcome(
            group.error_code,
            group.error_message,
            ConsumerGroupDescription(
                group.group_id,
                GroupType.CONSUMER,
                known(GroupState, group.group_state),
                target.node,
                group.assignor_name,
                tuple(_modern_member(member) for member in group.members),
                False,
                group.group_epoch,
                group.assignment_epoch,
                operations(group.authorized_operations) if include_authorized_operations else None,
            ),
        )
        for group in response.groups
    }


def _modern_member(member: consumer_group_describe.Member) -> MemberDescription:
    return MemberDescription(
        member.member_id,
        member.instance_id,
        member.rack_id,
        member.client_id,
        member.client_host,
        _partitions(member.assignment),
        _partitions(member.target_assignment),
        member.member_epoch,
        None if member.member_type < 0 else member.member_type == 1,
    )


def _partitions(assignment: consumer_group_describe.Assignment) -> frozenset[TopicPartition]:
    return frozenset(
        TopicPartition(topic.topic_name, partition)
        for topic in assignment.topic_partitions
        for partition in topic.partitions
    )


async def _describe_classic(
    target: Target, group_ids: list[str], include_authorized_operations: bool
) -> dict[str, describe_groups.DescribedGroup | KafkaError]:
    request = DescribeGroupsRequest(groups=group_ids, include_authorized_operations=include_authorized_operations)
    response = await target.request(
        request, DescribeGroupsResponse, min_version=3 if include_authorized_operations else None
    )
    return {group.group_id: outcome(group.error_code, group.error_message, group) for group in response.groups}


def _consumer_group(
    target: Target, group: describe_groups.DescribedGroup, include_authorized_operations: bool
) -> ConsumerGroupDescription | KafkaError:
    if group.protocol_type not in (CONSUMER_PROTOCOL_TYPE, ""):
        return KafkaError(
            f"It is not a consumer group, but one of protocol type {group.protocol_type}.",
            hint="describe_classic_groups describes groups of any type.",
        )
    try:
        members = tuple(
            MemberDescription(
                member.member_id,
                member.group_instance_id,
                None,
                member.client_id,
                member.client_host,
                assigned_partitions(member.member_assignment),
            )
            for member in group.members
        )
    except KafkaError as error:
        return error
    return ConsumerGroupDescription(
        group.group_id,
        GroupType.CLASSIC,
        known(GroupState, group.group_state),
        target.node,
        group.protocol_data,
        members,
        not group.protocol_type,
        authorized_operations=operations(group.authorized_operations) if include_authorized_operations else None,
    )


def _removed(wanted: list[MemberToRemove], response: LeaveGroupResponse) -> dict[MemberToRemove, KafkaError | None]:
    """What became of each member; a static one is answered for by its instance id, whatever its member id."""
    codes = {member.group_instance_id or member.member_id: member.error_code for member in response.members}
    return {member: outcome(codes.get(str(member), ErrorCode.UNKNOWN_MEMBER_ID), None, None) for member in wanted}
