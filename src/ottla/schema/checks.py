"""Which settings fit together: what Kafka checks across settings, and what this Ottla can run at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.schema.definition import SettingError

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig


def check_config(config: BrokerConfig) -> None:
    """Raise `SettingError` for the first combination that Kafka would refuse too."""
    _check_identity(config)
    _check_listeners(config)
    if _is_about_quorum(config):
        from ottla.schema.quorum import check_quorum

        check_quorum(config)
    _check_directories(config)
    _check_log(config)
    _check_network(config)
    _check_replication(config)
    _check_groups(config)


def check_support(config: BrokerConfig) -> None:
    """Raise `SettingError` for what Kafka can do and this Ottla cannot, where going on would pretend that it can."""
    _refuse_replicas_nobody_can_hold(config)
    for name, default in _UNSUPPORTED.items():
        value = config[name]
        if value not in (None, [], "", default) and value != _OWN.get(name):
            raise SettingError(name, f"{name}: {_UNSUPPORTED_REASON.get(name, 'Ottla cannot load Java classes')}")
    if config["remote.log.storage.system.enable"]:
        name = "remote.log.storage.system.enable"
        raise SettingError(name, f"{name}: tiered storage is not supported by this version of Ottla")


_UNSUPPORTED = {
    "alter.config.policy.class.name": None,
    "client.quota.callback.class": None,
    "create.topic.policy.class.name": None,
    "principal.builder.class": "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
    "replica.selector.class": None,
    "ssl.engine.factory.class": None,
}
"""Guards and policies: leaving one out silently would open what somebody meant to close."""

_OWN = {"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"}
"""What Ottla does itself, under the name of Kafka's class."""

_UNSUPPORTED_REASON = {
    "replica.selector.class": "there is one selector, org.apache.kafka.common.replica.RackAwareReplicaSelector",
}


def _refuse(name: str, reason: str) -> None:
    raise SettingError(name, f"{name}: {reason}")


def _first_given(config: BrokerConfig, *names: str) -> str:
    """The setting that somebody set, to name it and its place in the error."""
    return next((name for name in names if not config.is_default(name)), names[0])


def _check_identity(config: BrokerConfig) -> None:
    if (
        not config.is_default("node.id")
        and not config.is_default("broker.id")
        and config["broker.id"] != config["node.id"]
    ):
        _refuse("broker.id", f"{config['broker.id']} differs from node.id {config['node.id']}; set node.id alone")
    if config.node_id < 0:
        _refuse(_first_given(config, "broker.id", "node.id"), "the id of a node is at least 0")
    if not config["process.roles"]:
        _refuse("process.roles", "must name broker, controller or both")
    cluster_id = config.cluster_id
    if cluster_id is not None and not _is_uuid(cluster_id):
        _refuse("cluster.id", f"'{cluster_id}' is not a cluster id (22 characters of base64url)")


def _is_uuid(text: str) -> bool:
    return len(text) == 22 and text.replace("-", "").replace("_", "").isalnum() and text.isascii()


def _check_listeners(config: BrokerConfig) -> None:
    if not config["listeners"]:
        _refuse("listeners", "must name at least one listener")
    if not config.is_broker:
        return  # see `ottla.schema.quorum`
    if not config.listeners:
        _refuse("controller.listener.names", "leaves no listener for clients")
    names = {listener.name for listener in config.listeners}
    for listener in config.advertised_listeners:
        setting = "listeners" if config.is_default("advertised.listeners") else "advertised.listeners"
        if listener.name not in names:
            _refuse(setting, f"{listener.name} is not among the listeners ({', '.join(sorted(names))})")
        if listener.host in ("0.0.0.0", "::") and not _is_own_default(config):
            _refuse(
                setting,
                f"clients cannot connect to {listener.host}; set advertised.listeners to an address they can reach",
            )
    _check_inter_broker(config)


_QUORUM_SETTINGS = (
    "process.roles",
    "controller.listener.names",
    "controller.quorum.auto.join.enable",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
)


def _is_about_quorum(config: BrokerConfig) -> bool:
    return any(not config.is_default(name) for name in _QUORUM_SETTINGS)


def _is_own_default(config: BrokerConfig) -> bool:
    return config.is_default("listeners") and config.is_default("advertised.listeners")


def _check_inter_broker(config: BrokerConfig) -> None:
    setting = "inter.broker.listener.name"
    if not config.is_default(setting) and not config.is_default("security.inter.broker.protocol"):
        _refuse(setting, "only one of it and security.inter.broker.protocol may be set")
    name = config.inter_broker_listener_name
    advertised = [listener.name for listener in config.advertised_listeners]
    if name not in advertised:
        chosen = _first_given(config, setting, "security.inter.broker.protocol")
        _refuse(chosen, f"{name} must be one of the advertised listeners ({', '.join(advertised)})")
    if name in config.controller_listener_names:
        _refuse("controller.listener.names", f"must not contain the inter-broker listener {name}")


def _check_directories(config: BrokerConfig) -> None:
    # Kafka's default of log.dir is below /tmp: data goes there only for those who say so.
    if not config["log.dirs"] and (not config["log.dir"] or config.is_default("log.dir")):
        _refuse("log.dirs", "at least one data directory is needed")


