"""Records on top of an image: what changes, and the image that results.

A `MetadataDelta` copies a table of its base image when a record first touches it, so that a thousand records in one
delta cost one copy; of topics and partitions, which may be many, only what changed is copied (`tables`).

A cluster has far fewer states of partitions than partitions: equal images are one object, here and in all that follows.

Listeners read from a delta: `changed_topics` (created ones have `before is None`), `deleted_topics`, `changed_configs`,
`changed_brokers`, `changed_acls` and `changed` (names of the other image fields that were touched).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from ottla.protocol.messages import metadata_records as messages
from ottla.server.metadata.image import (
    AclImage,
    BrokerImage,
    ConfigResource,
    ConfigResourceType,
    ControllerImage,
    DelegationTokenImage,
    Endpoint,
    MetadataImage,
    PartitionImage,
    ProducerIdsImage,
    QuotaEntity,
    ScramCredentialImage,
    TopicImage,
    TopicsImage,
)
from ottla.server.metadata.tables import changed

_LEADER_UNCHANGED: Final = -2
_RECOVERY_STATE_UNCHANGED: Final = -1

_T = TypeVar("_T")
_shared: dict[tuple[Any, ...], tuple[Any, ...]] = {}
_images: dict[PartitionImage, PartitionImage] = {}
_MOST_IMAGES: Final = 65_536


class MetadataError(Exception):
    """A metadata record that cannot follow the ones before it: the log is damaged, or written by a newer program."""


def _tuple(values: Sequence[_T] | None) -> tuple[_T, ...]:
    """The list as a tuple, equal tuples being one object: most partitions of a cluster share a few replica lists."""
    if not values:
        return ()
    made = tuple(values)
    if len(_shared) > 4096:
        _shared.clear()
    return _shared.setdefault(made, made)


def _one_object(image: PartitionImage) -> PartitionImage:
    """An image equal to this one: for all partitions in the same state the same."""
    if len(_images) > _MOST_IMAGES:
        _images.clear()
    return _images.setdefault(image, image)


class PackedPartition(NamedTuple):
    """A PartitionRecord, read for replay only."""

    topic_id: bytes
    partition_id: int
    image: PartitionImage


class PackedChange(NamedTuple):
    """A PartitionChangeRecord, read for replay only: partitions that change alike share `change`."""

    topic_id: bytes
    partition_id: int
    change: PartitionChange


class PartitionChange:
    """What a record changes, and what that made of partitions so far."""

    __slots__ = ("_outcomes", "_record")

    def __init__(self, record: messages.PartitionChangeRecord) -> None:
        self._record = record
        self._outcomes: dict[PartitionImage, PartitionImage] = {}

    def of(self, before: PartitionImage) -> PartitionImage:
        """The partition after the change."""
        after = self._outcomes.get(before)
        if after is None:
            after = self._outcomes[before] = _partition_after(before, self._record)
        return after


def partition_image(record: messages.PartitionRecord) -> PartitionImage:
    """What the record says of the partition."""
    return _one_object(
        PartitionImage(
            _tuple(record.replicas),
            _tuple(record.isr),
            record.leader,
            record.leader_epoch,
            record.partition_epoch,
            _tuple(record.directories),
            _tuple(record.removing_replicas),
            _tuple(record.adding_replicas),
            _tuple(record.eligible_leader_replicas),
            _tuple(record.last_known_elr),
            record.leader_recovery_state,
        )
    )


def _partition_after(before: PartitionImage, record: messages.PartitionChangeRecord) -> PartitionImage:
    """The partition with the record's changes. Written out: fencing a broker does it a hundred thousand times."""
    replicas, isr, leader, leader_epoch, partition_epoch, directories, removing, adding, elr, last_known, state = before
    if record.isr is not None:
        isr = _tuple(record.isr)
    if record.leader != _LEADER_UNCHANGED:
        leader = record.leader
        leader_epoch += 1
    if record.replicas is not None:
        if record.directories is None and len(record.replicas) != len(replicas):
            directories = ()
        replicas = _tuple(record.replicas)
    if record.removing_replicas is not None:
        removing = _tuple(record.removing_replicas)
    if record.adding_replicas is not None:
        adding = _tuple(record.adding_replicas)
    if record.directories is not None:
        directories = _tuple(record.directories)
    if record.eligible_leader_replicas is not None:
        elr = _tuple(record.eligible_leader_replicas)
    if record.last_known_elr is not None:
        last_known = _tuple(record.last_known_elr)
    if record.leader_recovery_state != _RECOVERY_STATE_UNCHANGED:
        state = record.leader_recovery_state
    return _one_object(
        PartitionImage(
            replicas,
            isr,
            leader,
            leader_epoch,
            partition_epoch + 1,
            directories,
            removing,
            adding,
            elr,
            last_known,
            state,
        )
    )


