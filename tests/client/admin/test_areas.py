"""The smaller areas: what their calls send, and what their answers mean."""

from __future__ import annotations

from math import isnan
from typing import Any

import pytest

from ottla import admin as api
from ottla.client.admin.client import Admin
from ottla.client.admin.scram import salted_password
from ottla.client.errors import IllegalStateError, KafkaError, UnsupportedVersionError
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode
from ottla.core.ids import uuid_to_text
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages import alter_partition_reassignments as moving
from ottla.protocol.messages import alter_replica_log_dirs as altering
from ottla.protocol.messages import create_acls as creating
from ottla.protocol.messages import delete_acls as deleting
from ottla.protocol.messages import describe_acls as describing
from ottla.protocol.messages import describe_log_dirs as log_dirs
from ottla.protocol.messages import describe_quorum as quorum
from ottla.protocol.messages import elect_leaders as electing
from ottla.protocol.messages import streams_group_describe as streams
from ottla.protocol.messages.add_raft_voter import AddRaftVoterResponse
from ottla.protocol.messages.alter_client_quotas import AlterClientQuotasResponse, AlterClientQuotasResponseEntryData
from ottla.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult,
)
from ottla.protocol.messages.create_delegation_token import CreateDelegationTokenResponse
from ottla.protocol.messages.describe_client_quotas import (
    DescribeClientQuotasResponse,
    EntityData,
    EntryData,
    ValueData,
)
from ottla.protocol.messages.describe_configs import DescribeConfigsResponse, DescribeConfigsResult
from ottla.protocol.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsResponse
from ottla.protocol.messages.incremental_alter_configs import (
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsResponse,
)
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.protocol.messages.list_config_resources import ConfigResource, ListConfigResourcesResponse
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.protocol.messages.list_transactions import ListTransactionsResponse
from ottla.protocol.messages.unregister_broker import UnregisterBrokerResponse
from ottla.protocol.messages.update_features import UpdatableFeatureResult, UpdateFeaturesResponse
from tests.client.admin.scenes import play
from tests.client.network.fake_broker import FakeCluster

ORDERS = TopicPartition("orders", 0)
DIRECTORY = bytes(range(1, 17))


def test_an_offset_spec_is_only_sent_to_brokers_that_know_it() -> None:
    """To an older broker it would be a timestamp, and the answer wrong."""

    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.add_topic("orders", 2)
        fake.versions[ApiKey.LIST_OFFSETS] = (1, 6)

        def listed(request: Any, call: Any) -> ListOffsetsResponse:
            partitions = [
                ListOffsetsPartitionResponse(partition_index=one.partition_index, offset=1)
                for one in request.topics[0].partitions
            ]
            return ListOffsetsResponse(topics=[ListOffsetsTopicResponse(name="orders", partitions=partitions)])

        fake[1].on(ApiKey.LIST_OFFSETS, listed)
        other = TopicPartition("orders", 1)
        with pytest.raises(UnsupportedVersionError) as raised:
            await admin.list_offsets({ORDERS: api.OffsetSpec.MAX_TIMESTAMP, other: api.OffsetSpec.EARLIEST})
        assert raised.value.results[other].offset == 1
        (body,) = fake[1].received(ApiKey.LIST_OFFSETS)
        assert [one.timestamp for one in body.topics[0].partitions] == [-2]
        with pytest.raises(ValueError, match="isolation_level"):
            await admin.list_offsets({ORDERS: 5}, isolation_level="committed")
        with pytest.raises(ValueError, match="-9"):
            await admin.list_offsets({ORDERS: -9})

    play(scene)


