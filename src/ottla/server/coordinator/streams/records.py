"""The records of streams groups in ``__consumer_offsets`` (key types 17 and 19-23), as Apache Kafka 4.4 writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ottla.protocol.messages import streams_records as records
from ottla.server.coordinator.result import CoordinatorRecord
from ottla.server.coordinator.streams.member import Endpoint, Member, MemberState, Profile, Progress
from ottla.server.coordinator.streams.tasks import (
    ActiveEpochs,
    TaskId,
    TaskRoles,
    Tasks,
    by_subtopology,
    task_lists,
    tasks_of,
)
from ottla.server.coordinator.streams.topology import Topology

GROUP_METADATA = 17
MEMBER_METADATA = 19
TARGET_METADATA = 20
TARGET_MEMBER = 21
CURRENT_ASSIGNMENT = 22
TOPOLOGY = 23

KEY_TYPES = frozenset((GROUP_METADATA, MEMBER_METADATA, TARGET_METADATA, TARGET_MEMBER, CURRENT_ASSIGNMENT, TOPOLOGY))

_STATES = {int(state): state for state in MemberState}


def group_metadata(
    group_id: str,
    *,
    group_epoch: int,
    metadata_hash: int,
    validated_topology_epoch: int,
    assignment_configs: Mapping[str, str],
    stored_description_epoch: int = -1,
    failed_description_epoch: int = -1,
) -> CoordinatorRecord:
    """The group's epoch, and what it was raised for."""
    return CoordinatorRecord(
        GROUP_METADATA,
        records.StreamsGroupMetadataKey(group_id=group_id),
        records.StreamsGroupMetadataValue(
            epoch=group_epoch,
            metadata_hash=metadata_hash,
            validated_topology_epoch=validated_topology_epoch,
            last_assignment_configs=[
                records.LastAssignmentConfig(key=key, value=value) for key, value in sorted(assignment_configs.items())
            ],
            stored_description_topology_epoch=stored_description_epoch,
            failed_description_topology_epoch=failed_description_epoch,
        ),
    )


def topology(group_id: str, value: Topology) -> CoordinatorRecord:
    """The group's topology."""
    return CoordinatorRecord(TOPOLOGY, records.StreamsGroupTopologyKey(group_id=group_id), value.to_record())


def member_metadata(group_id: str, member: Member) -> CoordinatorRecord:
    """What the member says of itself."""
    profile = member.profile
    endpoint = profile.user_endpoint
    return CoordinatorRecord(
        MEMBER_METADATA,
        records.StreamsGroupMemberMetadataKey(group_id=group_id, member_id=member.member_id),
        records.StreamsGroupMemberMetadataValue(
            instance_id=profile.instance_id,
            rack_id=profile.rack_id,
            client_id=profile.client_id,
            client_host=profile.client_host,
            rebalance_timeout_ms=profile.rebalance_timeout_ms,
            topology_epoch=profile.topology_epoch,
            process_id=profile.process_id,
            user_endpoint=None if endpoint is None else records.Endpoint(host=endpoint.host, port=endpoint.port),
            client_tags=[records.KeyValue(key=key, value=value) for key, value in profile.client_tags],
        ),
    )


def target_metadata(group_id: str, assignment_epoch: int, timestamp_ms: int) -> CoordinatorRecord:
    """A target assignment was made for this epoch; follows the members' parts of it."""
    return CoordinatorRecord(
        TARGET_METADATA,
        records.StreamsGroupTargetAssignmentMetadataKey(group_id=group_id),
        records.StreamsGroupTargetAssignmentMetadataValue(
            assignment_epoch=assignment_epoch, assignment_timestamp=timestamp_ms
        ),
    )


def target_member(group_id: str, member_id: str, roles: TaskRoles) -> CoordinatorRecord:
    """The member's part of the target assignment."""
    make = records.StreamsGroupTargetAssignmentMemberValueTaskIds
    return CoordinatorRecord(
        TARGET_MEMBER,
        records.StreamsGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id),
        records.StreamsGroupTargetAssignmentMemberValue(
            active_tasks=task_lists(roles.active, make),
            standby_tasks=task_lists(roles.standby, make),
            warmup_tasks=task_lists(roles.warmup, make),
        ),
    )


