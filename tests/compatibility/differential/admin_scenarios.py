"""The rest of administration: features, the quorum, settings of groups and client metrics, elections, reassignments."""

from __future__ import annotations

from typing import Any

from ottla.protocol.messages import alter_partition_reassignments as reassign
from ottla.protocol.messages import describe_quorum
from ottla.protocol.messages.alter_configs import AlterableConfig as ReplacedConfig
from ottla.protocol.messages.alter_configs import AlterConfigsRequest
from ottla.protocol.messages.alter_configs import AlterConfigsResource as ReplacedResource
from ottla.protocol.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
from ottla.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.protocol.messages.describe_quorum import DescribeQuorumRequest
from ottla.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.protocol.messages.list_config_resources import ListConfigResourcesRequest
from ottla.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsTopics,
)
from ottla.protocol.messages.unregister_broker import UnregisterBrokerRequest
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from tests.compatibility.differential.world import World

SET, DELETE, APPEND, SUBTRACT = range(4)
UPGRADE, SAFE, UNSAFE = 1, 2, 3
TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32

Operation = tuple[str, int, str | None]


def update_features(world: World) -> None:
    """Refusals, and updates to the level that is there: other scenarios need the features as they are."""
    cases = {
        "the same": ("metadata.version", 30, UPGRADE),
        "the same, as a downgrade": ("metadata.version", 30, SAFE),
        "no downgrade of changed records": ("metadata.version", 29, SAFE),
        "not even an unsafe one": ("metadata.version", 29, UNSAFE),
        "a downgrade by upgrading": ("metadata.version", 29, UPGRADE),
        "far too high": ("metadata.version", 99, UPGRADE),
        "too low": ("metadata.version", 6, SAFE),
        "zero": ("metadata.version", 0, SAFE),
        "negative": ("metadata.version", -1, SAFE),
        "unknown feature": ("no.such.feature", 1, UPGRADE),
        "unknown feature to zero": ("no.such.feature", 0, SAFE),
        "unknown type": ("metadata.version", 30, 0),
        "unknown type 4": ("metadata.version", 30, 4),
        "kraft the same": ("kraft.version", 1, UPGRADE),
        "kraft the same, as a downgrade": ("kraft.version", 1, SAFE),
        "kraft down": ("kraft.version", 0, SAFE),
        "kraft too high": ("kraft.version", 2, UPGRADE),
        "replicas too high": ("eligible.leader.replicas.version", 2, UPGRADE),
    }
    for version in world.versions(UpdateFeaturesRequest):
        for label, (name, level, kind) in cases.items():
            if version == 0 and kind != UPGRADE:
                continue
            key = FeatureUpdateKey(feature=name, max_version_level=level, upgrade_type=kind)
            if version > 0:
                world.ask(
                    f"{label}, only validate", UpdateFeaturesRequest(feature_updates=[key], validate_only=True), version
                )
            world.ask(label, UpdateFeaturesRequest(feature_updates=[key]), version)
        world.ask("nothing", UpdateFeaturesRequest(feature_updates=[]), version)
        same = FeatureUpdateKey(feature="metadata.version", max_version_level=30)
        bad = FeatureUpdateKey(feature="no.such.feature", max_version_level=1)
        world.ask("one good, one bad", UpdateFeaturesRequest(feature_updates=[same, bad]), version)
        world.ask("two good", UpdateFeaturesRequest(feature_updates=[same, _kraft()]), version)


def _kraft() -> FeatureUpdateKey:
    return FeatureUpdateKey(feature="kraft.version", max_version_level=1)


def quorum(world: World) -> None:
    """Offsets, times and directory ids are each broker's own: what is compared is how they relate."""
    for version in world.versions(DescribeQuorumRequest):
        answer = world.ask_quietly(_quorum_request("__cluster_metadata", 0), version)
        (described,) = answer.topics
        (partition,) = described.partitions
        (voter,) = partition.current_voters
        world.note(f"described v{version}", (answer.error_code, described.topic_name, partition.partition_index))
        world.note(f"leader v{version}", (partition.error_code, partition.leader_id, partition.leader_epoch > 0))
        world.note(f"voter v{version}", (voter.replica_id, voter.log_end_offset == partition.high_watermark))
        world.note(f"directory v{version}", voter.replica_directory_id != bytes(16))
        is_timed = voter.last_fetch_timestamp > 0, voter.last_caught_up_timestamp > 0
        world.note(f"times v{version}", is_timed)
        world.note(f"observers v{version}", len(partition.observers))
        nodes = [(node.node_id, [listener.name for listener in node.listeners]) for node in answer.nodes]
        world.note(f"nodes v{version}", nodes)
        for name, partitions in (("t", (0,)), ("__cluster_metadata", (1,)), ("__cluster_metadata", (0, 1)), ("", ())):
            world.ask(f"{name} {partitions}", _quorum_request(name, *partitions), version)
        world.ask("nothing", DescribeQuorumRequest(topics=[]), version)


