"""The offsets a group has committed: writing and reading them, in the name of a member or of nobody.

A commit carries the member's generation (or epoch). When the group moved on while it was under way it is sent again in
the new one, if the member has held the partitions all the time; otherwise they may be somebody else's already, and the
commit fails. Offsets of transactions that are not decided yet are waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from ottla.client.consumer.group.core import COORDINATOR_GONE, code_of
from ottla.client.consumer.group.embedded import by_topic
from ottla.client.errors import (
    CommitFailedError,
    ConnectionFailedError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
    UnsupportedVersionError,
    error_for,
)
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition
from ottla.client.network.cluster import Cluster
from ottla.client.network.retry import retrying
from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
)

GROUP = 0
"""Key type of groups in FindCoordinator."""
SINCE_IDS = 10
"""Topics go by id from this version on, in both requests."""
SINCE_GROUPS = 8
SINCE_STABLE = 7

Offsets = dict[TopicPartition, OffsetAndMetadata | None]

_AGAIN_IN_NEW_EPOCH = frozenset(
    (ErrorCode.STALE_MEMBER_EPOCH, ErrorCode.ILLEGAL_GENERATION, ErrorCode.REBALANCE_IN_PROGRESS)
)
_NOT_A_MEMBER = frozenset((ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION, ErrorCode.STALE_MEMBER_EPOCH))


class Membership(Protocol):
    """What commits need to know of the member."""

    def identity(self) -> ConsumerGroupMetadata:
        """Who commits; without an id: somebody outside the group."""

    def holding(self, partition: TopicPartition) -> int | None:
        """The number under which the partition is held; None when it is not."""

    def commit_refused(self, code: ErrorCode, epoch: int) -> None:
        """The group does not take a commit of this epoch."""

    def is_modern(self) -> bool:
        """A KIP-848 member."""


class GroupOffsets:
    """Commits and fetches offsets of one group."""

    def __init__(self, cluster: Cluster, group_id: str, membership: Membership) -> None:
        self._cluster = cluster
        self._group_id = group_id
        self._membership = membership
        self._newest_fetch: int | None = None
        """The newest OffsetFetch that may be used; None while nothing speaks against any."""
        self._unknown: ConsumerGroupMetadata | None = None
        """A member as which this one was asking, and is not any more, before its heartbeat has heard of it."""

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], timeout_ms: int) -> None:
        """Returns when all are committed; otherwise the error of the first that is not, after the others are.

        CommitFailedError when the group has given them to others, RebalanceInProgressError when it is about to and time
        ran out, KafkaTimeoutError when the coordinator could not be reached in time.
        """
        if not offsets:
            return
        held = {partition: self._membership.holding(partition) for partition in offsets}
        left = dict(offsets)
        lost: list[TopicPartition] = []
        deadline_ms = self._cluster.now_ms() + timeout_ms

        async def attempt(_: int) -> None:
            for place in [*left]:
                if held[place] is not None and self._membership.holding(place) != held[place]:
                    del left[place]
                    lost.append(place)
            if left:
                await self._commit_once(left, deadline_ms)

        await retrying(self._cluster, attempt, timeout_ms)
        if lost:
            raise CommitFailedError(f"{_LOST} ({', '.join(map(str, lost))})")

    async def _commit_once(self, left: dict[TopicPartition, OffsetAndMetadata], deadline_ms: int) -> None:
        """Takes out of `left` what is committed; raises unless nothing is left."""
        identity = self._membership.identity()
        request, max_version = self._commit_request(left, identity)
        names = {topic.topic_id: topic.name for topic in request.topics}
        response = await self._ask(request, deadline_ms, max_version=max_version)
        assert isinstance(response, OffsetCommitResponse)
        first: KafkaError | None = None
        for topic in response.topics:
            for partition in topic.partitions:
                code = code_of(partition.error_code)
                place = TopicPartition(topic.name or names.get(topic.topic_id, ""), partition.partition_index)
                if code is ErrorCode.NONE:
                    left.pop(place, None)
                elif first is None:
                    first = self._refusal(code, place, identity)
        if first is not None:
            raise first
        if left:
            raise KafkaTimeoutError("The coordinator did not answer for all partitions.")

    def _commit_request(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], identity: ConsumerGroupMetadata
    ) -> tuple[OffsetCommitRequest, int | None]:
        topics = self._cluster.metadata.topics
        request = OffsetCommitRequest(
            group_id=self._group_id,
            generation_id_or_member_epoch=identity.generation_id,
            member_id=identity.member_id,
            group_instance_id=identity.group_instance_id if identity.member_id else None,
            topics=[
                OffsetCommitRequestTopic(
                    name=topic,
                    topic_id=topics[topic].id if topic in topics else ZERO_UUID,
                    partitions=[_committed(index, offsets[TopicPartition(topic, index)]) for index in indexes],
                )
                for topic, indexes in by_topic(offsets).items()
            ],
        )
        has_ids = all(topic.topic_id != ZERO_UUID for topic in request.topics)
        return request, None if has_ids else SINCE_IDS - 1

    def _refusal(self, code: ErrorCode, place: TopicPartition, identity: ConsumerGroupMetadata) -> KafkaError:
        if not identity.member_id and code in _NOT_A_MEMBER:
            return CommitFailedError(
                f"The group {self._group_id} has members, so only they may commit its offsets.",
                code=code,
                hint="Use another group.id, or subscribe() instead of assign().",
            )
        moved_on = self._membership.identity().generation_id != identity.generation_id
        if code in _NOT_A_MEMBER or code in (ErrorCode.REBALANCE_IN_PROGRESS, ErrorCode.FENCED_INSTANCE_ID):
            self._membership.commit_refused(code, identity.generation_id)
        if code in _AGAIN_IN_NEW_EPOCH and (moved_on or code is not ErrorCode.ILLEGAL_GENERATION):
            return RebalanceInProgressError(retriable=True)
        if code in _NOT_A_MEMBER:
            return CommitFailedError(_LOST, code=code)
        if code in COORDINATOR_GONE:
            self._cluster.forget_coordinator(GROUP, self._group_id)
        elif code.refreshes_metadata:
            self._cluster.request_metadata_update()
        return error_for(code, f"{place}: {code.message}")

    async def fetch(self, partitions: Iterable[TopicPartition], timeout_ms: int) -> Offsets:
        """What is committed for each of these partitions, None where nothing is."""
        wanted = by_topic(sorted(set(partitions)))
        if not wanted:
            return {}

        deadline_ms = self._cluster.now_ms() + timeout_ms

        async def attempt(_: int) -> Offsets:
            if self._newest_fetch is None:
                try:
                    return await self._fetch_once(wanted, deadline_ms)
                except UnsupportedVersionError:
                    self._newest_fetch = SINCE_GROUPS - 1
            return await self._fetch_of_old(wanted, deadline_ms)

        return await retrying(self._cluster, attempt, timeout_ms)

    async def _fetch_once(self, wanted: Mapping[str, list[int]], deadline_ms: int) -> Offsets:
        metadata = self._cluster.metadata
        ids = {topic: metadata.topics[topic].id if topic in metadata.topics else ZERO_UUID for topic in wanted}
        names = {topic_id: topic for topic, topic_id in ids.items()}
        group = OffsetFetchRequestGroup(
            group_id=self._group_id,
            topics=[
                OffsetFetchRequestTopics(name=topic, topic_id=ids[topic], partition_indexes=indexes)
                for topic, indexes in wanted.items()
            ],
        )
        identity = self._membership.identity()
        as_member = self._membership.is_modern() and identity.member_id and identity != self._unknown
        if as_member:
            group.member_id, group.member_epoch = identity.member_id, identity.generation_id
        request = OffsetFetchRequest(groups=[group], require_stable=True)
        newest = None if all(topic_id != ZERO_UUID for topic_id in ids.values()) else SINCE_IDS - 1
        response = await self._ask(request, deadline_ms, min_version=SINCE_GROUPS, max_version=newest)
        assert isinstance(response, OffsetFetchResponse)
        found: Offsets = {}
        for answer in response.groups:
            if as_member and answer.error_code == ErrorCode.UNKNOWN_MEMBER_ID:
                # Who was away for too long rejoins by heartbeats. Offsets are for everybody: ask as nobody.
                self._unknown = identity
            self._check_fetch(answer.error_code)
            for topic in answer.topics:
                name = topic.name or names.get(topic.topic_id, "")
                found |= {
                    TopicPartition(name, one.partition_index): self._offset(name, one) for one in topic.partitions
                }
        return found

    async def _fetch_of_old(self, wanted: Mapping[str, list[int]], deadline_ms: int) -> Offsets:
        """From brokers before 3.0; those before 2.5 do not know which offsets are stable."""
        knows_stable = self._newest_fetch is None or self._newest_fetch >= SINCE_STABLE
        request = OffsetFetchRequest(
            group_id=self._group_id,
            topics=[
                OffsetFetchRequestTopic(name=topic, partition_indexes=indexes) for topic, indexes in wanted.items()
            ],
            require_stable=knows_stable,
        )
        limits = {"min_version": SINCE_STABLE, "max_version": SINCE_STABLE} if knows_stable else {"max_version": 6}
        try:
            response = await self._ask(request, deadline_ms, **limits)
        except UnsupportedVersionError:
            if not knows_stable:
                raise
            self._newest_fetch = SINCE_STABLE - 1
            return await self._fetch_of_old(wanted, deadline_ms)
        assert isinstance(response, OffsetFetchResponse)
        self._check_fetch(response.error_code)
        return {
            TopicPartition(topic.name, one.partition_index): self._offset(topic.name, one)
            for topic in response.topics
            for one in topic.partitions
        }

    def _check_fetch(self, number: int) -> None:
        code = code_of(number)
        if code in COORDINATOR_GONE:
            self._cluster.forget_coordinator(GROUP, self._group_id)
        if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            self._membership.commit_refused(code, self._membership.identity().generation_id)
        if code in (ErrorCode.STALE_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID):
            raise RebalanceInProgressError(retriable=True)
        if code is not ErrorCode.NONE:
            raise error_for(number)

    def _offset(
        self, topic: str, found: OffsetFetchResponsePartition | OffsetFetchResponsePartitions
    ) -> OffsetAndMetadata | None:
        code = code_of(found.error_code)
        if code is not ErrorCode.NONE:
            # UNSTABLE_OFFSET_COMMIT is retriable: a transaction that commits offsets is about to end.
            raise error_for(found.error_code, f"{TopicPartition(topic, found.partition_index)}: {code.message}")
        if found.committed_offset < 0:
            return None
        epoch = found.committed_leader_epoch
        return OffsetAndMetadata(found.committed_offset, found.metadata or "", epoch if epoch >= 0 else None)

    async def _ask(
        self,
        request: Request,
        deadline_ms: int,
        *,
        min_version: int | None = None,
        max_version: int | None = None,
    ) -> Response:
        node_id = await self._cluster.coordinator(GROUP, self._group_id, self._left_ms(deadline_ms))
        try:
            response: Response = await self._cluster.request(
                node_id,
                request,
                timeout_ms=self._left_ms(deadline_ms),
                min_version=min_version,
                max_version=max_version,
            )
        except (ConnectionFailedError, KafkaTimeoutError):
            self._cluster.forget_coordinator(GROUP, self._group_id)
            raise
        return response

    def _left_ms(self, deadline_ms: int) -> int:
        return max(1, min(self._cluster.settings.request_timeout_ms, deadline_ms - self._cluster.now_ms()))


_LOST = (
    "The group has gone on without this consumer, and has given the partitions to others. "
    "What was processed since the last commit may be processed again."
)


def _committed(index: int, offset: OffsetAndMetadata) -> OffsetCommitRequestPartition:
    return OffsetCommitRequestPartition(
        partition_index=index,
        committed_offset=offset.offset,
        committed_leader_epoch=-1 if offset.leader_epoch is None else offset.leader_epoch,
        committed_metadata=offset.metadata,
    )