class TopicDelta:
    """Changes of one topic: `before` is None when this delta creates it; `changes` holds the new partition images."""

    __slots__ = ("before", "changes", "name", "topic_id")

    def __init__(self, name: str, topic_id: bytes, before: TopicImage | None) -> None:
        self.name = name
        self.topic_id = topic_id
        self.before = before
        self.changes: dict[int, PartitionImage] = {}

    def partition(self, partition: int) -> PartitionImage | None:
        """The partition as it stands now."""
        found = self.changes.get(partition)
        if found is None and self.before is not None:
            return self.before.partitions.get(partition)
        return found

    def partition_ids(self) -> list[int]:
        """All partition indexes of the topic as it stands now."""
        return list(self.image().partitions)

    def put(self, partition: int, image: PartitionImage) -> None:
        """Replace or add a partition."""
        self.changes[partition] = image

    def image(self) -> TopicImage:
        """The topic with the changes; partitions in ascending order."""
        changes = self.changes
        if self.before is None:
            return TopicImage(self.name, self.topic_id, _ascending(dict(changes), -1))
        known = self.before.partitions
        added = [partition for partition in changes if partition not in known]
        partitions = changed(known, changes)
        if added:
            partitions = _ascending(partitions, max(known, default=-1), added)
        return TopicImage(self.name, self.topic_id, partitions)


def _ascending(
    partitions: Mapping[int, PartitionImage], last: int, added: Sequence[int] | None = None
) -> Mapping[int, PartitionImage]:
    """The partitions in order; they are unless one of `added` does not follow on those before."""
    for partition in partitions if added is None else added:
        if partition < last:
            return dict(sorted(partitions.items()))
        last = partition
    return partitions


