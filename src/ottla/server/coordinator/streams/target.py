"""The target assignment of a streams group: what the assignor is told, and the records of what it decided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.server.coordinator.streams import records as group_records
from ottla.server.coordinator.streams.assignor import Candidate, SubtopologyTasks, assign
from ottla.server.coordinator.streams.tasks import NO_ROLES, TaskRoles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ottla.server.coordinator.result import CoordinatorRecord
    from ottla.server.coordinator.streams.group import StreamsGroup
    from ottla.server.coordinator.streams.member import Member
    from ottla.server.coordinator.streams.topics import ConfiguredTopology

#: The one assignor there is; groups that name another get it, as in Kafka.
ASSIGNOR_NAME = "sticky"

NUM_STANDBY_REPLICAS = "num.standby.replicas"
RACK_AWARE_TAGS = "rack.aware.assignment.tags"

#: The settings that an assignment depends on, as texts, in the form in which a group remembers them.
AssignmentConfigs = dict[str, str]


def assignment_configs(config: Mapping[str, Any]) -> AssignmentConfigs:
    """Out of the group's typed settings."""
    configs = {NUM_STANDBY_REPLICAS: str(config["streams.num.standby.replicas"])}
    tags = config["streams.rack.aware.assignment.tags"]
    if tags:
        configs[RACK_AWARE_TAGS] = ",".join(tags)
    return configs


def rack_aware_tags(configs: Mapping[str, str]) -> list[str]:
    """Keys of the client tags in whose values the copies of a task shall differ, the most important first."""
    return [tag.strip() for tag in configs.get(RACK_AWARE_TAGS, "").split(",") if tag.strip()]


def make_target(
    group: StreamsGroup,
    configured: ConfiguredTopology,
    configs: Mapping[str, str],
    members: Mapping[str, Member],
    before: Mapping[str, TaskRoles],
) -> dict[str, TaskRoles]:
    """Everybody's tasks; nobody runs anything while the topology does not fit the topics."""
    if not configured.is_ready or configured.subtopologies is None:
        return dict.fromkeys(members, NO_ROLES)
    candidates = {
        member_id: Candidate(
            member.process_id,
            dict(member.profile.client_tags),
            before.get(member_id, NO_ROLES),
            group.task_offsets.get(member_id, {}),
        )
        for member_id, member in members.items()
    }
    subtopologies = {
        subtopology_id: SubtopologyTasks(each.task_count, each.is_stateful)
        for subtopology_id, each in configured.subtopologies.items()
    }
    return assign(
        candidates,
        subtopologies,
        standby_replicas=int(configs.get(NUM_STANDBY_REPLICAS, "0")),
        rack_aware_tags=rack_aware_tags(configs),
    )


def target_records(
    group_id: str, epoch: int, timestamp_ms: int, target: Mapping[str, TaskRoles], before: Mapping[str, TaskRoles]
) -> list[CoordinatorRecord]:
    """Where the target differs from the one before, and its epoch."""
    changed = [
        group_records.target_member(group_id, member_id, roles)
        for member_id, roles in target.items()
        if before.get(member_id) != roles
    ]
    return [*changed, group_records.target_metadata(group_id, epoch, timestamp_ms)]