def test_an_election_that_was_not_needed_is_no_failure() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def elected(*codes: ErrorCode) -> electing.ElectLeadersResponse:
            partitions = [
                electing.PartitionResult(partition_id=number, error_code=code) for number, code in enumerate(codes)
            ]
            result = electing.ReplicaElectionResult(topic="orders", partition_result=partitions)
            return electing.ElectLeadersResponse(replica_election_results=[result])

        unneeded, impossible = ErrorCode.ELECTION_NOT_NEEDED, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
        fake[1].script(ApiKey.ELECT_LEADERS, elected(ErrorCode.NONE, unneeded), elected(ErrorCode.NONE, impossible))
        found = await admin.elect_leaders(api.ElectionType.PREFERRED, [ORDERS, TopicPartition("orders", 1)])
        assert list(found.values()) == [True, False]
        with pytest.raises(KafkaError) as raised:
            await admin.elect_leaders(api.ElectionType.PREFERRED)
        assert raised.value.code is impossible
        assert raised.value.results == {ORDERS: True}
        assert fake[1].received(ApiKey.ELECT_LEADERS)[-1].topic_partitions is None

    play(scene)


def test_moves_are_started_and_cancelled() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def altered(request: Any, call: Any) -> moving.AlterPartitionReassignmentsResponse:
            idle = ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
            partitions = [
                moving.ReassignablePartitionResponse(
                    partition_index=one.partition_index, error_code=idle if one.replicas is None else 0
                )
                for one in request.topics[0].partitions
            ]
            return moving.AlterPartitionReassignmentsResponse(
                responses=[moving.ReassignableTopicResponse(name="orders", partitions=partitions)]
            )

        fake[1].on(ApiKey.ALTER_PARTITION_REASSIGNMENTS, altered)
        with pytest.raises(KafkaError) as raised:
            await admin.alter_partition_reassignments({ORDERS: (2, 1), TopicPartition("orders", 1): None})
        assert raised.value.code is ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
        assert raised.value.results == {ORDERS: None}
        fake.versions[ApiKey.ALTER_PARTITION_REASSIGNMENTS] = (0, 0)
        fake[1].drop_connections()
        with pytest.raises(UnsupportedVersionError):
            await admin.alter_partition_reassignments({ORDERS: [1]}, allow_replication_factor_change=False)

    play(scene)


def test_replicas_are_found_in_directories_and_on_their_way_to_others() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def directory(path: str, *, is_future: bool) -> log_dirs.DescribeLogDirsResult:
            partition = log_dirs.DescribeLogDirsPartition(
                partition_index=0, partition_size=10, offset_lag=3, is_future_key=is_future
            )
            topic = log_dirs.DescribeLogDirsTopic(name="orders", partitions=[partition])
            return log_dirs.DescribeLogDirsResult(log_dir=path, topics=[topic], total_bytes=100, usable_bytes=-1)

        broken = log_dirs.DescribeLogDirsResult(log_dir="/c", error_code=ErrorCode.KAFKA_STORAGE_ERROR)
        results = [directory("/a", is_future=False), directory("/b", is_future=True), broken]
        fake[1].on(ApiKey.DESCRIBE_LOG_DIRS, log_dirs.DescribeLogDirsResponse(results=results))
        described = (await admin.describe_log_dirs())[1]
        assert described["/a"].replicas == {ORDERS: (10, 3, False)}
        assert (described["/a"].total_bytes, described["/a"].usable_bytes) == (100, None)
        assert described["/c"].error is not None
        here, nowhere = api.TopicPartitionReplica("orders", 0, 1), api.TopicPartitionReplica("orders", 7, 1)
        found = await admin.describe_replica_log_dirs([here, nowhere])
        assert found == {
            here: api.ReplicaLogDirInfo("/a", 3, "/b", 3),
            nowhere: api.ReplicaLogDirInfo(),
        }
        fake[1].on(ApiKey.DESCRIBE_LOG_DIRS, log_dirs.DescribeLogDirsResponse())
        with pytest.raises(KafkaError) as raised:
            await admin.describe_log_dirs(1)
        assert raised.value.code is ErrorCode.CLUSTER_AUTHORIZATION_FAILED

    play(scene)


