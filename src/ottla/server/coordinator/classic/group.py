"""A classic group (the JoinGroup/SyncGroup protocol): members, votes, leader and state. Pure data with its own rules.

    Empty → PreparingRebalance → CompletingRebalance → Stable → PreparingRebalance … → Empty → Dead

``Rebalances`` (rebalance.py) decides when to move; this module keeps the group consistent while it does.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.codec import decode_prefix
from ottla.protocol.errors import ProtocolError
from ottla.protocol.messages.consumer_protocol import ConsumerProtocolSubscription
from ottla.protocol.messages.group_records import GroupMetadataKey
from ottla.protocol.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from ottla.protocol.messages.sync_group import SyncGroupResponse
from ottla.server.coordinator.group import GroupType, PartitionCommitCheck
from ottla.server.coordinator.result import Completions, CoordinatorRecord, Pending
from ottla.server.coordinator.timers import Timer

CONSUMER_PROTOCOL_TYPE = "consumer"

#: Key type of the record that holds a classic group.
GROUP_METADATA = 2

Protocols = tuple[tuple[str, bytes], ...]


class GroupState(Enum):
    """States under the names that DescribeGroups and ListGroups show."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


_MAY_FOLLOW = {
    GroupState.EMPTY: {GroupState.PREPARING_REBALANCE},
    GroupState.PREPARING_REBALANCE: {GroupState.EMPTY, GroupState.COMPLETING_REBALANCE, GroupState.STABLE},
    GroupState.COMPLETING_REBALANCE: {GroupState.PREPARING_REBALANCE},
    GroupState.STABLE: {GroupState.COMPLETING_REBALANCE},
    GroupState.DEAD: set(GroupState),
}


