"""What the handlers of the streams group APIs call, and the topics that streams applications need (KIP-1071).

The groups live in the shards of `service.GroupCoordinator`. Here requests find their shard, and the internal topics
that a heartbeat found missing are created: the members are told so, and find them with one of the next heartbeats.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from ottla.protocol.messages.streams_group_describe import DescribedGroup
from ottla.protocol.messages.streams_group_heartbeat import Status
from ottla.protocol.messages.streams_group_topology_description_update import (
    StreamsGroupTopologyDescriptionUpdateRequest,
    StreamsGroupTopologyDescriptionUpdateResponse,
)
from ottla.server.coordinator.append_errors import append_error
from ottla.server.coordinator.group import GroupType
from ottla.server.coordinator.result import Pending, Result
from ottla.server.coordinator.streams.admission import Heartbeat
from ottla.server.coordinator.streams.heartbeat import check_request, refused
from ottla.server.coordinator.streams.topics import StatusCode

if TYPE_CHECKING:
    from ottla.protocol.messages.create_topics import CreateTopicsResponse
    from ottla.protocol.messages.streams_group_heartbeat import StreamsGroupHeartbeatResponse
    from ottla.server.coordinator.service import GroupCoordinator
    from ottla.server.coordinator.streams.groups import StreamsGroups
    from ottla.server.coordinator.streams.topology import InternalTopic
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage

logger = logging.getLogger(__name__)

CreateTopics = Callable[[CreateTopicsRequest], Awaitable["CreateTopicsResponse"]]
NotCreatable = Callable[[Iterable[str]], list[str]]

#: How many refusals of topics a member is told.
_ERRORS_TOLD = 3


class StreamsGroupService:
    """Streams groups of the partitions of ``__consumer_offsets`` that this broker leads."""

    def __init__(self, groups: GroupCoordinator, create_topics: CreateTopics) -> None:
        self._groups = groups
        self._internal_topics = InternalTopics(create_topics)

    def heartbeat(
        self, call: Heartbeat, not_creatable: NotCreatable | None = None
    ) -> StreamsGroupHeartbeatResponse | Pending[StreamsGroupHeartbeatResponse]:
        """StreamsGroupHeartbeat; topic names must be checked.

        `not_creatable` says which of the internal topics that are missing the member may not have created.
        """
        group_id = call.request.group_id
        try:
            check_request(call.request)
            partition = self._groups.partition_of(group_id)
            shard = partition.shard
            machine: StreamsGroups = shard.machine(GroupType.STREAMS)
            now = partition.now()
            result, missing_topics = machine.heartbeat(call, now)
        except ApiError as error:
            return refused(error.code, error.message)
        denied = [] if not_creatable is None else not_creatable([topic.name for topic in missing_topics])
        if denied:
            _tell_denied(result.response, denied)
        elif missing_topics:
            backoff_ms = 2 * shard.context.config_of(group_id)["streams.heartbeat.interval.ms"]
            self._internal_topics.create(missing_topics, now.monotonic_ms, backoff_ms)
            self._tell_errors(result.response, missing_topics, now.monotonic_ms)
        return partition.complete(result, lambda code: refused(append_error(code)))

    def _tell_errors(
        self, response: StreamsGroupHeartbeatResponse, topics: Iterable[InternalTopic], now_ms: int
    ) -> None:
        """Say why topics are still missing."""
        errors = self._internal_topics.errors([topic.name for topic in topics], now_ms)
        for status in response.status or ():
            if errors and status.status_code == StatusCode.MISSING_INTERNAL_TOPICS:
                told = ", ".join(f"{name} ({message})" for name, message in errors[:_ERRORS_TOLD])
                more = f" and {len(errors) - _ERRORS_TOLD} more" if len(errors) > _ERRORS_TOLD else ""
                status.status_detail += f"; Creation failed: {told}{more}."

    def describe(self, group_id: str, *, with_topology_description: bool) -> DescribedGroup | Pending[DescribedGroup]:
        """StreamsGroupDescribe of one group."""
        try:
            partition = self._groups.partition_of(group_id)
            machine: StreamsGroups = partition.shard.machine(GroupType.STREAMS)
            described = machine.describe(group_id, with_topology_description=with_topology_description)
        except ApiError as error:
            message = error.message if error.code is ErrorCode.GROUP_ID_NOT_FOUND else None
            return DescribedGroup(group_id=group_id, error_code=error.code, error_message=message)
        return partition.complete(
            Result(described), lambda code: DescribedGroup(group_id=group_id, error_code=append_error(code))
        )

    def update_description(
        self, request: StreamsGroupTopologyDescriptionUpdateRequest
    ) -> StreamsGroupTopologyDescriptionUpdateResponse | Pending[StreamsGroupTopologyDescriptionUpdateResponse]:
        """StreamsGroupTopologyDescriptionUpdate."""
        try:
            self._check_update(request)
            partition = self._groups.partition_of(request.group_id)
            machine: StreamsGroups = partition.shard.machine(GroupType.STREAMS)
            result = machine.update_description(request)
        except ApiError as error:
            return StreamsGroupTopologyDescriptionUpdateResponse(error_code=error.code, error_message=error.message)
        return partition.complete(
            result, lambda code: StreamsGroupTopologyDescriptionUpdateResponse(error_code=append_error(code))
        )

    def _check_update(self, request: StreamsGroupTopologyDescriptionUpdateRequest) -> None:
        if not self._groups.settings.streams_keep_descriptions:
            raise ApiError(
                ErrorCode.UNSUPPORTED_VERSION,
                "The broker has no streams group topology description plugin configured.",
            )
        for name, text in (("MemberId", request.member_id), ("GroupId", request.group_id)):
            if not text.strip():
                raise ApiError(ErrorCode.INVALID_REQUEST, f"{name} can't be empty.")

    # -- a part of the node: the groups' own part follows the metadata

    def load(self, image: MetadataImage) -> None:
        """Nothing of its own."""

    def on_metadata_change(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Nothing of its own."""

    def stop(self) -> None:
        """Topics that are being created are created or not: who needs them asks again."""
        self._internal_topics.stop()


