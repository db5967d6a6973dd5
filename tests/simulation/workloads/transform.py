"""Applications that consume, transform and produce in transactions: they crash, nap, abort, and are replaced alive."""

from __future__ import annotations

import asyncio

from ottla.core.errors import ErrorCode
from tests.simulation.workloads.client import GROUP, TRANSACTION, Client
from tests.simulation.workloads.cluster import Cluster
from tests.simulation.workloads.members import (
    ClassicMember,
    Group,
    Holding,
    Member,
    NotMemberError,
    committed_offsets,
)
from tests.simulation.workloads.producer import (
    AbortableError,
    FencedError,
    IdempotentProducer,
    Ledger,
    TopicPartition,
    TransactionalProducer,
)
from tests.simulation.workloads.reader import READ_COMMITTED, fetch, visible

INPUT, OUTPUT, TABLE = "orders", "results", "table"
INPUT_PARTITIONS, OUTPUT_PARTITIONS = 3, 2
TABLE_KEYS = 6
MEAN_LIFE_S = 8.0
TIMEOUT_MS = 8_000
LONG_TIMEOUT_MS = 30_000


class Transform:
    """One application: every record of the input becomes one of the output, exactly once, and a row of the table.

    A slot has one instance at a time, as far as the one who starts them knows: some were only asleep when they were
    replaced. All instances of a slot share a transactional id, and fence each other with it; with `own_ids` each has
    its own, and only the group's epochs keep the old ones from committing (KIP-447).
    """

    def __init__(
        self,
        cluster: Cluster,
        ledger: Ledger,
        *,
        slots: int,
        protocols: tuple[type[Member], ...],
        v2: bool,
        own_ids: bool = False,
    ) -> None:
        self.cluster = cluster
        self.ledger = ledger
        self.group = Group(cluster, "transform", is_mixed=len(protocols) > 1)
        self.slots = slots
        self.protocols = protocols
        self.v2 = v2
        self.own_ids = own_ids
        self.inputs: list[bytes] = []
        self.is_over = False
        self._sleepy: set[Client] = set()

    async def create_topics(self) -> None:
        admin = self.cluster.client("transform-admin")
        await admin.find_coordinator(self.group.group_id, GROUP)
        await admin.find_coordinator("app-0", TRANSACTION)
        await admin.create_topic(INPUT, INPUT_PARTITIONS)
        await admin.create_topic(OUTPUT, OUTPUT_PARTITIONS, internal_segment_bytes="5000")
        await admin.create_topic(
            TABLE,
            1,
            cleanup_policy="compact",
            internal_segment_bytes="2500",
            delete_retention_ms="2000",
            min_cleanable_dirty_ratio="0.01",
        )

    def start(self) -> None:
        self.cluster.spawn(self._supply())
        for slot in range(self.slots):
            self.cluster.spawn(self._keep_running(slot))

    async def _supply(self) -> None:
        client = self.cluster.client("supplier")
        producer = IdempotentProducer(client, self.ledger)
        await producer.start()
        while not self.cluster.is_calm:
            values = [b"%d" % (len(self.inputs) + number) for number in range(client.random.choice((1, 1, 3, 10)))]
            self.inputs += values
            await producer.write(INPUT, client.random.randrange(INPUT_PARTITIONS), [(None, value) for value in values])
            await asyncio.sleep(client.random.expovariate(5))

    async def _keep_running(self, slot: int) -> None:
        dice = self.cluster.random(f"slot {slot}")
        number = 0
        while not self.is_over:
            number += 1
            client = self.cluster.client(f"app-{slot}.{number}")
            running = self.cluster.spawn(self._instance(client, slot, dice.choice(self.protocols)))
            while not running.done() and not self.is_over:
                await asyncio.wait({running}, timeout=dice.expovariate(1 / MEAN_LIFE_S))
                if not self.cluster.is_calm:
                    break
            if not running.done():
                if dice.random() < 0.4:
                    self.cluster.count("instances replaced while alive")
                    self._sleepy.add(client)
                else:
                    running.cancel()
            await asyncio.sleep(dice.choice((0.0, dice.random())))

    async def _instance(self, client: Client, slot: int, protocol: type[Member]) -> None:
        transactional_id = client.name if self.own_ids else f"app-{slot}"
        timeout_ms = client.random.choice((2_000, TIMEOUT_MS)) if not self.own_ids else LONG_TIMEOUT_MS
        producer = TransactionalProducer(client, self.ledger, transactional_id, timeout_ms=timeout_ms, v2=self.v2)
        member = protocol(client, self.group, [INPUT])
        positions: dict[TopicPartition, tuple[Holding, int]] = {}
        try:
            await producer.start()
            while True:
                try:
                    await self._round(client, producer, member, positions)
                except AbortableError:
                    self.cluster.count("transactions that could only be aborted")
                    positions.clear()
                    await producer.recover()
        except FencedError:
            self.cluster.count("fenced instances")
        except NotMemberError:
            pass
        except AbortableError:
            if not self.cluster.may_lose:  # the coordinator may have lost the transaction
                raise
        finally:
            client.close()

    async def _round(
        self,
        client: Client,
        producer: TransactionalProducer,
        member: Member,
        positions: dict[TopicPartition, tuple[Holding, int]],
    ) -> None:
        """Take part in the group, read something, and pass it on in one transaction."""
        if self.cluster.is_calm and client in self._sleepy:
            raise NotMemberError("it was replaced long ago")
        await member.poll()
        await self._nap(client)
        epoch, member_id = member.epoch, member.member_id
        current = dict(member.owned)
        for place in [place for place, (holding, _) in positions.items() if current.get(place) is not holding]:
            del positions[place]
        fresh = frozenset(current.keys() - positions.keys())
        if fresh:
            found = await committed_offsets(client, self.group, fresh)
            positions.update({place: (current[place], max(offset, 0)) for place, offset in found.items()})
        taken = await self._read(client, positions)
        if not taken:
            return
        producer.begin()
        rows: dict[int, list[bytes]] = {}
        for values, _ in taken.values():
            for value in values:
                rows.setdefault(int(value) % OUTPUT_PARTITIONS, []).append(value)
        for partition, values in rows.items():
            await producer.write(OUTPUT, partition, [(None, value) for value in values])
            await self._nap(client)
        if client.random.random() < 0.7:
            changed = [(b"t%d" % (int(value) % TABLE_KEYS), value) for values in rows.values() for value in values]
            await producer.write(TABLE, 0, list(changed))
        offsets = {place: position for place, (_, position) in taken.items()}
        self.group.note_attempt(offsets)
        try:
            await producer.commit_offsets(self.group.group_id, member_id, epoch, offsets)
        except AbortableError:
            member.lost() if isinstance(member, ClassicMember) else member.stale()
            raise
        await self._nap(client)
        is_commit = client.random.random() < 0.85
        await producer.end(is_commit=is_commit)
        self.cluster.count("committed transactions" if is_commit else "aborted transactions")
        if is_commit:
            self.group.note_commit(offsets)
            positions.update({place: (positions[place][0], offset) for place, offset in offsets.items()})

    async def _read(
        self, client: Client, positions: dict[TopicPartition, tuple[Holding, int]]
    ) -> dict[TopicPartition, tuple[list[bytes], int]]:
        taken: dict[TopicPartition, tuple[list[bytes], int]] = {}
        places = sorted(positions)
        client.random.shuffle(places)
        for place in places:
            offset = positions[place][1]
            wait_ms = 0 if taken else 200
            data = await fetch(client, *place, offset, max_wait_ms=wait_ms)
            if data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE and self.cluster.may_lose:
                positions[place] = (positions[place][0], 0)
                continue
            assert data.error_code == ErrorCode.NONE, (place, offset, ErrorCode(data.error_code))
            found, _ = visible(data, offset, READ_COMMITTED)
            chosen = sorted(found)[: client.random.randint(1, 12)]
            if chosen:
                taken[place] = [found[number][1] or b"" for number in chosen], chosen[-1] + 1
        if not places:
            await asyncio.sleep(0.1)
        return taken

    async def _nap(self, client: Client) -> None:
        """Stop in the middle, as a program does whose machine swaps; an instance that was replaced wakes up late."""
        if client in self._sleepy:
            if client.random.random() < 0.6:
                await asyncio.sleep(client.random.choice((1.0, 10.0, 20.0)) * client.random.random())
        elif not self.cluster.is_calm and client.random.random() < 0.01:
            self.cluster.count("naps")
            await asyncio.sleep(client.random.choice((1.0, 10.0)) * client.random.random())
