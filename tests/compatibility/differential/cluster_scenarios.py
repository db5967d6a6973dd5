"""What a cluster of three is asked, in order: all brokers there, one gone, two gone, all back.

Node 1 is the controller as well, in rack a; 2 and 3 are brokers, in the racks b and c. Replicas are always said: where
Apache Kafka puts them is left to chance.
"""

from __future__ import annotations

import time
from typing import Any

from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.add_raft_voter import AddRaftVoterRequest, Listener
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from ottla.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
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
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest
from ottla.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.protocol.messages.describe_groups import DescribeGroupsRequest
from ottla.protocol.messages.describe_log_dirs import DescribableLogDirTopic, DescribeLogDirsRequest
from ottla.protocol.messages.describe_producers import DescribeProducersRequest
from ottla.protocol.messages.describe_producers import TopicRequest as ProducersTopic
from ottla.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
)
from ottla.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest, TopicRequest
from ottla.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.protocol.messages.end_txn import EndTxnRequest
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest
from ottla.protocol.messages.list_groups import ListGroupsRequest
from ottla.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup
from ottla.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest
from ottla.protocol.messages.unregister_broker import UnregisterBrokerRequest
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.compatibility.differential.cluster_world import ClusterWorld

PREFERRED, UNCLEAN = 0, 1
LATEST, EARLIEST = -1, -2
TOPIC, BROKER, LOGGER = 2, 4, 8
SET, DELETE = 0, 1
UPGRADE, SAFE, UNSAFE = 1, 2, 3
NO_SUCH_ID = bytes(15) + b"\x77"
QUORUM_PROGRESS = (
    "leader_epoch",
    "high_watermark",
    "log_end_offset",
    "last_fetch_timestamp",
    "last_caught_up_timestamp",
    "replica_directory_id",
)
"""How far a quorum is, which no two runs agree in."""
METADATA_NOISE = ("controller_id",)
"""Which broker is named as the controller is left to chance at Apache Kafka."""

# Requests in short


def produce(
    world: ClusterWorld, topic: str, partition: int = 0, *, acks: int = -1, timeout_ms: int = 10_000
) -> ProduceRequest:
    data = PartitionProduceData(index=partition, records=world.batch(b"a", b"b"))
    return ProduceRequest(
        acks=acks,
        timeout_ms=timeout_ms,
        topic_data=[TopicProduceData(name=topic, topic_id=world.topic_id(topic), partition_data=[data])],
    )


def fetch(
    world: ClusterWorld,
    topic: str,
    partition: int = 0,
    *,
    offset: int = 0,
    rack: str = "",
    topic_id: bytes | None = None,
    **of: Any,
) -> FetchRequest:
    asked = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20, **of)
    chosen = world.topic_id(topic) if topic_id is None else topic_id
    topics = [FetchTopic(topic=topic, topic_id=chosen, partitions=[asked])]
    return FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=1 << 24, rack_id=rack, topics=topics)


def offsets(topic: str, partition: int = 0, *, timestamp: int = LATEST, epoch: int = -1) -> ListOffsetsRequest:
    asked = ListOffsetsPartition(partition_index=partition, current_leader_epoch=epoch, timestamp=timestamp)
    return ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=[asked])], timeout_ms=5000)


def epoch_end(topic: str, partition: int = 0, *, epoch: int = 0, current: int = -1) -> OffsetForLeaderEpochRequest:
    asked = OffsetForLeaderPartition(partition=partition, current_leader_epoch=current, leader_epoch=epoch)
    return OffsetForLeaderEpochRequest(replica_id=-1, topics=[OffsetForLeaderTopic(topic=topic, partitions=[asked])])


def metadata(*topics: str) -> MetadataRequest:
    return MetadataRequest(topics=[MetadataRequestTopic(name=name) for name in topics], allow_auto_topic_creation=False)


