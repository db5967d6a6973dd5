"""Our consumers in groups with Java's and librdkafka's, on Ottla and on Apache Kafka, in both protocols.

Whoever leads, whoever leaves: every partition has one owner, and every record comes once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ottla
from benchmarks.brokers import KAFKA_HOME, ApacheKafka
from ottla import TopicPartition, aio
from ottla.client.consumer.subscription import SubscriptionPattern
from ottla.client.errors import CommitFailedError, FencedInstanceIdError, KafkaError
from tests.compatibility.drivers import Client, Member, wait_until
from tests.compatibility.python_clients import ThreadMember
from tests.compatibility.test_groups import Group, write
from tests.compatibility.topics import create_topic
from tests.conftest import SETTINGS, new_broker, require

STRATEGIES = ("range", "roundrobin", "cooperative-sticky", "consumer")
#: Heartbeats that do not make tests wait.
QUICK = {
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "200",
    "group.consumer.assignment.interval.ms": "0",
}


class Ottla:
    """Our consumers, blocking (each in a thread) or asynchronous (each on a loop of its own)."""

    strategies = ("range", "roundrobin", "sticky", "cooperative-sticky", "consumer")

    def __init__(self, *, asynchronous: bool) -> None:
        self._asynchronous = asynchronous

    def join(
        self, bootstrap: str, group: str, topic: str, *, strategy: str = "range", instance: str | None = None
    ) -> Member:
        settings = settings_of(group, strategy, instance)

        def run(member: ThreadMember) -> None:
            hooks: dict[str, Any] = {
                "on_assigned": lambda partitions: member.assigned({place.partition for place in partitions}),
                "on_revoked": lambda partitions: member.revoked({place.partition for place in partitions}),
            }
            if self._asynchronous:
                asyncio.run(self._consume(member, aio.Consumer(bootstrap, settings, topics=[topic], **hooks)))
                return
            with ottla.Consumer(bootstrap, settings, topics=[topic], **hooks) as consumer:
                while not member.leaving.is_set():
                    records = consumer.poll(timeout_s=0.1)
                    member.values += [record.value or b"" for record in records]
                    if records:
                        consumer.commit()

        return ThreadMember(run)

    async def _consume(self, member: ThreadMember, consumer: aio.Consumer[bytes, bytes]) -> None:
        async with consumer:
            while not member.leaving.is_set():
                records = await consumer.poll(timeout_s=0.1)
                member.values += [record.value or b"" for record in records]
                if records:
                    await consumer.commit()


def settings_of(group: str, strategy: str, instance: str | None = None) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.max.wait.ms": 100,
    }
    if strategy == "consumer":
        settings["group.protocol"] = "consumer"
    else:
        settings |= {
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 300,
            "partition.assignment.strategy": strategy,
        }
    if instance is not None:
        settings["group.instance.id"] = instance
    return settings


BLOCKING, ASYNCHRONOUS = Ottla(asynchronous=False), Ottla(asynchronous=True)


@pytest.fixture(scope="module", params=["ottla", pytest.param("kafka", marks=pytest.mark.xdist_group("kafka"))])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "kafka":
        require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
        heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
        started = ApacheKafka(directory, settings=SETTINGS | QUICK, heap=heap)
    else:
        started = new_broker(directory, QUICK)  # type: ignore[assignment]
    started.start()
    yield started.bootstrap
    started.stop()


@pytest.fixture
def group(broker: str, name: str) -> Iterator[Group]:
    group = Group(broker, name, name)
    yield group
    for member in group.members:
        member.leave()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_group_of_java_librdkafka_and_our_members(strategy: str, group: Group, clients: dict[str, Client]) -> None:
    java, librdkafka = clients["java"], clients["confluent-kafka"]
    require(java.missing() or librdkafka.missing())
    create_topic(group.bootstrap, group.topic, 8)
    written: list[bytes] = []

    def all_come(label: str) -> None:
        group.wait_until_shared(8)
        written.extend(write(librdkafka, group.bootstrap, group.topic, label, 40, 8))
        wait_until(lambda: len(received()) >= len(written), f"records of {label}: {len(received())}")
        assert sorted(received()) == sorted(written)

    gone: list[bytes] = []

    def received() -> list[bytes]:
        return [value for member in group.members for value in member.received] + gone

    def leaves(member: Member) -> None:
        gone.extend(member.received)
        group.leave(member)

    ours = group.join(BLOCKING, strategy)  # leads, where members lead
    all_come("alone")
    in_java = group.join(java, strategy)
    group.join(librdkafka, strategy)
    group.join(ASYNCHRONOUS, strategy)
    all_come("all")
    leaves(ours)
    all_come("led by another")
    leaves(in_java)
    group.join(BLOCKING, strategy)
    all_come("one left, one came")
    assert not [member.describe()["problem"] for member in group.members if member.describe()["problem"]]


@pytest.mark.parametrize("strategy", ["sticky", "consumer"])
def test_our_members_alone(strategy: str, group: Group, clients: dict[str, Client]) -> None:
    create_topic(group.bootstrap, group.topic, 6)
    for client in (BLOCKING, ASYNCHRONOUS, BLOCKING):
        group.join(client, strategy)
        group.wait_until_shared(6)
    assert sorted(len(member.assignment) for member in group.members) == [2, 2, 2]
    group.leave(group.members[0])
    group.wait_until_shared(6)
    group.wait_until_received(write(clients["confluent-kafka"], group.bootstrap, group.topic, "all", 30, 6))


def test_group_changes_its_protocol_while_it_runs(group: Group, clients: dict[str, Client]) -> None:
    create_topic(group.bootstrap, group.topic, 6)
    classic = group.join(BLOCKING, "cooperative-sticky")
    group.wait_until_shared(6)
    group.join(ASYNCHRONOUS, "consumer")
    group.join(clients["java"], "consumer")
    group.wait_until_shared(6)
    group.leave(classic)
    group.wait_until_shared(6)
    back = group.join(BLOCKING, "cooperative-sticky")
    group.wait_until_shared(6)
    group.wait_until_received(write(clients["confluent-kafka"], group.bootstrap, group.topic, "all", 30, 6))
    assert back.describe()["problem"] is None


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky", "consumer"])
def test_static_member_comes_back_to_its_partitions(strategy: str, group: Group) -> None:
    create_topic(group.bootstrap, group.topic, 4)
    staying = group.join(BLOCKING, strategy, "staying")
    returning = group.join(BLOCKING, strategy, "returning")
    group.wait_until_shared(4)
    owned, rebalances = returning.assignment, staying.describe()["rebalances"]
    group.leave(returning)
    returning = group.join(ASYNCHRONOUS, strategy, "returning")
    group.wait_until_shared(4)
    assert returning.assignment == owned
    assert staying.describe()["rebalances"] == rebalances


def test_second_member_with_an_instance_id_in_use(broker: str, name: str) -> None:
    create_topic(broker, name, 2)

    def poll_until(consumer: ottla.Consumer[bytes, bytes], condition: Callable[[], bool]) -> None:
        def polled() -> bool:
            consumer.poll(timeout_s=0.1)
            return condition()

        wait_until(polled, "what the consumer waits for")

    with ottla.Consumer(broker, settings_of(name, "range", "one"), topics=[name]) as first:
        poll_until(first, lambda: len(first.assignment()) == 2)
        # The newcomer takes over in classic groups, and is turned away from the others.
        with ottla.Consumer(broker, settings_of(name, "range", "one"), topics=[name]) as second:
            poll_until(second, lambda: len(second.assignment()) == 2)
            with pytest.raises(FencedInstanceIdError):
                poll_until(first, lambda: False)
    modern = f"{name}-modern"
    with ottla.Consumer(broker, settings_of(modern, "consumer", "one"), topics=[name]) as first:
        poll_until(first, lambda: len(first.assignment()) == 2)
        second = ottla.Consumer(broker, settings_of(modern, "consumer", "one"), topics=[name])
        with second, pytest.raises(KafkaError, match="UNRELEASED_INSTANCE_ID"):
            poll_until(second, lambda: False)


def test_pattern_that_the_coordinator_matches(broker: str, name: str) -> None:
    create_topic(broker, f"{name}-a", 2)
    create_topic(broker, f"{name}-b", 1)
    settings = settings_of(name, "consumer")
    with ottla.Consumer(broker, settings, topics=SubscriptionPattern(f"{name}-.*")) as consumer:
        wanted = {TopicPartition(f"{name}-a", 0), TopicPartition(f"{name}-a", 1), TopicPartition(f"{name}-b", 0)}

        def assigned() -> bool:
            consumer.poll(timeout_s=0.1)
            return consumer.assignment() == wanted

        wait_until(assigned, "the topics that match")
        consumer.subscribe(SubscriptionPattern("("))
        with pytest.raises(KafkaError, match="INVALID_REGULAR_EXPRESSION"):
            wait_until(lambda: consumer.poll(timeout_s=0.1), "the error")


@pytest.mark.parametrize("strategy", ["range", "consumer"])
def test_only_members_commit_while_there_are_any(strategy: str, group: Group) -> None:
    create_topic(group.bootstrap, group.topic, 2)
    member = group.join(BLOCKING, strategy)
    group.wait_until_shared(2)
    place = TopicPartition(group.topic, 0)
    with ottla.Consumer(group.bootstrap, settings_of(group.group, strategy)) as outsider:
        outsider.assign([place])
        with pytest.raises(CommitFailedError, match="members"):
            outsider.commit({place: 5})
        group.leave(member)
        outsider.commit({place: 5})
        committed = outsider.committed([place])[place]
        assert committed is not None
        assert committed.offset == 5
