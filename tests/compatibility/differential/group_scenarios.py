"""The classic group protocol, offsets, and what describes, lists and deletes groups."""

from __future__ import annotations

import time
from typing import Any

from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages import offset_commit, offset_delete, offset_fetch
from ottla.protocol.messages.delete_groups import DeleteGroupsRequest
from ottla.protocol.messages.describe_groups import DescribeGroupsRequest
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.list_groups import ListGroupsRequest
from ottla.protocol.messages.offset_commit import OffsetCommitRequest
from ottla.protocol.messages.offset_delete import OffsetDeleteRequest
from ottla.protocol.messages.offset_fetch import OffsetFetchRequest
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from tests.compatibility.differential.world import World

OTHER_ID = bytes(range(16))
# A ConsumerProtocol subscription to the topic "t", and an assignment of its partition 0.
SUBSCRIPTION = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"
ASSIGNMENT = b"\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\xff\xff\xff\xff"


def coordinator_ready(world: World, *groups: str) -> None:
    """Wait until the coordinator of these groups has loaded; the first request may have to create its topic."""
    for group in groups:
        while True:
            request = FindCoordinatorRequest(key_type=0, coordinator_keys=[world.name(group)])
            found = world.ask_quietly(request, 4).coordinators[0]
            if found.error_code == 0:
                described = world.ask_quietly(DescribeGroupsRequest(groups=[world.name(group)]), 0)
                if described.groups[0].error_code == 0:
                    break
            time.sleep(0.02)


def find_coordinator(world: World) -> None:
    coordinator_ready(world, "found")
    for version in world.versions(FindCoordinatorRequest):
        kinds = (0,) if version == 0 else (0, 2, 3, -1, 99)
        for kind in kinds:
            for key in (world.name("found"), ""):
                if kind == 2 and key:
                    continue
                label = f"type {kind} key {'named' if key else 'empty'}"
                if version < 4:
                    world.ask(label, FindCoordinatorRequest(key=key, key_type=kind), version)
                else:
                    world.ask(label, FindCoordinatorRequest(key_type=kind, coordinator_keys=[key]), version)
        if version >= 4:
            keys = [world.name("found"), "", world.name("found")]
            world.ask("three keys", FindCoordinatorRequest(key_type=0, coordinator_keys=keys), version)
            world.ask("no keys", FindCoordinatorRequest(key_type=0, coordinator_keys=[]), version)


