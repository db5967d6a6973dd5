"""Records of the cluster metadata log (`__cluster_metadata`); API_KEY is the record type."""

from __future__ import annotations

from ottla.protocol.message import (
    MetadataRecord,
    Struct,
    array,
    binary,
    boolean,
    float64,
    int8,
    int16,
    int32,
    int64,
    string,
    uint16,
    uuid,
)


class BrokerEndpoint(Struct):
    name: str = string("0+", key=True)
    host: str = string("0+")
    port: int = uint16("0+")
    security_protocol: int = int16("0+")


class BrokerFeature(Struct):
    name: str = string("0+", key=True)
    min_supported_version: int = int16("0+")
    max_supported_version: int = int16("0+")


class RegisterBrokerRecord(MetadataRecord, api_key=0, versions="0-4", flexible="0+"):
    """A broker's incarnation with its listeners, features and log directories."""

    broker_id: int = int32("0+", entity="brokerId")
    is_migrating_zk_broker: bool = boolean("2+", default=False)
    incarnation_id: bytes = uuid("0+")
    broker_epoch: int = int64("0+")
    end_points: list[BrokerEndpoint] = array(BrokerEndpoint, "0+")
    features: list[BrokerFeature] = array(BrokerFeature, "0+")
    rack: str | None = string("0+", nullable="0+")
    fenced: bool = boolean("0+", default=True)
    in_controlled_shutdown: bool = boolean("1+", default=False)
    log_dirs: list[bytes] = array("uuid", "3+", tag=0, tagged="3+")
    cordoned_log_dirs: list[bytes] | None = array("uuid", "4+", nullable="4+", default=None, tag=1, tagged="4+")


class UnregisterBrokerRecord(MetadataRecord, api_key=1, versions="0", flexible="0+"):
    """A broker's registration is gone."""

    broker_id: int = int32("0+", entity="brokerId")
    broker_epoch: int = int64("0+")


class TopicRecord(MetadataRecord, api_key=2, versions="0", flexible="0+"):
    """A topic exists: its name and id."""

    name: str = string("0+", entity="topicName")
    topic_id: bytes = uuid("0+")


class PartitionRecord(MetadataRecord, api_key=3, versions="0-2", flexible="0+"):
    """A partition with its replicas, ISR, leader and epochs."""

    partition_id: int = int32("0+", default=-1)
    topic_id: bytes = uuid("0+")
    replicas: list[int] = array("int32", "0+", entity="brokerId")
    isr: list[int] = array("int32", "0+")
    removing_replicas: list[int] = array("int32", "0+", entity="brokerId")
    adding_replicas: list[int] = array("int32", "0+", entity="brokerId")
    leader: int = int32("0+", default=-1, entity="brokerId")
    leader_recovery_state: int = int8("0+", default=0, tag=0, tagged="0+")
    leader_epoch: int = int32("0+", default=-1)
    partition_epoch: int = int32("0+", default=-1)
    directories: list[bytes] = array("uuid", "1+")
    eligible_leader_replicas: list[int] | None = array(
        "int32", "2+", nullable="2+", default=None, tag=1, tagged="2+", entity="brokerId"
    )
    last_known_elr: list[int] | None = array(
        "int32", "2+", nullable="2+", default=None, tag=2, tagged="2+", entity="brokerId"
    )


class ConfigRecord(MetadataRecord, api_key=4, versions="0", flexible="0+"):
    """A setting of a resource; a null value removes it."""

    resource_type: int = int8("0+")
    resource_name: str = string("0+")
    name: str = string("0+")
    value: str | None = string("0+", nullable="0+")


class PartitionChangeRecord(MetadataRecord, api_key=5, versions="0-2", flexible="0+"):
    """What changed in a partition; absent fields keep their value."""

    partition_id: int = int32("0+", default=-1)
    topic_id: bytes = uuid("0+")
    isr: list[int] | None = array("int32", "0+", nullable="0+", default=None, tag=0, tagged="0+", entity="brokerId")
    leader: int = int32("0+", default=-2, tag=1, tagged="0+", entity="brokerId")
    replicas: list[int] | None = array(
        "int32", "0+", nullable="0+", default=None, tag=2, tagged="0+", entity="brokerId"
    )
    removing_replicas: list[int] | None = array(
        "int32", "0+", nullable="0+", default=None, tag=3, tagged="0+", entity="brokerId"
    )
    adding_replicas: list[int] | None = array(
        "int32", "0+", nullable="0+", default=None, tag=4, tagged="0+", entity="brokerId"
    )
    leader_recovery_state: int = int8("0+", default=-1, tag=5, tagged="0+")
    directories: list[bytes] | None = array("uuid", "1+", nullable="1+", default=None, tag=8, tagged="1+")
    eligible_leader_replicas: list[int] | None = array(
        "int32", "2+", nullable="2+", default=None, tag=6, tagged="2+", entity="brokerId"
    )
    last_known_elr: list[int] | None = array(
        "int32", "2+", nullable="2+", default=None, tag=7, tagged="2+", entity="brokerId"
    )


class FenceBrokerRecord(MetadataRecord, api_key=7, versions="0", flexible="0+"):
    """A broker is fenced (older form of BrokerRegistrationChangeRecord)."""

    id: int = int32("0+", entity="brokerId")
    epoch: int = int64("0+")


class UnfenceBrokerRecord(MetadataRecord, api_key=8, versions="0", flexible="0+"):
    """A broker is fenced no more (older form of BrokerRegistrationChangeRecord)."""

    id: int = int32("0+", entity="brokerId")
    epoch: int = int64("0+")


class RemoveTopicRecord(MetadataRecord, api_key=9, versions="0", flexible="0+"):
    """A topic is deleted."""

    topic_id: bytes = uuid("0+")


