"""The requests to controllers."""

from __future__ import annotations

from collections.abc import Callable

from ottla.protocol.codec import encode
from ottla.protocol.headers import encode_request_header
from ottla.protocol.messages.principal_data import DefaultPrincipalData
from tests.compatibility.authorization.cells import OTHER_CLUSTER, Cell, Row, Values, make, message
from tests.compatibility.authorization.rows import ACTS, ALTERS, BROKER_ROWS

_ALIKE = (
    "AddRaftVoter AlterClientQuotas AlterConfigs AlterPartitionReassignments AlterUserScramCredentials ApiVersions "
    "CreateAcls CreateDelegationToken CreatePartitions CreateTopics DeleteAcls DeleteTopics DescribeAcls "
    "DescribeConfigs DescribeQuorum ElectLeaders ExpireDelegationToken IncrementalAlterConfigs "
    "ListPartitionReassignments RemoveRaftVoter RenewDelegationToken SaslHandshake UnregisterBroker UpdateFeatures"
)
ALSO_ASKED_OF_BROKERS = frozenset(_ALIKE.split())
"""What controllers are asked in the same words as brokers."""


def _asked_of_controllers(row: Row) -> bool:
    return row.api in ALSO_ASKED_OF_BROKERS and not (row.api == "DescribeConfigs" and row.label != "broker")


def _envelope(inner_user: Callable[[Cell], str]) -> Callable[[Cell], Values]:
    def build(cell: Cell) -> Values:
        inner = make(message("AlterClientQuotas", "Request"), {"entries": [], "validate_only": True})
        header = encode_request_header(49, 1, 7, "inner")
        principal = DefaultPrincipalData(type="User", name=inner_user(cell))
        return {
            "request_data": header + encode(inner, 1),
            "request_principal": b"\0\0" + encode(principal, 0),
            "client_host_address": bytes((127, 0, 0, 1)),
        }

    return build


CONTROLLER_ROWS: tuple[Row, ...] = (
    *(
        Row(row.api, row.needs, row.build, row.label, row.version, True, row.owns_topic, row.hides, row.makes_topic)
        for row in BROKER_ROWS
        if _asked_of_controllers(row)
    ),
    Row("DescribeCluster", ALTERS, lambda cell: {"endpoint_type": 2}, on_controller=True),
    Row(
        "Fetch",
        ACTS,
        lambda cell: {
            "cluster_id": OTHER_CLUSTER,
            "replica_id": -1,
            "max_wait_ms": 0,
            "max_bytes": 1000,
            "topics": [
                {
                    "topic": "__cluster_metadata",
                    "topic_id": bytes(15) + b"\1",
                    "partitions": [
                        {
                            "partition": 0,
                            "fetch_offset": 0,
                            "partition_max_bytes": 1000,
                        }
                    ],
                }
            ],
        },
        on_controller=True,
    ),
    Row(
        "FetchSnapshot",
        ACTS,
        lambda cell: {"cluster_id": OTHER_CLUSTER, "replica_id": -1, "max_bytes": 1000, "topics": []},
        on_controller=True,
    ),
    Row(
        "Vote",
        ACTS,
        lambda cell: {
            "cluster_id": OTHER_CLUSTER,
            "topics": [
                {
                    "topic_name": "__cluster_metadata",
                    "partitions": [{"partition_index": 0, "replica_id": 77}],
                }
            ],
        },
        on_controller=True,
    ),
    Row(
        "BeginQuorumEpoch",
        ACTS,
        lambda cell: {
            "cluster_id": OTHER_CLUSTER,
            "topics": [
                {
                    "topic_name": "__cluster_metadata",
                    "partitions": [{"partition_index": 0, "leader_id": 77}],
                }
            ],
        },
        on_controller=True,
    ),
    Row(
        "EndQuorumEpoch",
        ACTS,
        lambda cell: {
            "cluster_id": OTHER_CLUSTER,
            "topics": [
                {
                    "topic_name": "__cluster_metadata",
                    "partitions": [{"partition_index": 0, "leader_id": 77}],
                }
            ],
        },
        on_controller=True,
    ),
    Row(
        "AlterPartition",
        ACTS,
        lambda cell: {"broker_id": 77, "broker_epoch": 5, "topics": [{"topic_id": cell.topic_id, "partitions": []}]},
        on_controller=True,
    ),
    Row("Envelope", ACTS, _envelope(lambda cell: "root"), "of a super user", on_controller=True),
    Row("Envelope", ACTS, _envelope(lambda cell: "nobody"), "of nobody", on_controller=True),
    Row(
        "BrokerRegistration",
        ACTS,
        lambda cell: {
            "broker_id": 77,
            "cluster_id": OTHER_CLUSTER,
            "incarnation_id": b"\1" * 16,
            "listeners": [],
            "features": [],
        },
        on_controller=True,
    ),
    Row("BrokerHeartbeat", ACTS, lambda cell: {"broker_id": 77, "broker_epoch": 5}, on_controller=True),
    Row("AllocateProducerIds", ACTS, lambda cell: {"broker_id": 77, "broker_epoch": 5}, on_controller=True),
    Row(
        "ControllerRegistration",
        ACTS,
        lambda cell: {
            "controller_id": 77,
            "incarnation_id": b"\1" * 16,
            "listeners": [],
            "features": [],
        },
        on_controller=True,
    ),
    Row(
        "AssignReplicasToDirs",
        ACTS,
        lambda cell: {"broker_id": 77, "broker_epoch": 5, "directories": []},
        on_controller=True,
    ),
    Row(
        "UpdateRaftVoter",
        ACTS,
        lambda cell: {
            "cluster_id": OTHER_CLUSTER,
            "current_leader_epoch": 1,
            "voter_id": 77,
            "voter_directory_id": b"\1" * 16,
            "listeners": [{"name": "CONTROLLER", "host": "127.0.0.1", "port": 1}],
            "kraft_version_feature": {"min_supported_version": 0, "max_supported_version": 1},
        },
        on_controller=True,
    ),
)
ROWS = (*BROKER_ROWS, *CONTROLLER_ROWS)

NOT_ASKED = {
    "SaslAuthenticate": "it is how the users of the matrix log in",
}
