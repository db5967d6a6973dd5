"""Against a whole node of ours, in virtual time: everything that it serves, through the admin client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ottla import admin as api
from ottla.client.admin.client import Admin
from ottla.client.errors import KafkaError, UnknownTopicError
from ottla.client.model import OffsetAndMetadata, TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from ottla.records.record import Record, build_batch
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data,/more",
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 2,
}
NODE = 1
ORDERS = TopicPartition("orders", 0)
T0 = 1_700_000_000_000


def run(scene: Callable[[Admin], Awaitable[None]]) -> None:
    async def main(env: SimulatedEnv) -> None:
        node = Node(BrokerConfig.of(SETTINGS), env)
        await node.start()
        try:
            async with Admin(ADDRESS) as admin:
                await scene(admin)
        finally:
            await node.stop()

    simulate(main, seed=1)


async def produce(topic: str, *timestamps: int) -> None:
    batch = build_batch([Record(timestamp_ms=timestamp, value=b"x" * 10) for timestamp in timestamps])
    data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=bytes(batch))])
    async with WireClient.connected(ADDRESS) as client:
        response = await client.ask(ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data]), 9, ProduceResponse)
    assert response.responses[0].partition_responses[0].error_code == ErrorCode.NONE


def test_topics_live_and_die() -> None:
    async def scene(admin: Admin) -> None:
        created = await admin.create_topics(
            [api.NewTopic("orders", 3, configs={"retention.ms": 5000}), "plain"], timeout_s=10
        )
        assert created["orders"].num_partitions == 3
        assert created["orders"].configs is not None
        assert created["orders"].configs["retention.ms"].value == "5000"
        with pytest.raises(KafkaError) as raised:
            await admin.create_topics(["orders", "other"], validate_only=True)
        assert raised.value.code is ErrorCode.TOPIC_ALREADY_EXISTS
        assert list(raised.value.results) == ["other"]
        assert set(await admin.list_topics()) == {"orders", "plain"}
        await admin.create_partitions({"orders": 5})
        described = await admin.describe_topics(["orders", "plain"])
        assert [one.partition for one in described["orders"].partitions] == [0, 1, 2, 3, 4]
        assert described["orders"].partitions[0].leader is not None
        topic_id = described["orders"].topic_id
        assert topic_id == created["orders"].topic_id
        assert topic_id is not None
        assert (await admin.describe_topics(topic_ids=topic_id))[topic_id].name == "orders"
        await admin.delete_topics("plain", topic_ids=topic_id)
        assert await admin.list_topics() == {}
        with pytest.raises(UnknownTopicError):
            await admin.describe_topics("orders")

    run(scene)


def test_offsets_of_records() -> None:
    async def scene(admin: Admin) -> None:
        await admin.create_topics("orders")
        await produce("orders", T0, T0 + 10, T0 + 5)
        spec = api.OffsetSpec
        for wanted, offset in (
            (spec.EARLIEST, 0),
            (spec.LATEST, 3),
            (spec.MAX_TIMESTAMP, 1),
            (T0 + 1, 1),
            (T0 + 99, None),
        ):
            assert (await admin.list_offsets({ORDERS: wanted}))[ORDERS].offset == offset
        latest = await admin.list_offsets({ORDERS: spec.LATEST}, isolation_level="read_committed")
        assert latest[ORDERS].offset == 3
        assert await admin.delete_records({ORDERS: 2}) == {ORDERS: 2}
        assert await admin.delete_records({ORDERS: api.DELETE_ALL}) == {ORDERS: 3}
        with pytest.raises(KafkaError) as raised:
            await admin.delete_records({ORDERS: 9})
        assert raised.value.code is ErrorCode.OFFSET_OUT_OF_RANGE

    run(scene)


def test_settings_of_everything_that_has_some() -> None:
    async def scene(admin: Admin) -> None:
        await admin.create_topics("orders")
        resource = api.ConfigResource
        topic = resource.topic("orders")
        await admin.set_config(topic, {"retention.ms": 1000, "cleanup.policy": ["delete"]})
        await admin.incremental_alter_configs({topic: api.AlterConfigOp.append("cleanup.policy", "compact")})
        found = (await admin.describe_configs(topic, include_synonyms=True, include_documentation=True))[topic]
        assert found["retention.ms"].value == "1000"
        assert found["retention.ms"].source is api.ConfigSource.DYNAMIC_TOPIC_CONFIG
        assert found["retention.ms"].type is api.ConfigValueType.LONG
        assert found["retention.ms"].documentation
        assert found["retention.ms"].synonyms[0].value == "1000"
        assert found["cleanup.policy"].value == "delete,compact"
        assert found["max.message.bytes"].is_default
        await admin.set_config(topic, {"retention.ms": None})
        found = (await admin.describe_configs(topic, names=["retention.ms"]))[topic]
        assert list(found) == ["retention.ms"]
        assert found["retention.ms"].is_default
        with pytest.raises(KafkaError) as raised:
            await admin.set_config(topic, {"retention.ms": "soon"}, validate_only=True)
        assert raised.value.code is ErrorCode.INVALID_CONFIG
        await admin.incremental_alter_configs(
            {
                resource.broker(): api.AlterConfigOp.set("log.retention.ms", 7000),
                resource.broker(NODE): api.AlterConfigOp.set("log.cleaner.threads", 1),
                resource.group("g"): api.AlterConfigOp.set("consumer.session.timeout.ms", 50_000),
                resource.client_metrics("m"): api.AlterConfigOp.set("interval.ms", 60_000),
            }
        )
        listed = await admin.list_config_resources([api.ConfigType.GROUP, api.ConfigType.CLIENT_METRICS])
        assert set(listed) == {resource.group("g"), resource.client_metrics("m")}
        assert await admin.list_client_metrics_resources() == ["m"]
        brokers = await admin.describe_configs([resource.broker(NODE), resource.broker()])
        assert brokers[resource.broker(NODE)]["log.retention.ms"].value == "7000"

    run(scene)


def test_groups_and_their_offsets() -> None:
    async def scene(admin: Admin) -> None:
        await admin.create_topics(api.NewTopic("orders", 2))
        second = TopicPartition("orders", 1)
        await admin.alter_consumer_group_offsets("g", {ORDERS: 3, second: OffsetAndMetadata(4, "noted")})
        assert await admin.list_consumer_group_offsets("g") == {
            "g": {ORDERS: OffsetAndMetadata(3), second: OffsetAndMetadata(4, "noted")}
        }
        (listed,) = await admin.list_groups()
        assert (listed.group_id, listed.type, listed.state) == ("g", api.GroupType.CLASSIC, api.GroupState.EMPTY)
        assert listed.is_simple_consumer_group
        described = (await admin.describe_consumer_groups("g"))["g"]
        assert described.is_simple_consumer_group
        assert described.coordinator.id == NODE
        assert (await admin.describe_classic_groups("g"))["g"].members == ()
        await admin.delete_consumer_group_offsets("g", [ORDERS])
        assert await admin.list_consumer_group_offsets({"g": [ORDERS]}) == {"g": {ORDERS: None}}
        with pytest.raises(KafkaError) as raised:
            await admin.delete_consumer_groups(["g", "nobody"])
        assert raised.value.code is ErrorCode.GROUP_ID_NOT_FOUND
        assert list(raised.value.results) == ["g"]
        for describe in (
            admin.describe_consumer_groups,
            admin.describe_classic_groups,
            admin.describe_share_groups,
            admin.describe_streams_groups,
        ):
            with pytest.raises(KafkaError, match="nobody") as missing:
                await describe("nobody")
            assert missing.value.code is ErrorCode.GROUP_ID_NOT_FOUND

    run(scene)


def test_share_groups_start_where_they_are_told() -> None:
    async def scene(admin: Admin) -> None:
        await admin.create_topics("orders")
        await produce("orders", T0, T0 + 1, T0 + 2)
        await admin.alter_share_group_offsets("s", {ORDERS: 1})
        started = (await admin.list_share_group_offsets("s"))["s"][ORDERS]
        assert started is not None
        assert started.start_offset == 1
        assert (await admin.describe_share_groups("s"))["s"].state is api.GroupState.EMPTY
        await admin.delete_share_group_offsets("s", "orders")
        assert (await admin.list_share_group_offsets({"s": [ORDERS]}))["s"] == {ORDERS: None}
        await admin.delete_share_groups("s")

    run(scene)


def test_transactions_and_producers() -> None:
    async def scene(admin: Admin) -> None:
        await admin.create_topics("orders")
        first = await admin.fence_producers("t")
        assert (await admin.fence_producers("t"))["t"].producer_epoch == first["t"].producer_epoch + 1
        described = (await admin.describe_transactions("t"))["t"]
        assert (described.state, described.partitions) == (api.TransactionState.EMPTY, frozenset())
        assert [one.transactional_id for one in await admin.list_transactions()] == ["t"]
        assert await admin.list_transactions(states=[api.TransactionState.ONGOING]) == []
        assert await admin.list_transactions(transactional_id_pattern="other.*") == []
        await admin.force_terminate_transaction("t")
        await produce("orders", T0)
        assert await admin.describe_producers([ORDERS]) == {ORDERS: []}
        with pytest.raises(KafkaError) as raised:
            await admin.describe_transactions("u")
        assert raised.value.code is ErrorCode.TRANSACTIONAL_ID_NOT_FOUND

    run(scene)


def test_log_directories_and_moves_between_them() -> None:
    async def scene(admin: Admin) -> None:
        await admin.create_topics("orders")
        await produce("orders", T0)
        replica = api.TopicPartitionReplica("orders", 0, NODE)
        directories = (await admin.describe_log_dirs(NODE))[NODE]
        assert set(directories) == {"/data", "/more"}
        (here,) = [path for path, one in directories.items() if ORDERS in one.replicas]
        assert directories[here].replicas[ORDERS].size_bytes > 0
        (there,) = set(directories) - {here}
        assert (await admin.describe_replica_log_dirs([replica]))[replica].current_log_dir == here
        await admin.alter_replica_log_dirs({replica: there})
        async with asyncio.timeout(60):
            while (await admin.describe_replica_log_dirs([replica]))[replica].current_log_dir != there:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        with pytest.raises(KafkaError) as raised:
            await admin.alter_replica_log_dirs({replica: "/nowhere"})
        assert raised.value.code is ErrorCode.LOG_DIR_NOT_FOUND

    run(scene)


def test_leaders_and_replicas() -> None:
    async def scene(admin: Admin) -> None:
        await admin.create_topics("orders")
        assert await admin.elect_leaders(api.ElectionType.PREFERRED, [ORDERS]) == {ORDERS: False}
        assert await admin.elect_leaders(api.ElectionType.PREFERRED) == {}
        await admin.alter_partition_reassignments({ORDERS: [NODE]})
        assert await admin.list_partition_reassignments() == {}
        with pytest.raises(KafkaError) as raised:
            await admin.alter_partition_reassignments({ORDERS: [NODE, 9]})
        assert raised.value.code is ErrorCode.INVALID_REPLICA_ASSIGNMENT

    run(scene)


def test_quotas() -> None:
    async def scene(admin: Admin) -> None:
        alice, others = api.ClientQuotaEntity(user="alice"), api.ClientQuotaEntity(user=api.DEFAULT, client_id="c")
        await admin.alter_client_quotas({alice: {"producer_byte_rate": 1024}, others: {"request_percentage": 50}})
        assert await admin.describe_client_quotas() == {
            alice: {"producer_byte_rate": 1024.0},
            others: {"request_percentage": 50.0},
        }
        assert list(await admin.describe_client_quotas(user="alice")) == [alice]
        assert list(await admin.describe_client_quotas(user=api.DEFAULT, client_id=api.ANY)) == [others]
        assert list(await admin.describe_client_quotas(user=api.ANY, strict=True)) == [alice]
        await admin.alter_client_quotas({alice: {"producer_byte_rate": None}})
        assert list(await admin.describe_client_quotas()) == [others]
        with pytest.raises(KafkaError, match="ip 127"):
            await admin.alter_client_quotas({api.ClientQuotaEntity(ip="127.0.0.1"): {"producer_byte_rate": 1}})

    run(scene)


def test_the_cluster_itself() -> None:
    async def scene(admin: Admin) -> None:
        cluster = await admin.describe_cluster(include_authorized_operations=True, include_fenced_brokers=True)
        assert [node.id for node in cluster.nodes] == [NODE]
        assert cluster.controller == cluster.nodes[0]
        assert cluster.authorized_operations is not None
        assert api.AclOperation.CREATE in cluster.authorized_operations
        features = await admin.describe_features()
        assert features.finalized["metadata.version"].max_version > 20
        await admin.update_features({"share.version": 1}, validate_only=True)
        quorum = await admin.describe_metadata_quorum()
        assert quorum.leader_id == NODE
        assert [voter.replica_id for voter in quorum.voters] == [NODE]
        with pytest.raises(KafkaError) as raised:
            await admin.unregister_broker(7)
        assert raised.value.code is ErrorCode.BROKER_ID_NOT_REGISTERED

    run(scene)