class DelegationTokenRecord(MetadataRecord, api_key=10, versions="0", flexible="0+"):
    """A delegation token with owner, renewers and dates."""

    owner: str = string("0+")
    requester: str = string("0+")
    renewers: list[str] = array("string", "0+")
    issue_timestamp: int = int64("0+")
    max_timestamp: int = int64("0+")
    expiration_timestamp: int = int64("0+")
    token_id: str = string("0+")


class UserScramCredentialRecord(MetadataRecord, api_key=11, versions="0", flexible="0+"):
    """A user's SCRAM credential."""

    name: str = string("0+")
    mechanism: int = int8("0+")
    salt: bytes = binary("0+")
    stored_key: bytes = binary("0+")
    server_key: bytes = binary("0+")
    iterations: int = int32("0+")


class FeatureLevelRecord(MetadataRecord, api_key=12, versions="0", flexible="0+"):
    """A feature is finalized at this level; level 0 removes it."""

    name: str = string("0+")
    feature_level: int = int16("0+")


class EntityData(Struct):
    entity_type: str = string("0+")
    entity_name: str | None = string("0+", nullable="0+")


class ClientQuotaRecord(MetadataRecord, api_key=14, versions="0", flexible="0+"):
    """A quota of a client entity is set or removed."""

    entity: list[EntityData] = array(EntityData, "0+")
    key: str = string("0+")
    value: float = float64("0+")
    remove: bool = boolean("0+")


class ProducerIdsRecord(MetadataRecord, api_key=15, versions="0", flexible="0+"):
    """The producer ids up to this one belong to brokers."""

    broker_id: int = int32("0+", entity="brokerId")
    broker_epoch: int = int64("0+", default=-1)
    next_producer_id: int = int64("0+")


class BrokerRegistrationChangeRecord(MetadataRecord, api_key=17, versions="0-3", flexible="0+"):
    """What changed in a broker's registration: fenced, in controlled shutdown, log directories."""

    broker_id: int = int32("0+", entity="brokerId")
    broker_epoch: int = int64("0+")
    fenced: int = int8("0+", tag=0, tagged="0+")
    in_controlled_shutdown: int = int8("1+", tag=1, tagged="1+")
    log_dirs: list[bytes] = array("uuid", "2+", tag=2, tagged="2+")
    cordoned_log_dirs: list[bytes] | None = array("uuid", "3+", nullable="3+", default=None, tag=3, tagged="3+")


class AccessControlEntryRecord(MetadataRecord, api_key=18, versions="0", flexible="0+"):
    """An access rule."""

    id: bytes = uuid("0+")
    resource_type: int = int8("0+")
    resource_name: str = string("0+")
    pattern_type: int = int8("0+")
    principal: str = string("0+")
    host: str = string("0+")
    operation: int = int8("0+")
    permission_type: int = int8("0+")


class RemoveAccessControlEntryRecord(MetadataRecord, api_key=19, versions="0", flexible="0+"):
    """An access rule is gone."""

    id: bytes = uuid("0+")


class NoOpRecord(MetadataRecord, api_key=20, versions="0", flexible="0+"):
    """Says nothing; keeps the metadata log and its offsets moving."""


class ZkMigrationStateRecord(MetadataRecord, api_key=21, versions="0", flexible="0+"):
    """State of the migration from ZooKeeper."""

    zk_migration_state: int = int8("0+")


class RemoveUserScramCredentialRecord(MetadataRecord, api_key=22, versions="0", flexible="0+"):
    """A user's SCRAM credential is gone."""

    name: str = string("0+")
    mechanism: int = int8("0+")


class BeginTransactionRecord(MetadataRecord, api_key=23, versions="0", flexible="0+"):
    """Opens a metadata transaction: what follows counts once it has ended (KIP-868)."""

    name: str | None = string("0+", nullable="0+", default=None, tag=0, tagged="0+")


class EndTransactionRecord(MetadataRecord, api_key=24, versions="0", flexible="0+"):
    """Ends a metadata transaction (KIP-868)."""


class AbortTransactionRecord(MetadataRecord, api_key=25, versions="0", flexible="0+"):
    """Drops a metadata transaction (KIP-868)."""

    reason: str | None = string("0+", nullable="0+", default=None, tag=0, tagged="0+")


class RemoveDelegationTokenRecord(MetadataRecord, api_key=26, versions="0", flexible="0+"):
    """A delegation token is gone."""

    token_id: str = string("0+")


class ControllerEndpoint(Struct):
    name: str = string("0+", key=True)
    host: str = string("0+")
    port: int = uint16("0+")
    security_protocol: int = int16("0+")


class ControllerFeature(Struct):
    name: str = string("0+", key=True)
    min_supported_version: int = int16("0+")
    max_supported_version: int = int16("0+")


class RegisterControllerRecord(MetadataRecord, api_key=27, versions="0", flexible="0+"):
    """A controller's incarnation with its listeners and features."""

    controller_id: int = int32("0+")
    incarnation_id: bytes = uuid("0+")
    zk_migration_ready: bool = boolean("0+")
    end_points: list[ControllerEndpoint] = array(ControllerEndpoint, "0+")
    features: list[ControllerFeature] = array(ControllerFeature, "0+")


class ClearElrRecord(MetadataRecord, api_key=28, versions="0", flexible="0+"):
    """Eligible leader replicas of a topic, or of all, are cleared (KIP-966)."""

    topic_name: str = string("0+", entity="topicName")


class UnregisterControllerRecord(MetadataRecord, api_key=29, versions="0", flexible="0+"):
    """A controller's registration is gone (Kafka 4.4)."""

    controller_id: int = int32("0+")