def test_replicas_move_between_the_directories_of_their_own_broker() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def moved(request: Any, call: Any) -> altering.AlterReplicaLogDirsResponse:
            return altering.AlterReplicaLogDirsResponse(
                results=[
                    altering.AlterReplicaLogDirTopicResult(
                        topic_name=topic.name,
                        partitions=[
                            altering.AlterReplicaLogDirPartitionResult(partition_index=index)
                            for index in topic.partitions
                        ],
                    )
                    for directory in request.dirs
                    for topic in directory.topics
                ]
            )

        for broker in fake:
            broker.on(ApiKey.ALTER_REPLICA_LOG_DIRS, moved)
        replica = api.TopicPartitionReplica
        await admin.alter_replica_log_dirs(
            {replica("a", 0, 1): "/x", replica("a", 1, 1): "/y", replica("b", 0, 1): "/x", replica("a", 0, 2): "/x"}
        )
        (first,) = fake[1].received(ApiKey.ALTER_REPLICA_LOG_DIRS)
        assert [(one.path, [topic.name for topic in one.topics]) for one in first.dirs] == [
            ("/x", ["a", "b"]),
            ("/y", ["a"]),
        ]
        assert len(fake[2].received(ApiKey.ALTER_REPLICA_LOG_DIRS)) == 1

    play(scene, brokers=2)


def test_rules_are_described_and_deleted_by_filter() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        binding = api.AclBinding(api.AclResourceType.TOPIC, "orders", "User:alice", api.AclOperation.READ)
        acl = describing.AclDescription(principal="User:alice", host="*", operation=3, permission_type=3)
        resource = describing.DescribeAclsResource(resource_type=2, resource_name="orders", pattern_type=3, acls=[acl])
        fake[1].on(ApiKey.DESCRIBE_ACLS, describing.DescribeAclsResponse(resources=[resource]))
        assert await admin.describe_acls() == [binding]
        (body,) = fake[1].received(ApiKey.DESCRIBE_ACLS)
        assert (body.resource_type_filter, body.pattern_type_filter, body.principal_filter) == (1, 1, None)
        matching = deleting.DeleteAclsMatchingAcl(
            resource_type=2, resource_name="orders", principal="User:alice", host="*", operation=3, permission_type=3
        )
        refused = deleting.DeleteAclsFilterResult(error_code=ErrorCode.SECURITY_DISABLED, error_message="No Authorizer")
        results = [deleting.DeleteAclsFilterResult(matching_acls=[matching]), refused]
        fake[1].on(ApiKey.DELETE_ACLS, deleting.DeleteAclsResponse(filter_results=results))
        mine, all_of_them = api.AclFilter(principal="User:alice"), api.AclFilter()
        with pytest.raises(KafkaError, match="No Authorizer") as raised:
            await admin.delete_acls([mine, all_of_them])
        assert raised.value.results == {mine: [binding]}
        assert list(raised.value.errors) == [all_of_them]

    play(scene)


def test_a_vague_rule_is_not_sent() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        results = [creating.AclCreationResult()]
        fake[1].on(ApiKey.CREATE_ACLS, creating.CreateAclsResponse(results=results))
        clear = api.AclBinding(api.AclResourceType.TOPIC, "orders", "User:alice", api.AclOperation.READ)
        vague = clear._replace(operation=api.AclOperation.ANY)
        with pytest.raises(KafkaError, match="cannot be for ANY") as raised:
            await admin.create_acls([vague, clear])
        assert raised.value.code is ErrorCode.INVALID_REQUEST
        assert raised.value.results == {clear: None}
        assert [len(body.creations) for body in fake[1].received(ApiKey.CREATE_ACLS)] == [1]

    play(scene)


