"""AlterPartition: Kafka's checks in Kafka's order, and what comes of a new ISR."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import alter_partition as messages
from ottla.protocol.messages import metadata_records as records
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.server.controller.configs import SET, Change
from ottla.server.controller.result import Result
from tests.server.controller.test_brokers import ElrWorld, restarted
from tests.server.controller.worlds import World, registration, topic

E = ErrorCode


def cluster(replicas: list[int], kind: type[World] = World, **settings: object) -> World:
    world = kind(*map(registration, (1, 2, 3, 4)), **settings)
    world.create(topic("t", assignments={0: replicas}))
    return world


def change(world: World, **fields: Any) -> None:
    """Change the partition's state directly."""
    topic_id = world.core.image.topics.by_name["t"].topic_id
    world.do(Result([records.PartitionChangeRecord(partition_id=0, topic_id=topic_id, **fields)], None))


def alter(
    world: World,
    isr: list[int],
    *,
    leader: int = 1,
    version: int = 3,
    topic_id: bytes | None = None,
    epochs: dict[int, int] | None = None,
    **fields: Any,
) -> messages.AlterPartitionResponsePartitionData:
    """What a leader asks that knows everything, but for what is given."""
    partition, brokers = world.partition(), world.core.image.brokers
    known = {number: broker.broker_epoch for number, broker in brokers.items()} | (epochs or {})
    values: dict[str, Any] = {
        "partition_index": 0,
        "leader_epoch": partition.leader_epoch,
        "partition_epoch": partition.partition_epoch,
    }
    if version < 3:
        values["new_isr"] = isr
    else:
        values["new_isr_with_epochs"] = [
            messages.BrokerState(broker_id=number, broker_epoch=known.get(number, 0)) for number in isr
        ]
    asked = messages.AlterPartitionRequestTopicData(
        topic_id=topic_id or world.core.image.topics.by_name["t"].topic_id,
        partitions=[messages.AlterPartitionRequestPartitionData(**{**values, **fields})],
    )
    request = messages.AlterPartitionRequest(
        broker_id=leader, broker_epoch=brokers[leader].broker_epoch, topics=[asked]
    )
    response = world.do(world.core.alter_partition(request, api_version=version))
    (answer,) = response.topics[0].partitions
    assert isinstance(answer, messages.AlterPartitionResponsePartitionData)
    return answer


def test_the_isr_shrinks_and_grows() -> None:
    world = cluster([1, 2, 3])
    answer = alter(world, [1, 3])
    assert (answer.error_code, answer.isr, answer.leader_id) == (0, [1, 3], 1)
    assert (answer.leader_epoch, answer.partition_epoch) == (0, 1)
    assert (world.partition().isr, world.partition().leader_epoch) == ((1, 3), 0)
    answer = alter(world, [1, 3, 2], version=2)
    assert (answer.error_code, answer.isr, answer.partition_epoch) == (0, [1, 3, 2], 2)
    again = alter(world, [1, 3, 2])
    assert (again.error_code, again.partition_epoch) == (0, 2), "nothing to change, nothing changed"


@pytest.mark.parametrize(
    ("isr", "fields", "code"),
    [
        ([1], {"topic_id": bytes([7] * 16)}, E.UNKNOWN_TOPIC_ID),
        ([1], {"partition_index": 1}, E.UNKNOWN_TOPIC_OR_PARTITION),
        ([1], {"leader_epoch": 6, "partition_epoch": 0, "leader": 2}, E.NOT_CONTROLLER),
        ([1], {"partition_epoch": 9, "leader_epoch": 0}, E.NOT_CONTROLLER),
        ([1], {"leader_epoch": 0, "leader": 2}, E.FENCED_LEADER_EPOCH),
        ([2], {"leader": 2, "partition_epoch": 0}, E.INVALID_REQUEST),
        ([1, 1], {"partition_epoch": 0}, E.INVALID_UPDATE_VERSION),
        ([1, 1], {}, E.INVALID_REQUEST),
        ([1, 4], {}, E.INVALID_REQUEST),
        ([2, 3], {}, E.INVALID_REQUEST),
        ([], {}, E.INVALID_REQUEST),
        ([1, 2], {"leader_recovery_state": 1}, E.INVALID_REQUEST),
        ([1], {"leader_recovery_state": 1}, E.INVALID_REQUEST),
        ([1, 2], {"epochs": {2: 1}}, E.INELIGIBLE_REPLICA),
        ([1, 2], {"epochs": {2: -1}}, E.NONE),
        ([1, 3], {}, E.INELIGIBLE_REPLICA),
    ],
)
def test_what_a_leader_may_not_ask(isr: list[int], fields: dict[str, Any], code: ErrorCode) -> None:
    world = cluster([1, 2, 3])
    change(world, leader=1)
    change(world, isr=[1])
    world.heartbeat(3, want_fence=True)
    before = world.partition()
    answer = alter(world, isr, **fields)
    assert E(answer.error_code) == code
    assert (world.partition() == before) == (code != E.NONE)


def test_who_is_about_to_stop_is_not_taken_back() -> None:
    world = cluster([1, 2, 3])
    world.create(topic("u", assignments={0: [2]}))
    world.heartbeat(2, want_shut_down=True)
    assert world.partition().isr == (1, 3)
    assert alter(world, [1, 3, 2]).error_code == E.INELIGIBLE_REPLICA


