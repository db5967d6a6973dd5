"""Compacted topics: keyed rows and tombstones, plain and in transactions, under a cleaner that is always at work."""

from __future__ import annotations

import asyncio

from tests.simulation.workloads.checks import Truth, Watcher, check_compacted
from tests.simulation.workloads.client import TRANSACTION, Client
from tests.simulation.workloads.cluster import Cluster
from tests.simulation.workloads.producer import (
    AbortableError,
    Content,
    FencedError,
    IdempotentProducer,
    Ledger,
    TopicPartition,
    TransactionalProducer,
)

STOCK = "stock"
PARTITIONS = 2
KEYS = 8


class Tables:
    """A compacted topic with two writers: one plain, one whose transactions are committed, aborted, or left open.

    `stay_ms`: how long tombstones and markers stay. A replica that is away for longer misses them, for ever.
    """

    def __init__(self, cluster: Cluster, ledger: Ledger, *, v2: bool, policy: str, stay_ms: int = 2_000) -> None:
        self.cluster = cluster
        self.ledger = ledger
        self.v2 = v2
        self.policy = policy
        self.stay_ms = stay_ms
        self.places: list[TopicPartition] = [(STOCK, partition) for partition in range(PARTITIONS)]
        self.watchers = {place: Watcher(cluster, *place) for place in self.places}
        self._count = 0

    async def create_topics(self) -> None:
        admin = self.cluster.client("tables-admin")
        await admin.find_coordinator("clerk", TRANSACTION)
        await admin.create_topic(
            STOCK,
            PARTITIONS,
            cleanup_policy=self.policy,
            internal_segment_bytes="1500",
            delete_retention_ms=str(self.stay_ms),
            min_cleanable_dirty_ratio="0.01",
        )

    def start(self) -> None:
        self.cluster.spawn(self._write())
        self.cluster.spawn(self._write_in_transactions())
        self.cluster.spawn(self._look())
        for watcher in self.watchers.values():
            self.cluster.spawn(watcher.run())

    def _rows(self, client: Client) -> list[Content]:
        dice = client.random
        rows: list[Content] = []
        for _ in range(dice.choice((1, 1, 4))):
            self._count += 1
            # Keys of the two writers overlap.
            value = None if dice.random() < 0.2 else b"%d" % self._count + b" " * dice.choice((0, 0, 100))
            rows.append((b"k%d" % dice.randrange(KEYS), value))
        return rows

    async def _write(self) -> None:
        client = self.cluster.client("writer")
        producer = IdempotentProducer(client, self.ledger)
        await producer.start()
        while not self.cluster.is_calm:
            await producer.write(STOCK, client.random.randrange(PARTITIONS), self._rows(client))
            await asyncio.sleep(client.random.expovariate(5))

    async def _write_in_transactions(self) -> None:
        dice = self.cluster.random("clerk")
        number = 0
        while not self.cluster.is_calm:
            number += 1
            client = self.cluster.client(f"clerk.{number}")
            producer = TransactionalProducer(client, self.ledger, "clerk", timeout_ms=4_000, v2=self.v2)
            running = self.cluster.spawn(self._keep_books(producer))
            await asyncio.wait({running}, timeout=dice.expovariate(1 / 6))
            running.cancel()  # in the middle of a transaction, more often than not
            client.close()
            await asyncio.sleep(dice.choice((0.0, 6.0 * dice.random())))

    async def _keep_books(self, producer: TransactionalProducer) -> None:
        dice = producer.client.random
        try:
            await producer.start()
            while not self.cluster.is_calm:
                try:
                    producer.begin()
                    for _ in range(dice.randint(1, 3)):
                        await producer.write(STOCK, dice.randrange(PARTITIONS), self._rows(producer.client))
                        await asyncio.sleep(dice.expovariate(10))
                    await producer.end(is_commit=dice.random() < 0.6)
                except AbortableError:
                    await producer.recover()
                await asyncio.sleep(dice.expovariate(4))
        except FencedError:
            self.cluster.count("fenced when they timed out")

    async def _look(self) -> None:
        """Every now and then, somebody reads the table from its beginning."""
        dice = self.cluster.random("looker")
        while not self.cluster.is_calm:
            await asyncio.sleep(dice.expovariate(1 / 5))
            await check_compacted(self.cluster, self.ledger, dice.choice(self.places))

    async def check(self) -> None:
        """What the readers see in the end."""
        for place in self.places:
            await check_compacted(self.cluster, self.ledger, place, self.watchers[place])
            self.cluster.count("rows cleaned away", len(Truth(self.ledger, place).stands))
            view = await check_compacted(self.cluster, self.ledger, place)
            self.cluster.count("rows cleaned away", -len(view.records))
