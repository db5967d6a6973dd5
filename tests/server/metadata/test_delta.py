"""Replay against the obvious model, sharing between images, and records that do not fit."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.protocol.messages import metadata_records as messages
from ottla.server.metadata.delta import MetadataDelta, MetadataError
from ottla.server.metadata.image import EMPTY_IMAGE, Endpoint, MetadataImage
from ottla.server.metadata.records import RECORD_TYPES
from tests.server.metadata.record_strategies import RecordMaker

TOPIC_ID, OTHER_ID = bytes([1] * 16), bytes([2] * 16)


def replay(image: MetadataImage, *records: Any) -> tuple[MetadataDelta, MetadataImage]:
    delta = MetadataDelta(image)
    for record in records:
        delta.replay(record)
    return delta, delta.apply(image.offset + len(records), 1, 100)


def partition(index: int, topic_id: bytes = TOPIC_ID, **fields: Any) -> messages.PartitionRecord:
    values: dict[str, Any] = {"replicas": [1], "isr": [1], "leader": 1, "leader_epoch": 0, "partition_epoch": 0}
    return messages.PartitionRecord(partition_id=index, topic_id=topic_id, **{**values, **fields})


def check_equal(image: MetadataImage, model: RecordMaker) -> None:
    assert {topic.topic_id: name for name, topic in image.topics.by_name.items()} == model.topics
    assert {topic_id: topic.name for topic_id, topic in image.topics.by_id.items()} == model.topics
    seen = {
        (topic.topic_id, index): state._asdict()
        for topic in image.topics.by_id.values()
        for index, state in topic.partitions.items()
    }
    assert seen == {
        key: {name: tuple(value) if isinstance(value, list) else value for name, value in state.items()}
        for key, state in model.partitions.items()
    }
    for topic in image.topics.by_id.values():
        assert list(topic.partitions) == sorted(topic.partitions)
    assert image.brokers.keys() == model.brokers.keys()
    for broker_id, fields in model.brokers.items():
        broker = image.brokers[broker_id]
        assert broker.endpoints == {"PLAINTEXT": Endpoint("PLAINTEXT", fields["host"], 9092, 0)}
        for name in ("incarnation_id", "broker_epoch", "rack", "fenced", "in_controlled_shutdown"):
            assert getattr(broker, name) == fields[name]
        assert broker.log_dirs == tuple(fields["log_dirs"])
        cordoned = fields["cordoned_log_dirs"]
        assert broker.cordoned_log_dirs == (None if cordoned is None else tuple(cordoned))
    assert image.configs == model.configs
    assert image.features == model.features
    assert image.client_quotas == model.quotas
    assert image.acls == model.acls
    assert image.scram == model.scram
    assert image.delegation_tokens == model.tokens
    assert {key: one.incarnation_id for key, one in image.controllers.items()} == model.controllers
    assert image.producer_ids.next_producer_id == model.next_producer_id


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(0, 25), max_size=8))
def test_any_records_in_any_batches_give_the_obvious_picture(seed: int, sizes: list[int]) -> None:
    model = RecordMaker(Random(seed))
    image = EMPTY_IMAGE
    for size in sizes:
        before, copy = image, repr(image)
        delta = MetadataDelta(image)
        for _ in range(size):
            delta.replay(model.record())
        image = delta.apply(image.offset + size, 1, 100)
        check_equal(image, model)
        assert repr(before) == copy, "an image changed"
        for topic_id, changed in delta.changed_topics.items():
            assert (changed.before is None) == (topic_id not in before.topics.by_id)
        gone = set(before.topics.by_id) - set(image.topics.by_id)
        assert set(delta.deleted_topics) == gone


def test_untouched_parts_are_shared() -> None:
    _, first = replay(
        EMPTY_IMAGE,
        messages.TopicRecord(name="a", topic_id=TOPIC_ID),
        partition(0),
        messages.TopicRecord(name="b", topic_id=OTHER_ID),
        partition(0, OTHER_ID),
        messages.FeatureLevelRecord(name="metadata.version", feature_level=30),
    )
    delta, second = replay(first, messages.ConfigRecord(resource_type=2, resource_name="a", name="x", value="1"))
    assert second.topics is first.topics
    assert second.features is first.features
    assert delta.changed_configs == {(2, "a")}
    _, third = replay(second, messages.PartitionChangeRecord(partition_id=0, topic_id=TOPIC_ID, leader=-1))
    assert third.topics.by_name["b"] is first.topics.by_name["b"]
    assert third.configs is second.configs
    assert first.topics.by_name["a"].partitions[0].leader == 1


def test_leader_epoch_moves_only_with_the_leader() -> None:
    _, image = replay(EMPTY_IMAGE, messages.TopicRecord(name="a", topic_id=TOPIC_ID), partition(0))
    _, image = replay(image, messages.PartitionChangeRecord(partition_id=0, topic_id=TOPIC_ID, isr=[]))
    state = image.topics.partition("a", 0)
    assert state is not None
    assert (state.leader_epoch, state.partition_epoch) == (0, 1)
    _, image = replay(image, messages.PartitionChangeRecord(partition_id=0, topic_id=TOPIC_ID, leader=1))
    state = image.topics.partition("a", 0)
    assert state is not None
    assert (state.leader_epoch, state.partition_epoch) == (1, 2)


def test_topic_deleted_and_made_again_in_one_delta() -> None:
    _, image = replay(
        EMPTY_IMAGE,
        messages.TopicRecord(name="a", topic_id=TOPIC_ID),
        partition(0),
        messages.ConfigRecord(resource_type=2, resource_name="a", name="x", value="1"),
    )
    delta, image = replay(
        image,
        messages.RemoveTopicRecord(topic_id=TOPIC_ID),
        messages.TopicRecord(name="a", topic_id=OTHER_ID),
        partition(0, OTHER_ID),
    )
    assert image.topics.id_of("a") == OTHER_ID
    assert image.topics.name_of(TOPIC_ID) is None
    assert image.config_of(2, "a") == {}
    assert list(delta.deleted_topics) == [TOPIC_ID]
    assert delta.changed_topics[OTHER_ID].before is None


def test_every_known_record_type_can_be_replayed() -> None:
    from ottla.server.metadata import delta

    packed = {delta.PackedPartition, delta.PackedChange}
    assert set(delta._REPLAY) == set(RECORD_TYPES.values()) | packed
    assert len(RECORD_TYPES) == 27


@pytest.mark.parametrize(
    "record",
    [
        partition(0),
        messages.PartitionChangeRecord(partition_id=0, topic_id=TOPIC_ID),
        messages.RemoveTopicRecord(topic_id=TOPIC_ID),
        messages.UnregisterBrokerRecord(broker_id=1, broker_epoch=1),
        messages.FenceBrokerRecord(id=1, epoch=1),
        messages.BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=1),
        messages.RemoveAccessControlEntryRecord(id=TOPIC_ID),
        messages.RemoveUserScramCredentialRecord(name="ann", mechanism=1),
        messages.BrokerEndpoint(),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_record_that_does_not_fit_is_an_error(record: Any) -> None:
    with pytest.raises(MetadataError):
        MetadataDelta(EMPTY_IMAGE).replay(record)


def test_a_stale_broker_epoch_is_an_error() -> None:
    _, image = replay(EMPTY_IMAGE, messages.RegisterBrokerRecord(broker_id=1, broker_epoch=5))
    with pytest.raises(MetadataError, match="epoch"):
        MetadataDelta(image).replay(messages.FenceBrokerRecord(id=1, epoch=4))


def test_a_topic_made_twice_is_an_error() -> None:
    _, image = replay(EMPTY_IMAGE, messages.TopicRecord(name="a", topic_id=TOPIC_ID))
    with pytest.raises(MetadataError):
        MetadataDelta(image).replay(messages.TopicRecord(name="a", topic_id=TOPIC_ID))
