"""A whole node in virtual time, with clients that speak the share protocol plainly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ottla.core.errors import ErrorCode
from ottla.core.ids import uuid_to_text
from ottla.protocol.messages import create_topics, find_coordinator, incremental_alter_configs, share_acknowledge
from ottla.protocol.messages import fetch as fetching
from ottla.protocol.messages import initialize_share_group_state as initializing
from ottla.protocol.messages import produce as producing
from ottla.protocol.messages import share_fetch as sharing
from ottla.records.batch import batches
from ottla.records.record import Record, build_batch, read_batch_records
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.metadata.image import ConfigResourceType
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
TOPIC = "jobs"
GROUP = "workers"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "log.segment.bytes": 1024 * 1024,
    "offsets.topic.num.partitions": 1,
    "share.coordinator.state.topic.num.partitions": 2,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
}
SHARE_COORDINATOR = 2

Range = tuple[int, int, int]
"""First and last offset, delivery count."""


class Taken:
    """What one ShareFetch gave of one partition."""

    def __init__(self, data: sharing.PartitionData) -> None:
        self.code = ErrorCode(data.error_code)
        self.acknowledge_code = ErrorCode(data.acknowledge_error_code)
        self.ranges: list[Range] = [(r.first_offset, r.last_offset, r.delivery_count) for r in data.acquired_records]
        self.records: dict[int, bytes] = {}
        content = data.records or b""
        for position, header in batches(content):
            if not header.is_control:
                for record in read_batch_records(content, position, header):
                    if any(first <= record.offset <= last for first, last, _ in self.ranges):
                        self.records[record.offset] = record.value or b""

    @property
    def offsets(self) -> list[int]:
        return [offset for first, last, _ in self.ranges for offset in range(first, last + 1)]


Batch = tuple[int, int, list[int]]
"""An acknowledgement: first and last offset, types."""


class Worker:
    """A member of the share group, with one connection and its session."""

    def __init__(self, client: WireClient, topic_id: bytes, member_id: str, group_id: str = GROUP) -> None:
        self.client = client
        self.topic_id = topic_id
        self.member_id = member_id
        self.group_id = group_id
        self.epoch = 0
        self.partitions: tuple[int, ...] = (0,)
        self.response: Any = None

    async def fetch(
        self,
        acknowledgements: dict[int, Sequence[Batch]] | None = None,
        *,
        max_records: int = 100,
        max_wait_ms: int = 0,
        min_bytes: int = 1,
        max_bytes: int = 1_000_000,
        strict: bool = False,
        epoch: int | None = None,
        renew: bool = False,
        version: int = 2,
        batch_size: int = 100,
        forget: Sequence[int] = (),
    ) -> dict[int, Taken]:
        """One ShareFetch; what it gave by partition. The whole response is in `response`."""
        sent = self.epoch if epoch is None else epoch
        given = acknowledgements or {}
        indexes = self.partitions if sent == 0 else tuple(given)
        request = sharing.ShareFetchRequest(
            group_id=self.group_id,
            member_id=self.member_id,
            share_session_epoch=sent,
            max_wait_ms=max_wait_ms,
            min_bytes=min_bytes,
            max_bytes=max_bytes,
            max_records=max_records,
            batch_size=batch_size,
            share_acquire_mode=int(strict),
            is_renew_ack=renew,
            topics=[
                sharing.FetchTopic(
                    topic_id=self.topic_id,
                    partitions=[
                        sharing.FetchPartition(
                            partition_index=index,
                            acknowledgement_batches=[
                                sharing.AcknowledgementBatch(first_offset=a, last_offset=b, acknowledge_types=types)
                                for a, b, types in given.get(index, ())
                            ],
                        )
                        for index in indexes
                    ],
                )
            ]
            if indexes
            else [],
            forgotten_topics_data=[sharing.ForgottenTopic(topic_id=self.topic_id, partitions=list(forget))]
            if forget
            else [],
        )
        self.response = await self.client.ask(request, version, sharing.ShareFetchResponse)
        if self.response.error_code == ErrorCode.NONE and epoch is None:
            self.epoch += 1
        return {data.partition_index: Taken(data) for topic in self.response.responses for data in topic.partitions}

    async def acknowledge(
        self, *batches: Batch, partition: int = 0, epoch: int | None = None, renew: bool = False, version: int = 2
    ) -> ErrorCode:
        """One ShareAcknowledge; the partition's error code, or that of the whole request."""
        request = share_acknowledge.ShareAcknowledgeRequest(
            group_id=self.group_id,
            member_id=self.member_id,
            share_session_epoch=self.epoch if epoch is None else epoch,
            is_renew_ack=renew,
            topics=[
                share_acknowledge.AcknowledgeTopic(
                    topic_id=self.topic_id,
                    partitions=[
                        share_acknowledge.AcknowledgePartition(
                            partition_index=partition,
                            acknowledgement_batches=[
                                share_acknowledge.AcknowledgementBatch(
                                    first_offset=a, last_offset=b, acknowledge_types=types
                                )
                                for a, b, types in batches
                            ],
                        )
                    ],
                )
            ]
            if batches
            else [],
        )
        self.response = await self.client.ask(request, version, share_acknowledge.ShareAcknowledgeResponse)
        if self.response.error_code != ErrorCode.NONE:
            return ErrorCode(self.response.error_code)
        if epoch is None:
            self.epoch += 1
        if not batches:
            return ErrorCode.NONE
        return ErrorCode(self.response.responses[0].partitions[0].error_code)


