"""The byte form of group and offset records, and the partition of a key."""

from __future__ import annotations

import pytest

from ottla.core.ids import ZERO_UUID
from ottla.protocol.codec import decode, encode
from ottla.protocol.errors import ProtocolError, UnsupportedVersionError
from ottla.protocol.messages.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    LegacyOffsetCommitKey,
    LegacyOffsetCommitValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
)
from ottla.server.coordinator import group_records
from ottla.server.coordinator.classic.group import ClassicGroup
from ottla.server.coordinator.group_records import CommittedOffset, GroupRecordCodec
from ottla.server.coordinator.partitioner import coordinator_partition, java_string_hash
from tests.server.coordinator.driver import START_WALL_MS, Driver, subscription

CODEC = GroupRecordCodec()
TOPIC_ID = bytes(range(16))


def test_offset_commit_is_written_in_version_4() -> None:
    committed = CommittedOffset(5, 2, "m", 1_000, None, ZERO_UUID)
    key, value = CODEC.encode(group_records.offset_commit("g", "t", 3, committed))
    assert key.hex() == "0001" + "000167" + "000174" + "00000003"
    assert value is not None
    # version, offset, leader epoch, compact string, timestamp, no tagged fields
    assert value.hex() == "0004" + "0000000000000005" + "00000002" + "026d" + "00000000000003e8" + "00"
    assert decode(OffsetCommitKey, 0, key, 2) == OffsetCommitKey(group="g", topic="t", partition=3)


def test_offset_commit_keeps_the_topic_id() -> None:
    committed = CommittedOffset(5, -1, "", 1_000, None, TOPIC_ID)
    _, value = CODEC.encode(group_records.offset_commit("g", "t", 3, committed))
    assert value is not None
    assert decode(OffsetCommitValue, 4, value, 2).topic_id == TOPIC_ID


def test_offset_commit_with_an_expiry_is_written_in_version_1() -> None:
    committed = CommittedOffset(5, 2, "m", 1_000, 2_000, TOPIC_ID)
    _, value = CODEC.encode(group_records.offset_commit("g", "t", 3, committed))
    assert value is not None
    assert value.hex() == "0001" + "0000000000000005" + "00016d" + "00000000000003e8" + "00000000000007d0"


def test_group_metadata_is_written_in_version_3() -> None:
    driver = Driver()
    driver.join(version=3, client="c", protocols=(("range", subscription("t")),), rebalance_ms=60_000)
    driver.join("", version=5, client="c", instance="i", protocols=(("range", b"x"),))
    driver.advance(6_000)
    group = driver.shard.classic.groups["g"]
    key, value = CODEC.encode(group_records.group_metadata(group, {"c-1": b"A"}))
    assert key.hex() == "0002" + "000167"
    assert value is not None
    assert value[:2] == b"\x00\x03"
    assert decode(GroupMetadataKey, 0, key, 2).group == "g"
    assert decode(GroupMetadataValue, 3, value, 2) == GroupMetadataValue(
        protocol_type="consumer",
        generation=1,
        protocol="range",
        leader="c-1",
        current_state_timestamp=START_WALL_MS + 6_000,
        members=[
            MemberMetadata(
                member_id="c-1",
                group_instance_id=None,
                client_id="c",
                client_host="/127.0.0.1",
                rebalance_timeout=60_000,
                session_timeout=10_000,
                subscription=subscription("t"),
                assignment=b"A",
            ),
            MemberMetadata(
                member_id="i-2",
                group_instance_id="i",
                client_id="c",
                client_host="/127.0.0.1",
                rebalance_timeout=60_000,
                session_timeout=10_000,
                subscription=b"x",
                assignment=b"",
            ),
        ],
    )


def test_tombstones_have_no_value() -> None:
    assert CODEC.encode(ClassicGroup("g", [], None).tombstones()[0])[1] is None
    assert CODEC.encode(group_records.offset_tombstone("g", "t", 1))[1] is None


def test_new_group_has_neither_type_nor_protocol() -> None:
    _, value = CODEC.encode(group_records.new_group_metadata(ClassicGroup("g", [], 7)))
    assert value is not None
    assert value.hex() == "0003" + "0000" + "00000000" + "ffff" + "ffff" + "0000000000000007" + "00000000"


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
def test_every_version_of_a_group_is_read(version: int) -> None:
    value = GroupMetadataValue(
        protocol_type="consumer",
        generation=4,
        protocol="range",
        leader="m",
        members=[MemberMetadata(member_id="m", client_id="c", client_host="h", session_timeout=9_000)],
    )
    driver = Driver()
    driver.log = [
        (
            b"\x00\x02" + encode(GroupMetadataKey(group="g"), 0),
            version.to_bytes(2, "big") + encode(value, version),
        )
    ]
    driver.restart()
    group = driver.shard.classic.groups["g"]
    assert (group.generation_id, group.leader_id, group.state_timestamp_ms) == (4, "m", None)
    assert group.members["m"].rebalance_timeout_ms == 9_000
    driver.shard.check_invariants()


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
def test_every_version_of_an_offset_is_read(version: int) -> None:
    value = OffsetCommitValue(
        offset=9, metadata="m", commit_timestamp=8, expire_timestamp=7, leader_epoch=6, topic_id=TOPIC_ID
    )
    driver = Driver()
    driver.log = [
        (
            b"\x00\x01" + encode(OffsetCommitKey(group="g", topic="t", partition=0), 0),
            version.to_bytes(2, "big") + encode(value, version),
        )
    ]
    driver.restart()
    offset = driver.shard.offsets.committed["g"]["t"][0]
    assert offset == CommittedOffset(
        9, 6 if version >= 3 else -1, "m", 8, 7 if version == 1 else None, TOPIC_ID if version == 4 else ZERO_UUID, 0
    )


def test_legacy_offset_keys_are_read() -> None:
    record = CODEC.decode(
        b"\x00\x00" + encode(LegacyOffsetCommitKey(group="g", topic="t", partition=1), 0),
        b"\x00\x00" + encode(LegacyOffsetCommitValue(offset=5, metadata="m", commit_timestamp=8), 0),
    )
    assert record is not None
    assert record.key_type == group_records.OFFSET_COMMIT
    assert (record.key.partition, record.value.offset, record.value.commit_timestamp) == (1, 5, 8)


def test_unknown_and_broken_records() -> None:
    assert CODEC.decode(b"\x00\x63rest", b"rest") is None
    key = CODEC.encode(ClassicGroup("g", [], None).tombstones()[0])[0]
    for bad in ((b"\x00", None), (key[:-1], None), (key + b"x", None), (key, b"\x00"), (key, b"\x00\x03\x00")):
        with pytest.raises(ProtocolError):
            CODEC.decode(*bad)
    with pytest.raises(UnsupportedVersionError):
        CODEC.decode(key, b"\x00\x09")


def test_coordinator_partitions_as_kafka_computes_them() -> None:
    expected = {
        "": 0,
        "g1": 42,
        "console-consumer-1": 24,
        "my-group": 12,
        "polygenelubricants": 0,
        "connect-cluster": 13,
        "tx1": 45,
    }
    assert {key: coordinator_partition(key, 50) for key in expected} == expected
    assert java_string_hash("polygenelubricants") == -(2**31)
    assert java_string_hash("grüße") == 98768023
    assert java_string_hash("\U0001f600") == 1772899
