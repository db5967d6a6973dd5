"""Share groups over the wire, against a whole node in virtual time: lives of the node, the feature, malformed keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.topics import SHARE_STATE_TOPIC
from ottla.protocol.messages import alter_share_group_offsets as altering
from ottla.protocol.messages import create_topics, find_coordinator, update_features
from ottla.protocol.messages import delete_groups as deleting
from ottla.protocol.messages import delete_share_group_offsets as deleting_offsets
from ottla.protocol.messages import describe_share_group_offsets as describing
from ottla.protocol.messages import share_group_describe as groups
from ottla.protocol.messages import share_group_heartbeat as heartbeats
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.broker.group_answers import ALL_GROUP_OPERATIONS
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 2,
    "share.coordinator.state.topic.num.partitions": 3,
    "share.coordinator.state.topic.prune.interval.ms": 1_000,
    "share.coordinator.cold.partition.snapshot.interval.ms": 1_000,
}
TOPIC, GROUP = "jobs", "workers"


def lives(*mains: Callable[[WireClient, Node], Awaitable[None]]) -> None:
    """One node after the other on the same disk, each with a client."""
    disk = MemoryDisk()
    for seed, main in enumerate(mains):

        async def live(env: SimulatedEnv, main: Callable[[WireClient, Node], Awaitable[None]] = main) -> None:
            node = Node(BrokerConfig.of(SETTINGS), env)
            await node.start()
            async with WireClient.connected(ADDRESS) as client:
                await coordinated(client)
                await main(client, node)
            await node.stop()

        simulate(live, seed=seed, disk=disk)


async def create(client: WireClient, partitions: int = 2) -> None:
    topic = create_topics.CreatableTopic(name=TOPIC, num_partitions=partitions, replication_factor=1)
    request = create_topics.CreateTopicsRequest(topics=[topic])
    response = await client.ask(request, 7, create_topics.CreateTopicsResponse)
    assert response.topics[0].error_code == 0


async def heartbeat(client: WireClient, epoch: int, topics: list[str] | None = None) -> Any:
    request = heartbeats.ShareGroupHeartbeatRequest(
        group_id=GROUP, member_id="m", member_epoch=epoch, subscribed_topic_names=topics
    )
    return await client.ask(request, 1, heartbeats.ShareGroupHeartbeatResponse)


async def described(client: WireClient) -> Any:
    request = groups.ShareGroupDescribeRequest(group_ids=[GROUP], include_authorized_operations=True)
    return (await client.ask(request, 1, groups.ShareGroupDescribeResponse)).groups[0]


async def coordinated(client: WireClient) -> None:
    """The group's coordinator is there; the first to ask may be the one for whom its topic is made."""
    request = find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=[GROUP])
    found = await client.ask(request, 6, find_coordinator.FindCoordinatorResponse)
    assert found.coordinators[0].error_code == 0
    for _ in range(100):
        if (await described(client)).error_code != ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            return
        await asyncio.sleep(0.01)


async def start_offsets(client: WireClient) -> dict[int, int]:
    asked = describing.DescribeShareGroupOffsetsRequestGroup(group_id=GROUP, topics=None)
    request = describing.DescribeShareGroupOffsetsRequest(groups=[asked])
    response = await client.ask(request, 1, describing.DescribeShareGroupOffsetsResponse)
    assert response.groups[0].error_code == 0
    return {
        partition.partition_index: partition.start_offset
        for topic in response.groups[0].topics
        for partition in topic.partitions
    }


async def alter(client: WireClient, *offsets: int) -> Any:
    partitions = [
        altering.AlterShareGroupOffsetsRequestPartition(partition_index=index, start_offset=offset)
        for index, offset in enumerate(offsets)
    ]
    topic = altering.AlterShareGroupOffsetsRequestTopic(topic_name=TOPIC, partitions=partitions)
    request = altering.AlterShareGroupOffsetsRequest(group_id=GROUP, topics=[topic])
    return await client.ask(request, 0, altering.AlterShareGroupOffsetsResponse)


