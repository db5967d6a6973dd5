"""Share groups of one broker: what the handlers of the share group APIs call (KIP-932).

The group coordinator knows members and assignments, the share coordinator knows offsets. Whatever needs both is carried
out here, one after the other: written down in the group that it is under way, asked of the share coordinator, written
down in the group what became of it. After a crash in between the group knows what was under way, and it is done again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.messages import delete_share_group_state as deleting
from ottla.protocol.messages import initialize_share_group_state as initializing
from ottla.protocol.messages import read_share_group_state_summary as reading
from ottla.protocol.messages.delete_groups import DeletableGroupResult
from ottla.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsResponse,
    DeleteShareGroupOffsetsResponseTopic,
)
from ottla.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
)
from ottla.protocol.messages.share_group_describe import DescribedGroup
from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse
from ottla.server.coordinator.append_errors import append_error
from ottla.server.coordinator.group import GroupType
from ottla.server.coordinator.modern_group import JOIN_EPOCH, LEAVE_EPOCH
from ottla.server.coordinator.result import Pending, Result
from ottla.server.coordinator.share import offsets
from ottla.server.coordinator.share.groups import HeartbeatOutcome, Initialization, ShareGroups

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.protocol.messages.alter_share_group_offsets import (
        AlterShareGroupOffsetsRequest,
        AlterShareGroupOffsetsResponse,
    )
    from ottla.protocol.messages.delete_share_group_offsets import DeleteShareGroupOffsetsRequest
    from ottla.protocol.messages.describe_share_group_offsets import DescribeShareGroupOffsetsRequestGroup
    from ottla.server.coordinator.group_shard import GroupShard
    from ottla.server.coordinator.runtime import CoordinatorPartition
    from ottla.server.coordinator.service import GroupCoordinator

R = TypeVar("R")

#: Error of each share partition, NONE where it went well.
Errors = dict[tuple[bytes, int], ErrorCode]

MAX_MEMBER_ID_LENGTH = 36
_ATTEMPTS = 6
_BACKOFF_MS = 20
_RETRIABLE = (
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
)


class ShareStates(Protocol):
    """The share coordinators of the cluster; each method answers with a response or a ``Pending`` of it."""

    async def ensure_topic(self) -> None:
        """Have the coordinators' topic created; ApiError when it cannot be."""

    def initialize(self, request: initializing.InitializeShareGroupStateRequest) -> Any:
        """InitializeShareGroupState."""

    def delete(self, request: deleting.DeleteShareGroupStateRequest) -> Any:
        """DeleteShareGroupState."""

    def read_summary(self, request: reading.ReadShareGroupStateSummaryRequest) -> Any:
        """ReadShareGroupStateSummary."""


