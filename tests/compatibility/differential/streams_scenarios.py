"""Streams groups: what members are answered and refused, what administrators see (KIP-1071)."""

from __future__ import annotations

import time
from typing import Any

from ottla.protocol.messages import offset_commit, offset_delete, offset_fetch
from ottla.protocol.messages import streams_group_heartbeat as streams
from ottla.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from ottla.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from ottla.protocol.messages.delete_groups import DeleteGroupsRequest
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.protocol.messages.describe_groups import DescribeGroupsRequest
from ottla.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.protocol.messages.list_groups import ListGroupsRequest
from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from ottla.protocol.messages.streams_group_describe import StreamsGroupDescribeRequest
from ottla.protocol.messages.streams_group_heartbeat import StreamsGroupHeartbeatRequest
from tests.compatibility.differential.group_scenarios import coordinator_ready
from tests.compatibility.differential.world import World

GROUP_RESOURCE = 32

Tasks = dict[str, list[int]]


class Group:
    """Requests of the members of one streams group; its first assignment waits for nobody."""

    def __init__(self, world: World, name: str, **settings: str) -> None:
        self.world, self.group = world, world.name(name)
        coordinator_ready(world, name)
        self.configure(**{"initial_rebalance_delay_ms": "0", "assignment_interval_ms": "0", **settings})

    def configure(self, **settings: str) -> None:
        configs = [
            AlterableConfig(name=f"streams.{key.replace('_', '.')}", config_operation=0, value=value)
            for key, value in settings.items()
        ]
        resource = AlterConfigsResource(resource_type=GROUP_RESOURCE, resource_name=self.group, configs=configs)
        self.world.ask_quietly(IncrementalAlterConfigsRequest(resources=[resource]))
        time.sleep(0.1)

    def join(self, label: str, member: str, topology: streams.Topology | None, **fields: Any) -> Any:
        values: dict[str, Any] = {
            "process_id": f"process of {member}",
            "rebalance_timeout_ms": 60_000,
            "active_tasks": [],
            "standby_tasks": [],
            "warmup_tasks": [],
            "client_tags": [],
        }
        return self.heartbeat(label, member, 0, topology=topology, **{**values, **fields})

    def heartbeat(self, label: str, member: str, epoch: int, **fields: Any) -> Any:
        values: dict[str, Any] = {"group_id": self.group, "member_id": member, "member_epoch": epoch, **fields}
        return self.world.ask(f"{label} ({member})", StreamsGroupHeartbeatRequest(**values), 0)

    def beat(self, label: str, member: str, epoch: int, active: Tasks, standby: Tasks | None = None) -> Any:
        """A heartbeat that says which tasks the member has."""
        owned = {"active_tasks": _tasks(active), "standby_tasks": _tasks(standby or {}), "warmup_tasks": []}
        return self.heartbeat(label, member, epoch, **owned)

    def describe(self, label: str) -> None:
        self.world.ask(f"describe: {label}", StreamsGroupDescribeRequest(group_ids=[self.group]), 0)

    def await_topics(self, *names: str, partitions: int) -> None:
        for name in names:
            self.world.await_leaders(self.world.name(name), partitions)
        time.sleep(0.2)


def _tasks(tasks: Tasks) -> list[streams.TaskIds]:
    return [streams.TaskIds(subtopology_id=key, partitions=partitions) for key, partitions in tasks.items()]


def table(world: World, source: str, changelog: str = "", epoch: int = 0) -> streams.Topology:
    changelogs = [streams.TopicInfo(name=world.name(changelog))] if changelog else []
    return streams.Topology(
        epoch=epoch,
        subtopologies=[
            streams.Subtopology(
                subtopology_id="0", source_topics=[world.name(source)], state_changelog_topics=changelogs
            )
        ],
    )


def _word_count(world: World, source: str, repartition: str) -> streams.Topology:
    return streams.Topology(
        epoch=0,
        subtopologies=[
            streams.Subtopology(
                subtopology_id="0",
                source_topics=[world.name(source)],
                repartition_sink_topics=[world.name(repartition)],
            ),
            streams.Subtopology(
                subtopology_id="1", repartition_source_topics=[streams.TopicInfo(name=world.name(repartition))]
            ),
        ],
    )


