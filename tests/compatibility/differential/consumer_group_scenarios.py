"""Consumer groups (KIP-848): heartbeats, expressions, offsets in epochs, description, both protocols in one group."""

from __future__ import annotations

import time
from typing import Any

from ottla.core.ids import ZERO_UUID
from ottla.protocol.codec import encode
from ottla.protocol.messages import offset_commit, offset_fetch
from ottla.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
)
from ottla.protocol.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolAssignmentTopicPartition,
    ConsumerProtocolSubscription,
)
from ottla.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from ottla.protocol.messages.delete_groups import DeleteGroupsRequest
from ottla.protocol.messages.describe_groups import DescribeGroupsRequest
from ottla.protocol.messages.leave_group import MemberIdentity
from ottla.protocol.messages.list_groups import ListGroupsRequest
from ottla.protocol.messages.offset_commit import OffsetCommitRequest
from ottla.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.protocol.messages.offset_fetch import OffsetFetchRequest
from tests.compatibility.differential.group_scenarios import Group, coordinator_ready
from tests.compatibility.differential.world import World


class ConsumerGroup:
    """Requests of one consumer group; members have ids of the scenario's choice."""

    def __init__(self, world: World, name: str, **topics: int) -> None:
        self.world, self.name = world, world.name(name)
        self.topic_ids = {topic: world.create(topic.replace("_", "-"), count) for topic, count in topics.items()}
        coordinator_ready(world, name)

    def beat(self, label: str, member: str, epoch: int, version: int | None = None, **options: Any) -> Any:
        """``owned`` maps topics to partitions; a join gives what it has to."""
        topics = options.pop("topics", None)
        owned = options.pop("owned", {} if epoch == 0 else None)
        defaults: dict[str, Any] = {
            "group_id": self.name,
            "member_id": member,
            "member_epoch": epoch,
            "subscribed_topic_names": None if topics is None else [self.world.name(topic) for topic in topics],
            "topic_partitions": None
            if owned is None
            else [
                ConsumerGroupHeartbeatRequestTopicPartitions(
                    topic_id=self.topic_ids.get(topic, bytes(range(16))), partitions=list(partitions)
                )
                for topic, partitions in owned.items()
            ],
        }
        if epoch == 0:
            defaults["rebalance_timeout_ms"] = 60_000
        return self.world.ask(label, ConsumerGroupHeartbeatRequest(**(defaults | options)), version)

    def describe(self, label: str, version: int | None = None, **options: Any) -> Any:
        request = ConsumerGroupDescribeRequest(group_ids=[self.name], **options)
        return self.world.settle(label, request, version)

    def commit(
        self, label: str, member: str, epoch: int, topic: str, partition: int, version: int = 10, **options: Any
    ) -> None:
        entry = offset_commit.OffsetCommitRequestPartition(
            partition_index=partition, committed_offset=7, committed_leader_epoch=0, committed_metadata="m"
        )
        request = OffsetCommitRequest(
            group_id=self.name,
            generation_id_or_member_epoch=epoch,
            member_id=member,
            topics=[
                offset_commit.OffsetCommitRequestTopic(
                    name="" if version >= 10 else self.world.name(topic.replace("_", "-")),
                    topic_id=self.topic_ids[topic] if version >= 10 else ZERO_UUID,
                    partitions=[entry],
                )
            ],
            **options,
        )
        self.world.ask(label, request, version)

    def fetch(self, label: str, member: str | None, epoch: int, topic: str, version: int = 10) -> None:
        request = OffsetFetchRequest(
            groups=[
                offset_fetch.OffsetFetchRequestGroup(
                    group_id=self.name,
                    member_id=member,
                    member_epoch=epoch,
                    topics=[
                        offset_fetch.OffsetFetchRequestTopics(
                            name="" if version >= 10 else self.world.name(topic.replace("_", "-")),
                            topic_id=self.topic_ids[topic] if version >= 10 else ZERO_UUID,
                            partition_indexes=[0, 1],
                        )
                    ],
                )
            ]
        )
        self.world.ask(label, request, version)


