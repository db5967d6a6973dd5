"""Registrations and elections."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.protocol.messages.metadata_records import FeatureLevelRecord, PartitionRecord, TopicRecord
from ottla.server.controller.brokers import elect
from ottla.server.controller.result import Result
from ottla.server.metadata.image import PartitionImage
from tests.server.controller.worlds import World, registration, topic


def test_first_registration() -> None:
    world = World(registration(rack="r1"))
    broker = world.core.image.brokers[1]
    assert (broker.broker_epoch, broker.fenced, broker.rack) == (0, False, "r1")
    assert broker.endpoints["PLAINTEXT"].host == "host-1"
    assert broker.features["metadata.version"] == (7, 31)
    assert broker.is_active


def leader_epochs(world: World) -> list[int]:
    return [one.leader_epoch for one in world.core.image.topics.by_name["t"].partitions.values()]


def test_an_unclean_restart_gives_new_leader_epochs() -> None:
    world = World()
    world.create(topic("t", 2))
    world.do(world.core.register_broker(registration(incarnation_id=bytes([1] * 16)), len(world.records)))
    assert leader_epochs(world) == [1, 1]
    assert world.core.image.brokers[1].broker_epoch > 0


def test_a_clean_restart_leaves_partitions_alone() -> None:
    world = World()
    world.create(topic("t", 2))
    again = registration(previous_broker_epoch=world.core.image.brokers[1].broker_epoch)
    world.do(world.core.register_broker(again, len(world.records)))
    assert leader_epochs(world) == [0, 0]
    # The marker of an older life says nothing about the last one.
    world.do(world.core.register_broker(again, len(world.records)))
    assert leader_epochs(world) == [1, 1]


def test_brokers_that_are_not_heard_of_are_fenced_and_lose_their_partitions() -> None:
    world = World(registration(1), registration(2))
    world.create(topic("t", assignments={0: [2, 1]}), topic("u", assignments={0: [2]}))
    world.do(world.core.register_broker(registration(1), len(world.records)))
    assert world.core.image.brokers[2].fenced
    both, alone = (world.core.image.topics.by_name[name].partitions[0] for name in "tu")
    assert (both.leader, both.isr, both.leader_epoch) == (1, (1,), 1)
    assert (alone.leader, alone.isr, alone.leader_epoch) == (-1, (2,), 1)


def test_partitions_without_leader_get_one_back() -> None:
    world = World()
    world.do(Result([FeatureLevelRecord(name="metadata.version", feature_level=30)], None))
    topic_id = bytes([5] * 16)
    records: list[Any] = [TopicRecord(name="t", topic_id=topic_id)]
    records.append(PartitionRecord(partition_id=0, topic_id=topic_id, replicas=[1], isr=[1], leader=-1, leader_epoch=4))
    world.do(Result(records, None))
    world.do(world.core.register_broker(registration(previous_broker_epoch=0), len(world.records)))
    (partition,) = world.core.image.topics.by_name["t"].partitions.values()
    assert (partition.leader, partition.leader_epoch) == (1, 5)


def partition(replicas: list[int], isr: list[int], leader: int, **fields: Any) -> PartitionImage:
    lists = {name: tuple(value) for name, value in fields.items()}
    return PartitionImage(tuple(replicas), tuple(isr), leader, 3, 3, **lists)


@pytest.mark.parametrize(
    ("image", "active", "change"),
    [
        (partition([1, 2, 3], [1, 2, 3], 1), {2, 3}, {"leader": 2, "isr": [2, 3]}),
        (partition([1, 2, 3], [1, 3], 1), {2, 3}, {"leader": 3, "isr": [3]}),
        (partition([1, 2], [2, 1], -1), {1, 2}, {"leader": 1}),
        (partition([1, 2], [1], 1), {2}, {"leader": -1}),
        (partition([1, 2], [1], -1), {2}, None),
        (
            partition([1, 2], [], -1, eligible_leader_replicas=[2, 1]),
            {1, 2},
            {"leader": 1, "isr": [1], "eligible_leader_replicas": [2], "last_known_elr": []},
        ),
        (
            partition([1, 2], [1], 1, eligible_leader_replicas=[2]),
            {2},
            {"leader": 2, "isr": [2], "eligible_leader_replicas": [], "last_known_elr": []},
        ),
        (
            partition([1, 2], [], -1, last_known_elr=[2]),
            {1, 2},
            {"leader": 2, "isr": [2], "eligible_leader_replicas": [], "last_known_elr": []},
        ),
        (partition([1, 2], [], -1, eligible_leader_replicas=[1], last_known_elr=[2]), {2}, None),
    ],
)
def test_elections(image: PartitionImage, active: set[int], change: dict[str, Any] | None) -> None:
    assert elect(image, active.__contains__) == change
