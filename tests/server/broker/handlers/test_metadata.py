"""Metadata, DescribeTopicPartitions and DescribeCluster in all their versions."""

from __future__ import annotations

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages import metadata_records as records
from ottla.protocol.messages.create_topics import CreateTopicsRequest
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest
from ottla.protocol.messages.describe_topic_partitions import Cursor, DescribeTopicPartitionsRequest, TopicRequest
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from tests.server.broker.handlers.metadata_world import World, run, versions
from tests.server.controller.worlds import topic

E = ErrorCode
NOT_ASKED = -2147483648


def named(*names: str | None, **fields: object) -> MetadataRequest:
    return MetadataRequest(topics=[MetadataRequestTopic(name=name) for name in names], **fields)


async def create(world: World, **topics: int) -> None:
    asked = [topic(name, count) for name, count in topics.items()]
    await world.controller.create_topics(CreateTopicsRequest(topics=asked))


@pytest.mark.parametrize("version", versions(3))
def test_a_topic_in_every_version(version: int) -> None:
    async def test(world: World) -> None:
        await create(world, a=2, b=1)
        response = await world.ask(named("a"), version)
        assert [(one.node_id, one.host, one.port) for one in response.brokers] == [(1, "host-1", 9092)]
        (described,) = response.topics
        assert (described.error_code, described.name, described.is_internal) == (0, "a", False)
        for index, partition in enumerate(described.partitions):
            assert (partition.error_code, partition.partition_index, partition.leader_id) == (0, index, 1)
            assert (partition.replica_nodes, partition.isr_nodes, partition.offline_replicas) == ([1], [1], [])
            assert partition.leader_epoch == (0 if version >= 7 else -1)
        assert len(described.partitions) == 2
        assert response.controller_id == (1 if version >= 1 else -1)
        assert response.cluster_id == ("cluster" if version >= 2 else None)
        assert (described.topic_id != ZERO_UUID) == (version >= 10)
        assert described.topic_authorized_operations == response.cluster_authorized_operations == NOT_ASKED

    run(test)


@pytest.mark.parametrize("version", versions(3))
def test_all_topics_and_none(version: int) -> None:
    async def test(world: World) -> None:
        await create(world, a=1, b=1)
        empty = await world.ask(MetadataRequest(topics=[]), version)
        assert len(empty.topics) == (2 if version == 0 else 0)
        if version >= 1:
            everything = await world.ask(MetadataRequest(topics=None), version)
            assert [one.name for one in everything.topics] == ["a", "b"]

    run(test)


@pytest.mark.parametrize("version", versions(3))
def test_a_missing_topic_is_made_before_the_answer(version: int) -> None:
    async def test(world: World) -> None:
        response = await world.ask(named("new", "bad name"), version)
        made, bad = response.topics
        assert (made.name, made.error_code, len(made.partitions)) == ("new", 0, 3)
        assert made.partitions[0].leader_id == 1
        assert (bad.name, bad.error_code) == ("bad name", E.INVALID_TOPIC_EXCEPTION)
        if version >= 4:
            response = await world.ask(named("other", allow_auto_topic_creation=False), version)
            assert response.topics[0].error_code == E.UNKNOWN_TOPIC_OR_PARTITION
        assert list(world.broker.image.topics.by_name) == ["new"]

    run(test, {"num_partitions": 3})


def test_no_topic_is_made_when_the_broker_forbids_it() -> None:
    async def test(world: World) -> None:
        response = await world.ask(named("new"), 12)
        assert response.topics[0].error_code == E.UNKNOWN_TOPIC_OR_PARTITION
        assert not world.broker.image.topics.by_name

    run(test, {"auto_create_topics_enable": False})


def test_a_topic_that_cannot_be_made_says_why() -> None:
    async def test(world: World) -> None:
        await create(world, **{"a.b": 1})
        (response,) = (await world.ask(named("a_b"), 12)).topics
        assert response.error_code == E.INVALID_TOPIC_EXCEPTION

    run(test)


def test_internal_topics() -> None:
    async def test(world: World) -> None:
        (response,) = (await world.ask(named("__consumer_offsets"), 12)).topics
        assert response.is_internal
        assert len(response.partitions) == 4

    run(test, {"offsets.topic.num.partitions": 4})


