"""The parts of a node together: what the wiring has to do, on a simulated disk and network."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from ottla.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from ottla.records.record import Record, build_batch
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.broker.listener import ListenError
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {"listeners": f"PLAINTEXT://{ADDRESS}", "log.dirs": "/data"}
BROKER_RESOURCE = 4
SET = 0


class Session:
    """A started node and a client of it."""

    def __init__(self, node: Node, client: WireClient) -> None:
        self.node = node
        self.client = client

    async def create(self, topic: str) -> None:
        wanted = CreatableTopic(name=topic, num_partitions=1, replication_factor=1)
        response = await self.client.ask(CreateTopicsRequest(topics=[wanted]), 5, CreateTopicsResponse)
        assert response.topics[0].error_code == ErrorCode.NONE

    async def produce(self, topic: str, value: bytes) -> PartitionProduceResponse:
        batch = build_batch([Record(timestamp_ms=1_700_000_000_000, value=value)])
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=bytes(batch))])
        request = ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data])
        return (await self.client.ask(request, 9, ProduceResponse)).responses[0].partition_responses[0]

    async def fetched_bytes(self, topic: str) -> int:
        wanted = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1_000_000)
        request = FetchRequest(
            max_wait_ms=0, min_bytes=0, max_bytes=1_000_000, topics=[FetchTopic(topic=topic, partitions=[wanted])]
        )
        data = (await self.client.ask(request, 12, FetchResponse)).responses[0].partitions[0]
        assert data.error_code == ErrorCode.NONE
        return len(data.records or b"")


@asynccontextmanager
async def running(env: SimulatedEnv, **settings: object) -> AsyncIterator[Session]:
    node = Node(BrokerConfig.of(SETTINGS | {name.replace("_", "."): value for name, value in settings.items()}), env)
    try:
        await node.start()
        async with WireClient.connected(ADDRESS) as client:
            yield Session(node, client)
    finally:
        await node.stop()


def run(scenario: Callable[[SimulatedEnv], Awaitable[None]], disk: MemoryDisk | None = None) -> None:
    async def main(env: SimulatedEnv) -> None:
        await scenario(env)

    simulate(main, seed=1, disk=disk)


def test_a_dynamic_broker_setting_reaches_existing_and_new_logs_and_outlives_a_restart() -> None:
    async def scenario(env: SimulatedEnv) -> None:
        async with running(env) as session:
            await session.create("before")
            setting = AlterableConfig(name="log.retention.ms", config_operation=SET, value="123456")
            resource = AlterConfigsResource(resource_type=BROKER_RESOURCE, resource_name="", configs=[setting])
            response = await session.client.ask(
                IncrementalAlterConfigsRequest(resources=[resource]), 1, IncrementalAlterConfigsResponse
            )
            assert response.responses[0].error_code == ErrorCode.NONE
            await session.create("after")
            check(session.node)
        async with running(env) as session:
            check(session.node)

    def check(node: Node) -> None:
        for topic in ("before", "after"):
            partition = node.broker.replicas.get(topic, 0)
            assert partition is not None
            assert partition.log.config.retention_ms == 123456

    run(scenario)


def test_a_node_whose_port_is_taken_leaves_its_directory_as_it_was_left() -> None:
    async def scenario(env: SimulatedEnv) -> None:
        async with running(env, log_dirs="/theirs"):
            refused = Node(BrokerConfig.of(SETTINGS), env)
            with pytest.raises(ListenError, match="already in use"):
                await refused.start()
            await refused.stop()
            await refused.stop()
        async with running(env) as session:
            await session.create("mine")
            assert (await session.produce("mine", b"1")).base_offset == 0

    run(scenario)


def test_a_full_disk_refuses_writes_serves_reads_and_recovers_when_there_is_room() -> None:
    disk = MemoryDisk()

    async def scenario(env: SimulatedEnv) -> None:
        async with running(env) as session:
            await session.create("t")
            assert (await session.produce("t", b"before")).error_code == ErrorCode.NONE
            size = await session.fetched_bytes("t")
            disk.capacity_bytes = 0
            refused = await session.produce("t", b"x" * 1000)
            assert refused.error_code == ErrorCode.KAFKA_STORAGE_ERROR
            assert "/data" in (refused.error_message or "")
            assert await session.fetched_bytes("t") == size
            assert session.node.failed is not None
            assert not session.node.failed.done()
            disk.capacity_bytes = None
            assert (await session.produce("t", b"after")).base_offset == 1

    run(scenario, disk)


def test_a_node_without_a_working_data_directory_says_which_one_failed_and_that_it_cannot_go_on() -> None:
    disk = MemoryDisk()

    async def scenario(env: SimulatedEnv) -> None:
        async with running(env) as session:
            await session.create("t")
            assert (await session.produce("t", b"kept")).error_code == ErrorCode.NONE
            disk.fail_at(1, errno.EIO, operations=("append",), path_part="/data/t-0", forever=True)
            refused = await session.produce("t", b"lost")
            assert refused.error_code == ErrorCode.KAFKA_STORAGE_ERROR
            assert "/data" in (refused.error_message or "")
            assert await session.fetched_bytes("t") > 0
            assert session.node.failed is not None
            assert session.node.failed.done()
            assert "/data/t-0" in str(session.node.failed.result())

    run(scenario, disk)


@pytest.mark.parametrize("end", [Node.stop, Node.abort])
def test_what_is_committed_while_a_node_ends_is_no_error(
    end: Callable[[Node], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(env: SimulatedEnv) -> None:
        async with running(env) as session:
            wanted = CreatableTopic(name="t", num_partitions=1, replication_factor=1)
            creating = asyncio.ensure_future(
                session.node.broker.controller.create_topics(CreateTopicsRequest(topics=[wanted]))
            )
            await asyncio.sleep(0)
            await end(session.node)
            await creating

    run(scenario)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
