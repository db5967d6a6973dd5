"""A member of a classic group: join, sync, beat; the leader assigns.

    OUT ──subscribed──> PREPARING ──> JOINING ──> [DESCRIBING, the leader] ──> SYNCING ──> ADOPTING ──> STABLE
                            ▲             │ membership lost                                   │            │
                            └─────────────┴───────────────────────────────────────────────────┴────────────┘

PREPARING: eager members give up everything, cooperative ones what they no longer subscribe to; whoever has lost its
membership loses everything. DESCRIBING: the leader looks up the topics of all members and runs the assignor. ADOPTING:
the consumer hears what it has to give up and what is new; who gave something up joins again, so that others get it.

Heartbeats go on in every state that has a generation, also while the consumer is slow to give partitions up. Without an
answered heartbeat for `session.timeout.ms` the coordinator may have given our partitions to others: they are lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

from ottla.client.consumer.assignors.assignor import MemberSubscription, Topics
from ottla.client.consumer.group.core import (
    COORDINATOR_GONE,
    LOG,
    Describe,
    MemberConfig,
    MemberCore,
    Send,
    Wanted,
    code_of,
)
from ottla.client.consumer.group.embedded import (
    PROTOCOL_TYPE,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.client.errors import KafkaError, error_for
from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.codec import ProtocolError
from ottla.protocol.message import Response
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from ottla.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse

if TYPE_CHECKING:
    from random import Random

JOIN_GRACE_MS = 5_000
"""A join is answered when all have joined, or the longest rebalance timeout is over: that long, and a bit more."""


class State(Enum):
    """Where the member is; see the module."""

    OUT = auto()
    PREPARING = auto()
    JOINING = auto()
    DESCRIBING = auto()
    SYNCING = auto()
    ADOPTING = auto()
    STABLE = auto()
    LEAVING = auto()


_BEATING = frozenset((State.PREPARING, State.DESCRIBING, State.SYNCING, State.ADOPTING, State.STABLE))


class ClassicCore(MemberCore):
    """The state machine; see `MemberCore` for how it is driven."""

    def __init__(self, config: MemberConfig, random: Random) -> None:
        super().__init__(config, random)
        self.state = State.OUT
        self.protocol_name = ""
        self.is_leader = False
        self._assignors = {assignor.name: assignor for assignor in config.assignors}
        self._is_cooperative = all(assignor.is_cooperative for assignor in config.assignors)
        self._rejoin: str | None = None
        """Why to join again."""
        self._joined: Wanted | None = None
        """What we said to subscribe to when we joined."""
        self._members: Mapping[str, MemberSubscription] = {}
        self._topics: Topics = {}
        self._assigned_from: Topics | None = None
        """The topics that the leader assigned from: when they change it has to assign again."""
        self._watches_from_now = False
        self._last_assigned: frozenset[TopicPartition] | None = None
        self._last_generation = -1
        self._heartbeat: Send | None = None
        self._next_heartbeat_ms = 0
        self._session_ends_ms = 0

    # -- events

    def subscribe(self, wanted: Wanted | None, now_ms: int) -> None:
        super().subscribe(wanted, now_ms)
        if wanted is not None and self._joined is not None and wanted.topics != self._joined.topics:
            self._rejoin = "the subscription changed"

    def enforce_rebalance(self) -> None:
        self._rejoin = "the application asked for a rebalance"

    def answered(self, sent: Send, response: Response, now_ms: int) -> None:
        if sent is self._heartbeat:
            self._heartbeat = None
            if isinstance(response, HeartbeatResponse) and self.epoch >= 0:
                self._beaten(sent, code_of(response.error_code), now_ms)
        elif sent is self._pending:
            self._pending = None
            if isinstance(response, JoinGroupResponse):
                self._join_answered(response, now_ms)
            elif isinstance(response, SyncGroupResponse):
                self._sync_answered(response, now_ms)
            elif isinstance(response, LeaveGroupResponse):
                self._left()

    def described(self, topics: Topics, now_ms: int) -> None:
        self._topics = topics
        if self.state is State.DESCRIBING:
            self._assign(now_ms)
        elif self._watches_from_now:
            self._watches_from_now, self._assigned_from = False, topics
        elif self._assigned_from is not None and topics != self._assigned_from:
            self._assigned_from = None
            self._rejoin = "the partitions of the group's topics changed"

    def request_failed(self, sent: Send, error: KafkaError, now_ms: int) -> None:
        if isinstance(sent.request, LeaveGroupRequest):
            if error.code is ErrorCode.UNSUPPORTED_VERSION and sent.request.members:
                # Before version 3 (KIP-345) it is one member, in a field of its own.
                old = LeaveGroupRequest(group_id=self.config.group_id, member_id=sent.request.members[0].member_id)
                again = self._send(old, now_ms)
                if sent is self._pending:
                    self._pending = again
                return
            # Once is enough: the session ends by itself.
            if sent is self._pending:
                self._pending = None
                self._left()
            return
        super().request_failed(sent, error, now_ms)

    def commit_refused(self, code: ErrorCode, epoch: int, now_ms: int) -> None:
        super().commit_refused(code, epoch, now_ms)
        if epoch == self.epoch >= 0:
            if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
                self._membership_lost(code, now_ms)
            elif code is ErrorCode.REBALANCE_IN_PROGRESS:
                self._rejoin = "a commit met a rebalance"

    @property
    def is_settled(self) -> bool:
        return self.state is State.STABLE and self._rejoin is None

    @property
    def is_cooperative(self) -> bool:
        """Whether partitions are kept through a rebalance: when all assignors offered allow it."""
        return self._is_cooperative

    # -- the machine

    def _is_in(self) -> bool:
        return self.state is not State.OUT

    def _deadlines(self) -> Iterable[int]:
        if self.state in _BEATING and self.epoch >= 0:
            yield self._session_ends_ms
            if self._heartbeat is None:
                yield self._next_heartbeat_ms
        if self._pending is None and self._wanted is not None and self.state in (State.OUT, State.JOINING):
            yield self._retry_ms

    def _advance(self, now_ms: int) -> None:
        if self.state in _BEATING and self.epoch >= 0:
            if now_ms >= self._session_ends_ms:
                LOG.warning(
                    "group %s: no heartbeat was answered for session.timeout.ms; the partitions are given up",
                    self.config.group_id,
                )
                self._membership_lost(None, now_ms)
            elif self._heartbeat is None and now_ms >= self._next_heartbeat_ms:
                patience_ms = min(self.config.request_timeout_ms, self.config.session_timeout_ms // 3)
                self._heartbeat = self._send(self._heartbeat_request(), now_ms, patience_ms)
        if self._wanted is None:
            if self.state not in (State.OUT, State.LEAVING):
                self._begin_to_leave()
            if self.state is State.LEAVING and self._pending is None and self._is_idle():
                self._leave(now_ms)
            return
        if self.state is State.OUT and self._is_idle() and not self._waits_for_poll and now_ms >= self._retry_ms:
            self._prepare()
        if self.state is State.ADOPTING and self._is_idle():
            self.state = State.STABLE
        if self.state is State.STABLE and self._rejoin is not None:
            LOG.info("group %s: %s joins again: %s", self.config.group_id, self.member_id, self._rejoin)
            self._prepare()
        if self.state is State.PREPARING and self._is_idle():
            self.state = State.JOINING
        if self.state is State.JOINING and self._pending is None and now_ms >= self._retry_ms:
            self._join(now_ms)

    def _prepare(self) -> None:
        self.state = State.PREPARING
        if not self.holdings:
            return
        if self.epoch < 0:
            self._lose_everything()
        elif not self._is_cooperative:
            self._tell("revoked", self.holdings)
        else:
            wanted = self._wanted
            dropped = [place for place in self.holdings if wanted is None or not wanted.accept(place.topic)]
            if dropped:
                self._tell("revoked", dropped)

    def _join(self, now_ms: int) -> None:
        wanted = self._wanted
        assert wanted is not None
        assert self._is_cooperative or not self.holdings
        self._no_leader()
        self._joined, self._rejoin = wanted, None
        protocols = []
        for assignor in self.config.assignors:
            subscription = MemberSubscription(
                topics=tuple(wanted.topics),
                user_data=assignor.user_data(self._last_assigned, self._last_generation),
                owned=tuple(self.holdings),
                generation=self.epoch,
                rack=self.config.rack,
            )
            protocols.append(JoinGroupRequestProtocol(name=assignor.name, metadata=encode_subscription(subscription)))
        request = JoinGroupRequest(
            group_id=self.config.group_id,
            session_timeout_ms=self.config.session_timeout_ms,
            rebalance_timeout_ms=self.config.max_poll_interval_ms,
            member_id=self.member_id,
            group_instance_id=self.config.instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocols=protocols,
        )
        patience_ms = max(self.config.request_timeout_ms, self.config.max_poll_interval_ms + JOIN_GRACE_MS)
        self._pending = self._send(request, now_ms, patience_ms, **self._static_since(5))

    def _static_since(self, version: int) -> dict[str, int]:
        return {} if self.config.instance_id is None else {"min_version": version}

    def _join_answered(self, response: JoinGroupResponse, now_ms: int) -> None:
        code = code_of(response.error_code)
        if code is ErrorCode.NONE:
            self._joined_group(response, now_ms)
        elif code is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = response.member_id
        elif code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self._membership_lost(code, now_ms)
        elif code in COORDINATOR_GONE:
            self._coordinator_gone(now_ms)
        elif code in (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.REBALANCE_IN_PROGRESS):
            self._back_off(now_ms)
        else:
            self._refused(code, now_ms)

    def _joined_group(self, response: JoinGroupResponse, now_ms: int) -> None:
        if response.protocol_type not in (None, PROTOCOL_TYPE) or response.protocol_name not in self._assignors:
            self._fail(error_for(ErrorCode.INCONSISTENT_GROUP_PROTOCOL))
            return
        self.member_id, self.epoch = response.member_id, response.generation_id
        self.protocol_name = response.protocol_name
        self._attempts = 0
        self._session_ends_ms = now_ms + self.config.session_timeout_ms
        self._next_heartbeat_ms = now_ms + self.config.heartbeat_interval_ms
        self._heartbeat = None
        self.is_leader = response.leader == response.member_id
        if not self.is_leader:
            self._sync((), now_ms)
            return
        try:
            self._members = {
                member.member_id: decode_subscription(member.metadata, member.group_instance_id)
                for member in response.members
            }
        except ProtocolError:
            self._fail(error_for(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "a member's subscription can not be read"))
            return
        topics = frozenset(topic for member in self._members.values() for topic in member.topics)
        self._out.append(Describe(topics))
        if response.skip_assignment:
            # A static leader came back: the group keeps its assignment, and only has to be watched.
            self._watches_from_now = True
            self._sync((), now_ms)
        else:
            self.state = State.DESCRIBING

    def _assign(self, now_ms: int) -> None:
        assignor = self._assignors[self.protocol_name]
        known = {topic for member in self._members.values() for topic in member.topics}
        topics = {topic: partitions for topic, partitions in self._topics.items() if topic in known}
        try:
            assignments = assignor.assign(topics, self._members)
            self._check(assignments)
        except Exception as error:  # an assignor may be the user's
            self._fail(KafkaError(f"The assignor {self.protocol_name} failed: {error!r}"))
            return
        self._assigned_from = self._topics
        self._sync([(member_id, encode_assignment(assignments[member_id])) for member_id in self._members], now_ms)

    def _check(self, assignments: Mapping[str, Iterable[TopicPartition]]) -> None:
        """Nobody has two owners, also not for the moment in which one still has what another is given."""
        places = [place for member_id in self._members for place in assignments[member_id]]
        if len(places) != len(set(places)):
            raise ValueError("a partition was given to two members")
        assignor = self._assignors[self.protocol_name]
        if assignor.is_cooperative and assignor.name != "cooperative-sticky":
            owners = {place: member_id for member_id, member in self._members.items() for place in member.owned}
            for member_id in self._members:
                for place in assignments[member_id]:
                    if owners.get(place, member_id) != member_id:
                        raise ValueError(f"{place} was given to another member before its owner let it go")

    def _sync(self, assignments: Sequence[tuple[str, bytes]], now_ms: int) -> None:
        self.state = State.SYNCING
        request = SyncGroupRequest(
            group_id=self.config.group_id,
            generation_id=self.epoch,
            member_id=self.member_id,
            group_instance_id=self.config.instance_id,
            protocol_type=PROTOCOL_TYPE,
            protocol_name=self.protocol_name,
            assignments=[
                SyncGroupRequestAssignment(member_id=member_id, assignment=assignment)
                for member_id, assignment in assignments
            ],
        )
        patience_ms = max(self.config.request_timeout_ms, self.config.max_poll_interval_ms + JOIN_GRACE_MS)
        self._pending = self._send(request, now_ms, patience_ms, **self._static_since(3))

    def _sync_answered(self, response: SyncGroupResponse, now_ms: int) -> None:
        code = code_of(response.error_code)
        if code is ErrorCode.NONE:
            self._adopt(response.assignment, now_ms)
        elif code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            self._membership_lost(code, now_ms)
        elif code is ErrorCode.REBALANCE_IN_PROGRESS:
            self._join_again()
        elif code in COORDINATOR_GONE:
            self._coordinator_gone(now_ms)
            self._join_again()
        else:
            self._refused(code, now_ms)

    def _adopt(self, data: bytes, now_ms: int) -> None:
        try:
            assigned = decode_assignment(data)
        except ProtocolError:
            self._fail(error_for(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, "the leader's assignment can not be read"))
            return
        self.state = State.ADOPTING
        self.rebalances += 1
        wanted = self._wanted
        if wanted is None or not all(wanted.accept(place.topic) for place in assigned):
            self._rejoin = "the assignment is for an earlier subscription"
            return
        LOG.info("group %s: generation %d, %d partitions", self.config.group_id, self.epoch, len(assigned))
        self._last_assigned, self._last_generation = assigned, self.epoch
        revoked = self.holdings.keys() - assigned
        if revoked:
            self._tell("revoked", revoked)
            self._rejoin = "partitions were given up for others"
        self._tell("assigned", assigned - self.holdings.keys())

    def _no_leader(self) -> None:
        self.is_leader, self._assigned_from, self._watches_from_now = False, None, False

    def _join_again(self) -> None:
        """Still a member: cooperative holdings stay as they are."""
        self._no_leader()
        self.state = State.JOINING

    # -- heartbeats

    def _heartbeat_request(self) -> HeartbeatRequest:
        return HeartbeatRequest(
            group_id=self.config.group_id,
            generation_id=self.epoch,
            member_id=self.member_id,
            group_instance_id=self.config.instance_id,
        )

    def _beaten(self, sent: Send, code: ErrorCode, now_ms: int) -> None:
        self._next_heartbeat_ms = sent.sent_ms + self.config.heartbeat_interval_ms
        if code in (ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS):
            self._session_ends_ms = max(self._session_ends_ms, sent.sent_ms + self.config.session_timeout_ms)
            if code is ErrorCode.REBALANCE_IN_PROGRESS and self.state in (State.STABLE, State.ADOPTING):
                self._rejoin = "the group is rebalancing"
        elif code in (ErrorCode.ILLEGAL_GENERATION, ErrorCode.UNKNOWN_MEMBER_ID):
            self._membership_lost(code, now_ms)
        elif code in COORDINATOR_GONE:
            self._coordinator_gone(now_ms)
            self._next_heartbeat_ms = self._retry_ms
        elif code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            self._next_heartbeat_ms = now_ms + self.config.retry_backoff_ms
        else:
            self._refused(code, now_ms)

    def _unanswered(self, sent: Send, now_ms: int) -> None:
        if sent is self._heartbeat:
            self._heartbeat = None
            self._next_heartbeat_ms = now_ms + self.config.retry_backoff_ms
        elif self.state is State.SYNCING and self._pending is None:
            self._join_again()

    # -- endings

    def _membership_lost(self, code: ErrorCode | None, now_ms: int) -> None:
        """The group goes on without us: join as a new member, or (ILLEGAL_GENERATION) as the same one."""
        if code is not None:
            LOG.info("group %s: %s is out of the group: %s", self.config.group_id, self.member_id, code.name)
        if code is ErrorCode.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        self._drop_out(now_ms, leave=False)

    def _drop_out(self, now_ms: int, *, leave: bool) -> None:
        if leave and self.member_id and self.config.instance_id is None:
            self._send(self._leave_request("max.poll.interval.ms passed without a poll"), now_ms, min_version=3)
            self.member_id = ""
        self.epoch = -1
        self._no_leader()
        self._pending = self._heartbeat = None
        self._rejoin = None
        self._lose_everything()
        self.state = State.OUT

    def _begin_to_leave(self) -> None:
        self.state = State.LEAVING
        self._pending = None
        self._tells.clear()
        if self.holdings and self.epoch >= 0:
            self._tell("revoked", self.holdings)
        else:
            self._lose_everything()

    def _leave(self, now_ms: int) -> None:
        asked = self._leave_on_close if self._is_closing else None
        if self.member_id and (self.config.instance_id is None if asked is None else asked):
            reason = "the consumer is being closed" if self._is_closing else "the consumer unsubscribed"
            self._pending = self._send(self._leave_request(reason), now_ms, min_version=3)
        else:
            self._left()

    def _left(self) -> None:
        if self.config.instance_id is None:
            self.member_id = ""
        self.epoch = -1
        self._joined, self._rejoin, self._last_assigned, self._last_generation = None, None, None, -1
        self._no_leader()
        self._heartbeat = None
        self.state = State.OUT

    def _leave_request(self, reason: str) -> LeaveGroupRequest:
        identity = MemberIdentity(member_id=self.member_id, group_instance_id=self.config.instance_id, reason=reason)
        return LeaveGroupRequest(group_id=self.config.group_id, members=[identity])

    def _refused(self, code: ErrorCode, now_ms: int) -> None:
        error = error_for(code)
        if error.retriable:
            self._back_off(now_ms)
            if self.state is State.SYNCING:
                self._join_again()
            return
        self._fail(error)

    def _fail(self, error: KafkaError) -> None:
        super()._fail(error)
        self._heartbeat = None
        self._no_leader()
        self.state, self.epoch = State.OUT, -1

    def check_invariants(self) -> None:
        """What holds whenever no method is running."""
        if self.failure is not None:
            return
        if self.state is State.OUT:
            assert self._pending is None
            assert self._heartbeat is None
            assert self.epoch == -1
        if self.state is State.STABLE:
            assert self.epoch >= 0
            assert self._is_idle()
        if self.state is State.JOINING:
            assert self._is_idle()
            assert self._is_cooperative or not self.holdings
        if self.is_leader:
            assert self.state not in (State.OUT, State.JOINING)
