"""The tree that kafka-metadata-shell walks through: a metadata image as directories and files.

A `Directory` has children, made when somebody looks at them; a `str` is the text of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from ottla.cli.kafka.common import TOOLS_VERSION
from ottla.cli.kafka.feature_versions import METADATA_VERSIONS
from ottla.cli.kafka.java_text import double
from ottla.cli.profiles import is_secret
from ottla.core.ids import uuid_from_text, uuid_to_text
from ottla.server.metadata.image import (
    AclImage,
    BrokerImage,
    ControllerImage,
    DelegationTokenImage,
    Endpoint,
    MetadataImage,
    PartitionImage,
    QuotaEntity,
    ScramCredentialImage,
    TopicImage,
)

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_RESOURCES = {2: "TOPIC", 4: "BROKER", 8: "BROKER_LOGGER", 16: "CLIENT_METRICS", 32: "GROUP"}
_MECHANISMS = {"SCRAM-SHA-256": 1, "SCRAM-SHA-512": 2}
_RECOVERY_STATES = ("RECOVERED", "RECOVERING")
_ANY_HIGHER = 32767


class Directory:
    """Names, and for each the node that it stands for."""

    def __init__(self, names: Callable[[], Iterable[str]], child: Callable[[str], Directory | str | None]) -> None:
        self._names = names
        self._child = child

    def names(self) -> list[str]:
        """The children in order."""
        return sorted(self._names())

    def child(self, name: str) -> Directory | str | None:
        """The child of this name, None when there is none. More may be found than is listed."""
        return self._child(name)


def fixed(children: Mapping[str, Callable[[], Directory | str]]) -> Directory:
    """A directory whose children are known beforehand."""
    return Directory(lambda: children, lambda name: children[name]() if name in children else None)


def listing(entries: Mapping[str, Any], show: Callable[[Any], Directory | str]) -> Directory:
    """A directory of things by name."""
    return Directory(lambda: entries, lambda name: show(entries[name]) if name in entries else None)


def lines(node: Directory | str, indent: int = 0) -> Iterable[str]:
    """A node with all below it, as `tree` and `cat` print it."""
    space = "  " * indent
    if isinstance(node, str):
        yield space + node
        return
    for name in node.names():
        yield f"{space}{name}:"
        child = node.child(name)
        if child is not None:
            yield from lines(child, indent + 1)


def root(image: MetadataImage) -> Directory:
    """What is at `/`."""
    local = {"version": lambda: TOOLS_VERSION, "commitId": lambda: "unknown"}
    return fixed({"local": lambda: fixed(local), "image": lambda: _image(image)})


def _image(image: MetadataImage) -> Directory:
    return fixed(
        {
            "provenance": lambda: _provenance(image),
            "features": lambda: _features(image),
            "cluster": lambda: fixed(
                {
                    "brokers": lambda: _numbered(image.brokers, _broker),
                    "controllers": lambda: _numbered(image.controllers, _controller),
                }
            ),
            "topics": lambda: _topics(image),
            "configs": lambda: _configs(image),
            "clientQuotas": lambda: _quotas(image),
            "producerIds": lambda: fixed({"nextProducerId": lambda: str(image.producer_ids.next_producer_id)}),
            "acls": lambda: fixed({"byId": lambda: _by_id(image.acls, _acl)}),
            "scram": lambda: _scram(image),
            "delegationToken": lambda: Directory(
                lambda: image.delegation_tokens, lambda name: _token(name, image.delegation_tokens.get(name))
            ),
        }
    )


def _provenance(image: MetadataImage) -> str:
    when = datetime.fromtimestamp(image.timestamp_ms // 1000, UTC)
    millis = f".{image.timestamp_ms % 1000:03}".rstrip("0").rstrip(".")
    return f"offset {image.offset}, epoch {image.epoch}, time {when:%Y-%m-%dT%H:%M:%S}{millis}Z[UTC]"


def _features(image: MetadataImage) -> Directory:
    others = {name: level for name, level in image.features.items() if name != "metadata.version"}

    def child(name: str) -> str | None:
        if name == "metadataVersion":
            level = image.metadata_version
            return f"Optional[{METADATA_VERSIONS.get(level, str(level))}]" if level else "Optional.empty"
        if name.startswith("finalized_"):
            return str(others.get(name.removeprefix("finalized_"), 0))
        return None

    return Directory(lambda: ["metadataVersion", *(f"finalized_{name}" for name in others)], child)


def _numbered(entries: Mapping[int, Any], show: Callable[[Any], Directory | str]) -> Directory:
    return listing({str(number): entry for number, entry in entries.items()}, show)


def _by_id(entries: Mapping[bytes, Any], show: Callable[[Any], Directory | str]) -> Directory:
    def child(name: str) -> Directory | str | None:
        try:
            entry = entries.get(uuid_from_text(name))
        except ValueError:
            return None
        return None if entry is None else show(entry)

    return Directory(lambda: [uuid_to_text(each) for each in entries], child)


def _topics(image: MetadataImage) -> Directory:
    return fixed(
        {
            "byName": lambda: listing(image.topics.by_name, _topic),
            "byId": lambda: _by_id(image.topics.by_id, _topic),
        }
    )


def _topic(topic: TopicImage) -> Directory:
    def child(name: str) -> str | None:
        if name in ("name", "id"):
            return topic.name if name == "name" else uuid_to_text(topic.topic_id)
        partition = topic.partitions.get(int(name)) if name.isdecimal() else None
        return None if partition is None else _partition(partition)

    return Directory(lambda: ["name", "id", *map(str, topic.partitions)], child)


def _configs(image: MetadataImage) -> Directory:
    named = {
        f"{_RESOURCES.get(kind, 'UNKNOWN')}{':' if name else ''}{name}": settings
        for (kind, name), settings in image.configs.items()
    }
    return listing(named, lambda settings: listing(hidden(settings), str))


def hidden(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings without the values of those that are secrets."""
    return {name: "[redacted]" if is_secret(name) else value for name, value in settings.items()}


