"""Frames, the versions they are written in, and images as records."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.protocol.messages import metadata_records as messages
from ottla.server.metadata import features
from ottla.server.metadata.delta import MetadataDelta, MetadataError
from ottla.server.metadata.features import (
    BOOTSTRAP_FEATURES,
    ELR_VERSION,
    advertised_features,
    unknown_features,
)
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage
from ottla.server.metadata.loader import RecordLoader
from ottla.server.metadata.records import RECORD_TYPES, RecordWriter, read_for_replay, read_frame, write_version
from ottla.server.metadata.writer import image_frames, image_records
from tests.server.metadata.record_strategies import RecordMaker

NEWEST = {"metadata.version": 30, ELR_VERSION: 1}


def test_frame_layout() -> None:
    # As Kafka 4.3.1 writes them: frame version, key, version, body.
    frame = RecordWriter(NEWEST).frame(messages.FeatureLevelRecord(name="metadata.version", feature_level=30))
    assert frame == b"\x01\x0c\x00" + b"\x11metadata.version" + b"\x00\x1e" + b"\x00"
    assert read_frame(frame) == messages.FeatureLevelRecord(name="metadata.version", feature_level=30)
    assert RecordWriter(NEWEST).frame(messages.NoOpRecord()) == b"\x01\x14\x00\x00"


@pytest.mark.parametrize("record_type", RECORD_TYPES.values(), ids=lambda kind: kind.__name__)
def test_every_record_type_survives_its_frame(record_type: type[Any]) -> None:
    record = record_type()
    assert read_frame(RecordWriter(NEWEST).frame(record)) == record
    assert read_frame(RecordWriter({"metadata.version": 7}).frame(record)) == record


@pytest.mark.parametrize(
    ("record_type", "versions"),
    [
        (messages.RegisterBrokerRecord, [(7, 1), (8, 2), (17, 3), (29, 3), (30, 4)]),
        (messages.BrokerRegistrationChangeRecord, [(7, 1), (17, 2), (30, 3)]),
        (messages.PartitionRecord, [(7, 0), (16, 0), (17, 1), (22, 1), (23, 2)]),
        (messages.PartitionChangeRecord, [(16, 0), (17, 1), (23, 2), (30, 2)]),
        (messages.TopicRecord, [(7, 0), (30, 0)]),
    ],
)
def test_write_versions_follow_metadata_version(record_type: type[Any], versions: list[tuple[int, int]]) -> None:
    for level, version in versions:
        assert write_version(record_type, {"metadata.version": level}) == version


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01",
        b"\x02\x14\x00\x00",
        b"\x01\x7f\x00\x00",
        b"\x01\x14\x05\x00",
        b"\x01\x14\x00\x00\x00",
        b"\x01\x0c\x00\x11meta",
        b"\xff\xff\xff\xff\xff\xff",
    ],
)
def test_bytes_that_are_no_record_are_an_error(frame: bytes) -> None:
    with pytest.raises(MetadataError):
        read_frame(frame)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_give_a_record_or_that_error(data: bytes) -> None:
    try:
        read_frame(b"\x01" + data)
    except MetadataError:
        pass


def image_of(seed: int, count: int) -> MetadataImage:
    maker, delta = RecordMaker(Random(seed)), MetadataDelta(EMPTY_IMAGE)
    for _ in range(count):
        delta.replay(maker.record())
    return delta.apply(7, 3, 100)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 150))
def test_an_image_written_and_read_is_the_same_image(seed: int, count: int) -> None:
    image = image_of(seed, count)
    writer = RecordWriter(NEWEST)
    delta = MetadataDelta(EMPTY_IMAGE)
    for record in image_records(image):
        delta.replay(read_frame(writer.frame(record)))
    assert delta.apply(7, 3, 100) == image


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 150))
def test_the_quick_ways_of_reading_and_writing_say_the_same(seed: int, count: int) -> None:
    maker, writer = RecordMaker(Random(seed)), RecordWriter(NEWEST)
    plain, packed = MetadataDelta(EMPTY_IMAGE), MetadataDelta(EMPTY_IMAGE)
    for frame in [writer.frame(maker.record()) for _ in range(count)]:
        plain.replay(read_frame(frame))
        packed.replay(read_for_replay(frame))
    image = packed.apply(7, 3, 100)
    assert image == plain.apply(7, 3, 100)
    assert list(image_frames(image, writer.frame)) == list(map(writer.frame, image_records(image)))


def test_features_that_are_not_served_are_kept_but_not_advertised(monkeypatch) -> None:
    monkeypatch.setattr(features, "SUPPORTED_FEATURES", {"metadata.version": (7, 31)})
    image = MetadataImage(features={"metadata.version": 30, "transaction.version": 2, "group.version": 1})
    assert unknown_features(image) == []
    assert advertised_features(image) == {"metadata.version": 30}


def test_a_fresh_cluster_advertises_all_it_has() -> None:
    assert advertised_features(MetadataImage(features=BOOTSTRAP_FEATURES)) == BOOTSTRAP_FEATURES
    assert BOOTSTRAP_FEATURES["metadata.version"] == 30


def test_features_of_the_future_are_named() -> None:
    image = MetadataImage(features={"metadata.version": 99, "group.version": 1, "new.version": 1})
    assert unknown_features(image) == ["metadata.version=99", "new.version=1"]


def topic(name: str) -> messages.TopicRecord:
    return messages.TopicRecord(name=name, topic_id=name.encode().ljust(16))


def test_transactions_show_as_a_whole_or_not_at_all() -> None:
    loader = RecordLoader(EMPTY_IMAGE)
    loader.add([topic("a")], 0, 1, 10)
    loader.add([messages.BeginTransactionRecord(name="x"), topic("b")], 2, 1, 20)
    assert loader.in_transaction
    delta, image = loader.take()
    assert (list(image.topics.by_name), image.offset, image.timestamp_ms) == (["a"], 0, 10)
    assert len(delta.changed_topics) == 1
    loader.add([topic("c"), messages.EndTransactionRecord()], 4, 1, 30)
    delta, image = loader.take()
    assert (sorted(image.topics.by_name), image.offset) == (["a", "b", "c"], 4)
    assert len(delta.changed_topics) == 2
    loader.add([messages.BeginTransactionRecord(), topic("d")], 6, 1, 40)
    loader.add([messages.AbortTransactionRecord(), topic("e")], 8, 1, 50)
    _, image = loader.take()
    assert (sorted(image.topics.by_name), image.offset) == (["a", "b", "c", "e"], 8)


@pytest.mark.parametrize(
    "records",
    [
        [messages.BeginTransactionRecord(), messages.BeginTransactionRecord()],
        [messages.EndTransactionRecord()],
        [messages.AbortTransactionRecord()],
    ],
)
def test_misplaced_transaction_markers_are_an_error(records: list[Any]) -> None:
    with pytest.raises(MetadataError, match="transaction"):
        RecordLoader(EMPTY_IMAGE).add(records, 1, 1, 1)
