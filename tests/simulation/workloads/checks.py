"""What must hold of what was written and what is read, whatever happened in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.simulation.workloads.client import Client
from tests.simulation.workloads.cluster import Cluster
from tests.simulation.workloads.producer import Content, Ledger, TopicPartition
from tests.simulation.workloads.reader import READ_UNCOMMITTED, View, follow, read_all

#: Virtual seconds that everything may take to be in order again when the faults are over.
RECOVERY_S = 90.0
TOMBSTONES_STAY_S = 2.0


class Watcher:
    """A consumer with read_committed that is there all the time, and remembers."""

    def __init__(self, cluster: Cluster, topic: str, partition: int) -> None:
        self.place = (topic, partition)
        self.view = View()
        self._client = cluster.client(f"watcher-{topic}-{partition}")

    async def run(self) -> None:
        while True:
            await follow(self._client, *self.place, self.view, max_wait_ms=500)


async def until(cluster: Cluster, what: str, is_so: Callable[[], Awaitable[bool]], seconds: float = RECOVERY_S) -> None:
    """Wait for something that has to happen within a bounded time; AssertionError when anything went wrong by then."""
    deadline = cluster.now() + seconds
    while not await is_so():
        if cluster.now() > deadline:
            cluster.fail(f"not within {seconds} s: {what}")
        cluster.check()
        await asyncio.sleep(0.5)


async def settled(client: Client, place: TopicPartition) -> bool:
    """Whether no transaction is open: read_committed readers get everything."""
    view = await read_all(client, *place)
    return view.last_stable_offset == view.high_watermark == view.position


class Truth:
    """What the ledger says of one partition: `stands` must be there, `gone` must not, the rest is in doubt."""

    def __init__(self, ledger: Ledger, place: TopicPartition) -> None:
        self.place = place
        self.stands = dict(ledger.plain.get(place, {}))
        self.gone: dict[int, Content] = {}
        self.sent = ledger.sent.get(place, set())
        for transaction in ledger.transactions:
            if transaction.outcome is not None:
                target = self.stands if transaction.outcome else self.gone
                target.update(transaction.written.get(place, {}))

    def check(self, cluster: Cluster, name: str, view: View) -> None:
        """No record in a read_committed view that should not be there."""
        for offset, content in view.records.items():
            if offset in self.gone:
                cluster.fail(f"{name} of {self.place} shows {content} at {offset}, which was aborted")
            elif content != self.stands.get(offset, content):
                cluster.fail(f"{name} of {self.place} has {content} at {offset}, not {self.stands[offset]}")
            elif content not in self.sent:
                cluster.fail(f"{name} of {self.place} has {content} at {offset}, which nobody sent")


async def check_log(cluster: Cluster, ledger: Ledger, place: TopicPartition, watcher: Watcher | None = None) -> View:
    """A partition that nothing is removed from."""
    client = cluster.client("checker")
    truth = Truth(ledger, place)
    view = await read_all(client, *place)
    truth.check(cluster, "the log", view)
    for offset, content in truth.stands.items():
        if offset not in view.records:
            cluster.fail(f"{place}: {content} at {offset} was acknowledged and committed, and is not there")
    if watcher is not None:
        seen = watcher.view
        expected = {offset: content for offset, content in view.records.items() if offset < seen.position}
        if seen.records != expected:
            differing = seen.records.items() ^ expected.items()
            cluster.fail(f"{place}: who read along saw something else than who reads now: {sorted(differing)}")
    everything = await read_all(client, *place, isolation=READ_UNCOMMITTED)
    twice = [content for content, number in Counter(everything.records.values()).items() if number > 1]
    return view if not twice else _check_twice(cluster, place, view)


def _check_twice(cluster: Cluster, place: TopicPartition, view: View) -> View:
    """An application sends a value again after an abort; read_committed must see it once."""
    twice = [content for content, number in Counter(view.records.values()).items() if number > 1]
    if twice:
        cluster.fail(f"{place}: there twice: {twice}")
    return view


async def check_compacted(
    cluster: Cluster, ledger: Ledger, place: TopicPartition, watcher: Watcher | None = None
) -> View:
    """A compacted partition: the last value of each key is there, at its offset; tombstones may be gone."""
    known = dict(Truth(ledger, place).stands)  # before the reading begins: writers may be at work
    client = cluster.client("checker")
    begun_s = cluster.now()
    view = await read_all(client, *place)
    client.close()
    if cluster.now() > begun_s + TOMBSTONES_STAY_S:
        known = {}  # a reader that is slower than delete.retention.ms may miss the tombstone of what it has seen
    truth = Truth(ledger, place)
    truth.check(cluster, "the table", view)
    if watcher is not None:
        truth.check(cluster, "who read along", watcher.view)
        known.update(watcher.view.records)
    latest: dict[bytes | None, int] = {}
    for offset, (key, _) in sorted(known.items()):
        if offset < view.position:  # nothing of what follows an open transaction is shown
            latest[key] = offset
    found: dict[bytes | None, int] = {}
    for offset, (key, _) in sorted(view.records.items()):
        found[key] = offset
    for key, offset in latest.items():
        is_tombstone = known[offset][1] is None
        if found.get(key, -1) < offset and not (is_tombstone and key not in found):
            cluster.fail(f"{place}: the last value of {key!r} is at {offset}, and a reader finds {found.get(key)}")
    return view


def check_transactions(cluster: Cluster, ledger: Ledger, views: dict[TopicPartition, View]) -> None:
    """All or nothing, over all partitions that nothing is removed from."""
    for transaction in ledger.transactions:
        shown = {
            (place, offset): offset in views[place].records
            for place, written in transaction.written.items()
            if place in views
            for offset in written
        }
        if len(set(shown.values())) > 1:
            cluster.fail(f"half of transaction {transaction.name} is visible: {shown}")
        elif transaction.outcome is not None and set(shown.values()) - {transaction.outcome}:
            cluster.fail(f"transaction {transaction.name} ended as {transaction.outcome}, and shows {shown}")
