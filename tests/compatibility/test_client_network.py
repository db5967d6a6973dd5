"""Our clients' network layer against a real broker: Ottla, or Apache Kafka with OTTLA_TEST_BROKER=kafka."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ottla.client.errors import ConnectionFailedError, InvalidTopicError, UnknownTopicError
from ottla.client.model import TopicPartition
from ottla.client.network.cluster import Cluster
from ottla.client.network.coordinators import GROUP, SHARE, TRANSACTION, broker_id
from ottla.client.network.retry import retrying
from ottla.client.portal import Portal
from ottla.client.settings import AdminSettings, ConsumerSettings, ProducerSettings
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.record import Record, build_batch

RECORDS = 3
RECORD_BYTES = 300_000


def run(coroutine):
    """On uvloop, as blocking clients do."""
    portal = Portal()
    try:
        return portal.run(coroutine, 60)
    finally:
        portal.close()
        portal.loop.close()


def cluster_of(address, kind=ProducerSettings, **names):
    return Cluster(kind.of(address, None, names))


async def produce(cluster, topic, acks=-1, count=RECORDS):
    tp = TopicPartition(topic.name, 0)
    leader, _ = cluster.metadata.leader(tp)
    records = [Record(0, 1_700_000_000_000, None, bytes(RECORD_BYTES)) for _ in range(count)]
    data = TopicProduceData(
        name=topic.name,
        topic_id=topic.id,
        partition_data=[PartitionProduceData(index=0, records=build_batch(records))],
    )
    request = ProduceRequest(acks=acks, timeout_ms=10_000, topic_data=[data])
    if not acks:
        return await cluster.send(leader, request, expect_response=False)
    response = await cluster.request(leader, request)
    return response.responses[0].partition_responses[0]


async def fetch(cluster, topic, offset):
    leader, epoch = cluster.metadata.leader(TopicPartition(topic.name, 0))
    partition = FetchPartition(
        partition=0, fetch_offset=offset, current_leader_epoch=epoch, partition_max_bytes=50_000_000
    )
    request = FetchRequest(
        max_wait_ms=2000,
        min_bytes=1,
        topics=[FetchTopic(topic=topic.name, topic_id=topic.id, partitions=[partition])],
    )
    response = await cluster.request(leader, request)
    return response.responses[0].partitions[0]


def test_a_topic_is_made_written_and_read(bootstrap, name):
    async def main():
        cluster = cluster_of(bootstrap, batch_size=1_000_000)
        topic = await cluster.wait_for_topic(name, 10_000)
        assert len(topic.partitions) == 1
        assert cluster.metadata.topic_names[topic.id] == name
        for acks in (1, 0, -1):
            await produce(cluster, topic, acks)
        written = await produce(cluster, topic)
        assert written.error_code == ErrorCode.NONE
        assert written.base_offset == 3 * RECORDS
        fetched = await fetch(cluster, topic, 0)
        assert fetched.error_code == ErrorCode.NONE
        assert fetched.high_watermark == 4 * RECORDS
        assert isinstance(fetched.records, memoryview)
        assert len(fetched.records) > RECORD_BYTES
        await cluster.close()

    run(main())


def test_coordinators_of_every_kind(bootstrap, name):
    async def main():
        cluster = cluster_of(bootstrap, ConsumerSettings)
        groups = await asyncio.gather(*(cluster.coordinator(GROUP, f"{name}-{n}", 30_000) for n in range(5)))
        assert {broker_id(node_id) for node_id in groups} <= set(cluster.metadata.brokers)
        assert await cluster.coordinator(TRANSACTION, name, 30_000) in cluster.metadata.brokers

        async def attempt(_):
            node_id = await cluster.coordinator(GROUP, f"{name}-0", 5000)
            response = await cluster.request(node_id, HeartbeatRequest(group_id=f"{name}-0", member_id="nobody"))
            if response.error_code in (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS):
                raise ConnectionFailedError("not yet")
            return response

        assert (await retrying(cluster, attempt, 20_000)).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert cluster.finalized_feature("group.version") >= 1
        if (cluster.api_versions(next(iter(cluster.metadata.brokers))) or {}).get(ApiKey.SHARE_FETCH):
            topic = await cluster.wait_for_topic(name, 10_000)
            key = f"{name}:{_text(topic.id)}:0"
            assert broker_id(await cluster.coordinator(SHARE, key, 30_000)) in cluster.metadata.brokers
        await cluster.close()

    run(main())


def _text(uuid):
    from ottla.core.ids import uuid_to_text

    return uuid_to_text(uuid)


def test_topics_that_are_not_there_and_cannot_be(bootstrap, name):
    async def main():
        cluster = cluster_of(bootstrap, AdminSettings)
        with pytest.raises(UnknownTopicError):
            await cluster.wait_for_topic(name, 500)
        with pytest.raises(InvalidTopicError):
            await cluster.wait_for_topic("no/topic", 5000)
        controller = await cluster.controller(5000)
        request = CreateTopicsRequest(
            topics=[CreatableTopic(name=name, num_partitions=3, replication_factor=1)], timeout_ms=5000
        )
        response = await cluster.request(controller, request)
        assert response.topics[0].error_code == ErrorCode.NONE
        topic = await cluster.wait_for_topic(name, 5000)
        assert len(topic.partitions) == 3
        cluster.interest((), replace=True)
        await cluster.refresh_metadata(5000)
        assert name not in cluster.metadata.topics
        cluster.interest_in_ids([topic.id])
        for _ in range(100):
            if topic.id in cluster.metadata.topic_names:
                break
            await asyncio.sleep(0.02)
        assert cluster.metadata.topic_names[topic.id] == name
        await cluster.close()

    run(main())


def test_a_broker_goes_and_comes_back(make_broker, name, caplog):
    broker = make_broker()

    async def main():
        cluster = cluster_of(broker.bootstrap)
        topic = await cluster.wait_for_topic(name, 10_000)
        assert (await produce(cluster, topic)).base_offset == 0
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, broker.stop)

        async def attempt(_):
            found = await cluster.wait_for_topic(name, 1000)
            return (await produce(cluster, found)).base_offset

        waiting = asyncio.ensure_future(retrying(cluster, attempt, 40_000))
        await asyncio.sleep(0.5)
        await loop.run_in_executor(None, broker.start)
        assert await waiting == RECORDS
        await cluster.close()

    with caplog.at_level(logging.INFO, "ottla.client"):
        run(main())
    levels = [record.levelname for record in caplog.records if "Starting again" not in record.getMessage()]
    assert levels == ["WARNING", "INFO"]