def test_a_group_goes_through_the_lives_of_its_node() -> None:
    async def first(client: WireClient, node: Node) -> None:
        await create(client)
        joined = await heartbeat(client, 0, [TOPIC])
        assert joined.error_code == 0
        assert [list(topic.partitions) for topic in joined.assignment.topic_partitions] == [[0, 1]]
        assert (await alter(client, 3, 4)).error_code == ErrorCode.NON_EMPTY_GROUP
        assert (await heartbeat(client, -1)).error_code == 0
        assert (await alter(client, 3, 4)).error_code == 0

    async def second(client: WireClient, node: Node) -> None:
        found = await described(client)
        assert (found.error_code, found.group_state, found.members) == (0, "Empty", [])
        assert found.authorized_operations == ALL_GROUP_OPERATIONS
        assert await start_offsets(client) == {0: 3, 1: 4}
        for offset in range(5, 9):
            assert (await alter(client, offset, offset)).error_code == 0
        await asyncio.sleep(3)
        logs = [node.broker.replicas.get(SHARE_STATE_TOPIC, index) for index in range(3)]
        assert any(partition is not None and partition.log.log_start_offset > 0 for partition in logs)

    async def third(client: WireClient, node: Node) -> None:
        assert await start_offsets(client) == {0: 8, 1: 8}
        request = deleting.DeleteGroupsRequest(groups_names=[GROUP, "none"])
        response = await client.ask(request, 2, deleting.DeleteGroupsResponse)
        assert [result.error_code for result in response.results] == [0, ErrorCode.GROUP_ID_NOT_FOUND]
        assert await start_offsets(client) == {}
        assert (await described(client)).error_code == ErrorCode.GROUP_ID_NOT_FOUND

    lives(first, second, third)


def test_without_the_feature_there_are_no_share_groups() -> None:
    async def main(client: WireClient, node: Node) -> None:
        await create(client)
        assert node.broker.image.features["share.version"] == 1
        update = update_features.FeatureUpdateKey(feature="share.version", max_version_level=0, upgrade_type=3)
        request = update_features.UpdateFeaturesRequest(feature_updates=[update])
        response = await client.ask(request, 2, update_features.UpdateFeaturesResponse)
        assert response.error_code == 0, response
        unsupported = ErrorCode.UNSUPPORTED_VERSION
        assert (await heartbeat(client, 0, [TOPIC])).error_code == unsupported
        assert (await described(client)).error_code == unsupported
        assert (await alter(client, 1)).error_code == unsupported
        asked = describing.DescribeShareGroupOffsetsRequestGroup(group_id=GROUP, topics=None)
        offsets = await client.ask(
            describing.DescribeShareGroupOffsetsRequest(groups=[asked]),
            1,
            describing.DescribeShareGroupOffsetsResponse,
        )
        assert offsets.groups[0].error_code == unsupported
        deleted = await client.ask(
            deleting_offsets.DeleteShareGroupOffsetsRequest(group_id=GROUP, topics=[]),
            0,
            deleting_offsets.DeleteShareGroupOffsetsResponse,
        )
        assert deleted.error_code == unsupported

    lives(main)


@pytest.mark.parametrize(("version", "key"), [(6, "g:0"), (6, ""), (5, "g:AAECAwQFBgcICQoLDA0ODw:0")])
def test_malformed_keys_have_no_coordinator_and_make_no_topic(version: int, key: str) -> None:
    async def main(client: WireClient, node: Node) -> None:
        request = find_coordinator.FindCoordinatorRequest(key_type=2, coordinator_keys=[key])
        response = await client.ask(request, version, find_coordinator.FindCoordinatorResponse)
        assert response.coordinators[0].error_code == ErrorCode.INVALID_REQUEST
        assert SHARE_STATE_TOPIC not in node.broker.image.topics.by_name

    lives(main)