def _quorum_request(name: str, *partitions: int) -> DescribeQuorumRequest:
    asked = [describe_quorum.DescribeQuorumRequestPartitionData(partition_index=index) for index in partitions]
    return DescribeQuorumRequest(
        topics=[describe_quorum.DescribeQuorumRequestTopicData(topic_name=name, partitions=asked)]
    )


def _alter(world: World, label: str, kind: int, name: str, *operations: Operation, **more: Any) -> None:
    configs = [AlterableConfig(name=key, config_operation=what, value=value) for key, what, value in operations]
    resource = AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)
    world.ask(label, IncrementalAlterConfigsRequest(resources=[resource], **more))


def _describe(world: World, label: str, kind: int, name: str, keys: list[str]) -> None:
    resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
    world.settle(label, DescribeConfigsRequest(resources=[resource], include_synonyms=True))


def _list(world: World, label: str, *types: int, version: int = 1) -> None:
    """Only the names of this run: the brokers have been through other scenarios."""
    answer = world.ask_quietly(ListConfigResourcesRequest(resource_types=list(types)), version)
    resources = [(one.resource_type, one.resource_name.removeprefix(world.run)) for one in answer.config_resources]
    found = sorted(one for one in resources if one[1].startswith("listed-") or one[0] in (BROKER, LOGGER))
    world.note(label, (answer.error_code, found))


CLIENT_METRICS_KEYS = ["interval.ms", "match", "metrics"]


def client_metrics_settings(world: World) -> None:
    name = world.name("listed-metrics")
    cases: dict[str, list[Operation]] = {
        "set": [("metrics", SET, "org.apache.kafka."), ("interval.ms", SET, "1000")],
        "a list": [("metrics", SET, "a.,b.")],
        "append": [("metrics", APPEND, "c.")],
        "append what is there": [("metrics", APPEND, "a.")],
        "subtract": [("metrics", SUBTRACT, "b.")],
        "twice the same": [("metrics", SET, "a.,b.,a.")],
        "all": [("metrics", SET, "*")],
        "empty list": [("metrics", SET, "")],
        "empty item": [("metrics", SET, "a.,,b.")],
        "interval too short": [("interval.ms", SET, "99")],
        "interval shortest": [("interval.ms", SET, "100")],
        "interval longest": [("interval.ms", SET, "3600000")],
        "interval too long": [("interval.ms", SET, "3600001")],
        "interval no number": [("interval.ms", SET, "soon")],
        "interval append": [("interval.ms", APPEND, "1")],
        "match": [("match", SET, "client_id=a.*,client_software_name=java")],
        "match with spaces": [("match", SET, " client_id = a.* , client_source_address=1")],
        "match unknown selector": [("match", SET, "color=blue")],
        "match without expression": [("match", SET, "client_id")],
        "match empty expression": [("match", SET, "client_id=")],
        "match two signs": [("match", SET, "client_id=a=b")],
        "match bad expression": [("match", SET, "client_id=[a")],
        "match append": [("match", APPEND, "client_source_port=9.*")],
        "match a selector twice": [("match", SET, "client_id=a,client_id=b")],
        "unknown": [("color", SET, "blue")],
        "unknown append": [("color", APPEND, "blue")],
        "unknown deleted": [("color", DELETE, None)],
        "null": [("metrics", SET, None)],
        "nothing": [],
    }
    for label, operations in cases.items():
        _alter(world, f"{label}, only validate", CLIENT_METRICS, name, *operations, validate_only=True)
        _alter(world, label, CLIENT_METRICS, name, *operations)
        _describe(world, f"after {label}", CLIENT_METRICS, name, CLIENT_METRICS_KEYS)
    _alter(world, "no name", CLIENT_METRICS, "", ("metrics", SET, "a."))
    for version in world.versions(ListConfigResourcesRequest):
        _list(world, f"listed v{version}", version=version)
    replaced = ReplacedResource(
        resource_type=CLIENT_METRICS, resource_name=name, configs=[ReplacedConfig(name="metrics", value="z.")]
    )
    world.ask("replaced", AlterConfigsRequest(resources=[replaced]))
    _describe(world, "after replaced", CLIENT_METRICS, name, CLIENT_METRICS_KEYS)
    _alter(world, "all deleted", CLIENT_METRICS, name, *((key, DELETE, None) for key in CLIENT_METRICS_KEYS))
    _describe(world, "after all deleted", CLIENT_METRICS, name, CLIENT_METRICS_KEYS)
    _list(world, "none left", CLIENT_METRICS)


