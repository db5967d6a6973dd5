"""Coordinators as simple as they can be: what a group of either protocol does, for members to be run against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ottla.core.errors import ErrorCode
from ottla.protocol.message import Request
from ottla.protocol.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatResponseTopicPartitions,
)
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.join_group import (
    JoinGroupRequest,
    JoinGroupResponse,
    JoinGroupResponseMember,
)
from ottla.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from tests.client.consumer.group.world import TOPIC_IDS, Coordinator, Reply, World

SESSION_MS = 6_000
MODERN_HEARTBEAT_MS = 1_000


@dataclass
class ClassicMember:
    request: JoinGroupRequest
    expires_ms: int
    join: Reply | None = None
    sync: Reply | None = None


class ClassicModel(Coordinator):
    """PREPARING until all known members have joined (or are too late), COMPLETING until the leader synced, STABLE."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.members: dict[str, ClassicMember] = {}
        self.state = "stable"
        self.generation = 0
        self.leader = ""
        self.assignments: dict[str, bytes] = {}
        self.rebalance_ends_ms = 0
        self.numbers = 0
        self.pending: set[str] = set()

    def handle(self, request: Request, reply: Reply) -> None:
        match request:
            case JoinGroupRequest():
                self._join(request, reply)
            case SyncGroupRequest():
                self._sync(request, reply)
            case HeartbeatRequest():
                reply(HeartbeatResponse(error_code=self._heartbeat(request)))
            case LeaveGroupRequest():
                for identity in request.members:
                    self._remove(identity.member_id)
                reply(LeaveGroupResponse())

    def tick(self) -> None:
        now_ms = self.world.now_ms
        for member_id, member in list(self.members.items()):
            if member.join is None and member.expires_ms <= now_ms:
                self.expired.add(member_id)
                self._remove(member_id)
        if self.state == "preparing":
            if now_ms >= self.rebalance_ends_ms:
                for member_id in [member_id for member_id, member in self.members.items() if member.join is None]:
                    del self.members[member_id]
            if all(member.join is not None for member in self.members.values()):
                self._complete()
        elif self.state == "completing" and now_ms >= self.rebalance_ends_ms:
            for member_id in [member_id for member_id, member in self.members.items() if member.sync is None]:
                del self.members[member_id]
            self._prepare()

    def _join(self, request: JoinGroupRequest, reply: Reply) -> None:
        member_id = request.member_id
        if not member_id:
            self.numbers += 1
            self.pending.add(f"m{self.numbers}")
            reply(JoinGroupResponse(error_code=ErrorCode.MEMBER_ID_REQUIRED, member_id=f"m{self.numbers}"))
            return
        if member_id not in self.members and member_id not in self.pending:
            reply(JoinGroupResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID, member_id=member_id))
            return
        self.pending.discard(member_id)
        known = self.members.get(member_id)
        if known is not None and self.state == "stable" and member_id != self.leader and known.request == request:
            reply(self._joined(member_id))
            return
        self.members[member_id] = ClassicMember(request, self.world.now_ms + SESSION_MS, join=reply)
        if self.state != "preparing":
            self._prepare()
        self.tick()

    def _prepare(self) -> None:
        self.state = "preparing"
        self.rebalance_ends_ms = self.world.now_ms + max(
            (member.request.rebalance_timeout_ms for member in self.members.values()), default=0
        )
        for member in self.members.values():
            if member.sync is not None:
                member.sync(SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS))
                member.sync = None

    def _complete(self) -> None:
        self.generation += 1
        self.assignments = {}
        self.state = "completing" if self.members else "stable"
        self.leader = self.leader if self.leader in self.members else next(iter(self.members), "")
        self.rebalance_ends_ms = self.world.now_ms + max(
            (member.request.rebalance_timeout_ms for member in self.members.values()), default=0
        )
        for member_id, member in self.members.items():
            assert member.join is not None
            member.join(self._joined(member_id))
            member.join, member.expires_ms = None, self.world.now_ms + SESSION_MS

    def _joined(self, member_id: str) -> JoinGroupResponse:
        protocol = next(iter(self.members.values())).request.protocols[0].name
        return JoinGroupResponse(
            generation_id=self.generation,
            protocol_type="consumer",
            protocol_name=protocol,
            leader=self.leader,
            member_id=member_id,
            members=[
                JoinGroupResponseMember(member_id=other_id, metadata=other.request.protocols[0].metadata)
                for other_id, other in self.members.items()
                if member_id == self.leader
            ],
        )

    def _sync(self, request: SyncGroupRequest, reply: Reply) -> None:
        member = self.members.get(request.member_id)
        if member is None:
            reply(SyncGroupResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID))
        elif request.generation_id != self.generation:
            reply(SyncGroupResponse(error_code=ErrorCode.ILLEGAL_GENERATION))
        elif self.state == "preparing":
            reply(SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS))
        elif self.state == "stable":
            reply(SyncGroupResponse(assignment=self.assignments.get(request.member_id, b"\0\0\0\0\0\0\0\0\0\0")))
        else:
            member.sync = reply
            if request.member_id == self.leader:
                self.assignments = {given.member_id: given.assignment for given in request.assignments}
                self.state = "stable"
                for other_id, other in self.members.items():
                    if other.sync is not None:
                        other.sync(SyncGroupResponse(assignment=self.assignments[other_id]))
                        other.sync, other.expires_ms = None, self.world.now_ms + SESSION_MS

    def _heartbeat(self, request: HeartbeatRequest) -> ErrorCode:
        member = self.members.get(request.member_id)
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if request.generation_id != self.generation:
            return ErrorCode.ILLEGAL_GENERATION
        member.expires_ms = self.world.now_ms + SESSION_MS
        return ErrorCode.REBALANCE_IN_PROGRESS if self.state == "preparing" else ErrorCode.NONE

    def _remove(self, member_id: str) -> None:
        if self.members.pop(member_id, None) is not None and self.state != "preparing":
            self._prepare()


