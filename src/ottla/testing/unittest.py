"""Kafka for `unittest`.

    class ShopTest(KafkaTestCase):
        kafka_topics = ["orders"]

        def test_orders(self):
            shop = Shop(self.kafka.bootstrap_servers)
            ...
            self.assertEqual(self.kafka.read("orders", dict, count=1), [{"id": 1}])

    class AsyncShopTest(KafkaMixin, unittest.IsolatedAsyncioTestCase):
        async def test_orders(self):
            await self.kafka.aio.read("orders", dict, count=1)

The broker is started with the first test that uses it, is as new for each test, and is shared by all classes with the
same settings.
"""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ottla.testing.pool import Pool

if TYPE_CHECKING:
    from ottla.testing.cluster import Cluster, Topics

_POOL = Pool()


class KafkaMixin:
    """Gives a test case `self.kafka`. The attributes are for subclasses to set."""

    kafka_settings: ClassVar[Mapping[str, object]] = {}
    """Settings of the broker, by Kafka's names."""
    kafka_topics: ClassVar[Topics] = ()
    """Topics that are there when a test begins: a name, names, or names with their numbers of partitions."""

    _kafka: Cluster | None = None

    @property
    def kafka(self) -> Cluster:
        """The cluster of this test. (Each test method has a test case object of its own.)"""
        if self._kafka is None:
            self._kafka = _POOL.fresh(self.kafka_settings, self.kafka_topics)
        return self._kafka


class KafkaTestCase(KafkaMixin, unittest.TestCase):
    """A test case with Kafka."""
