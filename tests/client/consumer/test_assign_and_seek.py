"""`assign`, `seek`, `poll`: nothing is fetched before the poll, so that the seek waits for no fetch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

import ottla
from ottla.testing import Cluster

LONG_MS = 60_000
"""How long the broker keeps a fetch for which there is nothing."""
SETTINGS: Any = {"fetch_max_wait_ms": LONG_MS, "auto_offset_reset": "latest"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        running.create_topic("orders", 1)
        running.produce("orders", "a", "b")
        yield running


def test_a_seek_after_assign_is_where_the_first_fetch_begins(cluster: Cluster) -> None:
    tp = ottla.TopicPartition("orders", 0)
    with ottla.Consumer(cluster.bootstrap_servers, **SETTINGS) as consumer:
        consumer.assign([tp])
        assert consumer.position(tp) == 2
        time.sleep(0.1)  # a fetch at the end would be under way by now
        consumer.seek(tp, 0)
        assert [record.value for record in consumer.poll(20)] == [b"a", b"b"]


def test_with_asyncio_too(cluster: Cluster) -> None:
    async def main() -> None:
        tp = ottla.TopicPartition("orders", 0)
        async with ottla.aio.Consumer(cluster.bootstrap_servers, **SETTINGS) as consumer:
            await consumer.assign([tp])
            assert await consumer.position(tp) == 2
            await asyncio.sleep(0.1)
            await consumer.seek(tp, 0)
            assert [record.value for record in await consumer.poll(20)] == [b"a", b"b"]

    asyncio.run(main())
