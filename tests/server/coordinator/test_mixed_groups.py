"""Members of both protocols in one group that becomes classic, consumer and classic again, at random.

Nobody is asked to behave: the group keeps its invariants, a restart brings back what was there, and whatever the
coordinator counts as a member's has no other owner. In the end members that do behave arrive.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.codec import decode, encode
from ottla.protocol.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolAssignmentTopicPartition,
)
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from ottla.server.coordinator.classic.group import ClassicGroup, GroupState
from ottla.server.coordinator.consumer.group import ConsumerGroup
from ottla.server.coordinator.group_shard import durable_state
from ottla.server.coordinator.settings import GroupSettings
from tests.server.coordinator.consumer_driver import ConsumerDriver
from tests.server.coordinator.driver import subscription

PARTITIONS = 6


class Classic:
    """A member of the classic protocol that drops everything before it joins (eager rebalancing)."""

    def __init__(self, driver: ConsumerDriver, index: int) -> None:
        self.driver = driver
        self.instance = f"i{index}" if index % 2 else None
        self.forget()

    def forget(self) -> None:
        self.member_id = ""
        self.generation = -1
        self.joining: Any = None
        self.syncing: Any = None
        self.consumed: set[int] = set()

    def act(self) -> None:
        if self.joining is not None:
            self._joined(self.joining.response)
        elif self.syncing is not None:
            self._synced(self.syncing.response)
        elif self.generation < 0:
            self.consumed = set()
            self.joining = self.driver.join(
                self.member_id, instance=self.instance, protocols=(("range", subscription("t")),)
            )
        else:
            request = HeartbeatRequest(
                group_id="g",
                generation_id=self.generation,
                member_id=self.member_id,
                group_instance_id=self.instance,
            )
            self._refused(self.driver.shard.heartbeat(request, self.driver.now().monotonic_ms))

    def _refused(self, code: ErrorCode) -> None:
        if code in (ErrorCode.REBALANCE_IN_PROGRESS, ErrorCode.NOT_ENOUGH_REPLICAS):
            self.generation = -1
        elif code is not ErrorCode.NONE:
            self.forget()

    def _joined(self, response: Any) -> None:
        if response is None:
            return
        self.joining = None
        if response.error_code == ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = response.member_id
        elif response.error_code:
            self._refused(ErrorCode(response.error_code))
        else:
            self.member_id, self.generation = response.member_id, response.generation_id
            assignments = []
            if response.leader == response.member_id:
                names = [member.member_id for member in response.members] or [response.member_id]
                for position, name in enumerate(names):
                    assignments.append((name, range(position, PARTITIONS, len(names))))
            self.syncing = self.driver.sync(
                SyncGroupRequest(
                    group_id="g",
                    generation_id=self.generation,
                    member_id=self.member_id,
                    group_instance_id=self.instance,
                    assignments=[
                        SyncGroupRequestAssignment(member_id=name, assignment=_assignment(list(indexes)))
                        for name, indexes in assignments
                    ],
                )
            )

    def _synced(self, response: Any) -> None:
        if response is None:
            return
        self.syncing = None
        if response.error_code:
            self._refused(ErrorCode(response.error_code))
            return
        raw = bytes(response.assignment)
        found = decode(ConsumerProtocolAssignment, 0, raw, 2).assigned_partitions if raw else []
        self.consumed = {index for topic in found for index in topic.partitions}

    def leave(self) -> None:
        request = LeaveGroupRequest(
            group_id="g", members=[MemberIdentity(member_id=self.member_id, group_instance_id=self.instance)]
        )
        self.driver.apply(self.driver.shard.leave(request, self.driver.now()))
        self.forget()


class Modern:
    """A member of the new protocol that gives up at once what it has to."""

    def __init__(self, driver: ConsumerDriver, index: int) -> None:
        self.driver = driver
        self.instance = f"i{index}" if index % 2 else None
        self.index = index
        self.lives = 0
        self.forget()

    def forget(self) -> None:
        self.lives += 1
        self.member_id = f"n{self.index}-{self.lives}"
        self.epoch = 0
        self.consumed: set[int] = set()

    def act(self) -> None:
        try:
            response = self.driver.heartbeat(
                self.member_id,
                self.epoch,
                ("t",),
                owned={"t": sorted(self.consumed)} if self.consumed else {},
                instance=self.instance,
                rebalance_ms=60_000,
            )
        except ApiError as error:
            if error.code not in (ErrorCode.UNRELEASED_INSTANCE_ID, ErrorCode.NOT_ENOUGH_REPLICAS):
                self.forget()
            return
        self.epoch = response.member_epoch
        assigned = self.driver.assigned(response)
        if assigned is not None:
            self.consumed = set(assigned.get("t", ()))

    def leave(self) -> None:
        self.driver.code_of(self.member_id, -1, instance=self.instance)
        self.forget()


def _assignment(indexes: list[int]) -> bytes:
    topics = [ConsumerProtocolAssignmentTopicPartition(topic="t", partitions=indexes)]
    return b"\0\0" + encode(ConsumerProtocolAssignment(assigned_partitions=topics), 0)


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(f"mixed groups {seed}")
        self.driver = ConsumerDriver(GroupSettings(initial_rebalance_delay_ms=0))
        self._configure()
        self.driver.put_topic("t", PARTITIONS)
        self.members: list[Classic | Modern] = []
        self.born = 2
        self.kinds: set[type[object]] = set()

    def _configure(self) -> None:
        context = self.driver.shard.context
        configs = dict(context.config_of("g"))
        configs["consumer.assignment.interval.ms"] = 0
        context._configs = lambda image, group_id: configs
        context._known_configs.clear()

    def step(self) -> None:
        dice = self.random.random()
        if dice < 0.06 and len(self.members) < 5:
            kind = self.random.choice([Classic, Modern])
            self.members.append(kind(self.driver, self.born))
            self.born += 1
        elif dice < 0.10 and self.members:
            self.members.pop(self.random.randrange(len(self.members))).leave()
        elif dice < 0.12 and self.members:
            # It dies: its session has to end.
            self.members.pop(self.random.randrange(len(self.members)))
        elif dice < 0.14:
            settled, before = self._is_settled(), durable_state(self.driver.shard)
            compacted = self.random.randrange(len(self.driver.log) + 1)
            self.driver.compact(compacted, is_late=self.random.random() < 0.5)
            self.driver.restart()
            assert durable_state(self.driver.shard) == before or not settled
            self._configure()
            for member in self.members:
                if isinstance(member, Classic):
                    # Whatever was parked went with the connection.
                    member.joining = member.syncing = None
                    member.generation = -1
        elif dice < 0.16 and self.members:
            self.driver.refuse_next = ErrorCode.NOT_ENOUGH_REPLICAS
            self.random.choice(self.members).act()
            self.driver.refuse_next = None
        elif dice < 0.22:
            self.driver.advance(self.random.choice([100, 3_000, 11_000]))
        elif self.members:
            self.random.choice(self.members).act()
        group = self.driver.shard.groups.get("g")
        self.kinds.add(type(group))

    def _is_settled(self) -> bool:
        """A generation that is being negotiated is not written down."""
        group = self.driver.shard.classic.get("g")
        return group is None or group.state in (GroupState.STABLE, GroupState.EMPTY)

    def settle(self) -> None:
        if not self.members:
            self.members.append(Modern(self.driver, self.born))
        for _ in range(60):
            for member in self.members:
                member.act()
            self.driver.advance(1_000)
        group = self.driver.shard.groups["g"]
        consumed = sorted(index for member in self.members for index in member.consumed)
        assert (group.state_name, consumed) == ("Stable", list(range(PARTITIONS)))
        assert isinstance(group, ClassicGroup) == all(isinstance(member, Classic) for member in self.members)


@pytest.mark.parametrize("seed", range(15))
def test_members_of_both_protocols_arrive(seed: int) -> None:
    world = World(seed)
    first, second = Classic(world.driver, 0), Modern(world.driver, 1)
    while not first.consumed:
        first.act()
        world.driver.advance(0)
    world.kinds.add(type(world.driver.shard.groups["g"]))
    second.act()
    world.members += [first, second]
    for _ in range(250):
        world.step()
    world.settle()
    assert {ClassicGroup, ConsumerGroup} <= world.kinds


def test_a_static_member_that_changes_its_protocol_gets_partitions_that_came_while_it_was_away() -> None:
    driver = ConsumerDriver(GroupSettings())
    driver.put_topic("t", PARTITIONS)
    classic = Classic(driver, 1)
    for _ in range(4):
        classic.act()
        driver.advance(4_000)
    assert classic.consumed == set(range(PARTITIONS))
    driver.put_topic("t", PARTITIONS + 2)
    response = driver.heartbeat("new", topics=("t",), instance="i1")
    owned = driver.assigned(response)
    for _ in range(3):
        driver.advance(2_000)
        response = driver.heartbeat("new", response.member_epoch, instance="i1", topics=("t",), owned=owned)
        owned = driver.assigned(response) or owned
    assert owned == {"t": list(range(PARTITIONS + 2))}


@pytest.mark.parametrize("restart_in_round", [None, 0, 1])
def test_classic_members_that_waited_for_partitions_get_them_when_the_group_becomes_classic(
    restart_in_round: int | None,
) -> None:
    driver = ConsumerDriver(GroupSettings(initial_rebalance_delay_ms=0))
    driver.put_topic("t", PARTITIONS)
    driver.advance(2_000)
    first = driver.heartbeat("new", topics=("t",), instance="i1")
    assert driver.assigned(first) == {"t": list(range(PARTITIONS))}
    driver.advance(2_000)
    waiting, successor = Classic(driver, 0), Classic(driver, 1)
    for _ in range(4):
        waiting.act()
    assert waiting.generation > 0
    assert waiting.consumed == set()  # it is the other one's turn, and that one never speaks again
    for round_number in range(12):
        successor.act()
        waiting.act()
        driver.advance(1_000)
        if round_number == restart_in_round:
            driver.restart()
    assert isinstance(driver.shard.groups["g"], ClassicGroup)
    assert sorted([*successor.consumed, *waiting.consumed]) == list(range(PARTITIONS))
    assert waiting.consumed
