"""StreamsGroupDescribe (KIP-1071): one group as administrators see it."""

from __future__ import annotations

from collections.abc import Iterable

from ottla.protocol.messages import streams_group_describe as described
from ottla.server.coordinator.streams.group import StreamsGroup
from ottla.server.coordinator.streams.member import Member
from ottla.server.coordinator.streams.target import ASSIGNOR_NAME
from ottla.server.coordinator.streams.tasks import TaskRoles, task_lists
from ottla.server.coordinator.streams.topics import ConfiguredSubtopology
from ottla.server.coordinator.streams.topology import InternalTopic, Subtopology


def describe(group: StreamsGroup) -> described.DescribedGroup:
    """The group without its topology description."""
    return described.DescribedGroup(
        group_id=group.group_id,
        group_state=group.state_name,
        group_epoch=group.group_epoch,
        assignment_epoch=group.assignment_epoch,
        topology=_topology(group),
        members=[_member(member, group.target_of(member_id)) for member_id, member in sorted(group.members.items())],
        assignor_name=ASSIGNOR_NAME,
    )


def _topology(group: StreamsGroup) -> described.Topology | None:
    """With the partition counts of the internal topics, once the topology was found to fit the topics."""
    if group.topology is None:
        return None
    subtopologies: dict[str, Subtopology | ConfiguredSubtopology] = {}
    configured = group.configured
    if configured is not None and configured.is_ready and configured.subtopologies is not None:
        subtopologies.update(configured.subtopologies)
    else:
        subtopologies.update(group.topology.subtopologies)
    return described.Topology(
        epoch=group.topology.epoch,
        subtopologies=[_subtopology(key, each) for key, each in sorted(subtopologies.items())],
    )


def _subtopology(subtopology_id: str, subtopology: Subtopology | ConfiguredSubtopology) -> described.Subtopology:
    return described.Subtopology(
        subtopology_id=subtopology_id,
        source_topics=sorted(subtopology.source_topics),
        repartition_sink_topics=sorted(subtopology.repartition_sink_topics),
        state_changelog_topics=_topics(subtopology.state_changelog_topics),
        repartition_source_topics=_topics(subtopology.repartition_source_topics),
    )


def _topics(topics: Iterable[InternalTopic]) -> list[described.TopicInfo]:
    return [
        described.TopicInfo(
            name=topic.name,
            partitions=topic.partitions,
            replication_factor=topic.replication_factor,
            topic_configs=[described.KeyValue(key=key, value=value) for key, value in topic.configs],
        )
        for topic in sorted(topics)
    ]


def _member(member: Member, target: TaskRoles) -> described.Member:
    profile = member.profile
    endpoint = profile.user_endpoint
    return described.Member(
        member_id=member.member_id,
        member_epoch=member.progress.member_epoch,
        instance_id=profile.instance_id,
        rack_id=profile.rack_id,
        client_id=profile.client_id,
        client_host=profile.client_host,
        topology_epoch=profile.topology_epoch,
        process_id=profile.process_id,
        user_endpoint=None if endpoint is None else described.Endpoint(host=endpoint.host, port=endpoint.port),
        client_tags=[described.KeyValue(key=key, value=value) for key, value in profile.client_tags],
        assignment=_assignment(member.progress.assigned),
        target_assignment=_assignment(target),
    )


def _assignment(roles: TaskRoles) -> described.Assignment:
    return described.Assignment(
        active_tasks=task_lists(roles.active, described.TaskIds),
        standby_tasks=task_lists(roles.standby, described.TaskIds),
        warmup_tasks=task_lists(roles.warmup, described.TaskIds),
    )
