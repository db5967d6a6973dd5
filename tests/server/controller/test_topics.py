"""Creating, growing and deleting topics: every refusal with Kafka's code and words, and what acceptance comes to."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages import create_partitions as growing
from ottla.protocol.messages import create_topics as messages
from ottla.protocol.messages import delete_topics as deleting
from ottla.server.metadata.image import UNASSIGNED_DIRECTORY
from tests.server.controller.worlds import World, directory, registration, topic

E = ErrorCode


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        (topic(""), E.INVALID_TOPIC_EXCEPTION, "Topic name is invalid: the empty string is not allowed"),
        (topic("."), E.INVALID_TOPIC_EXCEPTION, "Topic name is invalid: '.' is not allowed"),
        (topic(".."), E.INVALID_TOPIC_EXCEPTION, "Topic name is invalid: '..' is not allowed"),
        (
            topic("a b"),
            E.INVALID_TOPIC_EXCEPTION,
            "'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
        ),
        (topic("ä"), E.INVALID_TOPIC_EXCEPTION, "one or more characters"),
        (topic("x" * 250), E.INVALID_TOPIC_EXCEPTION, "is longer than the max allowed length 249"),
        (topic("old"), E.TOPIC_ALREADY_EXISTS, "Topic 'old' already exists."),
        (topic("a_b"), E.INVALID_TOPIC_EXCEPTION, "Topic 'a_b' collides with existing topic: a.b"),
        (
            topic("__cluster_metadata"),
            E.INVALID_REQUEST,
            "Creation of internal topic __cluster_metadata is prohibited.",
        ),
        (topic(partitions=0), E.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value."),
        (topic(partitions=-2), E.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value."),
        (
            topic(factor=0),
            E.INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (topic(factor=-2), E.INVALID_REPLICATION_FACTOR, "Replication factor must be larger than 0"),
        (
            topic(factor=2),
            E.INVALID_REPLICATION_FACTOR,
            "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached because",
        ),
        (topic(partitions=10_001), E.POLICY_VIOLATION, "Excessively large number of partitions per request."),
        (topic(configs={"nope": "1"}), E.INVALID_CONFIG, "Unknown topic config name: nope"),
        (
            topic(configs={"retention.ms": "abc"}),
            E.INVALID_CONFIG,
            "Invalid value abc for configuration retention.ms: Not a number of type LONG",
        ),
        (topic(configs={"retention.ms": None}), E.INVALID_CONFIG, "Null value not supported for topic configs"),
        (topic(assignments={0: [7]}), E.INVALID_REPLICA_ASSIGNMENT, "includes broker 7, but no such broker"),
        (topic(assignments={0: [1, 1]}), E.INVALID_REPLICA_ASSIGNMENT, "includes the broker 1 more than once."),
        (topic(assignments={0: []}), E.INVALID_REPLICA_ASSIGNMENT, "includes an empty replica list."),
        (topic(assignments={0: [1], 2: [1]}), E.INVALID_REPLICA_ASSIGNMENT, "consecutive 0-based integer sequence"),
        (topic(assignments={0: [1]}, factor=1), E.INVALID_REQUEST, "replication factor was not set to -1."),
        (topic(assignments={0: [1]}, partitions=1), E.INVALID_REQUEST, "numPartitions was not set to -1."),
    ],
    ids=lambda value: None,
)
def test_refusals(asked: messages.CreatableTopic, code: ErrorCode, text: str) -> None:
    world = World()
    world.create(topic("old"), topic("a.b"))
    before = world.core.image
    (answer,) = world.create(asked)
    assert (answer.name, answer.error_code) == (asked.name, code)
    assert text in answer.error_message
    assert world.core.image is before


def test_one_assignment_twice() -> None:
    twice = topic(assignments={0: [1]})
    twice.assignments = twice.assignments * 2
    (answer,) = World().create(twice)
    assert answer.error_code == E.INVALID_REPLICA_ASSIGNMENT
    assert answer.error_message == "Found multiple manual partition assignments for partition 0"


def test_assignments_must_agree_on_the_replication_factor() -> None:
    world = World(registration(1), registration(2))
    (answer,) = world.create(topic(assignments={0: [1, 2], 1: [1]}))
    assert answer.error_code == E.INVALID_REPLICA_ASSIGNMENT
    assert "not consistent with previous partitions, which have 2 replica(s)" in answer.error_message


def test_created_topics() -> None:
    world = World(num_partitions=3)
    before = len(world.records)
    answers = world.create(
        topic("a", configs={"retention.ms": "5", "cleanup.policy": "compact"}),
        topic("defaults", -1, -1),
        topic("manual", assignments={1: [1], 0: [1]}),
    )
    assert [(one.error_code, one.num_partitions, one.replication_factor) for one in answers] == [
        (0, 1, 1),
        (0, 3, 1),
        (0, 2, 1),
    ]
    image = world.core.image
    for answer in answers:
        made = image.topics.by_name[answer.name]
        assert made.topic_id == answer.topic_id != ZERO_UUID
        assert answer.error_message is None
        for partition in made.partitions.values():
            assert (partition.replicas, partition.isr, partition.leader) == ((1,), (1,), 1)
            assert (partition.leader_epoch, partition.partition_epoch) == (0, 0)
            assert partition.directories == (directory(1),)
    assert image.config_of(2, "a") == {"retention.ms": "5", "cleanup.policy": "compact"}
    # TopicRecord, its ConfigRecords, its PartitionRecords: Kafka's order.
    kinds = [type(record).__name__ for record in world.records[before:]]
    assert kinds[:4] == ["TopicRecord", "ConfigRecord", "ConfigRecord", "PartitionRecord"]


def test_a_broker_with_several_directories_chooses_itself() -> None:
    world = World(registration(log_dirs=(bytes([8] * 16), bytes([9] * 16))))
    world.create(topic("a"))
    assert world.core.image.topics.by_name["a"].partitions[0].directories == (UNASSIGNED_DIRECTORY,)


def test_answers_with_settings_and_their_sources() -> None:
    world = World(log_retention_ms=777)
    (answer,) = world.create(topic("a", configs={"segment.ms": "5"}), with_configs=True)
    settings = {one.name: (one.value, one.config_source) for one in answer.configs}
    assert settings["segment.ms"] == ("5", 1)
    assert settings["retention.ms"] == ("777", 4)
    assert settings["cleanup.policy"] == ("delete", 5)
    assert list(settings) == sorted(settings)
    (other,) = world.create(topic("b"), with_configs=True)
    assert {one.name: one.value for one in other.configs}["segment.ms"] == "604800000"


def test_a_name_twice_in_a_request() -> None:
    world = World()
    answers = world.create(topic("a"), topic("b"), topic("a"))
    assert {one.name: (one.error_code, one.error_message) for one in answers} == {
        "a": (E.INVALID_REQUEST, "Duplicate topic name."),
        "b": (0, None),
    }
    assert len(answers) == 2
    assert list(world.core.image.topics.by_name) == ["b"]


def test_names_that_collide_within_a_request() -> None:
    answers = World().create(topic("a.b"), topic("a_b"))
    assert [one.error_code for one in answers] == [0, E.INVALID_TOPIC_EXCEPTION]


def test_validation_only_changes_nothing() -> None:
    world = World()
    (answer,) = world.create(topic("a", 4), validate_only=True)
    assert (answer.error_code, answer.num_partitions) == (0, 4)
    assert not world.core.image.topics.by_name


def test_a_name_is_free_again_after_deletion() -> None:
    world = World()
    (answer,) = world.create(topic("a.b"))
    world.do(world.core.delete_topics(deleting.DeleteTopicsRequest(topic_names=["a.b"]), api_version=5))
    (again,) = world.create(topic("a_b"))
    assert again.error_code == 0
    assert again.topic_id != answer.topic_id


def test_all_brokers_fenced() -> None:
    from ottla.protocol.messages.metadata_records import FenceBrokerRecord
    from ottla.server.controller.result import Result

    world = World()
    world.do(Result([FenceBrokerRecord(id=1, epoch=world.core.image.brokers[1].broker_epoch)], None))
    placed, assigned = world.create(topic("a"), topic("b", assignments={0: [1]}))
    assert placed.error_code == E.INVALID_REPLICATION_FACTOR
    assert placed.error_message == "Unable to replicate the partition 1 time(s): All brokers are currently fenced."
    assert assigned.error_code == E.INVALID_REPLICA_ASSIGNMENT
    assert "partition 0 are fenced or in controlled shutdown" in assigned.error_message


def test_automatic_topics_follow_the_broker_settings() -> None:
    world = World(num_partitions=2, **{"offsets.topic.num.partitions": 5, "offsets.topic.segment.bytes": 2_000_000})
    names = ["mine", "__consumer_offsets", "__transaction_state"]
    answers = world.do(world.core.auto_create_topics(names)).topics
    assert [one.error_code for one in answers] == [0, 0, 0]
    image = world.core.image
    assert [len(image.topics.by_name[name].partitions) for name in names] == [2, 5, 50]
    assert image.config_of(2, "__consumer_offsets") == {
        "cleanup.policy": "compact",
        "compression.type": "producer",
        "segment.bytes": "2000000",
    }
    assert image.config_of(2, "__transaction_state")["min.insync.replicas"] == "1"
    again = world.do(world.core.auto_create_topics(["mine", "bad name"])).topics
    assert [one.error_code for one in again] == [E.TOPIC_ALREADY_EXISTS, E.INVALID_TOPIC_EXCEPTION]


# CreatePartitions


def grow(world: World, name: str, count: int, assignments: list[list[int]] | None = None, **fields: Any) -> Any:
    assigned = None
    if assignments is not None:
        assigned = [growing.CreatePartitionsAssignment(broker_ids=brokers) for brokers in assignments]
    asked = growing.CreatePartitionsTopic(name=name, count=count, assignments=assigned)
    request = growing.CreatePartitionsRequest(topics=[asked], **fields)
    return world.do(world.core.create_partitions(request)).results[0]


@pytest.mark.parametrize(
    ("name", "count", "assignments", "code", "text"),
    [
        ("t", 3, None, E.INVALID_PARTITIONS, "Topic already has 3 partition(s)."),
        ("t", 2, None, E.INVALID_PARTITIONS, "The topic t currently has 3 partition(s); 2 would not be an increase."),
        ("t", 10_010, None, E.POLICY_VIOLATION, "Excessively large number of partitions per request."),
        ("x", 2, None, E.UNKNOWN_TOPIC_OR_PARTITION, None),
        ("t", 5, [[1]], E.INVALID_REPLICA_ASSIGNMENT, "Attempted to add 2 additional partition(s), but only 1"),
        ("t", 4, [[9]], E.INVALID_REPLICA_ASSIGNMENT, "includes broker 9, but no such broker is registered."),
        ("t", 4, [[]], E.INVALID_REPLICA_ASSIGNMENT, "includes an empty replica list."),
    ],
)
def test_refused_growth(
    name: str, count: int, assignments: list[list[int]] | None, code: ErrorCode, text: str | None
) -> None:
    world = World()
    world.create(topic("t", 3))
    answer = grow(world, name, count, assignments)
    assert answer.error_code == code
    assert (text or code.message) in answer.error_message
    assert len(world.core.image.topics.by_name["t"].partitions) == 3


def test_growth() -> None:
    world = World()
    world.create(topic("t", 1))
    assert grow(world, "t", 3).error_code == 0
    assert grow(world, "t", 5, [[1], [1]]).error_code == 0
    assert grow(world, "t", 9, validate_only=True).error_code == 0
    assert list(world.core.image.topics.by_name["t"].partitions) == [0, 1, 2, 3, 4]


def test_a_topic_twice_in_a_growth_request() -> None:
    world = World()
    world.create(topic("t"))
    asked = [growing.CreatePartitionsTopic(name="t", count=2, assignments=None) for _ in range(2)]
    results = world.do(world.core.create_partitions(growing.CreatePartitionsRequest(topics=asked))).results
    assert [(one.name, one.error_code) for one in results] == [("t", E.INVALID_REQUEST)]


# DeleteTopics


def test_deletion_by_name_and_by_id() -> None:
    world = World()
    a, b, c = world.create(topic("a"), topic("b", configs={"segment.ms": "5"}), topic("c"))
    state = deleting.DeleteTopicState
    request = deleting.DeleteTopicsRequest(
        topics=[
            state(name="a"),
            state(topic_id=b.topic_id),
            state(name="nope"),
            state(topic_id=bytes([7] * 16)),
            state(),
            state(name="c", topic_id=c.topic_id),
        ]
    )
    responses = world.do(world.core.delete_topics(request, api_version=6)).responses
    assert {(one.name, one.topic_id): one.error_code for one in responses} == {
        ("a", a.topic_id): 0,
        ("b", b.topic_id): 0,
        ("nope", ZERO_UUID): E.UNKNOWN_TOPIC_OR_PARTITION,
        (None, bytes([7] * 16)): E.UNKNOWN_TOPIC_ID,
        (None, ZERO_UUID): E.INVALID_REQUEST,
        ("c", c.topic_id): E.INVALID_REQUEST,
    }
    assert list(world.core.image.topics.by_name) == ["c"]
    assert world.core.image.config_of(2, "b") == {}


def test_deletion_named_twice() -> None:
    world = World()
    a, b = world.create(topic("a"), topic("b"))
    state = deleting.DeleteTopicState
    request = deleting.DeleteTopicsRequest(
        topics=[state(name="a"), state(name="a"), state(name="b"), state(topic_id=b.topic_id)]
    )
    responses = world.do(world.core.delete_topics(request, api_version=6)).responses
    assert [(one.name, one.error_code) for one in responses] == [("a", E.INVALID_REQUEST), ("b", E.INVALID_REQUEST)]
    assert len(world.core.image.topics.by_name) == 2
    request = deleting.DeleteTopicsRequest(topics=[state(topic_id=a.topic_id), state(topic_id=a.topic_id)])
    responses = world.do(world.core.delete_topics(request, api_version=6)).responses
    assert [(one.topic_id, one.error_message) for one in responses] == [(a.topic_id, "Duplicate topic id.")]


@pytest.mark.parametrize(("version", "code"), [(2, E.INVALID_REQUEST), (3, E.TOPIC_DELETION_DISABLED)])
def test_deletion_can_be_disabled(version: int, code: ErrorCode) -> None:
    world = World(delete_topic_enable=False)
    world.create(topic("a"))
    request = deleting.DeleteTopicsRequest(topic_names=["a"])
    (answer,) = world.do(world.core.delete_topics(request, api_version=version)).responses
    assert (answer.name, answer.error_code) == ("a", code)
    assert "a" in world.core.image.topics.by_name
