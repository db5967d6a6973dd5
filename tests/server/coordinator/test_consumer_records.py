"""The records of consumer groups, byte by byte as Apache Kafka 4.3.1 wrote them for the same group."""

from __future__ import annotations

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages import group_records as messages
from ottla.protocol.messages import metadata_records
from ottla.server.coordinator.consumer import records as consumer_records
from ottla.server.coordinator.consumer.group import ResolvedRegex
from ottla.server.coordinator.consumer.member import ClassicMembership, ConsumerMember, MemberState
from ottla.server.coordinator.group_records import GroupRecordCodec
from ottla.server.coordinator.modern_topics import topic_hash
from ottla.server.coordinator.result import CoordinatorRecord
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage
from tests.server.coordinator.consumer_driver import ConsumerDriver

CODEC = GroupRecordCodec()
TOPIC_ID = bytes.fromhex("9943082503674fff81876dbf9e80c2a6")
METADATA_HASH = 0x3148214F9BBB1B09

MEMBER = ConsumerMember(
    "a",
    member_epoch=2,
    previous_member_epoch=0,
    rack_id="r",
    rebalance_timeout_ms=60_000,
    client_id="differential",
    client_host="/127.0.0.1",
    subscribed_topic_names=frozenset({"t"}),
    assigned={TOPIC_ID: {0: 2, 1: 2, 2: 2}},
)
BY_EXPRESSION = ConsumerMember(
    "x",
    member_epoch=2,
    previous_member_epoch=0,
    instance_id="i",
    rebalance_timeout_ms=60_000,
    client_id="differential",
    client_host="/127.0.0.1",
    subscribed_topic_regex="t.*",
)


@pytest.mark.parametrize(
    ("record", "key", "value"),
    [
        (
            consumer_records.member_metadata("g", MEMBER),
            "0005000167000161",
            "00000002720d646966666572656e7469616c0b2f3132372e302e302e31020274010000ea600001000100",
        ),
        (
            consumer_records.member_metadata("g", BY_EXPRESSION),
            "0005000167000178",
            "00000269000d646966666572656e7469616c0b2f3132372e302e302e310104742e2a0000ea600001000100",
        ),
        (
            consumer_records.group_epoch("g", 2, METADATA_HASH),
            "0003000167",
            "0000000000020100083148214f9bbb1b09",
        ),
        (
            consumer_records.target_member("g", "a", {TOPIC_ID: (0, 1, 2)}),
            "0007000167000161",
            "0000029943082503674fff81876dbf9e80c2a6040000000000000001000000020000",
        ),
        (
            consumer_records.target_metadata("g", 2, 0x1A1FEC707FE),
            "0006000167",
            "000000000002010008000001a1fec707fe",
        ),
        (
            consumer_records.current_assignment("g", MEMBER),
            "0008000167000161",
            f"000000000002000000000002{TOPIC_ID.hex()}0400000000000000010000000201000d040000000200000002000000020100",
        ),
        (
            consumer_records.current_assignment("g", BY_EXPRESSION),
            "0008000167000178",
            "0000000000020000000000010100",
        ),
        (
            consumer_records.regular_expression("g", "t.*", ResolvedRegex(frozenset({"t"}), 26, 0x1A1FEC70828)),
            "00100001670003742e2a",
            "0000020274000000000000001a000001a1fec7082800",
        ),
    ],
)
def test_bytes_are_those_of_apache_kafka(record: CoordinatorRecord, key: str, value: str) -> None:
    found_key, found_value = CODEC.encode(record)
    assert found_key.hex() == key
    assert found_value is not None
    assert found_value.hex() == value
    decoded = CODEC.decode(found_key, found_value)
    assert decoded is not None
    assert decoded.value == record.value


def test_metadata_hash_is_that_of_apache_kafka() -> None:
    """Of one topic with three partitions, on a broker in the rack "ab"."""
    driver = ConsumerDriver()
    delta = MetadataDelta(EMPTY_IMAGE)
    delta.replay(metadata_records.RegisterBrokerRecord(broker_id=1, rack="ab"))
    driver.image = delta.apply(0, 0, 0)
    driver.image = with_topic(driver.image, "t", TOPIC_ID, 3)
    driver.restart()
    assert driver.machine.topics.metadata_hash({"t", "none"}) == METADATA_HASH
    assert driver.machine.topics.metadata_hash({"none"}) == 0
    assert driver.machine.topics.metadata_hash(()) == 0
    other = with_topic(driver.image, "u", bytes(16), 3)
    assert topic_hash(other.topics.by_name["u"], other) != topic_hash(other.topics.by_name["t"], other)