@dataclass
class ModernMember:
    expires_ms: int
    epoch: int = 0
    given: set[tuple[bytes, int]] = field(default_factory=set)
    told: set[tuple[bytes, int]] | None = None
    topics: list[str] = field(default_factory=list)


class ModernModel(Coordinator):
    """Deals partitions out in turn; takes away first, and gives what nobody else has any more."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.members: dict[str, ModernMember] = {}
        self.epoch = 0
        self.target: dict[str, set[tuple[bytes, int]]] = {}

    def handle(self, request: Request, reply: Reply) -> None:
        assert isinstance(request, ConsumerGroupHeartbeatRequest)
        member = self.members.get(request.member_id)

        def refuse(code: ErrorCode) -> None:
            reply(ConsumerGroupHeartbeatResponse(error_code=code, member_epoch=0, heartbeat_interval_ms=0))

        if request.member_epoch < 0:
            if self.members.pop(request.member_id, None) is not None:
                self._retarget()
            reply(ConsumerGroupHeartbeatResponse(member_epoch=request.member_epoch, heartbeat_interval_ms=0))
            return
        if request.member_epoch == 0:
            assert request.topic_partitions == []
            assert request.subscribed_topic_names is not None
            # Who joins anew under its id has nothing any more.
            self.members[request.member_id] = member = ModernMember(0, topics=request.subscribed_topic_names)
            self._retarget()
        elif member is None:
            refuse(ErrorCode.UNKNOWN_MEMBER_ID)
            return
        elif request.member_epoch not in (member.epoch, member.epoch - 1) or request.member_epoch > member.epoch:
            refuse(ErrorCode.FENCED_MEMBER_EPOCH)
            return
        member.expires_ms = self.world.now_ms + SESSION_MS
        if request.topic_partitions is not None:
            owned = {(topic.topic_id, index) for topic in request.topic_partitions for index in topic.partitions}
            target = self.target[request.member_id]
            if owned <= member.given:
                member.given = (member.given & target) | owned
        reply(self._response(request.member_id, member, full=request.subscribed_topic_names is not None))

    def _response(self, member_id: str, member: ModernMember, *, full: bool) -> ConsumerGroupHeartbeatResponse:
        target = self.target[member_id]
        if member.given <= target:
            taken = {place for other in self.members.values() if other is not member for place in other.given}
            member.given = member.given | (target - taken)
            member.epoch = self.epoch
            assigned = set(member.given)
        else:
            assigned = member.given & target
        assignment = None
        if full or assigned != member.told:
            member.told = assigned
            assignment = Assignment(
                topic_partitions=[
                    ConsumerGroupHeartbeatResponseTopicPartitions(
                        topic_id=topic_id, partitions=sorted(index for other, index in assigned if other == topic_id)
                    )
                    for topic_id in sorted({topic_id for topic_id, _ in assigned})
                ]
            )
        return ConsumerGroupHeartbeatResponse(
            member_id=member_id,
            member_epoch=member.epoch,
            heartbeat_interval_ms=MODERN_HEARTBEAT_MS,
            assignment=assignment,
        )

    def _retarget(self) -> None:
        self.epoch += 1
        self.target = {member_id: set() for member_id in self.members}
        line = sorted(self.members)
        for number, place in enumerate(sorted(self.world.everything)):
            if line:
                self.target[line[number % len(line)]].add((TOPIC_IDS[place.topic], place.partition))

    def tick(self) -> None:
        gone = [member_id for member_id, member in self.members.items() if member.expires_ms <= self.world.now_ms]
        for member_id in gone:
            del self.members[member_id]
        if gone:
            self._retarget()


MODELS: dict[str, Callable[[World], Coordinator]] = {"classic": ClassicModel, "consumer": ModernModel}