def described(*topics: str) -> DescribeTopicPartitionsRequest:
    return DescribeTopicPartitionsRequest(topics=[TopicRequest(name=name) for name in topics])


def creation(
    name: str,
    *,
    partitions: int = -1,
    factor: int = -1,
    validate_only: bool = True,
    replicas: dict[int, list[int]] | None = None,
    **configs: str,
) -> CreateTopicsRequest:
    assignments = [
        CreatableReplicaAssignment(partition_index=index, broker_ids=ids) for index, ids in (replicas or {}).items()
    ]
    topic = CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=factor,
        assignments=assignments,
        configs=[CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()],
    )
    return CreateTopicsRequest(topics=[topic], timeout_ms=10_000, validate_only=validate_only)


def more_partitions(name: str, count: int, *assignments: list[int]) -> CreatePartitionsRequest:
    chosen = [CreatePartitionsAssignment(broker_ids=ids) for ids in assignments] or None
    topics = [CreatePartitionsTopic(name=name, count=count, assignments=chosen)]
    return CreatePartitionsRequest(topics=topics, timeout_ms=10_000, validate_only=True)


def election(kind: int, topics: dict[str, list[int]] | None) -> ElectLeadersRequest:
    asked = None if topics is None else [TopicPartitions(topic=name, partitions=some) for name, some in topics.items()]
    return ElectLeadersRequest(election_type=kind, topic_partitions=asked, timeout_ms=10_000)


def move(
    topic: str, replicas: list[int] | None, partition: int = 0, *, changes_factor: bool = True
) -> AlterPartitionReassignmentsRequest:
    asked = ReassignablePartition(partition_index=partition, replicas=replicas)
    return AlterPartitionReassignmentsRequest(
        timeout_ms=10_000,
        allow_replication_factor_change=changes_factor,
        topics=[ReassignableTopic(name=topic, partitions=[asked])],
    )


def moves(**topics: list[int]) -> ListPartitionReassignmentsRequest:
    asked = [ListPartitionReassignmentsTopics(name=name, partition_indexes=some) for name, some in topics.items()]
    return ListPartitionReassignmentsRequest(timeout_ms=10_000, topics=asked or None)


def alteration(
    kind: int, name: str, operation: int, setting: str, value: str | None, *, validate_only: bool = False
) -> Any:
    change = AlterableConfig(name=setting, config_operation=operation, value=value)
    resource = AlterConfigsResource(resource_type=kind, resource_name=name, configs=[change])
    return IncrementalAlterConfigsRequest(resources=[resource], validate_only=validate_only)


def settings(kind: int, name: str, *keys: str) -> DescribeConfigsRequest:
    resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=list(keys))
    return DescribeConfigsRequest(resources=[resource], include_synonyms=True)


def feature(name: str, level: int, kind: int = UPGRADE) -> UpdateFeaturesRequest:
    update = FeatureUpdateKey(feature=name, max_version_level=level, upgrade_type=kind)
    return UpdateFeaturesRequest(timeout_ms=10_000, feature_updates=[update], validate_only=True)


def quorum(topic: str = "__cluster_metadata", partition: int = 0) -> DescribeQuorumRequest:
    asked = [DescribeQuorumRequestPartitionData(partition_index=partition)]
    return DescribeQuorumRequest(topics=[DescribeQuorumRequestTopicData(topic_name=topic, partitions=asked)])


def coordinator(kind: int, *keys: str) -> FindCoordinatorRequest:
    return FindCoordinatorRequest(key_type=kind, coordinator_keys=list(keys))


def committed(group: str) -> OffsetFetchRequest:
    return OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=None)])


def commit(world: ClusterWorld, group: str, topic: str, offset: int) -> OffsetCommitRequest:
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
    topics = [OffsetCommitRequestTopic(name=topic, topic_id=world.topic_id(topic), partitions=[partition])]
    return OffsetCommitRequest(group_id=group, topics=topics)


