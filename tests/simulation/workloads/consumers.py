"""A consumer group whose members come, go, crash and oversleep, on topics that grow, disappear and come back."""

from __future__ import annotations

import asyncio

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from tests.simulation.workloads.client import GROUP, Client
from tests.simulation.workloads.cluster import Cluster
from tests.simulation.workloads.members import (
    FLEETING,
    Group,
    Holding,
    Member,
    NotMemberError,
    commit_offsets,
    committed_offsets,
)
from tests.simulation.workloads.producer import IdempotentProducer, Ledger, TopicPartition
from tests.simulation.workloads.reader import READ_COMMITTED, fetch, visible

EVENTS = "events"
FIRST_PARTITIONS, MOST_PARTITIONS = 2, 7
MEAN_LIFE_S = 6.0


class Consumers:
    """The group, its topics, and what its members have processed."""

    def __init__(
        self, cluster: Cluster, ledger: Ledger, *, slots: int, protocols: tuple[type[Member], ...], static: bool
    ) -> None:
        self.cluster = cluster
        self.ledger = ledger
        self.group = Group(cluster, "readers", is_mixed=len(protocols) > 1)
        self.slots = slots
        self.protocols = protocols
        self.static = static
        self.partitions = FIRST_PARTITIONS
        self.processed: dict[TopicPartition, set[int]] = {}
        self.is_over = False

    @property
    def places(self) -> list[TopicPartition]:
        return [(EVENTS, index) for index in range(self.partitions)]

    async def create_topics(self) -> None:
        admin = self.cluster.client("consumers-admin")
        await admin.find_coordinator(self.group.group_id, GROUP)
        await admin.create_topic(EVENTS, self.partitions)
        await admin.create_topic(FLEETING, 2)

    def start(self) -> None:
        self.cluster.spawn(self._supply())
        self.cluster.spawn(self._administrate())
        for slot in range(self.slots):
            self.cluster.spawn(self._keep_running(slot))

    async def _supply(self) -> None:
        client = self.cluster.client("events-supplier")
        producer = IdempotentProducer(client, self.ledger)
        await producer.start()
        number = 0
        while not self.cluster.is_calm:
            place = client.random.choice(self.places)
            size = client.random.choice((1, 1, 5))
            await producer.write(*place, [(None, b"%d" % (number + index)) for index in range(size)])
            number += size
            await asyncio.sleep(client.random.expovariate(4))

    async def _administrate(self) -> None:
        client = self.cluster.client("operator")
        dice = client.random
        while not self.cluster.is_calm:
            await asyncio.sleep(dice.expovariate(1 / 6))
            if dice.random() < 0.5 and self.partitions < MOST_PARTITIONS:
                topic = CreatePartitionsTopic(name=EVENTS, count=self.partitions + dice.randint(1, 2), assignments=None)
                request = CreatePartitionsRequest(topics=[topic], timeout_ms=10_000, validate_only=False)
                await client.insist(request, 3, CreatePartitionsResponse)
                self.partitions = len((await client.describe([EVENTS]))[EVENTS].partitions)
                self.cluster.count("topics grown")
            else:
                deletion = DeleteTopicsRequest(topic_names=[FLEETING], timeout_ms=10_000)
                await client.insist(deletion, 5, DeleteTopicsResponse)
                await asyncio.sleep(dice.choice((0.0, 3.0 * dice.random())))
                await client.create_topic(FLEETING, dice.randint(1, 3))
                self.cluster.count("topics made again")

    async def _keep_running(self, slot: int) -> None:
        dice = self.cluster.random(f"consumer slot {slot}")
        number = 0
        while not self.is_over:
            number += 1
            client = self.cluster.client(f"consumer-{slot}.{number}")
            running = self.cluster.spawn(self._instance(client, slot, dice.choice(self.protocols)))
            while not running.done() and not self.is_over:
                await asyncio.wait({running}, timeout=dice.expovariate(1 / MEAN_LIFE_S))
                if not self.cluster.is_calm:
                    break
            running.cancel()
            await asyncio.sleep(dice.choice((0.0, dice.random(), 8 * dice.random())))

    async def _instance(self, client: Client, slot: int, protocol: type[Member]) -> None:
        dice = client.random
        instance_id = f"static-{slot}" if self.static else None
        member = protocol(client, self.group, [EVENTS, FLEETING], instance_id=instance_id)
        positions: dict[TopicPartition, tuple[Holding, int]] = {}
        rounds = dice.choice((3, 30, 1_000_000))
        try:
            while rounds or self.cluster.is_calm:
                rounds -= 1
                await self._round(client, member, positions)
                await self._nap(client)
            if member.owned:
                await self._commit(member, positions)
            await member.leave()
            self.cluster.count("members that left")
        except NotMemberError:
            self.cluster.count("fenced members")
        finally:
            client.close()

    async def _round(
        self, client: Client, member: Member, positions: dict[TopicPartition, tuple[Holding, int]]
    ) -> None:
        await member.poll()
        current = dict(member.owned)
        for place in [place for place, (holding, _) in positions.items() if current.get(place) is not holding]:
            del positions[place]
        fresh = frozenset(current.keys() - positions.keys())
        if fresh:
            found = await committed_offsets(client, self.group, fresh)
            positions.update({place: (current[place], max(offset, 0)) for place, offset in found.items()})
        if not positions:
            await asyncio.sleep(0.1)
            return
        for place in sorted(positions):
            holding, offset = positions[place]
            data = await fetch(client, *place, offset, max_wait_ms=client.random.choice((0, 100)))
            if (place[0] == FLEETING or self.cluster.may_lose) and data.error_code != ErrorCode.NONE:
                expected = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.OFFSET_OUT_OF_RANGE)
                assert data.error_code in expected, data
                positions[place] = (holding, 0)
                continue
            assert data.error_code == ErrorCode.NONE, (place, offset, data.error_code)
            found_records, position = visible(data, offset, READ_COMMITTED)
            self.processed.setdefault(place, set()).update(found_records)
            positions[place] = (holding, position)
        if client.random.random() < 0.2:
            await self._nap(client, 0.05)  # and commit what may be somebody else's by now
            await self._commit(member, positions)

    async def _nap(self, client: Client, probability: float = 0.015) -> None:
        if not self.cluster.is_calm and client.random.random() < probability:
            self.cluster.count("naps")
            await asyncio.sleep(client.random.choice((1.0, 15.0)) * client.random.random())

    async def _commit(self, member: Member, positions: dict[TopicPartition, tuple[Holding, int]]) -> None:
        offsets = {place: offset for place, (holding, offset) in positions.items() if offset}
        if offsets and await commit_offsets(member, offsets):
            self.cluster.count("commits")

    def is_stable(self) -> bool:
        """Whether every partition has an owner, and the owners are there."""
        return all(self.group.owner_of(place) is not None for place in self.places)

    def missing(self) -> dict[TopicPartition, set[int]]:
        """What was written and nobody processed."""
        return {
            place: left
            for place in self.places
            if (left := self.ledger.plain.get(place, {}).keys() - self.processed.get(place, set()))
        }
