"""What the admin clients take and give: `ottla.admin.NewTopic`, `ottla.admin.ConfigResource`, ...

A call about several items returns `{item: result}` when all went well, and raises when any item failed. The error has
the failures by item in `errors`, and what came of the others in `results`:

    try:
        groups = admin.describe_consumer_groups(["payments", "shipping"])
    except ottla.KafkaError as error:
        groups, failures = error.results, error.errors

Class and code of the error are those of the failures when they are all alike (always so for a single item); failures of
different kinds raise a plain `KafkaError` without a code, so that a handler for one of them does not swallow the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.lazy import load

if TYPE_CHECKING:
    from ottla.client.admin.acls import AclBinding as AclBinding
    from ottla.client.admin.acls import AclFilter as AclFilter
    from ottla.client.admin.acls import AclOperation as AclOperation
    from ottla.client.admin.acls import AclPatternType as AclPatternType
    from ottla.client.admin.acls import AclPermission as AclPermission
    from ottla.client.admin.acls import AclResourceType as AclResourceType
    from ottla.client.admin.clusters import ClusterDescription as ClusterDescription
    from ottla.client.admin.clusters import FeatureMetadata as FeatureMetadata
    from ottla.client.admin.clusters import FeatureUpdate as FeatureUpdate
    from ottla.client.admin.clusters import QuorumInfo as QuorumInfo
    from ottla.client.admin.clusters import QuorumReplica as QuorumReplica
    from ottla.client.admin.clusters import RaftVoterEndpoint as RaftVoterEndpoint
    from ottla.client.admin.clusters import UpgradeType as UpgradeType
    from ottla.client.admin.clusters import VersionRange as VersionRange
    from ottla.client.admin.configs import AlterConfigOp as AlterConfigOp
    from ottla.client.admin.configs import AlterOperation as AlterOperation
    from ottla.client.admin.configs import ConfigEntry as ConfigEntry
    from ottla.client.admin.configs import ConfigResource as ConfigResource
    from ottla.client.admin.configs import ConfigSource as ConfigSource
    from ottla.client.admin.configs import ConfigSynonym as ConfigSynonym
    from ottla.client.admin.configs import ConfigType as ConfigType
    from ottla.client.admin.configs import ConfigValueType as ConfigValueType
    from ottla.client.admin.group_offsets import SharePartitionOffset as SharePartitionOffset
    from ottla.client.admin.groups import ClassicGroupDescription as ClassicGroupDescription
    from ottla.client.admin.groups import ClassicMemberDescription as ClassicMemberDescription
    from ottla.client.admin.groups import ConsumerGroupDescription as ConsumerGroupDescription
    from ottla.client.admin.groups import GroupListing as GroupListing
    from ottla.client.admin.groups import GroupState as GroupState
    from ottla.client.admin.groups import GroupType as GroupType
    from ottla.client.admin.groups import MemberDescription as MemberDescription
    from ottla.client.admin.groups import MemberToRemove as MemberToRemove
    from ottla.client.admin.log_dirs import LogDirDescription as LogDirDescription
    from ottla.client.admin.log_dirs import ReplicaInfo as ReplicaInfo
    from ottla.client.admin.log_dirs import ReplicaLogDirInfo as ReplicaLogDirInfo
    from ottla.client.admin.log_dirs import TopicPartitionReplica as TopicPartitionReplica
    from ottla.client.admin.modern_groups import ShareGroupDescription as ShareGroupDescription
    from ottla.client.admin.modern_groups import ShareMemberDescription as ShareMemberDescription
    from ottla.client.admin.modern_groups import StreamsAssignment as StreamsAssignment
    from ottla.client.admin.modern_groups import StreamsGroupDescription as StreamsGroupDescription
    from ottla.client.admin.modern_groups import StreamsMemberDescription as StreamsMemberDescription
    from ottla.client.admin.modern_groups import StreamsSubtopologyDescription as StreamsSubtopologyDescription
    from ottla.client.admin.modern_groups import StreamsTask as StreamsTask
    from ottla.client.admin.modern_groups import StreamsTopicInfo as StreamsTopicInfo
    from ottla.client.admin.offsets import DELETE_ALL as DELETE_ALL
    from ottla.client.admin.offsets import ListedOffset as ListedOffset
    from ottla.client.admin.offsets import OffsetSpec as OffsetSpec
    from ottla.client.admin.partitions import ElectionType as ElectionType
    from ottla.client.admin.partitions import PartitionReassignment as PartitionReassignment
    from ottla.client.admin.quotas import ANY as ANY
    from ottla.client.admin.quotas import DEFAULT as DEFAULT
    from ottla.client.admin.quotas import ClientQuotaEntity as ClientQuotaEntity
    from ottla.client.admin.quotas import QuotaName as QuotaName
    from ottla.client.admin.scram import ScramCredentialInfo as ScramCredentialInfo
    from ottla.client.admin.scram import ScramMechanism as ScramMechanism
    from ottla.client.admin.scram import UserScramCredentialDeletion as UserScramCredentialDeletion
    from ottla.client.admin.scram import UserScramCredentialUpsertion as UserScramCredentialUpsertion
    from ottla.client.admin.tokens import DelegationToken as DelegationToken
    from ottla.client.admin.tokens import KafkaPrincipal as KafkaPrincipal
    from ottla.client.admin.topics import CreatedTopic as CreatedTopic
    from ottla.client.admin.topics import NewPartitions as NewPartitions
    from ottla.client.admin.topics import NewTopic as NewTopic
    from ottla.client.admin.topics import PartitionDescription as PartitionDescription
    from ottla.client.admin.topics import TopicDescription as TopicDescription
    from ottla.client.admin.topics import TopicListing as TopicListing
    from ottla.client.admin.transactions import AbortTransactionSpec as AbortTransactionSpec
    from ottla.client.admin.transactions import ProducerIdAndEpoch as ProducerIdAndEpoch
    from ottla.client.admin.transactions import ProducerState as ProducerState
    from ottla.client.admin.transactions import TransactionDescription as TransactionDescription
    from ottla.client.admin.transactions import TransactionListing as TransactionListing
    from ottla.client.admin.transactions import TransactionState as TransactionState
    from ottla.client.metrics.registry import MetricName as MetricName

_MODULES = {
    "ottla.client.admin.acls": (
        "AclBinding",
        "AclFilter",
        "AclOperation",
        "AclPatternType",
        "AclPermission",
        "AclResourceType",
    ),
    "ottla.client.admin.clusters": (
        "ClusterDescription",
        "FeatureMetadata",
        "FeatureUpdate",
        "QuorumInfo",
        "QuorumReplica",
        "RaftVoterEndpoint",
        "UpgradeType",
        "VersionRange",
    ),
    "ottla.client.admin.configs": (
        "AlterConfigOp",
        "AlterOperation",
        "ConfigEntry",
        "ConfigResource",
        "ConfigSource",
        "ConfigSynonym",
        "ConfigType",
        "ConfigValueType",
    ),
    "ottla.client.admin.group_offsets": ("SharePartitionOffset",),
    "ottla.client.admin.groups": (
        "ClassicGroupDescription",
        "ClassicMemberDescription",
        "ConsumerGroupDescription",
        "GroupListing",
        "GroupState",
        "GroupType",
        "MemberDescription",
        "MemberToRemove",
    ),
    "ottla.client.admin.log_dirs": (
        "LogDirDescription",
        "ReplicaInfo",
        "ReplicaLogDirInfo",
        "TopicPartitionReplica",
    ),
    "ottla.client.admin.modern_groups": (
        "ShareGroupDescription",
        "ShareMemberDescription",
        "StreamsAssignment",
        "StreamsGroupDescription",
        "StreamsMemberDescription",
        "StreamsSubtopologyDescription",
        "StreamsTask",
        "StreamsTopicInfo",
    ),
    "ottla.client.admin.offsets": (
        "DELETE_ALL",
        "ListedOffset",
        "OffsetSpec",
    ),
    "ottla.client.admin.partitions": (
        "ElectionType",
        "PartitionReassignment",
    ),
    "ottla.client.admin.quotas": (
        "ANY",
        "ClientQuotaEntity",
        "DEFAULT",
        "QuotaName",
    ),
    "ottla.client.admin.scram": (
        "ScramCredentialInfo",
        "ScramMechanism",
        "UserScramCredentialDeletion",
        "UserScramCredentialUpsertion",
    ),
    "ottla.client.admin.tokens": (
        "DelegationToken",
        "KafkaPrincipal",
    ),
    "ottla.client.admin.topics": (
        "CreatedTopic",
        "NewPartitions",
        "NewTopic",
        "PartitionDescription",
        "TopicDescription",
        "TopicListing",
    ),
    "ottla.client.admin.transactions": (
        "AbortTransactionSpec",
        "ProducerIdAndEpoch",
        "ProducerState",
        "TransactionDescription",
        "TransactionListing",
        "TransactionState",
    ),
    "ottla.client.metrics.registry": ("MetricName",),
}
"""Where each public name lives; loaded on first use."""

_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*_HOMES]  # noqa: PLE0604 (the names are those of the table)


def __getattr__(name: str) -> object:
    return load(name, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