class ShareGroupService:
    """``share_state()`` gives the share coordinators, ``end_offsets`` high watermarks, or why one cannot be told."""

    def __init__(
        self,
        groups: GroupCoordinator,
        share_state: Callable[[], ShareStates],
        end_offsets: Callable[[Iterable[TopicPartition]], Awaitable[dict[TopicPartition, int | ErrorCode]]],
    ) -> None:
        self._groups = groups
        self._share_state = share_state
        self._end_offsets = end_offsets

    # -- membership

    def heartbeat(
        self, request: ShareGroupHeartbeatRequest, client_id: str, client_host: str
    ) -> ShareGroupHeartbeatResponse | Awaitable[ShareGroupHeartbeatResponse]:
        """ShareGroupHeartbeat. Answered at once, unless partitions have to be initialized for the member first."""
        check_heartbeat(request)
        partition, machine = self._shard_of(request.group_id)
        result = machine.heartbeat(request, client_id, client_host, partition.now())
        outcome = partition.complete(result, _refused_heartbeat)
        if isinstance(outcome, HeartbeatOutcome) and outcome.initialization is None:
            return outcome.response
        return self._heartbeat_with_initialization(request, client_id, client_host, outcome)

    async def _heartbeat_with_initialization(
        self,
        request: ShareGroupHeartbeatRequest,
        client_id: str,
        client_host: str,
        outcome: HeartbeatOutcome | Pending[HeartbeatOutcome],
    ) -> ShareGroupHeartbeatResponse:
        """The member gets what was initialized for it with this very answer, not one heartbeat interval later."""
        first = await arrival(outcome)
        response, initialization = first.response, first.initialization
        if initialization is None or response.error_code:
            return response
        if ErrorCode.NONE not in (await self._initialize(initialization)).values():
            return response
        again = ShareGroupHeartbeatRequest(
            group_id=request.group_id, member_id=request.member_id, member_epoch=response.member_epoch
        )
        try:
            partition, machine = self._shard_of(request.group_id)
            result = machine.heartbeat(again, client_id, client_host, partition.now())
            later = (await arrival(partition.complete(result, _refused_heartbeat))).response
        except ApiError:
            return response
        if later.error_code:
            return response
        later.assignment = later.assignment or response.assignment
        return later

    def describe(self, group_id: str) -> DescribedGroup | Pending[DescribedGroup]:
        """ShareGroupDescribe for one group."""

        def refused(code: ErrorCode, message: str | None = None) -> DescribedGroup:
            return DescribedGroup(group_id=group_id, error_code=code, error_message=message or code.message)

        if not group_id:
            return refused(ErrorCode.INVALID_GROUP_ID)
        try:
            partition, machine = self._shard_of(group_id)
            described = machine.describe(group_id)
        except ApiError as error:
            return refused(error.code, error.message)
        return partition.complete(Result(described), refused)

    async def delete_group(self, group_id: str) -> DeletableGroupResult:
        """DeleteGroups for one share group: its share state goes first, then the group."""
        try:
            partition, machine = self._shard_of(group_id)
            result = offsets.begin_group_deletion(machine, group_id, self._groups.image)
            errors = await self._delete(group_id, await carried_out(partition, result))
        except ApiError as error:
            return DeletableGroupResult(group_id=group_id, error_code=error.code, error_message=error.message)
        code = next((code for code in errors.values() if code is not ErrorCode.NONE), None)
        if code is not None:
            return DeletableGroupResult(group_id=group_id, error_code=code, error_message=code.message)
        return await arrival(self._groups.delete_group(group_id))

    # -- offsets

    async def describe_offsets(
        self, group: DescribeShareGroupOffsetsRequestGroup
    ) -> DescribeShareGroupOffsetsResponseGroup:
        """DescribeShareGroupOffsets for one group; without topics all that are initialized. No data is no error."""
        response = DescribeShareGroupOffsetsResponseGroup(group_id=group.group_id)
        topics = self._groups.image.topics
        unknown: list[DescribeShareGroupOffsetsResponseTopic] = []
        wanted: dict[bytes, list[int]] = {}
        if group.topics is None:
            wanted = self._initialized_partitions(group.group_id)
        else:
            for asked in group.topics:
                topic_id = topics.id_of(asked.topic_name)
                if topic_id is None:
                    unknown.append(
                        DescribeShareGroupOffsetsResponseTopic(
                            topic_name=asked.topic_name, partitions=[_described(index) for index in asked.partitions]
                        )
                    )
                else:
                    wanted[topic_id] = asked.partitions
        if wanted:
            summary = await self._summary(group.group_id, wanted)
            names = {found.topic_id: topics.name_of(found.topic_id) or "" for found in summary.results}
            end_offsets = await self._end_offsets(
                TopicPartition(names[found.topic_id], partition.partition)
                for found in summary.results
                for partition in found.partitions
                if _has_lag(partition)
            )
            for found in summary.results:
                name = names[found.topic_id]
                partitions = [_with_lag(name, partition, end_offsets) for partition in found.partitions]
                response.topics.append(
                    DescribeShareGroupOffsetsResponseTopic(
                        topic_name=name, topic_id=found.topic_id, partitions=partitions
                    )
                )
        response.topics += unknown
        return response

    def _initialized_partitions(self, group_id: str) -> dict[bytes, list[int]]:
        _, machine = self._shard_of(group_id)
        try:
            group = machine.find(group_id)
        except ApiError:
            group = None
        if group is None:
            return {}
        by_id = self._groups.image.topics.by_id
        return {
            topic_id: sorted(topic.partitions)
            for topic_id, topic in group.state_topics.initialized.items()
            if topic_id in by_id
        }

    async def alter_offsets(self, request: AlterShareGroupOffsetsRequest) -> AlterShareGroupOffsetsResponse:
        """AlterShareGroupOffsets. Raises ApiError for a refusal of the whole request."""
        _check_group_id(request.group_id)
        partition, machine = self._shard_of(request.group_id)
        result = offsets.alter_offsets(machine, request, self._groups.image)
        response, initialization = await carried_out(partition, result)
        if initialization is not None:
            errors = await self._initialize(initialization)
            for topic in response.responses:
                for altered in topic.partitions:
                    code = errors.get((topic.topic_id, altered.partition_index), ErrorCode.NONE)
                    if code is not ErrorCode.NONE:
                        altered.error_code, altered.error_message = code, code.message
        return response

    async def delete_offsets(self, request: DeleteShareGroupOffsetsRequest) -> DeleteShareGroupOffsetsResponse:
        """DeleteShareGroupOffsets. Raises ApiError for a refusal of the whole request."""
        group_id = request.group_id
        _check_group_id(group_id)
        partition, machine = self._shard_of(group_id)
        result = offsets.begin_offset_deletion(machine, request, self._groups.image)
        responses, deletion, names = await carried_out(partition, result)
        errors = await self._delete(group_id, deletion)
        failures = {topic_id: code for (topic_id, _), code in errors.items() if code is not ErrorCode.NONE}
        done = [topic_id for topic_id in deletion if topic_id not in failures]
        if done:
            partition, machine = self._shard_of(group_id)
            await carried_out(partition, offsets.offsets_deleted(machine, group_id, done))
        for topic_id in deletion:
            response = DeleteShareGroupOffsetsResponseTopic(topic_name=names[topic_id], topic_id=topic_id)
            code = failures.get(topic_id)
            if code is not None:
                response.error_code, response.error_message = code, code.message
            responses.append(response)
        return DeleteShareGroupOffsetsResponse(responses=responses)

    # -- asking the share coordinator

    async def _initialize(self, initialization: Initialization) -> Errors:
        """Have share state begin, and write down in the group what does."""
        group_id = initialization.group_id
        partition, machine = self._shard_of(group_id)
        machine.begin_initialization(initialization, partition.now())
        try:
            errors = await self._have_state_begin(initialization)
            done: dict[bytes, dict[int, int]] = {}
            for (topic_id, index), code in errors.items():
                if code is ErrorCode.NONE:
                    done.setdefault(topic_id, {})[index] = initialization.start_offsets[topic_id][index]
            partition, machine = self._shard_of(group_id)
            await carried_out(partition, machine.initialized(initialization._replace(start_offsets=done)))
        except ApiError as error:
            errors = {
                (topic_id, index): error.code
                for topic_id, start_offsets in initialization.start_offsets.items()
                for index in start_offsets
            }
        finally:
            machine.initialization_over(initialization)
        return errors

    async def _have_state_begin(self, initialization: Initialization) -> Errors:
        """Ask the share coordinator. Who does not say where to start does not move what has a start already.

        That is the case when an administrator's move was cut short: after the share coordinator wrote it down, before
        the group did.
        """
        group_id, wanted = initialization.group_id, initialization.start_offsets
        anywhere = {
            topic_id: [index for index, start_offset in start_offsets.items() if start_offset < 0]
            for topic_id, start_offsets in wanted.items()
        }
        errors: Errors = {}
        if any(anywhere.values()):
            summary = await self._summary(group_id, anywhere)
            for topic in summary.results:
                for found in topic.partitions:
                    if not found.error_code and found.start_offset >= 0:
                        errors[topic.topic_id, found.partition] = ErrorCode.NONE
        topics = []
        for topic_id, start_offsets in wanted.items():
            partitions = [
                initializing.PartitionData(
                    partition=index, state_epoch=initialization.state_epoch, start_offset=start_offset
                )
                for index, start_offset in start_offsets.items()
                if (topic_id, index) not in errors
            ]
            if partitions:
                topics.append(initializing.InitializeStateData(topic_id=topic_id, partitions=partitions))
        if topics:
            request = initializing.InitializeShareGroupStateRequest(group_id=group_id, topics=topics)
            share_state = self._share_state()
            errors.update(_errors_of(await self._ask(lambda: share_state.initialize(request))))
        return errors

    async def _summary(
        self, group_id: str, wanted: Mapping[bytes, Sequence[int]]
    ) -> reading.ReadShareGroupStateSummaryResponse:
        """Where the group stands in these partitions, by topic id."""
        request = reading.ReadShareGroupStateSummaryRequest(
            group_id=group_id,
            topics=[
                reading.ReadStateSummaryData(
                    topic_id=topic_id,
                    partitions=[reading.PartitionData(partition=index, leader_epoch=-1) for index in indexes],
                )
                for topic_id, indexes in wanted.items()
                if indexes
            ],
        )
        share_state = self._share_state()
        response: reading.ReadShareGroupStateSummaryResponse
        response = await self._ask(lambda: share_state.read_summary(request))
        return response

    async def _delete(self, group_id: str, deletion: offsets.Deletion) -> Errors:
        """Have share state forgotten."""
        if not deletion:
            return {}
        request = deleting.DeleteShareGroupStateRequest(
            group_id=group_id,
            topics=[
                deleting.DeleteStateData(
                    topic_id=topic_id,
                    partitions=[deleting.PartitionData(partition=index) for index in sorted(partitions)],
                )
                for topic_id, partitions in deletion.items()
            ],
        )
        share_state = self._share_state()
        return _errors_of(await self._ask(lambda: share_state.delete(request)))

    async def _ask(self, send: Callable[[], Any]) -> Any:
        """The share coordinator's answer, asked again while it is about to be there. ApiError without its topic."""
        await self._share_state().ensure_topic()
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_BACKOFF_MS * 2**attempt / 1000)
            response = await arrival(send())
            if not any(code in _RETRIABLE for code in _errors_of(response).values()):
                break
        return response

    # -- parts

    def _shard_of(self, group_id: str) -> tuple[CoordinatorPartition[GroupShard], ShareGroups]:
        partition = self._groups.partition_of(group_id)
        return partition, partition.shard.machine(GroupType.SHARE)


