"""Consumer groups of KIP-848 with librdkafka, the Java client and Kafka's tools; and Kafka reads our groups, we its."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from benchmarks.brokers import Broker
from ottla.protocol.codec import encode
from ottla.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from ottla.protocol.messages.consumer_protocol import ConsumerProtocolSubscription
from tests.compatibility.differential.comparison import readable
from tests.compatibility.differential.consumer_group_scenarios import ConsumerGroup
from tests.compatibility.differential.group_scenarios import Group, coordinator_ready
from tests.compatibility.differential.world import World
from tests.compatibility.drivers import Java, wait_until
from tests.compatibility.test_directories import Handover, handover
from tests.compatibility.topics import create_topic
from tests.conftest import MakeBroker

__all__ = ["handover"]

pytestmark = pytest.mark.xdist_group("tools")

GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
#: Heartbeats that do not make tests wait.
QUICK = {
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.heartbeat.interval.ms": "200",
    "group.consumer.assignment.interval.ms": "0",
}


class Members:
    """Consumers of one group, polled by this thread; what they received, and who has what."""

    def __init__(self, broker: Broker, group: str) -> None:
        self.broker, self.group = broker, group
        self.consumers: dict[str, Consumer] = {}
        self.received: list[bytes] = []

    def join(self, name: str, topic: str, *, protocol: str = "consumer", **settings: str) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "group.id": self.group,
                "group.protocol": protocol,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "client.id": name,
                "fetch.wait.max.ms": 50,
                "topic.metadata.refresh.interval.ms": 1000,
                "log_level": 0,
                **({"heartbeat.interval.ms": 200} if protocol == "classic" else {}),
                **settings,
            }
        )
        consumer.subscribe([topic])
        self.consumers[name] = consumer

    def leave(self, name: str) -> None:
        self.consumers.pop(name).close()

    def poll(self) -> None:
        for consumer in self.consumers.values():
            message = consumer.poll(0.02)
            if message is not None and not message.error():
                self.received.append(message.value())
                consumer.commit(message, asynchronous=True)

    def assignments(self) -> dict[str, list[tuple[str, int]]]:
        return {
            name: sorted((one.topic, one.partition) for one in consumer.assignment())
            for name, consumer in self.consumers.items()
        }

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, (what, self.assignments())
            self.poll()

    def wait_until_shared(self, partitions: list[tuple[str, int]]) -> None:
        """Every partition has one owner, and everybody has some."""

        def shared() -> bool:
            assignments = self.assignments()
            owned = sorted(one for assignment in assignments.values() for one in assignment)
            return owned == partitions and all(assignments.values())

        self.wait(shared, f"{partitions} among {list(self.consumers)}")

    def close(self) -> None:
        for name in list(self.consumers):
            self.leave(name)


@pytest.fixture
def members(make_broker: MakeBroker, name: str) -> Iterator[Members]:
    members = Members(make_broker(QUICK), name)
    yield members
    members.close()


def produce(broker: Broker, topic: str, partitions: int, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for index, value in enumerate(values):
        producer.produce(topic, value, partition=index % partitions)
    assert not producer.flush(20)


def all_of(topic: str, partitions: int) -> list[tuple[str, int]]:
    return [(topic, index) for index in range(partitions)]


def test_partitions_move_between_members_also_when_the_broker_dies(members: Members, name: str) -> None:
    broker = members.broker
    create_topic(broker.bootstrap, name, 6)
    members.join("a", name)
    members.wait_until_shared(all_of(name, 6))
    members.join("b", name)
    members.join("c", name, **{"group.remote.assignor": "range"})
    members.wait_until_shared(all_of(name, 6))
    assert {len(partitions) for partitions in members.assignments().values()} == {2}
    values = [b"%d" % number for number in range(60)]
    produce(broker, name, 6, values)
    members.wait(lambda: len(members.received) >= 60, "all records")
    assert sorted(members.received) == sorted(values)
    broker.kill()
    broker.start()
    more = [b"more %d" % number for number in range(60)]
    produce(broker, name, 6, more)
    members.wait(lambda: set(more) <= set(members.received), "records after the restart")
    members.leave("b")
    members.wait_until_shared(all_of(name, 6))
    # Whoever comes later goes on where the others were.
    members.close()
    members.received.clear()
    members.join("d", name)
    produce(broker, name, 6, [b"last"])
    members.wait(lambda: b"last" in members.received, "the last record")
    assert set(members.received) <= {b"last", *more}


def test_topics_by_regular_expression(members: Members, name: str) -> None:
    broker = members.broker
    create_topic(broker.bootstrap, f"{name}-1", 2)
    create_topic(broker.bootstrap, f"other-{name}-1", 1)
    members.join("a", f"^{name}-[0-9]")
    members.wait_until_shared(all_of(f"{name}-1", 2))
    create_topic(broker.bootstrap, f"{name}-2", 1)
    members.wait_until_shared([*all_of(f"{name}-1", 2), (f"{name}-2", 0)])


def test_static_members_keep_what_they_have(members: Members, name: str) -> None:
    create_topic(members.broker.bootstrap, name, 4)
    members.join("a", name, **{"group.instance.id": "first"})
    members.join("b", name, **{"group.instance.id": "second"})
    members.wait_until_shared(all_of(name, 4))
    before = members.assignments()
    members.leave("a")
    for _ in range(20):
        members.poll()
    assert members.assignments()["b"] == before["b"]
    members.join("again", name, **{"group.instance.id": "first"})
    members.wait_until_shared(all_of(name, 4))
    assert members.assignments() == {"b": before["b"], "again": before["a"]}


def test_a_group_changes_its_protocol_member_by_member_and_back(members: Members, name: str) -> None:
    create_topic(members.broker.bootstrap, name, 4)
    members.join("old 1", name, protocol="classic")
    members.join("old 2", name, protocol="classic")
    members.wait_until_shared(all_of(name, 4))
    members.join("new 1", name)
    members.wait_until_shared(all_of(name, 4))
    members.leave("old 1")
    members.join("new 2", name)
    members.wait_until_shared(all_of(name, 4))
    members.leave("old 2")
    members.wait_until_shared(all_of(name, 4))
    values = [b"%d" % number for number in range(40)]
    produce(members.broker, name, 4, values)
    members.wait(lambda: len(members.received) >= 40, "all records")
    members.join("old 3", name, protocol="classic")
    members.wait_until_shared(all_of(name, 4))
    members.leave("new 1")
    members.leave("new 2")
    members.wait_until_shared(all_of(name, 4))
    produce(members.broker, name, 4, [b"last"])
    members.wait(lambda: b"last" in members.received, "the last record")
    assert sorted(members.received) == sorted([*values, b"last"])


def test_kafka_tools_with_groups_of_both_protocols(java: Java, make_broker: MakeBroker, name: str) -> None:
    broker = make_broker(QUICK)
    create_topic(broker.bootstrap, name, 2)
    produce(broker, name, 2, [b"%d" % number for number in range(10)])

    def groups(*arguments: object) -> str:
        return java.tool(GROUPS, "--bootstrap-server", broker.bootstrap, *arguments)

    def consume(group: str, protocol: str) -> None:
        lines = java.tool(
            CONSOLE_CONSUMER,
            *("--bootstrap-server", broker.bootstrap, "--topic", name, "--group", group, "--max-messages", 10),
            *("--timeout-ms", 20000, "--command-property", "auto.offset.reset=earliest"),
            *("--command-property", f"group.protocol={protocol}"),
        ).splitlines()
        assert sorted(lines, key=int) == [str(number) for number in range(10)]

    new, old = f"{name}-new", f"{name}-old"
    consume(new, "consumer")
    consume(old, "classic")
    assert {new, old} <= set(groups("--list").split())
    assert re.search(rf"{new} +Consumer", groups("--list", "--type", "consumer"))
    assert old not in groups("--list", "--type", "consumer")
    assert re.search(rf"{old} +Classic", groups("--list", "--type"))
    for group in (new, old):
        assert len(re.findall(rf"{group} +{name} +[01] +5 +5 +0", groups("--describe", "--group", group))) == 2
        assert "Empty" in groups("--describe", "--group", group, "--state")
        groups("--group", group, "--reset-offsets", "--to-offset", 2, "--topic", f"{name}:1", "--execute")
        assert re.search(rf"{name} +1 +2 +5 +3", groups("--describe", "--group", group))
    members = Members(broker, new)
    members.join("a", name)
    members.wait(lambda: len(members.received) == 3, "the records from the offset on")
    described = groups("--describe", "--group", new, "--members", "--verbose")
    assert re.search(rf"{new} .* a +2 ", described)
    assert f"{name}(0,1)" in described or f"{name}:0,1" in described, described
    assert re.search(rf"{new} .*Stable", groups("--describe", "--group", new, "--state"))
    broker.kill()
    broker.start()
    wait_until(lambda: "Stable" in groups("--describe", "--group", new, "--state"), "the group after the restart")
    members.close()
    wait_until(lambda: "Empty" in groups("--describe", "--group", new, "--state"), "an empty group")
    for group in (new, old):
        groups("--group", group, "--delete-offsets", "--topic", name)
        groups("--group", group, "--delete")
    assert not {new, old} & set(groups("--list").split())


def test_groups_go_on_in_a_directory_that_changes_hands(handover: Handover, name: str) -> None:
    """Members keep epochs and partitions when Apache Kafka's groups are opened by us, and ours by Apache Kafka."""
    handover.kafka.start()
    known = fill(handover.kafka, name)
    handover.kafka.stop()
    for broker in (handover.ottla, handover.kafka, handover.ottla):
        broker.start()
        known = carry_on(broker, name, known)
        broker.stop()