def test_a_streams_group_with_its_topology_and_tasks() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        changelog = streams.TopicInfo(
            name="store-changelog",
            partitions=2,
            replication_factor=1,
            topic_configs=[streams.KeyValue(key="cleanup.policy", value="compact")],
        )
        part = streams.Subtopology(
            subtopology_id="0", source_topics=["orders"], repartition_sink_topics=[], state_changelog_topics=[changelog]
        )
        tasks = [streams.TaskIds(subtopology_id="0", partitions=[0, 1])]
        member = streams.Member(
            member_id="m",
            member_epoch=2,
            client_id="c",
            client_host="/h",
            process_id="p",
            user_endpoint=streams.Endpoint(host="h", port=8080),
            client_tags=[streams.KeyValue(key="zone", value="a")],
            task_offsets=[streams.TaskOffset(subtopology_id="0", partition=1, offset=9)],
            assignment=streams.Assignment(active_tasks=tasks),
        )
        group = streams.DescribedGroup(
            group_id="g",
            group_state="NotReady",
            group_epoch=3,
            assignment_epoch=2,
            topology=streams.Topology(epoch=1, subtopologies=[part]),
            members=[member],
        )
        fake[1].on(ApiKey.STREAMS_GROUP_DESCRIBE, streams.StreamsGroupDescribeResponse(groups=[group]))
        found = (await admin.describe_streams_groups("g"))["g"]
        assert (found.state, found.group_epoch, found.topology_epoch) == (api.GroupState.NOT_READY, 3, 1)
        assert found.subtopologies[0].state_changelog_topics[0].configs == {"cleanup.policy": "compact"}
        assert found.members[0].assignment.active_tasks == {api.StreamsTask("0", 0), api.StreamsTask("0", 1)}
        assert found.members[0].task_offsets == {api.StreamsTask("0", 1): 9}
        assert found.members[0].user_endpoint == ("h", 8080)
        assert found.members[0].client_tags == {"zone": "a"}

    play(scene)


def test_quotas_are_for_names_and_for_everybody_else() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        entity = api.ClientQuotaEntity(user="alice", client_id=api.DEFAULT)
        parts = [
            EntityData(entity_type="client-id", entity_name=None),
            EntityData(entity_type="user", entity_name="alice"),
        ]
        entry = EntryData(entity=parts, values=[ValueData(key="request_percentage", value=50.0)])
        fake[1].on(ApiKey.DESCRIBE_CLIENT_QUOTAS, DescribeClientQuotasResponse(entries=[entry]))
        found = await admin.describe_client_quotas(user=api.ANY, client_id=api.DEFAULT, strict=True)
        assert found == {entity: {"request_percentage": 50.0}}
        (body,) = fake[1].received(ApiKey.DESCRIBE_CLIENT_QUOTAS)
        assert [(one.entity_type, one.match_type, one.match) for one in body.components] == [
            ("user", 2, None),
            ("client-id", 1, None),
        ]
        assert str(entity) == "user alice client-id (default)"

        def altered(request: Any, call: Any) -> AlterClientQuotasResponse:
            entries = [AlterClientQuotasResponseEntryData(entity=list(reversed(one.entity))) for one in request.entries]
            return AlterClientQuotasResponse(entries=entries)

        fake[1].on(ApiKey.ALTER_CLIENT_QUOTAS, altered)
        await admin.alter_client_quotas({entity: {"request_percentage": None, "producer_byte_rate": 5}})
        (body,) = fake[1].received(ApiKey.ALTER_CLIENT_QUOTAS)
        assert [(one.key, one.value, one.remove) for one in body.entries[0].ops] == [
            ("request_percentage", 0.0, True),
            ("producer_byte_rate", 5.0, False),
        ]
        with pytest.raises(ValueError, match="ANY"):
            await admin.alter_client_quotas({api.ClientQuotaEntity(ip=api.ANY): {}})

    play(scene)


def test_quotas_of_unknown_kinds_are_not_mistaken_for_others() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        entry = EntryData(entity=[EntityData(entity_type="planet", entity_name="mars")])
        fake[1].on(ApiKey.DESCRIBE_CLIENT_QUOTAS, DescribeClientQuotasResponse(entries=[entry]))
        with pytest.raises(KafkaError, match="planet"):
            await admin.describe_client_quotas()

    play(scene)