@pytest.mark.parametrize("version", [12, 13])
def test_topic_ids(version: int) -> None:
    async def test(world: World) -> None:
        await create(world, a=1)
        topic_id = world.broker.image.topics.by_name["a"].topic_id
        unknown = bytes([7] * 16)
        asked = [MetadataRequestTopic(topic_id=one) for one in (topic_id, unknown, topic_id)]
        response = await world.ask(MetadataRequest(topics=asked), version)
        assert [(one.name, one.topic_id, one.error_code) for one in response.topics] == [
            ("a", topic_id, 0),
            (None, unknown, E.UNKNOWN_TOPIC_ID),
        ]

    run(test)


@pytest.mark.parametrize("version", [10, 11])
def test_versions_with_ids_on_the_wire_but_not_in_the_question(version: int) -> None:
    async def test(world: World) -> None:
        await create(world, a=1)
        topic_id = world.broker.image.topics.by_name["a"].topic_id
        asked = [MetadataRequestTopic(name="a", topic_id=topic_id), MetadataRequestTopic(name=None, topic_id=topic_id)]
        response = await world.ask(MetadataRequest(topics=asked), version)
        assert [(one.name, one.error_code) for one in response.topics] == [
            ("a", E.INVALID_REQUEST),
            ("", E.INVALID_REQUEST),
        ]

    run(test)


def test_names_asked_for_twice_are_answered_once() -> None:
    async def test(world: World) -> None:
        await create(world, a=1)
        assert len((await world.ask(named("a", "a"), 12)).topics) == 1

    run(test)


def test_authorized_operations_on_request() -> None:
    async def test(world: World) -> None:
        await create(world, a=1)
        asked = named("a", include_topic_authorized_operations=True, include_cluster_authorized_operations=True)
        response = await world.ask(asked, 10)
        # What Apache Kafka answers without an authorizer.
        assert response.topics[0].topic_authorized_operations == 3576
        assert response.cluster_authorized_operations == 8096

    run(test)


async def without_leader(world: World) -> None:
    await create(world, a=1)
    topic_id = world.broker.image.topics.by_name["a"].topic_id
    await world.write(records.PartitionChangeRecord(partition_id=0, topic_id=topic_id, leader=-1))


@pytest.mark.parametrize("version", [0, 5, 12])
def test_a_partition_without_leader(version: int) -> None:
    async def test(world: World) -> None:
        await without_leader(world)
        (partition,) = (await world.ask(named("a"), version)).topics[0].partitions
        assert (partition.error_code, partition.leader_id) == (E.LEADER_NOT_AVAILABLE, -1)

    run(test)


@pytest.mark.parametrize(("version", "code"), [(5, E.LEADER_NOT_AVAILABLE), (6, E.LISTENER_NOT_FOUND)])
def test_a_leader_without_the_listener(version: int, code: ErrorCode) -> None:
    async def test(world: World) -> None:
        await create(world, a=1)
        response = await world.ask(named("a"), version, listener_name="OTHER")
        assert response.brokers == []
        (partition,) = response.topics[0].partitions
        assert (partition.error_code, partition.leader_id, partition.offline_replicas) == (code, -1, [1])

    run(test)


@pytest.mark.parametrize("version", [0, 1])
def test_unavailable_replicas(version: int) -> None:
    async def test(world: World) -> None:
        await create(world, a=1)
        topic_id = world.broker.image.topics.by_name["a"].topic_id
        await world.write(
            records.PartitionChangeRecord(
                partition_id=0, topic_id=topic_id, replicas=[1, 2], isr=[1, 2], directories=[bytes(16), bytes(16)]
            )
        )
        (partition,) = (await world.ask(named("a"), version)).topics[0].partitions
        if version == 0:
            assert (partition.error_code, partition.replica_nodes) == (E.REPLICA_NOT_AVAILABLE, [1])
        else:
            assert (partition.error_code, partition.replica_nodes, partition.isr_nodes) == (0, [1, 2], [1, 2])
        (partition,) = (await world.ask(named("a"), 12)).topics[0].partitions
        assert partition.offline_replicas == [2]

    run(test)


def test_a_replica_in_a_failed_directory_is_offline() -> None:
    async def test(world: World) -> None:
        await create(world, a=1)
        topic_id = world.broker.image.topics.by_name["a"].topic_id
        lost = bytes(15) + b"\x02"
        await world.write(records.PartitionChangeRecord(partition_id=0, topic_id=topic_id, directories=[lost]))
        (partition,) = (await world.ask(named("a"), 12)).topics[0].partitions
        assert partition.offline_replicas == [1]

    run(test)


# DescribeTopicPartitions