def fill(broker: Broker, name: str) -> Any:
    """A group with two members, a static one, one by expression and a classic one."""
    world = new_world(broker)
    group = ConsumerGroup(world, name, cg_h=6)
    group.beat("a joins", "a", 0, topics=["cg-h"])
    group.beat("b joins", "b", 0, topics=["cg-h"], server_assignor="range", rack_id="r")
    group.beat("static joins", "s", 0, topics=["cg-h"], instance_id="i")
    group.beat("expression joins", "x", 0, subscribed_topic_regex="cg-[h]")
    subscription = b"\0\0" + encode(ConsumerProtocolSubscription(topics=["cg-h"]), 0)
    classic = Group(world, name)
    classic.join_fully("classic", protocols=[("range", subscription)])
    group.commit("commits", "a", 2, "cg_h", 0)
    group.beat("static leaves for a while", "s", -2, instance_id="i")
    # The expression is resolved a moment later; from then on nothing happens by itself.
    wait_until(lambda: arrive(group, world, name), "members that have what they are to have")
    found = state(world, name)
    world.close()
    return found


def carry_on(broker: Broker, name: str, known: Any) -> Any:
    """The group is as it was; heartbeats change nothing, a new member does."""
    world = new_world(broker)
    coordinator_ready(world, name)
    assert state(world, name) == known
    group = ConsumerGroup.__new__(ConsumerGroup)
    group.world, group.name, group.topic_ids = world, name, {"cg_h": world.topic_id("cg-h")}
    before = described_group(world, name)
    for member in ("a", "b", "x"):
        assert group.beat("goes on", member, before.assignment_epoch).error_code == 0
    # The topics look as they did when the group was assigned: no new epoch.
    assert described_group(world, name).group_epoch == before.group_epoch
    group.beat("comes", f"n{before.group_epoch}", 0, topics=["cg-h"])
    after = described_group(world, name)
    assert after.group_epoch == before.group_epoch + 1
    wait_until(lambda: arrive(group, world, name), "members that have what they are to have")
    found = state(world, name)
    world.close()
    return found


