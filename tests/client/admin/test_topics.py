"""Topics: what is sent, by which version, and how descriptions come together from pages."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.admin import AclOperation, AlterConfigOp, ConfigSource, NewPartitions, NewTopic
from ottla.client.admin.client import Admin
from ottla.client.admin.configs import config_text
from ottla.client.errors import KafkaError, UnknownTopicError, UnsupportedVersionError
from ottla.core.errors import ErrorCode
from ottla.core.ids import uuid_to_text
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages import describe_topic_partitions as pages
from ottla.protocol.messages.create_partitions import CreatePartitionsResponse, CreatePartitionsTopicResult
from ottla.protocol.messages.create_topics import CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse
from ottla.protocol.messages.delete_topics import DeletableTopicResult, DeleteTopicsResponse
from ottla.protocol.messages.metadata import MetadataResponse
from tests.client.admin.scenes import play
from tests.client.network.fake_broker import FakeCluster


def page(request: Any, cluster: FakeCluster, limit: int) -> pages.DescribeTopicPartitionsResponse:
    """As a broker answers that fits `limit` partitions into a response."""
    response = pages.DescribeTopicPartitionsResponse()
    start = (request.cursor.topic_name, request.cursor.partition_index) if request.cursor else ("", 0)
    for name in sorted(one.name for one in request.topics):
        if name < start[0]:
            continue
        topic = cluster.topics.get(name)
        if topic is None:
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            response.topics.append(pages.DescribeTopicPartitionsResponseTopic(name=name, error_code=code))
            continue
        described = pages.DescribeTopicPartitionsResponseTopic(name=name, topic_id=topic.id)
        response.topics.append(described)
        for number, partition in enumerate(topic.partitions):
            if (name, number) < start:
                continue
            if not limit:
                response.next_cursor = pages.Cursor(topic_name=name, partition_index=number)
                return response
            limit -= 1
            described.partitions.append(
                pages.DescribeTopicPartitionsResponsePartition(
                    partition_index=number,
                    leader_id=partition.leader,
                    leader_epoch=3,
                    replica_nodes=[1, 2],
                    isr_nodes=[1],
                    eligible_leader_replicas=[2],
                )
            )
    return response


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_pages_of_any_size_make_the_same_description(limit: int) -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        for name, partitions in (("a", 3), ("b", 1), ("c", 5)):
            fake.add_topic(name, partitions)
        fake[1].on(ApiKey.DESCRIBE_TOPIC_PARTITIONS, lambda request, call: page(request, fake, limit))
        described = await admin.describe_topics(["c", "a", "b"])
        assert list(described) == ["c", "a", "b"]
        assert [[one.partition for one in topic.partitions] for topic in described.values()] == [
            [0, 1, 2, 3, 4],
            [0, 1, 2],
            [0],
        ]
        first = described["a"].partitions[0]
        assert first.leader is not None
        assert first.leader.port == fake[1].port
        assert first.leader_epoch == 3
        assert [node.id for node in first.replicas] == [1, 2]
        assert [node.id for node in first.eligible_leader_replicas or ()] == [2]
        assert first.last_known_eligible_leader_replicas is None
        with pytest.raises(UnknownTopicError) as raised:
            await admin.describe_topics(["a", "nope"])
        assert list(raised.value.results) == ["a"]

    play(scene)


def test_a_broker_that_pages_in_a_circle_is_not_followed_for_ever() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.add_topic("a")
        cursor = pages.Cursor(topic_name="a", partition_index=0)
        fake[1].on(
            ApiKey.DESCRIBE_TOPIC_PARTITIONS, pages.DescribeTopicPartitionsResponse(topics=[], next_cursor=cursor)
        )
        with pytest.raises(KafkaError, match="circle"):
            await admin.describe_topics("a")

    play(scene)


def test_older_brokers_describe_topics_with_the_metadata() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.DESCRIBE_TOPIC_PARTITIONS] = (0, -1)
        topic = fake.add_topic("a", 2)
        described = await admin.describe_topics("a")
        assert [one.partition for one in described["a"].partitions] == [0, 1]
        assert described["a"].partitions[0].eligible_leader_replicas is None
        assert fake[1].received(ApiKey.METADATA)[-1].allow_auto_topic_creation is False
        text = uuid_to_text(topic.id)
        assert (await admin.describe_topics(topic_ids=text))[text].name == "a"
        with pytest.raises(ValueError, match="uuid"):
            await admin.describe_topics(topic_ids="a")

    play(scene)


def test_operations_are_told_only_when_asked_for() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.DESCRIBE_TOPIC_PARTITIONS] = (0, -1)
        fake.add_topic("a")

        def with_operations(request: Any, call: Any) -> MetadataResponse:
            response = fake.metadata(request, call)
            for topic in response.topics:
                topic.topic_authorized_operations = 1 << AclOperation.READ | 1 << AclOperation.DESCRIBE
            return response

        fake[1].on(ApiKey.METADATA, with_operations)
        assert (await admin.describe_topics("a"))["a"].authorized_operations is None
        described = await admin.describe_topics("a", include_authorized_operations=True)
        assert described["a"].authorized_operations == {AclOperation.READ, AclOperation.DESCRIBE}

    play(scene)


def test_internal_topics_are_listed_only_when_asked_for() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.add_topic("a")
        fake.add_topic("__consumer_offsets")

        def with_internal(request: Any, call: Any) -> MetadataResponse:
            response = fake.metadata(request, call)
            for topic in response.topics:
                topic.is_internal = topic.name == "__consumer_offsets"
            return response

        fake[1].on(ApiKey.METADATA, with_internal)
        assert list(await admin.list_topics()) == ["a"]
        assert set(await admin.list_topics(list_internal=True)) == {"a", "__consumer_offsets"}

    play(scene)


def test_what_a_new_topic_leaves_open_is_the_brokers_to_decide() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def created(request: Any, call: Any) -> CreateTopicsResponse:
            config = CreatableTopicConfigs(name="retention.ms", value="5", config_source=1)
            return CreateTopicsResponse(
                topics=[
                    CreatableTopicResult(
                        name=one.name,
                        topic_id=bytes([7] * 16),
                        num_partitions=4,
                        replication_factor=2,
                        configs=[config],
                    )
                    for one in request.topics
                ]
            )

        fake[1].on(ApiKey.CREATE_TOPICS, created)
        topics = [
            "plain",
            NewTopic("placed", replicas_assignments={0: [2, 1], 1: [1]}, configs={"a": True, "b": [1, 2]}),
        ]
        found = await admin.create_topics(topics, validate_only=True)
        assert found["plain"].num_partitions == 4
        assert found["plain"].configs is not None
        assert found["plain"].configs["retention.ms"].source is ConfigSource.DYNAMIC_TOPIC_CONFIG
        (body,) = fake[1].received(ApiKey.CREATE_TOPICS)
        assert body.validate_only
        plain, placed = body.topics
        assert (plain.num_partitions, plain.replication_factor) == (-1, -1)
        assert (placed.num_partitions, placed.replication_factor) == (-1, -1)
        assert [(one.partition_index, one.broker_ids) for one in placed.assignments] == [(0, [2, 1]), (1, [1])]
        assert [(one.name, one.value) for one in placed.configs] == [("a", "true"), ("b", "1,2")]

    play(scene)


def test_brokers_without_defaults_are_not_sent_minus_one() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.CREATE_TOPICS] = (2, 3)
        fake[1].on(
            ApiKey.CREATE_TOPICS,
            lambda request, call: CreateTopicsResponse(
                topics=[CreatableTopicResult(name=one.name) for one in request.topics]
            ),
        )
        with pytest.raises(UnsupportedVersionError):
            await admin.create_topics("plain")
        found = await admin.create_topics(NewTopic("given", 1, 1))
        assert found["given"].num_partitions is None

    play(scene)


@pytest.mark.parametrize("newest", [5, 6])
def test_topics_are_deleted_by_name_with_every_version(newest: int) -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.DELETE_TOPICS] = (1, newest)

        def deleted(request: Any, call: Any) -> DeleteTopicsResponse:
            names = [one.name for one in request.topics] if call.version >= 6 else request.topic_names
            return DeleteTopicsResponse(responses=[DeletableTopicResult(name=name) for name in names])

        fake[1].on(ApiKey.DELETE_TOPICS, deleted)
        await admin.delete_topics(["a", "b"])
        assert fake[1].requests[-1].version == newest

    play(scene)


def test_topics_are_deleted_by_id_and_failures_are_told_by_id() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        here, gone = bytes([1] * 16), bytes([2] * 16)

        def deleted(request: Any, call: Any) -> DeleteTopicsResponse:
            return DeleteTopicsResponse(
                responses=[
                    DeletableTopicResult(name="a", topic_id=here),
                    DeletableTopicResult(name=None, topic_id=gone, error_code=ErrorCode.UNKNOWN_TOPIC_ID),
                ]
            )

        fake[1].on(ApiKey.DELETE_TOPICS, deleted)
        with pytest.raises(UnknownTopicError) as raised:
            await admin.delete_topics(topic_ids=[uuid_to_text(here), uuid_to_text(gone)])
        assert list(raised.value.errors) == [uuid_to_text(gone)]

    play(scene)


def test_topics_grow_by_number_or_by_placement() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].on(
            ApiKey.CREATE_PARTITIONS,
            lambda request, call: CreatePartitionsResponse(
                results=[CreatePartitionsTopicResult(name=one.name) for one in request.topics]
            ),
        )
        await admin.create_partitions({"a": 6, "b": NewPartitions(2, [[1]])})
        (body,) = fake[1].received(ApiKey.CREATE_PARTITIONS)
        assert [(one.name, one.count, one.assignments and one.assignments[0].broker_ids) for one in body.topics] == [
            ("a", 6, None),
            ("b", 2, [1]),
        ]

    play(scene)


def test_values_of_settings_are_written_as_kafka_does() -> None:
    assert [config_text(value) for value in (True, 5, 0.5, "x", ["a", 1, False])] == [
        "true",
        "5",
        "0.5",
        "x",
        "a,1,false",
    ]
    assert AlterConfigOp.set("a", True).value == "true"
    assert AlterConfigOp.delete("a").value is None