class Group:
    """Requests of one group; `member` is the id that a joined member got."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, world.name(name)
        self.protocol_type, self.protocol_name = "consumer", "range"
        coordinator_ready(world, name)

    def join_request(self, member: str = "", **options: Any) -> JoinGroupRequest:
        protocols = options.pop("protocols", [("range", SUBSCRIPTION)])
        defaults = {
            "group_id": self.name,
            "session_timeout_ms": 30_000,
            "rebalance_timeout_ms": 60_000,
            "protocol_type": "consumer",
            "member_id": member,
            "protocols": [JoinGroupRequestProtocol(name=name, metadata=metadata) for name, metadata in protocols],
        }
        return JoinGroupRequest(**(defaults | options))

    def join(self, label: str, member: str = "", version: int | None = None, **options: Any) -> Any:
        wire = options.pop("wire", None)
        return self.world.ask(label, self.join_request(member, **options), version, wire=wire)

    def join_fully(self, label: str, version: int = 9, **options: Any) -> Any:
        """Join as a member that has to ask twice, once for its id."""
        first = self.join(f"{label}: id", "", version, **options)
        return self.join(f"{label}: join", first.member_id, version, **options)

    def sync_request(self, generation: int, member: str, **options: Any) -> SyncGroupRequest:
        pairs = options.pop("assignments", [])
        options = {"protocol_type": self.protocol_type, "protocol_name": self.protocol_name} | options
        entries = [SyncGroupRequestAssignment(member_id=name, assignment=content) for name, content in pairs]
        return SyncGroupRequest(
            group_id=options.pop("group_id", self.name),
            generation_id=generation,
            member_id=member,
            assignments=entries,
            **options,
        )

    def sync(self, label: str, generation: int, member: str, version: int | None = None, **options: Any) -> Any:
        wire = options.pop("wire", None)
        return self.world.ask(label, self.sync_request(generation, member, **options), version, wire=wire)

    def heartbeat(self, label: str, generation: int, member: str, version: int = 4, **options: Any) -> None:
        request = HeartbeatRequest(
            group_id=options.pop("group_id", self.name), generation_id=generation, member_id=member, **options
        )
        self.world.ask(label, request, version)

    def leave(self, label: str, *members: MemberIdentity, version: int = 5, group_id: str | None = None) -> None:
        group_id = self.name if group_id is None else group_id
        if version < 3:
            request = LeaveGroupRequest(group_id=group_id, member_id=members[0].member_id)
        else:
            request = LeaveGroupRequest(group_id=group_id, members=list(members))
        self.world.ask(label, request, version)

    def describe(self, label: str, version: int = 6) -> None:
        """Kafka may refuse a join before it has written down the group that the join made."""
        self.world.settle(label, DescribeGroupsRequest(groups=[self.name]), version)

    def commit(
        self,
        label: str,
        offset: int = 5,
        version: int = 8,
        *,
        generation: int = -1,
        member: str = "",
        topic: str = "committed",
        partition: int = 0,
        metadata: str | None = "m",
        topic_id: bytes = ZERO_UUID,
        **options: Any,
    ) -> Any:
        entry = offset_commit.OffsetCommitRequestPartition(
            partition_index=partition, committed_offset=offset, committed_leader_epoch=0, committed_metadata=metadata
        )
        named = offset_commit.OffsetCommitRequestTopic(
            name=topic if topic in ("", "a b") else self.world.name(topic), topic_id=topic_id, partitions=[entry]
        )
        request = OffsetCommitRequest(
            group_id=options.pop("group_id", self.name),
            generation_id_or_member_epoch=generation,
            member_id=member,
            topics=[named],
            **options,
        )
        return self.world.ask(label, request, version)


def joining(world: World) -> None:
    group = Group(world, "joining")
    for version in world.versions(JoinGroupRequest):
        group.join("empty group id", "", version, group_id="")
        group.join("unknown member", "who", version)
        for timeout in (1, 5_999, 1_800_001, -1):
            group.join(f"session timeout {timeout}", "", version, session_timeout_ms=timeout)
        group.join("no protocols", "", version, protocols=[])
        group.join("empty protocol type", "", version, protocol_type="")
        world.ask("unknown group", DescribeGroupsRequest(groups=[world.name("joining-none")]), min(version, 6))
        one = Group(world, f"joining-{version}")
        first = one.join("first", "", version)
        if first.error_code == 79:
            one.describe("waiting for it")
            one.join("with another id", "other", version)
            first = one.join("with the id", first.member_id, version)
        one.describe("joined")
        one.join("wrong protocol type", "", version, protocol_type="connect")
        one.join("wrong protocol type of a member", first.member_id, version, protocol_type="connect")
        one.join("no common protocol", "", version, protocols=[("roundrobin", b"x")])
        one.heartbeat("before the sync", 1, first.member_id)
        member = first.member_id
        sync_version = min(version, 5)
        one.sync("wrong generation", 7, member, sync_version)
        one.sync("unknown member", 1, "who", sync_version)
        one.sync("leader", 1, member, sync_version, assignments=[(member, b"assigned")])
        one.sync("again", 1, member, sync_version)
        one.describe("stable", 0)
        one.describe("stable", 6)
        one.heartbeat("alive", 1, member, min(version, 4))
        one.heartbeat("wrong generation", 2, member, min(version, 4))
        one.heartbeat("generation -1", -1, member, min(version, 4))
        one.heartbeat("unknown member", 1, "who", min(version, 4))
        one.heartbeat("empty member", 1, "", min(version, 4))
        one.heartbeat("empty group", 1, member, min(version, 4), group_id="")
        one.heartbeat("unknown group", 1, member, min(version, 4), group_id=world.name("nobody"))
        again = one.join("rejoins unchanged", member, version)
        one.sync("after it", again.generation_id, member, sync_version, assignments=[(member, b"other")])
        one.join("rejoins with others", member, version, protocols=[("range", b"new"), ("sticky", b"y")])
        one.describe("rejoined")
        one.sync("empty group", 1, member, sync_version, group_id="")
        one.sync("unknown group", 1, member, sync_version, group_id=world.name("nobody"))
        one.leave("unknown member", MemberIdentity(member_id="who"), version=min(version, 5))
        one.leave("leaves", MemberIdentity(member_id=member), version=min(version, 5))
        one.leave("again", MemberIdentity(member_id=member), version=min(version, 5))
        one.describe("empty")
        one.heartbeat("gone", 1, member)


def sync_checks(world: World) -> None:
    group = Group(world, "syncing")
    first = group.join_fully("a")
    member = first.member_id
    group.sync("wrong protocol type", 1, member, 5, protocol_type="connect", protocol_name="range")
    group.sync("wrong protocol", 1, member, 5, protocol_type="consumer", protocol_name="sticky")
    group.sync("null names", 1, member, 5, protocol_type=None, protocol_name=None)
    group.sync("null name", 1, member, 5, protocol_name=None)
    group.sync("null names of nobody", 1, "who", 5, protocol_type=None, protocol_name=None)
    group.sync("null names, older", 1, member, 4)
    group.sync("right names", 1, member, 5, protocol_type="consumer", protocol_name="range")
    group.describe("without assignments")
    group.sync("unknown instance", 1, member, 5, group_instance_id="x")
    group.heartbeat("unknown instance", 1, member, group_instance_id="x")


def rebalance(world: World) -> None:
    """Two members: whoever waits is asked on a connection of its own."""
    group = Group(world, "rebalancing")
    one, two = world.new_wire("one"), world.new_wire("two")
    protocols = [("sticky", b"1"), ("range", b"2")]
    first = group.join_fully("first", wire=one, protocols=protocols)
    member = first.member_id
    group.sync("first alone", 1, member, wire=one, assignments=[(member, b"all")], protocol_name="sticky")
    asked = group.join("second: id", "", 9, wire=two)
    other = asked.member_id
    two.send(group.join_request(other, protocols=[("range", b"3")]), 9)
    _await_state(world, group.name, "PreparingRebalance")
    group.heartbeat("rebalancing", 1, member)
    group.sync("sync while it rebalances", 1, member, wire=one)
    group.commit("commit while it rebalances", generation=1, member=member)
    group.describe("while it rebalances")
    one.send(group.join_request(member, protocols=protocols), 9)
    world.take("first rejoined", one)
    world.take("second joined", two)
    group.describe("both joined")
    group.heartbeat("before the sync", 2, member)
    group.commit("commit before the sync", generation=2, member=member)
    group.heartbeat("old generation", 1, member)
    two.send(group.sync_request(2, other), 5)
    group.sync("leader", 2, member, wire=one, assignments=[(member, b"one"), (other, b"two")])
    world.take("follower", two)
    group.describe("stable again")
    group.commit("commit", generation=2, member=member)
    group.commit("commit of an old generation", generation=1, member=member)
    group.commit("commit of nobody", generation=2, member="who")
    group.commit("commit without member", generation=-1, member="")
    group.join("follower rejoins unchanged", other, 9, wire=two, protocols=[("range", b"3")])
    group.heartbeat("still stable", 2, member)
    two.send(group.join_request(other, protocols=[("range", b"4")]), 9)
    _await_state(world, group.name, "PreparingRebalance")
    group.leave("the leader leaves", MemberIdentity(member_id=member))
    world.take("second alone", two)
    group.describe("one left")
    group.sync("second alone", 3, other, wire=two, assignments=[(other, b"all")])
    unknown = [MemberIdentity(member_id=other), MemberIdentity(member_id="who"), MemberIdentity(member_id="x")]
    group.leave("several, one known", *unknown)
    group.describe("empty")


def _await_state(world: World, group: str, state: str) -> None:
    while True:
        described = world.ask_quietly(DescribeGroupsRequest(groups=[group]), 5)
        if described.groups[0].group_state == state:
            return
        time.sleep(0.005)


def static_members(world: World) -> None:
    group = Group(world, "static")
    first = group.join("first", "", 9, group_instance_id="i1")
    member = first.member_id
    group.sync("first", 1, member, assignments=[(member, b"all")], group_instance_id="i1")
    group.describe("stable")
    group.heartbeat("with its instance", 1, member, group_instance_id="i1")
    group.heartbeat("another instance", 1, member, group_instance_id="i2")
    group.heartbeat("another member", 1, "other", group_instance_id="i1")
    group.join("unknown member with the instance", "other", 9, group_instance_id="i1")
    again = group.join("the same comes back", "", 9, group_instance_id="i1")
    group.heartbeat("the old one is fenced", 1, member, group_instance_id="i1")
    group.sync("the old one syncs", 1, member, group_instance_id="i1")
    group.commit("the old one commits", generation=1, member=member, group_instance_id="i1")
    group.heartbeat("the new one", again.generation_id, again.member_id, group_instance_id="i1")
    group.sync("the new one syncs", again.generation_id, again.member_id, group_instance_id="i1")
    group.commit("the new one commits", generation=again.generation_id, member=again.member_id, group_instance_id="i1")
    group.describe("after it")
    old = group.join("it comes back with version 8", "", 8, group_instance_id="i1")
    changed = group.join("it comes back changed", "", 9, group_instance_id="i1", protocols=[("range", b"changed")])
    group.describe("changed")
    group.leave("fenced", MemberIdentity(member_id=old.member_id, group_instance_id="i1"))
    group.leave("unknown instance", MemberIdentity(member_id="", group_instance_id="nobody"))
    group.leave("by instance", MemberIdentity(member_id="", group_instance_id="i1"))
    group.leave("by instance again", MemberIdentity(member_id="", group_instance_id="i1"))
    group.heartbeat("gone", changed.generation_id, changed.member_id, group_instance_id="i1")
    for name, instance in (("empty", ""), ("long", "x" * 300), ("illegal", "a b"), ("dots", "..")):
        Group(world, f"static-{name}").join(f"instance {name}", "", 9, group_instance_id=instance)
    for version in (5, 6, 7):
        other = Group(world, f"static-{version}")
        joined = other.join("first", "", version, group_instance_id="i")
        other.join("second time", "", version, group_instance_id="i")
        other.describe("after it", 4)
        other.heartbeat("old", joined.generation_id, joined.member_id, 3, group_instance_id="i")


def offsets(world: World) -> None:
    topic_id = world.create("committed", 2)
    group = Group(world, "offsets")

    def fetch(label: str, version: int, **options: Any) -> None:
        """Everything, one partition, several ones, what there is not."""
        name = options.get("group_id", group.name)
        names: list[tuple[str, bytes, list[int]]] = [
            (world.name("committed"), topic_id, [0, 1, 9]),
            (world.name("committed-none"), OTHER_ID, [0]),
        ]
        if version < 8:
            topics = [offset_fetch.OffsetFetchRequestTopic(name=n, partition_indexes=p) for n, _, p in names]
            world.ask(label, OffsetFetchRequest(group_id=name, topics=topics), version)
            world.ask(f"{label}, none", OffsetFetchRequest(group_id=name, topics=[]), version)
            if version >= 2:
                world.ask(f"{label}, all", OffsetFetchRequest(group_id=name, topics=None), version)
        else:
            entries = [
                offset_fetch.OffsetFetchRequestTopics(name=n, topic_id=i, partition_indexes=p) for n, i, p in names
            ]
            for more, wanted in (("", entries), (", none", []), (", all", None)):
                entry = offset_fetch.OffsetFetchRequestGroup(group_id=name, topics=wanted)
                world.ask(label + more, OffsetFetchRequest(groups=[entry]), version)
            pair = [
                offset_fetch.OffsetFetchRequestGroup(group_id=one, topics=None) for one in (name, world.name("nobody"))
            ]
            world.ask(f"{label}, two groups", OffsetFetchRequest(groups=pair, require_stable=True), version)

    for version in world.versions(OffsetFetchRequest):
        fetch("unknown group", version, group_id=world.name("nobody"))
        fetch("empty group id", version, group_id="")
    for version in world.versions(OffsetCommitRequest):
        ids = {"topic_id": topic_id}
        group.commit("simple", 10 + version, version, **ids)
        group.commit("without metadata", 20 + version, version, partition=1, metadata=None, **ids)
        group.commit("negative", -1, version, partition=1, **ids)
        group.commit("-2", -2, version, partition=1, **ids)
        group.commit("unknown partition", 5, version, partition=9, **ids)
        group.commit("partition -1", 5, version, partition=-1, **ids)
        group.commit("metadata of 4096", 5, version, partition=1, metadata="x" * 4096, **ids)
        group.commit("metadata of 4097", 5, version, partition=1, metadata="x" * 4097, **ids)
        group.commit("metadata of 4096 letters, more bytes", 5, version, metadata="é" * 4096, **ids)
        if version < 10:
            group.commit("unknown topic", 5, version, topic="committed-none")
            group.commit("illegal topic", 5, version, topic="a b")
        else:
            group.commit("unknown id", 5, version, topic_id=OTHER_ID)
            group.commit("zero id", 5, version)
        group.commit("empty group id", 5, version, group_id="", **ids)
        group.commit("generation of nobody", 5, version, generation=1, member="who", **ids)
        group.commit("generation without member", 5, version, generation=1, **ids)
        group.commit("unknown group with a generation", 5, version, group_id=world.name("no-1"), generation=1, **ids)
        group.commit("member without generation", 5, version, member="who", **ids)
        world.ask("nothing", OffsetCommitRequest(group_id=group.name), version)
        fetch(f"after commits v{version}", 9)
    for version in world.versions(OffsetFetchRequest):
        fetch("fetch", version)
    group.describe("simple group")
    for member, epoch in (("who", -1), ("who", 3), ("", 3), (None, 3)):
        entry = offset_fetch.OffsetFetchRequestGroup(
            group_id=group.name, member_id=member, member_epoch=epoch, topics=None
        )
        world.ask(f"fetch as {member!r} in {epoch}", OffsetFetchRequest(groups=[entry]), 9)


def delete_offsets(world: World) -> None:
    world.create("undone", 2)
    group = Group(world, "undo")
    for partition in (0, 1):
        group.commit(f"partition {partition}", topic="undone", partition=partition)

    def ask(label: str, pairs: dict[str, list[int]], group_id: str | None = None) -> None:
        topics = [
            offset_delete.OffsetDeleteRequestTopic(
                name=name if name == "a b" else world.name(name),
                partitions=[offset_delete.OffsetDeleteRequestPartition(partition_index=index) for index in indexes],
            )
            for name, indexes in pairs.items()
        ]
        world.ask(label, OffsetDeleteRequest(group_id=group.name if group_id is None else group_id, topics=topics))

    ask("unknown group", {"undone": [0]}, world.name("nobody"))
    ask("empty group id", {"undone": [0]}, "")
    ask("unknown partition", {"undone": [7]})
    ask("unknown topic", {"undone-none": [0]})
    ask("illegal topic", {"a b": [0]})
    ask("nothing", {})
    ask("one", {"undone": [0]})
    ask("again", {"undone": [0]})
    ask("twice", {"undone": [0, 0]})
    subscribed = b"\0\0\0\0\0\x01" + len(world.name("undone")).to_bytes(2, "big") + world.name("undone").encode()
    member = group.join_fully("member", protocols=[("range", subscribed + b"\xff\xff\xff\xff")]).member_id
    ask("while it joins", {"undone": [1]})
    group.sync("member", 1, member, assignments=[(member, b"x")])
    ask("subscribed", {"undone": [1], "committed": [0]})
    group.leave("leaves", MemberIdentity(member_id=member))
    ask("last", {"undone": [1]})
    group.describe("without offsets")
    other = Group(world, "undo-other")
    joined = other.join_fully("of another type", protocol_type="connect", protocols=[("p", b"x")]).member_id
    other.protocol_type, other.protocol_name = "connect", "p"
    other.sync("of another type", 1, joined, assignments=[(joined, b"x")])
    ask("of another type", {"undone": [1]}, other.name)


def describing_and_deleting(world: World) -> None:
    for version in world.versions(DescribeGroupsRequest):
        names = [world.name("nobody"), ""]
        world.ask("unknown", DescribeGroupsRequest(groups=names[:1]), version)
        world.ask("empty id", DescribeGroupsRequest(groups=names[1:]), version)
        world.ask("none", DescribeGroupsRequest(groups=[]), version)
        if version >= 3:
            asked = DescribeGroupsRequest(groups=names[:1], include_authorized_operations=True)
            world.ask("authorized operations", asked, version)
    world.create("committed-2")
    for version in world.versions(DeleteGroupsRequest):
        group = Group(world, f"deleted-{version}")
        world.ask("unknown", DeleteGroupsRequest(groups_names=[world.name("nobody")]), version)
        world.ask("empty id", DeleteGroupsRequest(groups_names=[""]), version)
        world.ask("none", DeleteGroupsRequest(groups_names=[]), version)
        group.commit("commit", topic="committed-2")
        asked = [group.name, world.name("nobody")]
        world.ask("simple and unknown", DeleteGroupsRequest(groups_names=asked), version)
        world.ask("again", DeleteGroupsRequest(groups_names=[group.name]), version)
        member = group.join_fully("member").member_id
        world.ask("with a member", DeleteGroupsRequest(groups_names=[group.name]), version)
        group.sync("member", 1, member, assignments=[(member, ASSIGNMENT)])
        world.ask("stable", DeleteGroupsRequest(groups_names=[group.name]), version)
        asked_describe = DescribeGroupsRequest(groups=[group.name], include_authorized_operations=True)
        world.ask("authorized operations of it", asked_describe, 5)
        group.leave("leaves", MemberIdentity(member_id=member))
        world.ask("twice", DeleteGroupsRequest(groups_names=[group.name, group.name]), version)
        group.describe("deleted")


def listing(world: World) -> None:
    """Groups of other scenarios are left out of the answers."""
    world.create("committed-3")
    simple, stable, empty = (Group(world, f"listed-{name}") for name in ("simple", "stable", "empty"))
    simple.commit("commit", topic="committed-3")
    for group in (stable, empty):
        member = group.join_fully(group.name.removeprefix(world.run)).member_id
        group.sync("sync", 1, member, assignments=[(member, ASSIGNMENT)])
    empty.leave("leaves", MemberIdentity(member_id=member))

    def ask(label: str, version: int, **options: Any) -> None:
        world.wire.send(ListGroupsRequest(**options), version)
        answer: Any = world.wire.receive()
        if answer is not None:
            answer.groups = [group for group in answer.groups if group.group_id.startswith(world.name("listed-"))]
        world.note(f"{label} v{version}", answer)

    for version in world.versions(ListGroupsRequest):
        ask("all", version)
        if version >= 4:
            for states in (["Stable"], ["Empty"], ["stable", "EMPTY"], ["Dead"], ["nonsense"], [""]):
                ask(f"states {states}", version, states_filter=states)
        if version >= 5:
            for types in (["classic"], ["Classic"], ["consumer"], ["share"], ["nonsense"], ["classic", "consumer"]):
                ask(f"types {types}", version, types_filter=types)
            ask("both", version, states_filter=["Stable"], types_filter=["classic"])


SCENARIOS = (
    find_coordinator,
    joining,
    sync_checks,
    rebalance,
    static_members,
    offsets,
    delete_offsets,
    describing_and_deleting,
    listing,
)
