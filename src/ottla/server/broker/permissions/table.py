"""Which checks stand in front of which handler: every API, those of brokers and those of controllers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ottla.server.broker.authorization import (
    CLUSTER_NAME,
    AclOperation,
    ResourceType,
    allows_cluster,
    operations_of,
    require_cluster,
)
from ottla.server.broker.permissions import groups, topics, transactions
from ottla.server.broker.permissions.asking import settings_of
from ottla.server.broker.permissions.checks import All, Cluster, Each, First, Named, Shown, Unchecked, Within, by_name
from ottla.server.controller.result import is_valid_topic_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.dispatch import Handle, Route
    from ottla.server.broker.permissions.checks import Check

READ, WRITE, DELETE = AclOperation.READ, AclOperation.WRITE, AclOperation.DELETE
ALTER, DESCRIBE = AclOperation.ALTER, AclOperation.DESCRIBE
DESCRIBE_CONFIGS, ALTER_CONFIGS = AclOperation.DESCRIBE_CONFIGS, AclOperation.ALTER_CONFIGS
CLUSTER_ACTION = AclOperation.CLUSTER_ACTION
TOPIC, GROUP, TRANSACTIONAL_ID = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID


def _valid_topic(broker: Broker, topic: Any) -> tuple[ResourceType, str] | None:
    return (TOPIC, topic.name) if is_valid_topic_name(topic.name) else None


def _describe_cluster(route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
    """Of a controller ALTER on the cluster, of a broker nothing; operations are told with DESCRIBE on the cluster."""
    if context.is_for_controller:
        require_cluster(broker, context, ALTER)
    response: Any = handle(broker, request, context)
    if request.include_cluster_authorized_operations and not response.error_code:
        may = allows_cluster(broker, context, DESCRIBE)
        response.cluster_authorized_operations = (
            operations_of(broker, context, ResourceType.CLUSTER, CLUSTER_NAME) if may else 0
        )
    return response


_CLUSTER_ACTION: Final = Cluster(CLUSTER_ACTION)
_ALTER_CLUSTER: Final = Cluster(ALTER)
_DESCRIBE_CLUSTER: Final = Cluster(DESCRIBE)
_READ_GROUP: Final = Named(GROUP, READ, "group_id")
_DELETE_GROUP: Final = Named(GROUP, DELETE, "group_id")
_WRITE_TRANSACTION: Final = Named(TRANSACTIONAL_ID, WRITE, "transactional_id")
_USES_SHARE_GROUPS: Final = First(groups.uses_share_groups)
_DESCRIBED_TOPICS: Final = "The group has described topic(s) that the client is not authorized to describe."
_OPERATIONS: Final = Shown(groups.with_operations)
_ANYBODY: Final = Unchecked("who is connected may ask")


def _subscribed(request: Any) -> list[str]:
    return request.subscribed_topic_names or []


def _described_groups(first: First, topics_of: Callable[[Any], list[str]], text: str) -> tuple[Check, ...]:
    """For the APIs that describe groups of one kind."""
    return (
        first,
        Each(DESCRIBE, "group_ids", "groups", by_name(GROUP)),
        Shown(groups.without_hidden_topics(topics_of, text)),
        _OPERATIONS,
    )


CHECKS: Final[Mapping[str, tuple[Check, ...]]] = {
    # Records
    "produce": (transactions.produce,),
    "fetch": (Within("READ on each topic; of followers CLUSTER_ACTION on the cluster"),),
    "list_offsets": (Each(DESCRIBE, "topics", "topics", by_name(TOPIC, "name")),),
    "offset_for_leader_epoch": (Each(DESCRIBE, "topics", "topics", by_name(TOPIC, "topic"), unless=CLUSTER_ACTION),),
    "delete_records": (Each(DELETE, "topics", "topics", by_name(TOPIC, "name")),),
    "describe_producers": (Each(READ, "topics", "topics", _valid_topic, explained=True),),
    # Topics
    "metadata": (
        Within(
            "DESCRIBE on each topic, of all topics the others are left out; to create one by asking for it, CREATE on "
            "the topic or on the cluster; operations on the cluster are told with DESCRIBE on the cluster"
        ),
    ),
    "describe_topic_partitions": (Within("DESCRIBE on each topic, of all topics the others are left out"),),
    "create_topics": (topics.create_topics,),
    "delete_topics": (topics.delete_topics,),
    "create_partitions": (Each(ALTER, "topics", "results", by_name(TOPIC, "name")),),
    "elect_leaders": (_ALTER_CLUSTER,),
    "alter_partition_reassignments": (_ALTER_CLUSTER,),
    "list_partition_reassignments": (_DESCRIBE_CLUSTER,),
    # Classic groups, and what all kinds of groups have
    "find_coordinator": (groups.find_coordinator,),
    "join_group": (_READ_GROUP,),
    "sync_group": (First(groups.names_protocol), _READ_GROUP),
    "heartbeat": (_READ_GROUP,),
    "leave_group": (_READ_GROUP,),
    "describe_groups": (Each(DESCRIBE, "groups", "groups", by_name(GROUP)), _OPERATIONS),
    "list_groups": (Shown(groups.listed_groups),),
    "delete_groups": (Each(DELETE, "groups_names", "results", by_name(GROUP)),),
    "offset_commit": (_READ_GROUP, Each(READ, "topics", "topics", topics.topic_of_id)),
    "offset_fetch": (groups.fetch_offsets,),
    "offset_delete": (
        _DELETE_GROUP,
        Each(READ, "topics", "topics", by_name(TOPIC, "name"), refuse=groups.refused_deletion),
    ),
    # Consumer, share and streams groups
    "consumer_group_heartbeat": (
        First(groups.uses_protocol("consumer")),
        _READ_GROUP,
        All(DESCRIBE, _subscribed),
        Within("topics that a regular expression finds: those that one may DESCRIBE"),
    ),
    "consumer_group_describe": _described_groups(
        First(groups.uses_protocol("consumer")), groups.consumed_topics, _DESCRIBED_TOPICS
    ),
    "share_group_heartbeat": (_USES_SHARE_GROUPS, _READ_GROUP, All(DESCRIBE, _subscribed)),
    "share_group_describe": _described_groups(_USES_SHARE_GROUPS, groups.consumed_topics, _DESCRIBED_TOPICS),
    "share_fetch": (_USES_SHARE_GROUPS, _READ_GROUP, Within("READ on each topic")),
    "share_acknowledge": (_USES_SHARE_GROUPS, _READ_GROUP, Within("READ on each topic")),
    "describe_share_group_offsets": (_USES_SHARE_GROUPS, groups.SHARE_OFFSETS),
    "alter_share_group_offsets": (
        _USES_SHARE_GROUPS,
        _READ_GROUP,
        Each(READ, "topics", "responses", by_name(TOPIC, "topic_name"), refuse=groups.refused_change),
    ),
    "delete_share_group_offsets": (
        _USES_SHARE_GROUPS,
        _DELETE_GROUP,
        Each(READ, "topics", "responses", by_name(TOPIC, "topic_name"), refuse=groups.refused_forgetting),
    ),
    "streams_group_heartbeat": (
        First(groups.uses_protocol("streams")),
        _READ_GROUP,
        Within("DESCRIBE on all topics of its topology; CREATE on internal topics that are missing, or on the cluster"),
    ),
    "streams_group_describe": _described_groups(
        First(groups.uses_protocol("streams")),
        groups.topology_topics,
        "The described group uses topics that the client is not authorized to describe.",
    ),
    "streams_group_topology_description_update": (
        First(groups.uses_protocol("streams")),
        _READ_GROUP,
    ),
    # Transactions
    "init_producer_id": (transactions.init_producer_id,),
    "add_partitions_to_txn": (transactions.add_partitions,),
    "add_offsets_to_txn": (_WRITE_TRANSACTION, _READ_GROUP),
    "end_txn": (_WRITE_TRANSACTION,),
    "txn_offset_commit": (_WRITE_TRANSACTION, _READ_GROUP, Each(READ, "topics", "topics", topics.topic_of_id)),
    "write_txn_markers": (Cluster(ALTER, CLUSTER_ACTION),),
    "describe_transactions": (
        Shown(transactions.described_transactions),
        Each(DESCRIBE, "transactional_ids", "transaction_states", by_name(TRANSACTIONAL_ID)),
    ),
    "list_transactions": (Shown(transactions.listed_transactions),),
    # Settings
    "describe_configs": (Each(DESCRIBE_CONFIGS, "resources", "results", settings_of, explained=True),),
    "alter_configs": (Within("ALTER_CONFIGS on each topic or group; for brokers and client metrics on the cluster"),),
    "incremental_alter_configs": (
        Within("ALTER_CONFIGS on each topic or group; for brokers, loggers and client metrics on the cluster"),
    ),
    "list_config_resources": (Cluster(DESCRIBE_CONFIGS),),
    "describe_client_quotas": (Cluster(DESCRIBE_CONFIGS),),
    "alter_client_quotas": (Cluster(ALTER_CONFIGS),),
    "update_features": (_ALTER_CLUSTER,),
    # Users
    "describe_acls": (_DESCRIBE_CLUSTER,),
    "create_acls": (_ALTER_CLUSTER,),
    "delete_acls": (_ALTER_CLUSTER,),
    "describe_user_scram_credentials": (_DESCRIBE_CLUSTER,),
    "alter_user_scram_credentials": (_ALTER_CLUSTER,),
    "create_delegation_token": (Within("for somebody else CREATE_TOKENS on the user"),),
    "renew_delegation_token": (Within("to be owner or renewer of the token"),),
    "expire_delegation_token": (Within("to be owner or renewer of the token"),),
    "describe_delegation_token": (Within("of others: DESCRIBE on the token, or DESCRIBE_TOKENS on the user"),),
    # Nodes
    "api_versions": (_ANYBODY,),
    "sasl_handshake": (Unchecked("it is how one says who one is"),),
    "sasl_authenticate": (Unchecked("it is how one says who one is"),),
    "get_telemetry_subscriptions": (_ANYBODY,),
    "push_telemetry": (_ANYBODY,),
    "describe_cluster": (_describe_cluster,),
    "describe_log_dirs": (_DESCRIBE_CLUSTER,),
    "alter_replica_log_dirs": (_ALTER_CLUSTER,),
    "describe_quorum": (_DESCRIBE_CLUSTER,),
    "add_raft_voter": (_ALTER_CLUSTER,),
    "remove_raft_voter": (_ALTER_CLUSTER,),
    "unregister_broker": (_ALTER_CLUSTER,),
    # Between brokers, and between brokers and controllers
    "envelope": (_CLUSTER_ACTION,),
    "fetch_metadata_log": (_CLUSTER_ACTION,),
    "fetch_snapshot": (_CLUSTER_ACTION,),
    "vote": (_CLUSTER_ACTION,),
    "begin_quorum_epoch": (_CLUSTER_ACTION,),
    "end_quorum_epoch": (_CLUSTER_ACTION,),
    "update_raft_voter": (_CLUSTER_ACTION,),
    "controller_registration": (_CLUSTER_ACTION,),
    "broker_registration": (_CLUSTER_ACTION,),
    "broker_heartbeat": (_CLUSTER_ACTION,),
    "alter_partition": (_CLUSTER_ACTION,),
    "assign_replicas_to_dirs": (_CLUSTER_ACTION,),
    "allocate_producer_ids": (_CLUSTER_ACTION,),
    "initialize_share_group_state": (_CLUSTER_ACTION,),
    "read_share_group_state": (_CLUSTER_ACTION,),
    "write_share_group_state": (_CLUSTER_ACTION,),
    "delete_share_group_state": (_CLUSTER_ACTION,),
    "read_share_group_state_summary": (_CLUSTER_ACTION,),
}
"""By the name of the handler's module, in the order in which they are made."""

QUICK: Final = {"produce": transactions.produce_quickly}
"""What stands in front of `handle_quickly`; others ask by themselves."""


def guard(route: Route) -> None:
    """Let requests of a route through its checks only. Raises KeyError for an API that is not in the table."""
    handler = route.api.handler
    for check in reversed(CHECKS[handler]):
        if not isinstance(check, Within | Unchecked):
            route.handle = partial(check, route, route.handle)
    if route.quick is not None and handler in QUICK:
        route.quick = partial(QUICK[handler], route.quick)