async def arrival(outcome: R | Pending[R]) -> R:
    """The answer when it is there."""
    if not isinstance(outcome, Pending):
        return outcome
    if outcome.response is not None:
        return outcome.response
    arrived: asyncio.Future[R] = asyncio.get_running_loop().create_future()

    def listener(response: R) -> None:
        if not arrived.done():
            arrived.set_result(response)

    outcome.listener = listener
    return await arrived


async def carried_out(partition: CoordinatorPartition[GroupShard], result: Result[R]) -> R:
    """The command's response when its records are committed; ApiError when they cannot be."""
    command: Result[Any] = result
    answer: Any = await arrival(partition.complete(command, lambda code: ApiError(append_error(code))))
    if isinstance(answer, ApiError):
        raise answer
    response: R = answer
    return response


def check_heartbeat(request: ShareGroupHeartbeatRequest) -> None:
    """ApiError INVALID_REQUEST for what no client says."""
    member_id = request.member_id
    if not member_id or len(member_id) > MAX_MEMBER_ID_LENGTH:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Invalid member id in the request.")
    for name, text in (("MemberId", member_id), ("GroupId", request.group_id), ("RackId", request.rack_id)):
        if text is not None and not text.strip():
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{name} can't be empty.")
    if request.member_epoch == JOIN_EPOCH and not request.subscribed_topic_names:
        raise ApiError(ErrorCode.INVALID_REQUEST, "SubscribedTopicNames must be set in first request.")
    if request.member_epoch < LEAVE_EPOCH:
        raise ApiError(ErrorCode.INVALID_REQUEST, "MemberEpoch is invalid.")