def producer_id(transactional_id: str | None = None) -> InitProducerIdRequest:
    return InitProducerIdRequest(transactional_id=transactional_id, transaction_timeout_ms=60_000)


# Scenarios, in order


def creating_topics(world: ClusterWorld) -> None:
    every = {
        "more replicas than brokers": creation("x", partitions=1, factor=4),
        "replication factor 0": creation("x", partitions=1, factor=0),
        "replication factor -2": creation("x", partitions=1, factor=-2),
        "defaults": creation("x"),
        "a broker twice": creation("x", replicas={0: [1, 1]}),
        "an unknown broker": creation("x", replicas={0: [1, 9]}),
        "no replicas": creation("x", replicas={0: []}),
        "a partition left out": creation("x", replicas={0: [1], 2: [1]}),
        "replicas in different numbers": creation("x", replicas={0: [1, 2], 1: [3]}),
        "assignment and partitions": creation("x", partitions=1, replicas={0: [1, 2]}),
        "assignment and factor": creation("x", factor=2, replicas={0: [1, 2]}),
        "min isr above replicas": creation("x", replicas={0: [1, 2]}, min_insync_replicas="3"),
        "assignment": creation("x", replicas={0: [1, 2], 1: [3, 1]}),
    }
    for label, request in every.items():
        world.ask(f"validate: {label}", 2, request)
    world.create("all", [1, 2, 3], [2, 3, 1], [3, 1, 2], min_insync_replicas="2")
    world.create("two", [2, 3], [3, 2], min_insync_replicas="2")
    world.create("any", [3, 2], unclean_leader_election_enable="true")
    world.create("single", [3])
    world.create("lone", [1, 3])
    world.ask_all("metadata", metadata("all", "two", "any"), hide=METADATA_NOISE)
    world.ask_all("described", described("all", "two"))
    grown: dict[str, CreatePartitionsRequest] = {
        "unknown broker": more_partitions("all", 4, [1, 2, 9]),
        "too few replicas": more_partitions("all", 4, [1, 2]),
        "a broker twice": more_partitions("all", 4, [1, 1, 2]),
        "too many assignments": more_partitions("all", 4, [1, 2, 3], [1, 2, 3]),
        "fewer": more_partitions("all", 2),
        "as many": more_partitions("all", 3),
        "unknown topic": more_partitions("none", 3),
        "one more": more_partitions("all", 4, [3, 2, 1]),
    }
    for label, more in grown.items():
        world.ask(f"grow: {label}", 3, more)


def leaders_and_followers(world: ClusterWorld) -> None:
    world.ask_all("produce", produce(world, "all"))
    world.ask("produce to no replica", 1, produce(world, "two"))
    world.ask("produce, acks 1", 2, produce(world, "two", acks=1))
    for broker_id in (2, 3):  # the high watermark reaches followers with their next fetch
        at_end = fetch(world, "all")
        world.await_answer(broker_id, at_end, lambda it: it.responses[0].partitions[0].high_watermark == 2)
    world.ask_all("fetch", fetch(world, "all"))
    world.ask("fetch from no replica", 1, fetch(world, "two"))
    world.ask("fetch past the end of a follower", 2, fetch(world, "all", offset=9))
    for rack in ("", "a", "b", "z"):
        world.ask(f"fetch for rack {rack!r}", 1, fetch(world, "all", rack=rack))
        world.ask(f"fetch for rack {rack!r}", 2, fetch(world, "all", rack=rack))
    for epoch in (0, 1, -1):
        world.ask_all(f"fetch, epoch {epoch}", fetch(world, "all", current_leader_epoch=epoch), of=(1, 2))
        world.ask_all(f"offsets, epoch {epoch}", offsets("all", epoch=epoch), of=(1, 2))
        world.ask_all(f"epoch end, current {epoch}", epoch_end("all", current=epoch), of=(1, 2))
    world.ask_all("fetch, last epoch 5", fetch(world, "all", last_fetched_epoch=5, current_leader_epoch=0), of=(1, 2))
    world.ask_all("fetch, unknown id", fetch(world, "none", topic_id=NO_SUCH_ID))
    world.ask_all("fetch, no id", fetch(world, "none", topic_id=ZERO_UUID))
    world.ask_all("fetch, by name", fetch(world, "two"), of=(1, 2))
    world.ask_all("fetch, unknown partition", fetch(world, "all", 7), of=(1, 2))
    for timestamp in (LATEST, EARLIEST, -3, -4, -5, world.base_ms):
        shown = "time" if timestamp > 0 else timestamp
        world.ask_all(f"offsets at {shown}", offsets("all", timestamp=timestamp), of=(1, 2))
    world.ask_all("offsets of no replica", offsets("two"))
    world.ask_all("offsets of nothing", offsets("none"))
    world.ask_all("epoch end of an epoch to come", epoch_end("all", epoch=3), of=(1, 2))
    world.ask_all("epoch end of nothing", epoch_end("none"), of=(1, 2))
    topics = [ProducersTopic(name="all", partition_indexes=[0, 1, 9])]
    world.ask_all("producers", DescribeProducersRequest(topics=topics), of=(1, 2))


