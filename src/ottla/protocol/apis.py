"""Kafka's APIs: one table of numbers, versions and where each may be asked.

Versions are those of Apache Kafka 4.4. Message modules are named, not imported: a process loads what it uses.
"""

from __future__ import annotations

from enum import IntEnum
from importlib import import_module
from typing import NamedTuple

from ottla.protocol.message import Request, Response

NEVER_FLEXIBLE = 32768
"""`flexible_since` of an API without a flexible version: above every int16."""


class ApiKey(IntEnum):
    """Number of each API in the request header."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    LEADER_AND_ISR = 4
    STOP_REPLICA = 5
    UPDATE_METADATA = 6
    CONTROLLED_SHUTDOWN = 7
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    WRITE_TXN_MARKERS = 27
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_ACLS = 29
    CREATE_ACLS = 30
    DELETE_ACLS = 31
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    ALTER_REPLICA_LOG_DIRS = 34
    DESCRIBE_LOG_DIRS = 35
    SASL_AUTHENTICATE = 36
    CREATE_PARTITIONS = 37
    CREATE_DELEGATION_TOKEN = 38
    RENEW_DELEGATION_TOKEN = 39
    EXPIRE_DELEGATION_TOKEN = 40
    DESCRIBE_DELEGATION_TOKEN = 41
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    ALTER_PARTITION_REASSIGNMENTS = 45
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_CLIENT_QUOTAS = 48
    ALTER_CLIENT_QUOTAS = 49
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50
    ALTER_USER_SCRAM_CREDENTIALS = 51
    VOTE = 52
    BEGIN_QUORUM_EPOCH = 53
    END_QUORUM_EPOCH = 54
    DESCRIBE_QUORUM = 55
    ALTER_PARTITION = 56
    UPDATE_FEATURES = 57
    ENVELOPE = 58
    FETCH_SNAPSHOT = 59
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    BROKER_REGISTRATION = 62
    BROKER_HEARTBEAT = 63
    UNREGISTER_BROKER = 64
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66
    ALLOCATE_PRODUCER_IDS = 67
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69
    CONTROLLER_REGISTRATION = 70
    GET_TELEMETRY_SUBSCRIPTIONS = 71
    PUSH_TELEMETRY = 72
    ASSIGN_REPLICAS_TO_DIRS = 73
    LIST_CONFIG_RESOURCES = 74
    DESCRIBE_TOPIC_PARTITIONS = 75
    SHARE_GROUP_HEARTBEAT = 76
    SHARE_GROUP_DESCRIBE = 77
    SHARE_FETCH = 78
    SHARE_ACKNOWLEDGE = 79
    ADD_RAFT_VOTER = 80
    REMOVE_RAFT_VOTER = 81
    UPDATE_RAFT_VOTER = 82
    INITIALIZE_SHARE_GROUP_STATE = 83
    READ_SHARE_GROUP_STATE = 84
    WRITE_SHARE_GROUP_STATE = 85
    DELETE_SHARE_GROUP_STATE = 86
    READ_SHARE_GROUP_STATE_SUMMARY = 87
    STREAMS_GROUP_HEARTBEAT = 88
    STREAMS_GROUP_DESCRIBE = 89
    DESCRIBE_SHARE_GROUP_OFFSETS = 90
    ALTER_SHARE_GROUP_OFFSETS = 91
    DELETE_SHARE_GROUP_OFFSETS = 92
    STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE = 93
    UNREGISTER_CONTROLLER = 94


class Api(NamedTuple):
    """Facts of one API. Versions are inclusive on both ends; an API that Kafka removed has the empty range (0, -1)."""

    key: ApiKey
    name: str
    """Kafka's name, in front of "Request" and "Response"."""
    versions: tuple[int, int]
    latest_stable_version: int
    """Below the last version when that one is still unstable; -1 for a removed API."""
    flexible_since: int
    """First version with request header v2; see `ottla.protocol.headers`."""
    listeners: tuple[str, ...]
    """Where Apache Kafka serves it: "broker", "controller"."""
    forwardable: bool
    """A broker passes it on to the active controller, in an Envelope when a client asked (KIP-590)."""
    cluster_action: bool
    """For members of the cluster only: needs ClusterAction on the cluster resource."""

    @property
    def module(self) -> str:
        """Name of the module in `ottla.protocol.messages`."""
        return self.key.name.lower()

    def request_class(self) -> type[Request]:
        """The class of the request body, imported on demand."""
        found: type[Request] = getattr(import_module(f"ottla.protocol.messages.{self.module}"), f"{self.name}Request")
        return found

    def response_class(self) -> type[Response]:
        """The class of the response body, imported on demand."""
        found: type[Response] = getattr(import_module(f"ottla.protocol.messages.{self.module}"), f"{self.name}Response")
        return found


