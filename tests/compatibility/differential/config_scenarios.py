"""DescribeConfigs, AlterConfigs and IncrementalAlterConfigs: of topics, brokers, and of what there is not."""

from __future__ import annotations

from typing import Any

from ottla.protocol.messages import alter_configs, incremental_alter_configs
from ottla.protocol.messages.alter_configs import AlterConfigsRequest
from ottla.protocol.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from tests.compatibility.differential.world import World

SET, DELETE, APPEND, SUBTRACT = range(4)
TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
CHOSEN = (
    "log.retention.ms",
    "log.segment.bytes",
    "message.max.bytes",
    "num.io.threads",
    "log.cleanup.policy",
    "compression.type",
    "min.insync.replicas",
    "auto.create.topics.enable",
    "ssl.keystore.password",
    "unclean.leader.election.enable",
    "max.connections",
    "background.threads",
    "log.flush.interval.messages",
    "num.partitions",
    "default.replication.factor",
    "offsets.topic.num.partitions",
    "group.initial.rebalance.delay.ms",
    "group.min.session.timeout.ms",
    "delete.topic.enable",
    "socket.request.max.bytes",
    "log.message.timestamp.type",
    "log.message.timestamp.after.max.ms",
    "no.such.setting",
)


def _describe(world: World, label: str, kind: int, name: str, keys: Any = None, version: int = 4, **more: Any) -> Any:
    resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
    return world.ask(label, DescribeConfigsRequest(resources=[resource], **more), version)


def _settled(world: World, label: str, kind: int, name: str, keys: Any, **more: Any) -> None:
    resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
    world.settle(label, DescribeConfigsRequest(resources=[resource], **more))


def _alter(
    world: World, label: str, kind: int, name: str, *operations: tuple[str, int, str | None], **more: Any
) -> Any:
    configs = [
        incremental_alter_configs.AlterableConfig(name=key, config_operation=operation, value=value)
        for key, operation, value in operations
    ]
    resource = incremental_alter_configs.AlterConfigsResource(resource_type=kind, resource_name=name, configs=configs)
    version = more.pop("version", 1)
    return world.ask(label, IncrementalAlterConfigsRequest(resources=[resource], **more), version)


def describe_topic(world: World) -> None:
    world.create("described", 1, retention_ms="1000", cleanup_policy="compact,delete")
    name = world.name("described")
    for version in world.versions(DescribeConfigsRequest):
        _describe(world, "all", TOPIC, name, None, version)
        _describe(world, "with synonyms", TOPIC, name, None, version, include_synonyms=True)
        _describe(world, "some", TOPIC, name, ["retention.ms", "segment.bytes", "no.such.setting"], version)
        _describe(world, "no keys", TOPIC, name, [], version)
        _describe(world, "unknown topic", TOPIC, world.name("described-none"), None, version)
        for illegal in ("a b", "", ".", "a" * 250):
            _describe(world, f"illegal name {illegal[:9]!r}", TOPIC, illegal, None, version)
        for kind in (0, 1, 3, GROUP, CLIENT_METRICS, 99):
            _describe(world, f"resource type {kind}", kind, "x", None, version)
        two = [
            DescribeConfigsResource(resource_type=TOPIC, resource_name=name, configuration_keys=["retention.ms"])
        ] * 2
        world.ask("twice", DescribeConfigsRequest(resources=two), version)
        world.ask("none", DescribeConfigsRequest(resources=[]), version)


def describe_broker(world: World) -> None:
    keys = list(CHOSEN)
    for version in world.versions(DescribeConfigsRequest):
        for name in ("1", "", "2", "x", "-1", "01", "1 "):
            _describe(world, f"broker {name!r}", BROKER, name, keys, version)
        _describe(world, "with synonyms", BROKER, "1", keys, version, include_synonyms=True)
        _describe(world, "logger of another broker", LOGGER, "2", [], version)
        _describe(world, "logger of no broker", LOGGER, "", [], version)
        _describe(world, "logger not a number", LOGGER, "x", [], version)


