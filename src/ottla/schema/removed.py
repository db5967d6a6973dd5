"""Settings of older Kafkas that 4.x no longer has, and what to do about each."""

_ZOOKEEPER = "there is no ZooKeeper any more; the cluster's state is in the metadata log"
_JUST_REMOVE = "it no longer has a purpose; remove it"
_USE_LISTENERS = "use listeners and advertised.listeners"

_REMOVED = {
    "advertised.host.name": _USE_LISTENERS,
    "advertised.port": _USE_LISTENERS,
    "auto.include.jmx.reporter": _JUST_REMOVE,
    "broker.id.generation.enable": "set node.id",
    "control.plane.listener.name": "use controller.listener.names",
    "controlled.shutdown.max.retries": _JUST_REMOVE,
    "controlled.shutdown.retry.backoff.ms": _JUST_REMOVE,
    "delegation.token.master.key": "use delegation.token.secret.key",
    "eligible.leader.replicas.enable": "it is a feature of the cluster (eligible.leader.replicas.version)",
    "group.coordinator.new.enable": "the new coordinator is the only one",
    "host.name": _USE_LISTENERS,
    "inter.broker.protocol.version": "versions are features of the cluster (metadata.version)",
    "leader.imbalance.per.broker.percentage": _JUST_REMOVE,
    "log.message.downconversion.enable": "messages are no longer converted for old clients; remove it",
    "log.message.format.version": "the message format is always version 2; remove it",
    "log.message.timestamp.difference.max.ms": (
        "use log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms"
    ),
    "offsets.commit.required.acks": "commits always wait for all in-sync replicas; remove it",
    "password.encoder.cipher.algorithm": _ZOOKEEPER,
    "password.encoder.iterations": _ZOOKEEPER,
    "password.encoder.key.length": _ZOOKEEPER,
    "password.encoder.keyfactory.algorithm": _ZOOKEEPER,
    "password.encoder.old.secret": _ZOOKEEPER,
    "password.encoder.secret": _ZOOKEEPER,
    "port": _USE_LISTENERS,
    "quota.consumer.default": "quotas are set at run time, per user and client id",
    "quota.producer.default": "quotas are set at run time, per user and client id",
    "remote.log.manager.thread.pool.size.max": "use remote.log.manager.copier.thread.pool.size",
    "reserved.broker.max.id": "set node.id",
}


def removal_of(name: str) -> str | None:
    """Why a setting is gone and what to use instead, or None when no Kafka has removed it."""
    if name.startswith("zookeeper."):
        return _ZOOKEEPER
    return _REMOVED.get(name)