def cluster_and_quorum(world: ClusterWorld) -> None:
    for fenced in (False, True):
        request = DescribeClusterRequest(include_fenced_brokers=fenced)
        world.ask_all(f"cluster, fenced {fenced}", request, hide=METADATA_NOISE)
    world.ask("controllers of a broker", 2, DescribeClusterRequest(endpoint_type=2), hide=METADATA_NOISE)
    world.ask_all("quorum", quorum(), hide=QUORUM_PROGRESS)
    world.ask("quorum of another topic", 2, quorum("all"), hide=QUORUM_PROGRESS)
    world.ask("quorum of another partition", 2, quorum(partition=1), hide=QUORUM_PROGRESS)
    listeners = [Listener(name="CONTROLLER", host="localhost", port=1)]
    add = AddRaftVoterRequest(timeout_ms=1000, voter_id=9, voter_directory_id=NO_SUCH_ID, listeners=listeners)
    remove = RemoveRaftVoterRequest(voter_id=1, voter_directory_id=NO_SUCH_ID)
    world.ask("add a voter", 2, add)
    world.ask("remove a voter", 2, remove)
    add.cluster_id = remove.cluster_id = "another"
    world.ask("add a voter of another cluster", 2, add)
    world.ask("remove a voter of another cluster", 2, remove)
    world.ask("unregister an unknown broker", 2, UnregisterBrokerRequest(broker_id=9))
    levels = {
        "the same": feature("metadata.version", 30),
        "unknown level": feature("metadata.version", 99),
        "down": feature("metadata.version", 25),
        "safe down": feature("metadata.version", 25, SAFE),
        "unsafe down": feature("metadata.version", 25, UNSAFE),
        "a step down": feature("metadata.version", 29, SAFE),
        "unknown feature": feature("none.version", 1),
        "kraft up": feature("kraft.version", 1),
        "kraft down": feature("kraft.version", 0, SAFE),
        "elr off": feature("eligible.leader.replicas.version", 0, SAFE),
        "elr off as upgrade": feature("eligible.leader.replicas.version", 0),
        "elr 2": feature("eligible.leader.replicas.version", 2),
        "negative": feature("group.version", -1),
        "strange type": feature("group.version", 1, 7),
    }
    for label, update in levels.items():
        world.ask(f"features: {label}", 3, update)