def test_the_salted_password_is_that_of_the_standard() -> None:
    """The example of RFC 7677."""
    import base64
    import hashlib
    import hmac

    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    salted = salted_password(api.ScramMechanism.SCRAM_SHA_256, "pencil", salt, 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    signature = hmac.digest(stored_key, message, "sha256")
    proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
    assert base64.b64encode(proof) == b"dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert len(salted_password(api.ScramMechanism.SCRAM_SHA_512, b"pencil", salt, 1)) == 64


def test_passwords_do_not_leave_the_client_and_bad_ones_are_not_sent() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def altered(request: Any, call: Any) -> AlterUserScramCredentialsResponse:
            users = {one.name for one in [*request.deletions, *request.upsertions]}
            return AlterUserScramCredentialsResponse(
                results=[AlterUserScramCredentialsResult(user=user) for user in sorted(users)]
            )

        fake[1].on(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, altered)
        alice = api.UserScramCredentialUpsertion("alice", "wonderland", iterations=5000, salt=b"salt")
        assert "wonderland" not in repr(alice)
        await admin.alter_user_scram_credentials(alice)
        (body,) = fake[1].received(ApiKey.ALTER_USER_SCRAM_CREDENTIALS)
        assert (body.upsertions[0].mechanism, body.upsertions[0].iterations) == (2, 5000)
        expected = salted_password(api.ScramMechanism.SCRAM_SHA_512, "wonderland", b"salt", 5000)
        assert body.upsertions[0].salted_password == expected
        with pytest.raises(KafkaError) as raised:
            await admin.alter_user_scram_credentials(
                [
                    api.UserScramCredentialUpsertion("empty", ""),
                    api.UserScramCredentialDeletion("empty", api.ScramMechanism.SCRAM_SHA_256),
                    api.UserScramCredentialDeletion("bob", api.ScramMechanism.SCRAM_SHA_256),
                ]
            )
        assert raised.value.code is ErrorCode.UNACCEPTABLE_CREDENTIAL
        assert raised.value.results == {"bob": None}
        body = fake[1].received(ApiKey.ALTER_USER_SCRAM_CREDENTIALS)[-1]
        assert ([one.name for one in body.deletions], body.upsertions) == (["bob"], [])

    play(scene)


def test_tokens_of_others_are_not_asked_of_brokers_that_would_ignore_the_owner() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.CREATE_DELEGATION_TOKEN] = (1, 2)
        response = CreateDelegationTokenResponse(
            principal_type="User", principal_name="me", token_id="t", hmac=b"secret", issue_timestamp_ms=1
        )
        fake[1].on(ApiKey.CREATE_DELEGATION_TOKEN, response)
        with pytest.raises(UnsupportedVersionError):
            await admin.create_delegation_token(owner="User:alice")
        token = await admin.create_delegation_token(renewers=["User:bob", api.KafkaPrincipal("User", "eve")])
        assert token.owner == token.requester == api.KafkaPrincipal("User", "me")
        assert list(map(str, token.renewers)) == ["User:bob", "User:eve"]
        assert "secret" not in repr(token)
        with pytest.raises(KafkaError, match="User:alice"):
            await admin.create_delegation_token(renewers=["bob"])

    play(scene)


def test_older_brokers_describe_the_cluster_with_the_metadata() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.DESCRIBE_CLUSTER] = (0, -1)
        cluster = await admin.describe_cluster()
        assert cluster.cluster_id == "fake"
        assert cluster.controller is not None
        assert cluster.controller.id == 1
        assert len(cluster.nodes) == 2
        with pytest.raises(UnsupportedVersionError):
            await admin.describe_cluster(include_fenced_brokers=True)

    play(scene, brokers=2)


def test_features_are_told_by_the_node_that_is_asked() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.features["metadata.version"] = 30
        found = await admin.describe_features(node_id=2)
        assert found.finalized == {"metadata.version": (30, 30)}
        assert found.finalized_epoch == 1
        with pytest.raises(KafkaError, match="no broker 7"):
            await admin.describe_features(node_id=7)

    play(scene, brokers=2)


def test_features_are_updated_together_or_one_by_one() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        refused = UpdatableFeatureResult(feature="b", error_code=ErrorCode.INVALID_UPDATE_VERSION)
        fake[1].script(
            ApiKey.UPDATE_FEATURES,
            UpdateFeaturesResponse(),
            UpdateFeaturesResponse(results=[UpdatableFeatureResult(feature="a"), refused]),
            UpdateFeaturesResponse(error_code=ErrorCode.INVALID_UPDATE_VERSION, error_message="All or none."),
        )
        fake.versions[ApiKey.UPDATE_FEATURES] = (0, 1)
        downgrade = api.FeatureUpdate(1, api.UpgradeType.SAFE_DOWNGRADE)
        await admin.update_features({"a": 2, "b": downgrade})
        (body,) = fake[1].received(ApiKey.UPDATE_FEATURES)
        assert [(one.feature, one.max_version_level, one.upgrade_type) for one in body.feature_updates] == [
            ("a", 2, 1),
            ("b", 1, 2),
        ]
        with pytest.raises(KafkaError) as raised:
            await admin.update_features({"a": 2, "b": downgrade})
        assert (list(raised.value.errors), list(raised.value.results)) == (["b"], ["a"])
        with pytest.raises(KafkaError, match=r"^INVALID_UPDATE_VERSION: All or none\.$") as raised:
            await admin.update_features({"a": 2, "b": downgrade})
        assert set(raised.value.errors) == {"a", "b"}

    play(scene)


