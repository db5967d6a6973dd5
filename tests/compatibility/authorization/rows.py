"""The requests to brokers: each API in the newest version, and where it makes a difference in others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ottla.core.acl import AclOperation, PatternType
from ottla.records.record import Record, build_batch
from tests.compatibility.authorization.cells import (
    ALTER,
    ALTER_CONFIGS,
    CLUSTER,
    CLUSTER_ACTION,
    CREATE,
    DELETE,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    GROUP,
    IDEMPOTENT_WRITE,
    NO_TOPIC_ID,
    OTHER_CLUSTER,
    READ,
    SHARED_GROUP,
    TOPIC,
    TRANSACTIONAL_ID,
    USER,
    WRITE,
    Cell,
    Need,
    Row,
    Values,
)


def batch() -> bytes:
    return bytes(build_batch([Record(timestamp_ms=1_700_000_000_000, value=b"hello")]))


def _partition_of(cell: Cell, **values: Any) -> Values:
    return {"topics": [{"name": cell.topic, "topic": cell.topic, "topic_id": cell.topic_id, "partitions": [values]}]}


def produced(cell: Cell) -> Values:
    data = {"name": cell.topic, "topic_id": cell.topic_id, "partition_data": [{"index": 0, "records": batch()}]}
    return {"acks": -1, "timeout_ms": 5000, "topic_data": [data], "transactional_id": None}


def _fetch(cell: Cell) -> Values:
    wanted = _partition_of(cell, partition=0, fetch_offset=0, partition_max_bytes=1000)
    return wanted | {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1000, "session_epoch": -1}


def committed(cell: Cell) -> Values:
    return {
        "group_id": cell.group,
        "generation_id_or_member_epoch": -1,
        **_partition_of(cell, partition_index=0, committed_offset=0, committed_metadata=""),
    }


def _config(kind: int, name: Callable[[Cell], str], setting: str, value: str, **more: Any) -> Callable[[Cell], Values]:
    def build(cell: Cell) -> Values:
        changes = [{"name": setting, "value": value, **more}]
        resource = {"resource_type": kind, "resource_name": name(cell), "configs": changes}
        return {"resources": [resource], "validate_only": True}

    return build


def _described(kind: int, name: Callable[[Cell], str], *settings: str) -> Callable[[Cell], Values]:
    return lambda cell: {
        "resources": [
            {"resource_type": kind, "resource_name": name(cell), "configuration_keys": list(settings) or None}
        ]
    }


def _topic(cell: Cell) -> str:
    return cell.topic


def _group(cell: Cell) -> str:
    return cell.group


def _broker(cell: Cell) -> str:
    return "1"


def _create_topics(cell: Cell) -> Values:
    wanted = {"name": f"new-{cell.topic}", "num_partitions": 1, "replication_factor": 1}
    return {"topics": [wanted], "timeout_ms": 10_000}


def _share(cell: Cell, **values: Any) -> Values:
    return {"group_id": cell.group, "topics": [{"topic_id": cell.topic_id, "partitions": [values]}]}


def _acl_filter(cell: Cell) -> Values:
    return {
        "resource_type_filter": int(TOPIC),
        "resource_name_filter": f"never-{cell.user}",
        "pattern_type_filter": int(PatternType.LITERAL),
        "operation": 1,
        "permission_type": 1,
    }


def _heartbeat(cell: Cell) -> Values:
    return {
        "group_id": cell.group,
        "member_id": "AAAAAAAAAAAAAAAAAAAAAA",
        "member_epoch": 0,
        "rebalance_timeout_ms": 10_000,
        "subscribed_topic_names": [cell.topic],
        "topic_partitions": [],
    }


def _streams(cell: Cell) -> Values:
    topology = {"epoch": 0, "subtopologies": [{"subtopology_id": "0", "source_topics": [cell.topic]}]}
    empty: Values = {"active_tasks": [], "standby_tasks": [], "warmup_tasks": [], "client_tags": []}
    return _heartbeat(cell) | {"topology": topology, "process_id": "process"} | empty


def _markers(cell: Cell) -> Values:
    topics = [{"name": "no-such-topic", "partition_indexes": [0]}]
    marker = {"producer_id": 4711, "producer_epoch": 0, "transaction_result": False, "coordinator_epoch": 0}
    return {"markers": [marker | {"topics": topics}]}


def _transaction(cell: Cell) -> Values:
    return {
        "transactional_id": cell.transactional_id,
        "group_id": cell.group,
        "producer_id": 4711,
        "producer_epoch": 0,
    }


ALTERS: tuple[Need, ...] = ((ALTER, CLUSTER),)
DESCRIBES: tuple[Need, ...] = ((DESCRIBE, CLUSTER),)
ACTS: tuple[Need, ...] = ((CLUSTER_ACTION, CLUSTER),)
READS_GROUP: tuple[Need, ...] = ((READ, GROUP),)

BROKER_ROWS: tuple[Row, ...] = (
    Row("Produce", ((WRITE, TOPIC),), produced),
    Row("Produce", ((WRITE, TOPIC),), produced, "by name", version=12),
    Row(
        "Produce",
        ((WRITE, TRANSACTIONAL_ID), (WRITE, TOPIC)),
        lambda cell: produced(cell) | {"transactional_id": cell.transactional_id},
        "transactional id",
        version=11,
    ),
    Row("Fetch", ((READ, TOPIC),), _fetch),
    Row("Fetch", ((READ, TOPIC),), _fetch, "by name", version=12),
    Row("Fetch", ACTS, lambda cell: _fetch(cell) | {"replica_id": 7}, "follower", version=12),
    Row("ListOffsets", ((DESCRIBE, TOPIC),), lambda cell: _partition_of(cell, partition_index=0, timestamp=-1)),
    Row("Metadata", ((DESCRIBE, TOPIC),), lambda cell: {"topics": [{"name": cell.topic}]}),
    Row(
        "Metadata",
        ((DESCRIBE, TOPIC),),
        lambda cell: {"topics": [{"name": cell.topic}], "include_topic_authorized_operations": True},
        "operations",
    ),
    Row(
        "Metadata",
        DESCRIBES,
        lambda cell: {"topics": [], "include_cluster_authorized_operations": True},
        "operations on the cluster",
        version=10,
        hides=True,
    ),
    Row(
        "Metadata", ((DESCRIBE, TOPIC),), lambda cell: {"topics": [{"name": None, "topic_id": cell.topic_id}]}, "by id"
    ),
    Row("Metadata", ((DESCRIBE, TOPIC),), lambda cell: {"topics": None}, "all", hides=True, owns_topic=True),
    Row(
        "Metadata",
        ((DESCRIBE, TOPIC),),
        lambda cell: {"topics": [{"name": f"nothing-{cell.user}"}], "allow_auto_topic_creation": False},
        "no such topic",
        hides=True,
    ),
    Row(
        "Metadata",
        ((DESCRIBE, TOPIC), (CREATE, TOPIC)),
        lambda cell: {"topics": [{"name": cell.topic}], "allow_auto_topic_creation": True},
        "making a topic",
        makes_topic=True,
    ),
    Row("OffsetCommit", ((READ, GROUP), (READ, TOPIC)), committed),
    Row("OffsetCommit", ((READ, GROUP), (READ, TOPIC)), committed, "by name", version=9),
    Row(
        "OffsetFetch",
        ((DESCRIBE, GROUP), (DESCRIBE, TOPIC)),
        lambda cell: {
            "groups": [
                {
                    "group_id": SHARED_GROUP,
                    "topics": [{"name": cell.topic, "topic_id": cell.topic_id, "partition_indexes": [0]}],
                }
            ]
        },
    ),
    Row(
        "OffsetFetch",
        ((DESCRIBE, GROUP), (DESCRIBE, TOPIC)),
        lambda cell: {
            "groups": [{"group_id": SHARED_GROUP, "topics": [{"name": cell.topic, "partition_indexes": [0]}]}]
        },
        "by name",
        version=9,
    ),
    Row(
        "OffsetFetch",
        ((DESCRIBE, GROUP), (DESCRIBE, TOPIC)),
        lambda cell: {"groups": [{"group_id": SHARED_GROUP, "topics": None}]},
        "all topics",
    ),
    Row(
        "FindCoordinator", ((DESCRIBE, GROUP),), lambda cell: {"key_type": 0, "coordinator_keys": [cell.group]}, "group"
    ),
    Row(
        "FindCoordinator",
        ((DESCRIBE, TRANSACTIONAL_ID),),
        lambda cell: {"key_type": 1, "coordinator_keys": [cell.transactional_id]},
        "transactional id",
    ),
    Row(
        "FindCoordinator",
        ACTS,
        lambda cell: {"key_type": 2, "coordinator_keys": [f"{cell.group}:AAAAAAAAAAAAAAAAAAAAAQ:0"]},
        "share partition",
    ),
    Row(
        "JoinGroup",
        READS_GROUP,
        lambda cell: {
            "group_id": cell.group,
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 10_000,
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": b""}],
        },
    ),
    Row(
        "SyncGroup",
        READS_GROUP,
        lambda cell: {
            "group_id": cell.group,
            "generation_id": 1,
            "member_id": "m",
            "protocol_type": "consumer",
            "protocol_name": "range",
        },
    ),
    Row("Heartbeat", READS_GROUP, lambda cell: {"group_id": cell.group, "generation_id": 1, "member_id": "m"}),
    Row("LeaveGroup", READS_GROUP, lambda cell: {"group_id": cell.group, "members": [{"member_id": "m"}]}),
    Row("DescribeGroups", ((DESCRIBE, GROUP),), lambda cell: {"groups": [cell.group]}),
    Row(
        "DescribeGroups",
        ((DESCRIBE, GROUP),),
        lambda cell: {"groups": [SHARED_GROUP, cell.group], "include_authorized_operations": True},
        "operations",
    ),
    Row(
        "ListGroups",
        ((DESCRIBE, GROUP),),
        lambda cell: {"types_filter": ["classic"], "states_filter": ["Empty"]},
        hides=True,
    ),
    Row("DeleteGroups", ((DELETE, GROUP),), lambda cell: {"groups_names": [cell.group]}),
    Row(
        "OffsetDelete",
        ((DELETE, GROUP), (READ, TOPIC)),
        lambda cell: {
            "group_id": SHARED_GROUP,
            "topics": [{"name": cell.topic, "partitions": [{"partition_index": 7}]}],
        },
    ),
    Row("SaslHandshake", (), lambda cell: {"mechanism": "PLAIN"}),
    Row("ApiVersions", (), lambda cell: {"client_software_name": "matrix", "client_software_version": "1"}, version=3),
    Row(
        "CreateTopics",
        ((CREATE, TOPIC), (DESCRIBE_CONFIGS, TOPIC)),
        lambda cell: {
            "topics": [{"name": cell.topic, "num_partitions": 1, "replication_factor": 1}],
            "timeout_ms": 10_000,
        },
        makes_topic=True,
    ),
    Row(
        "CreateTopics",
        ((CREATE, TOPIC),),
        lambda cell: (
            _create_topics(cell)
            | {
                "topics": [{"name": cell.topic, "num_partitions": 1, "replication_factor": 1}],
                "validate_only": True,
            }
        ),
        "one that is there",
    ),
    Row("CreateTopics", ((CREATE, CLUSTER),), _create_topics, "by cluster", owns_topic=True),
    Row(
        "DeleteTopics",
        ((DELETE, TOPIC), (DESCRIBE, TOPIC)),
        lambda cell: {
            "topics": [{"name": cell.topic}],
            "timeout_ms": 10_000,
        },
        owns_topic=True,
    ),
    Row(
        "DeleteTopics",
        ((DELETE, TOPIC),),
        lambda cell: {
            "topics": [{"name": None, "topic_id": cell.topic_id}],
            "timeout_ms": 10_000,
        },
        "by id",
        owns_topic=True,
    ),
    Row(
        "DeleteRecords",
        ((DELETE, TOPIC),),
        lambda cell: {
            "topics": [{"name": cell.topic, "partitions": [{"partition_index": 0, "offset": 0}]}],
            "timeout_ms": 5000,
        },
    ),
    Row(
        "InitProducerId",
        ((IDEMPOTENT_WRITE, CLUSTER),),
        lambda cell: {
            "transactional_id": None,
            "transaction_timeout_ms": 1000,
            "producer_id": -1,
            "producer_epoch": -1,
        },
    ),
    Row(
        "InitProducerId",
        ((WRITE, TOPIC),),
        lambda cell: {
            "transactional_id": None,
            "transaction_timeout_ms": 1000,
            "producer_id": -1,
            "producer_epoch": -1,
        },
        "by topic",
    ),
    Row(
        "InitProducerId",
        ((WRITE, TRANSACTIONAL_ID),),
        lambda cell: {
            "transactional_id": cell.transactional_id,
            "transaction_timeout_ms": 1000,
            "producer_id": -1,
            "producer_epoch": -1,
        },
        "transactional id",
    ),
    Row(
        "OffsetForLeaderEpoch",
        ((DESCRIBE, TOPIC),),
        lambda cell: _partition_of(cell, partition=0, leader_epoch=0) | {"replica_id": -1},
    ),
    Row(
        "OffsetForLeaderEpoch",
        ACTS,
        lambda cell: _partition_of(cell, partition=0, leader_epoch=0) | {"replica_id": 1},
        "follower",
    ),
    Row(
        "AddPartitionsToTxn",
        ((WRITE, TRANSACTIONAL_ID), (WRITE, TOPIC)),
        lambda cell: {
            "v3_and_below_transactional_id": cell.transactional_id,
            "v3_and_belowproducedr_id": 4711,
            "v3_and_belowproducedr_epoch": 0,
            "v3_and_below_topics": [{"name": cell.topic, "partitions": [0]}],
        },
        "client",
        version=3,
    ),
    Row(
        "AddPartitionsToTxn",
        ACTS,
        lambda cell: {
            "transactions": [
                {
                    "transactional_id": cell.transactional_id,
                    "producer_id": 4711,
                    "producer_epoch": 0,
                    "verify_only": True,
                    "topics": [{"name": cell.topic, "partitions": [0]}],
                }
            ]
        },
        "broker",
    ),
    Row("AddOffsetsToTxn", ((WRITE, TRANSACTIONAL_ID), (READ, GROUP)), _transaction),
    Row("EndTxn", ((WRITE, TRANSACTIONAL_ID),), lambda cell: _transaction(cell) | {"committed": True}),
    Row("WriteTxnMarkers", ACTS, _markers),
    Row("WriteTxnMarkers", ALTERS, _markers, "by ALTER"),
    Row(
        "TxnOffsetCommit",
        ((WRITE, TRANSACTIONAL_ID), (READ, GROUP), (READ, TOPIC)),
        lambda cell: _transaction(cell) | committed(cell),
    ),
    Row(
        "TxnOffsetCommit",
        ((WRITE, TRANSACTIONAL_ID), (READ, GROUP), (READ, TOPIC)),
        lambda cell: _transaction(cell) | committed(cell),
        "by name",
        version=5,
    ),
    Row("DescribeAcls", DESCRIBES, _acl_filter),
    Row(
        "CreateAcls",
        ALTERS,
        lambda cell: {
            "creations": [
                {
                    "resource_type": int(TOPIC),
                    "resource_name": "elsewhere",
                    "resource_pattern_type": int(PatternType.LITERAL),
                    "principal": "User:nobody",
                    "host": "*",
                    "operation": int(READ),
                    "permission_type": 3,
                }
            ]
        },
    ),
    Row("DeleteAcls", ALTERS, lambda cell: {"filters": [_acl_filter(cell)]}),
    Row("DescribeConfigs", ((DESCRIBE_CONFIGS, TOPIC),), _described(2, _topic, "retention.ms"), "topic"),
    Row("DescribeConfigs", ((DESCRIBE_CONFIGS, CLUSTER),), _described(4, _broker, "log.retention.ms"), "broker"),
    Row(
        "DescribeConfigs", ((DESCRIBE_CONFIGS, GROUP),), _described(32, _group, "consumer.session.timeout.ms"), "group"
    ),
    Row("AlterConfigs", ((ALTER_CONFIGS, TOPIC),), _config(2, _topic, "retention.ms", "1000"), "topic"),
    Row("AlterConfigs", ((ALTER_CONFIGS, CLUSTER),), _config(4, _broker, "log.cleaner.threads", "1"), "broker"),
    Row(
        "AlterConfigs", ((ALTER_CONFIGS, GROUP),), _config(32, _group, "consumer.session.timeout.ms", "50000"), "group"
    ),
    Row("IncrementalAlterConfigs", ((ALTER_CONFIGS, TOPIC),), _config(2, _topic, "retention.ms", "1000"), "topic"),
    Row(
        "IncrementalAlterConfigs",
        ((ALTER_CONFIGS, CLUSTER),),
        _config(4, _broker, "log.cleaner.threads", "1"),
        "broker",
    ),
    Row(
        "IncrementalAlterConfigs",
        ((ALTER_CONFIGS, CLUSTER),),
        _config(8, _broker, "org.apache.kafka", "INFO"),
        "logger",
    ),
    Row(
        "IncrementalAlterConfigs",
        ((ALTER_CONFIGS, CLUSTER),),
        _config(16, _topic, "interval.ms", "1000"),
        "client metrics",
    ),
    Row(
        "IncrementalAlterConfigs",
        ((ALTER_CONFIGS, GROUP),),
        _config(32, _group, "consumer.session.timeout.ms", "50000"),
        "group",
    ),
    Row(
        "AlterReplicaLogDirs",
        ALTERS,
        lambda cell: {"dirs": [{"path": "/nowhere", "topics": [{"name": cell.topic, "partitions": [0]}]}]},
    ),
    Row("DescribeLogDirs", DESCRIBES, lambda cell: {"topics": []}),
    Row(
        "CreatePartitions",
        ((ALTER, TOPIC),),
        lambda cell: {
            "topics": [{"name": cell.topic, "count": 2, "assignments": None}],
            "timeout_ms": 10_000,
            "validate_only": True,
        },
    ),
    Row(
        "CreateDelegationToken",
        (),
        lambda cell: {
            "owner_principal_type": None,
            "owner_principal_name": None,
            "renewers": [],
            "max_lifetime_ms": 600_000,
        },
    ),
    Row(
        "CreateDelegationToken",
        ((AclOperation.CREATE_TOKENS, USER),),
        lambda cell: {
            "owner_principal_type": "User",
            "owner_principal_name": "owner",
            "renewers": [],
            "max_lifetime_ms": 600_000,
        },
        "for somebody else",
    ),
    Row("RenewDelegationToken", (), lambda cell: {"hmac": b"none", "renew_period_ms": 1000}),
    Row("ExpireDelegationToken", (), lambda cell: {"hmac": b"none", "expiry_time_period_ms": 1000}),
    Row(
        "DescribeDelegationToken",
        (),
        lambda cell: {"owners": [{"principal_type": "User", "principal_name": cell.user}]},
    ),
    Row(
        "DescribeDelegationToken",
        ((AclOperation.DESCRIBE_TOKENS, USER),),
        lambda cell: {
            "owners": [{"principal_type": "User", "principal_name": "owner"}],
        },
        "of somebody else",
        hides=True,
    ),
    Row(
        "ElectLeaders",
        ALTERS,
        lambda cell: {
            "election_type": 0,
            "topic_partitions": [{"topic": cell.topic, "partitions": [0]}],
            "timeout_ms": 1000,
        },
    ),
    Row(
        "AlterPartitionReassignments",
        ALTERS,
        lambda cell: {
            "topics": [
                {
                    "name": cell.topic,
                    "partitions": [{"partition_index": 0, "replicas": None}],
                }
            ],
            "timeout_ms": 1000,
        },
    ),
    Row("ListPartitionReassignments", DESCRIBES, lambda cell: {"topics": None, "timeout_ms": 1000}),
    Row("DescribeClientQuotas", ((DESCRIBE_CONFIGS, CLUSTER),), lambda cell: {"components": [], "strict": False}),
    Row(
        "AlterClientQuotas",
        ((ALTER_CONFIGS, CLUSTER),),
        lambda cell: {
            "entries": [
                {
                    "entity": [{"entity_type": "user", "entity_name": "somebody"}],
                    "ops": [{"key": "producer_byte_rate", "value": 1000.0, "remove": False}],
                }
            ],
            "validate_only": True,
        },
    ),
    Row("DescribeUserScramCredentials", DESCRIBES, lambda cell: {"users": [{"name": "nobody"}]}),
    Row(
        "AlterUserScramCredentials",
        ALTERS,
        lambda cell: {"deletions": [{"name": "nobody", "mechanism": 1}], "upsertions": []},
    ),
    Row(
        "DescribeQuorum",
        DESCRIBES,
        lambda cell: {
            "topics": [
                {
                    "topic_name": "__cluster_metadata",
                    "partitions": [{"partition_index": 0}],
                }
            ]
        },
    ),
    Row(
        "UpdateFeatures",
        ALTERS,
        lambda cell: {
            "feature_updates": [
                {
                    "feature": "group.version",
                    "max_version_level": 1,
                    "upgrade_type": 1,
                }
            ],
            "timeout_ms": 1000,
            "validate_only": True,
        },
    ),
    Row("DescribeCluster", (), lambda cell: {"endpoint_type": 1}),
    Row(
        "DescribeCluster",
        DESCRIBES,
        lambda cell: {
            "endpoint_type": 1,
            "include_cluster_authorized_operations": True,
        },
        "operations",
        hides=True,
    ),
    Row(
        "DescribeProducers", ((READ, TOPIC),), lambda cell: {"topics": [{"name": cell.topic, "partition_indexes": [0]}]}
    ),
    Row("UnregisterBroker", ALTERS, lambda cell: {"broker_id": 77}),
    Row(
        "DescribeTransactions",
        ((DESCRIBE, TRANSACTIONAL_ID),),
        lambda cell: {"transactional_ids": [cell.transactional_id]},
    ),
    Row(
        "ListTransactions",
        ((DESCRIBE, TRANSACTIONAL_ID),),
        lambda cell: {"state_filters": ["Ongoing"], "producer_id_filters": [], "duration_filter": -1},
        hides=True,
    ),
    Row("ConsumerGroupHeartbeat", ((READ, GROUP), (DESCRIBE, TOPIC)), _heartbeat),
    Row(
        "ConsumerGroupDescribe",
        ((DESCRIBE, GROUP),),
        lambda cell: {"group_ids": [cell.group], "include_authorized_operations": True},
    ),
    Row("GetTelemetrySubscriptions", (), lambda cell: {"client_instance_id": NO_TOPIC_ID}),
    Row(
        "PushTelemetry",
        (),
        lambda cell: {"client_instance_id": cell.user.encode().rjust(16, b"."), "subscription_id": 5, "metrics": b""},
    ),
    Row("ListConfigResources", ((DESCRIBE_CONFIGS, CLUSTER),), lambda cell: {"resource_types": [16]}),
    Row(
        "DescribeTopicPartitions",
        ((DESCRIBE, TOPIC),),
        lambda cell: {"topics": [{"name": cell.topic}], "response_partition_limit": 10, "cursor": None},
    ),
    Row(
        "DescribeTopicPartitions",
        ((DESCRIBE, TOPIC),),
        lambda cell: {"topics": [{"name": "no-such-topic"}], "response_partition_limit": 10, "cursor": None},
        "no such topic",
        hides=True,
    ),
    Row(
        "AddRaftVoter",
        ALTERS,
        lambda cell: {
            "cluster_id": OTHER_CLUSTER,
            "timeout_ms": 1000,
            "voter_id": 77,
            "voter_directory_id": b"\1" * 16,
            "listeners": [{"name": "CONTROLLER", "host": "127.0.0.1", "port": 1}],
        },
    ),
    Row(
        "RemoveRaftVoter",
        ALTERS,
        lambda cell: {"cluster_id": OTHER_CLUSTER, "voter_id": 77, "voter_directory_id": b"\1" * 16},
    ),
    Row(
        "ShareFetch",
        ((READ, GROUP), (READ, TOPIC)),
        lambda cell: (
            _share(cell, partition_index=0)
            | {
                "member_id": "AAAAAAAAAAAAAAAAAAAAAA",
                "share_session_epoch": 0,
                "max_bytes": 1000,
                "max_records": 1,
                "batch_size": 1,
            }
        ),
        before=("ShareGroupHeartbeat", _heartbeat),
    ),
    Row(
        "ShareAcknowledge",
        ((READ, GROUP), (READ, TOPIC)),
        lambda cell: (
            _share(
                cell,
                partition_index=0,
                acknowledgement_batches=[{"first_offset": 0, "last_offset": 0, "acknowledge_types": [1]}],
            )
            | {"member_id": "AAAAAAAAAAAAAAAAAAAAAA", "share_session_epoch": 1}
        ),
    ),
    Row("ShareGroupHeartbeat", ((READ, GROUP), (DESCRIBE, TOPIC)), _heartbeat),
    Row(
        "ShareGroupDescribe",
        ((DESCRIBE, GROUP),),
        lambda cell: {"group_ids": [cell.group], "include_authorized_operations": True},
    ),
    Row("InitializeShareGroupState", ACTS, lambda cell: _share(cell, partition=0, state_epoch=0, start_offset=0)),
    Row("ReadShareGroupState", ACTS, lambda cell: _share(cell, partition=0, leader_epoch=0)),
    Row(
        "WriteShareGroupState",
        ACTS,
        lambda cell: _share(cell, partition=0, state_epoch=0, leader_epoch=0, start_offset=0),
    ),
    Row("DeleteShareGroupState", ACTS, lambda cell: _share(cell, partition=0)),
    Row("ReadShareGroupStateSummary", ACTS, lambda cell: _share(cell, partition=0, leader_epoch=0)),
    Row(
        "DescribeShareGroupOffsets",
        ((DESCRIBE, GROUP), (DESCRIBE, TOPIC)),
        lambda cell: {
            "groups": [{"group_id": cell.group, "topics": [{"topic_name": cell.topic, "partitions": [0]}]}],
        },
    ),
    Row(
        "DescribeShareGroupOffsets",
        ((DESCRIBE, GROUP), (DESCRIBE, TOPIC)),
        lambda cell: {
            "groups": [{"group_id": cell.group, "topics": None}],
        },
        "all topics",
    ),
    Row(
        "AlterShareGroupOffsets",
        ((READ, GROUP), (READ, TOPIC)),
        lambda cell: {
            "group_id": cell.group,
            "topics": [{"topic_name": cell.topic, "partitions": [{"partition_index": 0, "start_offset": 0}]}],
        },
    ),
    Row(
        "DeleteShareGroupOffsets",
        ((DELETE, GROUP), (READ, TOPIC)),
        lambda cell: {
            "group_id": cell.group,
            "topics": [{"topic_name": cell.topic}],
        },
    ),
    Row("StreamsGroupHeartbeat", ((READ, GROUP), (DESCRIBE, TOPIC)), _streams),
    Row(
        "StreamsGroupDescribe",
        ((DESCRIBE, GROUP),),
        lambda cell: {"group_ids": [cell.group], "include_authorized_operations": True},
    ),
    Row(
        "StreamsGroupTopologyDescriptionUpdate",
        READS_GROUP,
        lambda cell: {
            "group_id": cell.group,
            "member_id": "AAAAAAAAAAAAAAAAAAAAAA",
            "topology_epoch": 0,
            "topology_description": {"subtopologies": [], "global_stores": []},
        },
    ),
)
