"""Random members that join, leave, fall silent and come back, against what a group promises."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.join_group import JoinGroupResponse
from ottla.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse
from ottla.server.coordinator.classic.group import GroupState
from ottla.server.coordinator.group_shard import durable_state
from ottla.server.coordinator.result import Pending
from tests.server.coordinator.driver import Driver

CLIENTS = 4


class Client:
    """A consumer that does the next right thing when asked; odd ones are static, the first is an old client."""

    def __init__(self, driver: Driver, index: int, history: dict[int, Generation]) -> None:
        self.driver = driver
        self.index = index
        self.history = history
        self.instance = f"i{index}" if index % 2 else None
        self.version = 3 if index == 0 else 9
        self.metadata = b"m"
        self.forget()

    def forget(self) -> None:
        """The process restarts: only the instance id survives."""
        self.member_id = ""
        self.generation = -1
        self.join: Pending[JoinGroupResponse] | None = None
        self.sync: Pending[SyncGroupResponse] | None = None
        self.joined: JoinGroupResponse | None = None
        self.assignment: bytes | None = None

    def act(self) -> None:
        if self.join is not None:
            self._joined(self.join)
        elif self.sync is not None:
            self._synced(self.sync)
        elif self.joined is not None:
            self._send_sync(self.joined)
        elif self.assignment is not None:
            self._heartbeat()
        else:
            self._send_join()

    def _send_join(self) -> None:
        self.join = self.driver.join(
            self.member_id,
            client=f"c{self.index}",
            version=self.version,
            instance=self.instance,
            protocols=(("range", self.metadata), (f"only{self.index}", b"")),
            session_ms=10_000,
            rebalance_ms=20_000,
        )
        self._joined(self.join)

    def _joined(self, pending: Pending[JoinGroupResponse]) -> None:
        response = pending.response
        if response is None:
            return
        self.join = None
        code = ErrorCode(response.error_code)
        if code is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = response.member_id
        elif code is ErrorCode.NONE:
            self.member_id = response.member_id
            self.generation = response.generation_id
            self.history.setdefault(self.generation, Generation()).joined(response)
            self.joined = response
        else:
            assert code in (
                ErrorCode.UNKNOWN_MEMBER_ID,
                ErrorCode.FENCED_INSTANCE_ID,
                ErrorCode.REBALANCE_IN_PROGRESS,
                ErrorCode.COORDINATOR_NOT_AVAILABLE,
            ), code
            self.member_id = ""

    def _send_sync(self, joined: JoinGroupResponse) -> None:
        self.joined = None
        assignments = []
        if joined.leader == self.member_id and not joined.skip_assignment:
            given_out = {
                member.member_id: f"{self.generation}:{member.member_id}".encode() for member in joined.members
            }
            assignments = [
                SyncGroupRequestAssignment(member_id=member_id, assignment=assignment)
                for member_id, assignment in given_out.items()
            ]
        request = SyncGroupRequest(
            group_id="g",
            generation_id=self.generation,
            member_id=self.member_id,
            group_instance_id=self.instance,
            assignments=assignments,
        )
        self.sync = self.driver.sync(request)
        self._synced(self.sync)

    def _synced(self, pending: Pending[SyncGroupResponse]) -> None:
        response = pending.response
        if response is None:
            return
        self.sync = None
        if response.error_code == ErrorCode.NONE:
            self.assignment = bytes(response.assignment)
        else:
            self._failed(ErrorCode(response.error_code))

    def _heartbeat(self) -> None:
        request = HeartbeatRequest(
            group_id="g", generation_id=self.generation, member_id=self.member_id, group_instance_id=self.instance
        )
        code = self.driver.shard.classic.heartbeat(request, self.driver.now().monotonic_ms)
        if code is not ErrorCode.NONE:
            self._failed(code)

    def commit(self, offset: int) -> None:
        request = OffsetCommitRequest(
            group_id="g",
            generation_id_or_member_epoch=self.generation,
            member_id=self.member_id,
            group_instance_id=self.instance,
            topics=[
                OffsetCommitRequestTopic(
                    name="t",
                    partitions=[OffsetCommitRequestPartition(partition_index=self.index, committed_offset=offset)],
                )
            ],
        )
        try:
            result = self.driver.shard.offsets.commit(request, 9, self.driver.now())
        except ApiError:
            return
        self.driver.apply(result)

    def leave(self) -> None:
        identity = MemberIdentity(member_id=self.member_id, group_instance_id=self.instance)
        request = LeaveGroupRequest(group_id="g", members=[identity])
        self.driver.apply(self.driver.shard.classic.leave(request, self.driver.now()))
        self.forget()

    def _failed(self, code: ErrorCode) -> None:
        self.assignment = None
        if code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            self.member_id = ""


class Generation:
    """What the members of one generation were told."""

    def __init__(self) -> None:
        self.leaders: set[str] = set()
        self.protocols: set[Any] = set()
        self.with_members: list[set[str]] = []

    def joined(self, response: JoinGroupResponse) -> None:
        self.protocols.add((response.protocol_type, response.protocol_name))
        if not response.skip_assignment:
            self.leaders.add(response.leader)
        if response.members:
            self.with_members.append({member.member_id for member in response.members})


ACTIONS = st.one_of(
    st.tuples(st.just("act"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("act"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("act"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("forget"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("leave"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("commit"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("metadata"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("advance"), st.sampled_from([1, 2_999, 3_000, 9_000, 25_000])),
    st.tuples(st.just("refuse"), st.just(0)),
    st.tuples(st.just("restart"), st.just(0)),
)


def _do(driver: Driver, clients: list[Client], action: str, argument: int, step: int) -> None:
    if action == "advance":
        driver.advance(argument)
    elif action == "refuse":
        driver.refuse_next = ErrorCode.NOT_ENOUGH_REPLICAS
    elif action == "restart":
        driver.restart()
        for client in clients:
            # Connections broke: what was parked is not answered any more.
            client.join = client.sync = None
    elif action == "forget":
        clients[argument].forget()
    elif action == "leave":
        clients[argument].leave()
    elif action == "commit":
        clients[argument].commit(step)
    elif action == "metadata":
        clients[argument].metadata = b"m%d" % step
        clients[argument].assignment = None
    else:
        clients[argument].act()


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=60))
def test_groups_keep_their_promises_and_settle(actions: list[tuple[str, int]]) -> None:
    driver = Driver()
    history: dict[int, Generation] = {}
    clients = [Client(driver, index, history) for index in range(CLIENTS)]
    intact = True
    for step, (action, argument) in enumerate(actions):
        intact = intact and action != "refuse"
        _do(driver, clients, action, argument, step)
        driver.shard.check_invariants()
        if intact:
            _check_restart(driver)
    driver.refuse_next = None
    for _ in range(120):
        for client in clients:
            client.act()
        driver.advance(1_000)
    group = driver.shard.classic.groups["g"]
    assert group.state is GroupState.STABLE
    assert {client.generation for client in clients} == {group.generation_id}
    assert {client.member_id for client in clients} == set(group.members)
    for client in clients:
        assert client.assignment == f"{group.generation_id}:{client.member_id}".encode()
    assert driver.shard.completions == []


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTIONS.filter(lambda action: action[0] not in ("refuse", "restart", "forget")), max_size=60))
def test_a_generation_has_one_leader_and_one_protocol(actions: list[tuple[str, int]]) -> None:
    driver = Driver()
    history: dict[int, Generation] = {}
    clients = [Client(driver, index, history) for index in range(CLIENTS)]
    for step, (action, argument) in enumerate(actions):
        _do(driver, clients, action, argument, step)
        for generation in history.values():
            assert len(generation.leaders) == 1
            assert len(generation.protocols) == 1
            assert all(members == generation.with_members[0] for members in generation.with_members)


def _check_restart(driver: Driver) -> None:
    """A shard out of the log knows what the living one knows, unless a rebalance is under way."""
    group = driver.shard.classic.groups.get("g")
    if group is not None and group.state not in (GroupState.STABLE, GroupState.EMPTY):
        return
    living = durable_state(driver.shard)
    other = Driver(driver.settings)
    other.log = driver.log
    other.restart()
    assert durable_state(other.shard) == living
