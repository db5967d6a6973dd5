"""Permissions on a whole node in virtual time: what groups of all kinds find out about topics, and may have made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ottla.core.errors import ErrorCode
from ottla.protocol.messages import (
    alter_configs,
    consumer_group_heartbeat,
    create_topics,
    find_coordinator,
    incremental_alter_configs,
    metadata,
    streams_group_heartbeat,
)
from ottla.schema.config import BrokerConfig
from ottla.server.coordinator.streams.topics import StatusCode
from ottla.server.metadata.image import ConfigResourceType
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.broker.permissions.worlds import (
    ALTER_CONFIGS,
    CLUSTER,
    CREATE,
    DESCRIBE,
    GROUP,
    PLUGIN,
    READ,
    TOPIC,
    PluggedAuthorizer,
    on,
)
from tests.server.broker.share.share_world import TOPIC as SHARED_TOPIC
from tests.server.broker.share.share_world import ShareWorld
from tests.server.broker.share.share_world import run as run_share_world
from tests.server.coordinator.streams_driver import GROUP as STREAMS_GROUP
from tests.server.coordinator.streams_driver import join_request, word_count
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 1,
    "group.consumer.heartbeat.interval.ms": 5000,
    "group.streams.initial.rebalance.delay.ms": 0,
    "group.streams.assignment.interval.ms": 0,
    "authorizer.class.name": PLUGIN,
}
NOT_TOPIC = ErrorCode.TOPIC_AUTHORIZATION_FAILED
Main = Callable[[WireClient, PluggedAuthorizer], Awaitable[None]]


def authorizer_of(node: Node) -> PluggedAuthorizer:
    authorizer = node.broker.authorizer
    assert isinstance(authorizer, PluggedAuthorizer)
    return authorizer


def run(main: Main, *topics: str) -> None:
    async def live(env: SimulatedEnv) -> None:
        node = Node(BrokerConfig.of(SETTINGS), env)
        await node.start()
        async with WireClient.connected(ADDRESS) as client:
            wanted = [
                create_topics.CreatableTopic(name=name, num_partitions=2, replication_factor=1) for name in topics
            ]
            request = create_topics.CreateTopicsRequest(topics=wanted)
            made = await client.ask(request, 7, create_topics.CreateTopicsResponse)
            assert not any(topic.error_code for topic in made.topics)
            asked = find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=["g"])
            await client.ask(asked, 6, find_coordinator.FindCoordinatorResponse)
            await asyncio.sleep(1)  # the coordinator reads its partition
            await main(client, authorizer_of(node))
        await node.stop()

    simulate(live, seed=1)


async def consume(client: WireClient, member: str, epoch: int, **fields: Any) -> Any:
    if epoch == 0:
        fields = {"rebalance_timeout_ms": 10_000, "topic_partitions": [], "subscribed_topic_names": []} | fields
    request = consumer_group_heartbeat.ConsumerGroupHeartbeatRequest(
        group_id="g", member_id=member, member_epoch=epoch, **fields
    )
    return await client.ask(request, 1, consumer_group_heartbeat.ConsumerGroupHeartbeatResponse)


def test_an_expression_finds_the_topics_that_the_member_may_describe() -> None:
    async def main(client: WireClient, authorizer: PluggedAuthorizer) -> None:
        authorizer.close(*on(READ, GROUP, "g"), *on(DESCRIBE, TOPIC, "orders-1"))
        first = await consume(client, "m", 0, subscribed_topic_regex="orders-.*")
        assert first.error_code == ErrorCode.NONE
        await asyncio.sleep(6)
        second = await consume(client, "m", first.member_epoch)
        (topic,) = second.assignment.topic_partitions
        assert list(topic.partitions) == [0, 1]
        # What it may describe later it finds when it is looked for again.
        authorizer.allow(*on(DESCRIBE, TOPIC, "orders-2"))
        epoch, found = second.member_epoch, 1
        for _ in range(150):
            await asyncio.sleep(5)
            answer = await consume(client, "m", epoch)
            epoch = answer.member_epoch
            if answer.assignment is not None:
                found = len(answer.assignment.topic_partitions)
        assert found == 2

    run(main, "orders-1", "orders-2")


def test_names_that_one_may_not_describe_are_refused() -> None:
    async def main(client: WireClient, authorizer: PluggedAuthorizer) -> None:
        authorizer.close(*on(READ, GROUP, "g"), *on(DESCRIBE, TOPIC, "orders-1"))
        for name in ("orders-2", "none"):
            refused = await consume(client, "m", 0, subscribed_topic_names=["orders-1", name])
            assert refused.error_code == NOT_TOPIC
        assert (await consume(client, "m", 0, subscribed_topic_names=["orders-1"])).error_code == ErrorCode.NONE

    run(main, "orders-1", "orders-2")


def test_internal_topics_of_streams_applications_are_made_for_those_who_may_create_them() -> None:
    async def main(client: WireClient, authorizer: PluggedAuthorizer) -> None:
        async def beat(request: Any) -> Any:
            return await client.ask(request, 1, streams_group_heartbeat.StreamsGroupHeartbeatResponse)

        internal = ("repartition", "changelog")
        reads = on(READ, GROUP, STREAMS_GROUP)
        authorizer.close(*reads, *on(DESCRIBE, TOPIC, "text", "repartition"))
        assert (await beat(join_request("a", word_count()))).error_code == NOT_TOPIC
        authorizer.close(*reads, *on(DESCRIBE, TOPIC, "text", *internal), *on(CREATE, TOPIC, "changelog"))
        first = await beat(join_request("a", word_count()))
        (status,) = first.status
        assert status.status_code == StatusCode.MISSING_INTERNAL_TOPICS
        assert status.status_detail.endswith("; Unauthorized to CREATE on topics repartition.")
        await asyncio.sleep(1)
        authorizer.allow(*on(CREATE, CLUSTER))
        again = streams_group_heartbeat.StreamsGroupHeartbeatRequest(
            group_id=STREAMS_GROUP, member_id="a", member_epoch=first.member_epoch
        )
        await beat(again)
        await asyncio.sleep(1)
        asked = metadata.MetadataRequest(topics=None, allow_auto_topic_creation=False)
        found = await client.ask(asked, 12, metadata.MetadataResponse)
        assert {topic.name for topic in found.topics} == {"text", *internal}

    run(main, "text")


def test_settings_are_changed_by_those_who_may() -> None:
    kinds = ConfigResourceType
    wanted = [(kinds.TOPIC, "orders"), (kinds.TOPIC, "secrets"), (kinds.BROKER, ""), (kinds.BROKER_LOGGER, "1")]
    refusals = [
        ErrorCode.NONE,
        NOT_TOPIC,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    ]

    def change(module: Any, kind: ConfigResourceType, name: str) -> Any:
        setting = {"name": "retention.ms" if kind is kinds.TOPIC else "log.cleaner.threads", "value": "2"}
        return module.AlterConfigsResource(
            resource_type=kind, resource_name=name, configs=[module.AlterableConfig(**setting)]
        )

    async def main(client: WireClient, authorizer: PluggedAuthorizer) -> None:
        authorizer.close(*on(ALTER_CONFIGS, TOPIC, "orders"))
        changes = [change(incremental_alter_configs, *one) for one in wanted]
        request: Any = incremental_alter_configs.IncrementalAlterConfigsRequest(resources=changes)
        answer = await client.ask(request, 1, incremental_alter_configs.IncrementalAlterConfigsResponse)
        assert [one.error_code for one in answer.responses] == refusals
        request = alter_configs.AlterConfigsRequest(resources=[change(alter_configs, *one) for one in wanted[:3]])
        answer = await client.ask(request, 2, alter_configs.AlterConfigsResponse)
        assert [one.error_code for one in answer.responses] == refusals[:3]
        # What is wrong with the request is said before anybody is asked.
        request = alter_configs.AlterConfigsRequest(resources=[change(alter_configs, kinds.TOPIC, "secrets")] * 2)
        answer = await client.ask(request, 2, alter_configs.AlterConfigsResponse)
        assert {one.error_code for one in answer.responses} == {ErrorCode.INVALID_REQUEST}

    run(main, "orders", "secrets")


def test_share_consumers_read_and_acknowledge_what_they_may_read() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"a", b"b")
        authorizer = authorizer_of(world.node)
        async with world.worker() as worker:
            assert (await worker.fetch())[0].offsets == [0, 1]
            authorizer.close(*on(READ, GROUP, worker.group_id))
            refused = (await worker.fetch({0: [(0, 0, [1])]}))[0]
            assert (refused.code, refused.acknowledge_code) == (NOT_TOPIC, NOT_TOPIC)
            assert await worker.acknowledge((0, 1, [1])) == NOT_TOPIC
            authorizer.allow(*on(READ, TOPIC, SHARED_TOPIC))
            assert await worker.acknowledge((0, 1, [1])) == ErrorCode.NONE

    run_share_world(main, authorizer_class_name=PLUGIN)