def _quotas(image: MetadataImage) -> Directory:
    named = {_entity(entity): quotas for entity, quotas in image.client_quotas.items()}
    return listing(named, lambda quotas: listing(quotas, lambda value: double(float(value))))


def _entity(entity: QuotaEntity) -> str:
    parts = dict(entity)
    shown = [(key, name) for kind, key in _ENTITIES.items() if (name := parts.get(kind)) is not None]
    return "_".join(f"{key}({_escaped(name)})" for key, name in shown)


_ENTITIES = {"client-id": "clientId", "ip": "ip", "user": "user"}


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def _scram(image: MetadataImage) -> Directory:
    def users(number: int) -> Directory:
        found = {user: one for (mechanism, user), one in image.scram.items() if mechanism == number}
        return listing(found, _credential)

    return listing(_MECHANISMS, users)


# Java's words for each


def _broker(broker: BrokerImage) -> str:
    cordoned = "null" if broker.cordoned_log_dirs is None else _ids(broker.cordoned_log_dirs)
    rack = "Optional.empty" if broker.rack is None else f"Optional[{broker.rack}]"
    return (
        f"BrokerRegistration(id={broker.broker_id}, epoch={broker.broker_epoch}, "
        f"incarnationId={uuid_to_text(broker.incarnation_id)}, listeners={_listeners(broker.endpoints)}, "
        f"supportedFeatures={_ranges(broker.features)}, rack={rack}, fenced={_truth(broker.fenced)}, "
        f"inControlledShutdown={_truth(broker.in_controlled_shutdown)}, "
        f"isMigratingZkBroker={_truth(broker.is_migrating_zk_broker)}, directories={_ids(broker.log_dirs)}, "
        f"cordonedDirectories={cordoned})"
    )


def _controller(controller: ControllerImage) -> str:
    return (
        f"ControllerRegistration(id={controller.controller_id}, "
        f"incarnationId={uuid_to_text(controller.incarnation_id)}, "
        f"zkMigrationReady={_truth(controller.zk_migration_ready)}, listeners={_listeners(controller.endpoints)}, "
        f"supportedFeatures={_ranges(controller.features)})"
    )


def _partition(partition: PartitionImage) -> str:
    return (
        f"PartitionRegistration(replicas={list(partition.replicas)}, directories={_ids(partition.directories)}, "
        f"isr={list(partition.isr)}, removingReplicas={list(partition.removing_replicas)}, "
        f"addingReplicas={list(partition.adding_replicas)}, elr={list(partition.eligible_leader_replicas)}, "
        f"lastKnownElr={list(partition.last_known_elr)}, leader={partition.leader}, "
        f"leaderRecoveryState={_RECOVERY_STATES[partition.leader_recovery_state]}, "
        f"leaderEpoch={partition.leader_epoch}, partitionEpoch={partition.partition_epoch})"
    )


def _acl(acl: AclImage) -> str:
    from ottla.client.admin.acls import AclOperation, AclPatternType, AclPermission, AclResourceType

    return (
        f"StandardAcl[resourceType={AclResourceType(acl.resource_type).name}, resourceName={acl.resource_name}, "
        f"patternType={AclPatternType(acl.pattern_type).name}, principal={acl.principal}, host={acl.host}, "
        f"operation={AclOperation(acl.operation).name}, permissionType={AclPermission(acl.permission_type).name}]"
    )


def _credential(credential: ScramCredentialImage) -> str:
    return (
        "ScramCredentialData(salt=[redacted], storedKey=[redacted], "
        f"serverKey=[redacted], iterations={credential.iterations})"
    )


def _token(token_id: str, token: DelegationTokenImage | None) -> str | None:
    if token is None:
        return None
    return (
        f"DelegationTokenDatatokenId={token_id}(owner={token.owner}(tokenRequester={token.requester}"
        f"(renewers={' '.join(token.renewers)}, issueTimestamp={token.issue_timestamp_ms}, "
        f"maxTimestamp={token.max_timestamp_ms}), expiryTimestamp={token.expiration_timestamp_ms}"
    )


def _listeners(endpoints: Mapping[str, Endpoint]) -> str:
    shown = (
        f"Endpoint(listenerName='{one.name}', securityProtocol={_PROTOCOLS[one.security_protocol]}, "
        f"host='{one.host}', port={one.port})"
        for _, one in sorted(endpoints.items())
    )
    return f"[{', '.join(shown)}]"


def _ranges(features: Mapping[str, tuple[int, int]]) -> str:
    return "{" + ", ".join(f"{name}: {_range(*levels)}" for name, levels in sorted(features.items())) + "}"


def _range(lowest: int, highest: int) -> str:
    if lowest == highest:
        return str(lowest)
    return f"{lowest}+" if highest == _ANY_HIGHER else f"{lowest}-{highest}"


def _ids(ids: Iterable[bytes]) -> str:
    return f"[{', '.join(map(uuid_to_text, ids))}]"


def _truth(value: bool) -> str:
    return "true" if value else "false"