def heartbeat_requests(world: World) -> None:
    """What a heartbeat has to say, and what is refused."""
    group = ConsumerGroup(world, "cg-requests", cg_r=1)
    topics = ["cg-r"]
    for version in world.versions(ConsumerGroupHeartbeatRequest):
        group.beat("no member id", "", 5, version, topics=topics)
        group.beat("blank member id", "  ", 5, version, topics=topics)
        group.beat("no group id", "a", 0, version, topics=topics, group_id="")
        group.beat("blank instance", "a", 0, version, topics=topics, instance_id=" ")
        group.beat("empty rack", "a", 0, version, topics=topics, rack_id="")
        group.beat("no rebalance timeout", "a", 0, version, topics=topics, rebalance_timeout_ms=-1)
        group.beat("owned when joining", "a", 0, version, topics=topics, owned={"cg_r": [0]})
        group.beat("null owned when joining", "a", 0, version, topics=topics, owned=None)
        group.beat("no subscription", "a", 0, version)
        group.beat("unknown assignor", "a", 0, version, topics=topics, server_assignor="mine")
        group.beat("static leave of no instance", "a", -2, version)
        group.beat("epoch below", "a", -3, version)
        group.beat("unknown group", "a", 3, version)
        group.beat("leave of unknown group", "a", -1, version)
    group.beat("joins", "a", 0, topics=topics)
    group.beat("unknown member", "b", 3)
    group.beat("leave of unknown member", "b", -1)
    group.beat("static leave of unknown instance", "b", -2, instance_id="i")
    group.beat("leave of unknown instance", "b", -1, instance_id="i")
    group.beat("unknown instance", "b", 2, instance_id="i")
    group.beat("ahead", "a", 9)
    group.beat("behind", "a", 1)
    group.beat("idle", "a", 2)
    group.beat("rejoins", "a", 0, topics=topics)
    group.beat("full", "a", 2, topics=topics, owned={"cg_r": [0]}, rebalance_timeout_ms=60_000)
    group.beat("owned alone", "a", 2, owned={"cg_r": [0]})
    group.beat("leaves", "a", -1)
    group.beat("after leaving", "a", 2)
    group.beat("no member id v0", "", 0, 0, topics=topics)


def reconciliation(world: World) -> None:
    """Members take over from one another, step by step, and what description shows of it."""
    group = ConsumerGroup(world, "cg-reconcile", cg_c=4, cg_d=2)
    group.beat("a joins", "a", 0, topics=["cg-c"])
    group.describe("one member")
    group.beat("b joins", "b", 0, topics=["cg-c"])
    group.describe("b waits")
    group.beat("a revokes", "a", 2, owned={"cg_c": [0, 1, 2, 3]})
    group.beat("a still", "a", 2)
    group.describe("a gives up")
    group.beat("b still", "b", 3)
    group.beat("a has revoked", "a", 2, owned={"cg_c": [0, 1]})
    group.beat("a with its last epoch", "a", 2, owned={"cg_c": [0, 1]})
    group.beat("a with its last epoch and more", "a", 2, owned={"cg_c": [0, 1, 2]})
    group.beat("a with its last epoch and silent", "a", 2)
    group.beat("b gets", "b", 3)
    group.beat("b has", "b", 3, owned={"cg_c": [2, 3]})
    group.describe("both")
    group.beat("a subscribes more", "a", 3, topics=["cg-c", "cg-d"])
    group.beat("b goes on", "b", 3)
    group.describe("different subscriptions")
    group.beat("a subscribes less", "a", 4, topics=["cg-d"])
    group.beat("a has revoked again", "a", 4, owned={"cg_d": [0, 1]})
    group.beat("b gets all of it", "b", 4)
    group.beat("b leaves", "b", -1)
    group.beat("a alone", "a", 5)
    group.beat("range", "a", 6, server_assignor="range")
    group.describe("range")
    request = CreatePartitionsRequest(
        topics=[CreatePartitionsTopic(name=world.name("cg-d"), count=3, assignments=None)], timeout_ms=10_000
    )
    world.ask_quietly(request)
    world.await_leaders(world.name("cg-d"), 3)
    time.sleep(0.3)
    group.beat("a sees the topic grow", "a", 6)
    group.describe("grown")
    for version in world.versions(ConsumerGroupDescribeRequest):
        group.describe("versions", version)
        group.describe("authorized operations", version, include_authorized_operations=True)
        for group_id in ("", world.name("nobody")):
            world.ask(f"describe {group_id[:1]}", ConsumerGroupDescribeRequest(group_ids=[group_id]), version)
        world.ask("describe none", ConsumerGroupDescribeRequest(group_ids=[]), version)


