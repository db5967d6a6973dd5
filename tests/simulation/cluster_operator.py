"""An operator who does not wait until all is well: moves partitions, elects leaders, makes and deletes topics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from ottla.protocol.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
from ottla.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse
from tests.simulation.cluster_client import error_codes
from tests.simulation.workloads.checks import until
from tests.simulation.workloads.client import RETRIABLE, TOPIC_RESOURCE, BrokenError, Client

if TYPE_CHECKING:
    from tests.simulation.cluster_world import ClusterWorld

FLEETING = "fleeting"
PATIENCE_S = 20.0
#: What an operator may be told while nodes come and go, and tries again another time.
EXPECTED = RETRIABLE | {
    ErrorCode.NONE,
    ErrorCode.NOT_CONTROLLER,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.TOPIC_ALREADY_EXISTS,
    ErrorCode.INVALID_REPLICATION_FACTOR,
    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
    ErrorCode.ELECTION_NOT_NEEDED,
    ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
    ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
    ErrorCode.NO_REASSIGNMENT_IN_PROGRESS,
    ErrorCode.THROTTLING_QUOTA_EXCEEDED,
    ErrorCode.BROKER_NOT_AVAILABLE,
    ErrorCode.UNKNOWN_SERVER_ERROR,
}


class Operator:
    """Changes things while faults go on."""

    def __init__(self, world: ClusterWorld, topics: list[str]) -> None:
        self.world = world
        self.topics = topics
        self.client = world.client("the operator")

    async def run(self) -> None:
        """Until all is calm."""
        dice = self.client.random
        while not self.world.is_calm:
            await asyncio.sleep(dice.expovariate(0.5))
            if self.world.is_calm:
                return
            act = dice.choice((self._move, self._move, self._cancel, self._elect, self._come_and_go, self._configure))
            try:
                await act()
            except BrokenError:
                self.world.count("orders nobody answered")

    async def finished(self) -> None:
        """Every reassignment comes to its end."""

        client = self.world.client("who waits for reassignments")

        async def is_done() -> bool:
            asking = ListPartitionReassignmentsRequest(topics=None)
            answer = await client.insist(asking, 0, ListPartitionReassignmentsResponse)
            return not answer.error_code and not answer.topics

        await until(self.world, "all reassignments are done", is_done)  # type: ignore[arg-type]

    def _check(self, what: str, codes: set[int]) -> None:
        self.world.count(what)
        if unexpected := codes - EXPECTED:
            self.world.fail(f"{what}: {[ErrorCode(code).name for code in unexpected]}")

    async def _reassign(self, topic: str, partition: int, replicas: list[int] | None) -> None:
        one = ReassignablePartition(partition_index=partition, replicas=replicas)
        request = AlterPartitionReassignmentsRequest(
            timeout_ms=5000, topics=[ReassignableTopic(name=topic, partitions=[one])]
        )
        answer = await self.client.ask(request, 0, AlterPartitionReassignmentsResponse)
        self._check("reassignments" if replicas else "reassignments cancelled", set(error_codes(answer)))

    async def _place(self) -> tuple[str, int] | None:
        dice = self.client.random
        topic = dice.choice(self.topics)
        found = await self.client.describe([topic])
        return (topic, dice.randrange(len(found[topic].partitions))) if topic in found else None

    async def _move(self) -> None:
        dice = self.client.random
        brokers = [one.node_id for one in self.world.brokers]
        if place := await self._place():
            await self._reassign(*place, dice.sample(brokers, min(3, len(brokers))))

    async def _cancel(self) -> None:
        if place := await self._place():
            await self._reassign(*place, None)

    async def _elect(self) -> None:
        request = ElectLeadersRequest(election_type=0, topic_partitions=None, timeout_ms=5000)
        answer = await self.client.ask(request, 2, ElectLeadersResponse)
        self._check("elections", set(error_codes(answer)))

    async def _come_and_go(self) -> None:
        dice = self.client.random
        if dice.random() < 0.5:
            deletion = DeleteTopicsRequest(topic_names=[FLEETING], timeout_ms=5000)
            gone = await self.client.ask(deletion, 5, DeleteTopicsResponse)
            self._check("topics deleted", set(error_codes(gone)))
        else:
            topic = CreatableTopic(
                name=FLEETING,
                num_partitions=dice.randint(1, 4),
                replication_factor=self.world.replication_factor,
            )
            made = await self.client.ask(CreateTopicsRequest(topics=[topic]), 7, CreateTopicsResponse)
            self._check("topics made", set(error_codes(made)))

    async def _configure(self) -> None:
        dice = self.client.random
        topic = dice.choice(self.topics)
        size = str(dice.choice((20_000, 1_000_000)))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.client.alter(TOPIC_RESOURCE, topic, internal_segment_bytes=size)
        except TimeoutError:
            raise BrokenError("a node may be out of reach for longer") from None
        self.world.count("topics configured")


NEWEST = {
    "metadata.version": 30,
    "transaction.version": 2,
    "group.version": 1,
    "eligible.leader.replicas.version": 1,
    "share.version": 1,
    "streams.version": 1,
}
OLDEST_LEVEL = 21
"""3.9-IV0, the first metadata.version with dynamic quorums."""


async def upgrade(world: ClusterWorld) -> None:
    """Finalize newer levels of all features, the metadata's in two steps, as operators do after a rolling upgrade."""
    client = world.client("upgrader")
    dice = client.random
    first = ("metadata.version", dice.randrange(OLDEST_LEVEL + 1, NEWEST["metadata.version"]))
    steps = list(NEWEST.items())[1:]
    dice.shuffle(steps)
    for feature, level in [first, ("metadata.version", NEWEST["metadata.version"]), *steps]:
        await asyncio.sleep(dice.expovariate(1 / 2))
        while not await _finalize(world, client, feature, level):
            await client.back_off()
        world.note(f"{feature} is {level}")
        world.count("features upgraded")


async def _finalize(world: ClusterWorld, client: Client, feature: str, level: int) -> bool:
    update = FeatureUpdateKey(feature=feature, max_version_level=level)
    try:
        answer = await client.ask(UpdateFeaturesRequest(feature_updates=[update]), 1, UpdateFeaturesResponse)
    except BrokenError:
        return False
    codes = set(error_codes(answer)) - {ErrorCode.NONE}
    # A node that is away, or not registered again yet, may be one that does not know the level.
    if unexpected := codes - RETRIABLE - {ErrorCode.NOT_CONTROLLER, ErrorCode.INVALID_UPDATE_VERSION}:
        world.fail(f"upgrade of {feature} to {level}: {unexpected}, {answer}")
    return not codes
