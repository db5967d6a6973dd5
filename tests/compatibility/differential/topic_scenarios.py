"""Metadata, CreateTopics, DeleteTopics, CreatePartitions, DescribeTopicPartitions, DescribeCluster, DescribeLogDirs."""

from __future__ import annotations

from typing import Any

from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsAssignment,
    CreatePartitionsRequest,
    CreatePartitionsTopic,
)
from ottla.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest
from ottla.protocol.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from ottla.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    TopicRequest,
)
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.compatibility.differential.world import World

ILLEGAL_NAMES = ("", ".", "..", "a b", "a/b", "é", "a" * 250, "a,b", "a\nb", "a\0b")
OTHER_ID = bytes(range(16))


def metadata(world: World) -> None:
    world.create("metadata", 3)
    name = world.name("metadata")
    known, unknown = [MetadataRequestTopic(name=name)], [MetadataRequestTopic(name=world.name("metadata-none"))]
    for version in world.versions(MetadataRequest):
        if version:  # at version 0 an empty array means all topics
            world.ask("no topics", MetadataRequest(topics=[]), version)
        world.ask("a topic", MetadataRequest(topics=known), version)
        twice = known + [MetadataRequestTopic(name=name)]
        world.ask("a topic twice", MetadataRequest(topics=twice), version)
        if version >= 4:
            asked = MetadataRequest(topics=known + unknown, allow_auto_topic_creation=False)
            world.ask("known and unknown", asked, version)
        if version >= 8:
            asked = MetadataRequest(topics=known, include_topic_authorized_operations=True)
            world.ask("authorized operations of a topic", asked, version)
        if 8 <= version <= 10:
            asked = MetadataRequest(topics=known, include_cluster_authorized_operations=True)
            world.ask("authorized operations of the cluster", asked, version)
    for version in world.versions(MetadataRequest, 4):
        for illegal in ILLEGAL_NAMES:
            for create in (False, True):
                asked = MetadataRequest(topics=[MetadataRequestTopic(name=illegal)], allow_auto_topic_creation=create)
                world.ask(f"illegal name {illegal[:9]!r}, create {create}", asked, version)
        if version in (4, 9):
            asked = MetadataRequest(topics=known + [MetadataRequestTopic(name="a b")], allow_auto_topic_creation=True)
            world.ask("legal and illegal name", asked, version)


def metadata_of_all_topics(world: World) -> None:
    """Null means all topics (version 0: an empty array); what others made is left out of the comparison."""
    world.create("metadata-all", 2)
    for version in world.versions(MetadataRequest):
        world.wire.send(MetadataRequest(topics=None if version else []), version)
        answer: Any = world.wire.receive()
        answer.topics = [topic for topic in answer.topics if topic.name == world.name("metadata-all")]
        world.note(f"all topics v{version}", answer)


def metadata_by_id(world: World) -> None:
    topic_id = world.create("metadata-id", 1)
    for version in world.versions(MetadataRequest, 10):
        by_id = MetadataRequestTopic(topic_id=topic_id, name=None)
        world.ask("by id", MetadataRequest(topics=[by_id]), version)
        world.ask(
            "by id and name", MetadataRequest(topics=[MetadataRequestTopic(topic_id=topic_id, name="x")]), version
        )
        world.ask("unknown id", MetadataRequest(topics=[MetadataRequestTopic(topic_id=OTHER_ID, name=None)]), version)
        neither = MetadataRequestTopic(topic_id=ZERO_UUID, name=None)
        world.ask("neither id nor name", MetadataRequest(topics=[neither]), version)
        mixed = [by_id, MetadataRequestTopic(name=world.name("metadata-id"))]
        world.ask("one by id, one by name", MetadataRequest(topics=mixed), version)
        both = [by_id, MetadataRequestTopic(topic_id=OTHER_ID, name=None)]
        world.ask("known and unknown id", MetadataRequest(topics=both), version)