class Member:
    """One member. ``protocols`` are (name, metadata) in the member's order of preference."""

    __slots__ = (
        "assignment",
        "awaiting_join",
        "awaiting_sync",
        "client_host",
        "client_id",
        "group_instance_id",
        "is_new",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "session_timer",
    )

    def __init__(
        self,
        member_id: str,
        group_instance_id: str | None,
        client_id: str,
        client_host: str,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: Protocols,
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = assignment
        self.awaiting_join: Pending[JoinGroupResponse] | None = None
        self.awaiting_sync: Pending[SyncGroupResponse] | None = None
        #: Joined for the first time and not yet answered: it cannot heartbeat, so its session counts from the join.
        self.is_new = False
        self.session_timer: Timer | None = None

    def metadata(self, protocol_name: str | None) -> bytes:
        """The member's metadata for that protocol; empty when it does not speak it."""
        for name, metadata in self.protocols:
            if name == protocol_name:
                return metadata
        return b""

    def vote(self, candidates: set[str]) -> str:
        """The first of the member's protocols that everybody supports."""
        return next(name for name, _ in self.protocols if name in candidates)

    def cancel_session(self) -> None:
        if self.session_timer is not None:
            self.session_timer.cancel()
            self.session_timer = None


class ClassicGroup:
    """Membership and protocol of one group. Parked answers are settled into ``completions``, shared by the shard."""

    group_type = GroupType.CLASSIC

    __slots__ = (
        "completions",
        "generation_id",
        "group_id",
        "join_timer",
        "leader_id",
        "members",
        "new_member_added",
        "pending_members",
        "pending_sync",
        "previous_state",
        "protocol_name",
        "protocol_type",
        "state",
        "state_timestamp_ms",
        "static_members",
        "subscribed_topics",
        "sync_timer",
    )

    def __init__(self, group_id: str, completions: Completions, wall_ms: int | None) -> None:
        self.group_id = group_id
        self.completions = completions
        self.state = GroupState.EMPTY
        self.previous_state = GroupState.EMPTY
        #: Wall clock of the last transition; None when replayed from a value version below 2.
        self.state_timestamp_ms = wall_ms
        self.generation_id = 0
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        #: None without members, and while the group was a consumer group a moment ago: it has to rebalance first.
        self.leader_id: str | None = None
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        #: Ids handed out with MEMBER_ID_REQUIRED whose owner has not come back yet, with their session timers.
        self.pending_members: dict[str, Timer] = {}
        #: Members of this generation that have not sent SyncGroup yet.
        self.pending_sync: set[str] = set()
        self.new_member_added = False
        #: Topics of the members' subscriptions; None when that is unknown or not a group of consumers.
        self.subscribed_topics: frozenset[str] | None = None
        self.join_timer: Timer | None = None
        self.sync_timer: Timer | None = None

    # -- membership

    def add(self, member: Member, pending: Pending[JoinGroupResponse] | None, protocol_type: str | None) -> None:
        """Take a member in; the first one leads. ``pending`` is its parked join."""
        if not self.members:
            self.protocol_type = protocol_type
        if member.group_instance_id is not None:
            assert member.group_instance_id not in self.static_members
            self.static_members[member.group_instance_id] = member.member_id
        if self.leader_id is None:
            self.leader_id = member.member_id
        self.members[member.member_id] = member
        member.awaiting_join = pending
        self.forget_pending(member.member_id)

    def remove(self, member: Member, code: ErrorCode = ErrorCode.UNKNOWN_MEMBER_ID) -> None:
        """Take a member out; whatever it waits for is refused with the code."""
        self.refuse(member, code)
        member.cancel_session()
        del self.members[member.member_id]
        if member.group_instance_id is not None:
            self.static_members.pop(member.group_instance_id, None)
        if self.leader_id == member.member_id:
            self.leader_id = next(iter(self.members), None)
        self.pending_sync.discard(member.member_id)

    def forget_pending(self, member_id: str) -> bool:
        """Drop a member id that was handed out but not used; False when there is none."""
        timer = self.pending_members.pop(member_id, None)
        if timer is None:
            return False
        timer.cancel()
        return True

    def replace_static(self, member: Member, new_member_id: str) -> None:
        """The static member came back under a new id: the old id is fenced, everything else stays."""
        old_member_id = member.member_id
        self.refuse(member, ErrorCode.FENCED_INSTANCE_ID)
        # Rebuilt, so that the member keeps its place in the order (the next leader is the first one).
        self.members = {new_member_id if key == old_member_id else key: value for key, value in self.members.items()}
        member.member_id = new_member_id
        member.is_new = False
        assert member.group_instance_id is not None
        self.static_members[member.group_instance_id] = new_member_id
        if self.leader_id == old_member_id:
            self.leader_id = new_member_id
        if old_member_id in self.pending_sync:
            self.pending_sync.remove(old_member_id)
            self.pending_sync.add(new_member_id)

    def park_join(self, member: Member, pending: Pending[JoinGroupResponse]) -> None:
        """The member waits for the generation; an older join of it has lost its client."""
        if member.awaiting_join is not None:
            self.settle_join(member, member.awaiting_join.refusal(ErrorCode.REBALANCE_IN_PROGRESS))
        member.awaiting_join = pending

    def park_sync(self, member: Member, pending: Pending[SyncGroupResponse]) -> None:
        """The member waits for its assignment; an older sync of it has lost its client."""
        if member.awaiting_sync is not None:
            self.settle_sync(member, member.awaiting_sync.refusal(ErrorCode.REBALANCE_IN_PROGRESS))
        member.awaiting_sync = pending

    def settle_join(self, member: Member, response: JoinGroupResponse) -> None:
        if member.awaiting_join is not None:
            self.completions.append((member.awaiting_join, response))
            member.awaiting_join = None

    def settle_sync(self, member: Member, response: SyncGroupResponse) -> None:
        if member.awaiting_sync is not None:
            self.completions.append((member.awaiting_sync, response))
            member.awaiting_sync = None

    def refuse(self, member: Member, code: ErrorCode) -> None:
        """Whatever the member waits for is answered with the code."""
        if member.awaiting_join is not None:
            self.settle_join(member, member.awaiting_join.refusal(code))
        if member.awaiting_sync is not None:
            self.settle_sync(member, member.awaiting_sync.refusal(code))

    def validate_member(self, member_id: str, group_instance_id: str | None) -> Member:
        """The member, or ApiError UNKNOWN_MEMBER_ID / FENCED_INSTANCE_ID (KIP-345)."""
        if group_instance_id is not None:
            existing = self.static_members.get(group_instance_id)
            if existing is None:
                raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
            if existing != member_id:
                raise ApiError(ErrorCode.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
        return member

    # -- what any group is asked (coordinator.group.Group)

    @property
    def state_name(self) -> str:
        return self.state.value

    def check_commit(
        self, member_id: str, group_instance_id: str | None, generation_id: int, version: int, *, transactional: bool
    ) -> PartitionCommitCheck | None:
        """Members commit in their generation; everybody else only while there are none.

        In a transaction (KIP-447) one without a member id is believed, as Kafka does: older clients do not say who
        they are.
        """
        if generation_id < 0 and self.state is GroupState.EMPTY:
            return None
        if generation_id >= 0 or member_id or group_instance_id is not None:
            self.validate_member(member_id, group_instance_id)
            if generation_id != self.generation_id:
                raise ApiError(ErrorCode.ILLEGAL_GENERATION)
        elif not transactional:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
        if self.state is GroupState.COMPLETING_REBALANCE and not transactional:
            raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS)
        return None

    def check_fetch(self, member_id: str | None, member_epoch: int) -> None:
        """Anybody may fetch."""

    def check_offset_delete(self) -> None:
        """Offsets of a live group are removed only where subscriptions are known."""
        if self.state is not GroupState.EMPTY and self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            raise ApiError(ErrorCode.NON_EMPTY_GROUP)

    def check_delete(self) -> None:
        """Only an Empty group may be deleted."""
        if self.state is not GroupState.EMPTY:
            raise ApiError(ErrorCode.NON_EMPTY_GROUP)

    def retention_base_ms(self, topic: str, commit_timestamp_ms: int) -> int | None:
        """From becoming Empty; from the commit for simple groups and for topics no longer consumed."""
        if self.protocol_type is None:
            return commit_timestamp_ms
        if self.state is GroupState.EMPTY:
            return commit_timestamp_ms if self.state_timestamp_ms is None else self.state_timestamp_ms
        if (
            self.state is GroupState.STABLE
            and self.protocol_type == CONSUMER_PROTOCOL_TYPE
            and self.subscribed_topics is not None
            and topic not in self.subscribed_topics
        ):
            return commit_timestamp_ms
        return None

    def may_expire(self) -> bool:
        """Empty, and nobody is about to join with a fresh member id."""
        return self.state is GroupState.EMPTY and not self.pending_members

    def tombstones(self) -> list[CoordinatorRecord]:
        """The one record of a classic group."""
        return [CoordinatorRecord(GROUP_METADATA, GroupMetadataKey(group=self.group_id), None)]

    # -- protocol

    def supports_protocols(self, protocol_type: str, names: Iterable[str]) -> bool:
        """May a member with these protocols join: same type, and at least one protocol that every member supports."""
        names = set(names)
        if self.state is GroupState.EMPTY:
            return bool(protocol_type) and bool(names)
        return protocol_type == self.protocol_type and bool(names & self._common_protocols(names))

    def select_protocol(self) -> str:
        """The protocol with the most votes among those that all members support; the earliest voted wins a tie."""
        candidates = self._common_protocols(None)
        votes: dict[str, int] = {}
        for member in self.members.values():
            name = member.vote(candidates)
            votes[name] = votes.get(name, 0) + 1
        return max(votes, key=lambda name: votes[name])

    def _common_protocols(self, start: set[str] | None) -> set[str]:
        common = start
        for member in self.members.values():
            names = {name for name, _ in member.protocols}
            common = names if common is None else common & names
        return common or set()

    def compute_subscribed_topics(self) -> None:
        """Read the topics out of the members' subscriptions (ConsumerProtocol); unreadable ones make them unknown."""
        if self.protocol_type != CONSUMER_PROTOCOL_TYPE:
            self.subscribed_topics = None
        elif not self.members:
            self.subscribed_topics = frozenset()
        elif self.protocol_name is None:
            self.subscribed_topics = None
        else:
            topics: set[str] = set()
            for member in self.members.values():
                member_topics = _topics_of_subscription(member.metadata(self.protocol_name))
                if member_topics is None:
                    self.subscribed_topics = None
                    return
                topics.update(member_topics)
            self.subscribed_topics = frozenset(topics)

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member consumes the topic; an unknown subscription of consumers counts as yes."""
        if self.subscribed_topics is None:
            return self.protocol_type == CONSUMER_PROTOCOL_TYPE
        return topic in self.subscribed_topics

    # -- state

    def transition_to(self, state: GroupState, wall_ms: int) -> None:
        assert self.state in _MAY_FOLLOW[state], f"{self.group_id}: {self.state} -> {state}"
        self.previous_state = self.state
        self.state = state
        self.state_timestamp_ms = wall_ms

    def begin_generation(self, wall_ms: int) -> None:
        """Everybody who will come has joined: choose the protocol and start the next generation."""
        self.generation_id += 1
        self.pending_sync.clear()
        if self.members:
            self.protocol_name = self.select_protocol()
            self.transition_to(GroupState.COMPLETING_REBALANCE, wall_ms)
        else:
            self.protocol_name = None
            self.transition_to(GroupState.EMPTY, wall_ms)
        self.compute_subscribed_topics()

    def elect_joined_leader(self) -> bool:
        """Make sure that the leader is one who waits in a join; False when nobody does."""
        leader = self.members.get(self.leader_id) if self.leader_id is not None else None
        if leader is None or leader.awaiting_join is None:
            joined = next((member for member in self.members.values() if member.awaiting_join is not None), None)
            if joined is None:
                return False
            self.leader_id = joined.member_id
        return True

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest of the members' rebalance timeouts."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    @property
    def awaiting_join_count(self) -> int:
        return sum(1 for member in self.members.values() if member.awaiting_join is not None)

    @property
    def all_members_joined(self) -> bool:
        """Every known member waits in a join, and nobody is about to come with a fresh member id."""
        return not self.pending_members and all(member.awaiting_join is not None for member in self.members.values())

    def is_leader(self, member_id: str) -> bool:
        return self.leader_id == member_id

    def join_response(self, member_id: str, *, with_members: bool, skip_assignment: bool = False) -> JoinGroupResponse:
        """The current generation as a join answers it; only the leader gets the members."""
        members = []
        if with_members:
            members = [
                JoinGroupResponseMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    metadata=member.metadata(self.protocol_name),
                )
                for member in self.members.values()
            ]
        return JoinGroupResponse(
            generation_id=self.generation_id,
            protocol_type=self.protocol_type,
            protocol_name=self.protocol_name,
            leader=self.leader_id or "",
            skip_assignment=skip_assignment,
            member_id=member_id,
            members=members,
        )

    def sync_response(self, member: Member) -> SyncGroupResponse:
        """The member's assignment in the current generation."""
        return SyncGroupResponse(
            protocol_type=self.protocol_type, protocol_name=self.protocol_name, assignment=member.assignment
        )

    def check_invariants(self) -> None:
        """What holds between commands; for tests and simulations."""
        assert set(self.static_members.values()) <= set(self.members)
        assert not set(self.pending_members) & set(self.members)
        assert self.pending_sync <= set(self.members)
        assert self.leader_id is None or self.leader_id in self.members
        assert self.members or self.leader_id is None
        if self.state in (GroupState.EMPTY, GroupState.DEAD):
            assert not self.members
        if self.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            assert self.members
            assert self.protocol_name in self._common_protocols(None)
            assert all(member.awaiting_join is None for member in self.members.values())
        if self.state is not GroupState.COMPLETING_REBALANCE:
            assert all(member.awaiting_sync is None for member in self.members.values())
        if self.state is GroupState.PREPARING_REBALANCE:
            assert self.join_timer is not None
            assert self.join_timer.is_active
        for member in self.members.values():
            assert member.session_timer is not None


def _topics_of_subscription(metadata: bytes) -> list[str] | None:
    """The topics in a consumer's subscription bytes: int16 version, then the body; a higher version extends it."""
    if len(metadata) < 2:
        return None
    version = int.from_bytes(metadata[:2], "big", signed=True)
    if version < 0:
        return None
    highest = ConsumerProtocolSubscription.VALID_VERSIONS[1]
    try:
        subscription, _ = decode_prefix(ConsumerProtocolSubscription, min(version, highest), metadata, 2)
    except ProtocolError:
        return None
    return list(subscription.topics)
