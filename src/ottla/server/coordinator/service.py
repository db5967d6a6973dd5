"""The group coordinator of one broker: what the handlers of the group and offset APIs call.

It finds the partition of a group, asks its shard, and lets the shell complete the result. Methods return the response,
or a ``Pending`` when it comes later; a refusal (not the coordinator, still loading) is a response as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.topics import OFFSETS_TOPIC
from ottla.protocol.messages.delete_groups import DeletableGroupResult
from ottla.protocol.messages.describe_groups import DescribedGroup
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from ottla.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from ottla.protocol.messages.list_groups import ListGroupsResponse
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from ottla.protocol.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchResponseGroup
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)
from ottla.server.coordinator.append_errors import append_error, commit_error, transactional_commit_error
from ottla.server.coordinator.classic.calls import JoinCall, refused_join, refused_sync
from ottla.server.coordinator.group_records import GroupRecordCodec
from ottla.server.coordinator.group_shard import GroupShard
from ottla.server.coordinator.result import Instant, Pending, Result, gathered
from ottla.server.coordinator.runtime import PartitionLog, RuntimeSettings, TransactionalWrite
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.topic_coordinator import TopicCoordinator, ignore_refusal

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.server.coordinator.group_machine import GroupConfigs
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage


class GroupCoordinator(TopicCoordinator[GroupShard]):
    """Groups and offsets of the partitions of ``__consumer_offsets`` that this broker leads.

    ``configs`` gives the settings of a group; see `topic_coordinator.TopicCoordinator` for the rest.
    """

    def __init__(
        self,
        settings: GroupSettings,
        env: Env,
        *,
        node_id: int,
        open_log: Callable[[int], PartitionLog | None],
        create_topic: Callable[[], Awaitable[None]],
        configs: GroupConfigs | None = None,
    ) -> None:
        self.settings = settings
        self._configs = configs
        super().__init__(
            OFFSETS_TOPIC,
            settings.offsets_topic_partition_count,
            env,
            node_id=node_id,
            open_log=open_log,
            create_topic=create_topic,
            codec=GroupRecordCodec(),
            settings=RuntimeSettings(
                compression=settings.offsets_topic_compression_codec,
                commit_timeout_ms=settings.offsets_commit_timeout_ms,
                load_chunk_bytes=settings.offsets_load_buffer_bytes,
            ),
        )

    def new_shard(self, partition: int) -> GroupShard:
        """An empty shard that knows the metadata of now."""
        if self._configs is None:
            return GroupShard(self.settings, self._new_id, self.image)
        return GroupShard(self.settings, self._new_id, self.image, self._configs)

    def changed(self, shard: GroupShard, delta: MetadataDelta, image: MetadataImage, now: Instant) -> Result[None]:
        """Offsets of deleted topics go; groups see to topics that came and grew."""
        return shard.metadata_changed(delta, image, now)

    # -- membership

    def join(
        self,
        request: JoinGroupRequest,
        version: int,
        client_id: str,
        client_host: str,
        may_describe: Callable[[str], bool] | None = None,
    ) -> JoinGroupResponse | Pending[JoinGroupResponse]:
        """JoinGroup; mostly answered when the generation is complete. `may_describe`: see `JoinCall`."""
        refusal = refused_join(request.member_id)
        if not request.group_id:
            return refusal(ErrorCode.INVALID_GROUP_ID)
        settings = self.settings
        if not settings.min_session_timeout_ms <= request.session_timeout_ms <= settings.max_session_timeout_ms:
            return refusal(ErrorCode.INVALID_SESSION_TIMEOUT)
        try:
            partition = self.partition_of(request.group_id)
        except ApiError as error:
            return refusal(error.code)
        pending = Pending(refusal)
        call = JoinCall(request, version, client_id, client_host, pending)
        call.may_describe = may_describe
        partition.complete(partition.shard.join(call, partition.now()), ignore_refusal)
        return pending if pending.response is None else pending.response

    def sync(self, request: SyncGroupRequest) -> SyncGroupResponse | Pending[SyncGroupResponse]:
        """SyncGroup; answered when the leader's assignment is stored."""
        if not request.group_id:
            return refused_sync(ErrorCode.INVALID_GROUP_ID)
        try:
            partition = self.partition_of(request.group_id)
        except ApiError as error:
            return refused_sync(error.code)
        pending = Pending(refused_sync)
        partition.complete(partition.shard.sync(request, pending, partition.now()), ignore_refusal)
        return pending if pending.response is None else pending.response

    def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse:
        """Heartbeat; while the group is being loaded its members are simply believed."""
        if not request.group_id:
            return HeartbeatResponse(error_code=ErrorCode.INVALID_GROUP_ID)
        try:
            partition = self.partition_of(request.group_id)
        except ApiError as error:
            loading = error.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            return HeartbeatResponse(error_code=ErrorCode.NONE if loading else error.code)
        # Sessions only move later here, so the timer need not be armed again.
        return HeartbeatResponse(error_code=partition.shard.heartbeat(request, partition.monotonic_ms()))

    def leave(self, request: LeaveGroupRequest) -> LeaveGroupResponse | Pending[LeaveGroupResponse]:
        """LeaveGroup for every listed member."""
        if not request.group_id:
            return _refused_leave(ErrorCode.INVALID_GROUP_ID)
        try:
            partition = self.partition_of(request.group_id)
        except ApiError as error:
            return _refused_leave(error.code)
        return partition.complete(partition.shard.leave(request, partition.now()), _refused_leave)

    # -- offsets

    def commit_offsets(
        self, request: OffsetCommitRequest, version: int
    ) -> OffsetCommitResponse | Pending[OffsetCommitResponse]:
        """OffsetCommit; every topic must have its name, whatever the version."""

        def refusal(code: ErrorCode) -> OffsetCommitResponse:
            return refused_commit(request, commit_error(code))

        try:
            partition = self.partition_of(request.group_id)
            result = partition.shard.offsets.commit(request, version, partition.now())
        except ApiError as error:
            return refused_commit(request, error.code)
        return partition.complete(result, refusal)

    def commit_in_transaction(
        self, request: TxnOffsetCommitRequest, version: int, write: TransactionalWrite
    ) -> TxnOffsetCommitResponse | Pending[TxnOffsetCommitResponse]:
        """TxnOffsetCommit; topics must have names, and the transaction be verified for the group's partition."""

        def refusal(code: ErrorCode) -> TxnOffsetCommitResponse:
            return refused_commit_in_transaction(request, transactional_commit_error(code))

        if not request.group_id:
            return refusal(ErrorCode.INVALID_GROUP_ID)
        try:
            partition = self.partition_of(request.group_id)
            result = partition.shard.offsets.commit_in_transaction(request, version, partition.now())
        except ApiError as error:
            return refusal(error.code)
        return partition.complete(result, refusal, write)

    def end_transaction(
        self, index: int, marker: bytearray, producer_id: int, *, committed: bool, transaction_version: int
    ) -> ErrorCode | Pending[ErrorCode]:
        """Append a transaction marker to a partition; the offsets of the transaction become visible, or are dropped."""
        try:
            partition = self._runtime.active(index)
        except ApiError as error:
            return error.code
        return partition.end_transaction(
            marker, producer_id, committed=committed, transaction_version=transaction_version
        )

    def fetch_offsets(
        self, group: OffsetFetchRequestGroup, *, require_stable: bool
    ) -> OffsetFetchResponseGroup | Pending[OffsetFetchResponseGroup]:
        """OffsetFetch of one group; every topic must have its name, whatever the version."""
        group_id = group.group_id

        def refusal(code: ErrorCode) -> OffsetFetchResponseGroup:
            return OffsetFetchResponseGroup(group_id=group_id, error_code=code)

        try:
            partition = self.partition_of(group_id)
            partition.shard.check_fetch(group)
        except ApiError as error:
            return refusal(error.code)
        topics = partition.shard.offsets.fetch(group_id, group.topics, require_stable=require_stable)
        return partition.complete(Result(OffsetFetchResponseGroup(group_id=group_id, topics=topics)), refusal)

    def delete_offsets(self, request: OffsetDeleteRequest) -> OffsetDeleteResponse | Pending[OffsetDeleteResponse]:
        """OffsetDelete."""
        if not request.group_id:
            return _refused_offset_delete(ErrorCode.INVALID_GROUP_ID)
        try:
            partition = self.partition_of(request.group_id)
            result = partition.shard.offsets.delete(request)
        except ApiError as error:
            return _refused_offset_delete(error.code)
        return partition.complete(result, _refused_offset_delete)

    # -- administration

    def describe_group(self, group_id: str) -> DescribedGroup | ErrorCode | Pending[DescribedGroup | ErrorCode]:
        """The group, or why there is none to be told of: GROUP_ID_NOT_FOUND, NOT_COORDINATOR …"""
        try:
            partition = self.partition_of(group_id)
        except ApiError as error:
            return error.code
        described: DescribedGroup | ErrorCode = partition.shard.describe(group_id) or ErrorCode.GROUP_ID_NOT_FOUND
        return partition.complete(Result(described), append_error)

    def list_groups(
        self, states: Iterable[str], types: Iterable[str]
    ) -> ListGroupsResponse | Pending[ListGroupsResponse]:
        """Groups coordinated here, filtered by state and type without regard to case; empty filters pass all."""
        if self._runtime.is_loading:
            return ListGroupsResponse(error_code=ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        wanted_states = frozenset(state.lower() for state in states)
        wanted_types = frozenset(group_type.lower() for group_type in types)
        listed = [
            partition.complete(
                Result(ListGroupsResponse(groups=list(partition.shard.list_groups(wanted_states, wanted_types)))),
                _refused_list,
            )
            for partition in self._runtime.active_partitions()
        ]
        return gathered(listed, _joined)

    def delete_group(self, group_id: str) -> DeletableGroupResult | Pending[DeletableGroupResult]:
        """DeleteGroups for one group."""

        def refusal(code: ErrorCode) -> DeletableGroupResult:
            return DeletableGroupResult(
                group_id=group_id, error_code=code, error_message=None if code is ErrorCode.NONE else code.message
            )

        try:
            partition = self.partition_of(group_id)
        except ApiError as error:
            return refusal(error.code)
        result = partition.shard.delete_group(group_id)
        return partition.complete(
            Result(refusal(result.response), result.records), lambda code: refusal(append_error(code))
        )

    # -- parts

    def _new_id(self) -> str:
        text = self._env.random_uuid().hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def refused_commit(request: OffsetCommitRequest, code: ErrorCode) -> OffsetCommitResponse:
    """OffsetCommit has no top-level error: every partition says the same."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def refused_commit_in_transaction(request: TxnOffsetCommitRequest, code: ErrorCode) -> TxnOffsetCommitResponse:
    """TxnOffsetCommit has no top-level error either."""
    return TxnOffsetCommitResponse(
        topics=[
            TxnOffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    TxnOffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _refused_list(code: ErrorCode) -> ListGroupsResponse:
    # A partition that went to another broker meanwhile is listed there.
    return ListGroupsResponse(error_code=ErrorCode.NONE if code is ErrorCode.NOT_COORDINATOR else append_error(code))


def _joined(lists: list[ListGroupsResponse]) -> ListGroupsResponse:
    """One list, or the first refusal."""
    for found in lists:
        if found.error_code:
            return found
    return ListGroupsResponse(groups=[group for found in lists for group in found.groups])


def _refused_leave(code: ErrorCode) -> LeaveGroupResponse:
    return LeaveGroupResponse(error_code=code)


def _refused_offset_delete(code: ErrorCode) -> OffsetDeleteResponse:
    return OffsetDeleteResponse(error_code=append_error(code))