def settings_of_brokers(world: ClusterWorld) -> None:
    name = "min.insync.replicas"
    world.ask_all("cluster's own settings", settings(BROKER, ""))
    world.ask_all("min isr of broker 2", settings(BROKER, "2", name))
    world.ask("topic without min isr", 1, settings(TOPIC, "lone", name))
    world.ask("topic with min isr", 2, settings(TOPIC, "all", name))
    changes = {
        "remove the cluster's min isr": alteration(BROKER, "", DELETE, name, None),
        "min isr of one broker": alteration(BROKER, "2", SET, name, "2"),
        "remove min isr of one broker": alteration(BROKER, "2", DELETE, name, None),
        "min isr 0": alteration(BROKER, "", SET, name, "0"),
        "the same min isr": alteration(BROKER, "", SET, name, "1"),
        "broker 2": alteration(BROKER, "2", SET, "log.cleaner.threads", "2"),
        "broker 3": alteration(BROKER, "3", SET, "log.cleaner.threads", "1"),
        "an unknown broker": alteration(BROKER, "9", SET, "log.cleaner.threads", "2"),
        "no broker": alteration(BROKER, "x", SET, "log.cleaner.threads", "2"),
        "not dynamic": alteration(BROKER, "2", SET, "broker.rack", "z"),
        "only for all": alteration(BROKER, "", SET, "advertised.listeners", "PLAINTEXT://x:1"),
        "logger of another": alteration(LOGGER, "3", SET, "root", "INFO"),
        "validated only": alteration(BROKER, "3", SET, "log.cleaner.threads", "2", validate_only=True),
    }
    for label, request in changes.items():
        world.ask(f"alter: {label}", 2, request)
    wanted = settings(BROKER, "2", "log.cleaner.threads")
    world.await_answer(2, wanted, lambda it: it.results[0].configs[0].value == "2")
    world.ask_all("threads of broker 2", wanted)
    world.ask("threads of an unknown broker", 1, settings(BROKER, "9", "log.cleaner.threads"))
    world.ask("loggers of another broker", 1, settings(LOGGER, "2", "root"))


def moving_replicas(world: ClusterWorld) -> None:
    refused = {
        "unknown topic": move("none", [1]),
        "unknown partition": move("lone", [1], 9),
        "unknown broker": move("lone", [1, 9]),
        "a broker twice": move("lone", [1, 1]),
        "negative broker": move("lone", [-1, 1]),
        "no replicas": move("lone", []),
        "nothing to cancel": move("lone", None),
        "another factor": move("lone", [1, 2, 3], changes_factor=False),
    }
    for label, request in refused.items():
        world.ask(f"move: {label}", 2, request)
    world.ask("moves", 3, moves())
    world.ask("moves of some", 3, moves(lone=[0, 9], none=[0]))
    world.ask("same replicas, other order", 2, move("lone", [3, 1]))
    world.ask("to other brokers", 2, move("lone", [2, 3]))
    world.await_partition("lone", 0, lambda it: it.replica_nodes == [2, 3] == sorted(it.isr_nodes), of=(1, 2, 3))
    world.ask("done", 1, described("lone"))
    world.ask_all("metadata", metadata("lone"), hide=METADATA_NOISE)


def electing_leaders(world: ClusterWorld) -> None:
    for kind in (PREFERRED, UNCLEAN):
        world.ask(f"elect {kind}: not needed", 2, election(kind, {"all": [0, 1], "two": [0]}))
        world.ask(f"elect {kind}: unknown", 2, election(kind, {"all": [9], "none": [0]}))
        world.ask(f"elect {kind}: none", 2, election(kind, {}))
        world.ask(f"elect {kind}: all", 2, election(kind, None))
    world.ask("elect 7", 2, election(7, {"all": [0]}))


def directories(world: ClusterWorld) -> None:
    topics = [DescribableLogDirTopic(topic="all", partitions=[0, 1])]
    world.ask_all("directories", DescribeLogDirsRequest(topics=topics))
    moved = [AlterReplicaLogDirTopic(name="two", partitions=[0, 9])]
    request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path="/none", topics=moved)])
    world.ask_all("to a directory that is none", request)