def metadata_creates_topics(world: World) -> None:
    """An unknown topic is created on demand; the answer to that request may be 3 or 5, and comes before the topic."""
    for version in (0, 3, 4, 9, 12):
        topic = MetadataRequestTopic(name=world.name(f"auto-{version}"))
        world.wire.send(MetadataRequest(topics=[topic], allow_auto_topic_creation=True), version)
        answer: Any = world.wire.receive()
        world.note(f"asked v{version}", answer.topics[0].error_code)
        world.await_leaders(world.name(f"auto-{version}"), 1)
        world.topic_id(f"auto-{version}")
        world.ask("after it", MetadataRequest(topics=[topic]), 12)
    for name in ("__consumer_offsets2", "auto.collides", "auto_collides"):
        topic = MetadataRequestTopic(name=world.name(name))
        world.wire.send(MetadataRequest(topics=[topic], allow_auto_topic_creation=True), 12)
        answer = world.wire.receive()
        world.note(f"{name}", answer.topics[0].error_code)
        if name != "auto_collides":
            world.await_leaders(world.name(name), 1)


def _creatable(world: World, name: str, partitions: int = 1, replicas: int = 1, **more: Any) -> CreatableTopic:
    return CreatableTopic(name=world.name(name), num_partitions=partitions, replication_factor=replicas, **more)


def _assigned(*brokers: tuple[int, list[int]]) -> list[CreatableReplicaAssignment]:
    return [CreatableReplicaAssignment(partition_index=index, broker_ids=ids) for index, ids in brokers]


def _config(*pairs: tuple[str, str | None]) -> list[CreatableTopicConfig]:
    return [CreatableTopicConfig(name=name, value=value) for name, value in pairs]