BROKER = ("broker",)
CONTROLLER = ("controller",)
BOTH = ("broker", "controller")


def _api(
    key: ApiKey,
    name: str,
    versions: tuple[int, int],
    flexible_since: int,
    listeners: tuple[str, ...],
    *,
    latest_stable_version: int | None = None,
    forwardable: bool = False,
    cluster_action: bool = False,
) -> tuple[int, Api]:
    latest = versions[1] if latest_stable_version is None else latest_stable_version
    return int(key), Api(key, name, versions, latest, flexible_since, listeners, forwardable, cluster_action)


APIS: dict[int, Api] = dict(
    (
        _api(ApiKey.PRODUCE, "Produce", (3, 13), 9, BROKER),
        _api(ApiKey.FETCH, "Fetch", (4, 18), 12, BOTH),
        _api(ApiKey.LIST_OFFSETS, "ListOffsets", (1, 11), 6, BROKER),
        _api(ApiKey.METADATA, "Metadata", (0, 13), 9, BROKER),
        _api(ApiKey.LEADER_AND_ISR, "LeaderAndIsr", (0, -1), NEVER_FLEXIBLE, ()),
        _api(ApiKey.STOP_REPLICA, "StopReplica", (0, -1), NEVER_FLEXIBLE, ()),
        _api(ApiKey.UPDATE_METADATA, "UpdateMetadata", (0, -1), NEVER_FLEXIBLE, ()),
        _api(ApiKey.CONTROLLED_SHUTDOWN, "ControlledShutdown", (0, -1), NEVER_FLEXIBLE, ()),
        _api(ApiKey.OFFSET_COMMIT, "OffsetCommit", (2, 10), 8, BROKER),
        _api(ApiKey.OFFSET_FETCH, "OffsetFetch", (1, 10), 6, BROKER),
        _api(ApiKey.FIND_COORDINATOR, "FindCoordinator", (0, 6), 3, BROKER),
        _api(ApiKey.JOIN_GROUP, "JoinGroup", (0, 9), 6, BROKER),
        _api(ApiKey.HEARTBEAT, "Heartbeat", (0, 4), 4, BROKER),
        _api(ApiKey.LEAVE_GROUP, "LeaveGroup", (0, 5), 4, BROKER),
        _api(ApiKey.SYNC_GROUP, "SyncGroup", (0, 5), 4, BROKER),
        _api(ApiKey.DESCRIBE_GROUPS, "DescribeGroups", (0, 6), 5, BROKER),
        _api(ApiKey.LIST_GROUPS, "ListGroups", (0, 5), 3, BROKER),
        _api(ApiKey.SASL_HANDSHAKE, "SaslHandshake", (0, 1), NEVER_FLEXIBLE, BOTH),
        _api(ApiKey.API_VERSIONS, "ApiVersions", (0, 5), 3, BOTH),
        _api(ApiKey.CREATE_TOPICS, "CreateTopics", (2, 7), 5, BOTH, forwardable=True),
        _api(ApiKey.DELETE_TOPICS, "DeleteTopics", (1, 6), 4, BOTH, forwardable=True),
        _api(ApiKey.DELETE_RECORDS, "DeleteRecords", (0, 2), 2, BROKER),
        _api(ApiKey.INIT_PRODUCER_ID, "InitProducerId", (0, 6), 2, BROKER, latest_stable_version=5),
        _api(ApiKey.OFFSET_FOR_LEADER_EPOCH, "OffsetForLeaderEpoch", (2, 4), 4, BROKER),
        _api(ApiKey.ADD_PARTITIONS_TO_TXN, "AddPartitionsToTxn", (0, 5), 3, BROKER),
        _api(ApiKey.ADD_OFFSETS_TO_TXN, "AddOffsetsToTxn", (0, 4), 3, BROKER),
        _api(ApiKey.END_TXN, "EndTxn", (0, 5), 3, BROKER),
        _api(ApiKey.WRITE_TXN_MARKERS, "WriteTxnMarkers", (1, 2), 1, BROKER, cluster_action=True),
        _api(ApiKey.TXN_OFFSET_COMMIT, "TxnOffsetCommit", (0, 6), 3, BROKER),
        _api(ApiKey.DESCRIBE_ACLS, "DescribeAcls", (1, 3), 2, BOTH),
        _api(ApiKey.CREATE_ACLS, "CreateAcls", (1, 3), 2, BOTH, forwardable=True),
        _api(ApiKey.DELETE_ACLS, "DeleteAcls", (1, 3), 2, BOTH, forwardable=True),
        _api(ApiKey.DESCRIBE_CONFIGS, "DescribeConfigs", (1, 4), 4, BOTH),
        _api(ApiKey.ALTER_CONFIGS, "AlterConfigs", (0, 2), 2, BOTH, forwardable=True),
        _api(ApiKey.ALTER_REPLICA_LOG_DIRS, "AlterReplicaLogDirs", (1, 2), 2, BROKER),
        _api(ApiKey.DESCRIBE_LOG_DIRS, "DescribeLogDirs", (1, 5), 2, BROKER),
        _api(ApiKey.SASL_AUTHENTICATE, "SaslAuthenticate", (0, 2), 2, BOTH),
        _api(ApiKey.CREATE_PARTITIONS, "CreatePartitions", (0, 3), 2, BOTH, forwardable=True),
        _api(ApiKey.CREATE_DELEGATION_TOKEN, "CreateDelegationToken", (1, 3), 2, BOTH, forwardable=True),
        _api(ApiKey.RENEW_DELEGATION_TOKEN, "RenewDelegationToken", (1, 2), 2, BOTH, forwardable=True),
        _api(ApiKey.EXPIRE_DELEGATION_TOKEN, "ExpireDelegationToken", (1, 2), 2, BOTH, forwardable=True),
        _api(ApiKey.DESCRIBE_DELEGATION_TOKEN, "DescribeDelegationToken", (1, 3), 2, BOTH),
        _api(ApiKey.DELETE_GROUPS, "DeleteGroups", (0, 3), 2, BROKER),
        _api(ApiKey.ELECT_LEADERS, "ElectLeaders", (0, 2), 2, BOTH, forwardable=True),
        _api(ApiKey.INCREMENTAL_ALTER_CONFIGS, "IncrementalAlterConfigs", (0, 1), 1, BOTH, forwardable=True),
        _api(ApiKey.ALTER_PARTITION_REASSIGNMENTS, "AlterPartitionReassignments", (0, 1), 0, BOTH, forwardable=True),
        _api(ApiKey.LIST_PARTITION_REASSIGNMENTS, "ListPartitionReassignments", (0, 0), 0, BOTH, forwardable=True),
        _api(ApiKey.OFFSET_DELETE, "OffsetDelete", (0, 0), NEVER_FLEXIBLE, BROKER),
        _api(ApiKey.DESCRIBE_CLIENT_QUOTAS, "DescribeClientQuotas", (0, 1), 1, BROKER),
        _api(ApiKey.ALTER_CLIENT_QUOTAS, "AlterClientQuotas", (0, 1), 1, BOTH, forwardable=True),
        _api(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, "DescribeUserScramCredentials", (0, 0), 0, BOTH),
        _api(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, "AlterUserScramCredentials", (0, 0), 0, BOTH, forwardable=True),
        _api(ApiKey.VOTE, "Vote", (0, 2), 0, CONTROLLER, cluster_action=True),
        _api(ApiKey.BEGIN_QUORUM_EPOCH, "BeginQuorumEpoch", (0, 1), 1, CONTROLLER, cluster_action=True),
        _api(ApiKey.END_QUORUM_EPOCH, "EndQuorumEpoch", (0, 1), 1, CONTROLLER, cluster_action=True),
        _api(ApiKey.DESCRIBE_QUORUM, "DescribeQuorum", (0, 2), 0, BOTH, forwardable=True, cluster_action=True),
        _api(ApiKey.ALTER_PARTITION, "AlterPartition", (2, 3), 0, CONTROLLER, cluster_action=True),
        _api(ApiKey.UPDATE_FEATURES, "UpdateFeatures", (0, 2), 0, BOTH, forwardable=True, cluster_action=True),
        _api(ApiKey.ENVELOPE, "Envelope", (0, 0), 0, CONTROLLER, cluster_action=True),
        _api(ApiKey.FETCH_SNAPSHOT, "FetchSnapshot", (0, 1), 0, CONTROLLER),
        _api(ApiKey.DESCRIBE_CLUSTER, "DescribeCluster", (0, 2), 0, BOTH),
        _api(ApiKey.DESCRIBE_PRODUCERS, "DescribeProducers", (0, 0), 0, BROKER),
        _api(ApiKey.BROKER_REGISTRATION, "BrokerRegistration", (0, 4), 0, CONTROLLER, cluster_action=True),
        _api(ApiKey.BROKER_HEARTBEAT, "BrokerHeartbeat", (0, 2), 0, CONTROLLER, cluster_action=True),
        _api(ApiKey.UNREGISTER_BROKER, "UnregisterBroker", (0, 0), 0, BOTH, forwardable=True),
        _api(ApiKey.DESCRIBE_TRANSACTIONS, "DescribeTransactions", (0, 0), 0, BROKER),
        _api(ApiKey.LIST_TRANSACTIONS, "ListTransactions", (0, 2), 0, BROKER),
        _api(
            ApiKey.ALLOCATE_PRODUCER_IDS,
            "AllocateProducerIds",
            (0, 0),
            0,
            CONTROLLER,
            forwardable=True,
            cluster_action=True,
        ),
        _api(ApiKey.CONSUMER_GROUP_HEARTBEAT, "ConsumerGroupHeartbeat", (0, 1), 0, BROKER),
        _api(ApiKey.CONSUMER_GROUP_DESCRIBE, "ConsumerGroupDescribe", (0, 1), 0, BROKER),
        _api(ApiKey.CONTROLLER_REGISTRATION, "ControllerRegistration", (0, 0), 0, CONTROLLER),
        _api(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, "GetTelemetrySubscriptions", (0, 0), 0, BROKER),
        _api(ApiKey.PUSH_TELEMETRY, "PushTelemetry", (0, 0), 0, BROKER),
        _api(ApiKey.ASSIGN_REPLICAS_TO_DIRS, "AssignReplicasToDirs", (0, 0), 0, CONTROLLER),
        _api(ApiKey.LIST_CONFIG_RESOURCES, "ListConfigResources", (0, 1), 0, BROKER),
        _api(ApiKey.DESCRIBE_TOPIC_PARTITIONS, "DescribeTopicPartitions", (0, 0), 0, BROKER),
        _api(ApiKey.SHARE_GROUP_HEARTBEAT, "ShareGroupHeartbeat", (1, 1), 0, BROKER),
        _api(ApiKey.SHARE_GROUP_DESCRIBE, "ShareGroupDescribe", (1, 1), 0, BROKER),
        _api(ApiKey.SHARE_FETCH, "ShareFetch", (1, 2), 0, BROKER),
        _api(ApiKey.SHARE_ACKNOWLEDGE, "ShareAcknowledge", (1, 2), 0, BROKER),
        _api(ApiKey.ADD_RAFT_VOTER, "AddRaftVoter", (0, 1), 0, BOTH, forwardable=True),
        _api(ApiKey.REMOVE_RAFT_VOTER, "RemoveRaftVoter", (0, 0), 0, BOTH, forwardable=True),
        _api(ApiKey.UPDATE_RAFT_VOTER, "UpdateRaftVoter", (0, 0), 0, CONTROLLER),
        _api(ApiKey.INITIALIZE_SHARE_GROUP_STATE, "InitializeShareGroupState", (0, 0), 0, BROKER, cluster_action=True),
        _api(ApiKey.READ_SHARE_GROUP_STATE, "ReadShareGroupState", (0, 0), 0, BROKER, cluster_action=True),
        _api(ApiKey.WRITE_SHARE_GROUP_STATE, "WriteShareGroupState", (0, 1), 0, BROKER, cluster_action=True),
        _api(ApiKey.DELETE_SHARE_GROUP_STATE, "DeleteShareGroupState", (0, 0), 0, BROKER, cluster_action=True),
        _api(
            ApiKey.READ_SHARE_GROUP_STATE_SUMMARY, "ReadShareGroupStateSummary", (0, 1), 0, BROKER, cluster_action=True
        ),
        _api(ApiKey.STREAMS_GROUP_HEARTBEAT, "StreamsGroupHeartbeat", (0, 1), 0, BROKER),
        _api(ApiKey.STREAMS_GROUP_DESCRIBE, "StreamsGroupDescribe", (0, 1), 0, BROKER),
        _api(ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS, "DescribeShareGroupOffsets", (0, 1), 0, BROKER),
        _api(ApiKey.ALTER_SHARE_GROUP_OFFSETS, "AlterShareGroupOffsets", (0, 0), 0, BROKER),
        _api(ApiKey.DELETE_SHARE_GROUP_OFFSETS, "DeleteShareGroupOffsets", (0, 0), 0, BROKER),
        _api(
            ApiKey.STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE, "StreamsGroupTopologyDescriptionUpdate", (0, 0), 0, BROKER
        ),
        _api(ApiKey.UNREGISTER_CONTROLLER, "UnregisterController", (0, 0), 0, BOTH, forwardable=True),
    )
)
"""Every API by its number."""

FLEXIBLE_SINCE: dict[int, int] = {key: api.flexible_since for key, api in APIS.items()}
"""For the header parser: first flexible version by API number."""