def with_topic(image: MetadataImage, name: str, topic_id: bytes, partitions: int) -> MetadataImage:
    delta = MetadataDelta(image)
    delta.replay(metadata_records.TopicRecord(name=name, topic_id=topic_id))
    for index in range(partitions):
        delta.replay(
            metadata_records.PartitionRecord(
                partition_id=index, topic_id=topic_id, replicas=[1], isr=[1], leader=1, leader_epoch=0
            )
        )
    return delta.apply(image.offset + 1, 0, 0)


def test_classic_members_and_revocations_survive_their_bytes() -> None:
    member = MEMBER._replace(
        state=MemberState.UNREVOKED_PARTITIONS,
        pending_revocation={bytes(16): {7: 1}},
        classic=ClassicMembership(30_000, (("range", b"\0\0"), ("roundrobin", b"x"))),
    )
    driver = ConsumerDriver()
    for record in (consumer_records.member_metadata("g", member), consumer_records.current_assignment("g", member)):
        driver.log.append(driver.codec.encode(record))
    driver.restart_from_log()
    assert driver.group().members == {"a": member}


def test_assignments_of_older_kafka_are_in_the_epoch_of_the_member() -> None:
    value = messages.ConsumerGroupCurrentMemberAssignmentValue(
        member_epoch=-2,
        previous_member_epoch=3,
        state=99,
        assigned_partitions=[messages.TopicPartitions(topic_id=TOPIC_ID, partitions=[1])],
    )
    member = consumer_records.with_current_assignment(ConsumerMember("a"), value)
    assert member.assigned == {TOPIC_ID: {1: 0}}
    assert member.state is MemberState.UNKNOWN
    value.member_epoch = 5
    assert consumer_records.with_current_assignment(member, value).assigned == {TOPIC_ID: {1: 5}}


def test_a_member_in_a_state_of_a_newer_kafka_has_to_give_up_everything() -> None:
    driver = ConsumerDriver()
    driver.put_topic("t", 1)
    driver.heartbeat("a", 0, ("t",))
    member = driver.group().members["a"]._replace(state=MemberState.UNKNOWN)
    driver.log.append(driver.codec.encode(consumer_records.current_assignment("g", member)))
    driver.restart_from_log()
    assert driver.code_of("a", 2) is ErrorCode.FENCED_MEMBER_EPOCH
    assert driver.code_of("a", 2, owned={"t": [0]}) is ErrorCode.FENCED_MEMBER_EPOCH
    assert driver.heartbeat("a", 2, owned={}).member_epoch == 2
    assert driver.group().members["a"].state is MemberState.STABLE


def test_what_compaction_leaves_of_a_group_is_loaded() -> None:
    """Tombstones of what is not there, records before those that would make their group, and of Kafka 4.0."""
    driver = ConsumerDriver()
    driver.put_topic("t", 2)
    for record in (
        *consumer_records.member_tombstones("gone", "m"),
        *consumer_records.group_tombstones("gone", ["m"], ["r"]),
        consumer_records.current_assignment("g", MEMBER._replace(member_id="m")),
        *consumer_records.member_tombstones("g", "m"),
        CoordinatorRecord(
            consumer_records.PARTITION_METADATA,
            messages.ConsumerGroupPartitionMetadataKey(group_id="g"),
            messages.ConsumerGroupPartitionMetadataValue(topics=[]),
        ),
    ):
        driver.log.append(driver.codec.encode(record))
    driver.restart_from_log()
    assert list(driver.shard.groups) == ["g"]
    assert driver.group().state_name == "Empty"
    written: list[int] = []
    driver.on_records = lambda records: written.extend(record.key_type for record in records if record.value is None)
    driver.heartbeat("a", 0, ("t",))
    assert written == [consumer_records.PARTITION_METADATA]
    written.clear()
    driver.heartbeat("b", 0, ("t",))
    assert written == []
