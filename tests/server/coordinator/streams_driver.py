"""Drives streams groups by hand: topics and settings as metadata, members that do what Kafka Streams does."""

from __future__ import annotations

from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as metadata
from ottla.protocol.messages import streams_group_heartbeat as messages
from ottla.protocol.messages.join_group import JoinGroupResponse
from ottla.protocol.messages.streams_group_heartbeat import (
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
)
from ottla.schema.group import GROUP_SETTINGS
from ottla.server.coordinator.group import GroupType
from ottla.server.coordinator.result import Pending
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.streams.admission import Heartbeat
from ottla.server.coordinator.streams.group import StreamsGroup
from ottla.server.coordinator.streams.groups import StreamsGroups
from ottla.server.coordinator.streams.heartbeat import check_request, refused
from ottla.server.coordinator.streams.tasks import TaskId, task_lists
from ottla.server.coordinator.streams.topology import InternalTopic
from ottla.server.metadata.image import ConfigResourceType, MetadataImage
from tests.server.coordinator.driver import Driver

GROUP = "g"


def _configs(image: MetadataImage, group_id: str) -> dict[str, Any]:
    values = {name: setting.default for name, setting in GROUP_SETTINGS.items()}
    for name, text in image.config_of(ConfigResourceType.GROUP, group_id).items():
        values[name] = GROUP_SETTINGS[name].parse(text)
    return values


class StreamsDriver(Driver):
    """A shard with topics. ``config`` are the group's settings; the initial delay is off unless asked for."""

    configs = staticmethod(_configs)

    def __init__(self, settings: GroupSettings | None = None, **config: str) -> None:
        super().__init__(settings)
        self.missing_topics: tuple[InternalTopic, ...] = ()
        self.set_config(**{"streams_initial_rebalance_delay_ms": "0", "streams_assignment_interval_ms": "0", **config})

    @property
    def machine(self) -> StreamsGroups:
        machine: StreamsGroups = self.shard.machine(GroupType.STREAMS)
        return machine

    @property
    def group(self) -> StreamsGroup:
        return self.machine.group(GROUP)

    # -- metadata

    def create_missing_topics(self) -> None:
        """What the service does after a heartbeat."""
        for topic in self.missing_topics:
            if topic.name not in self.image.topics.by_name:
                self.put_topic(topic.name, topic.partitions)

    def set_config(self, **config: str) -> None:
        """Settings by their names with underscores."""
        self.commit(
            [
                metadata.ConfigRecord(
                    resource_type=ConfigResourceType.GROUP,
                    resource_name=GROUP,
                    name=name.replace("_", "."),
                    value=value,
                )
                for name, value in config.items()
            ]
        )

    # -- requests

    def heartbeat(self, request: StreamsGroupHeartbeatRequest, version: int = 1) -> StreamsGroupHeartbeatResponse:
        """As the service answers it; a refused append is REQUEST_TIMED_OUT here."""
        try:
            check_request(request)
            result, self.missing_topics = self.machine.heartbeat(
                Heartbeat(request, version, "client", "/127.0.0.1"), self.now()
            )
        except ApiError as error:
            self.shard.check_invariants()
            return refused(error.code, error.message)
        response, code = self.apply(result)
        return response if code is None else refused(ErrorCode.REQUEST_TIMED_OUT)

    def join(self, member_id: str, topology: messages.Topology, **fields: Any) -> StreamsGroupHeartbeatResponse:
        return self.heartbeat(join_request(member_id, topology, **fields))

    def beat(self, member_id: str, epoch: int, **fields: Any) -> StreamsGroupHeartbeatResponse:
        return self.heartbeat(
            StreamsGroupHeartbeatRequest(group_id=GROUP, member_id=member_id, member_epoch=epoch, **fields)
        )

    def leave(self, member_id: str, **fields: Any) -> StreamsGroupHeartbeatResponse:
        return self.beat(member_id, -1, **fields)

    def join_classic(self) -> Pending[JoinGroupResponse]:
        """A member of a classic group of that name."""
        return super().join(version=3)


