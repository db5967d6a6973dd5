"""The offsets of groups: list, alter, delete them; also where share groups are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.groups import GROUP
from ottla.client.admin.outcomes import K, V, at_least_zero, by_topic, names, outcome, settle
from ottla.client.admin.routing import Coordinators, Target
from ottla.client.errors import KafkaError, UnsupportedVersionError, error_for
from ottla.client.model import OffsetAndMetadata, TopicPartition, topic_partition
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsRequestPartition,
    AlterShareGroupOffsetsRequestTopic,
    AlterShareGroupOffsetsResponse,
)
from ottla.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsRequestTopic,
    DeleteShareGroupOffsetsResponse,
)
from ottla.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsRequestTopic,
    DescribeShareGroupOffsetsResponse,
    DescribeShareGroupOffsetsResponseGroup,
)
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from ottla.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
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

_NAMES_UNTIL = 9
"""Last version of OffsetFetch and OffsetCommit with topics by name, which also reach topics that are gone."""

GroupSpecs = str | Iterable[str] | Mapping[str, Iterable[TopicPartition] | None]
"""Which groups: one, several, or each with the partitions that are of interest (None: all)."""


class SharePartitionOffset(NamedTuple):
    """Where a share group starts in a partition, and how many records it has to go (None: not known)."""

    start_offset: int
    leader_epoch: int | None
    lag: int | None


class GroupOffsetCalls(AdminCalls):
    """Calls about the offsets of groups."""

    async def list_consumer_group_offsets(
        self, groups: GroupSpecs, *, require_stable: bool = False, timeout_s: float | None = None
    ) -> dict[str, dict[TopicPartition, OffsetAndMetadata | None]]:
        """What groups have committed, by group: of all partitions, or of those given for it (None: nothing yet).

        With `require_stable` it waits for open transactions that would change them (KIP-447).
        """
        return await self._list_offsets("list_consumer_group_offsets", groups, require_stable, timeout_s)

    async def list_streams_group_offsets(
        self, groups: GroupSpecs, *, require_stable: bool = False, timeout_s: float | None = None
    ) -> dict[str, dict[TopicPartition, OffsetAndMetadata | None]]:
        """What streams groups have committed; see `list_consumer_group_offsets`."""
        return await self._list_offsets("list_streams_group_offsets", groups, require_stable, timeout_s)

    async def _list_offsets(
        self, call: str, groups: GroupSpecs, require_stable: bool, timeout_s: float | None
    ) -> dict[str, dict[TopicPartition, OffsetAndMetadata | None]]:
        wanted = _specs(groups)

        async def ask(
            target: Target, asked: list[str]
        ) -> dict[str, dict[TopicPartition, OffsetAndMetadata | None] | KafkaError]:
            try:
                return await _fetch_batched(target, {group: wanted[group] for group in asked}, require_stable)
            except UnsupportedVersionError:
                pass  # before Kafka 3.0 a request is about one group (KIP-709)
            one_by_one = [_fetch_one(target, group, wanted[group], require_stable) for group in asked]
            return dict(zip(asked, await asyncio.gather(*one_by_one), strict=True))

        route: Coordinators[str] = Coordinators(GROUP, ErrorCode.UNSTABLE_OFFSET_COMMIT)
        return await self._routing.run(call, wanted, route, ask, timeout_s)

    async def alter_consumer_group_offsets(
        self,
        group_id: str,
        offsets: Mapping[TopicPartition, int | OffsetAndMetadata],
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Commit offsets for a group without members. Errors are by partition; UNKNOWN_MEMBER_ID: it has members."""
        await self._alter_offsets("alter_consumer_group_offsets", group_id, offsets, timeout_s)

    async def alter_streams_group_offsets(
        self,
        group_id: str,
        offsets: Mapping[TopicPartition, int | OffsetAndMetadata],
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Commit offsets for a streams group without members; see `alter_consumer_group_offsets`."""
        await self._alter_offsets("alter_streams_group_offsets", group_id, offsets, timeout_s)

    async def _alter_offsets(
        self,
        call: str,
        group_id: str,
        offsets: Mapping[TopicPartition, int | OffsetAndMetadata],
        timeout_s: float | None,
    ) -> None:
        wanted = {
            topic_partition(partition): OffsetAndMetadata(offset) if isinstance(offset, int) else offset
            for partition, offset in offsets.items()
        }

        def committed(topic: str, partition: int) -> OffsetCommitRequestPartition:
            offset = wanted[TopicPartition(topic, partition)]
            return OffsetCommitRequestPartition(
                partition_index=partition,
                committed_offset=offset.offset,
                committed_leader_epoch=-1 if offset.leader_epoch is None else offset.leader_epoch,
                committed_metadata=offset.metadata,
            )

        async def send(target: Target) -> dict[TopicPartition, KafkaError | None]:
            request = OffsetCommitRequest(
                group_id=group_id,
                topics=[
                    OffsetCommitRequestTopic(
                        name=topic, partitions=[committed(topic, partition) for partition in partitions]
                    )
                    for topic, partitions in by_topic(wanted).items()
                ],
            )
            response = await target.request(request, OffsetCommitResponse, max_version=_NAMES_UNTIL)
            return {
                TopicPartition(topic.name, partition.partition_index): outcome(partition.error_code, None, None)
                for topic in response.topics
                for partition in topic.partitions
            }

        await self._of_group(call, group_id, send, timeout_s, ErrorCode.REBALANCE_IN_PROGRESS)

    async def delete_consumer_group_offsets(
        self, group_id: str, partitions: Iterable[TopicPartition], *, timeout_s: float | None = None
    ) -> None:
        """Forget what a group has committed for partitions that none of its members is subscribed to (KIP-496)."""
        await self._delete_offsets("delete_consumer_group_offsets", group_id, partitions, timeout_s)

    async def delete_streams_group_offsets(
        self, group_id: str, partitions: Iterable[TopicPartition], *, timeout_s: float | None = None
    ) -> None:
        """Forget what a streams group has committed; see `delete_consumer_group_offsets`."""
        await self._delete_offsets("delete_streams_group_offsets", group_id, partitions, timeout_s)

    async def _delete_offsets(
        self, call: str, group_id: str, partitions: Iterable[TopicPartition], timeout_s: float | None
    ) -> None:
        grouped = by_topic(topic_partition(partition) for partition in partitions)

        async def send(target: Target) -> dict[TopicPartition, KafkaError | None]:
            request = OffsetDeleteRequest(
                group_id=group_id,
                topics=[
                    OffsetDeleteRequestTopic(
                        name=topic,
                        partitions=[OffsetDeleteRequestPartition(partition_index=index) for index in indexes],
                    )
                    for topic, indexes in grouped.items()
                ],
            )
            response = await target.request(request, OffsetDeleteResponse)
            if response.error_code:
                raise error_for(response.error_code)
            return {
                TopicPartition(topic.name, partition.partition_index): outcome(partition.error_code, None, None)
                for topic in response.topics
                for partition in topic.partitions
            }

        await self._of_group(call, group_id, send, timeout_s)

    async def list_share_group_offsets(
        self, groups: GroupSpecs, *, timeout_s: float | None = None
    ) -> dict[str, dict[TopicPartition, SharePartitionOffset | None]]:
        """Where share groups start, by group (None: nowhere yet; KIP-932), with their lag since Kafka 4.2."""
        wanted = _specs(groups)

        async def ask(
            target: Target, asked: list[str]
        ) -> dict[str, dict[TopicPartition, SharePartitionOffset | None] | KafkaError]:
            request = DescribeShareGroupOffsetsRequest(groups=[_share_group(group, wanted[group]) for group in asked])
            response = await target.request(request, DescribeShareGroupOffsetsResponse)
            return {group.group_id: _share_offsets(group) for group in response.groups}

        route: Coordinators[str] = Coordinators(GROUP)
        return await self._routing.run("list_share_group_offsets", wanted, route, ask, timeout_s)

    async def alter_share_group_offsets(
        self, group_id: str, offsets: Mapping[TopicPartition, int], *, timeout_s: float | None = None
    ) -> None:
        """Move where a share group without members starts. Errors are by partition."""
        wanted = {topic_partition(partition): offset for partition, offset in offsets.items()}

        async def send(target: Target) -> dict[TopicPartition, KafkaError | None]:
            request = AlterShareGroupOffsetsRequest(
                group_id=group_id,
                topics=[
                    AlterShareGroupOffsetsRequestTopic(
                        topic_name=topic,
                        partitions=[
                            AlterShareGroupOffsetsRequestPartition(
                                partition_index=index, start_offset=wanted[TopicPartition(topic, index)]
                            )
                            for index in indexes
                        ],
                    )
                    for topic, indexes in by_topic(wanted).items()
                ],
            )
            response = await target.request(request, AlterShareGroupOffsetsResponse)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)
            return {
                TopicPartition(topic.topic_name, partition.partition_index): outcome(
                    partition.error_code, partition.error_message, None
                )
                for topic in response.responses
                for partition in topic.partitions
            }

        call = "alter_share_group_offsets"
        await self._of_group(call, group_id, send, timeout_s, ErrorCode.REBALANCE_IN_PROGRESS)

    async def delete_share_group_offsets(
        self, group_id: str, topics: str | Iterable[str], *, timeout_s: float | None = None
    ) -> None:
        """Forget where a share group without members is in topics. Errors are by topic."""
        wanted = names(topics)

        async def send(target: Target) -> dict[str, KafkaError | None]:
            request = DeleteShareGroupOffsetsRequest(
                group_id=group_id, topics=[DeleteShareGroupOffsetsRequestTopic(topic_name=topic) for topic in wanted]
            )
            response = await target.request(request, DeleteShareGroupOffsetsResponse)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)
            return {
                topic.topic_name: outcome(topic.error_code, topic.error_message, None) for topic in response.responses
            }

        await self._of_group("delete_share_group_offsets", group_id, send, timeout_s)

    async def _of_group(
        self,
        call: str,
        group_id: str,
        send: Callable[[Target], Awaitable[Mapping[K, KafkaError | None]]],
        timeout_s: float | None,
        *also_retried: ErrorCode,
    ) -> None:
        """Change something of one group. What no item can help (the coordinator moved) is asked again as a whole."""
        route: Coordinators[str] = Coordinators(GROUP, *also_retried)

        async def ask(target: Target, asked: list[str]) -> dict[str, Mapping[K, KafkaError | None]]:
            outcomes = await send(target)
            for found in outcomes.values():
                if found is not None and found.code in route.retried:
                    raise found
            return {group_id: outcomes}

        found = await self._routing.run(call, [group_id], route, ask, timeout_s)
        settle(found[group_id])


def _specs(groups: GroupSpecs) -> dict[str, list[TopicPartition] | None]:
    if not isinstance(groups, Mapping):
        return dict.fromkeys(names(groups))
    return {
        group: None if partitions is None else [topic_partition(partition) for partition in partitions]
        for group, partitions in groups.items()
    }


async def _fetch_batched(
    target: Target, wanted: Mapping[str, list[TopicPartition] | None], require_stable: bool
) -> dict[str, dict[TopicPartition, OffsetAndMetadata | None] | KafkaError]:
    request = OffsetFetchRequest(
        groups=[
            OffsetFetchRequestGroup(
                group_id=group,
                topics=None
                if partitions is None
                else [
                    OffsetFetchRequestTopics(name=topic, partition_indexes=indexes)
                    for topic, indexes in by_topic(partitions).items()
                ],
            )
            for group, partitions in wanted.items()
        ],
        require_stable=require_stable,
    )
    response = await target.request(request, OffsetFetchResponse, min_version=8, max_version=_NAMES_UNTIL)
    return {
        group.group_id: error_for(group.error_code)
        if group.error_code
        else _committed({topic.name: topic.partitions for topic in group.topics})
        for group in response.groups
    }


async def _fetch_one(
    target: Target, group_id: str, partitions: list[TopicPartition] | None, require_stable: bool
) -> dict[TopicPartition, OffsetAndMetadata | None] | KafkaError:
    request = OffsetFetchRequest(
        group_id=group_id,
        topics=None
        if partitions is None
        else [
            OffsetFetchRequestTopic(name=topic, partition_indexes=indexes)
            for topic, indexes in by_topic(partitions).items()
        ],
        require_stable=require_stable,
    )
    oldest = 7 if require_stable else 2
    try:
        response = await target.request(request, OffsetFetchResponse, min_version=oldest, max_version=7)
    except KafkaError as error:
        return error
    if response.error_code:
        return error_for(response.error_code)
    return _committed({topic.name: topic.partitions for topic in response.topics})


def _committed(
    topics: Mapping[str, Sequence[OffsetFetchResponsePartition | OffsetFetchResponsePartitions]],
) -> dict[TopicPartition, OffsetAndMetadata | None] | KafkaError:
    return _of_partitions(
        {
            TopicPartition(topic, partition.partition_index): outcome(
                partition.error_code,
                None,
                None
                if partition.committed_offset < 0
                else OffsetAndMetadata(
                    partition.committed_offset,
                    partition.metadata or "",
                    at_least_zero(partition.committed_leader_epoch),
                ),
            )
            for topic, partitions in topics.items()
            for partition in partitions
        }
    )


def _share_group(group: str, partitions: list[TopicPartition] | None) -> DescribeShareGroupOffsetsRequestGroup:
    return DescribeShareGroupOffsetsRequestGroup(
        group_id=group,
        topics=None
        if partitions is None
        else [
            DescribeShareGroupOffsetsRequestTopic(topic_name=topic, partitions=indexes)
            for topic, indexes in by_topic(partitions).items()
        ],
    )


def _share_offsets(
    group: DescribeShareGroupOffsetsResponseGroup,
) -> dict[TopicPartition, SharePartitionOffset | None] | KafkaError:
    if group.error_code:
        return error_for(group.error_code, group.error_message)
    return _of_partitions(
        {
            TopicPartition(topic.topic_name, partition.partition_index): outcome(
                partition.error_code,
                partition.error_message,
                None
                if partition.start_offset < 0
                else SharePartitionOffset(
                    partition.start_offset, at_least_zero(partition.leader_epoch), at_least_zero(partition.lag)
                ),
            )
            for topic in group.topics
            for partition in topic.partitions
        }
    )


def _of_partitions(outcomes: Mapping[TopicPartition, V | KafkaError]) -> dict[TopicPartition, V] | KafkaError:
    """A group's partitions, or the group's error when some of them failed: its `errors` are by partition."""
    try:
        return settle(outcomes)
    except KafkaError as error:
        return error
