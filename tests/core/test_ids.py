import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.ids import ONE_UUID, ZERO_UUID, TopicPartition, uuid_from_text, uuid_to_text


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_uuid_text_round_trips(uuid):
    text = uuid_to_text(uuid)
    assert len(text) == 22
    assert uuid_from_text(text) == uuid
    assert uuid_from_text(text + "==") == uuid


def test_uuids_are_written_as_kafka_writes_them():
    assert uuid_to_text(ZERO_UUID) == "AAAAAAAAAAAAAAAAAAAAAA"
    assert uuid_to_text(ONE_UUID) == "AAAAAAAAAAAAAAAAAAAAAQ"
    assert uuid_to_text(bytes.fromhex("fbf0c7e4b9a54d1e8f00ffee00112233")) == "-_DH5LmlTR6PAP_uABEiMw"


@pytest.mark.parametrize(
    "text", ["", "AAAA", "A" * 21, "A" * 23, "A" * 21 + "é", "A" * 21 + "!", "A" * 10 + " " + "A" * 11]
)
def test_anything_else_is_not_a_uuid(text):
    with pytest.raises(ValueError, match="uuid"):
        uuid_from_text(text)


def test_uuid_needs_16_bytes():
    with pytest.raises(ValueError, match="16 bytes"):
        uuid_to_text(b"short")


def test_topic_partition_prints_like_its_directory():
    assert str(TopicPartition("orders", 3)) == "orders-3"