def describe_all_of_broker(world: World) -> None:
    """Every setting of the broker but those that say how it was started, and the one with a default of Ottla's own."""
    answer = world.ask_quietly(
        DescribeConfigsRequest(
            resources=[DescribeConfigsResource(resource_type=BROKER, resource_name="1", configuration_keys=None)],
            include_synonyms=True,
        )
    )
    own = (
        "broker.id",
        "node.id",
        "process.roles",
        "log.dir",
        "log.dirs",
        "controller.",
        "listener",
        "advertised.",
        "inter.broker.",
        "socket.receive.buffer.bytes",
    )
    result = answer.results[0]
    result.configs = [config for config in result.configs if not config.name.startswith(own)]
    world.note("all", answer)


def alter_topic(world: World) -> None:
    world.create("altered")
    name = world.name("altered")

    def state(label: str) -> None:
        keys = ["retention.ms", "cleanup.policy", "segment.bytes", "compression.type", "max.message.bytes"]
        keys += ["leader.replication.throttled.replicas"]
        _settled(world, f"after {label}", TOPIC, name, keys)

    cases: dict[str, list[tuple[str, int, str | None]]] = {
        "set": [("retention.ms", SET, "1000")],
        "set another": [("segment.bytes", SET, "2000000"), ("compression.type", SET, "gzip")],
        "set the same": [("retention.ms", SET, "1000")],
        "delete": [("retention.ms", DELETE, None)],
        "delete what is not set": [("retention.ms", DELETE, None)],
        "delete with a value": [("segment.bytes", DELETE, "5")],
        "append to the default": [("cleanup.policy", APPEND, "compact")],
        "append what is there": [("cleanup.policy", APPEND, "compact")],
        "subtract": [("cleanup.policy", SUBTRACT, "delete")],
        "subtract what is not there": [("cleanup.policy", SUBTRACT, "delete")],
        "subtract the last": [("cleanup.policy", SUBTRACT, "compact")],
        "set a list": [("cleanup.policy", SET, "delete,compact")],
        "set a list with spaces": [("cleanup.policy", SET, " delete , compact ")],
        "set a list with the same twice": [("cleanup.policy", SET, "delete,delete")],
        "append two": [("cleanup.policy", APPEND, "compact,delete")],
        "append nonsense": [("cleanup.policy", APPEND, "nonsense")],
        "append to a number": [("retention.ms", APPEND, "5")],
        "subtract from a number": [("retention.ms", SUBTRACT, "5")],
        "subtract from a number not set": [("max.message.bytes", SUBTRACT, "5")],
        "set null": [("retention.ms", SET, None)],
        "append null": [("cleanup.policy", APPEND, None)],
        "set not a number": [("retention.ms", SET, "x")],
        "set out of range": [("retention.ms", SET, "-2")],
        "set the empty string": [("retention.ms", SET, "")],
        "set an empty list": [("cleanup.policy", SET, "")],
        "unknown setting": [("no.such.setting", SET, "1")],
        "delete an unknown setting": [("no.such.setting", DELETE, None)],
        "append to an unknown setting": [("no.such.setting", APPEND, "1")],
        "a broker's setting": [("log.retention.ms", SET, "1")],
        "the same setting twice": [("retention.ms", SET, "1"), ("retention.ms", SET, "2")],
        "set and delete one setting": [("retention.ms", SET, "1"), ("retention.ms", DELETE, None)],
        "unknown operation": [("retention.ms", 9, "1")],
        "negative operation": [("retention.ms", -1, "1")],
        "good and bad": [("max.message.bytes", SET, "5000"), ("retention.ms", SET, "x")],
        "no operations": [],
        "throttled replicas": [("leader.replication.throttled.replicas", APPEND, "0:1,0:2")],
        "throttled replicas all": [("leader.replication.throttled.replicas", SET, "*")],
        "throttled replicas bad": [("leader.replication.throttled.replicas", SET, "0-1")],
        "compaction lags that contradict": [("min.compaction.lag.ms", SET, "9"), ("max.compaction.lag.ms", SET, "8")],
        "remote storage that is off": [("remote.storage.enable", SET, "true")],
        "boolean": [("preallocate", SET, "TRUE")],
        "boolean not one": [("preallocate", SET, "yes")],
        "double": [("min.cleanable.dirty.ratio", SET, "0.25")],
        "double out of range": [("min.cleanable.dirty.ratio", SET, "1.5")],
        "codec unknown": [("compression.type", SET, "brotli")],
        "codec upper case": [("compression.type", SET, "GZIP")],
        "number with a plus": [("retention.ms", SET, "+5")],
        "number in hex": [("retention.ms", SET, "0x10")],
        "number too large": [("retention.ms", SET, "9223372036854775808")],
        "timestamp type": [("message.timestamp.type", SET, "LogAppendTime")],
        "timestamp type in lower case": [("message.timestamp.type", SET, "logappendtime")],
    }
    for label, operations in cases.items():
        _alter(world, f"{label}, only validate", TOPIC, name, *operations, validate_only=True)
        _alter(world, label, TOPIC, name, *operations)
        state(label)
    _alter(world, "v0", TOPIC, name, ("retention.ms", SET, "7"), version=0)
    one = ("retention.ms", SET, "1")
    _alter(world, "unknown topic", TOPIC, world.name("altered-none"), one)
    for illegal in ("a b", "", "."):
        _alter(world, f"illegal name {illegal!r}", TOPIC, illegal, one)
    for kind in (0, 1, 3, 99):
        _alter(world, f"resource type {kind}", kind, name, one)
    setting = incremental_alter_configs.AlterableConfig(name="retention.ms", config_operation=SET, value="3")
    resource = incremental_alter_configs.AlterConfigsResource(
        resource_type=TOPIC, resource_name=name, configs=[setting]
    )
    none = incremental_alter_configs.AlterConfigsResource(resource_type=TOPIC, resource_name="none", configs=[setting])
    world.ask("the same resource twice", IncrementalAlterConfigsRequest(resources=[resource, resource]))
    world.ask("one good, one bad", IncrementalAlterConfigsRequest(resources=[resource, none]))
    world.ask("no resources", IncrementalAlterConfigsRequest(resources=[]))
    state("all")


