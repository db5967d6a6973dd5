"""Coordinators that move between brokers whose logs lose uncommitted tails: what was acknowledged holds, nothing else.

Each client has a key of its own and asks one thing after the other, of whoever it takes for the coordinator. What it
was told has happened must be there wherever the coordinator is next; what it was not told may have happened or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

import pytest

from ottla.core.errors import ErrorCode as E
from ottla.core.topics import OFFSETS_TOPIC, SHARE_STATE_TOPIC, TRANSACTIONS_TOPIC
from ottla.protocol.messages import initialize_share_group_state as initializing
from ottla.protocol.messages import read_share_group_state_summary as reading
from ottla.protocol.messages import write_share_group_state as writing
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.protocol.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchRequestTopics
from ottla.server.coordinator.service import GroupCoordinator
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.share.service import arrival
from ottla.server.coordinator.share_state.service import ShareStateCoordinator
from ottla.server.coordinator.share_state.shard import ShareStateSettings
from ottla.server.coordinator.transactions.service import TransactionCoordinator
from ottla.server.coordinator.transactions.settings import TransactionSettings
from ottla.server.metadata.image import MetadataImage, PartitionImage, TopicImage, TopicsImage
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.coordinator.replicated_log import ReplicatedLog

BROKERS = 3
CLIENTS = 4
STEPS = 1_000
DATA_TOPIC = TopicImage(
    "t",
    bytes(15) + b"\2",
    {0: PartitionImage(replicas=(0,), isr=(0,), leader=0, leader_epoch=0, partition_epoch=0, directories=())},
)


class Register(Protocol):
    """A kind of coordinator as a place that holds one number for each key."""

    topic: str

    def open(self, broker: int, env: SimulatedEnv, log: ReplicatedLog) -> Any:
        """A broker's coordinator."""

    async def write(self, coordinator: Any, key: str, value: int) -> tuple[E, int]:
        """Store a number greater than all before; the code, and the number stored."""

    async def read(self, coordinator: Any, key: str) -> tuple[E, int]:
        """The code, and the number; -1 when there is none."""


async def nothing() -> None:
    """The topic is there."""


class Offsets:
    """Committed offsets of groups."""

    topic = OFFSETS_TOPIC

    def open(self, broker: int, env: SimulatedEnv, log: ReplicatedLog) -> GroupCoordinator:
        settings = GroupSettings(offsets_topic_partition_count=1)
        return GroupCoordinator(
            settings, env, node_id=broker, open_log=lambda index: log.logs[broker], create_topic=nothing
        )

    async def write(self, coordinator: GroupCoordinator, key: str, value: int) -> tuple[E, int]:
        partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=value, committed_metadata="")
        request = OffsetCommitRequest(
            group_id=key,
            generation_id_or_member_epoch=-1,
            topics=[OffsetCommitRequestTopic(name="t", partitions=[partition])],
        )
        response = await arrival(coordinator.commit_offsets(request, 8))
        return E(response.topics[0].partitions[0].error_code), value

    async def read(self, coordinator: GroupCoordinator, key: str) -> tuple[E, int]:
        group = OffsetFetchRequestGroup(
            group_id=key, topics=[OffsetFetchRequestTopics(name="t", partition_indexes=[0])]
        )
        response = await arrival(coordinator.fetch_offsets(group, require_stable=True))
        if response.error_code:
            return E(response.error_code), -1
        return E.NONE, response.topics[0].partitions[0].committed_offset