def pages(*names: str, limit: int = 2000, cursor: Cursor | None = None) -> DescribeTopicPartitionsRequest:
    topics = [TopicRequest(name=name) for name in names]
    return DescribeTopicPartitionsRequest(topics=topics, response_partition_limit=limit, cursor=cursor)


@pytest.mark.parametrize("names", [(), ("a", "b", "c")])
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_pages_give_every_partition_once(names: tuple[str, ...], limit: int) -> None:
    async def test(world: World) -> None:
        await create(world, b=5, c=1, a=3)
        seen: list[tuple[str, int]] = []
        cursor: Cursor | None = None
        for _ in range(20):
            response = await world.ask(pages(*names, limit=limit, cursor=cursor), 0)
            page = [(one.name, partition.partition_index) for one in response.topics for partition in one.partitions]
            assert 0 < len(page) <= limit
            seen += page
            cursor = response.next_cursor
            if cursor is None:
                break
        assert seen == [("a", i) for i in range(3)] + [("b", i) for i in range(5)] + [("c", 0)]

    run(test)


def test_details_and_unknown_topics() -> None:
    async def test(world: World) -> None:
        await create(world, a=1)
        response = await world.ask(pages("nope", "bad name", "a"), 0)
        known, bad, unknown = response.topics
        (partition,) = known.partitions
        assert (partition.leader_id, partition.replica_nodes, partition.isr_nodes) == (1, [1], [1])
        assert (partition.eligible_leader_replicas, partition.last_known_elr) == ([], [])
        assert known.topic_authorized_operations == 3576
        assert (bad.name, bad.error_code) == ("bad name", E.INVALID_TOPIC_EXCEPTION)
        assert (unknown.name, unknown.error_code) == ("nope", E.UNKNOWN_TOPIC_OR_PARTITION)

    run(test)


def test_the_brokers_limit_counts_too() -> None:
    async def test(world: World) -> None:
        await create(world, a=5)
        response = await world.ask(pages("a"), 0)
        assert len(response.topics[0].partitions) == 2
        assert response.next_cursor == Cursor(topic_name="a", partition_index=2)

    run(test, {"max.request.partition.size.limit": 2})


@pytest.mark.parametrize("cursor", [Cursor(topic_name="z"), Cursor(topic_name="a", partition_index=-1)])
def test_cursors_that_do_not_fit(cursor: Cursor) -> None:
    async def test(world: World) -> None:
        await create(world, a=1)
        response = await world.ask(pages("a", cursor=cursor), 0)
        assert [one.error_code for one in response.topics] == [E.INVALID_REQUEST]

    run(test)


def test_a_cursor_behind_the_end() -> None:
    async def test(world: World) -> None:
        await create(world, a=2, b=1)
        response = await world.ask(pages(cursor=Cursor(topic_name="a", partition_index=9)), 0)
        assert [(one.name, len(one.partitions)) for one in response.topics] == [("a", 0), ("b", 1)]

    run(test)


# DescribeCluster


@pytest.mark.parametrize("version", versions(60))
def test_the_cluster(version: int) -> None:
    async def test(world: World) -> None:
        await world.write(
            records.RegisterBrokerRecord(
                broker_id=2,
                broker_epoch=9,
                end_points=[records.BrokerEndpoint(name="PLAINTEXT", host="host-2", port=1, security_protocol=0)],
                rack="r",
            )
        )
        response = await world.ask(DescribeClusterRequest(), version)
        assert (response.error_code, response.cluster_id, response.controller_id) == (0, "cluster", 1)
        assert [(one.broker_id, one.host, one.port) for one in response.brokers] == [(1, "host-1", 9092)]
        assert response.cluster_authorized_operations == NOT_ASKED
        asked = DescribeClusterRequest(include_cluster_authorized_operations=True)
        assert (await world.ask(asked, version)).cluster_authorized_operations == 8096
        if version >= 2:
            everybody = await world.ask(DescribeClusterRequest(include_fenced_brokers=True), version)
            assert [(one.broker_id, one.is_fenced) for one in everybody.brokers] == [(1, False), (2, True)]
        if version >= 1:
            controllers = await world.ask(DescribeClusterRequest(endpoint_type=2), version)
            assert controllers.error_code == E.MISMATCHED_ENDPOINT_TYPE
            nothing = await world.ask(DescribeClusterRequest(endpoint_type=3), version)
            assert nothing.error_code == E.UNSUPPORTED_ENDPOINT_TYPE

    run(test)
