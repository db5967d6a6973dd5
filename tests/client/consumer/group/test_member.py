"""The shell of a membership, on a simulated node: what the consumer is told, and what is measured."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from ottla.client.consumer.group.member import GroupMember
from ottla.client.consumer.subscription import Subscription, SubscriptionPattern
from ottla.client.errors import ConfigError, KafkaError
from ottla.client.metrics.consumer import COORDINATOR_GROUP, GroupMetrics
from ottla.client.metrics.registry import Metrics
from ottla.client.model import OffsetAndMetadata, TopicPartition
from ottla.client.network.cluster import Cluster as Network
from ottla.client.settings import ConsumerSettings
from tests.simulation.workloads.client import Client
from tests.simulation.workloads.cluster import ADDRESS, Cluster, run_cluster

EVERYTHING = frozenset(TopicPartition("t", index) for index in range(4))


class Program:
    """A member, and what it was told."""

    def __init__(self, cluster: Cluster, name: str, settings: dict[str, Any], *topics: str) -> None:
        random = Random(name)
        config = ConsumerSettings.of(ADDRESS, {"group.id": "g", **settings})
        self.network = Network(config, clock=cluster.now, random=random)
        self.subscription = Subscription()
        self.subscription.subscribe(topics)
        self.metrics = Metrics(self.network.now_ms)
        group = GroupMetrics(self.metrics, COORDINATOR_GROUP)
        self.member = GroupMember(self.network, config, self.subscription, self, random=random, metrics=group)
        self.told: list[tuple[str, frozenset[TopicPartition]]] = []
        self.busy_s = 0.0
        self.failure: KafkaError | None = None
        self.callback_fails = False

    async def partitions_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        self.told.append(("assigned", partitions))
        if self.callback_fails:
            raise RuntimeError("the application's")

    async def partitions_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self.told.append(("revoked", partitions))
        await asyncio.sleep(self.busy_s)
        await self.member.commit({place: OffsetAndMetadata(9, "done") for place in partitions}, 5_000)

    async def partitions_lost(self, partitions: frozenset[TopicPartition]) -> None:
        self.told.append(("lost", partitions))

    def member_failed(self, error: KafkaError) -> None:
        self.failure = error

    def measured(self) -> dict[str, float]:
        return {name.name: value for name, value in self.metrics.snapshot().items()}

    async def close(self) -> None:
        await self.member.close(5_000)
        await self.network.close()


CLASSIC = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000, "partition.assignment.strategy": "range"}
MODERN = {"group.protocol": "consumer"}


@pytest.mark.parametrize("settings", [CLASSIC, MODERN])
def test_busy_user_code_delays_a_rebalance_and_keeps_its_membership(settings: dict[str, Any]) -> None:
    async def main(cluster: Cluster) -> None:
        await Client(cluster, "admin").create_topic("t", 4)
        first = Program(cluster, "first", settings | {"max.poll.interval.ms": 60_000}, "t")
        second = Program(cluster, "second", settings | {"max.poll.interval.ms": 60_000}, "t")
        first.member.subscription_changed()
        await asyncio.sleep(3)
        assert first.member.owned == EVERYTHING
        assert first.member.is_settled
        # Longer than a session: heartbeats go on.
        first.busy_s = 20.0
        second.member.subscription_changed()
        await asyncio.sleep(15)
        assert not second.member.owned
        await asyncio.sleep(10)
        assert first.member.owned | second.member.owned == EVERYTHING
        assert not first.member.owned & second.member.owned
        assert [event for event, _ in first.told].count("lost") == 0
        moved = next(partitions for event, partitions in first.told if event == "revoked")
        committed = await second.member.committed(moved, 5_000)
        assert set(committed.values()) == {OffsetAndMetadata(9, "done")}
        first.busy_s = 0.0
        await first.close()
        await asyncio.sleep(3)
        assert second.member.owned == EVERYTHING
        await second.close()
        assert not second.member.owned

    run_cluster(main, seed=str(settings))


@pytest.mark.parametrize("settings", [CLASSIC, MODERN])
def test_what_happens_is_measured(settings: dict[str, Any]) -> None:
    async def main(cluster: Cluster) -> None:
        await Client(cluster, "admin").create_topic("t", 4)
        program = Program(cluster, "only", settings, "t")
        program.member.subscription_changed()
        await asyncio.sleep(10)
        await program.member.commit({TopicPartition("t", 0): OffsetAndMetadata(1)}, 5_000)
        measured = program.measured()
        assert measured["assigned-partitions"] == 4
        assert measured["heartbeat-total"] >= 5
        assert measured["rebalance-total"] == 1
        assert measured["commit-total"] == 1
        assert measured["partition-assigned-latency-max"] >= 0
        assert (measured["join-total"] > 0) is (settings is CLASSIC)
        assert (measured["sync-total"] > 0) is (settings is CLASSIC)
        await program.close()

    run_cluster(main, seed=str(settings))


@pytest.mark.parametrize("settings", [CLASSIC, MODERN])
def test_member_that_left_can_subscribe_again(settings: dict[str, Any]) -> None:
    async def main(cluster: Cluster) -> None:
        await Client(cluster, "admin").create_topic("t", 4)
        program = Program(cluster, "only", settings, "t")
        program.member.subscription_changed()
        await asyncio.sleep(3)
        program.subscription.unsubscribe()
        program.member.subscription_changed()
        await asyncio.sleep(1)
        assert program.told[-1] == ("revoked", EVERYTHING)
        assert not program.member.owned
        program.subscription.subscribe(["t"])
        program.member.subscription_changed()
        await asyncio.sleep(3)
        assert program.member.owned == EVERYTHING
        assert program.failure is None
        await program.close()

    run_cluster(main, seed=str(settings))


def test_callback_that_fails_does_not_end_the_membership(caplog: pytest.LogCaptureFixture) -> None:
    async def main(cluster: Cluster) -> None:
        cluster.expects_disk_errors = True  # and so errors in the log
        await Client(cluster, "admin").create_topic("t", 4)
        program = Program(cluster, "only", CLASSIC, "t")
        program.callback_fails = True
        program.member.subscription_changed()
        await asyncio.sleep(3)
        assert program.member.is_settled
        await program.close()
        cluster.failures.clear()

    run_cluster(main, seed=1)
    assert "partitions_assigned failed" in caplog.text


def test_pattern_of_the_coordinator_needs_the_protocol_that_has_it() -> None:
    async def main(cluster: Cluster) -> None:
        program = Program(cluster, "only", CLASSIC, "t")
        program.subscription.unsubscribe()
        program.subscription.subscribe(SubscriptionPattern("t.*"))
        with pytest.raises(ConfigError, match=r"group.protocol=consumer"):
            program.member.subscription_changed()
        await program.network.close()

    run_cluster(main, seed=1)