def _tell_denied(response: StreamsGroupHeartbeatResponse, names: list[str]) -> None:
    """Say that nobody creates these topics for the member."""
    text = f"Unauthorized to CREATE on topics {', '.join(names)}."
    for status in response.status or ():
        if status.status_code == StatusCode.MISSING_INTERNAL_TOPICS:
            status.status_detail += f"; {text}"
            return
    told = Status(status_code=StatusCode.MISSING_INTERNAL_TOPICS, status_detail=text)
    response.status = [*(response.status or ()), told]


class InternalTopics:
    """Creates the internal topics of streams applications, each once at a time, and remembers for a while why not."""

    def __init__(self, create_topics: CreateTopics) -> None:
        self._create_topics = create_topics
        self._in_flight: set[str] = set()
        #: Topic → why it could not be created, and until when it is not tried again (monotonic).
        self._errors: dict[str, tuple[str, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def create(self, topics: Iterable[InternalTopic], now_ms: int, backoff_ms: int) -> None:
        """Begin to create those that nobody creates and that did not just fail."""
        self._errors = {name: error for name, error in self._errors.items() if error[1] > now_ms}
        wanted = [topic for topic in topics if topic.name not in self._in_flight and topic.name not in self._errors]
        if wanted:
            self._in_flight.update(topic.name for topic in wanted)
            task = asyncio.get_running_loop().create_task(self._create(wanted, now_ms + backoff_ms))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def errors(self, names: Iterable[str], now_ms: int) -> list[tuple[str, str]]:
        """Which of the topics could not be created, and why."""
        known = ((name, self._errors.get(name)) for name in sorted(names))
        return [(name, error[0]) for name, error in known if error is not None and error[1] > now_ms]

    def stop(self) -> None:
        """Wait for nothing."""
        for task in self._tasks:
            task.cancel()

    async def _create(self, topics: list[InternalTopic], retry_ms: int) -> None:
        try:
            response = await self._create_topics(CreateTopicsRequest(topics=[_creatable(topic) for topic in topics]))
        except ApiError as error:
            self._errors.update((topic.name, (error.message, retry_ms)) for topic in topics)
            return
        finally:
            self._in_flight.difference_update(topic.name for topic in topics)
        for result in response.topics:
            # Another member's heartbeat, or a user, may have been faster.
            if result.error_code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                message = result.error_message or ERRORS[result.error_code].message
                logger.info("topic %s of a streams application cannot be created: %s", result.name, message)
                self._errors[result.name] = message, retry_ms


def _creatable(topic: InternalTopic) -> CreatableTopic:
    return CreatableTopic(
        name=topic.name,
        num_partitions=topic.partitions,
        replication_factor=topic.replication_factor or -1,
        assignments=[],
        configs=[CreatableTopicConfig(name=key, value=value) for key, value in topic.configs],
    )
