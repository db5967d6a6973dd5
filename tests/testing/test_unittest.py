"""The mix-in for `unittest`, run by unittest itself."""

from __future__ import annotations

import unittest
from typing import ClassVar

import ottla
from ottla.testing import KafkaMixin, KafkaTestCase

ADDRESSES: dict[str, set[str]] = {}


class Cases:
    """Kept from the collection of this suite."""

    class Shop(KafkaTestCase):
        kafka_topics: ClassVar = {"orders": 2}

        def setUp(self) -> None:
            """Without a call of the one above: it is not needed."""

        def test_one(self) -> None:
            self.assert_new()

        def test_other(self) -> None:
            self.assert_new()

        def assert_new(self) -> None:
            assert self.kafka is self.kafka
            assert self.kafka.topics() == ["orders"]
            assert len(self.kafka.end_offsets("orders")) == 2
            assert self.kafka.read("orders") == []
            self.kafka.produce("orders", {"id": 1})
            self.kafka.produce("other", "1")
            ADDRESSES.setdefault("shop", set()).add(self.kafka.bootstrap_servers)

    class Async(KafkaMixin, unittest.IsolatedAsyncioTestCase):
        kafka_settings: ClassVar = {"num.partitions": 3}

        async def test_orders(self) -> None:
            producer = ottla.aio.Producer(self.kafka.bootstrap_servers)
            await producer.send("orders", "1")
            await producer.flush()
            await producer.close()
            assert await self.kafka.aio.read("orders", str, count=1) == ["1"]
            assert len(await self.kafka.aio.end_offsets("orders")) == 3
            ADDRESSES.setdefault("async", set()).add(self.kafka.bootstrap_servers)


def run(case: type[unittest.TestCase]) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    return result


def test_each_test_method_finds_a_cluster_with_nothing_in_it() -> None:
    result = run(Cases.Shop)
    assert (result.testsRun, result.failures, result.errors) == (2, [], [])
    assert len(ADDRESSES["shop"]) == 1


def test_the_mixin_goes_with_asyncio_and_settings_of_its_own() -> None:
    result = run(Cases.Async)
    assert (result.testsRun, result.failures, result.errors) == (1, [], [])
    run(Cases.Shop)
    assert not ADDRESSES["async"] & ADDRESSES["shop"]