def streams_malformed(world: World) -> None:
    world.create("malformed")
    group = Group(world, "malformed")
    topology = table(world, "malformed")
    group.join("no member id", "", topology)
    group.join("blank member id", "  ", topology)
    group.join("no group id", "m", topology, group_id="")
    group.join("blank rack", "m", topology, rack_id=" ")
    group.join("no rebalance timeout", "m", topology, rebalance_timeout_ms=-1)
    group.join("no topology", "m", None)
    for kind in ("active_tasks", "standby_tasks"):
        group.join(f"null {kind}", "m", topology, **{kind: None})
        group.join(f"some {kind}", "m", topology, **{kind: _tasks({"0": [0]})})
    group.heartbeat("epoch", "m", -3)
    group.heartbeat("epoch of static members", "m", -2)
    group.heartbeat("topology later", "m", 1, topology=topology)
    group.heartbeat("one kind of tasks", "m", 1, active_tasks=[])
    group.heartbeat("unknown group", "m", 1)
    group.heartbeat("unknown group", "m", -1)
    internal = table(world, "malformed")
    internal.subtopologies[0].source_topics = ["__consumer_offsets"]
    group.join("internal topic", "m", internal)
    illegal = table(world, "malformed")
    illegal.subtopologies[0].source_topics = ["not a name"]
    group.join("illegal topic", "m", illegal)
    patterns = table(world, "malformed")
    patterns.subtopologies[0].source_topic_regex = ["t.*"]
    group.join("pattern", "m", patterns)
    counted = table(world, "malformed", "log")
    counted.subtopologies[0].state_changelog_topics[0].partitions = 3
    group.join("changelog with partitions", "m", counted)
    orphan = _word_count(world, "malformed", "orphan")
    orphan.subtopologies[0].repartition_sink_topics = []
    group.join("repartition topic without a writer", "m", orphan)
    group.describe("nothing there")


def streams_topics(world: World) -> None:
    group = Group(world, "topics")
    topology = _word_count(world, "words", "words-repartition")
    first = group.join("no source", "a", topology)
    group.describe("no source")
    world.create("words", 2)
    time.sleep(0.2)
    second = group.heartbeat("no repartition topic", "a", first.member_epoch)
    group.await_topics("words-repartition", partitions=2)
    third = group.heartbeat("all there", "a", second.member_epoch)
    group.describe("all there")
    group.heartbeat("again", "a", third.member_epoch)
    world.ask_quietly(
        CreatePartitionsRequest(
            topics=[CreatePartitionsTopic(name=world.name("words"), count=3, assignments=None)], timeout_ms=10_000
        )
    )
    world.await_leaders(world.name("words"), 3)
    time.sleep(0.2)
    fourth = group.heartbeat("more partitions", "a", third.member_epoch)
    group.describe("more partitions")
    world.ask_quietly(
        DeleteTopicsRequest(topics=[DeleteTopicState(name=world.name("words"))], topic_names=[], timeout_ms=10_000)
    )
    time.sleep(0.3)
    group.heartbeat("source deleted", "a", fourth.member_epoch)
    group.heartbeat("leave", "a", -1)
    group.describe("left")


def streams_topics_that_cannot_be_made(world: World) -> None:
    world.create("unmakeable", 1)
    group = Group(world, "unmakeable")
    topology = table(world, "unmakeable", "unmakeable-log")
    topology.subtopologies[0].state_changelog_topics[0].topic_configs = [
        streams.KeyValue(key="cleanup.policy", value="keep")
    ]
    epoch = group.join("first heartbeat", "a", topology).member_epoch
    time.sleep(0.5)
    group.heartbeat("second heartbeat", "a", epoch)
    group.describe("not ready")


def streams_copartitioning(world: World) -> None:
    world.create("left", 2)
    world.create("right", 3)
    group = Group(world, "joined")
    topology = streams.Topology(
        epoch=0,
        subtopologies=[
            streams.Subtopology(
                subtopology_id="0",
                source_topics=[world.name("left"), world.name("right")],
                copartition_groups=[streams.CopartitionGroup(source_topics=[0, 1])],
            )
        ],
    )
    group.join("different partition counts", "a", topology)
    group.describe("different partition counts")


def streams_members(world: World) -> None:
    world.create("table", 2)
    world.create("table-log", 2)
    topology = table(world, "table", "table-log")
    group = Group(world, "members")
    endpoint = streams.Endpoint(host="a.example", port=7)
    first = group.join("first", "a", topology, user_endpoint=endpoint, rack_id="r")
    group.beat("has tasks", "a", first.member_epoch, {"0": [0, 1]})
    group.describe("one member")
    second = group.join("second", "b", topology)
    group.beat("told to give up", "a", first.member_epoch, {"0": [0, 1]})
    group.describe("moving")
    group.beat("still has both", "a", first.member_epoch, {"0": [0, 1]})
    group.beat("waits", "b", second.member_epoch, {})
    group.beat("gave up", "a", first.member_epoch, {"0": [0]})
    group.beat("answer lost", "a", first.member_epoch, {"0": [0]})
    group.beat("older epoch with more tasks", "a", first.member_epoch, {"0": [0, 1]})
    group.beat("gets its task", "b", second.member_epoch, {})
    group.describe("stable")
    group.beat("task that does not exist", "b", second.member_epoch, {"0": [2]})
    group.beat("subtopology that does not exist", "b", second.member_epoch, {"7": [0]})
    group.heartbeat("future epoch", "b", 99)
    group.heartbeat("unknown member", "c", 1)
    group.heartbeat("unknown member leaves", "c", -1)
    group.heartbeat("shutdown", "b", second.member_epoch, shutdown_application=True)
    group.heartbeat("learns of the shutdown", "a", second.member_epoch)
    group.heartbeat("leaves", "b", -1)
    group.heartbeat("takes over", "a", second.member_epoch)
    group.describe("one is left")
    group.configure(num_standby_replicas="1")
    group.heartbeat("standby replicas", "a", second.member_epoch + 1)
    group.describe("standby replicas")


