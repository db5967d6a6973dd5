"""Registrations, heartbeats, fencing, controlled shutdown, directories that fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import alter_partition as alterations
from ottla.protocol.messages import assign_replicas_to_dirs as assignments
from ottla.protocol.messages.metadata_records import FeatureLevelRecord, PartitionRecord, TopicRecord
from ottla.server.controller.alone import BrokerRegistration
from ottla.server.controller.result import Result
from tests.server.controller.worlds import World, directory, registration, registration_request, topic

E = ErrorCode


class ElrWorld(World):
    """With eligible leader replicas (KIP-966)."""

    features = {"metadata.version": 30, "eligible.leader.replicas.version": 1}


def restarted(broker_id: int, life: int = 1, **fields: Any) -> BrokerRegistration:
    """Another incarnation of a broker."""
    return registration(broker_id, incarnation_id=bytes([100 + life] * 15 + [broker_id]), **fields)


def refusal(call: Callable[[], Any]) -> tuple[ErrorCode, str]:
    with pytest.raises(ApiError) as refused:
        call()
    return E(refused.value.code), refused.value.message


def alter(world: World, isr: list[int]) -> ErrorCode:
    """The leader of the first partition asks for an ISR."""
    (asked,) = world.core.image.topics.by_name.values()
    partition, brokers = asked.partitions[0], world.core.image.brokers
    data = alterations.AlterPartitionRequestPartitionData(
        partition_index=0,
        leader_epoch=partition.leader_epoch,
        partition_epoch=partition.partition_epoch,
        new_isr_with_epochs=[
            alterations.BrokerState(broker_id=one, broker_epoch=brokers[one].broker_epoch) for one in isr
        ],
    )
    topics = [alterations.AlterPartitionRequestTopicData(topic_id=asked.topic_id, partitions=[data])]
    leader = brokers[partition.leader]
    request = alterations.AlterPartitionRequest(
        broker_id=leader.broker_id, broker_epoch=leader.broker_epoch, topics=topics
    )
    response = world.do(world.core.alter_partition(request, api_version=3))
    return E(response.topics[0].partitions[0].error_code)


def state(world: World, name: str = "t") -> tuple[int, tuple[int, ...], int]:
    """Leader, ISR, leader epoch."""
    partition = world.partition(name)
    return partition.leader, partition.isr, partition.leader_epoch


# Registration


def test_a_broker_is_fenced_until_it_has_seen_its_registration() -> None:
    world = World()
    epoch = world.register_fenced(registration(2, rack="r2"))
    broker = world.core.image.brokers[2]
    assert (broker.broker_epoch, broker.fenced, broker.rack) == (epoch, True, "r2")
    assert broker.endpoints["PLAINTEXT"].host == "host-2"
    assert broker.features["metadata.version"] == (7, 31)
    assert broker.log_dirs == (directory(2),)
    early = world.heartbeat(2, current_metadata_offset=epoch - 1)
    assert (early.is_caught_up, early.is_fenced) == (False, True)
    waiting = world.heartbeat(2, want_fence=True)
    assert (waiting.is_caught_up, waiting.is_fenced) == (True, True)
    ready = world.heartbeat(2)
    assert (ready.is_caught_up, ready.is_fenced, ready.should_shut_down) == (True, False, False)
    assert world.core.image.brokers[2].is_active


def test_one_incarnation_at_a_time() -> None:
    world = World(registration(1), registration(2))
    again = world.register_fenced(registration(2))
    assert again == world.core.image.brokers[2].broker_epoch, "the same incarnation only amends its registration"
    assert not world.core.image.brokers[2].fenced
    code, text = refusal(lambda: world.register_fenced(restarted(2)))
    assert code == E.DUPLICATE_BROKER_REGISTRATION
    assert "try again" in text
    world.now_ms += 9_001
    assert world.register_fenced(restarted(2)) > again
    assert world.core.image.brokers[2].fenced
    # Not heard of yet, it has no session to defend.
    world.register_fenced(restarted(2, 2))


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"cluster_id": "other"}, E.INCONSISTENT_CLUSTER_ID, "Expected cluster ID cluster, but got cluster ID other"),
        ({"is_migrating_zk_broker": True}, E.BROKER_ID_NOT_REGISTERED, "ZooKeeper"),
        ({"log_dirs": []}, E.INVALID_REGISTRATION, "No directories"),
        ({"log_dirs": [bytes(15) + b"\x63"]}, E.INVALID_REGISTRATION, "Reserved"),
        ({"log_dirs": [directory(2), directory(2)]}, E.INVALID_REGISTRATION, "Duplicate"),
        ({"log_dirs": [directory(1)]}, E.INVALID_REGISTRATION, "Broker 1 is already registered with directory"),
        ({"features": []}, E.UNSUPPORTED_VERSION, "finalized version 30 of metadata.version"),
    ],
)
def test_registrations_that_are_refused(fields: dict[str, Any], code: ErrorCode, text: str) -> None:
    world = World()
    found = refusal(lambda: world.register_fenced(registration(2), **fields))
    assert found[0] == code
    assert text in found[1]


@pytest.mark.parametrize(
    ("features", "code"),
    [
        ({"metadata.version": (7, 29)}, E.UNSUPPORTED_VERSION),
        ({"metadata.version": (7, 30), "new.version": (1, 2)}, E.UNSUPPORTED_VERSION),
        ({"metadata.version": (30, 40), "new.version": (0, 2)}, E.NONE),
        ({"metadata.version": (30, 40), "kraft.version": (1, 1)}, E.UNSUPPORTED_VERSION),
    ],
)
def test_a_broker_must_know_every_finalized_level(features: dict[str, tuple[int, int]], code: ErrorCode) -> None:
    world = World()
    try:
        world.register_fenced(registration(2, features=features))
        found = E.NONE
    except ApiError as error:
        found = E(error.code)
    assert found == code


def test_a_new_incarnation_leads_nothing_until_it_is_unfenced() -> None:
    world = World(registration(1), registration(2))
    world.create(topic("t", assignments={0: [2, 1]}), topic("u", assignments={0: [2]}))
    world.now_ms += 9_001
    world.heartbeat(1)
    world.register_fenced(restarted(2))
    assert state(world) == (1, (1,), 1)
    assert state(world, "u") == (-1, (2,), 1), "the only replica is trusted when it comes back"
    world.heartbeat(2)
    assert state(world, "u") == (2, (2,), 2)
    assert state(world) == (1, (1,), 1), "it has to catch up before it is in sync"


# Sessions


def test_who_is_silent_for_a_session_is_fenced_and_one_at_a_time() -> None:
    world = World(registration(1), registration(2), registration(3))
    world.create(topic("t", assignments={0: [2, 3, 1]}))
    assert world.core.session_deadline_ms() == 9_001
    world.now_ms = 9_000
    assert world.do(world.core.fence_expired(world.now_ms)) is None
    world.heartbeat(1)
    assert world.core.session_deadline_ms() == 9_001
    world.now_ms = 9_001
    assert world.do(world.core.fence_expired(world.now_ms)) == 2
    assert state(world) == (3, (3, 1), 1)
    assert world.do(world.core.fence_expired(world.now_ms)) == 3
    assert state(world) == (1, (1,), 2)
    assert world.do(world.core.fence_expired(world.now_ms)) is None
    assert world.core.session_deadline_ms() == 18_001
    # Heard of again, it is unfenced without having registered again.
    assert not world.heartbeat(2).is_fenced


def test_heartbeats_of_others_than_the_registered_incarnation_count_for_nothing() -> None:
    world = World(registration(1), registration(2))
    world.now_ms = 9_000
    for broker_id, epoch in ((2, 0), (9, 5)):
        code, _ = refusal(lambda: world.heartbeat(broker_id, broker_epoch=epoch))  # noqa: B023
        assert code == E.STALE_BROKER_EPOCH
    world.heartbeat(1)
    assert world.do(world.core.fence_expired(9_001)) == 2


def test_a_new_controller_gives_everybody_a_whole_session() -> None:
    from ottla.server.controller.controller import ControllerCore
    from ottla.server.controller.result import Randomness

    world = World(registration(1), registration(2))
    world.heartbeat(2, want_fence=True)
    randomness = Randomness(lambda: bytes(16), lambda end: 0)
    successor = ControllerCore(world.core.image, world.core.config, 1, randomness, now_ms=50_000)
    assert successor.session_deadline_ms() == 59_001
    assert successor.fence_expired(59_000).response is None
    assert successor.fence_expired(59_001).response == 1
    # It does not know where the registration stands, so what it has itself must have been seen.
    behind = world.core.image.offset - 1
    world.core, world.now_ms = successor, 50_000
    assert world.heartbeat(2, current_metadata_offset=behind).is_fenced
    assert not world.heartbeat(2).is_fenced


# Leaving


def test_a_broker_may_stop_when_others_lead_and_everybody_knows() -> None:
    world = World(registration(1), registration(2), registration(3))
    world.create(topic("t", assignments={0: [2, 1]}), topic("u", assignments={0: [2]}))
    asked = world.heartbeat(2, want_shut_down=True)
    moved_at = len(world.records) - 1
    assert (asked.is_fenced, asked.should_shut_down) == (False, False)
    assert world.core.image.brokers[2].in_controlled_shutdown
    assert state(world) == (1, (1,), 1)
    assert state(world, "u") == (-1, (2,), 1)
    world.heartbeat(1, current_metadata_offset=moved_at)
    assert not world.heartbeat(2, want_shut_down=True).should_shut_down, "broker 3 has not seen it"
    world.heartbeat(3, current_metadata_offset=moved_at)
    done = world.heartbeat(2, want_shut_down=True)
    assert (done.is_fenced, done.should_shut_down) == (True, True)
    assert world.core.image.brokers[2].fenced
    assert world.heartbeat(2, want_shut_down=True).should_shut_down, "asked again after the answer was lost"
    (_, created) = world.create(topic("v", assignments={0: [2]}), topic("w", 1, 2))
    assert created.error_code == 0
    assert 2 not in world.partition("w").replicas


def test_who_leads_nothing_may_stop_at_once() -> None:
    world = World(registration(1), registration(2))
    world.create(topic("t", assignments={0: [1, 2]}))
    assert world.heartbeat(2, want_shut_down=True).should_shut_down
    assert state(world) == (1, (1,), 0)
    assert world.heartbeat(1, want_fence=True, want_shut_down=True).should_shut_down
    assert state(world) == (-1, (1,), 1)


def test_a_broker_that_stopped_in_order_may_come_back_at_once() -> None:
    world = World(registration(1), registration(2))
    old_epoch = world.core.image.brokers[2].broker_epoch
    assert world.heartbeat(2, want_shut_down=True).should_shut_down
    new_epoch = world.register_fenced(restarted(2))
    assert new_epoch > old_epoch
    code, _ = refusal(lambda: world.heartbeat(2, broker_epoch=old_epoch, want_shut_down=True))
    assert code == E.STALE_BROKER_EPOCH
    assert not world.heartbeat(2).is_fenced


def test_a_broker_that_wants_to_be_fenced_is() -> None:
    world = World(registration(1), registration(2))
    world.create(topic("t", assignments={0: [2, 1]}))
    assert world.heartbeat(2, want_fence=True).is_fenced
    assert state(world) == (1, (1,), 1)


def test_unregistered_brokers_leave_every_isr_and_keep_their_replicas() -> None:
    world = World(registration(1), registration(2))
    world.create(topic("t", assignments={0: [2, 1]}))
    world.do(world.core.unregister_broker(2))
    assert 2 not in world.core.image.brokers
    assert state(world) == (1, (1,), 1)
    assert world.partition().replicas == (2, 1)
    assert refusal(lambda: world.core.unregister_broker(2))[0] == E.BROKER_ID_NOT_REGISTERED
    assert refusal(lambda: world.core.unregister_broker(1))[0] == E.INVALID_REQUEST


# Eligible leader replicas


def test_who_leaves_a_small_isr_may_still_lead() -> None:
    world = ElrWorld(*map(registration, (1, 2, 3)), min_insync_replicas=2)
    world.create(topic("t", assignments={0: [1, 2, 3]}))
    world.heartbeat(3, want_fence=True)
    assert (world.partition().isr, world.partition().eligible_leader_replicas) == ((1, 2), ())
    world.heartbeat(2, want_fence=True)
    assert (world.partition().isr, world.partition().eligible_leader_replicas) == ((1,), (2,))
    world.heartbeat(1, want_fence=True)
    partition = world.partition()
    assert (partition.leader, partition.isr) == (-1, ())
    assert (partition.eligible_leader_replicas, partition.last_known_elr) == ((1, 2), (1,))
    world.heartbeat(3)
    assert world.partition().leader == -1, "it may lack records"
    world.heartbeat(2)
    partition = world.partition()
    assert (partition.leader, partition.isr, partition.eligible_leader_replicas) == (2, (2,), (1,))
    assert (partition.last_known_elr, partition.leader_recovery_state) == ((), 0)


def test_an_unclean_restart_ends_eligibility_and_a_clean_one_does_not() -> None:
    world = ElrWorld(*map(registration, (1, 2, 3)), min_insync_replicas=2)
    world.create(topic("t", assignments={0: [1, 2, 3]}))
    epochs = {number: broker.broker_epoch for number, broker in world.core.image.brokers.items()}
    for number in (3, 2, 1):
        world.heartbeat(number, want_fence=True)
    assert world.partition().eligible_leader_replicas == (1, 2)
    world.now_ms += 9_001
    world.register_fenced(restarted(1, previous_broker_epoch=epochs[1]))
    assert world.partition().eligible_leader_replicas == (1, 2)
    world.register_fenced(restarted(2, previous_broker_epoch=-1))
    assert world.partition().eligible_leader_replicas == (1,)
    world.now_ms += 9_001
    world.register_fenced(restarted(1, 2, previous_broker_epoch=epochs[1]))
    assert world.partition().eligible_leader_replicas == ()
    # Nobody is known to have everything: only who led last, who then starts as recovering.
    world.heartbeat(2)
    assert world.partition().leader == -1
    world.heartbeat(1)
    partition = world.partition()
    assert (partition.leader, partition.isr, partition.leader_recovery_state) == (1, (1,), 1)


def test_who_was_in_sync_last_before_the_feature_was_finalized_leads_again_after_a_kill() -> None:
    world = World(*map(registration, (1, 2)), min_insync_replicas=2)
    world.create(topic("t", assignments={0: [1, 2]}))
    world.heartbeat(2, want_fence=True)
    world.heartbeat(1, want_fence=True)
    assert state(world)[:2] == (-1, (1,))
    world.do(Result([FeatureLevelRecord(name="eligible.leader.replicas.version", feature_level=1)], None))
    world.now_ms += 9_001
    world.register(restarted(2))
    assert world.partition().leader == -1, "it lacks records"
    world.register(restarted(1, previous_broker_epoch=-1))
    partition = world.partition()
    assert (partition.leader, partition.isr, partition.leader_recovery_state) == (1, (1,), 1)
    assert partition.last_known_elr == ()


def test_before_version_3_no_shutdown_counts_as_clean() -> None:
    world = ElrWorld(registration(1), registration(2), min_insync_replicas=2)
    world.create(topic("t", assignments={0: [1, 2]}))
    epoch = world.core.image.brokers[2].broker_epoch
    world.heartbeat(2, want_fence=True)
    assert world.partition().eligible_leader_replicas == (2,)
    world.now_ms += 9_001
    world.register_fenced(restarted(2, previous_broker_epoch=epoch), api_version=2)
    assert world.partition().eligible_leader_replicas == ()


def test_other_disks_under_an_id_that_was_unregistered_are_not_trusted() -> None:
    world = ElrWorld(registration(1), registration(2), min_insync_replicas=2)
    world.create(topic("t", assignments={0: [1, 2]}))
    world.do(world.core.unregister_broker(2))
    assert world.partition().eligible_leader_replicas == (2,)
    world.register(restarted(2))
    assert world.partition().eligible_leader_replicas == ()


# Unclean elections


def test_topics_that_say_so_are_led_by_anybody_alive() -> None:
    world = World(registration(1), registration(2))
    unclean: dict[str, str | None] = {"unclean.leader.election.enable": "true"}
    world.create(
        topic("t", assignments={0: [1, 2]}, configs=unclean), topic("u", assignments={0: [1, 2]}), topic("v", 1, 2)
    )
    world.heartbeat(2, want_fence=True)
    world.heartbeat(1, want_fence=True)
    assert (state(world), state(world, "u")) == ((-1, (1,), 1), (-1, (1,), 1))
    world.heartbeat(2)
    partition = world.partition()
    assert (partition.leader, partition.isr, partition.leader_recovery_state) == (2, (2,), 1)
    assert state(world, "u") == (-1, (1,), 1)


# Directories


def two_directories(broker_id: int) -> BrokerRegistration:
    return registration(broker_id, log_dirs=(directory(broker_id, 0), directory(broker_id, 1)))


def assign(world: World, broker_id: int, directory_id: bytes, *partitions: int, name: str = "t") -> list[ErrorCode]:
    found = world.core.image.topics.by_name.get(name)
    asked = assignments.AssignReplicasToDirsRequestTopicData(
        topic_id=bytes([1] * 16) if found is None else found.topic_id,
        partitions=[assignments.AssignReplicasToDirsRequestPartitionData(partition_index=p) for p in partitions],
    )
    request = assignments.AssignReplicasToDirsRequest(
        broker_id=broker_id,
        broker_epoch=world.core.image.brokers[broker_id].broker_epoch,
        directories=[assignments.AssignReplicasToDirsRequestDirectoryData(id=directory_id, topics=[asked])],
    )
    (answer,) = world.do(world.core.assign_replicas_to_dirs(request)).directories
    assert answer.id == directory_id
    return [E(one.error_code) for one in answer.topics[0].partitions]


def test_replicas_in_a_directory_that_fails_lead_nothing() -> None:
    world = World(two_directories(1), two_directories(2))
    world.create(topic("t", assignments={0: [1, 2], 1: [1, 2]}))
    assert world.partition().directories[0] == bytes(15) + b"\x01", "not reported yet"
    assert assign(world, 1, directory(1, 0), 0) == [E.NONE]
    assert assign(world, 1, directory(1, 1), 1) == [E.NONE]
    assert world.partition("t", 1).directories[0] == directory(1, 1)
    world.heartbeat(1, offline_log_dirs=[directory(1, 1), directory(7)])
    assert world.core.image.brokers[1].log_dirs == (directory(1, 0),)
    assert (world.partition("t", 0).leader, world.partition("t", 1).leader) == (1, 2)
    assert (world.partition("t", 0).isr, world.partition("t", 1).isr) == ((1, 2), (2,))
    records = len(world.records)
    world.heartbeat(1, offline_log_dirs=[directory(1, 1)])
    assert len(world.records) == records, "known by now"
    # It may not come back into the lead on the disk that failed.
    world.heartbeat(2, want_fence=True)
    assert world.partition("t", 1).leader == -1
    assert world.partition("t", 0).leader == 1


def test_a_replica_in_a_directory_that_failed_is_not_taken_back() -> None:
    world = World(two_directories(1), two_directories(2))
    world.create(topic("t", assignments={0: [1, 2]}))
    assert assign(world, 2, directory(2, 1), 0) == [E.NONE]
    world.heartbeat(2, offline_log_dirs=[directory(2, 1)])
    assert world.partition().isr == (1,)
    assert alter(world, [1, 2]) == E.INELIGIBLE_REPLICA
    assert assign(world, 2, directory(2, 0), 0) == [E.NONE]
    assert alter(world, [1, 2]) == E.NONE


def test_a_replica_that_turns_out_to_lie_in_a_failed_directory_hands_over() -> None:
    world = World(two_directories(1), registration(2))
    world.create(topic("t", assignments={0: [1, 2]}))
    world.heartbeat(1, offline_log_dirs=[directory(1, 1)])
    assert world.partition().leader == 1
    assert assign(world, 1, directory(1, 1), 0) == [E.NONE]
    assert (world.partition().leader, world.partition().isr) == (2, (2,))
    assert world.partition().directories[0] == directory(1, 1)


def test_assignments_that_cannot_be() -> None:
    world = World(registration(1), registration(2))
    world.create(topic("t", assignments={0: [1], 1: [2]}))
    assert assign(world, 1, directory(1), 0, 1, 9) == [E.NONE, E.NOT_LEADER_OR_FOLLOWER, E.UNKNOWN_TOPIC_OR_PARTITION]
    assert assign(world, 1, directory(1), 0, name="nope") == [E.UNKNOWN_TOPIC_ID]
    request = assignments.AssignReplicasToDirsRequest(broker_id=1, broker_epoch=-1)
    assert refusal(lambda: world.core.assign_replicas_to_dirs(request))[0] == E.STALE_BROKER_EPOCH


def test_cordoned_directories_are_noted() -> None:
    world = World()
    world.heartbeat(1, cordoned_log_dirs=[directory(1)])
    assert world.core.image.brokers[1].cordoned_log_dirs == (directory(1),)
    (answer,) = world.create(topic("t"))
    assert answer.error_code == E.INVALID_REPLICATION_FACTOR
    records = len(world.records)
    world.heartbeat(1, cordoned_log_dirs=[directory(1)])
    assert len(world.records) == records
    world.heartbeat(1, cordoned_log_dirs=[])
    assert world.create(topic("t"))[0].error_code == E.NONE


# A node that is a whole cluster


def alone(broker: BrokerRegistration) -> World:
    world = World()
    world.now_ms += 9_001
    world.do(world.core.fence_own_broker())
    result = world.core.register_own_broker(broker, len(world.records))
    assert result is not None
    world.do(result)
    return world


def test_the_only_broker_is_registered_and_unfenced_at_once() -> None:
    world = alone(restarted(1))
    assert world.core.image.brokers[1].is_active
    assert world.core.session_deadline_ms() is None, "it need not be heard of"


def test_an_unclean_restart_gives_new_leader_epochs_and_a_clean_one_does_not() -> None:
    world = alone(restarted(1))
    world.create(topic("t"))
    known = world.core.image.brokers[1].broker_epoch
    for previous, leader_epoch in ((known, 0), (known, 1)):
        again = restarted(1, previous_broker_epoch=previous)
        result = world.core.register_own_broker(again, len(world.records))
        assert result is not None
        world.do(result)
        assert state(world) == (1, (1,), leader_epoch)


def test_partitions_without_leader_get_one_back() -> None:
    world = alone(restarted(1))
    topic_id = bytes([5] * 16)
    records: list[Any] = [TopicRecord(name="t", topic_id=topic_id)]
    records.append(PartitionRecord(partition_id=0, topic_id=topic_id, replicas=[1], isr=[1], leader=-1, leader_epoch=4))
    world.do(Result(records, None))
    result = world.core.register_own_broker(restarted(1, 2), len(world.records))
    assert result is not None
    world.do(result)
    assert state(world) == (1, (1,), 5)


def test_a_broker_that_is_not_alone_registers_as_others_do() -> None:
    world = World(registration(1), registration(2))
    assert world.core.register_own_broker(restarted(1), len(world.records)) is None
    assert world.core.fence_own_broker().records == []


def test_a_core_takes_requests_as_they_come_from_the_wire() -> None:
    from ottla.protocol.codec import decoder, encoder

    request = registration_request(registration(3))
    parts: list[Any] = []
    encoder(type(request), 4)(request, parts)
    data = b"".join(parts)
    assert decoder(type(request), 4)(data, 0, len(data))[0] == request