def create_topics(world: World) -> None:
    world.create("exists")
    world.create("with.dot")
    for version in world.versions(CreateTopicsRequest):
        at = f"-{version}"
        topics = {
            "plain": _creatable(world, f"plain{at}", 2),
            "exists": _creatable(world, "exists"),
            "collides": _creatable(world, "with_dot"),
            "replication factor 2": _creatable(world, f"rf{at}", 1, 2),
            "replication factor 0": _creatable(world, f"rf{at}", 1, 0),
            "replication factor -2": _creatable(world, f"rf{at}", 1, -2),
            "partitions 0": _creatable(world, f"p{at}", 0),
            "partitions -2": _creatable(world, f"p{at}", -2),
            "partitions default": _creatable(world, f"default{at}", -1, -1 if version >= 4 else 1),
            "default replication factor": _creatable(world, f"default-rf{at}", 1, -1),
            "assigned": _creatable(world, f"assigned{at}", -1, -1, assignments=_assigned((0, [1]), (1, [1]))),
            "assigned unknown broker": _creatable(world, f"as{at}", -1, -1, assignments=_assigned((0, [99]))),
            "assigned twice the same broker": _creatable(world, f"as{at}", -1, -1, assignments=_assigned((0, [1, 1]))),
            "assigned negative broker": _creatable(world, f"as{at}", -1, -1, assignments=_assigned((0, [-1]))),
            "assigned no replicas": _creatable(world, f"as{at}", -1, -1, assignments=_assigned((0, []))),
            "assigned partition twice": _creatable(world, f"as{at}", -1, -1, assignments=_assigned((0, [1]), (0, [1]))),
            "assigned with a gap": _creatable(world, f"as{at}", -1, -1, assignments=_assigned((0, [1]), (2, [1]))),
            "assigned from 1": _creatable(world, f"as{at}", -1, -1, assignments=_assigned((1, [1]))),
            "assigned uneven": _creatable(world, f"as{at}", -1, -1, assignments=_assigned((0, [1]), (1, [1, 2]))),
            "assigned and partitions": _creatable(world, f"as{at}", 1, -1, assignments=_assigned((0, [1]))),
            "assigned and replicas": _creatable(world, f"as{at}", -1, 1, assignments=_assigned((0, [1]))),
            "config": _creatable(
                world, f"config{at}", configs=_config(("retention.ms", "1000"), ("cleanup.policy", "compact"))
            ),
            "config unknown": _creatable(world, f"c{at}", configs=_config(("no.such.setting", "1"))),
            "config not a number": _creatable(world, f"c{at}", configs=_config(("retention.ms", "abc"))),
            "config out of range": _creatable(world, f"c{at}", configs=_config(("segment.bytes", "1"))),
            "config not in the list": _creatable(world, f"c{at}", configs=_config(("cleanup.policy", "x"))),
            "config null": _creatable(world, f"c{at}", configs=_config(("retention.ms", None))),
            "config empty": _creatable(world, f"c{at}", configs=_config(("retention.ms", ""))),
            "config twice": _creatable(
                world, f"twice{at}", configs=_config(("retention.ms", "1"), ("retention.ms", "2"))
            ),
            "config spaces": _creatable(world, f"spaces{at}", configs=_config(("retention.ms", " 5 "))),
            "config min isr": _creatable(world, f"c{at}", configs=_config(("min.insync.replicas", "0"))),
            "config local retention": _creatable(
                world, f"c{at}", configs=_config(("retention.ms", "1000"), ("local.retention.ms", "2000"))
            ),
            "config compaction lag": _creatable(
                world, f"c{at}", configs=_config(("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "8"))
            ),
            "config throttled replicas": _creatable(
                world, f"c{at}", configs=_config(("leader.replication.throttled.replicas", "x"))
            ),
        }
        for label, topic in topics.items():
            for validate in (True, False):
                asked = CreateTopicsRequest(topics=[topic], timeout_ms=10_000, validate_only=validate)
                world.ask(f"{label}, validate {validate}", asked, version)
        for illegal in ILLEGAL_NAMES:
            topic = CreatableTopic(name=illegal, num_partitions=1, replication_factor=1)
            world.ask(f"name {illegal[:9]!r}", CreateTopicsRequest(topics=[topic], timeout_ms=10_000), version)
        pair = [_creatable(world, f"dup{at}"), _creatable(world, f"dup{at}"), _creatable(world, f"dup-other{at}")]
        world.ask("duplicates", CreateTopicsRequest(topics=pair, timeout_ms=10_000), version)
        pair = [_creatable(world, f"col.l{at}"), _creatable(world, f"col_l{at}")]
        world.ask("two that collide", CreateTopicsRequest(topics=pair, timeout_ms=10_000, validate_only=True), version)
        pair = [_creatable(world, "exists"), _creatable(world, f"beside{at}"), _creatable(world, "a b")]
        world.ask("some good, some bad", CreateTopicsRequest(topics=pair, timeout_ms=10_000), version)
        world.ask("none", CreateTopicsRequest(topics=[], timeout_ms=10_000), version)
    many = _creatable(world, "many", 10_001)
    world.ask("10001 partitions", CreateTopicsRequest(topics=[many], timeout_ms=10_000, validate_only=True))
    internal = CreatableTopic(name="__cluster_metadata", num_partitions=1, replication_factor=1)
    world.ask("__cluster_metadata", CreateTopicsRequest(topics=[internal], timeout_ms=10_000))
    for partition in ("plain-7",):
        asked = MetadataRequest(topics=[MetadataRequestTopic(name=world.name(partition))])
        world.await_leaders(world.name(partition), 2)
        world.topic_id(partition)
        world.ask("metadata of a created topic", asked)


def delete_topics(world: World) -> None:
    for version in world.versions(DeleteTopicsRequest):
        at = f"-{version}"
        for index in range(3):
            world.create(f"delete{at}-{index}")
        ids = [world.topic_id(f"delete{at}-{index}") for index in range(3)]

        def by_name(*names: str, version: int = version) -> DeleteTopicsRequest:
            if version >= 6:
                return DeleteTopicsRequest(topics=[DeleteTopicState(name=name) for name in names], timeout_ms=10_000)
            return DeleteTopicsRequest(topic_names=list(names), timeout_ms=10_000)

        world.ask("one", by_name(world.name(f"delete{at}-0")), version)
        world.ask("gone", by_name(world.name(f"delete{at}-0")), version)
        world.ask("unknown", by_name(world.name("delete-none")), version)
        world.ask("illegal name", by_name("a b", "", ".."), version)
        world.ask("twice", by_name(world.name(f"delete{at}-1"), world.name(f"delete{at}-1")), version)
        world.ask("good and bad", by_name(world.name(f"delete{at}-1"), world.name("delete-none")), version)
        world.ask("none", by_name(), version)
        if version >= 6:

            def by_id(*states: DeleteTopicState) -> DeleteTopicsRequest:
                return DeleteTopicsRequest(topics=list(states), timeout_ms=10_000)

            named = world.name(f"delete{at}-2")
            world.ask("unknown id", by_id(DeleteTopicState(topic_id=OTHER_ID)), version)
            world.ask("id and name", by_id(DeleteTopicState(topic_id=ids[2], name=named)), version)
            world.ask("neither", by_id(DeleteTopicState()), version)
            same = by_id(DeleteTopicState(topic_id=ids[2]), DeleteTopicState(name=named))
            world.ask("the same by id and by name", same, version)
            world.ask("id twice", by_id(DeleteTopicState(topic_id=ids[2]), DeleteTopicState(topic_id=ids[2])), version)
            world.ask("by id", by_id(DeleteTopicState(topic_id=ids[2])), version)
            world.ask("id gone", by_id(DeleteTopicState(topic_id=ids[2])), version)


def create_partitions(world: World) -> None:
    for version in world.versions(CreatePartitionsRequest):
        topic = f"grow-{version}"
        world.create(topic, 2)
        asked: dict[str, tuple[int, list[CreatePartitionsAssignment] | None]] = {
            "fewer": (1, None),
            "as many": (2, None),
            "0": (0, None),
            "-1": (-1, None),
            "assigned too few": (5, [CreatePartitionsAssignment(broker_ids=[1])]),
            "assigned too many": (3, [CreatePartitionsAssignment(broker_ids=[1])] * 2),
            "assigned unknown broker": (3, [CreatePartitionsAssignment(broker_ids=[9])]),
            "assigned other factor": (3, [CreatePartitionsAssignment(broker_ids=[1, 2])]),
            "assigned the same twice": (3, [CreatePartitionsAssignment(broker_ids=[1, 1])]),
            "assigned none": (3, []),
            "assigned without broker": (3, [CreatePartitionsAssignment(broker_ids=[])]),
            "assigned well": (3, [CreatePartitionsAssignment(broker_ids=[1])]),
            "more": (5, None),
            "too many": (20_000, None),
        }
        for label, (count, assignments) in asked.items():
            entry = CreatePartitionsTopic(name=world.name(topic), count=count, assignments=assignments)
            for validate in (True,) if count > 9 else (True, False):
                request = CreatePartitionsRequest(topics=[entry], timeout_ms=10_000, validate_only=validate)
                world.ask(f"{label}, validate {validate}", request, version)
        none = CreatePartitionsTopic(name=world.name("grow-none"), count=3)
        world.ask("unknown", CreatePartitionsRequest(topics=[none], timeout_ms=10_000), version)
        illegal = CreatePartitionsTopic(name="a b", count=3)
        world.ask("illegal name", CreatePartitionsRequest(topics=[illegal], timeout_ms=10_000), version)
        twice = [CreatePartitionsTopic(name=world.name(topic), count=count) for count in (6, 7)]
        world.ask("twice", CreatePartitionsRequest(topics=twice, timeout_ms=10_000), version)
        world.ask("none", CreatePartitionsRequest(topics=[], timeout_ms=10_000), version)
        world.await_leaders(world.name(topic), 5)


def describe_topic_partitions(world: World) -> None:
    for index in range(3):
        world.create(f"paged-{index}", 3)
    names = [world.name(f"paged-{index}") for index in range(3)]

    def ask(label: str, topics: list[str], limit: int = 2000, cursor: Cursor | None = None) -> Any:
        entries = [TopicRequest(name=name) for name in topics]
        request = DescribeTopicPartitionsRequest(topics=entries, response_partition_limit=limit, cursor=cursor)
        return world.ask(label, request)

    ask("all three", names)
    ask("other order", names[::-1])
    ask("twice", names[:1] * 2)
    ask("unknown", [world.name("paged-none"), names[0]])
    ask("illegal", ["a b", ""])
    for limit in (0, -1, 1, 3, 4, 5, 9, 10):
        ask(f"limit {limit}", names, limit)
    for number in range(9):
        cursor = Cursor(topic_name=names[number // 3], partition_index=number % 3)
        ask(f"from {number}", names, 4, cursor)
    ask("cursor behind the partitions", names, 9, Cursor(topic_name=names[1], partition_index=7))
    ask("cursor negative", names, 9, Cursor(topic_name=names[1], partition_index=-1))
    ask("cursor at an unknown topic", names, 9, Cursor(topic_name=world.name("paged-1x"), partition_index=1))
    ask("cursor behind all topics", names, 9, Cursor(topic_name=world.name("zzz"), partition_index=0))
    ask("cursor before all topics", names, 9, Cursor(topic_name="", partition_index=0))
    ask("unknown topics and a limit", [world.name("paged-none"), *names], 3)


def describe_cluster(world: World) -> None:
    for version in world.versions(DescribeClusterRequest):
        world.ask("cluster", DescribeClusterRequest(), version)
        asked = DescribeClusterRequest(include_cluster_authorized_operations=True)
        world.ask("authorized operations", asked, version)
        if version >= 1:
            for endpoint_type in (0, 2, 3):
                world.ask(
                    f"endpoint type {endpoint_type}", DescribeClusterRequest(endpoint_type=endpoint_type), version
                )
        if version >= 2:
            world.ask("fenced brokers too", DescribeClusterRequest(include_fenced_brokers=True), version)


def describe_log_dirs(world: World) -> None:
    world.create("sized", 2)
    world.produce("three records", "sized", world.batch(b"a", b"b", b"c"), 9)

    def topics(*pairs: tuple[str, list[int]]) -> list[DescribableLogDirTopic]:
        return [DescribableLogDirTopic(topic=world.name(name), partitions=numbers) for name, numbers in pairs]

    for version in world.versions(DescribeLogDirsRequest):
        world.ask("both", DescribeLogDirsRequest(topics=topics(("sized", [0, 1]))), version)
        world.ask("one", DescribeLogDirsRequest(topics=topics(("sized", [0]))), version)
        world.ask("unknown partition", DescribeLogDirsRequest(topics=topics(("sized", [7]))), version)
        world.ask("unknown topic", DescribeLogDirsRequest(topics=topics(("sized-none", [0]))), version)
        world.ask("no partitions", DescribeLogDirsRequest(topics=topics(("sized", []))), version)
        world.ask("nothing", DescribeLogDirsRequest(topics=[]), version)
        world.wire.send(DescribeLogDirsRequest(topics=None), version)
        answer: Any = world.wire.receive()
        answer.results[0].topics = [topic for topic in answer.results[0].topics if topic.name == world.name("sized")]
        world.note(f"all v{version}", answer)


SCENARIOS = (
    metadata,
    metadata_of_all_topics,
    metadata_by_id,
    metadata_creates_topics,
    create_topics,
    delete_topics,
    create_partitions,
    describe_topic_partitions,
    describe_cluster,
    describe_log_dirs,
)