class ProducerEpochs:
    """Epochs of transactional ids: each InitProducerId bumps it."""

    topic = TRANSACTIONS_TOPIC

    def __init__(self) -> None:
        self.next_id = 0

    def open(self, broker: int, env: SimulatedEnv, log: ReplicatedLog) -> TransactionCoordinator:
        return TransactionCoordinator(
            TransactionSettings(topic_partition_count=1),
            env,
            node_id=broker,
            open_log=lambda index: log.logs[broker],
            create_topic=nothing,
            producer_ids=self,  # type: ignore[arg-type]
            markers=None,  # type: ignore[arg-type]
        )

    def try_producer_id(self) -> int:
        self.next_id += 1
        return self.next_id

    async def write(self, coordinator: TransactionCoordinator, key: str, value: int) -> tuple[E, int]:
        outcome = await arrival(coordinator.init_producer_id(key, 60_000, (-1, -1)))
        return outcome.code, outcome.producer[1]

    async def read(self, coordinator: TransactionCoordinator, key: str) -> tuple[E, int]:
        found = await arrival(coordinator.describe(key))
        if found is E.TRANSACTIONAL_ID_NOT_FOUND:
            return E.NONE, -1
        return (found, -1) if isinstance(found, E) else (E.NONE, found.producer_epoch)


class ShareStarts:
    """Start offsets of share partitions."""

    topic = SHARE_STATE_TOPIC

    def open(self, broker: int, env: SimulatedEnv, log: ReplicatedLog) -> ShareStateCoordinator:
        settings = ShareStateSettings(partition_count=1, updates_per_snapshot=5)
        return ShareStateCoordinator(
            settings, env, node_id=broker, open_log=lambda index: log.logs[broker], create_topic=nothing
        )

    async def write(self, coordinator: ShareStateCoordinator, key: str, value: int) -> tuple[E, int]:
        code, known = await self.read(coordinator, key)
        if code is not E.NONE:
            return code, value
        response: Any
        if known < 0:
            beginning = initializing.PartitionData(partition=0, state_epoch=0, start_offset=value)
            response = await arrival(
                coordinator.initialize(
                    initializing.InitializeShareGroupStateRequest(
                        group_id=key,
                        topics=[initializing.InitializeStateData(topic_id=DATA_TOPIC.topic_id, partitions=[beginning])],
                    )
                )
            )
        else:
            data = writing.PartitionData(
                partition=0,
                state_epoch=0,
                leader_epoch=0,
                start_offset=value,
                delivery_complete_count=0,
                state_batches=[],
            )
            response = await arrival(
                coordinator.write(
                    writing.WriteShareGroupStateRequest(
                        group_id=key, topics=[writing.WriteStateData(topic_id=DATA_TOPIC.topic_id, partitions=[data])]
                    )
                )
            )
        return E(response.results[0].partitions[0].error_code), value

    async def read(self, coordinator: ShareStateCoordinator, key: str) -> tuple[E, int]:
        wanted = reading.PartitionData(partition=0, leader_epoch=-1)
        response = await arrival(
            coordinator.read_summary(
                reading.ReadShareGroupStateSummaryRequest(
                    group_id=key,
                    topics=[reading.ReadStateSummaryData(topic_id=DATA_TOPIC.topic_id, partitions=[wanted])],
                )
            )
        )
        result = response.results[0].partitions[0]
        return E(result.error_code), result.start_offset


