"""An image as records, for snapshots: replaying `image_records(image)` on the empty image gives `image` again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ottla.protocol.messages import metadata_records as messages
from ottla.server.metadata.image import (
    METADATA_VERSION,
    BrokerImage,
    ControllerImage,
    Endpoint,
    MetadataImage,
    PartitionImage,
    ProducerIdsImage,
    TopicImage,
)


def image_records(image: MetadataImage, *, partitions: bool = True) -> Iterator[Any]:
    """All records, in Kafka's order: features first, since they decide how the rest is read. Without `partitions`,
    those of partitions are left out."""
    yield from _features(image)
    for broker in image.brokers.values():
        yield broker_record(broker)
    for controller in image.controllers.values():
        yield controller_record(controller)
    for topic in image.topics.by_id.values():
        if partitions:
            yield from topic_records(topic)
        else:
            yield messages.TopicRecord(name=topic.name, topic_id=topic.topic_id)
    for (resource_type, resource_name), settings in image.configs.items():
        for name, value in settings.items():
            yield messages.ConfigRecord(
                resource_type=resource_type, resource_name=resource_name, name=name, value=value
            )
    yield from _quotas(image)
    if image.producer_ids != ProducerIdsImage():
        next_producer_id, broker_id, broker_epoch = image.producer_ids
        yield messages.ProducerIdsRecord(
            broker_id=broker_id, broker_epoch=broker_epoch, next_producer_id=next_producer_id
        )
    yield from _security(image)


def image_frames(image: MetadataImage, frame: Callable[[Any], bytes]) -> Iterator[bytes]:
    """The same, each record framed. Partitions in the same state differ in topic and index only: they are written once.

    A frame is: three bytes that tell what it is, the partition's index, the topic's id, the state.
    """
    ends: dict[PartitionImage, tuple[bytes, bytes]] = {}
    for record in image_records(image, partitions=False):
        yield frame(record)
        if type(record) is not messages.TopicRecord:
            continue
        topic_id = record.topic_id
        for index, partition in image.topics.by_id[topic_id].partitions.items():
            found = ends.get(partition)
            if found is None:
                whole = frame(partition_record(topic_id, index, partition))
                found = ends[partition] = (whole[:_BEFORE_INDEX], whole[_AFTER_TOPIC_ID:])
            yield b"".join((found[0], index.to_bytes(4, "big"), topic_id, found[1]))


_BEFORE_INDEX: Final = 3
_AFTER_TOPIC_ID: Final = _BEFORE_INDEX + 4 + 16


def topic_records(topic: TopicImage) -> Iterator[Any]:
    """The topic and its partitions."""
    yield messages.TopicRecord(name=topic.name, topic_id=topic.topic_id)
    for partition, image in topic.partitions.items():
        yield partition_record(topic.topic_id, partition, image)


def partition_record(topic_id: bytes, partition: int, image: PartitionImage) -> messages.PartitionRecord:
    """One partition in full."""
    return messages.PartitionRecord(
        partition_id=partition,
        topic_id=topic_id,
        replicas=list(image.replicas),
        isr=list(image.isr),
        removing_replicas=list(image.removing_replicas),
        adding_replicas=list(image.adding_replicas),
        leader=image.leader,
        leader_recovery_state=image.leader_recovery_state,
        leader_epoch=image.leader_epoch,
        partition_epoch=image.partition_epoch,
        directories=list(image.directories),
        eligible_leader_replicas=list(image.eligible_leader_replicas) or None,
        last_known_elr=list(image.last_known_elr) or None,
    )


def broker_record(broker: BrokerImage) -> messages.RegisterBrokerRecord:
    """A broker's registration as it stands."""
    cordoned = broker.cordoned_log_dirs
    return messages.RegisterBrokerRecord(
        broker_id=broker.broker_id,
        is_migrating_zk_broker=broker.is_migrating_zk_broker,
        incarnation_id=broker.incarnation_id,
        broker_epoch=broker.broker_epoch,
        end_points=_endpoints(messages.BrokerEndpoint, broker.endpoints.values()),
        features=_feature_ranges(messages.BrokerFeature, broker.features.items()),
        rack=broker.rack,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
        log_dirs=list(broker.log_dirs),
        cordoned_log_dirs=None if cordoned is None else list(cordoned),
    )


def controller_record(controller: ControllerImage) -> messages.RegisterControllerRecord:
    """A controller's registration."""
    return messages.RegisterControllerRecord(
        controller_id=controller.controller_id,
        incarnation_id=controller.incarnation_id,
        zk_migration_ready=controller.zk_migration_ready,
        end_points=_endpoints(messages.ControllerEndpoint, controller.endpoints.values()),
        features=_feature_ranges(messages.ControllerFeature, controller.features.items()),
    )


def _features(image: MetadataImage) -> Iterator[Any]:
    if METADATA_VERSION in image.features:
        yield messages.FeatureLevelRecord(name=METADATA_VERSION, feature_level=image.features[METADATA_VERSION])
    for name, level in image.features.items():
        if name != METADATA_VERSION:
            yield messages.FeatureLevelRecord(name=name, feature_level=level)
    if image.zk_migration_state:
        yield messages.ZkMigrationStateRecord(zk_migration_state=image.zk_migration_state)


def _quotas(image: MetadataImage) -> Iterator[Any]:
    for entity, values in image.client_quotas.items():
        for key, value in values.items():
            parts = [messages.EntityData(entity_type=kind, entity_name=name) for kind, name in entity]
            yield messages.ClientQuotaRecord(entity=parts, key=key, value=value, remove=False)


def _security(image: MetadataImage) -> Iterator[Any]:
    for acl_id, acl in image.acls.items():
        yield messages.AccessControlEntryRecord(
            id=acl_id,
            resource_type=acl.resource_type,
            resource_name=acl.resource_name,
            pattern_type=acl.pattern_type,
            principal=acl.principal,
            host=acl.host,
            operation=acl.operation,
            permission_type=acl.permission_type,
        )
    for (mechanism, name), credential in image.scram.items():
        yield messages.UserScramCredentialRecord(
            name=name,
            mechanism=mechanism,
            salt=credential.salt,
            stored_key=credential.stored_key,
            server_key=credential.server_key,
            iterations=credential.iterations,
        )
    for token_id, token in image.delegation_tokens.items():
        yield messages.DelegationTokenRecord(
            owner=token.owner,
            requester=token.requester,
            renewers=list(token.renewers),
            issue_timestamp=token.issue_timestamp_ms,
            max_timestamp=token.max_timestamp_ms,
            expiration_timestamp=token.expiration_timestamp_ms,
            token_id=token_id,
            unknown_tags=_groups(token.groups) if token.groups else None,
        )


def _groups(groups: tuple[str, ...]) -> Any:
    from ottla.server.security.groups import tags_of

    return tags_of(groups)


def _endpoints(struct: type[Any], endpoints: Iterator[Endpoint] | Any) -> list[Any]:
    return [struct(name=e.name, host=e.host, port=e.port, security_protocol=e.security_protocol) for e in endpoints]


def _feature_ranges(struct: type[Any], features: Any) -> list[Any]:
    return [
        struct(name=name, min_supported_version=lowest, max_supported_version=highest)
        for name, (lowest, highest) in features
    ]