def current_assignment(group_id: str, member: Member) -> CoordinatorRecord:
    """What the member was given, and where it stands."""
    progress = member.progress
    make = records.StreamsGroupCurrentMemberAssignmentValueTaskIds
    assigned, revoking, epochs = progress.assigned, progress.revoking, progress.active_epochs
    return CoordinatorRecord(
        CURRENT_ASSIGNMENT,
        records.StreamsGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member.member_id),
        records.StreamsGroupCurrentMemberAssignmentValue(
            member_epoch=progress.member_epoch,
            previous_member_epoch=progress.previous_member_epoch,
            state=progress.state,
            active_tasks=_active_lists(assigned.active, epochs),
            standby_tasks=task_lists(assigned.standby, make),
            warmup_tasks=task_lists(assigned.warmup, make),
            active_tasks_pending_revocation=_active_lists(revoking.active, epochs),
            standby_tasks_pending_revocation=task_lists(revoking.standby, make),
            warmup_tasks_pending_revocation=task_lists(revoking.warmup, make),
        ),
    )


def member_tombstones(group_id: str, member_id: str) -> list[CoordinatorRecord]:
    """Forget a member."""
    return [
        CoordinatorRecord(
            CURRENT_ASSIGNMENT,
            records.StreamsGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member_id),
            None,
        ),
        CoordinatorRecord(
            TARGET_MEMBER,
            records.StreamsGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id),
            None,
        ),
        CoordinatorRecord(
            MEMBER_METADATA, records.StreamsGroupMemberMetadataKey(group_id=group_id, member_id=member_id), None
        ),
    ]


def group_tombstones(group_id: str) -> list[CoordinatorRecord]:
    """Forget a group that has no members."""
    return [
        CoordinatorRecord(TARGET_METADATA, records.StreamsGroupTargetAssignmentMetadataKey(group_id=group_id), None),
        CoordinatorRecord(GROUP_METADATA, records.StreamsGroupMetadataKey(group_id=group_id), None),
        CoordinatorRecord(TOPOLOGY, records.StreamsGroupTopologyKey(group_id=group_id), None),
    ]


# -- reading them back


def profile_of(value: records.StreamsGroupMemberMetadataValue) -> Profile:
    """What a member's record says of it."""
    endpoint = value.user_endpoint
    return Profile(
        instance_id=value.instance_id,
        rack_id=value.rack_id,
        client_id=value.client_id,
        client_host=value.client_host,
        rebalance_timeout_ms=value.rebalance_timeout_ms,
        topology_epoch=value.topology_epoch,
        process_id=value.process_id,
        user_endpoint=None if endpoint is None else Endpoint(endpoint.host, endpoint.port),
        client_tags=tuple((tag.key, tag.value) for tag in value.client_tags),
    )


def progress_of(value: records.StreamsGroupCurrentMemberAssignmentValue) -> Progress:
    """What a member's assignment record says it was given; active tasks without epochs have the member's."""
    epochs: dict[TaskId, int] = {}
    for lists in (value.active_tasks, value.active_tasks_pending_revocation):
        for each in lists:
            numbers = each.assignment_epochs
            if numbers is None or len(numbers) != len(each.partitions):
                numbers = [value.member_epoch] * len(each.partitions)
            epochs.update(
                (TaskId(each.subtopology_id, partition), epoch)
                for partition, epoch in zip(each.partitions, numbers, strict=True)
            )
    return Progress(
        member_epoch=value.member_epoch,
        previous_member_epoch=value.previous_member_epoch,
        state=_STATES.get(value.state, MemberState.UNKNOWN),
        assigned=roles_of(value.active_tasks, value.standby_tasks, value.warmup_tasks),
        revoking=roles_of(
            value.active_tasks_pending_revocation,
            value.standby_tasks_pending_revocation,
            value.warmup_tasks_pending_revocation,
        ),
        active_epochs=epochs,
    )


def roles_of(active: Any, standby: Any, warmup: Any) -> TaskRoles:
    """Three lists of tasks of a message or a record."""
    return TaskRoles(tasks_of(active), tasks_of(standby), tasks_of(warmup))


def _active_lists(tasks: Tasks, epochs: ActiveEpochs) -> list[records.StreamsGroupCurrentMemberAssignmentValueTaskIds]:
    return [
        records.StreamsGroupCurrentMemberAssignmentValueTaskIds(
            subtopology_id=subtopology_id,
            partitions=partitions,
            assignment_epochs=[epochs[TaskId(subtopology_id, partition)] for partition in partitions],
        )
        for subtopology_id, partitions in by_subtopology(tasks).items()
    ]
