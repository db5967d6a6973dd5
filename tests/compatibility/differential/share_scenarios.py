"""Share groups: members, share state, offsets for administrators (KIP-932)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from ottla.core.ids import ZERO_UUID, uuid_to_text
from ottla.protocol.messages import alter_share_group_offsets as altering
from ottla.protocol.messages import delete_share_group_offsets as deleting_offsets
from ottla.protocol.messages import delete_share_group_state as deleting
from ottla.protocol.messages import describe_share_group_offsets as describing
from ottla.protocol.messages import initialize_share_group_state as initializing
from ottla.protocol.messages import offset_commit, offset_delete, offset_fetch
from ottla.protocol.messages import read_share_group_state as reading
from ottla.protocol.messages import read_share_group_state_summary as summing
from ottla.protocol.messages import write_share_group_state as writing
from ottla.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from ottla.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from ottla.protocol.messages.delete_groups import DeleteGroupsRequest
from ottla.protocol.messages.describe_groups import DescribeGroupsRequest
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.protocol.messages.list_groups import ListGroupsRequest
from ottla.protocol.messages.share_group_describe import ShareGroupDescribeRequest
from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from ottla.records.record import Record, build_batch
from tests.compatibility.differential.group_scenarios import coordinator_ready
from tests.compatibility.differential.world import World

OTHER_ID = bytes(range(16))
SHARE = 2
DEADLINE_S = 15.0


def share_coordinator(world: World) -> None:
    topic_id = world.create("found")
    good = f"{world.name('g')}:{uuid_to_text(topic_id)}:0"
    _state_ready(world, "g", topic_id)
    bad = ["", "g", "g:0", f":{uuid_to_text(topic_id)}:0", "g:x:0", f"g:{uuid_to_text(topic_id)}:x"]
    for key in (good, f"a:b:{uuid_to_text(topic_id)}:1", f"g:{uuid_to_text(topic_id)}:-1", *bad):
        request = FindCoordinatorRequest(key_type=SHARE, coordinator_keys=[key])
        answer = world.ask_quietly(request, 6).coordinators[0]
        label = key.replace(uuid_to_text(topic_id), "id").replace(world.name(""), "")
        world.note(f"coordinator of {label!r}", (answer.node_id >= 0, answer.error_code))


class State:
    """Requests about share state of one group."""

    def __init__(self, world: World, group: str, topic_id: bytes) -> None:
        self.world, self.group, self.topic_id = world, world.name(group), topic_id
        _state_ready(world, group, topic_id)

    def initialize(
        self, label: str, *, partition: int = 0, state_epoch: int = 1, start: int = -1, topic_id: bytes | None = None
    ) -> None:
        data = initializing.PartitionData(partition=partition, state_epoch=state_epoch, start_offset=start)
        topic = initializing.InitializeStateData(topic_id=topic_id or self.topic_id, partitions=[data])
        self.world.ask(label, initializing.InitializeShareGroupStateRequest(group_id=self.group, topics=[topic]))

    def write(
        self,
        label: str,
        batches: Iterable[tuple[int, int, int, int]] = (),
        *,
        partition: int = 0,
        state_epoch: int = 1,
        leader_epoch: int = 0,
        start: int = -1,
        complete: int = 0,
        version: int = 1,
        topic_id: bytes | None = None,
    ) -> None:
        data = writing.PartitionData(
            partition=partition,
            state_epoch=state_epoch,
            leader_epoch=leader_epoch,
            start_offset=start,
            delivery_complete_count=complete,
            state_batches=[
                writing.StateBatch(first_offset=first, last_offset=last, delivery_state=state, delivery_count=count)
                for first, last, state, count in batches
            ],
        )
        topic = writing.WriteStateData(topic_id=topic_id or self.topic_id, partitions=[data])
        self.world.ask(label, writing.WriteShareGroupStateRequest(group_id=self.group, topics=[topic]), version)

    def read(self, label: str, *, partition: int = 0, leader_epoch: int = -1, topic_id: bytes | None = None) -> None:
        data = reading.PartitionData(partition=partition, leader_epoch=leader_epoch)
        topic = reading.ReadStateData(topic_id=topic_id or self.topic_id, partitions=[data])
        self.world.ask(label, reading.ReadShareGroupStateRequest(group_id=self.group, topics=[topic]))

    def sum(self, label: str, *, partition: int = 0, version: int = 1, topic_id: bytes | None = None) -> None:
        data = summing.PartitionData(partition=partition, leader_epoch=-1)
        topic = summing.ReadStateSummaryData(topic_id=topic_id or self.topic_id, partitions=[data])
        self.world.ask(label, summing.ReadShareGroupStateSummaryRequest(group_id=self.group, topics=[topic]), version)

    def delete(self, label: str, *, partition: int = 0, topic_id: bytes | None = None) -> None:
        data = deleting.PartitionData(partition=partition)
        topic = deleting.DeleteStateData(topic_id=topic_id or self.topic_id, partitions=[data])
        self.world.ask(label, deleting.DeleteShareGroupStateRequest(group_id=self.group, topics=[topic]))


def share_state(world: World) -> None:
    state = State(world, "state", world.create("state", 2))
    for what in (state.write, state.read, state.sum, state.delete):
        what("not initialized")
    for what in (state.initialize, state.write, state.read, state.sum, state.delete):
        what("negative partition", partition=-1)
        what("unknown partition", partition=2)
        what("unknown topic", topic_id=OTHER_ID)
        what("no topic", topic_id=ZERO_UUID)
    state.initialize("begin")
    state.read("begun")
    state.sum("begun")
    state.sum("begun", version=0)
    state.write("two batches", [(10, 14, 2, 1), (15, 20, 0, 1)], start=10, complete=5)
    state.read("written")
    state.write("between", [(12, 17, 4, 2), (30, 30, 0, 1)], complete=7)
    state.read("laid over")
    state.write("one state", [(21, 29, 0, 1)], complete=7)
    state.read("contiguous")
    state.write("start moves", [], start=16, complete=3)
    state.read("pruned")
    state.write("old version", [(40, 41, 2, 1)], version=0)
    state.sum("without count")
    state.sum("without count", version=0)
    state.write("older state epoch", state_epoch=0)
    state.write("any state epoch", state_epoch=-1)
    state.write("newer state epoch", state_epoch=9)
    state.read("leader of epoch 5", leader_epoch=5)
    state.sum("leader epoch")
    state.write("older leader", leader_epoch=4)
    state.read("older leader", leader_epoch=4)
    state.write("newer leader", leader_epoch=7)
    state.sum("leader epoch after the write")
    state.initialize("older epoch", state_epoch=0)
    state.initialize("anew", state_epoch=2, start=100)
    state.read("anew")
    state.sum("anew")
    state.write("fenced by the initialization")
    state.delete("gone")
    state.read("gone")
    state.sum("gone")


def share_state_of_nothing(world: World) -> None:
    topic_id = world.create("nothing")
    _state_ready(world, "nothing", topic_id)
    requests: list[tuple[Any, Any]] = [
        (initializing.InitializeShareGroupStateRequest, initializing.InitializeStateData),
        (reading.ReadShareGroupStateRequest, reading.ReadStateData),
        (writing.WriteShareGroupStateRequest, writing.WriteStateData),
        (summing.ReadShareGroupStateSummaryRequest, summing.ReadStateSummaryData),
        (deleting.DeleteShareGroupStateRequest, deleting.DeleteStateData),
    ]
    for request, topic in requests:
        name = request.__name__.removesuffix("Request")
        world.ask(f"{name} no topics", request(group_id=world.name("nothing"), topics=[]))
        if name.startswith("Initialize"):
            continue  # answered with no topics by one, with a topic without partitions by the other
        world.ask(
            f"{name} no partitions",
            request(group_id=world.name("nothing"), topics=[topic(topic_id=topic_id, partitions=[])]),
        )
        world.ask(f"{name} no group", request(group_id="", topics=[topic(topic_id=topic_id, partitions=[])]))


class Member:
    """Heartbeats of one member."""

    def __init__(self, world: World, group: str, member_id: str) -> None:
        self.world, self.group, self.member_id, self.epoch = world, world.name(group), member_id, 0
        coordinator_ready(world, group)

    def request(self, topics: tuple[str, ...] | None = None, **values: Any) -> ShareGroupHeartbeatRequest:
        names = None if topics is None else [self.world.name(topic) for topic in topics]
        defaults = {
            "group_id": self.group,
            "member_id": self.member_id,
            "member_epoch": self.epoch,
            "subscribed_topic_names": names,
        }
        return ShareGroupHeartbeatRequest(**(defaults | values))

    def ask(self, label: str, topics: tuple[str, ...] | None = None, **values: Any) -> Any:
        return self.world.ask(label, self.request(topics, **values), 1)

    def join(self, *topics: str, partitions: int) -> None:
        """Join and go on until that many partitions are assigned; then the group is at rest."""
        answer = self.world.ask_quietly(self.request(topics), 1)
        assert answer.error_code == 0, answer
        self.epoch = answer.member_epoch
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if answer.assignment is not None:
                assigned = sum(len(topic.partitions) for topic in answer.assignment.topic_partitions)
                if assigned == partitions:
                    return
            time.sleep(0.1)
            answer = self.world.ask_quietly(self.request(), 1)
            assert answer.error_code == 0, answer
            self.epoch = answer.member_epoch
        raise AssertionError(f"{self.member_id} was not assigned {partitions} partitions: {answer}")


def share_members(world: World) -> None:
    world.create("members", 2)
    member = Member(world, "members", "one")
    for label, values in {
        "no member id": {"member_id": ""},
        "long member id": {"member_id": "m" * 37},
        "no group": {"group_id": ""},
        "blank group": {"group_id": " "},
        "empty rack": {"rack_id": ""},
        "epoch -2": {"member_epoch": -2},
        "no topics": {"subscribed_topic_names": []},
        "null topics": {"subscribed_topic_names": None},
        "group is unknown": {"member_epoch": 3},
        "group to leave is unknown": {"member_epoch": -1},
    }.items():
        member.ask(label, ("members",), **values)
    member.join("members", partitions=2)
    member.ask("alive")
    member.ask("full request", ("members",))
    member.ask("epoch too high", member_epoch=99)
    member.ask("epoch before", member_epoch=member.epoch - 1)
    member.ask("epoch long ago", member_epoch=member.epoch - 2)
    member.ask("who", member_id="who", member_epoch=3)
    member.ask("who leaves", member_id="who", member_epoch=-1)
    member.ask("with a rack", rack_id="r")
    groups = [world.name("members"), world.name("none"), ""]
    for group in groups:
        world.ask(f"describe {group or 'nothing'!r}", ShareGroupDescribeRequest(group_ids=[group]), 1)
    listed = world.ask_quietly(ListGroupsRequest(types_filter=["share"]), 5)
    found = [
        (group.protocol_type, group.group_state, group.group_type)
        for group in listed.groups
        if group.group_id == world.name("members")
    ]
    world.note("listed", found)
    member.ask("leave", member_epoch=-1)
    member.ask("after leaving")
    world.ask("describe the empty group", ShareGroupDescribeRequest(group_ids=groups[:1]), 1)


def share_groups_among_others(world: World) -> None:
    """An id names one group, whatever its kind."""
    world.create("kinds")
    member = Member(world, "kinds", "one")
    member.join("kinds", partitions=1)
    group = world.name("kinds")
    world.ask("describe as a classic group", DescribeGroupsRequest(groups=[group]), 6)
    world.ask("describe as a consumer group", ConsumerGroupDescribeRequest(group_ids=[group]), 0)
    join = JoinGroupRequest(
        group_id=group,
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        member_id="",
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
    )
    world.ask("join as a classic member", join, 9)
    heartbeat = ConsumerGroupHeartbeatRequest(
        group_id=group,
        member_id="other",
        member_epoch=0,
        rebalance_timeout_ms=10_000,
        subscribed_topic_names=[world.name("kinds")],
        topic_partitions=[],
    )
    world.ask("join as a consumer member", heartbeat, 1)
    partition = offset_commit.OffsetCommitRequestPartition(partition_index=0, committed_offset=1)
    topic = offset_commit.OffsetCommitRequestTopic(name=world.name("kinds"), partitions=[partition])
    world.ask("commit", offset_commit.OffsetCommitRequest(group_id=group, topics=[topic]), 9)
    fetched = offset_fetch.OffsetFetchRequestGroup(group_id=group, topics=None)
    world.ask("fetch", offset_fetch.OffsetFetchRequest(groups=[fetched]), 9)
    deleted = offset_delete.OffsetDeleteRequestTopic(
        name=world.name("kinds"), partitions=[offset_delete.OffsetDeleteRequestPartition(partition_index=0)]
    )
    world.ask("delete offsets", offset_delete.OffsetDeleteRequest(group_id=group, topics=[deleted]), 0)
    for states, types in (([], ["share"]), (["stable"], []), (["Empty"], ["Share"])):
        listed = world.ask_quietly(ListGroupsRequest(states_filter=states, types_filter=types), 5)
        found = [one.group_id for one in listed.groups if one.group_id == group]
        world.note(f"listed by {states} {types}", found)
    commit = offset_commit.OffsetCommitRequest(group_id=world.name("classic"), topics=[topic])
    coordinator_ready(world, "classic")
    assert world.ask_quietly(commit, 9).topics[0].partitions[0].error_code == 0
    classic = Member(world, "classic", "one")
    classic.ask("join a classic group", ("kinds",))
    classic.ask("stay in a classic group", member_epoch=2)
    world.ask("describe a classic group", ShareGroupDescribeRequest(group_ids=[classic.group]), 1)
    _alter(world, "classic group", classic.group, {"kinds": [(0, 0)]})
    _delete_offsets(world, "classic group", classic.group, "kinds")
    _describe_offsets(world, "classic group", classic.group, None)
    world.ask("delete both", DeleteGroupsRequest(groups_names=[group, classic.group]), 2)


def share_offsets(world: World) -> None:
    world.create("offsets", 2)
    world.create("others")
    group = world.name("offsets")
    member = Member(world, "offsets", "one")
    _describe_offsets(world, "no group", group, None)
    _describe_offsets(world, "no group", group, {"offsets": [0], "none": [0]})
    _alter(world, "no topics", world.name("offsets"), {})
    member.join("offsets", partitions=2)
    _describe_offsets(world, "nothing consumed", group, None)
    _describe_offsets(world, "no topics", group, {})
    _alter(world, "members", group, {"offsets": [(0, 0)]})
    _delete_offsets(world, "members", group, "offsets")
    world.ask("delete the group with members", DeleteGroupsRequest(groups_names=[group]), 2)
    member.ask("leave", member_epoch=-1)
    records = [Record(number, world.base_ms, None, b"%d" % number) for number in range(3)]
    world.produce("three records", "offsets", build_batch(records))
    _alter(world, "move", group, {"offsets": [(0, 1), (7, 0)], "none": [(0, 0)], "others": [(0, 0)]})
    for version in (0, 1):
        _describe_offsets(world, "moved", group, {"offsets": [0], "others": [0]}, version)
    _alter(world, "no group id", "", {"offsets": [(0, 0)]})
    _delete_offsets(world, "no group id", "", "offsets")
    _delete_offsets(world, "unknown group", world.name("nobody"), "offsets")
    _delete_offsets(world, "delete", group, "offsets")
    _delete_offsets(world, "nothing left", group, "offsets")
    _delete_offsets(world, "unknown topic", group, "none")
    _describe_offsets(world, "deleted", group, {"offsets": [0]})
    world.ask("delete the group", DeleteGroupsRequest(groups_names=[group]), 2)
    world.ask("describe the deleted group", ShareGroupDescribeRequest(group_ids=[group]), 1)
    world.ask("delete it again", DeleteGroupsRequest(groups_names=[group]), 2)
    _describe_offsets(world, "after the group", group, {"others": [0]})


def _describe_offsets(
    world: World, label: str, group: str, topics: dict[str, list[int]] | None, version: int = 1
) -> None:
    wanted = None
    if topics is not None:
        wanted = [
            describing.DescribeShareGroupOffsetsRequestTopic(topic_name=world.name(name), partitions=partitions)
            for name, partitions in topics.items()
        ]
    asked = describing.DescribeShareGroupOffsetsRequestGroup(group_id=group, topics=wanted)
    request = describing.DescribeShareGroupOffsetsRequest(groups=[asked])
    answer = world.ask_quietly(request, version)
    for found in answer.groups:
        found.topics.sort(key=lambda topic: topic.topic_name)
        for topic in found.topics:
            topic.partitions.sort(key=lambda partition: partition.partition_index)
    world.note(f"describe offsets: {label} v{version}", answer)


def _alter(world: World, label: str, group: str, moves: dict[str, list[tuple[int, int]]]) -> None:
    topics = [
        altering.AlterShareGroupOffsetsRequestTopic(
            topic_name=world.name(name),
            partitions=[
                altering.AlterShareGroupOffsetsRequestPartition(partition_index=index, start_offset=offset)
                for index, offset in partitions
            ],
        )
        for name, partitions in moves.items()
    ]
    answer = world.ask_quietly(altering.AlterShareGroupOffsetsRequest(group_id=group, topics=topics), 0)
    answer.responses.sort(key=lambda topic: topic.topic_name)
    world.note(f"alter offsets: {label}", answer)


def _delete_offsets(world: World, label: str, group: str, *names: str) -> None:
    topics = [deleting_offsets.DeleteShareGroupOffsetsRequestTopic(topic_name=world.name(name)) for name in names]
    world.ask(
        f"delete offsets: {label}", deleting_offsets.DeleteShareGroupOffsetsRequest(group_id=group, topics=topics), 0
    )


def _state_ready(world: World, group: str, topic_id: bytes) -> None:
    """Wait until the share coordinator is there; the first request may have to create its topic."""
    key = f"{world.name(group)}:{uuid_to_text(topic_id)}:0"
    data = summing.PartitionData(partition=0, leader_epoch=-1)
    request = summing.ReadShareGroupStateSummaryRequest(
        group_id=world.name(group), topics=[summing.ReadStateSummaryData(topic_id=topic_id, partitions=[data])]
    )
    while True:
        found = world.ask_quietly(FindCoordinatorRequest(key_type=SHARE, coordinator_keys=[key]), 6).coordinators[0]
        if found.error_code == 0:
            answer = world.ask_quietly(request, 1)
            if answer.results[0].partitions[0].error_code == 0:
                return
        time.sleep(0.05)


SCENARIOS = (
    share_coordinator,
    share_state,
    share_state_of_nothing,
    share_members,
    share_groups_among_others,
    share_offsets,
)