def static_consumers(world: World) -> None:
    group = ConsumerGroup(world, "cg-static", cg_s=2)
    topics = ["cg-s"]
    group.beat("i joins", "a", 0, topics=topics, instance_id="i")
    group.beat("i again", "b", 0, topics=topics, instance_id="i")
    group.beat("i itself again", "a", 0, topics=topics, instance_id="i")
    group.beat("j joins", "c", 0, topics=topics, instance_id="j")
    group.beat("i revokes", "a", 2, instance_id="i", owned={"cg_s": [0]})
    group.beat("j gets", "c", 3, instance_id="j")
    group.beat("i goes for a while", "a", -2, instance_id="i")
    group.describe("without i")
    group.beat("somebody else goes for a while", "x", -2, instance_id="i")
    group.beat("i beats nevertheless", "a", 3, instance_id="i")
    group.beat("i comes back", "b", 0, topics=topics, instance_id="i")
    group.beat("the old i", "a", 3, instance_id="i")
    group.beat("the old i without instance", "a", 3)
    group.describe("with i")
    group.beat("i leaves", "b", -1, instance_id="i")
    group.beat("j alone", "c", 3, instance_id="j")
    group.beat("j without instance", "c", 4)
    group.describe("j alone")


def regular_expressions(world: World) -> None:
    group = ConsumerGroup(world, "cg-regex", cg_xa=1, cg_xb=2)
    expressions = [
        "(a", "a)", "*a", "a**", "[a", "[b-a]", r"\1", "(?=a)", "(?<!a)", "a{2,1}", "a{1001}", r"\y", r"\pX", "[[:x:]]",
    ]  # fmt: skip
    for expression in expressions:
        group.beat(f"refused {expression}", "a", 0, subscribed_topic_regex=expression)
    pattern = f"{world.run}cg-x[a-b]"
    # Ranges do not hang on the order of topic ids.
    group.beat("joins", "a", 0, subscribed_topic_regex=pattern, server_assignor="range")
    group.describe("resolved")
    group.beat("gets", "a", 1)
    group.describe("assigned")
    group.beat("another joins", "b", 0, subscribed_topic_regex=pattern)
    group.beat("first gives up", "a", 2, owned={"cg_xa": [0], "cg_xb": [0]})
    group.describe("shared")
    group.beat("back to names", "b", 3, subscribed_topic_regex="", topics=["cg-xa"])
    group.describe("mixed")


def offsets_in_epochs(world: World) -> None:
    group = ConsumerGroup(world, "cg-offsets", cg_o=2)
    group.commit("unknown group", "a", 1, "cg_o", 0)
    group.beat("joins", "a", 0, topics=["cg-o"])
    for version in (8, 9, 10):
        group.commit("in its epoch", "a", 2, "cg_o", 0, version)
        group.commit("ahead", "a", 3, "cg_o", 0, version)
        group.commit("behind", "a", 1, "cg_o", 0, version)
        group.commit("unknown member", "b", 2, "cg_o", 0, version)
        group.commit("nobody", "", -1, "cg_o", 0, version)
    for version in (9, 10):
        group.fetch("in its epoch", "a", 2, "cg_o", version)
        group.fetch("ahead", "a", 3, "cg_o", version)
        group.fetch("behind", "a", 1, "cg_o", version)
        group.fetch("unknown member", "b", 2, "cg_o", version)
        group.fetch("nobody", None, -1, "cg_o", version)
        group.fetch("empty member", "", -1, "cg_o", version)
    group.beat("b joins", "b", 0, topics=["cg-o"])
    group.beat("a gives up", "a", 2, owned={"cg_o": [0]})
    group.commit("kept since its last epoch", "a", 2, "cg_o", 0)
    group.commit("given up", "a", 2, "cg_o", 1)
    topic = OffsetDeleteRequestTopic(
        name=world.name("cg-o"), partitions=[OffsetDeleteRequestPartition(partition_index=0)]
    )
    world.ask("delete offsets", OffsetDeleteRequest(group_id=group.name, topics=[topic]))
    world.ask("delete with members", DeleteGroupsRequest(groups_names=[group.name]))
    world.ask("describe as classic", DescribeGroupsRequest(groups=[group.name]))
    group.beat("a leaves", "a", -1)
    group.beat("b leaves", "b", -1)
    group.describe("empty")
    group.commit("nobody in an empty group", "", -1, "cg_o", 0)
    world.ask("delete", DeleteGroupsRequest(groups_names=[group.name]))
    group.describe("deleted")


