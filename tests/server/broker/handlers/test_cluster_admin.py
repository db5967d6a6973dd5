"""DescribeQuorum, ListConfigResources, UpdateFeatures and the APIs of replicas, through the bytes of every version."""

from __future__ import annotations

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.protocol.messages.create_topics import CreateTopicsRequest
from ottla.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
)
from ottla.protocol.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.protocol.messages.list_config_resources import ListConfigResourcesRequest
from ottla.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from ottla.protocol.messages.unregister_broker import UnregisterBrokerRequest
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from ottla.server.controller.configs import DELETE, SET, Change
from tests.server.broker.handlers.metadata_world import World, run, versions
from tests.server.controller.worlds import topic
from tests.server.raft.worlds import NOW_MS, VOTER

E = ErrorCode
TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32


def quorum_of(name: str, *partitions: int) -> DescribeQuorumRequest:
    asked = [DescribeQuorumRequestPartitionData(partition_index=index) for index in partitions]
    return DescribeQuorumRequest(topics=[DescribeQuorumRequestTopicData(topic_name=name, partitions=asked)])


@pytest.mark.parametrize("version", versions(55))
def test_describe_quorum(version: int) -> None:
    async def test(world: World) -> None:
        response = await world.ask(quorum_of("__cluster_metadata", 0), version)
        (described,) = response.topics
        (partition,) = described.partitions
        (voter,) = partition.current_voters
        end = world.broker.image.offset + 1
        assert (described.topic_name, partition.partition_index, partition.error_code) == ("__cluster_metadata", 0, 0)
        assert (partition.leader_id, partition.leader_epoch, partition.high_watermark) == (1, 1, end)
        assert (voter.replica_id, voter.log_end_offset, partition.observers) == (1, end, [])
        assert voter.last_fetch_timestamp == voter.last_caught_up_timestamp == (NOW_MS if version >= 1 else -1)
        assert voter.replica_directory_id == (VOTER.directory_id if version >= 2 else ZERO_UUID)
        nodes = [(one.node_id, [(ear.name, ear.host, ear.port) for ear in one.listeners]) for one in response.nodes]
        assert nodes == ([(1, [("CONTROLLER", "localhost", 9093)])] if version >= 2 else [])

    run(test)


@pytest.mark.parametrize("version", versions(55))
def test_there_is_no_other_quorum(version: int) -> None:
    async def test(world: World) -> None:
        for asked in (quorum_of("t", 0), quorum_of("__cluster_metadata", 1), quorum_of("__cluster_metadata", 0, 1)):
            response = await world.ask(asked, version)
            codes = {part.error_code for one in response.topics for part in one.partitions}
            assert codes == {E.UNKNOWN_TOPIC_OR_PARTITION}
        assert (await world.ask(DescribeQuorumRequest(topics=[]), version)).topics == []

    run(test)


def test_list_config_resources() -> None:
    async def test(world: World) -> None:
        await world.controller.create_topics(CreateTopicsRequest(topics=[topic("t")]))
        for kind, setting, value in (
            (CLIENT_METRICS, "metrics", "a."),
            (GROUP, "consumer.session.timeout.ms", "50000"),
        ):
            change = Change(setting, SET, value)
            (answer,) = await world.controller.alter_configs([((kind, "one"), [change])])
            assert answer.code == 0

        async def listed(version: int, *types: int) -> list[tuple[int, str]]:
            response = await world.ask(ListConfigResourcesRequest(resource_types=list(types)), version)
            assert response.error_code == 0
            return sorted((one.resource_type, one.resource_name) for one in response.config_resources)

        assert await listed(0) == [(CLIENT_METRICS, "one")]
        everything = [(TOPIC, "t"), (BROKER, "1"), (LOGGER, "1"), (CLIENT_METRICS, "one"), (GROUP, "one")]
        assert await listed(1) == everything
        assert await listed(1, GROUP, TOPIC) == [(TOPIC, "t"), (GROUP, "one")]
        for wrong in (0, 1, 99):
            response = await world.ask(ListConfigResourcesRequest(resource_types=[TOPIC, wrong]), 1)
            assert (response.error_code, response.config_resources) == (E.UNSUPPORTED_VERSION, [])
        await world.controller.alter_configs([((CLIENT_METRICS, "one"), [Change("metrics", DELETE, None)])])
        assert await listed(0) == [], "a subscription without settings is none"

    run(test)


@pytest.mark.parametrize("version", versions(57))
def test_update_features(version: int) -> None:
    async def test(world: World) -> None:
        key = FeatureUpdateKey(feature="metadata.version", max_version_level=31)
        response = await world.ask(UpdateFeaturesRequest(feature_updates=[key]), version)
        assert (response.error_code, len(response.results)) == (0, 1 if version < 2 else 0)
        assert world.broker.image.metadata_version == 31
        key = FeatureUpdateKey(feature="metadata.version", max_version_level=32)
        response = await world.ask(UpdateFeaturesRequest(feature_updates=[key]), version)
        assert response.error_code == E.INVALID_UPDATE_VERSION

    run(test)


@pytest.mark.parametrize("version", versions(43))
def test_elect_leaders(version: int) -> None:
    async def test(world: World) -> None:
        await world.controller.create_topics(CreateTopicsRequest(topics=[topic("t")]))
        asked = [TopicPartitions(topic="t", partitions=[0, 1])]
        response = await world.ask(ElectLeadersRequest(topic_partitions=asked), version)
        (result,) = response.replica_election_results
        codes = [one.error_code for one in result.partition_result]
        assert codes == [E.ELECTION_NOT_NEEDED, E.UNKNOWN_TOPIC_OR_PARTITION]
        if version >= 1:
            response = await world.ask(ElectLeadersRequest(election_type=9, topic_partitions=asked), version)
            assert response.error_code == E.INVALID_REQUEST
            (result,) = response.replica_election_results
            assert [one.error_code for one in result.partition_result] == [E.INVALID_REQUEST] * 2

    run(test)


@pytest.mark.parametrize("version", versions(45))
def test_reassignments(version: int) -> None:
    async def test(world: World) -> None:
        await world.controller.create_topics(CreateTopicsRequest(topics=[topic("t")]))
        codes = []
        for replicas in ([1], [7], None):
            part = ReassignablePartition(partition_index=0, replicas=replicas)
            asked = AlterPartitionReassignmentsRequest(topics=[ReassignableTopic(name="t", partitions=[part])])
            response = await world.ask(asked, version)
            codes.append(response.responses[0].partitions[0].error_code)
        assert codes == [0, E.INVALID_REPLICA_ASSIGNMENT, E.NO_REASSIGNMENT_IN_PROGRESS]
        assert (await world.ask(ListPartitionReassignmentsRequest(topics=None), 0)).topics == []

    run(test)


def test_unregister_broker() -> None:
    async def test(world: World) -> None:
        for broker_id, code in ((7, E.BROKER_ID_NOT_REGISTERED), (1, E.INVALID_REQUEST)):
            response = await world.ask(UnregisterBrokerRequest(broker_id=broker_id), 0)
            assert (response.error_code, bool(response.error_message)) == (code, True)

    run(test)
