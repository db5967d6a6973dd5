"""Brokers that replicate for real, over the simulated network; the controller is a stand-in that elects and agrees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionResponsePartitionData,
    AlterPartitionResponseTopicData,
)
from ottla.protocol.messages.assign_replicas_to_dirs import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse,
    AssignReplicasToDirsResponseDirectoryData,
    AssignReplicasToDirsResponsePartitionData,
    AssignReplicasToDirsResponseTopicData,
)
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, PartitionData
from ottla.protocol.messages.metadata_records import (
    BrokerEndpoint,
    BrokerRegistrationChangeRecord,
    ConfigRecord,
    FeatureLevelRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RegisterBrokerRecord,
    TopicRecord,
)
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.record import Record, build_batch
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.schema.listeners import Listener as ListenerAddress
from ottla.server.broker.broker import Broker
from ottla.server.broker.connection_limits import ConnectionLimits
from ottla.server.broker.dispatch import Router
from ottla.server.broker.listener import Listener
from ottla.server.log.directories import LogDirectories
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE
from ottla.server.peers.peers import Peers
from ottla.server.replication.partition import Partition
from ottla.server.replication.replicas import Replicas
from ottla.server.replication.replication import Replication
from ottla.testing.sim.env import SimulatedEnv
from tests.server.broker.support import FixedLog, FixedMetadata

HOST = "127.0.0.1"
TOPIC = "replicated"
TOPIC_ID = bytes(range(16))
SETTINGS: dict[str, object] = {"log.dirs": "/data", "replica.lag.time.max.ms": 1500, "replica.fetch.backoff.ms": 100}


class Node:
    """One broker; its disk stays when it is killed."""

    def __init__(self, world: World, node_id: int, settings: dict[str, object]) -> None:
        self.world = world
        self.node_id = node_id
        self.settings = settings
        self.disk = MemoryDisk(now_ms=world.env.virtual_clock.now_ms)
        self.broker_epoch = 0
        self.is_running = False

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        env = self.env = SimulatedEnv(loop, Random(f"{self.world.seed} {self.node_id}"), self.disk)
        config = BrokerConfig.of({**SETTINGS, "node.id": self.node_id, **self.settings})
        self.directories = LogDirectories(config, env)
        await self.directories.start()
        self.replicas = Replicas(self.node_id, config, self.directories)
        self.metadata = FixedMetadata()
        self.broker = Broker(
            node_id=self.node_id,
            cluster_id="cluster",
            config=config,
            env=env,
            metadata=self.metadata,  # type: ignore[arg-type]
            metadata_log=FixedLog(),  # type: ignore[arg-type]
            controller=None,
            replicas=self.replicas,
            log_directories=self.directories,
            coordinators=None,  # type: ignore[arg-type]
        )
        self.peers = Peers(client_id=f"broker-{self.node_id}")
        self.replication = Replication(
            config, env, self.replicas, self.directories, self.peers, self.world, lambda: self.broker_epoch
        )
        address = ListenerAddress("PLAINTEXT", "PLAINTEXT", HOST, 9090 + self.node_id)
        self.listener = Listener(self.broker, address, Router(), ConnectionLimits.from_config(config))
        await self.listener.start()
        self.replication.start()
        self.metadata.image = self.world.image
        self.replicas.load(self.world.image)
        self.is_running = True

    def apply(self, delta: MetadataDelta, image: Any) -> None:
        if self.is_running:
            self.metadata.image = image
            self.replicas.apply(delta, image)
            self.replication.apply(delta, image)

    async def kill(self) -> None:
        self.is_running = False
        self.listener.abort()
        await self.replication.stop()
        await self.peers.close()
        await self.directories.stop(clean=False)

    def partition(self, index: int = 0) -> Partition:
        found = self.replicas.get(TOPIC, index)
        assert found is not None
        return found


class World:
    """The cluster, its controller, and a client."""

    def __init__(self, env: SimulatedEnv, seed: int, settings: dict[str, object]) -> None:
        self.env = env
        self.seed = seed
        self.random = Random(seed)
        self.image = EMPTY_IMAGE
        self.nodes = {node_id: Node(self, node_id, settings) for node_id in (1, 2, 3)}
        self.client = Peers(client_id="client")
        self.assigned: dict[tuple[bytes, int], bytes] = {}
        self.alterations = 0
        self._offset = 0

    def commit(self, *records: Any) -> None:
        """All nodes hear of it, each a little later than the one before."""
        delta = MetadataDelta(self.image)
        for record in records:
            delta.replay(record)
        self._offset += 1
        self.image = delta.apply(self._offset, 0, 0)
        loop = asyncio.get_running_loop()
        for node in self.nodes.values():
            # In order, as a log is read: the same delay for all that one node hears.
            loop.call_later(0.001 * node.node_id, node.apply, delta, self.image)

    async def start(self, node_id: int) -> None:
        node = self.nodes[node_id]
        node.broker_epoch = self._offset + 1
        endpoint = BrokerEndpoint(name="PLAINTEXT", host=HOST, port=9090 + node_id, security_protocol=0)
        self.commit(
            RegisterBrokerRecord(
                broker_id=node_id,
                broker_epoch=node.broker_epoch,
                incarnation_id=self.random.randbytes(16),
                end_points=[endpoint],
                fenced=False,
                rack=f"rack-{node_id}",
            )
        )
        await node.start()

    async def kill(self, node_id: int) -> None:
        """The process is gone; the controller finds out, and elects."""
        node = self.nodes[node_id]
        await node.kill()
        self.commit(BrokerRegistrationChangeRecord(broker_id=node_id, broker_epoch=node.broker_epoch, fenced=1))
        for index, placed in self.image.topics.by_id[TOPIC_ID].partitions.items():
            isr = [member for member in placed.isr if member != node_id] or [node_id]
            leader = placed.leader if placed.leader != node_id else isr[0]
            self.change(index, leader=leader if leader != node_id else -1, isr=isr)

    def change(self, index: int = 0, **changes: Any) -> None:
        self.commit(PartitionChangeRecord(partition_id=index, topic_id=TOPIC_ID, **changes))

    def create_topic(self, partitions: int = 1, replicas: Sequence[int] = (1, 2, 3), **settings: str) -> None:
        self.commit(
            FeatureLevelRecord(name="metadata.version", feature_level=20),
            TopicRecord(name=TOPIC, topic_id=TOPIC_ID),
            *(
                ConfigRecord(resource_type=2, resource_name=TOPIC, name=name.replace("_", "."), value=value)
                for name, value in settings.items()
            ),
            *(
                PartitionRecord(
                    partition_id=index,
                    topic_id=TOPIC_ID,
                    replicas=list(replicas),
                    isr=list(replicas),
                    leader=replicas[index % len(replicas)],
                    leader_epoch=0,
                    partition_epoch=0,
                )
                for index in range(partitions)
            ),
        )

    async def request(self, message: Any, *, timeout_ms: int) -> Any:
        """What a broker asks the controller."""
        await asyncio.sleep(0.003)
        if isinstance(message, AlterPartitionRequest):
            return self.alter(message)
        assert isinstance(message, AssignReplicasToDirsRequest)
        for directory in message.directories:
            for topic in directory.topics:
                for partition in topic.partitions:
                    self.assigned[topic.topic_id, message.broker_id * 100 + partition.partition_index] = directory.id
        return AssignReplicasToDirsResponse(
            directories=[
                AssignReplicasToDirsResponseDirectoryData(
                    id=directory.id,
                    topics=[
                        AssignReplicasToDirsResponseTopicData(
                            topic_id=topic.topic_id,
                            partitions=[
                                AssignReplicasToDirsResponsePartitionData(partition_index=partition.partition_index)
                                for partition in topic.partitions
                            ],
                        )
                        for topic in directory.topics
                    ],
                )
                for directory in message.directories
            ]
        )

    def alter(self, message: AlterPartitionRequest) -> AlterPartitionResponse:
        self.alterations += 1
        answers = []
        for data in message.topics[0].partitions:
            placed = self.image.topics.by_id[TOPIC_ID].partitions[data.partition_index]
            answer = AlterPartitionResponsePartitionData(partition_index=data.partition_index)
            if data.leader_epoch != placed.leader_epoch or message.broker_id != placed.leader:
                answer.error_code = ErrorCode.FENCED_LEADER_EPOCH
            elif data.partition_epoch != placed.partition_epoch:
                answer.error_code = ErrorCode.INVALID_UPDATE_VERSION
            else:
                self.change(data.partition_index, isr=[state.broker_id for state in data.new_isr_with_epochs])
                placed = self.image.topics.by_id[TOPIC_ID].partitions[data.partition_index]
                answer.leader_id, answer.leader_epoch = placed.leader, placed.leader_epoch
                answer.isr, answer.partition_epoch = list(placed.isr), placed.partition_epoch
            answers.append(answer)
        topic = AlterPartitionResponseTopicData(topic_id=TOPIC_ID, partitions=answers)
        return AlterPartitionResponse(topics=[topic])

    # What a client does

    def leader_of(self, index: int = 0) -> int:
        return self.image.topics.by_id[TOPIC_ID].partitions[index].leader

    async def produce(self, value: bytes, index: int = 0, *, acks: int = -1, timeout_ms: int = 3000) -> Any:
        """The partition's answer. Raises PeerError."""
        batch = build_batch([Record(timestamp_ms=self.env.clock.now_ms(), value=value)])
        topic = TopicProduceData(topic_id=TOPIC_ID, partition_data=[PartitionProduceData(index=index, records=batch)])
        request = ProduceRequest(acks=acks, timeout_ms=timeout_ms, transactional_id=None, topic_data=[topic])
        response = await self.client.send((HOST, 9090 + self.leader_of(index)), request, timeout_ms=10_000)
        return response.responses[0].partition_responses[0]

    async def fetch(self, node_id: int, offset: int = 0, *, rack: str = "", epoch: int = -1) -> PartitionData:
        wanted = FetchPartition(
            partition=0, fetch_offset=offset, current_leader_epoch=epoch, partition_max_bytes=1 << 20
        )
        request = FetchRequest(
            max_wait_ms=0, min_bytes=1, topics=[FetchTopic(topic_id=TOPIC_ID, partitions=[wanted])], rack_id=rack
        )
        response = await self.client.send((HOST, 9090 + node_id), request, timeout_ms=10_000)
        found: PartitionData = response.responses[0].partitions[0]
        return found

    async def until(self, condition: Any, seconds: float = 30.0) -> None:
        for _ in range(int(seconds * 100)):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it does not happen")

    def in_step(self, index: int = 0) -> bool:
        """All replicas have the same end, and all of it is committed on the leader."""
        logs = [node.partition(index).log for node in self.nodes.values() if node.is_running]
        leader = self.nodes[self.leader_of(index)].partition(index).log
        return len({log.log_end_offset for log in logs}) == 1 and leader.high_watermark == leader.log_end_offset


@asynccontextmanager
async def cluster(env: SimulatedEnv, seed: int = 0, **settings: object) -> AsyncIterator[World]:
    """Three brokers, without topics."""
    named = {name.replace("_", "."): value for name, value in settings.items()}
    world = World(env, seed, named)
    for node_id in world.nodes:
        await world.start(node_id)
    await asyncio.sleep(0.01)
    try:
        yield world
    finally:
        await world.client.close()
        for node in world.nodes.values():
            if node.is_running:
                await node.kill()