def producers_and_coordinators(world: ClusterWorld) -> None:
    for broker_id in (1, 2, 3):  # which at Apache Kafka asks for a block of them first, and says so
        world.await_answer(broker_id, producer_id(), lambda it: not it.error_code)
    world.ask_all("producer id", producer_id(), hide=("producer_id",))
    own = {"cleanup_policy": "compact"}
    world.create("__consumer_offsets", [3, 2, 1], **own)
    world.create("__transaction_state", [3, 2, 1], **own)
    for broker_id in (1, 2, 3):
        for kind in (0, 1):
            world.await_answer(broker_id, coordinator(kind, "g"), lambda it: it.coordinators[0].node_id == 3)
    world.ask_all("coordinator of a group", coordinator(0, "g", "h"))
    world.ask_all("coordinator of a transaction", coordinator(1, "t"))
    world.await_answer(3, commit(world, "g", "all", 1), lambda it: not it.topics[0].partitions[0].error_code)
    world.ask_all("commit", commit(world, "g", "all", 1))
    world.ask_all("committed", committed("g"))
    world.ask_all("groups", ListGroupsRequest())
    world.ask_all("describe", DescribeGroupsRequest(groups=["g", "none"]))
    world.ask_all("describe consumers", ConsumerGroupDescribeRequest(group_ids=["g", "none"]))
    world.await_answer(3, producer_id("t"), lambda it: not it.error_code)
    world.ask_all("transactional producer id", producer_id("t"), hide=("producer_id",))
    world.ask_all(
        "end of a transaction", EndTxnRequest(transactional_id="t", producer_id=5, producer_epoch=0, committed=True)
    )


def one_is_gone(world: ClusterWorld) -> None:
    world.pause(3)
    world.await_partition("all", 2, lambda it: it.leader_id == 1, of=(1, 2))
    world.await_partition("two", 0, lambda it: 3 not in it.isr_nodes, of=(1, 2))
    gone = (1, 2)
    _state(world, "without 3", gone)
    world.ask("produce with two of three", 1, produce(world, "all"))
    world.ask("produce to a partition of 3", 2, produce(world, "two", 0))
    world.ask("produce, acks 1, too few", 2, produce(world, "two", 0, acks=1))
    world.ask("produce to a partition without leader", 2, produce(world, "single"))
    world.ask("offsets of a partition without leader", 2, offsets("single"))
    world.ask("create: three replicas", 1, creation("x", partitions=1, factor=3))
    world.ask("create: two replicas", 1, creation("x", partitions=1, factor=2))
    world.ask("create: on all", 1, creation("x", replicas={0: [1, 2, 3]}))
    world.ask("create: on 3", 1, creation("x", replicas={0: [3]}))
    world.ask("grow on 3", 1, more_partitions("single", 2, [3]))
    for kind in (PREFERRED, UNCLEAN):
        world.ask(f"elect {kind}", 2, election(kind, {"all": [2], "two": [0, 1], "any": [0], "single": [0]}))
        world.ask(f"elect {kind}: all", 2, election(kind, None))
    world.ask("move to 3 alone", 2, move("any", [3], 0))
    world.ask("move towards 3", 2, move("all", [1, 3], 0))
    world.ask("moves", 2, moves())
    world.ask("described while moving", 1, described("all"))
    world.ask("another move on top", 2, move("all", [3, 2], 0))
    world.ask("cancel", 2, move("all", None, 0))
    world.ask("cancel that of one", 2, move("any", None, 0))
    world.ask("moves after that", 2, moves())
    for kind in (0, 1):
        world.await_answer(2, coordinator(kind, "g"), lambda it: it.coordinators[0].node_id == 2)
        world.ask_all(f"coordinator of kind {kind}", coordinator(kind, "g"), of=gone)
    world.await_answer(2, committed("g"), lambda it: not it.groups[0].error_code)
    world.ask_all("committed", committed("g"), of=gone)
    world.await_answer(2, producer_id("t"), lambda it: not it.error_code)
    world.ask_all("transactional producer id", producer_id("t"), of=gone, hide=("producer_id",))
    world.ask("settings of the broker that is gone", 1, alteration(BROKER, "3", SET, "log.cleaner.threads", "2"))
    world.ask("features", 2, feature("metadata.version", 30))


