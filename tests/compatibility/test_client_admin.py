"""Our admin client, blocking, against Ottla and Apache Kafka; what needs an authorizer and SASL against the latter."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka import KafkaException
from confluent_kafka import Producer as ConfluentProducer

import ottla
from benchmarks.brokers import KAFKA_HOME, ApacheKafka, free_port
from ottla import KafkaError, TopicPartition
from ottla import admin as api
from ottla.core.errors import ErrorCode
from tests.compatibility.drivers import wait_until
from tests.conftest import SETTINGS, require


@pytest.fixture
def admin(cluster: str) -> Iterator[ottla.Admin]:
    with ottla.Admin(cluster, default_api_timeout_ms=30_000, request_timeout_ms=20_000) as admin:
        yield admin


def produce(bootstrap: str, topic: str, *timestamps: int) -> None:
    producer = ConfluentProducer({"bootstrap.servers": bootstrap})
    for timestamp in timestamps:
        producer.produce(topic, b"value", partition=0, timestamp=timestamp)
    assert producer.flush(20) == 0


@contextmanager
def member(bootstrap: str, group: str, topic: str, **settings: Any) -> Iterator[None]:
    """A consumer of librdkafka that polls in a thread of its own."""
    consumer = ConfluentConsumer(
        {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", **settings}
    )
    consumer.subscribe([topic])
    is_over = threading.Event()

    def poll() -> None:
        while not is_over.is_set():
            consumer.poll(0.1)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        consumer.close()


def code_of(call: Callable[[], object]) -> ErrorCode | None:
    with pytest.raises(KafkaError) as raised:
        call()
    return raised.value.code


def test_topics(admin: ottla.Admin, name: str) -> None:
    second = f"{name}-2"
    created = admin.create_topics([api.NewTopic(name, 2, 1, configs={"retention.ms": 60_000}), second])
    assert created[name].num_partitions == 2
    assert created[name].configs is not None
    assert created[name].configs["retention.ms"].value == "60000"
    assert code_of(lambda: admin.create_topics(name)) is ErrorCode.TOPIC_ALREADY_EXISTS
    wait_until(lambda: {name, second} <= set(admin.list_topics()), "both topics")
    admin.create_partitions({name: 4})
    wait_until(lambda: len(admin.describe_topics(name)[name].partitions) == 4, "four partitions")
    topic = admin.describe_topics(name, include_authorized_operations=True)[name]
    assert topic.topic_id == created[name].topic_id
    assert topic.partitions[0].leader in admin.describe_cluster().nodes
    assert topic.authorized_operations is not None
    assert api.AclOperation.WRITE in topic.authorized_operations
    assert topic.topic_id is not None
    by_id = admin.describe_topics(topic_ids=topic.topic_id)
    assert by_id[topic.topic_id].name == name
    admin.delete_topics(second, topic_ids=[topic.topic_id])
    wait_until(lambda: not {name, second} & set(admin.list_topics()), "the topics' end")


def test_records_by_offset_and_time(admin: ottla.Admin, cluster: str, name: str) -> None:
    admin.create_topics(name)
    now_ms = int(time.time() * 1000)
    produce(cluster, name, now_ms - 50, now_ms, now_ms - 20)
    partition = TopicPartition(name, 0)
    spec = api.OffsetSpec
    for wanted, offset in ((spec.EARLIEST, 0), (spec.LATEST, 3), (spec.MAX_TIMESTAMP, 1), (now_ms - 30, 1)):
        assert admin.list_offsets({partition: wanted})[partition].offset == offset
    assert admin.list_offsets({partition: now_ms + 1000})[partition].offset is None
    assert admin.list_offsets({partition: spec.EARLIEST_LOCAL}, isolation_level="read_committed")[partition].offset == 0
    assert admin.delete_records({partition: 2}) == {partition: 2}
    assert code_of(lambda: admin.delete_records({partition: 7})) is ErrorCode.OFFSET_OUT_OF_RANGE
    assert code_of(lambda: admin.list_offsets({TopicPartition(name, 9): 0})) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_settings(admin: ottla.Admin, name: str) -> None:
    admin.create_topics(name)
    resource = api.ConfigResource
    topic, group, metrics = resource.topic(name), resource.group(name), resource.client_metrics(name)
    admin.set_config(topic, {"max.message.bytes": 4096})
    admin.incremental_alter_configs(
        {
            topic: api.AlterConfigOp.append("cleanup.policy", "compact"),
            group: api.AlterConfigOp.set("share.auto.offset.reset", "earliest"),
            metrics: [api.AlterConfigOp.set("interval.ms", 60_000), api.AlterConfigOp.set("metrics", "")],
        }
    )

    def described() -> dict[str, api.ConfigEntry]:
        return admin.describe_configs(topic, include_synonyms=True, include_documentation=True)[topic]

    wait_until(lambda: described()["max.message.bytes"].value == "4096", "the setting")
    assert described()["max.message.bytes"].source is api.ConfigSource.DYNAMIC_TOPIC_CONFIG
    assert described()["max.message.bytes"].documentation
    assert described()["cleanup.policy"].value == "delete,compact"
    listed = admin.list_config_resources([api.ConfigType.GROUP, api.ConfigType.CLIENT_METRICS])
    assert {group, metrics} <= set(listed)
    assert name in admin.list_client_metrics_resources()
    broker_id = admin.describe_cluster().nodes[0].id
    broker, logger = resource.broker(broker_id), resource.broker_logger(broker_id)
    found = admin.describe_configs([broker, logger])
    assert found[broker]["node.id"].is_read_only
    assert found[logger]
    assert code_of(lambda: admin.set_config(topic, {"retention.ms": "soon"})) is ErrorCode.INVALID_CONFIG
    admin.set_config(metrics, {"interval.ms": None, "metrics": None})


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_consumer_group_with_members(admin: ottla.Admin, cluster: str, name: str, protocol: str) -> None:
    admin.create_topics(api.NewTopic(name, 2))
    partitions = {TopicPartition(name, 0), TopicPartition(name, 1)}
    produce(cluster, name, int(time.time() * 1000))

    def group() -> api.ConsumerGroupDescription | None:
        try:
            return admin.describe_consumer_groups(name, include_authorized_operations=True)[name]
        except KafkaError as error:
            assert error.code is ErrorCode.GROUP_ID_NOT_FOUND  # noqa: PT017 (nobody has joined yet)
            return None

    def is_settled() -> bool:
        found = group()
        return found is not None and found.state is api.GroupState.STABLE and len(found.members) == 1

    with member(cluster, name, name, **{"group.protocol": protocol, "group.instance.id": "one"}):
        wait_until(is_settled, "a member")
        found = group()
        assert found is not None
        assert found.type.value == protocol
        assert found.members[0].assignment == partitions
        assert found.members[0].group_instance_id == "one"
        assert (found.group_epoch is None) == (protocol == "classic")
        assert found.authorized_operations is not None
        assert found.coordinator in admin.describe_cluster().nodes
        listed = {one.group_id: one for one in admin.list_groups(types=[api.GroupType(protocol)])}
        assert listed[name].state is api.GroupState.STABLE
        assert code_of(lambda: admin.delete_consumer_groups(name)) is ErrorCode.NON_EMPTY_GROUP
        refused = code_of(lambda: admin.alter_consumer_group_offsets(name, {TopicPartition(name, 0): 0}))
        assert refused is ErrorCode.UNKNOWN_MEMBER_ID
        held = code_of(lambda: admin.delete_consumer_group_offsets(name, [TopicPartition(name, 0)]))
        assert held is ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        if protocol == "classic":
            (found_member,) = admin.describe_classic_groups(name)[name].members
            assert found_member.metadata
        missing = code_of(lambda: admin.remove_members_from_consumer_group(name, [api.MemberToRemove("two")]))
        assert missing is ErrorCode.UNKNOWN_MEMBER_ID
        admin.remove_members_from_consumer_group(name)
    admin.remove_members_from_consumer_group(name)
    wait_until(lambda: (found := group()) is not None and found.state is api.GroupState.EMPTY, "nobody")
    admin.alter_consumer_group_offsets(name, dict.fromkeys(partitions, 1))
    committed = admin.list_consumer_group_offsets({name: list(partitions)}, require_stable=True)[name]
    assert {partition: offset and offset.offset for partition, offset in committed.items()} == dict.fromkeys(
        partitions, 1
    )
    admin.delete_consumer_group_offsets(name, [TopicPartition(name, 0)])
    assert set(admin.list_consumer_group_offsets(name)[name]) == {TopicPartition(name, 1)}
    admin.delete_consumer_groups(name)
    assert group() is None


def test_a_share_group_with_members(admin: ottla.Admin, cluster: str, name: str) -> None:
    admin.create_topics(name)
    produce(cluster, name, *[int(time.time() * 1000)] * 4)
    admin.set_config(api.ConfigResource.group(name), {"share.auto.offset.reset": "earliest"})
    partition = TopicPartition(name, 0)
    with ottla.ShareConsumer(cluster, group_id=name) as consumer:
        consumer.subscribe([name])
        received: list[object] = []

        def receive() -> bool:
            received.extend(consumer.poll(timeout_s=0.5))
            return len(received) == 4

        wait_until(receive, "four records")
        found = admin.describe_share_groups(name)[name]
        assert found.state is api.GroupState.STABLE
        assert [one.assignment for one in found.members] == [{partition}]
        assert code_of(lambda: admin.delete_share_groups(name)) is ErrorCode.NON_EMPTY_GROUP
        assert code_of(lambda: admin.alter_share_group_offsets(name, {partition: 0})) is ErrorCode.NON_EMPTY_GROUP

    def progress() -> api.SharePartitionOffset | None:
        return admin.list_share_group_offsets(name)[name].get(partition)

    # Apache Kafka notes the new start only with what is acknowledged next; nothing is left all the same.
    wait_until(lambda: (found := progress()) is not None and found.lag == 0, "the acknowledgements")
    wait_until(lambda: admin.describe_share_groups(name)[name].state is api.GroupState.EMPTY, "nobody")
    admin.alter_share_group_offsets(name, {partition: 1})
    wait_until(lambda: (found := progress()) is not None and found.start_offset == 1, "the new start")
    admin.delete_share_group_offsets(name, name)
    assert admin.list_share_group_offsets({name: [partition]})[name] == {partition: None}
    admin.delete_share_groups(name)
    assert code_of(lambda: admin.describe_share_groups(name)) is ErrorCode.GROUP_ID_NOT_FOUND
    assert code_of(lambda: admin.describe_streams_groups(name)) is ErrorCode.GROUP_ID_NOT_FOUND


def test_transactions_are_seen_fenced_and_aborted(admin: ottla.Admin, cluster: str, name: str) -> None:
    admin.create_topics(name)
    partition = TopicPartition(name, 0)
    producer = ConfluentProducer({"bootstrap.servers": cluster, "transactional.id": name})
    producer.init_transactions(20)
    producer.begin_transaction()
    producer.produce(name, b"open", partition=0)
    producer.flush(20)
    described = admin.describe_transactions(name)[name]
    assert described.state is api.TransactionState.ONGOING
    assert described.partitions == {partition}
    assert described.transaction_start_time_ms is not None
    (state,) = admin.describe_producers([partition])[partition]
    assert state.producer_id == described.producer_id
    assert state.current_transaction_start_offset == 0
    listed = admin.list_transactions(states=[api.TransactionState.ONGOING], producer_ids=[described.producer_id])
    assert [one.transactional_id for one in listed] == [name]
    assert admin.list_transactions(transactional_id_pattern=name, running_longer_than_ms=3_600_000) == []
    fenced = admin.fence_producers(name)[name]
    assert fenced.producer_epoch > described.producer_epoch
    wait_until(
        lambda: admin.describe_producers([partition])[partition][0].current_transaction_start_offset is None,
        "the abort marker",
    )
    with pytest.raises(KafkaException):
        producer.commit_transaction(20)
    admin.force_terminate_transaction(name)
    hanging = api.AbortTransactionSpec(partition, fenced.producer_id, 0, 0)
    assert code_of(lambda: admin.abort_transaction(hanging)) in (
        ErrorCode.INVALID_PRODUCER_EPOCH,
        ErrorCode.TRANSACTION_COORDINATOR_FENCED,
    )
    assert code_of(lambda: admin.describe_transactions("nobody")) is ErrorCode.TRANSACTIONAL_ID_NOT_FOUND


def test_partitions_and_directories(admin: ottla.Admin, cluster: str, name: str) -> None:
    admin.create_topics(name)
    produce(cluster, name, 1)
    partition = TopicPartition(name, 0)
    assert admin.elect_leaders(api.ElectionType.PREFERRED, [partition]) == {partition: False}
    broker_id = admin.describe_cluster().nodes[0].id
    admin.alter_partition_reassignments({partition: [broker_id]})
    assert admin.list_partition_reassignments([partition]) == {}
    moved = code_of(lambda: admin.alter_partition_reassignments({partition: [broker_id, 99]}))
    assert moved is ErrorCode.INVALID_REPLICA_ASSIGNMENT
    idle = code_of(lambda: admin.alter_partition_reassignments({partition: None}))
    assert idle is ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
    ((path, directory),) = admin.describe_log_dirs()[broker_id].items()
    assert directory.replicas[partition].size_bytes > 0
    assert directory.total_bytes is not None
    replica = api.TopicPartitionReplica(name, 0, broker_id)
    assert admin.describe_replica_log_dirs([replica])[replica].current_log_dir == path
    admin.alter_replica_log_dirs({replica: path})
    assert code_of(lambda: admin.alter_replica_log_dirs({replica: "/nowhere"})) is ErrorCode.LOG_DIR_NOT_FOUND


def test_quotas(admin: ottla.Admin, name: str) -> None:
    user, everybody = api.ClientQuotaEntity(user=name), api.ClientQuotaEntity(user=name, client_id=api.DEFAULT)
    admin.alter_client_quotas({user: {"producer_byte_rate": 1e9}, everybody: {"consumer_byte_rate": 1e9}})
    wait_until(
        lambda: (
            admin.describe_client_quotas(user=name)
            == {user: {"producer_byte_rate": 1e9}, everybody: {"consumer_byte_rate": 1e9}}
        ),
        "both quotas",
    )
    assert list(admin.describe_client_quotas(user=name, strict=True)) == [user]
    admin.alter_client_quotas({user: {"producer_byte_rate": None}, everybody: {"consumer_byte_rate": None}})
    wait_until(lambda: not admin.describe_client_quotas(user=name), "no quotas")


def test_the_cluster(admin: ottla.Admin) -> None:
    found = admin.describe_cluster(include_authorized_operations=True, include_fenced_brokers=True)
    assert found.cluster_id
    assert found.authorized_operations is not None
    assert found.controller in found.nodes
    assert admin.describe_features().finalized["metadata.version"].max_version >= 25
    assert admin.describe_features(node_id=found.nodes[0].id).supported
    admin.update_features({"group.version": 1}, validate_only=True)
    quorum = admin.describe_metadata_quorum()
    assert quorum.leader_id in [voter.replica_id for voter in quorum.voters]
    assert quorum.high_watermark > 0
    assert code_of(lambda: admin.unregister_broker(77)) is ErrorCode.BROKER_ID_NOT_REGISTERED


def test_calls_from_many_threads_share_the_connections(admin: ottla.Admin, name: str) -> None:
    topics = [f"{name}-{number}" for number in range(8)]
    threads = [threading.Thread(target=admin.create_topics, args=(topic,)) for topic in topics]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: set(topics) <= set(admin.list_topics()), "all topics")
    admin.delete_topics(topics)


# What Ottla does not serve: an authorizer, SASL, a quorum that grows. Against Apache Kafka only.


class SecuredKafka:
    """A node with an authorizer; `sasl` is where one logs in, everybody may do everything on `plain`."""

    def __init__(self, directory: Any) -> None:
        port = free_port()
        heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
        self.kafka = ApacheKafka(directory, settings=SETTINGS, heap=heap)
        controller = f"127.0.0.1:{self.kafka.controller_port}"
        brokers = f"PLAINTEXT://{self.kafka.bootstrap},SASL_PLAINTEXT://127.0.0.1:{port}"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        plain = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_root="secret" user_alice="a";'
        self.kafka.settings |= {
            "listeners": f"{brokers},CONTROLLER://{controller}",
            "advertised.listeners": f"{brokers},CONTROLLER://{controller}",
            "listener.security.protocol.map": (
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT"
            ),
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": plain,
            "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": scram,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS;User:root",
            "delegation.token.secret.key": "for tests only",
        }
        self.plain, self.sasl, self.controller = self.kafka.bootstrap, f"127.0.0.1:{port}", controller

    def admin(self, user: str, password: str, mechanism: str = "PLAIN", **settings: Any) -> ottla.Admin:
        return ottla.Admin(
            self.sasl,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism=mechanism,
            sasl_username=user,
            sasl_password=password,
            **{"default_api_timeout_ms": 30_000, "request_timeout_ms": 20_000} | settings,
        )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    secured = SecuredKafka(tmp_path_factory.mktemp("secured"))
    secured.kafka.start()
    yield secured
    secured.kafka.kill()


@pytest.mark.xdist_group("kafka")
class TestSecuredKafka:
    def test_rules_are_made_found_used_and_removed(self, secured: SecuredKafka, name: str) -> None:
        reads = api.AclBinding(api.AclResourceType.TOPIC, name, "User:alice", api.AclOperation.READ)
        denies = api.AclBinding(
            api.AclResourceType.GROUP,
            name,
            "User:alice",
            api.AclOperation.ALL,
            api.AclPermission.DENY,
            api.AclPatternType.PREFIXED,
            "10.0.0.1",
        )
        with secured.admin("root", "secret") as root, secured.admin("alice", "a") as alice:
            root.create_topics(name)
            wait_until(lambda: name in root.list_topics(), "the topic")
            partition = TopicPartition(name, 0)
            assert code_of(lambda: alice.describe_topics(name)) is ErrorCode.TOPIC_AUTHORIZATION_FAILED
            with pytest.raises(KafkaError, match="ACL") as raised:
                alice.list_offsets({partition: api.OffsetSpec.LATEST})
            assert raised.value.code is ErrorCode.TOPIC_AUTHORIZATION_FAILED
            root.create_acls([reads, denies])
            mine = api.AclFilter(principal="User:alice")
            wait_until(lambda: set(root.describe_acls(mine)) == {reads, denies}, "the rules")
            assert root.describe_acls(api.AclFilter(api.AclResourceType.GROUP)) == [denies]
            operations = alice.describe_topics(name, include_authorized_operations=True)[name].authorized_operations
            assert operations == {api.AclOperation.READ, api.AclOperation.DESCRIBE}
            assert alice.list_offsets({partition: api.OffsetSpec.LATEST})[partition].offset == 0
            refused = code_of(lambda: alice.create_acls(reads))
            assert refused is ErrorCode.CLUSTER_AUTHORIZATION_FAILED
            any_principal = api.AclBinding(api.AclResourceType.ANY, name, "User:alice", api.AclOperation.READ)
            assert code_of(lambda: root.create_acls([reads, any_principal])) is ErrorCode.INVALID_REQUEST
            deleted = root.delete_acls([mine, api.AclFilter(principal="User:nobody")])
            assert [set(found) for found in deleted.values()] == [{reads, denies}, set()]

    @pytest.mark.parametrize("mechanism", [api.ScramMechanism.SCRAM_SHA_256, api.ScramMechanism.SCRAM_SHA_512])
    def test_a_user_logs_in_with_the_password_it_was_given(
        self, secured: SecuredKafka, name: str, mechanism: api.ScramMechanism
    ) -> None:
        with secured.admin("root", "secret") as root:
            root.alter_user_scram_credentials(api.UserScramCredentialUpsertion(name, "wörd", mechanism, 8192))
            wait_until(lambda: name in root.describe_user_scram_credentials(), "the credential")
            assert root.describe_user_scram_credentials(name) == {name: [(mechanism, 8192)]}
            sasl = mechanism.name.replace("_", "-")
            with secured.admin(name, "wörd", sasl) as user:
                assert user.describe_cluster().nodes
            with secured.admin(name, "wrong", sasl, default_api_timeout_ms=20_000) as stranger:
                assert code_of(stranger.describe_cluster) is ErrorCode.SASL_AUTHENTICATION_FAILED
            weak = api.UserScramCredentialUpsertion(name, "word", mechanism, 100)
            assert code_of(lambda: root.alter_user_scram_credentials(weak)) is ErrorCode.UNACCEPTABLE_CREDENTIAL
            root.alter_user_scram_credentials(api.UserScramCredentialDeletion(name, mechanism))
            wait_until(lambda: name not in root.describe_user_scram_credentials(), "the end of the credential")
            assert code_of(lambda: root.describe_user_scram_credentials(name)) is ErrorCode.RESOURCE_NOT_FOUND

    def test_tokens_live_as_long_as_their_owners_say(self, secured: SecuredKafka) -> None:
        with secured.admin("root", "secret") as root, secured.admin("alice", "a") as alice:
            token = alice.create_delegation_token(renewers=["User:root"], max_lifetime_ms=3_600_000)
            assert str(token.owner) == str(token.requester) == "User:alice"
            assert token.max_timestamp_ms - token.issue_timestamp_ms == 3_600_000
            other = root.create_delegation_token(owner="User:alice")
            assert (str(other.owner), str(other.requester)) == ("User:alice", "User:root")
            wait_until(lambda: len(alice.describe_delegation_token()) == 2, "both tokens")
            found = {one.token_id: one for one in root.describe_delegation_token(["User:alice"])}
            assert found[token.token_id] == token
            assert root.renew_delegation_token(token.hmac, renew_period_ms=60_000) <= token.max_timestamp_ms
            assert code_of(lambda: alice.renew_delegation_token(b"nonsense")) is ErrorCode.DELEGATION_TOKEN_NOT_FOUND
            login = {"sasl.jaas.config": self.token_login(token)}
            settings = {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "SCRAM-SHA-256",
                "default.api.timeout.ms": 30_000,
            }
            with ottla.Admin(secured.sasl, settings | login) as by_token:
                wait_until(lambda: self.can_log_in(by_token), "the token at the broker")
                refused = code_of(by_token.create_delegation_token)
                assert refused is ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
            for one in (token, other):
                alice.expire_delegation_token(one.hmac)
            wait_until(lambda: not alice.describe_delegation_token(), "no tokens")
        with ottla.Admin(secured.plain) as anonymous:
            refused = code_of(anonymous.create_delegation_token)
            assert refused is ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED

    @staticmethod
    def token_login(token: api.DelegationToken) -> str:
        password = base64.b64encode(token.hmac).decode()
        module = "org.apache.kafka.common.security.scram.ScramLoginModule"
        return f'{module} required username="{token.token_id}" password="{password}" tokenauth="true";'

    @staticmethod
    def can_log_in(admin: ottla.Admin) -> bool:
        try:
            return bool(admin.describe_cluster().nodes)
        except ottla.KafkaError as error:
            assert error.code is ErrorCode.SASL_AUTHENTICATION_FAILED  # noqa: PT017 (it has not heard of the token yet)
            return False

    def test_controllers_are_asked_directly(self, secured: SecuredKafka, name: str) -> None:
        with ottla.Admin(bootstrap_controllers=secured.controller, default_api_timeout_ms=30_000) as admin:
            cluster = admin.describe_cluster()
            assert cluster.controller is not None
            assert f"{cluster.controller.host}:{cluster.controller.port}" == secured.controller
            quorum = admin.describe_metadata_quorum()
            (voter,) = quorum.voters
            assert quorum.nodes[voter.replica_id][0].listener == "CONTROLLER"
            admin.set_config(api.ConfigResource.broker(), {"log.retention.ms": 3_600_000})
            assert admin.describe_features().finalized
            assert voter.replica_directory_id is not None
            endpoint = api.RaftVoterEndpoint("CONTROLLER", "127.0.0.1", 1)
            directory = voter.replica_directory_id
            assert code_of(lambda: admin.add_raft_voter(1, directory, [endpoint])) is ErrorCode.DUPLICATE_VOTER
            missing = code_of(lambda: admin.remove_raft_voter(9, directory, cluster_id=cluster.cluster_id))
            assert missing is ErrorCode.VOTER_NOT_FOUND
            wrong = code_of(lambda: admin.remove_raft_voter(1, directory, cluster_id="nonsense"))
            assert wrong is ErrorCode.INCONSISTENT_CLUSTER_ID
            assert code_of(admin.list_groups) is ErrorCode.UNSUPPORTED_ENDPOINT_TYPE
            assert code_of(lambda: admin.fence_producers(name)) is ErrorCode.UNSUPPORTED_ENDPOINT_TYPE

    def test_the_client_has_an_id_of_the_clusters_making(self, secured: SecuredKafka) -> None:
        # Apache Kafka has telemetry only with a receiver plugged in.
        with ottla.Admin(secured.plain, enable_metrics_push=True) as admin, pytest.raises(KafkaError):
            admin.client_instance_id(timeout_s=20)


def test_a_client_gets_an_id_from_ottla(bootstrap: str) -> None:
    with ottla.Admin(bootstrap, enable_metrics_push=True) as admin:
        assert len(admin.client_instance_id(timeout_s=20)) == 22
        assert admin.client_instance_id() == admin.client_instance_id()