GROUP_KEYS = [
    "consumer.session.timeout.ms",
    "consumer.heartbeat.interval.ms",
    "share.record.lock.duration.ms",
    "share.auto.offset.reset",
    "share.isolation.level",
    "streams.num.standby.replicas",
]


def group_settings(world: World) -> None:
    name = world.name("listed-group")
    cases: dict[str, list[Operation]] = {
        "set": [("consumer.session.timeout.ms", SET, "50000"), ("consumer.heartbeat.interval.ms", SET, "6000")],
        "session below the least": [("consumer.session.timeout.ms", SET, "5")],
        "session above the most": [("consumer.session.timeout.ms", SET, "60001")],
        "heartbeat below the least": [("consumer.heartbeat.interval.ms", SET, "4999")],
        "heartbeat above the most": [("consumer.heartbeat.interval.ms", SET, "15001")],
        "lock": [("share.record.lock.duration.ms", SET, "20000")],
        "lock too short": [("share.record.lock.duration.ms", SET, "14999")],
        "lock too long": [("share.record.lock.duration.ms", SET, "60001")],
        "reset": [("share.auto.offset.reset", SET, "earliest")],
        "reset by duration": [("share.auto.offset.reset", SET, "by_duration:PT1H")],
        "reset by nonsense": [("share.auto.offset.reset", SET, "by_duration:1h")],
        "reset none": [("share.auto.offset.reset", SET, "none")],
        "isolation": [("share.isolation.level", SET, "read_committed")],
        "isolation unknown": [("share.isolation.level", SET, "dirty")],
        "standby": [("streams.num.standby.replicas", SET, "1")],
        "standby too many": [("streams.num.standby.replicas", SET, "99")],
        "standby negative": [("streams.num.standby.replicas", SET, "-1")],
        "no number": [("consumer.session.timeout.ms", SET, "x")],
        "unknown": [("color", SET, "blue")],
        "of the broker": [("group.consumer.session.timeout.ms", SET, "50000")],
        "append": [("consumer.session.timeout.ms", APPEND, "1")],
        "null": [("consumer.session.timeout.ms", SET, None)],
        "one deleted": [("consumer.session.timeout.ms", DELETE, None)],
    }
    for label, operations in cases.items():
        _alter(world, f"{label}, only validate", GROUP, name, *operations, validate_only=True)
        _alter(world, label, GROUP, name, *operations)
        _describe(world, f"after {label}", GROUP, name, GROUP_KEYS)
    _alter(world, "no name", GROUP, "", ("consumer.session.timeout.ms", SET, "50000"))
    _list(world, "listed", GROUP)
    for types in ((GROUP, CLIENT_METRICS), (BROKER,), (LOGGER, BROKER), (0,), (1,), (TOPIC, 99), (GROUP, GROUP)):
        _list(world, f"types {types}", *types)
    _alter(world, "all deleted", GROUP, name, *((key, DELETE, None) for key in GROUP_KEYS))
    _describe(world, "after all deleted", GROUP, name, GROUP_KEYS)
    _list(world, "none left", GROUP)