def two_are_gone(world: ClusterWorld) -> None:
    world.pause(2)
    world.await_partition("two", 0, lambda it: it.leader_id == -1)
    gone = (1,)
    _state(world, "without 2 and 3", gone)
    world.ask("produce with one of three", 1, produce(world, "all"))
    world.ask("produce, acks 1", 1, produce(world, "all", acks=1))
    world.ask("fetch what is not committed", 1, fetch(world, "all"))
    world.ask("create: two replicas", 1, creation("x", partitions=1, factor=2))
    world.ask("create: one replica", 1, creation("x", partitions=1, factor=1))
    for kind in (PREFERRED, UNCLEAN):
        world.ask(f"elect {kind}", 1, election(kind, {"all": [0, 1, 2], "two": [0, 1], "any": [0], "single": [0]}))
    world.ask("min isr of a topic", 1, alteration(TOPIC, "all", SET, "min.insync.replicas", "1"))
    _state(world, "with min isr 1", gone)
    world.ask("produce with min isr 1", 1, produce(world, "all"))
    world.ask("min isr as before", 1, alteration(TOPIC, "all", SET, "min.insync.replicas", "2"))


def all_are_back(world: ClusterWorld) -> None:
    world.resume(3)
    for topic in ("two", "any", "single"):
        world.await_partition(topic, 0, lambda it: it.leader_id == 3, of=(1, 3))
    for index in range(3):
        world.await_partition("all", index, lambda it: sorted(it.isr_nodes) == [1, 3], of=(1, 3))
    _state(world, "3 back", (1, 3))
    world.resume(2)
    for topic, count in (("all", 3), ("two", 2), ("any", 1), ("lone", 1)):
        for index in range(count):
            full = lambda it: sorted(it.isr_nodes) == sorted(it.replica_nodes)  # noqa: E731
            world.await_partition(topic, index, full, of=(1, 2, 3))
    time.sleep(0.2)
    _state(world, "all back", (1, 2, 3))
    world.ask("elect all preferred", 2, election(PREFERRED, {"all": [0, 1, 2], "any": [0]}))
    world.await_partition("all", 2, lambda it: it.leader_id == 3, of=(1, 2, 3))
    world.ask_all("after the election", described("all", "any"))
    world.ask("produce to the leader again", 3, produce(world, "all", 2))
    world.ask_all("epoch end", epoch_end("all", epoch=0))
    world.ask("epoch that is over", 3, fetch(world, "all", 2, current_leader_epoch=0))
    world.ask("unregister a broker that is there", 1, UnregisterBrokerRequest(broker_id=3))


def _state(world: ClusterWorld, label: str, of: tuple[int, ...]) -> None:
    """What brokers say of the cluster and its partitions."""
    topics = ("all", "two", "any", "lone", "single")
    world.ask_all(f"metadata {label}", metadata(*topics), of=of, hide=METADATA_NOISE)
    world.ask_all(f"described {label}", described(*topics), of=of)
    for fenced in (False, True):
        request = DescribeClusterRequest(include_fenced_brokers=fenced)
        world.ask_all(f"cluster {label}, fenced {fenced}", request, of=of, hide=METADATA_NOISE)


SCENARIOS = (
    creating_topics,
    leaders_and_followers,
    cluster_and_quorum,
    settings_of_brokers,
    moving_replicas,
    electing_leaders,
    directories,
    producers_and_coordinators,
    one_is_gone,
    two_are_gone,
    all_are_back,
)