class MetadataDelta:
    """Replays records on top of `image`; see the module's docstring for what listeners read."""

    __slots__ = (
        "_configs",
        "_tables",
        "changed",
        "changed_acls",
        "changed_brokers",
        "changed_configs",
        "changed_topics",
        "deleted_topics",
        "image",
    )

    def __init__(self, image: MetadataImage) -> None:
        self.image = image
        self.changed_topics: dict[bytes, TopicDelta] = {}
        self.deleted_topics: dict[bytes, TopicImage] = {}
        self.changed_brokers: set[int] = set()
        self.changed: set[str] = set()
        # By id; None for one that is gone. There may be very many, and few of them change.
        self.changed_acls: dict[bytes, AclImage | None] = {}
        self._tables: dict[str, Any] = {}
        self._configs: dict[ConfigResource, dict[str, str]] = {}
        self.changed_configs: set[ConfigResource] = set()

    def replay(self, record: Any) -> None:
        """Apply one decoded record. Raises MetadataError when it does not fit the state."""
        replay = _REPLAY.get(type(record))
        if replay is None:
            raise MetadataError(f"a record of type {type(record).__name__} does not belong into the metadata log")
        replay(self, record)

    def apply(self, offset: int, epoch: int, timestamp_ms: int) -> MetadataImage:
        """The next image, with everything untouched shared with the base. The delta must not be replayed into after."""
        base, tables = self.image, self._tables
        return MetadataImage(
            offset=offset,
            epoch=epoch,
            timestamp_ms=timestamp_ms,
            features=tables.get("features", base.features),
            brokers=tables.get("brokers", base.brokers),
            controllers=tables.get("controllers", base.controllers),
            topics=self._apply_topics(),
            configs=self._apply_configs(),
            client_quotas=tables.get("client_quotas", base.client_quotas),
            producer_ids=tables.get("producer_ids", base.producer_ids),
            acls=self._apply_acls(),
            scram=tables.get("scram", base.scram),
            delegation_tokens=tables.get("delegation_tokens", base.delegation_tokens),
            zk_migration_state=tables.get("zk_migration_state", base.zk_migration_state),
        )

    def _apply_acls(self) -> Mapping[bytes, AclImage]:
        base = self.image.acls
        if not self.changed_acls:
            return base
        changes = {acl_id: acl for acl_id, acl in self.changed_acls.items() if acl is not None}
        gone = tuple(acl_id for acl_id, acl in self.changed_acls.items() if acl is None and acl_id in base)
        return changed(base, changes, gone)

    def topic_by_id(self, topic_id: bytes) -> TopicImage | None:
        """A topic as it stands now."""
        delta = self.changed_topics.get(topic_id)
        if delta is not None:
            return delta.image()
        if topic_id in self.deleted_topics:
            return None
        return self.image.topics.by_id.get(topic_id)

    def _apply_topics(self) -> TopicsImage:
        base = self.image.topics
        if not self.changed_topics and not self.deleted_topics:
            return base
        topics = {topic_id: delta.image() for topic_id, delta in self.changed_topics.items()}
        return TopicsImage(
            changed(
                base.by_name,
                {topic.name: topic for topic in topics.values()},
                tuple(gone.name for gone in self.deleted_topics.values()),
            ),
            changed(base.by_id, topics, tuple(self.deleted_topics)),
        )

    def _apply_configs(self) -> Mapping[ConfigResource, Mapping[str, str]]:
        if not self._configs:
            return self.image.configs
        configs: dict[ConfigResource, Mapping[str, str]] = dict(self.image.configs)
        for resource, settings in self._configs.items():
            if settings:
                configs[resource] = settings
            else:
                configs.pop(resource, None)
        return configs

    def _table(self, name: str) -> dict[Any, Any]:
        """This delta's own copy of one of the image's mappings."""
        table: dict[Any, Any] | None = self._tables.get(name)
        if table is None:
            table = self._tables[name] = dict(getattr(self.image, name))
            self.changed.add(name)
        return table

    def _topic(self, topic_id: bytes) -> TopicDelta:
        delta = self.changed_topics.get(topic_id)
        if delta is None:
            before = None if topic_id in self.deleted_topics else self.image.topics.by_id.get(topic_id)
            if before is None:
                raise MetadataError(f"a record names the topic id {topic_id.hex()}, which does not exist")
            delta = self.changed_topics[topic_id] = TopicDelta(before.name, topic_id, before)
        return delta

    def _settings(self, resource: ConfigResource) -> dict[str, str]:
        settings = self._configs.get(resource)
        if settings is None:
            settings = self._configs[resource] = dict(self.image.configs.get(resource, {}))
            self.changed_configs.add(resource)
        return settings

    # One method per record type, in the order of their keys.

    def _register_broker(self, record: messages.RegisterBrokerRecord) -> None:
        cordoned = record.cordoned_log_dirs
        self.changed_brokers.add(record.broker_id)
        self._table("brokers")[record.broker_id] = BrokerImage(
            broker_id=record.broker_id,
            broker_epoch=record.broker_epoch,
            incarnation_id=record.incarnation_id,
            endpoints=_endpoints(record.end_points),
            features=_features(record.features),
            rack=record.rack,
            fenced=record.fenced,
            in_controlled_shutdown=record.in_controlled_shutdown,
            is_migrating_zk_broker=record.is_migrating_zk_broker,
            log_dirs=tuple(record.log_dirs),
            cordoned_log_dirs=None if cordoned is None else tuple(cordoned),
        )

    def _unregister_broker(self, record: messages.UnregisterBrokerRecord) -> None:
        self._broker(record.broker_id, record.broker_epoch)
        self.changed_brokers.add(record.broker_id)
        del self._table("brokers")[record.broker_id]

    def _topic_created(self, record: messages.TopicRecord) -> None:
        topic_id = record.topic_id
        if topic_id in self.changed_topics or topic_id in self.image.topics.by_id:
            raise MetadataError(f"the topic {record.name} is created twice")
        self.changed_topics[topic_id] = TopicDelta(record.name, topic_id, None)

    def _partition(self, record: messages.PartitionRecord) -> None:
        delta = self.changed_topics.get(record.topic_id) or self._topic(record.topic_id)
        delta.put(record.partition_id, partition_image(record))

    def _packed_partition(self, record: PackedPartition) -> None:
        topic_id, partition_id, image = record
        delta = self.changed_topics.get(topic_id) or self._topic(topic_id)
        delta.changes[partition_id] = image

    def _packed_change(self, record: PackedChange) -> None:
        topic_id, partition_id, change = record
        delta, before = self._known_partition(topic_id, partition_id)
        delta.changes[partition_id] = change.of(before)

    def _config(self, record: messages.ConfigRecord) -> None:
        settings = self._settings((record.resource_type, record.resource_name))
        if record.value is None:
            settings.pop(record.name, None)
        else:
            settings[record.name] = record.value

    def _partition_change(self, record: messages.PartitionChangeRecord) -> None:
        delta, before = self._known_partition(record.topic_id, record.partition_id)
        delta.changes[record.partition_id] = _partition_after(before, record)

    def _known_partition(self, topic_id: bytes, partition_id: int) -> tuple[TopicDelta, PartitionImage]:
        delta = self.changed_topics.get(topic_id) or self._topic(topic_id)
        before = delta.partition(partition_id)
        if before is None:
            raise MetadataError(f"a record changes {delta.name}-{partition_id}, which does not exist")
        return delta, before

    def _fence_broker(self, record: messages.FenceBrokerRecord) -> None:
        self._change_broker(record.id, record.epoch, fenced=True)

    def _unfence_broker(self, record: messages.UnfenceBrokerRecord) -> None:
        self._change_broker(record.id, record.epoch, fenced=False)

    def _remove_topic(self, record: messages.RemoveTopicRecord) -> None:
        topic_id = record.topic_id
        delta = self.changed_topics.pop(topic_id, None)
        gone = delta.before if delta is not None else self.image.topics.by_id.get(topic_id)
        if delta is None and (gone is None or topic_id in self.deleted_topics):
            raise MetadataError(f"a record removes the topic id {topic_id.hex()}, which does not exist")
        if gone is not None:
            self.deleted_topics[topic_id] = gone
        name = delta.name if delta is not None else gone.name  # type: ignore[union-attr]
        resource = (int(ConfigResourceType.TOPIC), name)
        if resource in self._configs or resource in self.image.configs:
            self._settings(resource).clear()

    def _delegation_token(self, record: messages.DelegationTokenRecord) -> None:
        self._table("delegation_tokens")[record.token_id] = DelegationTokenImage(
            record.owner,
            record.requester,
            tuple(record.renewers),
            record.issue_timestamp,
            record.max_timestamp,
            record.expiration_timestamp,
            _groups(record) if record.unknown_tags else (),
        )

    def _user_scram_credential(self, record: messages.UserScramCredentialRecord) -> None:
        self._table("scram")[record.mechanism, record.name] = ScramCredentialImage(
            bytes(record.salt), bytes(record.stored_key), bytes(record.server_key), record.iterations
        )

    def _feature_level(self, record: messages.FeatureLevelRecord) -> None:
        features = self._table("features")
        if record.feature_level == 0:
            features.pop(record.name, None)
        else:
            features[record.name] = record.feature_level

    def _client_quota(self, record: messages.ClientQuotaRecord) -> None:
        entity: QuotaEntity = tuple(
            sorted(((part.entity_type, part.entity_name) for part in record.entity), key=lambda part: part[0])
        )
        quotas = self._table("client_quotas")
        values = dict(quotas.get(entity, {}))
        if record.remove:
            values.pop(record.key, None)
        else:
            values[record.key] = record.value
        if values:
            quotas[entity] = values
        else:
            quotas.pop(entity, None)

    def _producer_ids(self, record: messages.ProducerIdsRecord) -> None:
        self._tables["producer_ids"] = ProducerIdsImage(record.next_producer_id, record.broker_id, record.broker_epoch)
        self.changed.add("producer_ids")

    def _broker_registration_change(self, record: messages.BrokerRegistrationChangeRecord) -> None:
        changes: dict[str, Any] = {}
        if record.fenced:
            changes["fenced"] = record.fenced > 0
        if record.in_controlled_shutdown:
            changes["in_controlled_shutdown"] = record.in_controlled_shutdown > 0
        if record.log_dirs:
            changes["log_dirs"] = tuple(record.log_dirs)
        if record.cordoned_log_dirs is not None:
            changes["cordoned_log_dirs"] = tuple(record.cordoned_log_dirs)
        self._change_broker(record.broker_id, record.broker_epoch, **changes)

    def _access_control_entry(self, record: messages.AccessControlEntryRecord) -> None:
        acl = AclImage(
            record.resource_type,
            record.resource_name,
            record.pattern_type,
            record.principal,
            record.host,
            record.operation,
            record.permission_type,
        )
        self.changed_acls[record.id] = acl
        self.changed.add("acls")

    def _remove_access_control_entry(self, record: messages.RemoveAccessControlEntryRecord) -> None:
        known = self.changed_acls.get(record.id) if record.id in self.changed_acls else self.image.acls.get(record.id)
        if known is None:
            raise MetadataError(f"a record removes the ACL {record.id.hex()}, which does not exist")
        self.changed_acls[record.id] = None
        self.changed.add("acls")

    def _nothing(self, record: Any) -> None:
        """NoOp; and the transaction markers, which the loader has already acted on."""

    def _zk_migration_state(self, record: messages.ZkMigrationStateRecord) -> None:
        self._tables["zk_migration_state"] = record.zk_migration_state
        self.changed.add("zk_migration_state")

    def _remove_user_scram_credential(self, record: messages.RemoveUserScramCredentialRecord) -> None:
        if self._table("scram").pop((record.mechanism, record.name), None) is None:
            raise MetadataError(f"a record removes a SCRAM credential of {record.name}, which does not exist")

    def _remove_delegation_token(self, record: messages.RemoveDelegationTokenRecord) -> None:
        self._table("delegation_tokens").pop(record.token_id, None)

    def _register_controller(self, record: messages.RegisterControllerRecord) -> None:
        self._table("controllers")[record.controller_id] = ControllerImage(
            controller_id=record.controller_id,
            incarnation_id=record.incarnation_id,
            endpoints=_endpoints(record.end_points),
            features=_features(record.features),
            zk_migration_ready=record.zk_migration_ready,
        )

    def _unregister_controller(self, record: messages.UnregisterControllerRecord) -> None:
        self._table("controllers").pop(record.controller_id, None)

    def _clear_elr(self, record: messages.ClearElrRecord) -> None:
        """An empty topic name means every topic."""
        topics = {topic_id: topic.name for topic_id, topic in self.image.topics.by_id.items()}
        topics.update((topic_id, delta.name) for topic_id, delta in self.changed_topics.items())
        for topic_id, name in topics.items():
            if topic_id in self.deleted_topics or (record.topic_name and record.topic_name != name):
                continue
            topic = self.topic_by_id(topic_id)
            assert topic is not None
            for partition, image in topic.partitions.items():
                if image.eligible_leader_replicas or image.last_known_elr:
                    cleared = _one_object(image._replace(eligible_leader_replicas=(), last_known_elr=()))
                    self._topic(topic_id).put(partition, cleared)

    def _broker(self, broker_id: int, broker_epoch: int) -> BrokerImage:
        broker: BrokerImage | None = self._tables.get("brokers", self.image.brokers).get(broker_id)
        if broker is None:
            raise MetadataError(f"a record changes broker {broker_id}, which is not registered")
        if broker.broker_epoch != broker_epoch:
            raise MetadataError(
                f"a record changes broker {broker_id} in epoch {broker_epoch}, but its epoch is {broker.broker_epoch}"
            )
        return broker

    def _change_broker(self, broker_id: int, broker_epoch: int, **changes: Any) -> None:
        broker = self._broker(broker_id, broker_epoch)
        self.changed_brokers.add(broker_id)
        self._table("brokers")[broker_id] = broker._replace(**changes)