def test_who_has_restarted_since_is_not_taken_back() -> None:
    world = cluster([1, 2, 3])
    stale = world.core.image.brokers[2].broker_epoch
    world.now_ms += 9_001
    for number in (1, 3, 4):
        world.heartbeat(number)
    world.register(restarted(2))
    assert alter(world, [1, 3, 2], epochs={2: stale}).error_code == E.INELIGIBLE_REPLICA
    assert alter(world, [1, 3, 2]).error_code == E.NONE


def test_requests_of_a_former_incarnation_are_refused_as_a_whole() -> None:
    world = cluster([1, 2])
    with pytest.raises(ApiError) as refused:
        world.core.alter_partition(messages.AlterPartitionRequest(broker_id=1, broker_epoch=0), api_version=3)
    assert refused.value.code == E.STALE_BROKER_EPOCH


def test_a_leader_recovers() -> None:
    world = cluster([1, 2])
    change(world, isr=[1], leader=1, leader_recovery_state=1)
    assert alter(world, [1], leader_recovery_state=1).error_code == E.NONE
    answer = alter(world, [1, 2], leader_recovery_state=0)
    assert (answer.error_code, answer.leader_recovery_state) == (E.NONE, 0)
    assert (world.partition().isr, world.partition().leader_recovery_state) == ((1, 2), 0)


def reassign(world: World, target: list[int] | None) -> None:
    asked = ReassignableTopic(name="t", partitions=[ReassignablePartition(partition_index=0, replicas=target)])
    response = world.do(world.core.alter_partition_reassignments(AlterPartitionReassignmentsRequest(topics=[asked])))
    assert response.responses[0].partitions[0].error_code == 0


def test_the_last_new_replica_in_sync_completes_a_reassignment() -> None:
    world = cluster([1, 2])
    reassign(world, [3, 4])
    assert world.partition().replicas == (3, 4, 1, 2)
    assert alter(world, [1, 2, 3]).error_code == E.NONE
    assert world.partition().adding_replicas == (3, 4)
    answer = alter(world, [1, 2, 3, 4])
    assert answer.error_code == E.NEW_LEADER_ELECTED, "the old leader is no replica any more"
    partition = world.partition()
    assert (partition.replicas, partition.isr, partition.leader) == ((3, 4), (3, 4), 3)
    assert (partition.adding_replicas, partition.removing_replicas, partition.leader_epoch) == ((), (), 1)


def test_a_leader_that_stays_completes_a_reassignment_under_a_new_epoch() -> None:
    world = cluster([1, 2])
    reassign(world, [1, 3])
    answer = alter(world, [1, 2, 3])
    assert (answer.error_code, answer.isr, answer.leader_epoch) == (E.NONE, [1, 3], 1)
    assert world.partition().replicas == (1, 3)


def test_a_cancelled_reassignment_goes_back_under_a_new_epoch() -> None:
    world = cluster([1, 2])
    reassign(world, [3, 4])
    alter(world, [1, 3])
    reassign(world, None)
    partition = world.partition()
    assert (partition.replicas, partition.isr, partition.leader, partition.leader_epoch) == ((1, 2), (1,), 1, 1)


def test_fewer_replicas_wait_for_all_that_remain() -> None:
    world = cluster([1, 2, 3])
    alter(world, [1])
    reassign(world, [2])
    assert world.partition().removing_replicas == (1, 3)
    assert alter(world, [1, 2]).error_code == E.NEW_LEADER_ELECTED
    assert (world.partition().replicas, world.partition().isr) == ((2,), (2,))


def test_eligible_replicas_follow_the_isr() -> None:
    world = cluster([1, 2, 3], ElrWorld, min_insync_replicas=2)
    alter(world, [1])
    assert world.partition().eligible_leader_replicas == (2, 3)
    alter(world, [1, 3])
    assert world.partition().eligible_leader_replicas == ()
    alter(world, [1])
    assert world.partition().eligible_leader_replicas == (3,)


def set_minimum(world: World, resource: tuple[int, str], value: int) -> None:
    change = Change("min.insync.replicas", SET, str(value))
    (answer,) = world.do(world.core.alter_configs([(resource, [change])], replace=False, validate_only=False))
    assert answer.code == E.NONE


def test_another_minimum_ends_eligibility_where_somebody_leads() -> None:
    world = cluster([1, 2, 3], ElrWorld, min_insync_replicas=2)
    world.create(topic("u", assignments={0: [2, 3]}))
    alter(world, [1])
    world.heartbeat(3, want_fence=True)
    world.heartbeat(2, want_fence=True)
    assert (world.partition("u").isr, world.partition("u").eligible_leader_replicas) == ((), (2, 3))
    set_minimum(world, (2, "t"), 1)
    assert world.partition().eligible_leader_replicas == ()
    set_minimum(world, (4, ""), 1)
    assert world.partition("u").eligible_leader_replicas == (2, 3), "nothing is acknowledged without a leader"
    world.heartbeat(3)
    assert (world.partition("u").isr, world.partition("u").eligible_leader_replicas) == ((3,), ())