def streams_topology_epochs(world: World) -> None:
    world.create("epochs")
    world.create("epochs-log")
    group = Group(world, "epochs")
    group.join("first", "a", table(world, "epochs", epoch=5))
    group.join("first again", "a", table(world, "epochs", epoch=5))
    group.join("older", "b", table(world, "epochs", epoch=4))
    group.join("same epoch, another topology", "c", table(world, "epochs", "epochs-log", epoch=5))
    group.join("newer", "d", table(world, "epochs", "epochs-log", epoch=6))
    group.describe("all of them")


def streams_offsets(world: World) -> None:
    world.create("committed")
    group = Group(world, "offsets")
    epoch = group.join("join", "a", table(world, "committed")).member_epoch

    def commit(label: str, member: str, at: int, version: int = 9) -> None:
        partition = offset_commit.OffsetCommitRequestPartition(partition_index=0, committed_offset=3)
        topic = offset_commit.OffsetCommitRequestTopic(name=world.name("committed"), partitions=[partition])
        request = offset_commit.OffsetCommitRequest(
            group_id=group.group, member_id=member, generation_id_or_member_epoch=at, topics=[topic]
        )
        world.ask(f"commit: {label}", request, version)

    def fetch(label: str, member: str | None, at: int) -> None:
        asked = offset_fetch.OffsetFetchRequestGroup(
            group_id=group.group,
            member_id=member,
            member_epoch=at,
            topics=[offset_fetch.OffsetFetchRequestTopics(name=world.name("committed"), partition_indexes=[0])],
        )
        world.ask(f"fetch: {label}", offset_fetch.OffsetFetchRequest(groups=[asked]), 9)

    for label, member, at in (
        ("its epoch", "a", epoch),
        ("newer epoch", "a", epoch + 1),
        ("older epoch", "a", epoch - 1),
        ("unknown member", "b", epoch),
        ("nobody", "", -1),
    ):
        commit(label, member, at)
        fetch(label, member or None, at)
    commit("before member epochs", "a", epoch, version=8)
    _delete_offsets(world, group.group, "while it is read")
    group.heartbeat("leave", "a", -1)
    commit("empty group", "", -1)
    _delete_offsets(world, group.group, "once it is empty")


def _delete_offsets(world: World, group: str, label: str) -> None:
    partition = offset_delete.OffsetDeleteRequestPartition(partition_index=0)
    topic = offset_delete.OffsetDeleteRequestTopic(name=world.name("committed"), partitions=[partition])
    world.ask(f"delete offsets: {label}", offset_delete.OffsetDeleteRequest(group_id=group, topics=[topic]))


def streams_groups_among_others(world: World) -> None:
    world.create("others")
    group = Group(world, "among")
    group.join("join", "a", table(world, "others"))
    listed = world.ask_quietly(ListGroupsRequest(types_filter=["streams"]), 5)
    found = [(each.protocol_type, each.group_state) for each in listed.groups if each.group_id == group.group]
    world.note("listed as streams", found)
    for version in (5, 6):
        world.ask("describe as classic", DescribeGroupsRequest(groups=[group.group]), version)
    classic = JoinGroupRequest(
        group_id=group.group,
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        member_id="",
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
    )
    world.ask("classic member", classic, 3)
    world.ask(
        "consumer",
        ConsumerGroupHeartbeatRequest(
            group_id=group.group,
            member_id="c",
            member_epoch=0,
            rebalance_timeout_ms=10_000,
            subscribed_topic_names=[world.name("others")],
            topic_partitions=[],
        ),
        1,
    )
    world.ask(
        "share member",
        ShareGroupHeartbeatRequest(
            group_id=group.group, member_id="s", member_epoch=0, subscribed_topic_names=[world.name("others")]
        ),
        1,
    )
    world.ask("delete while it runs", DeleteGroupsRequest(groups_names=[group.group]), 2)
    group.heartbeat("leave", "a", -1)
    group.describe("empty")
    world.ask("delete", DeleteGroupsRequest(groups_names=[group.group]), 2)
    group.describe("deleted")


SCENARIOS = (
    streams_malformed,
    streams_topics,
    streams_topics_that_cannot_be_made,
    streams_copartitioning,
    streams_members,
    streams_topology_epochs,
    streams_offsets,
    streams_groups_among_others,
)
