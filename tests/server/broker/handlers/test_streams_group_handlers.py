"""Streams groups over the wire, against a whole node in virtual time: topics made, lives of the node, switches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages import create_topics, find_coordinator, list_groups, metadata, update_features
from ottla.protocol.messages import streams_group_describe as describing
from ottla.protocol.messages import streams_group_heartbeat as heartbeats
from ottla.protocol.messages import streams_group_topology_description_update as updating
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.coordinator.streams.topics import StatusCode
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.coordinator.streams_driver import GROUP, join_request, table, word_count
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 2,
    "group.streams.initial.rebalance.delay.ms": 0,
    "group.streams.assignment.interval.ms": 0,
}
PLUGIN = "group.streams.topology.description.plugin.class"
IN_MEMORY = "org.apache.kafka.server.streams.InMemoryTopologyDescriptionPlugin"


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


async def heartbeat(
    client: WireClient, request: heartbeats.StreamsGroupHeartbeatRequest, version: int = 1
) -> heartbeats.StreamsGroupHeartbeatResponse:
    return await client.ask(request, version, heartbeats.StreamsGroupHeartbeatResponse)


def beat(epoch: int, **fields: Any) -> heartbeats.StreamsGroupHeartbeatRequest:
    return heartbeats.StreamsGroupHeartbeatRequest(group_id=GROUP, member_id="a", member_epoch=epoch, **fields)


async def describe(client: WireClient, group_id: str = GROUP, **fields: Any) -> describing.DescribedGroup:
    request = describing.StreamsGroupDescribeRequest(group_ids=[group_id], **fields)
    return (await client.ask(request, 1, describing.StreamsGroupDescribeResponse)).groups[0]


def test_internal_topics_are_made_with_the_settings_that_the_application_wants() -> None:
    async def main(client: WireClient) -> None:
        await create(client, "text", 3)
        first = await heartbeat(client, join_request("a", word_count()))
        assert [each.status_code for each in first.status or ()] == [StatusCode.MISSING_INTERNAL_TOPICS]
        await asyncio.sleep(1)
        second = await heartbeat(client, beat(first.member_epoch))
        assert second.status == []
        assert [each.partitions for each in second.active_tasks or ()] == [[0, 1, 2], [0, 1, 2]]
        asked = metadata.MetadataRequest(topics=None, allow_auto_topic_creation=False)
        found = await client.ask(asked, 12, metadata.MetadataResponse)
        counts = {topic.name: len(topic.partitions) for topic in found.topics}
        assert counts.items() >= {"text": 3, "repartition": 3, "changelog": 3}.items()

    lives(main)


def test_why_a_topic_cannot_be_made_is_told_until_it_is_tried_again() -> None:
    async def main(client: WireClient) -> None:
        await create(client, "text")
        topology = table()
        topology.subtopologies[0].state_changelog_topics[0].topic_configs = [
            heartbeats.KeyValue(key="cleanup.policy", value="keep")
        ]
        epoch = (await heartbeat(client, join_request("a", topology))).member_epoch
        details = []
        for pause in (1, 1, 20, 1):
            await asyncio.sleep(pause)
            (status,) = (await heartbeat(client, beat(epoch))).status or ()
            details.append("Creation failed: changelog (" in status.status_detail)
        # After twice the heartbeat interval it is tried again, and fails again.
        assert details == [True, True, False, True]

    lives(main)


def test_group_outlives_its_broker() -> None:
    epoch = 0

    async def first(client: WireClient) -> None:
        nonlocal epoch
        for name in ("text", "changelog"):
            await create(client, name)
        epoch = (await heartbeat(client, join_request("a", table()))).member_epoch

    async def second(client: WireClient) -> None:
        answer = await heartbeat(client, beat(epoch))
        assert (answer.error_code, answer.member_epoch, answer.active_tasks) == (ErrorCode.NONE, epoch, None)
        described = await describe(client)
        assert (described.group_state, [member.member_id for member in described.members]) == ("Stable", ["a"])
        assert described.members[0].client_host == "/127.0.0.1", "with Kafka's slash"
        listed = await client.ask(
            list_groups.ListGroupsRequest(types_filter=["Streams"]), 5, list_groups.ListGroupsResponse
        )
        assert [(each.group_id, each.protocol_type, each.group_type) for each in listed.groups] == [
            (GROUP, "streams", "streams")
        ]
        await asyncio.sleep(46)
        assert (await describe(client)).group_state == "Empty"

    lives(first, second)


@pytest.mark.parametrize("name", ["__consumer_offsets", "no topic"])
def test_topics_that_no_application_may_use(name: str) -> None:
    async def main(client: WireClient) -> None:
        topology = table()
        topology.subtopologies[0].source_topics = [name]
        answer = await heartbeat(client, join_request("a", topology))
        assert answer.error_code == ErrorCode.STREAMS_INVALID_TOPOLOGY
        assert name in (answer.error_message or "")

    lives(main)


async def refused(client: WireClient) -> None:
    assert (await heartbeat(client, join_request("a", table()))).error_code == ErrorCode.UNSUPPORTED_VERSION
    assert (await describe(client)).error_code == ErrorCode.UNSUPPORTED_VERSION


def test_protocol_that_the_operator_did_not_enable() -> None:
    lives(refused, group_coordinator_rebalance_protocols="classic,consumer")


def test_protocol_that_the_cluster_does_not_have() -> None:
    async def main(client: WireClient) -> None:
        update = update_features.FeatureUpdateKey(feature="streams.version", max_version_level=0, upgrade_type=2)
        request = update_features.UpdateFeaturesRequest(feature_updates=[update])
        response = await client.ask(request, 1, update_features.UpdateFeaturesResponse)
        assert response.error_code == 0
        await refused(client)

    lives(main)


def test_groups_that_are_not_there() -> None:
    async def main(client: WireClient) -> None:
        described = await describe(client, "unknown", include_authorized_operations=True)
        assert (described.error_code, described.authorized_operations) == (ErrorCode.GROUP_ID_NOT_FOUND, -(1 << 31))

    lives(main)


# -- topology descriptions


def description(topology_epoch: int = 0, node_type: int = 1) -> updating.StreamsGroupTopologyDescriptionUpdateRequest:
    node = updating.TopologyDescriptionNode(
        name="source", node_type=node_type, source_topics=["text", "text"], stores=["ignored"], successors=["x"]
    )
    return updating.StreamsGroupTopologyDescriptionUpdateRequest(
        group_id=GROUP,
        member_id="a",
        topology_epoch=topology_epoch,
        topology_description=updating.TopologyDescription(
            subtopologies=[updating.TopologyDescriptionSubtopology(subtopology_id="0", nodes=[node])]
        ),
    )


async def update(client: WireClient, request: updating.StreamsGroupTopologyDescriptionUpdateRequest) -> ErrorCode:
    response = await client.ask(request, 0, updating.StreamsGroupTopologyDescriptionUpdateResponse)
    return ErrorCode(response.error_code)


def test_descriptions_are_asked_for_kept_and_shown() -> None:
    async def first(client: WireClient) -> None:
        for name in ("text", "changelog"):
            await create(client, name)
        epoch = (await heartbeat(client, join_request("a", table()))).member_epoch
        described = await describe(client, include_topology_description=True)
        assert (described.topology_description, described.topology_description_status) == (None, 1)
        assert (await heartbeat(client, beat(epoch))).topology_description_required
        # Nobody else is asked for a while; then again.
        assert not (await heartbeat(client, beat(epoch))).topology_description_required
        await asyncio.sleep(31)
        assert (await heartbeat(client, beat(epoch))).topology_description_required
        assert await update(client, description(topology_epoch=1)) is ErrorCode.INVALID_REQUEST
        assert await update(client, description(node_type=9)) is ErrorCode.INVALID_REQUEST
        stranger = description()
        stranger.member_id = "b"
        assert await update(client, stranger) is ErrorCode.UNKNOWN_MEMBER_ID
        assert await update(client, description()) is ErrorCode.NONE
        described = await describe(client, include_topology_description=True)
        assert described.topology_description_status == 3
        assert described.topology_description is not None
        (node,) = described.topology_description.subtopologies[0].nodes
        assert (node.name, node.source_topics, node.stores, node.successors) == ("source", ["text"], [], ["x"])
        assert (await describe(client)).topology_description_status == 0
        await asyncio.sleep(31)
        assert not (await heartbeat(client, beat(epoch))).topology_description_required

    async def second(client: WireClient) -> None:
        epoch = (await describe(client)).group_epoch
        assert (await heartbeat(client, beat(epoch))).topology_description_required

    lives(first, second, **{PLUGIN: IN_MEMORY})


def test_descriptions_are_not_kept_unless_wanted() -> None:
    async def main(client: WireClient) -> None:
        for name in ("text", "changelog"):
            await create(client, name)
        epoch = (await heartbeat(client, join_request("a", table()))).member_epoch
        assert not (await heartbeat(client, beat(epoch))).topology_description_required
        assert await update(client, description()) is ErrorCode.UNSUPPORTED_VERSION

    lives(main)