def alter_broker(world: World) -> None:
    keys = ["log.retention.ms", "num.io.threads", "message.max.bytes", "log.cleanup.policy", "log.segment.bytes"]
    keys += ["background.threads", "max.connections.per.ip.overrides", "compression.type"]

    def state(label: str) -> None:
        for name in ("1", ""):
            _settled(world, f"broker {name!r} after {label}", BROKER, name, keys, include_synonyms=True)

    cases: dict[str, tuple[str, list[tuple[str, int, str | None]]]] = {
        "cluster-wide": ("", [("log.retention.ms", SET, "111111")]),
        "of the broker": ("1", [("log.retention.ms", SET, "222222")]),
        "the broker's deleted": ("1", [("log.retention.ms", DELETE, None)]),
        "read-only": ("1", [("broker.rack", SET, "a")]),
        "read-only, cluster-wide": ("", [("num.partitions", SET, "3")]),
        "delete read-only": ("1", [("num.partitions", DELETE, None)]),
        "read-only of KRaft": ("1", [("node.id", SET, "5")]),
        "per broker only, cluster-wide": ("", [("listeners", SET, "PLAINTEXT://127.0.0.1:1")]),
        "password, cluster-wide": ("", [("ssl.keystore.password", SET, "secret")]),
        "unknown": ("1", [("no.such.setting", SET, "1")]),
        "unknown, cluster-wide": ("", [("no.such.setting", SET, "1")]),
        "unknown, deleted": ("1", [("no.such.setting", DELETE, None)]),
        "unknown, deleted cluster-wide": ("", [("no.such.setting", DELETE, None)]),
        "unknown broker": ("7", [("log.retention.ms", SET, "1")]),
        "broker not a number": ("x", [("log.retention.ms", SET, "1")]),
        "out of range": ("1", [("message.max.bytes", SET, "-1")]),
        "not a number": ("", [("message.max.bytes", SET, "x")]),
        "list append": ("1", [("log.cleanup.policy", APPEND, "compact")]),
        "list subtract": ("1", [("log.cleanup.policy", SUBTRACT, "delete")]),
        "list deleted": ("1", [("log.cleanup.policy", DELETE, None)]),
        "append to a number": ("", [("message.max.bytes", APPEND, "1")]),
        "background threads a little more": ("", [("background.threads", SET, "12")]),
        "background threads zero": ("", [("background.threads", SET, "0")]),
        "per address": ("", [("max.connections.per.ip.overrides", SET, "127.0.0.9:5")]),
        "per address, not an address": ("", [("max.connections.per.ip.overrides", SET, "no-such-host.invalid:5")]),
        "null": ("", [("log.retention.ms", SET, None)]),
        "twice": ("", [("log.retention.ms", SET, "1"), ("log.retention.ms", SET, "2")]),
        "codec": ("", [("compression.type", SET, "gzip")]),
        "reset": ("", [(key, DELETE, None) for key in keys]),
    }
    for label, (name, operations) in cases.items():
        _alter(world, f"{label}, only validate", BROKER, name, *operations, validate_only=True)
        _alter(world, label, BROKER, name, *operations)
        state(label)
    _alter(world, "logger of another broker", LOGGER, "9", ("root", SET, "INFO"))
    _alter(world, "logger unknown", LOGGER, "1", ("no.such.logger", SET, "INFO"))
    _alter(world, "logger level unknown", LOGGER, "1", ("root", SET, "LOUD"))
    _alter(world, "logger append", LOGGER, "1", ("root", APPEND, "INFO"))


