"""What tests ask of groups: who is in them, how far they are. Coroutines of steps (`steps`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.client.errors import UnknownTopicError
from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.testing.operations import TIMEOUT_S, Operations, Patience, ask, check

if TYPE_CHECKING:
    from ottla.protocol.messages.list_groups import ListedGroup

_OFFSET_FETCH_VERSION = 9  # the last one that names topics
_NOT_YET = (ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)


class Group(NamedTuple):
    """A group as its coordinator sees it."""

    group_id: str
    kind: str
    """`classic`, `consumer`, `share` or `streams`; empty when there is no such group."""
    state: str
    """Kafka's name of it: `Stable`, `Empty`, `PreparingRebalance`, …; `Dead` when there is no such group."""
    members: tuple[str, ...]
    """Their client ids, one for each member."""

    def __str__(self) -> str:
        if not self.kind:
            return f"there is no group {self.group_id}"
        count = len(self.members)
        members = f"{_members(count)} ({', '.join(self.members)})" if count else "no members"
        return f"the {self.kind} group {self.group_id} is {self.state} with {members}"


class GroupOperations(Operations):
    """The helpers about groups, beside those about topics and records."""

    async def groups(self) -> list[str]:
        """The ids of all groups, sorted."""
        return sorted(group.group_id for group in await self._list_groups())

    async def group(self, group_id: str) -> Group:
        """Kind, state and members of a group."""
        kind = await self._kind(group_id)
        if not kind:
            return Group(group_id, "", "Dead", ())
        described = await self._described(group_id, kind)
        state = described.group_state
        return Group(group_id, kind, state, tuple(sorted(member.client_id for member in described.members)))

    async def committed(self, group_id: str) -> dict[TopicPartition, int]:
        """The offsets that a group has committed. Of share groups: where its share partitions begin."""
        if await self._kind(group_id) == "share":
            return {tp: one.start_offset for tp, one in (await self._share_offsets(group_id)).items()}
        return await self._committed(group_id)

    async def lag(self, group_id: str, topic: str | None = None) -> dict[TopicPartition, int]:
        """How many records a group has before it, in all partitions of the topics that it has committed offsets of;
        or of `topic`, committed or not. What was never committed counts from the first record that is there.
        """
        if await self._kind(group_id) == "share":
            offsets = await self._share_offsets(group_id)
            return {tp: one.lag for tp, one in offsets.items() if topic in (None, tp.topic)}
        committed = await self._committed(group_id)
        lag = {}
        for name in sorted({tp.topic for tp in committed} if topic is None else {topic}):
            try:
                starts, ends = await self.start_offsets(name), await self.end_offsets(name)
            except UnknownTopicError:
                if topic is not None:
                    raise
                continue  # deleted meanwhile
            for partition, end in ends.items():
                tp = TopicPartition(name, partition)
                lag[tp] = max(0, end - max(committed.get(tp, 0), starts.get(partition, 0)))
        return lag

    async def assert_lag_zero(self, group_id: str, topic: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until a group has consumed, and committed, everything; AssertionError with the lag if it does not.

        Everything is all records of the topics of which it has committed anything, or of `topic`. A group that never
        committed has consumed nothing.
        """
        patience = Patience(timeout_s)
        while True:
            lag = await self.lag(group_id, topic)
            behind = {tp: records for tp, records in lag.items() if records}
            if lag and not behind:
                return
            if not await patience.wait():
                raise AssertionError(await self._why_behind(group_id, behind, timeout_s))

    async def assert_group_stable(
        self, group_id: str, members: int | None = None, *, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Wait until a group has members (that many) and all of them have their partitions; AssertionError if not."""
        patience = Patience(timeout_s)
        while True:
            group = await self.group(group_id)
            if group.state == "Stable" and group.members and members in (None, len(group.members)):
                return
            if not await patience.wait():
                wanted = "" if members is None else f" with {_members(members)}"
                raise AssertionError(f"{group_id} should be Stable{wanted}; after {timeout_s:g} s {group}")

    async def assert_group_empty(self, group_id: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until a group has no members, or does not exist; AssertionError if it has."""
        patience = Patience(timeout_s)
        while (group := await self.group(group_id)).members:
            if not await patience.wait():
                raise AssertionError(f"{group_id} should have no members; after {timeout_s:g} s {group}")

    # Within

    async def _why_behind(self, group_id: str, behind: dict[TopicPartition, int], timeout_s: float) -> str:
        if not behind:
            return (
                f"{group_id} should have consumed everything; after {timeout_s:g} s it has committed nothing, and "
                f"{await self.group(group_id)}"
            )
        committed = await self.committed(group_id)
        each = ", ".join(
            f"{tp} by {records} (committed {committed.get(tp, 'nothing')})" for tp, records in sorted(behind.items())
        )
        return (
            f"{group_id} should have consumed everything; after {timeout_s:g} s it is behind in {each}, and "
            f"{await self.group(group_id)}"
        )

    async def _nodes(self) -> list[int]:
        from ottla.protocol.messages.metadata import MetadataRequest

        response = await ask(MetadataRequest(topics=[], allow_auto_topic_creation=False))
        return [broker.node_id for broker in response.brokers]

    async def _list_groups(self) -> list[ListedGroup]:
        from ottla.protocol.messages.list_groups import ListGroupsRequest

        found: list[ListedGroup] = []
        for node_id in await self._nodes():
            response = await ask(ListGroupsRequest(), node_id=node_id)
            if response.error_code not in _NOT_YET:
                check(response)
                found += response.groups
        return found

    async def _kind(self, group_id: str) -> str:
        """Empty when there is no such group."""
        return next((group.group_type for group in await self._list_groups() if group.group_id == group_id), "")

    async def _coordinator(self, group_id: str) -> int:
        from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest

        patience = Patience(TIMEOUT_S)
        while True:
            found = (await ask(FindCoordinatorRequest(key_type=0, coordinator_keys=[group_id]))).coordinators[0]
            if found.error_code in _NOT_YET and await patience.wait():
                continue
            check(found)
            return int(found.node_id)

    async def _described(self, group_id: str, kind: str) -> Any:
        request = _describe_request(group_id, kind)
        described = (await ask(request, node_id=await self._coordinator(group_id))).groups[0]
        if described.error_code not in (ErrorCode.NONE, ErrorCode.GROUP_ID_NOT_FOUND):
            check(described)
        return described

    async def _committed(self, group_id: str) -> dict[TopicPartition, int]:
        from ottla.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup

        request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group_id, topics=None)])
        found = (await ask(request, _OFFSET_FETCH_VERSION, await self._coordinator(group_id))).groups[0]
        check(found)
        return {
            TopicPartition(topic.name, one.partition_index): one.committed_offset
            for topic in found.topics
            for one in topic.partitions
            if one.committed_offset >= 0
        }

    async def _share_offsets(self, group_id: str) -> dict[TopicPartition, Any]:
        from ottla.protocol.messages.describe_share_group_offsets import (
            DescribeShareGroupOffsetsRequest,
            DescribeShareGroupOffsetsRequestGroup,
        )

        wanted = DescribeShareGroupOffsetsRequestGroup(group_id=group_id, topics=None)
        request = DescribeShareGroupOffsetsRequest(groups=[wanted])
        found = (await ask(request, node_id=await self._coordinator(group_id))).groups[0]
        check(found)
        return {
            TopicPartition(topic.topic_name, one.partition_index): one
            for topic in found.topics
            for one in topic.partitions
            if one.error_code == ErrorCode.NONE and one.start_offset >= 0
        }


def _members(count: int) -> str:
    return f"{count} member{'' if count == 1 else 's'}"


def _describe_request(group_id: str, kind: str) -> Any:
    if kind == "consumer":
        from ottla.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest

        return ConsumerGroupDescribeRequest(group_ids=[group_id])
    if kind == "share":
        from ottla.protocol.messages.share_group_describe import ShareGroupDescribeRequest

        return ShareGroupDescribeRequest(group_ids=[group_id])
    if kind == "streams":
        from ottla.protocol.messages.streams_group_describe import StreamsGroupDescribeRequest

        return StreamsGroupDescribeRequest(group_ids=[group_id])
    from ottla.protocol.messages.describe_groups import DescribeGroupsRequest

    return DescribeGroupsRequest(groups=[group_id])
