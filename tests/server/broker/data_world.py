"""A broker with real logs on a memory disk, behind a real socket; the cluster's metadata is written by the test."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from ottla.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
    ReplicaState,
)
from ottla.protocol.messages.metadata_records import BrokerEndpoint as EndpointRecord
from ottla.protocol.messages.metadata_records import (
    ConfigRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
)
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    TopicProduceData,
)
from ottla.records.record import Record, build_batch, read_records
from ottla.runtime.disk import Disk
from ottla.runtime.env import Env
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.broker.broker import Broker
from ottla.server.broker.listener import Listener
from ottla.server.log.directories import LogDirectories
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.replication.partition import Partition
from ottla.server.replication.replicas import Replicas
from tests.server.broker.support import NODE_ID, Client, FixedMetadata, listening, make_broker

NOW_MS = 1_700_000_000_000


class Clock:
    """A wall clock that stands still."""

    def __init__(self) -> None:
        self.ms = NOW_MS

    def now_ms(self) -> int:
        return self.ms


class World:
    """The broker and what a test does to it."""

    def __init__(self, broker: Broker, metadata: FixedMetadata, replicas: Replicas, clock: Clock, disk: Disk) -> None:
        self.broker = broker
        self.metadata = metadata
        self.replicas = replicas
        self.clock = clock
        self.disk = disk
        self.listener: Listener
        self._clients: list[Client] = []
        self._random = random.Random(3)
        self._offset = 0
        self.topic_ids: dict[str, bytes] = {}

    def commit(self, *records: Any) -> None:
        """Write metadata, and let the broker follow."""
        delta = MetadataDelta(self.metadata.image)
        for record in records:
            delta.replay(record)
        self._offset += len(records)
        self.metadata.image = delta.apply(self._offset, 1, NOW_MS)
        self.replicas.apply(delta, self.metadata.image)

    def register_broker(self, broker_id: int, host: str, port: int) -> None:
        endpoint = EndpointRecord(name="PLAINTEXT", host=host, port=port, security_protocol=0)
        self.commit(
            RegisterBrokerRecord(
                broker_id=broker_id, broker_epoch=1, incarnation_id=bytes(16), end_points=[endpoint], fenced=False
            )
        )

    def create_topic(
        self,
        name: str = "topic",
        partitions: int = 1,
        *,
        leader: int = NODE_ID,
        leader_epoch: int = 0,
        replicas: Sequence[int] = (NODE_ID,),
        settings: Mapping[str, str] | None = None,
    ) -> bytes:
        """Its id."""
        topic_id = self.topic_ids[name] = self._random.randbytes(16)
        self.commit(
            TopicRecord(name=name, topic_id=topic_id),
            *(ConfigRecord(resource_type=2, resource_name=name, name=k, value=v) for k, v in (settings or {}).items()),
            *(
                PartitionRecord(
                    partition_id=index,
                    topic_id=topic_id,
                    replicas=list(replicas),
                    isr=list(replicas),
                    leader=leader,
                    leader_epoch=leader_epoch,
                    partition_epoch=0,
                )
                for index in range(partitions)
            ),
        )
        return topic_id

    def elect(self, topic: str, partition: int = 0, *, leader: int = NODE_ID) -> None:
        """A new leader epoch."""
        self.commit(PartitionChangeRecord(partition_id=partition, topic_id=self.topic_ids[topic], leader=leader))

    def delete_topic(self, name: str) -> None:
        self.commit(RemoveTopicRecord(topic_id=self.topic_ids.pop(name)))

    def partition(self, topic: str = "topic", index: int = 0) -> Partition:
        found = self.replicas.get(topic, index)
        assert found is not None
        return found

    async def client(self) -> Client:
        """A connection that is closed with the world."""
        client = await Client.connect(self.listener.port)
        self._clients.append(client)
        return client

    async def close_clients(self) -> None:
        for client in self._clients:
            await client.close()

    # Requests as a client of a version would make them

    def produce_request(
        self,
        version: int,
        *batches: tuple[str, int, bytes | bytearray | None],
        acks: int = -1,
        transactional_id: str | None = None,
    ) -> ProduceRequest:
        """(topic, partition, batch) each; topics in the order they first appear."""
        topics: dict[str, TopicProduceData] = {}
        for name, index, batch in batches:
            if name not in topics:
                topics[name] = (
                    TopicProduceData(name=name)
                    if version < 13
                    else TopicProduceData(topic_id=self.topic_ids.get(name, b"?" * 16))
                )
            topics[name].partition_data.append(PartitionProduceData(index=index, records=batch))
        return ProduceRequest(
            acks=acks, timeout_ms=1000, transactional_id=transactional_id, topic_data=list(topics.values())
        )

    async def produce(
        self,
        client: Client,
        batch: bytes | bytearray | None,
        *,
        topic: str = "topic",
        partition: int = 0,
        version: int = 9,
        **options: Any,
    ) -> PartitionProduceResponse:
        """One batch's answer."""
        response = await client.call(self.produce_request(version, (topic, partition, batch), **options), version)
        answer: PartitionProduceResponse = response.responses[0].partition_responses[0]
        return answer

    def fetch_request(
        self,
        version: int,
        wanted: Mapping[tuple[str, int], int | FetchPartition],
        *,
        max_wait_ms: int = 0,
        min_bytes: int = 1,
        max_bytes: int = 50_000_000,
        partition_max_bytes: int = 1_000_000,
        isolation_level: int = 0,
        session: tuple[int, int] = (0, -1),
        forgotten: Sequence[tuple[str, int]] = (),
        replica_id: int = -1,
    ) -> FetchRequest:
        """(topic, partition) → offset, or all of the parameters."""
        topics: list[FetchTopic] = []
        last = None
        for (name, index), where in wanted.items():
            if name != last:
                last = name
                topics.append(FetchTopic(**self._topic(name, version)))
            if not isinstance(where, FetchPartition):
                where = FetchPartition(fetch_offset=where, partition_max_bytes=partition_max_bytes)
            where.partition = index
            topics[-1].partitions.append(where)
        request = FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=min_bytes,
            max_bytes=max_bytes,
            isolation_level=isolation_level,
            topics=topics,
            forgotten_topics_data=[
                ForgottenTopic(**self._topic(name, version), partitions=[index]) for name, index in forgotten
            ],
        )
        if version >= 7:
            request.session_id, request.session_epoch = session
        if version >= 15:
            request.replica_state = ReplicaState(replica_id=replica_id)
        else:
            request.replica_id = replica_id
        return request

    def _topic(self, name: str, version: int) -> dict[str, Any]:
        return {"topic": name} if version < 13 else {"topic_id": self.topic_ids.get(name, b"?" * 16)}

    async def fetch(
        self,
        client: Client,
        wanted: Mapping[tuple[str, int], int | FetchPartition],
        *,
        version: int = 12,
        **options: Any,
    ) -> FetchResponse:
        response: FetchResponse = await client.call(self.fetch_request(version, wanted, **options), version)
        return response

    async def fetch_one(
        self,
        client: Client,
        offset: int | FetchPartition = 0,
        *,
        topic: str = "topic",
        version: int = 12,
        **options: Any,
    ) -> PartitionData:
        """Partition 0 of a topic."""
        response = await self.fetch(client, {(topic, 0): offset}, version=version, **options)
        return response.responses[0].partitions[0]


