"""Every call of `ottla.Admin` once, for `tests.compatibility.broker_sweep`.

A refusal in the broker's own words (no authorizer, no such group) shows that it understood the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ottla
from ottla import TopicPartition
from ottla import admin as api
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from tests.compatibility.broker_sweep import Sweep

Check = Callable[["Sweep"], None]
NOBODY = (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.INVALID_GROUP_ID)
NO_TOKENS = (ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED, ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED)


def _wait(condition: Callable[[], bool], what: str) -> None:
    from tests.compatibility.broker_sweep import wait

    wait(condition, what)


def _expect(found: object, wanted: object) -> None:
    from tests.compatibility.broker_sweep import expect

    expect(found, wanted)


def _refused(call: Callable[[], object], *codes: ErrorCode) -> None:
    """The call works, or is refused like this."""
    try:
        call()
    except ottla.KafkaError as error:
        if error.code not in codes:
            raise


def _empty_group(sweep: Sweep) -> tuple[str, TopicPartition]:
    """A group without members that has committed 3."""
    topic, group = sweep.topic(), sweep.name()
    sweep.fill(topic)
    partition = TopicPartition(topic, 0)
    sweep.admin.alter_consumer_group_offsets(group, {partition: 3})
    return group, partition


# Topics and partitions


def _create_topics(sweep: Sweep) -> None:
    name, explicit = sweep.name(), sweep.name()
    assigned = api.NewTopic(explicit, replicas_assignments={0: [sweep.node_id], 1: [sweep.node_id]})
    made = sweep.admin.create_topics([api.NewTopic(name, 2, 1, configs={"retention.ms": 60_000}), assigned])
    _expect(set(made), {name, explicit})
    _wait(lambda: {name, explicit} <= set(sweep.admin.list_topics()), "the topics")
    _expect(len(sweep.admin.describe_topics(explicit)[explicit].partitions), 2)
    _refused(lambda: sweep.admin.create_topics(api.NewTopic(name, 1, 1)), ErrorCode.TOPIC_ALREADY_EXISTS)


def _create_topics_by_default(sweep: Sweep) -> None:
    name = sweep.name()
    sweep.admin.create_topics(name)
    _wait(lambda: name in sweep.admin.list_topics(), "the topic")


def _delete_topics(sweep: Sweep) -> None:
    name = sweep.topic()
    sweep.admin.delete_topics(name)
    _wait(lambda: name not in sweep.admin.list_topics(), "the end of the topic")


def _topic_id(sweep: Sweep) -> str:
    name = sweep.topic()
    topic_id = sweep.admin.list_topics()[name].topic_id
    return topic_id or "AAAAAAAAAAAAAAAAAAAAew"


def _delete_topics_by_id(sweep: Sweep) -> None:
    sweep.admin.delete_topics(topic_ids=_topic_id(sweep))


def _describe_topics(sweep: Sweep) -> None:
    name = sweep.topic(2)
    found = sweep.admin.describe_topics(name)[name]
    _expect([one.leader and one.leader.id for one in found.partitions], [sweep.node_id] * 2)
    _refused(lambda: sweep.admin.describe_topics("nothing"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


def _describe_topics_with_operations(sweep: Sweep) -> None:
    sweep.admin.describe_topics(sweep.topic(), include_authorized_operations=True)


def _describe_topics_by_id(sweep: Sweep) -> None:
    topic_id = _topic_id(sweep)
    _expect(set(sweep.admin.describe_topics(topic_ids=topic_id)), {topic_id})


def _create_partitions(sweep: Sweep) -> None:
    name = sweep.topic()
    sweep.admin.create_partitions({name: 3})
    _wait(lambda: len(sweep.admin.describe_topics(name)[name].partitions) == 3, "three partitions")


def _elect_leaders(sweep: Sweep) -> None:
    partition = TopicPartition(sweep.topic(), 0)
    _expect(set(sweep.admin.elect_leaders(api.ElectionType.PREFERRED, [partition])), {partition})


def _elect_unclean(sweep: Sweep) -> None:
    sweep.admin.elect_leaders(api.ElectionType.UNCLEAN, [TopicPartition(sweep.topic(), 0)])


def _alter_reassignments(sweep: Sweep) -> None:
    sweep.admin.alter_partition_reassignments({TopicPartition(sweep.topic(), 0): [sweep.node_id]})


def _list_reassignments(sweep: Sweep) -> None:
    _expect(sweep.admin.list_partition_reassignments([TopicPartition(sweep.topic(), 0)]), {})


def _list_offsets(sweep: Sweep) -> None:
    topic = sweep.topic()
    sweep.fill(topic)
    partition, spec = TopicPartition(topic, 0), api.OffsetSpec
    for wanted, offset in ((spec.EARLIEST, 0), (spec.LATEST, 10), (1004, 4)):
        _expect(sweep.admin.list_offsets({partition: wanted})[partition].offset, offset)


def _lists_offset(spec: api.OffsetSpec) -> Check:
    def check(sweep: Sweep) -> None:
        topic = sweep.topic()
        sweep.fill(topic)
        sweep.admin.list_offsets({TopicPartition(topic, 0): spec})

    return check


def _delete_records(sweep: Sweep) -> None:
    topic = sweep.topic()
    sweep.fill(topic)
    _expect(sweep.admin.delete_records({TopicPartition(topic, 0): 4}), {TopicPartition(topic, 0): 4})
    _expect(sweep.read(topic, 6)[0].offset, 4)


# Settings


def _describe_configs(sweep: Sweep) -> None:
    resource = api.ConfigResource.topic(sweep.topic(retention_ms=60_000))
    found = sweep.admin.describe_configs(resource, include_synonyms=True)[resource]
    _expect(found["retention.ms"].value, "60000")
    broker = api.ConfigResource.broker(sweep.node_id)
    _expect("log.retention.ms" in sweep.admin.describe_configs(broker)[broker], True)


def _describe_documentation(sweep: Sweep) -> None:
    sweep.admin.describe_configs(api.ConfigResource.topic(sweep.topic()), include_documentation=True)


def _describe_loggers(sweep: Sweep) -> None:
    loggers = api.ConfigResource.broker_logger(sweep.node_id)
    _refused(lambda: sweep.admin.describe_configs(loggers), ErrorCode.INVALID_REQUEST)


def _alter_configs(sweep: Sweep) -> None:
    resource = api.ConfigResource.topic(sweep.topic())
    sweep.admin.set_config(resource, {"max.message.bytes": 4096})
    _wait(lambda: sweep.admin.describe_configs(resource)[resource]["max.message.bytes"].value == "4096", "the setting")
    sweep.admin.set_config(resource, {"cleanup.policy": "delete"})  # Kafka 2.4 cannot append to a default
    sweep.admin.incremental_alter_configs({resource: api.AlterConfigOp.append("cleanup.policy", "compact")})


# Groups


def _list_groups(sweep: Sweep) -> None:
    group, _ = _empty_group(sweep)
    _expect(group in [one.group_id for one in sweep.admin.list_groups()], True)
    _expect(group in [one.group_id for one in sweep.admin.list_consumer_groups()], True)


def _describe_consumer_groups(sweep: Sweep) -> None:
    topic, group = sweep.topic(), sweep.name()
    with sweep.consumer(group_id=group, topics=[topic]) as consumer:
        _wait(lambda: not consumer.poll(timeout_s=0.1) and bool(consumer.assignment()), "the partition")
        found = sweep.admin.describe_consumer_groups(group)[group]
        _expect([one.assignment for one in found.members], [{TopicPartition(topic, 0)}])
        _expect(found.state, api.GroupState.STABLE)
        _expect(len(sweep.admin.describe_classic_groups(group)[group].members), 1)
        _refused(lambda: sweep.admin.delete_consumer_groups(group), ErrorCode.NON_EMPTY_GROUP)
    _refused(lambda: sweep.admin.describe_consumer_groups(sweep.name()), *NOBODY)


def _describe_groups_with_operations(sweep: Sweep) -> None:
    group, _ = _empty_group(sweep)
    sweep.admin.describe_consumer_groups(group, include_authorized_operations=True)


def _delete_consumer_groups(sweep: Sweep) -> None:
    group, _ = _empty_group(sweep)
    sweep.admin.delete_consumer_groups(group)
    _expect(group in [one.group_id for one in sweep.admin.list_groups()], False)


def _remove_members(sweep: Sweep) -> None:
    topic, group = sweep.topic(), sweep.name()
    with sweep.consumer(group_id=group, topics=[topic]) as consumer:
        _wait(lambda: not consumer.poll(timeout_s=0.1) and bool(consumer.assignment()), "the partition")
        sweep.admin.remove_members_from_consumer_group(group)


def _group_offsets(sweep: Sweep) -> None:
    group, partition = _empty_group(sweep)
    second, _ = _empty_group(sweep)
    both = {group: [partition], second: None}
    committed = sweep.admin.list_consumer_group_offsets(both)[group][partition]
    _expect(committed and committed.offset, 3)
    _expect(set(sweep.admin.list_consumer_group_offsets(group)[group]), {partition})


def _stable_group_offsets(sweep: Sweep) -> None:
    group, _ = _empty_group(sweep)
    sweep.admin.list_consumer_group_offsets(group, require_stable=True)


def _delete_group_offsets(sweep: Sweep) -> None:
    group, partition = _empty_group(sweep)
    sweep.admin.delete_consumer_group_offsets(group, [partition])
    _expect(sweep.admin.list_consumer_group_offsets(group)[group], {})


# Transactions and producers


def _describe_producers(sweep: Sweep) -> None:
    topic = sweep.topic()
    partition = TopicPartition(topic, 0)
    with sweep.producer(transactional_id=topic) as producer, producer.transaction():
        producer.send(topic, b"open").result(20)
        (state,) = sweep.admin.describe_producers([partition])[partition]
        _expect(state.current_transaction_start_offset, 0)


def _fence_producers(sweep: Sweep) -> None:
    name = sweep.topic()
    with sweep.producer(transactional_id=name) as producer:
        with producer.transaction():
            producer.send(name, b"value")
        sweep.admin.fence_producers(name)


def _abort_transaction(sweep: Sweep) -> None:
    hanging = api.AbortTransactionSpec(TopicPartition(sweep.topic(), 0), 4_000_000, 0, 0)
    _refused(lambda: sweep.admin.abort_transaction(hanging), ErrorCode.INVALID_PRODUCER_EPOCH)


def _force_terminate(sweep: Sweep) -> None:
    sweep.admin.force_terminate_transaction(sweep.name())


# The rest


def _alter_log_dirs(sweep: Sweep) -> None:
    replica = api.TopicPartitionReplica(sweep.topic(), 0, sweep.node_id)
    (path, *_) = sweep.admin.describe_log_dirs(sweep.node_id)[sweep.node_id]
    sweep.admin.alter_replica_log_dirs({replica: path})


def _describe_log_dirs(sweep: Sweep) -> None:
    topic = sweep.topic()
    sweep.fill(topic)
    found = sweep.admin.describe_log_dirs()[sweep.node_id]
    _expect(sum(TopicPartition(topic, 0) in one.replicas for one in found.values()), 1)
    replica = api.TopicPartitionReplica(topic, 0, sweep.node_id)
    _expect(sweep.admin.describe_replica_log_dirs([replica])[replica].current_log_dir in found, True)


def _acls(sweep: Sweep) -> None:
    rule = api.AclBinding(api.AclResourceType.TOPIC, sweep.name(), "User:alice", api.AclOperation.READ)
    for call in (
        lambda: sweep.admin.create_acls(rule),
        lambda: sweep.admin.describe_acls(),
        lambda: sweep.admin.delete_acls(api.AclFilter(resource_name=rule.resource_name)),
    ):
        _refused(call, ErrorCode.SECURITY_DISABLED)


def _quotas(sweep: Sweep) -> None:
    user = api.ClientQuotaEntity(user=sweep.name())
    sweep.admin.alter_client_quotas({user: {"producer_byte_rate": 1e9}})
    _wait(lambda: user in sweep.admin.describe_client_quotas(user=user.user), "the quota")


def _scram(sweep: Sweep) -> None:
    user = sweep.name()
    sweep.admin.alter_user_scram_credentials(api.UserScramCredentialUpsertion(user, "secret"))
    _wait(lambda: user in sweep.admin.describe_user_scram_credentials(), "the credential")


def _tokens(sweep: Sweep) -> None:
    for call in (
        lambda: sweep.admin.create_delegation_token(),
        lambda: sweep.admin.describe_delegation_token(),
        lambda: sweep.admin.renew_delegation_token(b"1"),
        lambda: sweep.admin.expire_delegation_token(b"1"),
    ):
        _refused(call, *NO_TOKENS)


def _describe_cluster(sweep: Sweep) -> None:
    found = sweep.admin.describe_cluster()
    _expect((bool(found.cluster_id), found.controller in found.nodes), (True, True))


def _raft_voters(sweep: Sweep) -> None:
    voter = (77, "AAAAAAAAAAAAAAAAAAAAew")
    nowhere = api.RaftVoterEndpoint("CONTROLLER", "127.0.0.1", 1)
    codes = (ErrorCode.UNSUPPORTED_VERSION, ErrorCode.VOTER_NOT_FOUND, ErrorCode.REQUEST_TIMED_OUT)
    _refused(lambda: sweep.admin.remove_raft_voter(*voter), *codes[1:])
    _refused(lambda: sweep.admin.add_raft_voter(*voter, [nowhere]), *codes[1:])


def _client_instance_id(sweep: Sweep) -> None:
    with ottla.Admin(sweep.bootstrap, enable_metrics_push=True) as admin:
        _expect(bool(admin.client_instance_id(timeout_s=20)), True)


ADMIN_CALLS: dict[str, Callable[[Sweep], object]] = {
    "create_topics": _create_topics,
    "create_topics, partitions by the broker's default": _create_topics_by_default,
    "delete_topics": _delete_topics,
    "delete_topics by id": _delete_topics_by_id,
    "list_topics": lambda sweep: _expect(sweep.topic() in sweep.admin.list_topics(list_internal=True), True),
    "describe_topics": _describe_topics,
    "describe_topics by id": _describe_topics_by_id,
    "describe_topics with authorized operations": _describe_topics_with_operations,
    "create_partitions": _create_partitions,
    "elect_leaders": _elect_leaders,
    "elect_leaders, unclean": _elect_unclean,
    "alter_partition_reassignments": _alter_reassignments,
    "list_partition_reassignments": _list_reassignments,
    "list_offsets": _list_offsets,
    "list_offsets MAX_TIMESTAMP": _lists_offset(api.OffsetSpec.MAX_TIMESTAMP),
    "list_offsets EARLIEST_LOCAL": _lists_offset(api.OffsetSpec.EARLIEST_LOCAL),
    "list_offsets LATEST_TIERED": _lists_offset(api.OffsetSpec.LATEST_TIERED),
    "list_offsets EARLIEST_PENDING_UPLOAD": _lists_offset(api.OffsetSpec.EARLIEST_PENDING_UPLOAD),
    "delete_records": _delete_records,
    "describe_configs": _describe_configs,
    "describe_configs with documentation": _describe_documentation,
    "describe_configs of loggers": _describe_loggers,
    "describe_configs of groups": lambda sweep: sweep.admin.describe_configs(api.ConfigResource.group(sweep.name())),
    "describe_configs of client metrics": lambda sweep: sweep.admin.describe_configs(
        api.ConfigResource.client_metrics(sweep.name())
    ),
    "set_config of a group": lambda sweep: sweep.admin.set_config(
        api.ConfigResource.group(sweep.name()), {"consumer.session.timeout.ms": 50_000}
    ),
    "incremental_alter_configs": _alter_configs,
    "list_config_resources": lambda sweep: sweep.admin.list_config_resources(),
    "list_client_metrics_resources": lambda sweep: sweep.admin.list_client_metrics_resources(),
    "list_groups": _list_groups,
    "list_groups by state": lambda sweep: sweep.admin.list_groups(states=[api.GroupState.EMPTY]),
    "list_groups by type": lambda sweep: sweep.admin.list_groups(types=[api.GroupType.CONSUMER]),
    "describe_consumer_groups": _describe_consumer_groups,
    "describe_consumer_groups with authorized operations": _describe_groups_with_operations,
    "describe_share_groups": lambda sweep: _refused(
        lambda: sweep.admin.describe_share_groups(sweep.name()), *NOBODY
    ),
    "describe_streams_groups": lambda sweep: _refused(
        lambda: sweep.admin.describe_streams_groups(sweep.name()), *NOBODY
    ),
    "delete_consumer_groups": _delete_consumer_groups,
    "delete_share_groups": lambda sweep: _refused(lambda: sweep.admin.delete_share_groups(sweep.name()), *NOBODY),
    "delete_streams_groups": lambda sweep: _refused(lambda: sweep.admin.delete_streams_groups(sweep.name()), *NOBODY),
    "remove_members_from_consumer_group": _remove_members,
    "list_consumer_group_offsets": _group_offsets,
    "list_consumer_group_offsets, stable": _stable_group_offsets,
    "delete_consumer_group_offsets": _delete_group_offsets,
    "list_share_group_offsets": lambda sweep: _refused(
        lambda: sweep.admin.list_share_group_offsets(sweep.name()), *NOBODY
    ),
    "alter_share_group_offsets": lambda sweep: _refused(
        lambda: sweep.admin.alter_share_group_offsets(sweep.name(), {TopicPartition(sweep.topic(), 0): 0}), *NOBODY
    ),
    "delete_share_group_offsets": lambda sweep: _refused(
        lambda: sweep.admin.delete_share_group_offsets(sweep.name(), sweep.topic()), *NOBODY
    ),
    "list_transactions": lambda sweep: sweep.admin.list_transactions(),
    "list_transactions by duration": lambda sweep: sweep.admin.list_transactions(running_longer_than_ms=1),
    "list_transactions by pattern": lambda sweep: sweep.admin.list_transactions(transactional_id_pattern="a"),
    "describe_transactions": lambda sweep: _refused(
        lambda: sweep.admin.describe_transactions(sweep.name()), ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
    ),
    "describe_producers": _describe_producers,
    "abort_transaction": _abort_transaction,
    "fence_producers": _fence_producers,
    "force_terminate_transaction": _force_terminate,
    "describe_log_dirs, describe_replica_log_dirs": _describe_log_dirs,
    "alter_replica_log_dirs": _alter_log_dirs,
    "create_acls, describe_acls, delete_acls": _acls,
    "describe_client_quotas, alter_client_quotas": _quotas,
    "describe_user_scram_credentials, alter_user_scram_credentials": _scram,
    "delegation tokens": _tokens,
    "describe_cluster": _describe_cluster,
    "describe_cluster with fenced brokers": lambda sweep: (
        sweep.admin.describe_cluster(include_fenced_brokers=True)
    ),
    "describe_cluster with authorized operations": lambda sweep: (
        sweep.admin.describe_cluster(include_authorized_operations=True)
    ),
    "describe_features": lambda sweep: sweep.admin.describe_features(),
    "update_features": lambda sweep: _refused(
        lambda: sweep.admin.update_features({"metadata.version": 1}, validate_only=True),
        ErrorCode.INVALID_UPDATE_VERSION, ErrorCode.FEATURE_UPDATE_FAILED, ErrorCode.INVALID_REQUEST,
    ),
    "describe_metadata_quorum": lambda sweep: sweep.admin.describe_metadata_quorum(),
    "add_raft_voter, remove_raft_voter": _raft_voters,
    "unregister_broker": lambda sweep: _refused(
        lambda: sweep.admin.unregister_broker(77), ErrorCode.BROKER_ID_NOT_REGISTERED
    ),
    "client_instance_id": _client_instance_id,
}  # fmt: skip