def _check_group_id(group_id: str) -> None:
    if not group_id:
        raise ApiError(ErrorCode.INVALID_GROUP_ID)


def _refused_heartbeat(code: ErrorCode) -> HeartbeatOutcome:
    code = append_error(code)
    return HeartbeatOutcome(ShareGroupHeartbeatResponse(error_code=code, error_message=code.message))


def _errors_of(response: Any) -> Errors:
    return {
        (topic.topic_id, result.partition): ERRORS.get(result.error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
        for topic in response.results
        for result in topic.partitions
    }


def _has_lag(found: reading.PartitionResult) -> bool:
    return not found.error_code and found.start_offset >= 0 and found.delivery_complete_count >= 0


def _with_lag(
    topic: str, found: reading.PartitionResult, end_offsets: Mapping[TopicPartition, int | ErrorCode]
) -> DescribeShareGroupOffsetsResponsePartition:
    if found.error_code:
        return _described(found.partition)
    described = _described(found.partition, found.start_offset, found.leader_epoch)
    if _has_lag(found):
        end_offset = end_offsets[TopicPartition(topic, found.partition)]
        if isinstance(end_offset, ErrorCode):
            return DescribeShareGroupOffsetsResponsePartition(
                partition_index=found.partition, error_code=end_offset, error_message=end_offset.message
            )
        described.lag = end_offset - found.start_offset - found.delivery_complete_count
    return described


def _described(
    partition: int, start_offset: int = -1, leader_epoch: int = 0
) -> DescribeShareGroupOffsetsResponsePartition:
    return DescribeShareGroupOffsetsResponsePartition(
        partition_index=partition, start_offset=start_offset, leader_epoch=leader_epoch
    )