class World:
    def __init__(self, env: SimulatedEnv, register: Register, random: Random) -> None:
        self.register = register
        self.random = random
        self.log = ReplicatedLog(BROKERS, random, refuses=0.05)
        self.coordinators = {broker: register.open(broker, env, self.log) for broker in range(BROKERS)}
        self.acknowledged = self.refused = self.moves = 0
        for broker in range(BROKERS):
            self.tell(broker)

    def tell(self, broker: int) -> None:
        """The broker learns who leads."""
        self.log.depose(broker)
        placed = PartitionImage(
            replicas=tuple(range(BROKERS)),
            isr=tuple(range(BROKERS)),
            leader=self.log.leader,
            leader_epoch=self.log.epoch,
            partition_epoch=0,
            directories=(),
        )
        topic = TopicImage(self.register.topic, bytes(15) + b"\1", {0: placed})
        topics = TopicsImage(
            {topic.name: topic, DATA_TOPIC.name: DATA_TOPIC},
            {topic.topic_id: topic, DATA_TOPIC.topic_id: DATA_TOPIC},
        )
        image = MetadataImage(features={"transaction.version": 2}, topics=topics)
        coordinator = self.coordinators[broker]
        coordinator.image = image
        coordinator._follow_topic(image)

    async def disturb(self) -> None:
        """Fetches, elections, and leaders that hear of them late."""
        for _ in range(STEPS):
            await asyncio.sleep(self.random.random() / 50)
            choice = self.random.random()
            if choice < 0.75:
                self.log.copy(self.random.randrange(BROKERS))
            elif choice < 0.8:
                self.moves += 1
                self.log.elect(self.random.randrange(BROKERS))
                self.tell(self.log.leader)
            elif choice < 0.97:
                self.tell(self.random.randrange(BROKERS))
            else:
                await asyncio.sleep(self.random.random() * 7)  # nobody fetches: answers give up waiting

    async def heal(self) -> None:
        """Everybody knows the leader and has what it has."""
        for broker in range(BROKERS):
            self.tell(broker)
        for _ in range(2 * STEPS):
            for broker in range(BROKERS):
                self.log.copy(broker)
        await self.coordinators[self.log.leader].wait_until_loaded()


async def client(world: World, key: str, is_over: Callable[[], bool]) -> set[int]:
    """What the key may hold at the end."""
    register, random = world.register, world.random
    possible = {-1}
    value = 0
    while not is_over():
        await asyncio.sleep(random.random() / 20)
        coordinator = world.coordinators[random.choice([world.log.leader, random.randrange(BROKERS)])]
        value += 1
        if random.random() < 0.3:
            code, found = await register.read(coordinator, key)
            if code is E.NONE:
                assert found in possible, f"{key}: {found}, and not one of {sorted(possible)}"
                # What was tried after it may still be in a tail that some later leader has.
                possible = {found} | {tried for tried in possible if tried > found}
        elif register.topic == TRANSACTIONS_TOPIC:
            code, epoch = await register.write(coordinator, key, value)
            if code is E.NONE:
                # Refused attempts may have bumped it; nobody else ever got this one.
                assert epoch > min(possible), f"{key}: epoch {epoch} again, after {sorted(possible)}"
                assert epoch <= max(possible) + 1
                possible = {epoch}
            else:
                possible |= {held + 1 for held in possible}
        else:
            code, _ = await register.write(coordinator, key, value)
            possible = {value} if code is E.NONE else possible | {value}
        if code is E.NONE:
            world.acknowledged += 1
        else:
            world.refused += 1
            assert code in (E.NOT_COORDINATOR, E.COORDINATOR_LOAD_IN_PROGRESS, E.COORDINATOR_NOT_AVAILABLE,
                            E.NOT_ENOUGH_REPLICAS, E.NOT_LEADER_OR_FOLLOWER), code  # fmt: skip
    return possible


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", [Offsets, ProducerEpochs, ShareStarts])
def test_what_was_acknowledged_survives_its_coordinators(kind: Callable[[], Register], seed: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = World(env, kind(), Random(f"failover {seed}"))
        is_over = False
        keys = [f"key {number}" for number in range(CLIENTS)]
        clients = [asyncio.create_task(client(world, key, lambda: is_over)) for key in keys]
        await world.disturb()
        is_over = True
        healing = asyncio.create_task(world.heal())
        possible = dict(zip(keys, await asyncio.gather(*clients), strict=True))
        await healing
        for broker in range(BROKERS):
            world.log.elect(broker)
            await world.heal()
            for key in keys:
                code, found = await world.register.read(world.coordinators[broker], key)
                assert code is E.NONE
                assert found in possible[key], f"{key}: {found}, and not one of {sorted(possible[key])}"
                possible[key] = {found}
        assert world.moves > 5
        assert world.acknowledged > 20
        assert world.refused > 5
        for coordinator in world.coordinators.values():
            coordinator._runtime.stop()

    simulate(main, seed=seed, shuffle=True)