def cluster_settings_reach_topics(world: World) -> None:
    """A topic shows the cluster's value while it has none of its own."""
    world.create("follows", 1, segment_bytes="3000000")
    keys = ["segment.bytes", "retention.ms", "max.message.bytes"]
    _alter(world, "set", BROKER, "", ("log.segment.bytes", SET, "4000000"), ("message.max.bytes", SET, "777777"))
    _settled(world, "topic", TOPIC, world.name("follows"), keys, include_synonyms=True)
    _alter(world, "set for the broker", BROKER, "1", ("message.max.bytes", SET, "888888"))
    _settled(world, "topic again", TOPIC, world.name("follows"), keys, include_synonyms=True)
    for name in ("1", ""):
        operations = [(key, DELETE, None) for key in ("log.segment.bytes", "message.max.bytes")]
        _alter(world, f"reset {name!r}", BROKER, name, *operations)
    _settled(world, "topic at last", TOPIC, world.name("follows"), keys, include_synonyms=True)


def replace_configs(world: World) -> None:
    """AlterConfigs, which replaces all settings of a resource. Asked for one resource twice, Kafka never answers."""
    world.create("replaced", 1, retention_ms="1000", segment_bytes="2000000")
    name = world.name("replaced")

    def ask(label: str, kind: int, resource: str, version: int, *pairs: tuple[str, str | None], **more: Any) -> None:
        configs = [alter_configs.AlterableConfig(name=key, value=value) for key, value in pairs]
        entry = alter_configs.AlterConfigsResource(resource_type=kind, resource_name=resource, configs=configs)
        world.ask(label, AlterConfigsRequest(resources=[entry], **more), version)
        keys = ["retention.ms", "segment.bytes", "cleanup.policy", "max.message.bytes"]
        _settled(world, f"after {label} v{version}", TOPIC, name, keys)

    for version in world.versions(AlterConfigsRequest):
        ask("one", TOPIC, name, version, ("retention.ms", "2000"))
        ask("only validate", TOPIC, name, version, ("retention.ms", "3000"), validate_only=True)
        ask("bad", TOPIC, name, version, ("retention.ms", "x"))
        ask("null", TOPIC, name, version, ("retention.ms", None))
        ask("unknown", TOPIC, name, version, ("no.such.setting", "1"))
        ask("twice", TOPIC, name, version, ("retention.ms", "1"), ("retention.ms", "2"))
        ask("two", TOPIC, name, version, ("segment.bytes", "3000000"), ("cleanup.policy", "compact"))
        ask("unknown topic", TOPIC, world.name("replaced-none"), version, ("retention.ms", "1"))
        ask("unknown type", 99, name, version, ("retention.ms", "1"))
        ask("unknown broker", BROKER, "9", version, ("log.retention.ms", "1"))
        ask("read-only of the broker", BROKER, "1", version, ("broker.rack", "a"))
        ask("none of the broker", BROKER, "1", version)
        ask("logger", LOGGER, "1", version, ("root", "INFO"))
        ask("nothing", TOPIC, name, version)


SCENARIOS = (
    describe_topic,
    describe_broker,
    describe_all_of_broker,
    alter_topic,
    alter_broker,
    cluster_settings_reach_topics,
    replace_configs,
)
