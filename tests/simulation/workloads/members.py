"""Members of groups in both protocols, and the register of who owns what by their own account."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from ottla.core.errors import ErrorCode
from ottla.core.ids import uuid_to_text
from ottla.protocol.codec import decode, encode
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
)
from ottla.protocol.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolAssignmentTopicPartition,
    ConsumerProtocolSubscription,
)
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from ottla.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse
from tests.simulation.workloads.client import RETRIABLE, BrokenError, Client
from tests.simulation.workloads.cluster import Cluster
from tests.simulation.workloads.producer import TopicPartition

#: A topic that is deleted and made again: what is said of its partitions may be about another topic.
FLEETING = "fleeting"
SESSION_S = 6.0
HEARTBEAT_S = 1.0
#: A broker counts in whole milliseconds.
TICK_S = 0.002
METADATA_AGE_S = 3.0

LOST = frozenset(
    {
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.ILLEGAL_GENERATION,
        ErrorCode.FENCED_MEMBER_EPOCH,
        ErrorCode.GROUP_ID_NOT_FOUND,
        ErrorCode.FENCED_INSTANCE_ID,
    }
)


class NotMemberError(Exception):
    """The group went on without this member."""


@dataclass(eq=False)
class Holding:
    """One time that a member has a partition; the next time is another one."""

    member: Member
    confirmed_s: float


@dataclass
class Group:
    """What the members of a group know between them: owners, and committed offsets.

    A partition may be given to another member when its owner let it go, or when the broker may take the owner for dead:
    no heartbeat was answered for as long as a session lasts.
    """

    cluster: Cluster
    group_id: str
    #: Members of both protocols: the group may change its kind while a member that is silent has not let go of what it
    #: had. Kafka carries over who is to have a partition then, so that only the epochs keep two owners apart.
    is_mixed: bool = False
    holdings: dict[TopicPartition, Holding] = field(default_factory=dict)
    acknowledged: dict[TopicPartition, int] = field(default_factory=dict)
    attempted: dict[TopicPartition, set[int]] = field(default_factory=dict)

    def take(self, member: Member, partition: TopicPartition, confirmed_s: float) -> None:
        now_s = self.cluster.now()
        holding = self.holdings.get(partition)
        if (
            holding is not None
            and holding.member is not member
            and partition[0] != FLEETING
            and (not self.is_mixed or holding.member.epoch == member.epoch)
            and now_s < holding.confirmed_s + SESSION_S - TICK_S
        ):
            self.cluster.fail_promise(
                f"group {self.group_id}: {partition} belongs to {holding.member}, whose last heartbeat was answered at "
                f"{holding.confirmed_s:.3f}, and to {member}"
            )
        self.holdings[partition] = member.owned[partition] = Holding(member, confirmed_s)

    def confirm(self, member: Member, confirmed_s: float) -> None:
        for holding in member.owned.values():
            holding.confirmed_s = confirmed_s

    def succeed(self, member: Member) -> None:
        """A static member is about to fence the one that had its instance id before."""
        for holding in self.holdings.values():
            if holding.member is not member and holding.member.instance_id == member.instance_id is not None:
                holding.confirmed_s = -SESSION_S

    def let_go(self, member: Member, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            if member.owned.pop(partition) is self.holdings.get(partition):
                del self.holdings[partition]

    def owner_of(self, partition: TopicPartition) -> object | None:
        holding = self.holdings.get(partition)
        return None if holding is None else holding.member

    def note_attempt(self, offsets: dict[TopicPartition, int]) -> None:
        for partition, offset in offsets.items():
            self.attempted.setdefault(partition, set()).add(offset)

    def note_commit(self, offsets: dict[TopicPartition, int]) -> None:
        for partition, offset in offsets.items():
            if partition[0] == FLEETING:
                continue
            self.acknowledged[partition] = max(offset, self.acknowledged.get(partition, -1))

    def check_fetched(self, partition: TopicPartition, offset: int, before: int) -> None:
        """`before`: what had been acknowledged when the fetch was sent."""
        if offset < before:
            self.cluster.fail_promise(f"group {self.group_id}: {partition} went back from {before} to {offset}")
        if offset >= 0 and partition[0] != FLEETING and offset not in self.attempted.get(partition, ()):
            self.cluster.fail_promise(f"group {self.group_id}: nobody committed {offset} of {partition}")


class ClassicMember:
    """A member of a classic group: eager, with an assignor that deals partitions out in turn."""

    def __init__(self, client: Client, group: Group, topics: list[str], *, instance_id: str | None = None) -> None:
        self.client = client
        self.group = group
        self.group_id = group.group_id
        self.topics = topics
        self.instance_id = instance_id
        self.member_id = ""
        self.epoch = -1
        self.owned: dict[TopicPartition, Holding] = {}  # by its own account
        self._is_joined = False
        self._is_leader = False
        self._next_heartbeat_s = 0.0
        self._known: dict[str, int] = {}
        self._known_at_s = 0.0

    def __repr__(self) -> str:
        return f"{self.client.name}/{self.member_id}@{self.epoch}"

    async def poll(self) -> None:
        while not self._is_joined:
            await self._join()
        if self.client.cluster.now() >= self._next_heartbeat_s:
            await self._heartbeat()
        if self._is_joined and self._is_leader and self.client.cluster.now() >= self._known_at_s + METADATA_AGE_S:
            known, self._known = self._known, await self._partition_counts()
            if known != self._known:
                self._rejoin()

    async def leave(self) -> None:
        self._release()
        if self.member_id:
            identity = MemberIdentity(member_id=self.member_id, group_instance_id=self.instance_id)
            request = LeaveGroupRequest(group_id=self.group_id, members=[identity])
            try:
                await self.client.ask(request, 5, LeaveGroupResponse)
            except BrokenError:
                pass

    def lost(self) -> None:
        """The group told somewhere else that this member is none."""
        self._release()
        self.member_id, self._is_joined, self.epoch = "", False, -1

    def _rejoin(self) -> None:
        self._is_joined = False

    def _release(self) -> None:
        self.group.let_go(self, list(self.owned))

    async def _heartbeat(self) -> None:
        sent_s = self.client.cluster.now()
        request = HeartbeatRequest(
            group_id=self.group_id,
            generation_id=self.epoch,
            member_id=self.member_id,
            group_instance_id=self.instance_id,
        )
        try:
            response = await self.client.ask(request, 4, HeartbeatResponse)
        except BrokenError:
            await self.client.back_off()
            return
        code = ErrorCode(response.error_code)
        if code is ErrorCode.NONE:
            self.group.confirm(self, sent_s)
            self._next_heartbeat_s = sent_s + HEARTBEAT_S
        elif code is ErrorCode.REBALANCE_IN_PROGRESS:
            self._rejoin()
        elif code in LOST:
            self._lost(code)
        else:
            assert code in RETRIABLE, code
            await self.client.back_off()

    def _lost(self, code: ErrorCode) -> None:
        if code is ErrorCode.ILLEGAL_GENERATION:
            self._release()
            self._rejoin()
            return
        self.lost()
        if code is ErrorCode.FENCED_INSTANCE_ID:
            raise NotMemberError(code.name)

    async def _join(self) -> None:
        self._release()  # eager: everything, before it asks
        self.group.succeed(self)
        metadata = encode(ConsumerProtocolSubscription(topics=self.topics), 0)
        request = JoinGroupRequest(
            group_id=self.group_id,
            session_timeout_ms=int(SESSION_S * 1000),
            rebalance_timeout_ms=int(SESSION_S * 1000),
            member_id=self.member_id,
            group_instance_id=self.instance_id,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=b"\x00\x00" + metadata)],
        )
        try:
            response = await self.client.ask(request, 9, JoinGroupResponse)
        except BrokenError:
            await self.client.back_off()
            return
        code = ErrorCode(response.error_code)
        if code is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = response.member_id
        elif code in LOST:
            self._lost(code)
        elif code is not ErrorCode.NONE:
            assert code in RETRIABLE or code is ErrorCode.REBALANCE_IN_PROGRESS, code
            await self.client.back_off()
        else:
            self.member_id, self.epoch = response.member_id, response.generation_id
            await self._sync(response)

    async def _sync(self, joined: JoinGroupResponse) -> None:
        self._is_leader = joined.leader == self.member_id
        assignments = []
        if self._is_leader and not joined.skip_assignment:
            assignments = await self._assign([member.member_id for member in joined.members])
        elif self._is_leader:
            # A static leader that came back keeps the assignment, and can not know from which topics it was made.
            self._known, self._known_at_s = {}, 0.0
        request = SyncGroupRequest(
            group_id=self.group_id,
            generation_id=self.epoch,
            member_id=self.member_id,
            group_instance_id=self.instance_id,
            protocol_type="consumer",
            protocol_name="range",
            assignments=assignments,
        )
        try:
            response = await self.client.ask(request, 5, SyncGroupResponse)
        except BrokenError:
            await self.client.back_off()
            return  # and join again
        code = ErrorCode(response.error_code)
        if code in LOST:
            self._lost(code)
        elif code is not ErrorCode.NONE:
            assert code in RETRIABLE or code is ErrorCode.REBALANCE_IN_PROGRESS, code
        else:
            assigned = response.assignment
            parts = decode(ConsumerProtocolAssignment, 0, assigned, 2).assigned_partitions if assigned else []
            # Neither a join nor a sync of a stable group lengthens a session: the heartbeat that follows does.
            for place in [(part.topic, index) for part in parts for index in part.partitions]:
                self.group.take(self, place, 0.0)
            self._is_joined = True
            self._next_heartbeat_s = 0.0

    async def _partition_counts(self) -> dict[str, int]:
        self._known_at_s = self.client.cluster.now()
        found = await self.client.describe(self.topics)
        return {name: len(topic.partitions) for name, topic in sorted(found.items())}

    async def _assign(self, members: list[str]) -> list[SyncGroupRequestAssignment]:
        self._known = await self._partition_counts()
        given: dict[str, dict[str, list[int]]] = {member: {} for member in members}
        everything = [(topic, index) for topic, number in self._known.items() for index in range(number)]
        for number, (topic, index) in enumerate(everything):
            given[members[number % len(members)]].setdefault(topic, []).append(index)
        assignments = []
        for member, topics in given.items():
            parts = [
                ConsumerProtocolAssignmentTopicPartition(topic=topic, partitions=indexes)
                for topic, indexes in topics.items()
            ]
            content = b"\x00\x00" + encode(ConsumerProtocolAssignment(assigned_partitions=parts), 0)
            assignments.append(SyncGroupRequestAssignment(member_id=member, assignment=content))
        return assignments


class ConsumerMember:
    """A member of a consumer group (KIP-848)."""

    def __init__(self, client: Client, group: Group, topics: list[str], *, instance_id: str | None = None) -> None:
        self.client = client
        self.group = group
        self.group_id = group.group_id
        self.topics = topics
        self.instance_id = instance_id
        self.member_id = uuid_to_text(client.random.randbytes(16))
        self.epoch = 0
        self.owned: dict[TopicPartition, Holding] = {}  # by its own account
        self._owned_ids: dict[bytes, list[int]] = {}
        self._names: dict[bytes, str] = {}
        self._next_heartbeat_s = 0.0
        self._says_all = True

    def __repr__(self) -> str:
        return f"{self.client.name}/{self.member_id}@{self.epoch}"

    async def poll(self) -> None:
        if self.client.cluster.now() >= self._next_heartbeat_s:
            await self._heartbeat()

    async def leave(self) -> None:
        self.group.let_go(self, list(self.owned))
        if self.epoch > 0:
            epoch = -1 if self.instance_id is None or self.client.random.random() < 0.5 else -2
            request = ConsumerGroupHeartbeatRequest(
                group_id=self.group_id, member_id=self.member_id, member_epoch=epoch, instance_id=self.instance_id
            )
            try:
                await self.client.ask(request, 1, ConsumerGroupHeartbeatResponse)
            except BrokenError:
                pass

    def lost(self) -> None:
        """The group told somewhere else that this member is none."""
        self.group.let_go(self, list(self.owned))
        self._owned_ids = {}
        self.epoch = 0
        self._says_all = True
        self._next_heartbeat_s = 0.0

    def stale(self) -> None:
        """A request was refused as the epoch moved on: hear of it now."""
        self._next_heartbeat_s = 0.0

    async def _heartbeat(self) -> None:
        if not self.epoch:
            self.group.succeed(self)
        sent_s = self.client.cluster.now()
        request = ConsumerGroupHeartbeatRequest(
            group_id=self.group_id, member_id=self.member_id, member_epoch=self.epoch, instance_id=self.instance_id
        )
        if self._says_all or self.epoch == 0:
            request.subscribed_topic_names = self.topics
            request.rebalance_timeout_ms = int(SESSION_S * 1000)
            request.topic_partitions = [
                ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=topic_id, partitions=indexes)
                for topic_id, indexes in self._owned_ids.items()
            ]
        try:
            response = await self.client.ask(request, 1, ConsumerGroupHeartbeatResponse)
        except BrokenError:
            self._says_all = True
            await self.client.back_off()
            return
        code = ErrorCode(response.error_code)
        if code in LOST:
            self.lost()
            if code is ErrorCode.FENCED_INSTANCE_ID:
                raise NotMemberError(code.name)
        elif code is not ErrorCode.NONE:
            assert code in RETRIABLE or code is ErrorCode.UNRELEASED_INSTANCE_ID, code
            self._says_all = True
            await self.client.back_off()
        else:
            self._says_all = False
            self.epoch = response.member_epoch
            self.group.confirm(self, sent_s)
            self._next_heartbeat_s = sent_s + response.heartbeat_interval_ms / 1000
            if response.assignment is not None:
                assigned = {part.topic_id: list(part.partitions) for part in response.assignment.topic_partitions}
                await self._take_over(assigned, sent_s)

    async def _take_over(self, assigned: dict[bytes, list[int]], sent_s: float) -> None:
        if assigned.keys() - self._names.keys():
            found = await self.client.describe(self.topics)
            self._names.update({topic.topic_id: name for name, topic in found.items()})
        owned = {
            (self._names[topic_id], index)
            for topic_id, indexes in assigned.items()
            if topic_id in self._names
            for index in indexes
        }
        self.group.let_go(self, sorted(self.owned.keys() - owned))
        for place in sorted(owned - self.owned.keys()):
            self.group.take(self, place, sent_s)
        if assigned != self._owned_ids:
            self._owned_ids = assigned
            self._says_all = True
            self._next_heartbeat_s = 0.0


Member = ClassicMember | ConsumerMember


async def committed_offsets(
    client: Client, group: Group, partitions: frozenset[TopicPartition]
) -> dict[TopicPartition, int]:
    """Where the group stands, -1 where it has not begun; waits for transactions that are not over."""
    indexes: dict[str, list[int]] = {}
    for topic, index in sorted(partitions):
        indexes.setdefault(topic, []).append(index)
    topics = [OffsetFetchRequestTopics(name=topic, partition_indexes=found) for topic, found in indexes.items()]
    asked = OffsetFetchRequestGroup(group_id=group.group_id, topics=topics)
    request = OffsetFetchRequest(groups=[asked], require_stable=True)
    while True:
        before = {partition: group.acknowledged.get(partition, -1) for partition in partitions}
        response = await client.insist(request, 8, OffsetFetchResponse)
        [answer] = response.groups
        codes = {answer.error_code} | {part.error_code for topic in answer.topics for part in topic.partitions}
        if codes == {ErrorCode.NONE}:
            break
        assert codes <= RETRIABLE | {ErrorCode.NONE, ErrorCode.UNSTABLE_OFFSET_COMMIT}, codes
        await client.back_off()
    found = {
        (topic.name, part.partition_index): part.committed_offset
        for topic in answer.topics
        for part in topic.partitions
    }
    for partition, offset in found.items():
        group.check_fetched(partition, offset, before[partition])
    return found


async def commit_offsets(member: Member, offsets: dict[TopicPartition, int]) -> bool:
    """Store positions as a member; whether they were. What a member that lost its partition commits must be refused."""
    client, group = member.client, member.group
    request = OffsetCommitRequest(
        group_id=member.group_id,
        generation_id_or_member_epoch=member.epoch,
        member_id=member.member_id,
        group_instance_id=member.instance_id,
        topics=[
            OffsetCommitRequestTopic(
                name=topic,
                partitions=[
                    OffsetCommitRequestPartition(
                        partition_index=index, committed_offset=offset, committed_metadata=None
                    )
                ],
            )
            for (topic, index), offset in offsets.items()
        ],
    )
    group.note_attempt(offsets)
    others = {partition: group.owner_of(partition) for partition in offsets}
    try:
        response = await client.ask(request, 9, OffsetCommitResponse)
    except BrokenError:
        return False
    codes = {ErrorCode(part.error_code) for topic in response.topics for part in topic.partitions}
    if codes == {ErrorCode.NONE}:
        for partition, owner in others.items():
            if owner is not member and partition[0] != FLEETING:
                client.cluster.fail_promise(f"{member} committed {partition}, which belonged to {owner}")
        group.note_commit(offsets)
        return True
    if codes & LOST:
        member.lost()
    elif ErrorCode.STALE_MEMBER_EPOCH in codes and isinstance(member, ConsumerMember):
        member.stale()
    else:
        unknown = {ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        assert codes <= RETRIABLE | unknown, codes
    await asyncio.sleep(0)
    return False