def _check_log(config: BrokerConfig) -> None:
    retention_ms = config["log.retention.ms"]
    for name, value in (
        ("log.retention.ms", retention_ms),
        ("log.retention.minutes", config["log.retention.minutes"]),
        ("log.retention.hours", config["log.retention.hours"]),
    ):
        if value == 0:
            _refuse(name, "must be unlimited (-1) or at least 1")
    if config["log.roll.ms"] is not None and config["log.roll.ms"] < 1:
        _refuse("log.roll.ms", "must be at least 1")
    if config["log.roll.jitter.ms"] is not None and config["log.roll.jitter.ms"] < 0:
        _refuse("log.roll.jitter.ms", "must be at least 0")
    threads = config["log.cleaner.threads"]
    if threads and config["log.cleaner.dedupe.buffer.size"] / threads <= 1024 * 1024:
        _refuse("log.cleaner.dedupe.buffer.size", "must be more than 1 MiB per cleaner thread")
    _at_most(config, "log.cleaner.min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms")
    if config["offsets.topic.compression.codec"] not in range(5):
        _refuse(
            "offsets.topic.compression.codec", f"{config['offsets.topic.compression.codec']} is not a codec (0 to 4)"
        )


def _check_network(config: BrokerConfig) -> None:
    if 0 < config["queued.max.request.bytes"] < config["socket.request.max.bytes"]:
        _refuse("queued.max.request.bytes", "must be at least socket.request.max.bytes")
    idle_ms = config["connections.max.idle.ms"]
    if 0 <= idle_ms <= config["connection.failed.authentication.delay.ms"]:
        name = _first_given(config, "connections.max.idle.ms", "connection.failed.authentication.delay.ms")
        _refuse(name, "connection.failed.authentication.delay.ms must be less than connections.max.idle.ms")
    overrides = parse_connection_overrides(config["max.connections.per.ip.overrides"])
    if config["max.connections.per.ip"] == 0 and not overrides:
        _refuse("max.connections.per.ip", "can be 0 only if max.connections.per.ip.overrides names somebody")


def parse_connection_overrides(text: str) -> dict[str, int]:
    """`max.connections.per.ip.overrides`: `host:count,…` as a mapping; raises `SettingError`."""
    setting = "max.connections.per.ip.overrides"
    overrides = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        host, _, count = item.rpartition(":")
        if not host or not count.strip().isdecimal():
            _refuse(setting, f"'{item}' must look like host:count")
        overrides[host.strip()] = int(count)
    return overrides


def _check_replication(config: BrokerConfig) -> None:
    _at_most(config, "replica.fetch.wait.max.ms", "replica.socket.timeout.ms")
    _at_most(config, "replica.fetch.wait.max.ms", "replica.lag.time.max.ms")
    factor = config["default.replication.factor"]
    if factor < 1:
        _refuse("default.replication.factor", f"{factor} is not a number of replicas")


def _at_most(config: BrokerConfig, smaller: str, larger: str) -> None:
    if config[smaller] > config[larger]:
        name = _first_given(config, smaller, larger)
        _refuse(name, f"{smaller} ({config[smaller]}) must be at most {larger} ({config[larger]})")


#: The plugin that Kafka comes with (KIP-1331); Ottla does what it does.
_TOPOLOGY_DESCRIPTIONS_IN_MEMORY = "org.apache.kafka.server.streams.InMemoryTopologyDescriptionPlugin"

#: Settings that name assignors, and the names they may give: short ones, and the last parts of Kafka's own classes.
ASSIGNORS = {
    "group.consumer.assignors": {
        "uniform": "uniform",
        "range": "range",
        "UniformAssignor": "uniform",
        "RangeAssignor": "range",
    },
    "group.share.assignors": {"simple": "simple", "SimpleAssignor": "simple"},
    "group.streams.assignors": {"sticky": "sticky", "StickyTaskAssignor": "sticky"},
}

_GROUP_LIMITS = {
    "consumer": ("session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms"),
    "share": (
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "assignment.interval.ms",
        "record.lock.duration.ms",
        "delivery.count.limit",
        "partition.max.record.locks",
    ),
    "streams": ("session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms"),
}


def _check_groups(config: BrokerConfig) -> None:
    for kind, names in _GROUP_LIMITS.items():
        for name in names:
            value = f"group.{kind}.{name}"
            minimum, maximum = f"group.{kind}.min.{name}", f"group.{kind}.max.{name}"
            _at_most(config, minimum, maximum)
            _at_most(config, minimum, value)
            _at_most(config, value, maximum)
        heartbeat, session = f"group.{kind}.heartbeat.interval.ms", f"group.{kind}.session.timeout.ms"
        if config[heartbeat] >= config[session]:
            _refuse(_first_given(config, heartbeat, session), f"{heartbeat} must be less than {session}")
    for name, known in ASSIGNORS.items():
        if not config[name]:
            _refuse(name, "must name at least one assignor")
        for each in config[name]:
            if each.rpartition(".")[2] not in known:
                short = dict.fromkeys(known.values())
                _refuse(name, f"there is no assignor {each}, but {', '.join(short)}; Ottla cannot load Java classes")
    _at_most(config, "group.streams.num.standby.replicas", "group.streams.max.standby.replicas")
    plugin = "group.streams.topology.description.plugin.class"
    if config[plugin] not in (None, _TOPOLOGY_DESCRIPTIONS_IN_MEMORY):
        _refuse(plugin, f"there is one plugin, {_TOPOLOGY_DESCRIPTIONS_IN_MEMORY}")


def _refuse_replicas_nobody_can_hold(config: BrokerConfig) -> None:
    """A node alone without a controller listener stays alone: topics would wait for other brokers for ever."""
    if not config.is_single or config.controller_listeners:
        return
    for name in ("offsets.topic.replication.factor", "transaction.state.log.replication.factor"):
        if config.adapted(name, 1) > 1:
            _refuse(name, f"{config[name]} replicas need as many brokers, and this node is the only one; set it to 1")