def batch(*values: bytes, timestamp_ms: int = NOW_MS, **options: Any) -> bytearray:
    """A batch of records without keys."""
    return build_batch([Record(timestamp_ms=timestamp_ms, value=value) for value in values], **options)


def values(data: PartitionData) -> list[bytes | None]:
    """The values of the whole batches that a fetch gave."""
    records = bytes(data.records or b"")
    whole = 0
    while whole + 12 <= len(records) and whole + 12 + int.from_bytes(records[whole + 8 : whole + 12], "big") <= len(
        records
    ):
        whole += 12 + int.from_bytes(records[whole + 8 : whole + 12], "big")
    return [record.value for record in read_records(records[:whole])]


@asynccontextmanager
async def world(settings: Mapping[str, object] | None = None, disk: Disk | None = None) -> AsyncIterator[World]:
    """A running broker without topics."""
    disk = disk or MemoryDisk()
    clock = Clock()
    env = Env(disk, clock, random.Random(4))
    merged = {"log.dirs": "data", "node.id": NODE_ID, **(settings or {})}
    config = BrokerConfig.of(merged)
    directories = LogDirectories(config, env)
    await directories.start()
    metadata = FixedMetadata()
    replicas = Replicas(NODE_ID, config, directories)
    broker = make_broker(merged, env=env, metadata=metadata, replicas=replicas, log_directories=directories)
    made = World(broker, metadata, replicas, clock, disk)
    async with listening(broker) as listener:
        made.listener = listener
        try:
            yield made
        finally:
            await made.close_clients()
            await listener.close(grace_s=0.5)
            await directories.stop()
            env.close()
