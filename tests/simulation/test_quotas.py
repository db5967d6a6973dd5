"""Quotas of a whole node, in virtual time: rates come down, muted connections wait in order, and nothing hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from ottla.core.errors import ErrorCode
from ottla.protocol.connection import NEED_DATA, ClientConnection
from ottla.protocol.messages import alter_client_quotas as altering
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from ottla.records.batch import batches
from ottla.records.record import Record, build_batch
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {"listeners": f"PLAINTEXT://{ADDRESS}", "log.dirs": "/data"}
TOPIC = "metered"
CLIENT = {"client-id": "simulation"}
PING = ApiVersionsRequest(client_software_name="test", client_software_version="1")


@asynccontextmanager
async def running(env: SimulatedEnv) -> AsyncIterator[tuple[Node, WireClient]]:
    node = Node(BrokerConfig.of(SETTINGS), env)
    await node.start()
    try:
        async with WireClient.connected(ADDRESS) as client:
            yield node, client
    finally:
        await node.stop()


async def alter(client: WireClient, entity: Mapping[str, str | None], key: str, value: float | None) -> None:
    entry = altering.AlterClientQuotasRequestEntryData(
        entity=[altering.EntityData(entity_type=kind, entity_name=name) for kind, name in entity.items()],
        ops=[altering.OpData(key=key, value=value or 0.0, remove=value is None)],
    )
    response = await client.ask(
        altering.AlterClientQuotasRequest(entries=[entry]), 1, altering.AlterClientQuotasResponse
    )
    assert [one.error_code for one in response.entries] == [ErrorCode.NONE], response


async def create(client: WireClient, name: str, partitions: int = 1, version: int = 5) -> CreateTopicsResponse:
    topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)
    return await client.ask(CreateTopicsRequest(topics=[topic]), version, CreateTopicsResponse)


def produce_request(size: int, acks: int = 1) -> ProduceRequest:
    batch = build_batch([Record(timestamp_ms=1_700_000_000_000, value=bytes(size))])
    data = TopicProduceData(name=TOPIC, partition_data=[PartitionProduceData(index=0, records=bytes(batch))])
    return ProduceRequest(acks=acks, timeout_ms=30_000, topic_data=[data])


async def produce(client: WireClient, size: int, acks: int = 1) -> ProduceResponse:
    response = await client.ask(produce_request(size, acks), 9, ProduceResponse)
    assert response.responses[0].partition_responses[0].error_code == ErrorCode.NONE
    return response


def fetch_request(offset: int, session: tuple[int, int] = (0, -1), max_bytes: int = 1 << 20) -> FetchRequest:
    wanted = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    return FetchRequest(
        replica_id=-1,
        max_wait_ms=500,
        min_bytes=1,
        max_bytes=max_bytes,
        session_id=session[0],
        session_epoch=session[1],
        topics=[FetchTopic(topic=TOPIC, partitions=[wanted])],
    )


def test_producing_comes_down_to_the_quota_which_outlives_a_restart() -> None:
    limit, seconds = 100_000, 60

    async def life(env: SimulatedEnv) -> tuple[int, list[int]]:
        loop = asyncio.get_running_loop()
        async with running(env) as (node, client):
            if not node.broker.image.client_quotas:
                await create(client, TOPIC)
                await alter(client, CLIENT, "producer_byte_rate", limit)
            sent, waits, end = 0, [], loop.time() + seconds
            while loop.time() < end:
                response = await produce(client, 20_000, acks=-1)
                sent += 20_000
                waits.append(response.throttle_time_ms)
            return sent, waits

    def lives() -> list[tuple[int, list[int]]]:
        disk = MemoryDisk(now_ms=lambda: 0)
        return [simulate(life, seed=seed, disk=disk) for seed in (1, 2)]

    first = lives()
    for sent, waits in first:
        # A new rate counts as ten idle seconds; one request may be on its way.
        assert limit * seconds * 0.9 < sent <= limit * (seconds + 10) + 40_000
        assert max(waits) > 0
    assert lives() == first, "the same traffic is throttled for the same times"


def test_fetching_comes_down_to_the_quota_and_every_record_arrives_once() -> None:
    async def main(env: SimulatedEnv) -> None:
        loop = asyncio.get_running_loop()
        async with running(env) as (node, client):
            await create(client, TOPIC)
            for _ in range(200):
                await produce(client, 10_000)
            await alter(client, CLIENT, "consumer_byte_rate", 50_000)
            started, offset, session, throttled = loop.time(), 0, (0, 0), 0
            received: list[int] = []
            while offset < 200:
                request = fetch_request(offset, session, max_bytes=60_000)
                response = await client.ask(request, 11, FetchResponse)
                assert response.error_code == ErrorCode.NONE
                if response.throttle_time_ms:
                    throttled += 1
                    assert not response.responses, "a throttled answer is empty"
                    if session == (0, 0):
                        assert response.session_id == 0, "no session begins with it"
                        assert len(node.broker.fetch_sessions) == 0
                    else:
                        assert response.session_id == session[0]
                for topic in response.responses:
                    for _, batch in batches(topic.partitions[0].records or b""):
                        received.append(batch.base_offset)
                        offset = batch.base_offset + 1
                        assert topic.partitions[0].high_watermark == 200
                if response.session_id:
                    session = (response.session_id, session[1] + 1)
            assert received == list(range(200))
            assert throttled
            # Two million bytes at 50,000 a second, half a million of them in advance.
            assert 28 < loop.time() - started < 60

    simulate(main, seed=3)


def test_a_throttled_answer_takes_nothing_from_its_session() -> None:
    """What an answer would have told, and was not sent, is told by the next one."""

    async def main(env: SimulatedEnv) -> None:
        async with running(env) as (_, client):
            await create(client, TOPIC)
            await produce(client, 10)
            opened = await client.ask(fetch_request(1, (0, 0)), 11, FetchResponse)
            session = opened.session_id
            assert session
            await produce(client, 50_000)
            await alter(client, CLIENT, "consumer_byte_rate", 1_000)
            again = FetchRequest(replica_id=-1, max_wait_ms=0, min_bytes=0, session_id=session, session_epoch=1)
            throttled = await client.ask(again, 11, FetchResponse)
            assert throttled.throttle_time_ms > 30_000
            assert throttled.session_id == session
            assert not throttled.responses
            # It is from here on that the client would be muted: another connection asks meanwhile.
            async with WireClient.connected(ADDRESS) as other:
                await alter(other, CLIENT, "consumer_byte_rate", None)
                again.session_epoch = 2
                response = await other.ask(again, 11, FetchResponse)
                [topic] = response.responses
                assert topic.partitions[0].high_watermark == 2
                assert topic.partitions[0].records

    simulate(main, seed=4)


def test_pipelined_requests_of_a_muted_connection_wait_and_stay_in_order() -> None:
    async def main(env: SimulatedEnv) -> None:
        loop = asyncio.get_running_loop()
        async with running(env) as (_, client):
            await create(client, TOPIC)
            await alter(client, {"client-id": "piped"}, "producer_byte_rate", 10_000)
            reader, writer = await asyncio.open_connection("127.0.0.1", 9092)
            connection = ClientConnection("piped")
            frames = [connection.send(produce_request(150_000), 9)]
            frames += [connection.send(PING, 3), connection.send(produce_request(10_000), 9), connection.send(PING, 3)]
            writer.write(b"".join(bytes(part) for parts in frames for part in parts))
            arrivals: list[tuple[str, int]] = []
            while len(arrivals) < 4:
                while (response := connection.next_response()) is NEED_DATA:
                    connection.receive_data(await reader.read(65536))
                body = response.body
                arrivals.append((type(body).__name__, round(loop.time() - 0.5)))
                if len(arrivals) == 1:
                    assert isinstance(body, ProduceResponse)
                    assert 5_000 <= body.throttle_time_ms < 5_100
                    begun = loop.time()
                if len(arrivals) == 2:
                    assert isinstance(body, ApiVersionsResponse)
                    assert 5.0 <= loop.time() - begun < 5.1
            assert [name for name, _ in arrivals] == ["ProduceResponse", "ApiVersionsResponse"] * 2
            writer.close()

    simulate(main, seed=5)


def test_a_connection_may_end_and_the_node_may_stop_while_it_is_muted() -> None:
    async def main(env: SimulatedEnv) -> None:
        loop = asyncio.get_running_loop()
        async with running(env) as (node, client):
            await create(client, TOPIC)
            await alter(client, {"user": None}, "producer_byte_rate", 1_000)
            listener = node.listeners[0]
            async with WireClient.connected(ADDRESS) as other:
                assert (await produce(other, 500_000)).throttle_time_ms > 400_000
                assert sum(one.is_muted for one in listener.connections) == 1
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert len(listener.connections) == 1, "its end was noticed at once"
            assert (await produce(client, 10)).throttle_time_ms > 400_000, "the user has to wait, on all connections"
            stopping = loop.time()
        assert loop.time() - stopping < 2

    simulate(main, seed=6)


def test_acks_0_is_limited_too() -> None:
    async def main(env: SimulatedEnv) -> None:
        loop = asyncio.get_running_loop()
        async with running(env) as (_, client):
            await create(client, TOPIC)
            await alter(client, {"client-id": "silent"}, "producer_byte_rate", 10_000)
            reader, writer = await asyncio.open_connection("127.0.0.1", 9092)
            connection = ClientConnection("silent")
            for request, version in ((produce_request(150_000, acks=0), 9), (PING, 3)):
                is_answered = request is PING
                writer.write(b"".join(map(bytes, connection.send(request, version, expect_response=is_answered))))
            started = loop.time()
            while connection.next_response() is NEED_DATA:
                connection.receive_data(await reader.read(65536))
            assert 5.0 <= loop.time() - started < 5.1
            writer.close()

    simulate(main, seed=7)


def test_mutations_are_refused_or_made_to_wait() -> None:
    async def main(env: SimulatedEnv) -> None:
        loop = asyncio.get_running_loop()
        async with running(env) as (_, client):
            await alter(client, CLIENT, "controller_mutation_rate", 2)
            # The bucket holds 22 and may be overdrawn once.
            assert (await create(client, "big", 32, version=7)).topics[0].error_code == ErrorCode.NONE
            refused = await create(client, "more", 1, version=7)
            assert refused.topics[0].error_code == ErrorCode.THROTTLING_QUOTA_EXCEEDED
            assert refused.topics[0].error_message == ErrorCode.THROTTLING_QUOTA_EXCEEDED.message
            assert 4_900 < refused.throttle_time_ms <= 5_000
            before = loop.time()
            grown = await client.ask(
                CreatePartitionsRequest(topics=[CreatePartitionsTopic(name="big", count=36, assignments=None)]),
                3,
                CreatePartitionsResponse,
            )
            assert loop.time() - before >= refused.throttle_time_ms / 1000, "muted meanwhile"
            assert grown.results[0].error_code == ErrorCode.NONE
            topics = [DeleteTopicState(name="big"), DeleteTopicState(name="nothing")]
            deleted = await client.ask(DeleteTopicsRequest(topics=topics), 6, DeleteTopicsResponse)
            codes = {one.name: one.error_code for one in deleted.responses}
            assert codes == {
                "big": ErrorCode.THROTTLING_QUOTA_EXCEEDED,
                "nothing": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            }
            assert deleted.throttle_time_ms > 0
            # An older version's client does not know the refusal.
            lenient = await create(client, "lenient", 5, version=5)
            assert lenient.topics[0].error_code == ErrorCode.NONE
            assert 2_000 < lenient.throttle_time_ms <= 2_500
            # A topic that would be created automatically is not there yet.
            names = [MetadataRequestTopic(name="automatic")]
            async with WireClient.connected(ADDRESS) as other:
                answer = await other.ask(MetadataRequest(topics=names), 9, MetadataResponse)
                assert answer.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                await asyncio.sleep(3)
                answer = await other.ask(MetadataRequest(topics=names), 9, MetadataResponse)
                assert answer.topics[0].error_code == ErrorCode.NONE

    simulate(main, seed=8)


def test_an_address_that_connects_too_often_is_let_in_later() -> None:
    async def main(env: SimulatedEnv) -> None:
        loop = asyncio.get_running_loop()
        async with running(env) as (node, client):
            await alter(client, {"ip": None}, "connection_creation_rate", 2)
            refused = 0
            for _ in range(30):
                started = loop.time()
                try:
                    async with WireClient.connected(ADDRESS) as other:
                        await other.ask(PING, 3, ApiVersionsResponse)
                except (OSError, asyncio.IncompleteReadError):
                    refused += 1
                    assert 0.2 <= loop.time() - started < 1.1
            assert 1 <= refused <= 10
            assert node.listeners[0].refused_count == refused
            await asyncio.sleep(1)
            assert len(node.listeners[0].connections) == 1

    simulate(main, seed=9)