def migration(world: World) -> None:
    """A classic group, a consumer group with a classic member, a classic group again."""
    group = ConsumerGroup(world, "cg-migrate", cg_m=4)
    subscription = ConsumerProtocolSubscription(topics=[world.name("cg-m")])
    metadata = b"\0\0" + encode(subscription, 0)
    classic = Group(world, "cg-migrate")
    member = classic.join_fully("classic", protocols=[("range", metadata)]).member_id
    # It has everything, so that who keeps what does not hang on an order of member ids.
    topic = ConsumerProtocolAssignmentTopicPartition(topic=world.name("cg-m"), partitions=[0, 1, 2, 3])
    everything = b"\0\0" + encode(ConsumerProtocolAssignment(assigned_partitions=[topic]), 0)
    classic.sync("classic", 1, member, assignments=[(member, everything)])
    group.describe("classic")
    group.beat("new member joins", "n", 0, topics=["cg-m"])
    group.describe("mixed")
    classic.heartbeat("classic learns", 1, member)
    classic.join("classic joins", member, protocols=[("range", metadata)])
    classic.heartbeat("wrong generation", 1, member)
    classic.heartbeat("classic goes on", 2, member)
    classic.sync("classic syncs", 2, member)
    classic.sync("classic syncs with another protocol", 2, member, protocol_name="other")
    classic.sync("classic syncs with another type", 2, member, protocol_type="other")
    classic.sync("new member syncs", 2, "n")
    classic.heartbeat("new member beats classically", 2, "n")
    classic.join("of another type", "", protocol_type="connect", protocols=[("x", b"")])
    classic.join("of another protocol", "", protocols=[("other", metadata)])
    classic.commit("classic commits", version=9, topic="cg-m", generation=2, member=member)
    classic.commit("classic commits behind", version=9, topic="cg-m", generation=1, member=member)
    group.beat("new member goes on", "n", 2, owned={"cg_m": [2, 3]})
    group.describe("mixed and stable")
    world.ask("describe as classic", DescribeGroupsRequest(groups=[group.name]))
    classic.leave("unknown leaves", MemberIdentity(member_id="nobody"))
    group.beat("new member leaves", "n", -1)
    group.describe("classic again")
    classic.heartbeat("classic rebalances", 2, member)
    classic.join("classic joins again", member, protocols=[("range", metadata)])
    classic.sync("classic leads again", 3, member, assignments=[(member, b"x")])
    classic.describe("classic again")
    classic.leave("classic leaves", MemberIdentity(member_id=member))
    group.beat("new member of an empty classic group", "n", 0, topics=["cg-m"])
    group.beat("and it leaves", "n", -1)
    classic.join("classic member of an empty consumer group", "nobody", protocols=[("range", metadata)])
    request = ListGroupsRequest(types_filter=["consumer"])
    world.wire.send(request, 5)
    answer: Any = world.wire.receive()
    answer.groups = [each for each in answer.groups if each.group_id == group.name]
    world.note("listed", answer)


SCENARIOS = (
    heartbeat_requests,
    reconciliation,
    static_consumers,
    regular_expressions,
    offsets_in_epochs,
    migration,
)