class Client:
    """A Kafka Streams thread: keeps its epoch, gives up and takes over tasks as it is told, may lose an answer."""

    def __init__(self, driver: StreamsDriver, member_id: str, topology: messages.Topology, **fields: Any) -> None:
        self.driver = driver
        self.member_id = member_id
        self.topology = topology
        self.fields = {"process_id": f"p-{member_id}", **fields}
        self.epoch = 0
        self.active: frozenset[TaskId] = frozenset()
        self.standby: frozenset[TaskId] = frozenset()
        self.warmup: frozenset[TaskId] = frozenset()
        self.status: list[tuple[int, str]] = []
        self.error = ErrorCode.NONE

    def beat(self, *, loses_answer: bool = False, **fields: Any) -> StreamsGroupHeartbeatResponse:
        """One heartbeat, with all tasks, as after a change."""
        if self.epoch == 0:
            request = join_request(self.member_id, self.topology, **{**self.fields, **fields})
        else:
            request = StreamsGroupHeartbeatRequest(
                group_id=GROUP,
                member_id=self.member_id,
                member_epoch=self.epoch,
                instance_id=self.fields.get("instance_id"),
                active_tasks=task_lists(self.active, messages.TaskIds),
                standby_tasks=task_lists(self.standby, messages.TaskIds),
                warmup_tasks=task_lists(self.warmup, messages.TaskIds),
                **fields,
            )
        response = self.driver.heartbeat(request)
        if not loses_answer:
            self._take(response)
        return response

    def _take(self, response: StreamsGroupHeartbeatResponse) -> None:
        self.error = ErrorCode(response.error_code)
        if self.error in (ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.GROUP_ID_NOT_FOUND):
            self.epoch = 0
            self.active = self.standby = self.warmup = frozenset()
        elif self.error is ErrorCode.NONE:
            self.epoch = response.member_epoch
            self.status = [(each.status_code, each.status_detail) for each in response.status or ()]
            if response.active_tasks is not None:
                self.active = _tasks(response.active_tasks)
                self.standby = _tasks(response.standby_tasks)
                self.warmup = _tasks(response.warmup_tasks)


def settle(*clients: Client, rounds: int = 6) -> None:
    """Let everybody heartbeat until all is in place."""
    for _ in range(rounds):
        for client in clients:
            client.beat()


def join_request(member_id: str, topology: messages.Topology, **fields: Any) -> StreamsGroupHeartbeatRequest:
    values = {
        "process_id": f"p-{member_id}",
        "rebalance_timeout_ms": 60_000,
        "active_tasks": [],
        "standby_tasks": [],
        "warmup_tasks": [],
        "client_tags": [],
    }
    return StreamsGroupHeartbeatRequest(
        group_id=GROUP, member_id=member_id, member_epoch=0, topology=topology, **{**values, **fields}
    )


def word_count(epoch: int = 0, source: str = "text") -> messages.Topology:
    """A stateless part that writes a repartition topic, and a stateful one that reads it."""
    return messages.Topology(
        epoch=epoch,
        subtopologies=[
            messages.Subtopology(subtopology_id="0", source_topics=[source], repartition_sink_topics=["repartition"]),
            messages.Subtopology(
                subtopology_id="1",
                repartition_source_topics=[messages.TopicInfo(name="repartition")],
                state_changelog_topics=[
                    messages.TopicInfo(
                        name="changelog",
                        topic_configs=[messages.KeyValue(key="cleanup.policy", value="compact")],
                    )
                ],
            ),
        ],
    )


def table(epoch: int = 0) -> messages.Topology:
    """One stateful subtopology over one topic."""
    return messages.Topology(
        epoch=epoch,
        subtopologies=[
            messages.Subtopology(
                subtopology_id="0",
                source_topics=["text"],
                state_changelog_topics=[messages.TopicInfo(name="changelog")],
            )
        ],
    )


def durable(group: StreamsGroup) -> tuple[object, ...]:
    """What a restart must bring back."""
    return (
        group.group_epoch,
        group.metadata_hash,
        group.validated_topology_epoch,
        group.assignment_configs,
        group.assignment_epoch,
        group.assignment_timestamp_ms,
        group.members,
        group.target,
        group.topology,
        group.stored_description_epoch,
    )


def _tasks(lists: list[messages.TaskIds] | None) -> frozenset[TaskId]:
    return frozenset(TaskId(each.subtopology_id, partition) for each in lists or () for partition in each.partitions)