def test_the_quorum_and_its_voters() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        leader = quorum.ReplicaState(replica_id=1, replica_directory_id=DIRECTORY, log_end_offset=9)
        partition = quorum.DescribeQuorumResponsePartitionData(
            leader_id=1, leader_epoch=4, high_watermark=8, current_voters=[leader]
        )
        topic = quorum.DescribeQuorumResponseTopicData(topic_name="__cluster_metadata", partitions=[partition])
        listener = quorum.Listener(name="CONTROLLER", host="h", port=9093)
        nodes = [quorum.Node(node_id=1, listeners=[listener])]
        moved = quorum.DescribeQuorumResponse(error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER)
        fake[1].script(ApiKey.DESCRIBE_QUORUM, moved)
        fake[1].on(ApiKey.DESCRIBE_QUORUM, quorum.DescribeQuorumResponse(topics=[topic], nodes=nodes))
        found = await admin.describe_metadata_quorum()
        assert (found.leader_id, found.leader_epoch, found.high_watermark) == (1, 4, 8)
        assert found.voters[0].replica_directory_id == uuid_to_text(DIRECTORY)
        assert found.voters[0].last_fetch_timestamp_ms is None
        assert found.nodes == {1: (api.RaftVoterEndpoint("CONTROLLER", "h", 9093),)}
        fake[1].on(ApiKey.DESCRIBE_QUORUM, quorum.DescribeQuorumResponse())
        with pytest.raises(KafkaError, match="0 metadata logs"):
            await admin.describe_metadata_quorum()
        fake[1].on(ApiKey.ADD_RAFT_VOTER, AddRaftVoterResponse(error_code=ErrorCode.DUPLICATE_VOTER))
        with pytest.raises(KafkaError) as raised:
            await admin.add_raft_voter(2, uuid_to_text(DIRECTORY), [api.RaftVoterEndpoint("CONTROLLER", "h", 1)])
        assert raised.value.code is ErrorCode.DUPLICATE_VOTER
        body = fake[1].received(ApiKey.ADD_RAFT_VOTER)[0]
        assert (body.voter_id, body.voter_directory_id, body.listeners[0].host) == (2, DIRECTORY, "h")
        with pytest.raises(ValueError, match="uuid"):
            await admin.remove_raft_voter(2, "nonsense")

    play(scene)


def test_a_broker_is_unregistered_even_if_the_controller_takes_its_time() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        late = UnregisterBrokerResponse(error_code=ErrorCode.REQUEST_TIMED_OUT)
        fake[1].script(ApiKey.UNREGISTER_BROKER, late, UnregisterBrokerResponse())
        await admin.unregister_broker(7)
        assert len(fake[1].received(ApiKey.UNREGISTER_BROKER)) == 2

    play(scene)