def _endpoints(end_points: Sequence[Any]) -> dict[str, Endpoint]:
    return {end.name: Endpoint(end.name, end.host, end.port, end.security_protocol) for end in end_points}


def _features(features: Sequence[Any]) -> dict[str, tuple[int, int]]:
    return {feature.name: (feature.min_supported_version, feature.max_supported_version) for feature in features}


def _groups(token: messages.DelegationTokenRecord) -> tuple[str, ...]:
    from ottla.server.security.groups import groups_in

    try:
        return groups_in(token.unknown_tags)
    except ValueError:
        raise MetadataError(f"a record has groups of the token {token.token_id} that cannot be read") from None


_REPLAY: Final[dict[type, Callable[[MetadataDelta, Any], None]]] = {
    messages.RegisterBrokerRecord: MetadataDelta._register_broker,
    messages.UnregisterBrokerRecord: MetadataDelta._unregister_broker,
    messages.TopicRecord: MetadataDelta._topic_created,
    messages.PartitionRecord: MetadataDelta._partition,
    messages.ConfigRecord: MetadataDelta._config,
    messages.PartitionChangeRecord: MetadataDelta._partition_change,
    messages.FenceBrokerRecord: MetadataDelta._fence_broker,
    messages.UnfenceBrokerRecord: MetadataDelta._unfence_broker,
    messages.RemoveTopicRecord: MetadataDelta._remove_topic,
    messages.DelegationTokenRecord: MetadataDelta._delegation_token,
    messages.UserScramCredentialRecord: MetadataDelta._user_scram_credential,
    messages.FeatureLevelRecord: MetadataDelta._feature_level,
    messages.ClientQuotaRecord: MetadataDelta._client_quota,
    messages.ProducerIdsRecord: MetadataDelta._producer_ids,
    messages.BrokerRegistrationChangeRecord: MetadataDelta._broker_registration_change,
    messages.AccessControlEntryRecord: MetadataDelta._access_control_entry,
    messages.RemoveAccessControlEntryRecord: MetadataDelta._remove_access_control_entry,
    messages.NoOpRecord: MetadataDelta._nothing,
    messages.ZkMigrationStateRecord: MetadataDelta._zk_migration_state,
    messages.RemoveUserScramCredentialRecord: MetadataDelta._remove_user_scram_credential,
    messages.BeginTransactionRecord: MetadataDelta._nothing,
    messages.EndTransactionRecord: MetadataDelta._nothing,
    messages.AbortTransactionRecord: MetadataDelta._nothing,
    messages.RemoveDelegationTokenRecord: MetadataDelta._remove_delegation_token,
    messages.RegisterControllerRecord: MetadataDelta._register_controller,
    messages.UnregisterControllerRecord: MetadataDelta._unregister_controller,
    messages.ClearElrRecord: MetadataDelta._clear_elr,
    PackedPartition: MetadataDelta._packed_partition,
    PackedChange: MetadataDelta._packed_change,
}