def new_world(broker: Broker) -> World:
    world = World("member", broker.bootstrap)
    world.common = world.supported
    return world


def described_group(world: World, name: str) -> Any:
    request = ConsumerGroupDescribeRequest(group_ids=[name])
    return world.ask_quietly(request, 1).groups[0]


def arrive(group: ConsumerGroup, world: World, name: str) -> bool:
    """Members give up what they have to; whether those of the new protocol that are there have their target."""
    arrived = True
    for member in described_group(world, name).members:
        if member.member_type == 1 and member.member_epoch >= 0:
            target = partitions_of(member.target_assignment)
            owned = sorted(partitions_of(member.assignment) & target)
            group.beat("arrives", member.member_id, member.member_epoch, owned={"cg_h": owned})
    described = described_group(world, name)
    for member in described.members:
        if member.member_type == 1 and member.member_epoch >= 0:
            there = partitions_of(member.assignment) == partitions_of(member.target_assignment)
            arrived = arrived and there and member.member_epoch == described.group_epoch
    return arrived


def partitions_of(assignment: Any) -> set[int]:
    return {index for topic in assignment.topic_partitions for index in topic.partitions}


def state(world: World, name: str) -> Any:
    described = described_group(world, name)
    described.members.sort(key=lambda member: member.member_id)
    for member in described.members:
        for assignment in (member.assignment, member.target_assignment):
            for topic in assignment.topic_partitions:
                topic.partitions.sort()
    world.names.clear()
    return readable(world, described)