def test_the_first_version_of_config_resources_knows_client_metrics_only() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.LIST_CONFIG_RESOURCES] = (0, 0)
        found = ListConfigResourcesResponse(config_resources=[ConfigResource(resource_name="m", resource_type=16)])
        fake[1].on(ApiKey.LIST_CONFIG_RESOURCES, found)
        assert await admin.list_client_metrics_resources() == ["m"]
        with pytest.raises(UnsupportedVersionError):
            await admin.list_config_resources(api.ConfigType.TOPIC)

    play(scene)


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        (0, ErrorCode.INVALID_REQUEST, None),  # as Kafka 2.1
        (32, ErrorCode.INVALID_REQUEST, "Unknown resource type 32"),  # as Kafka 3.9
    ],
)
def test_what_older_brokers_know_no_settings_of_is_said(kind: int, code: ErrorCode, message: str | None) -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        described = DescribeConfigsResult(
            error_code=code, error_message=message, resource_type=kind, resource_name="g", configs=[]
        )
        altered = AlterConfigsResourceResponse(
            error_code=code, error_message=message, resource_type=kind, resource_name="g"
        )
        fake[1].on(ApiKey.DESCRIBE_CONFIGS, DescribeConfigsResponse(results=[described]))
        fake[1].on(ApiKey.INCREMENTAL_ALTER_CONFIGS, IncrementalAlterConfigsResponse(responses=[altered]))
        group = api.ConfigResource.group("g")
        for call in (admin.describe_configs(group), admin.set_config(group, {"share.auto.offset.reset": "earliest"})):
            with pytest.raises(UnsupportedVersionError, match=r"no settings of groups\. Have brokers of Kafka 4\.0"):
                await call

    play(scene)


def test_producers_are_fenced_by_coordinators_that_may_be_busy() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.coordinators.update({(1, "a"): 1, (1, "b"): 2})
        fake[1].script(ApiKey.INIT_PRODUCER_ID, InitProducerIdResponse(error_code=ErrorCode.CONCURRENT_TRANSACTIONS))
        for broker in fake:
            broker.on(ApiKey.INIT_PRODUCER_ID, InitProducerIdResponse(producer_id=4, producer_epoch=broker.id))
        assert await admin.fence_producers(["a", "b"]) == {"a": (4, 1), "b": (4, 2)}
        assert {call.version for call in fake[2].requests if call.api_key == ApiKey.INIT_PRODUCER_ID} == {5}
        await admin.force_terminate_transaction("b", timeout_s=7)
        assert fake[2].received(ApiKey.INIT_PRODUCER_ID)[-1].transaction_timeout_ms == 7000

    play(scene, brokers=2)


def test_filters_that_a_broker_would_ignore_are_not_sent_to_it() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.LIST_TRANSACTIONS] = (0, 1)
        fake[1].on(ApiKey.LIST_TRANSACTIONS, ListTransactionsResponse(unknown_state_filters=["Empty"]))
        with pytest.raises(UnsupportedVersionError):
            await admin.list_transactions(transactional_id_pattern="pay.*")
        with pytest.raises(KafkaError, match="no transactions of state Empty"):
            await admin.list_transactions(states=[api.TransactionState.EMPTY], running_longer_than_ms=5)

    play(scene)


def test_the_client_has_an_id_where_it_pushes_metrics() -> None:
    async def without(fake: FakeCluster, admin: Admin) -> None:
        with pytest.raises(IllegalStateError, match=r"enable\.metrics\.push"):
            await admin.client_instance_id()

    async def with_push(fake: FakeCluster, admin: Admin) -> None:
        answer = GetTelemetrySubscriptionsResponse(
            client_instance_id=DIRECTORY, subscription_id=1, push_interval_ms=60_000, telemetry_max_bytes=1 << 20
        )
        fake[1].on(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, answer)
        assert await admin.client_instance_id() == uuid_to_text(DIRECTORY)
        assert await admin.client_instance_id(timeout_s=0) == uuid_to_text(DIRECTORY)
        metric = admin.register_metric_for_subscription("queue-length", lambda: 7.0, tags={"queue": "a"})
        assert admin.metrics()[metric] == 7.0
        assert any(name.name == "request-total" for name in admin.metrics())
        admin.unregister_metric_from_subscription(metric)
        assert metric not in admin.metrics()

    play(without)
    play(with_push, enable_metrics_push=True)


def test_a_number_of_the_application_that_cannot_be_read_spoils_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        metric = admin.register_metric_for_subscription("queue-length", lambda: 1 / 0)
        for _ in range(2):
            metrics = admin.metrics()
            assert isnan(metrics[metric])
        assert len(metrics) > 1

    play(scene)
    assert [record.getMessage() for record in caplog.records] == ["The metric queue-length cannot be read"]