class ShareWorld:
    """The running node, and what an operator does with it."""

    def __init__(self, env: SimulatedEnv, node: Node) -> None:
        self.env = env
        self.node = node
        self.topic_id = b""

    @asynccontextmanager
    async def client(self) -> AsyncIterator[WireClient]:
        async with WireClient.connected(ADDRESS) as client:
            yield client

    @asynccontextmanager
    async def worker(self, member_id: str = "w", group_id: str = GROUP) -> AsyncIterator[Worker]:
        async with self.client() as client:
            yield Worker(client, self.topic_id, member_id, group_id)

    async def create_topic(self, name: str = TOPIC, partitions: int = 1, **settings: str) -> bytes:
        topic = create_topics.CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=1,
            configs=[
                create_topics.CreatableTopicConfig(name=key.replace("_", "."), value=value)
                for key, value in settings.items()
            ],
        )
        async with self.client() as client:
            request = create_topics.CreateTopicsRequest(topics=[topic])
            response = await client.ask(request, 7, create_topics.CreateTopicsResponse)
        code = response.topics[0].error_code
        assert code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS), response
        return self.node.broker.image.topics.by_name[name].topic_id

    async def configure(self, **settings: str) -> None:
        """Settings of the group, dots written as underscores."""
        await self.alter(ConfigResourceType.GROUP, GROUP, settings)

    async def alter(self, kind: ConfigResourceType, name: str, settings: dict[str, str]) -> None:
        resource = incremental_alter_configs.AlterConfigsResource(
            resource_type=int(kind),
            resource_name=name,
            configs=[
                incremental_alter_configs.AlterableConfig(name=key.replace("_", "."), config_operation=0, value=value)
                for key, value in settings.items()
            ],
        )
        request = incremental_alter_configs.IncrementalAlterConfigsRequest(resources=[resource])
        async with self.client() as client:
            response = await client.ask(request, 1, incremental_alter_configs.IncrementalAlterConfigsResponse)
        assert response.responses[0].error_code == ErrorCode.NONE, response

    async def initialize(self, partitions: int = 1, start_offset: int = 0, group_id: str = GROUP) -> None:
        """What the group coordinator does when the group subscribes."""
        topic = initializing.InitializeStateData(
            topic_id=self.topic_id,
            partitions=[
                initializing.PartitionData(partition=index, state_epoch=1, start_offset=start_offset)
                for index in range(partitions)
            ],
        )
        request = initializing.InitializeShareGroupStateRequest(group_id=group_id, topics=[topic])
        keys = [f"{group_id}:{uuid_to_text(self.topic_id)}:{index}" for index in range(partitions)]
        async with self.client() as client:
            found = await client.ask(
                find_coordinator.FindCoordinatorRequest(key_type=SHARE_COORDINATOR, coordinator_keys=keys),
                6,
                find_coordinator.FindCoordinatorResponse,
            )
            assert all(c.error_code == ErrorCode.NONE for c in found.coordinators), found
            while True:
                response = await client.ask(request, 0, initializing.InitializeShareGroupStateResponse)
                codes = {result.error_code for topic in response.results for result in topic.partitions}
                if codes == {ErrorCode.NONE}:
                    return
                assert codes <= {ErrorCode.NONE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.NOT_COORDINATOR}
                await asyncio.sleep(0.05)

    async def produce(self, *values: bytes, partition: int = 0, **batch: Any) -> int:
        """One batch; its base offset."""
        records = [Record(timestamp_ms=self.env.clock.now_ms(), key=b"k", value=value) for value in values]
        return await self.append(bytes(build_batch(records, **batch)), partition)

    async def append(self, records: bytes, partition: int = 0) -> int:
        data = producing.PartitionProduceData(index=partition, records=records)
        topic = producing.TopicProduceData(name=TOPIC, partition_data=[data])
        async with self.client() as client:
            request = producing.ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[topic])
            response = await client.ask(request, 9, producing.ProduceResponse)
        [answer] = response.responses[0].partition_responses
        assert answer.error_code == ErrorCode.NONE, answer
        return answer.base_offset

    async def read(self, topic: str, partition: int = 0) -> list[Record]:
        """Everything in a partition."""
        wanted = fetching.FetchPartition(partition=partition, fetch_offset=0, partition_max_bytes=10_000_000)
        request = fetching.FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=10_000_000,
            topics=[fetching.FetchTopic(topic=topic, partitions=[wanted])],
        )
        async with self.client() as client:
            response = await client.ask(request, 12, fetching.FetchResponse)
        [data] = response.responses[0].partitions
        assert data.error_code == ErrorCode.NONE, data
        content = data.records or b""
        return [r for position, header in batches(content) for r in read_batch_records(content, position, header)]


def run(
    main: Callable[[ShareWorld], Coroutine[Any, Any, None]],
    *,
    seed: int = 1,
    disk: MemoryDisk | None = None,
    partitions: int = 1,
    initialize: bool = True,
    **settings: object,
) -> None:
    """Run `main` beside a node that has the topic, and the group's state, initialized at the earliest offset."""

    async def live(env: SimulatedEnv) -> None:
        node = Node(BrokerConfig.of(SETTINGS | {key.replace("_", "."): value for key, value in settings.items()}), env)
        await node.start()
        world = ShareWorld(env, node)
        world.topic_id = await world.create_topic(partitions=partitions)
        if initialize:
            await world.initialize(partitions)
        await main(world)
        await node.stop()

    simulate(live, seed=seed, disk=disk)