def thread_counts(world: World) -> None:
    """To half or double at a time."""
    for name, current in (("num.io.threads", 8), ("background.threads", 10), ("num.replica.fetchers", 1)):
        for value in (0, current // 2 - 1, current // 2, current, current * 2, current * 2 + 1):
            operation = (name, SET, str(value))
            _alter(world, f"{name} {value}", BROKER, "", operation, validate_only=True)
            _alter(world, f"{name} {value} of the broker", BROKER, "1", operation, validate_only=True)


def log_levels(world: World) -> None:
    cases: dict[str, list[Operation]] = {
        "level": [("root", SET, "WARN")],
        "level in lower case": [("root", SET, "warn")],
        "off": [("root", SET, "OFF")],
        "trace": [("root", SET, "TRACE")],
        "fatal": [("root", SET, "FATAL")],
        "null": [("root", SET, None)],
        "empty": [("root", SET, "")],
        "root deleted": [("root", DELETE, None)],
        "subtract": [("root", SUBTRACT, "INFO")],
        "unknown operation": [("root", 9, "INFO")],
        "unknown logger": [("no.such.logger", SET, "INFO")],
        "unknown logger deleted": [("no.such.logger", DELETE, None)],
        "unknown logger appended to": [("no.such.logger", APPEND, "INFO")],
        "twice": [("root", SET, "INFO"), ("root", SET, "WARN")],
        "good and bad": [("root", SET, "INFO"), ("no.such.logger", SET, "WARN")],
        "nothing": [],
    }
    for label, operations in cases.items():
        _alter(world, label, LOGGER, "1", *operations, validate_only=True)
    for name in ("", "2", "x", "01"):
        _alter(world, f"broker {name!r}", LOGGER, name, ("root", SET, "INFO"), validate_only=True)
    setting = AlterableConfig(name="root", config_operation=SET, value="INFO")
    resource = AlterConfigsResource(resource_type=LOGGER, resource_name="1", configs=[setting])
    world.ask("resource twice", IncrementalAlterConfigsRequest(resources=[resource, resource], validate_only=True))
    _describe(world, "root", LOGGER, "1", ["root"])
    _describe(world, "unknown", LOGGER, "1", ["no.such.logger"])


def elections(world: World) -> None:
    world.create("elected", 2)
    name = world.name("elected")
    for version in world.versions(ElectLeadersRequest):
        for kind in (0, 1, 2, -1) if version else (0,):

            def ask(label: str, asked: list[TopicPartitions] | None) -> None:
                request = ElectLeadersRequest(election_type=kind, topic_partitions=asked, timeout_ms=10_000)  # noqa: B023
                world.ask(f"{label} of type {kind}", request, version)  # noqa: B023

            ask("all of a topic", [TopicPartitions(topic=name, partitions=[0, 1])])
            ask("no partition", [TopicPartitions(topic=name, partitions=[2])])
            ask("no topic", [TopicPartitions(topic=world.name("elected-none"), partitions=[0])])
            ask("no partitions", [TopicPartitions(topic=name, partitions=[])])
            ask("nothing", [])


def reassignments(world: World) -> None:
    world.create("moved", 2)
    name = world.name("moved")

    def alter(
        label: str, version: int, replicas: list[int] | None, topic: str = name, index: int = 0, **more: Any
    ) -> None:
        part = reassign.ReassignablePartition(partition_index=index, replicas=replicas)
        topics = [reassign.ReassignableTopic(name=topic, partitions=[part])]
        world.ask(label, AlterPartitionReassignmentsRequest(topics=topics, timeout_ms=10_000, **more), version)

    for version in world.versions(AlterPartitionReassignmentsRequest):
        alter("to where it is", version, [1])
        alter("to a broker that is not", version, [7])
        alter("to this one and one that is not", version, [1, 7])
        alter("to one broker twice", version, [1, 1])
        alter("to none", version, [])
        alter("negative", version, [-1])
        alter("cancelled", version, None)
        alter("no partition", version, [1], index=9)
        alter("no partition cancelled", version, None, index=9)
        alter("no topic", version, [1], topic=world.name("moved-none"))
        if version > 0:
            alter("same factor", version, [1], allow_replication_factor_change=False)
        world.ask("nothing", AlterPartitionReassignmentsRequest(topics=[]), version)
    for label, topics in (("all", None), ("none", []), ("one", [name]), ("unknown", [world.name("moved-none")])):
        asked = None
        if topics is not None:
            asked = [ListPartitionReassignmentsTopics(name=topic, partition_indexes=[0, 9]) for topic in topics]
        world.ask(f"list {label}", ListPartitionReassignmentsRequest(topics=asked))


def unregister(world: World) -> None:
    for broker_id in (7, -1):
        world.ask(f"broker {broker_id}", UnregisterBrokerRequest(broker_id=broker_id))


SCENARIOS = (
    update_features,
    quorum,
    client_metrics_settings,
    group_settings,
    thread_counts,
    log_levels,
    elections,
    reassignments,
    unregister,
)
