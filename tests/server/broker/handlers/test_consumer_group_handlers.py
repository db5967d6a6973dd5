"""Consumer groups over the wire, against a whole node in virtual time: settings, switches, lives of the node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ottla.core.errors import ErrorCode
from ottla.protocol.messages import consumer_group_describe as describing
from ottla.protocol.messages import consumer_group_heartbeat as heartbeats
from ottla.protocol.messages import create_topics, find_coordinator, list_groups, update_features
from ottla.protocol.messages import incremental_alter_configs as configs
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
GROUP = "readers"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 2,
    "group.consumer.assignment.interval.ms": 0,
    "group.consumer.min.session.timeout.ms": 1_000,
    "group.consumer.min.heartbeat.interval.ms": 100,
}
GROUP_RESOURCE = 32


def lives(*mains: Callable[[WireClient], Awaitable[None]], **settings: object) -> None:
    """One node after the other on the same disk, each with a client. Dots in settings are `_`."""
    disk = MemoryDisk()
    config = BrokerConfig.of(SETTINGS | {name.replace("_", "."): value for name, value in settings.items()})
    for seed, main in enumerate(mains):

        async def live(env: SimulatedEnv, main: Callable[[WireClient], Awaitable[None]] = main) -> None:
            node = Node(config, env)
            await node.start()
            async with WireClient.connected(ADDRESS) as client:
                await coordinated(client)
                await main(client)
            await node.stop()

        simulate(live, seed=seed, disk=disk)


async def coordinated(client: WireClient) -> None:
    request = find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=[GROUP])
    while True:
        answer = await client.ask(request, 6, find_coordinator.FindCoordinatorResponse)
        if answer.coordinators[0].error_code == 0:
            return
        await asyncio.sleep(0.05)


async def create(client: WireClient, name: str, partitions: int = 2) -> None:
    topic = create_topics.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
    request = create_topics.CreateTopicsRequest(topics=[topic])
    response = await client.ask(request, 7, create_topics.CreateTopicsResponse)
    assert response.topics[0].error_code == 0


async def beat(client: WireClient, member: str, epoch: int, version: int = 1, **fields: Any) -> Any:
    if epoch == 0:
        fields = {"rebalance_timeout_ms": 60_000, "topic_partitions": []} | fields
    request = heartbeats.ConsumerGroupHeartbeatRequest(group_id=GROUP, member_id=member, member_epoch=epoch, **fields)
    return await client.ask(request, version, heartbeats.ConsumerGroupHeartbeatResponse)


async def describe(client: WireClient, version: int = 1, **fields: Any) -> Any:
    request = describing.ConsumerGroupDescribeRequest(group_ids=[GROUP], **fields)
    answer = await client.ask(request, version, describing.ConsumerGroupDescribeResponse)
    return answer.groups[0]


async def configure(client: WireClient, **settings: str) -> int:
    alterations = [
        configs.AlterableConfig(name=name.replace("_", "."), config_operation=0, value=value)
        for name, value in settings.items()
    ]
    resource = configs.AlterConfigsResource(resource_type=GROUP_RESOURCE, resource_name=GROUP, configs=alterations)
    request = configs.IncrementalAlterConfigsRequest(resources=[resource])
    answer = await client.ask(request, 1, configs.IncrementalAlterConfigsResponse)
    return int(answer.responses[0].error_code)


def partitions_of(assignment: Any) -> list[int]:
    return sorted(index for topic in assignment.topic_partitions for index in topic.partitions)


def test_members_and_their_group_survive_the_node() -> None:
    async def first(client: WireClient) -> None:
        await create(client, "t", 3)
        joined = await beat(client, "a", 0, subscribed_topic_names=["t"], rack_id="r")
        assert (joined.error_code, joined.member_epoch, joined.member_id) == (0, 2, "a")
        assert partitions_of(joined.assignment) == [0, 1, 2]

    async def second(client: WireClient) -> None:
        group = await describe(client, include_authorized_operations=True)
        assert (group.error_code, group.group_state, group.group_epoch, group.assignment_epoch) == (0, "Stable", 2, 2)
        assert (group.assignor_name, group.authorized_operations) == ("uniform", 3400)
        (member,) = group.members
        assert (member.member_id, member.rack_id, member.client_host, member.member_type) == ("a", "r", "/127.0.0.1", 1)
        assert partitions_of(member.assignment) == partitions_of(member.target_assignment) == [0, 1, 2]
        assert (await describe(client, 0)).members[0].member_type == -1
        answer = await beat(client, "a", 2)
        assert (answer.error_code, answer.member_epoch, answer.assignment) == (0, 2, None)
        listed = await client.ask(
            list_groups.ListGroupsRequest(types_filter=["Consumer"]), 5, list_groups.ListGroupsResponse
        )
        assert [(one.group_id, one.group_state, one.group_type) for one in listed.groups] == [
            (GROUP, "Stable", "consumer")
        ]

    lives(first, second)


def test_settings_of_the_group_count_at_once() -> None:
    async def main(client: WireClient) -> None:
        await create(client, "t")
        assert (await beat(client, "a", 0, subscribed_topic_names=["t"])).heartbeat_interval_ms == 500
        # A minute later the group does not move any more.
        for _ in range(3):
            await asyncio.sleep(20)
            answer = await beat(client, "a", 2)
        assert answer.heartbeat_interval_ms == 5_000
        assert await configure(client, consumer_heartbeat_interval_ms="150", consumer_session_timeout_ms="2000") == 0
        assert (await beat(client, "a", 2)).heartbeat_interval_ms == 150
        assert await configure(client, consumer_heartbeat_interval_ms="1") == ErrorCode.INVALID_CONFIG
        await asyncio.sleep(1.9)
        assert (await beat(client, "a", 2)).error_code == 0
        await asyncio.sleep(2.1)
        assert (await beat(client, "a", 2)).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert (await describe(client)).group_state == "Empty"

    lives(main)


def test_topics_that_appear_are_found_by_an_expression() -> None:
    async def main(client: WireClient) -> None:
        await create(client, "logs-1", 1)
        joined = await beat(client, "a", 0, subscribed_topic_regex="logs-.*")
        assert partitions_of(joined.assignment) == []
        await asyncio.sleep(0.1)
        answer = await beat(client, "a", joined.member_epoch)
        assert partitions_of(answer.assignment) == [0]
        await create(client, "logs-2", 2)
        await asyncio.sleep(11)
        await beat(client, "a", answer.member_epoch)
        await asyncio.sleep(0.1)
        answer = await beat(client, "a", answer.member_epoch)
        assert partitions_of(answer.assignment) == [0, 0, 1]
        refused = await beat(client, "b", 0, subscribed_topic_regex="(")
        assert refused.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION
        assert "missing )" in refused.error_message

    lives(main)


def test_without_the_feature_there_are_no_consumer_groups() -> None:
    async def main(client: WireClient) -> None:
        update = update_features.FeatureUpdateKey(feature="group.version", max_version_level=0, upgrade_type=2)
        request = update_features.UpdateFeaturesRequest(feature_updates=[update])
        answer = await client.ask(request, 2, update_features.UpdateFeaturesResponse)
        assert answer.error_code == 0
        await refuses(client)

    lives(main)


def test_without_the_protocol_in_the_settings_there_are_no_consumer_groups() -> None:
    lives(refuses, group_coordinator_rebalance_protocols="classic")


async def refuses(client: WireClient) -> None:
    answer = await beat(client, "a", 0, subscribed_topic_names=["t"])
    assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
    assert (await describe(client)).error_code == ErrorCode.UNSUPPORTED_VERSION
