"""What follows the log: commits that were prepared and that were not, snapshots in between, who waits, who fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.protocol.messages import metadata_records as messages
from ottla.schema.config import BrokerConfig
from ottla.server.metadata.cluster import MORE_FOLLOWS, ClusterMetadata, Prepared
from ottla.server.metadata.commits import CommittedBatch, LeaderAndEpoch, MetadataLogError
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.difference import difference
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage
from ottla.server.metadata.records import RecordWriter
from tests.server.raft.worlds import new_env

WRITER = RecordWriter({"metadata.version": 30})


def topic(name: str) -> Any:
    return messages.TopicRecord(name=name, topic_id=name.encode().ljust(16, b"-"))


def partition(name: str, leader: int = 1) -> Any:
    return messages.PartitionRecord(
        partition_id=0, topic_id=name.encode().ljust(16, b"-"), replicas=[1], isr=[1], leader=leader, leader_epoch=1
    )


def setting(name: str, value: str | None, broker: str = "") -> Any:
    return messages.ConfigRecord(resource_type=4, resource_name=broker, name=name, value=value)


def frames(*records: Any) -> list[bytes]:
    return [WRITER.frame(record) for record in records]


class World:
    """Commits batches; `heard` is the topics that changed, change by change."""

    def __init__(self) -> None:
        self.metadata = ClusterMetadata(BrokerConfig.of({"node.id": 1}), new_env(), node_id=1)
        self.heard: list[set[str]] = []
        self.metadata.subscribe(lambda delta, _: self.heard.append({one.name for one in delta.changed_topics.values()}))
        self.offset = -1

    def batch(self, *records: Any, prepared: Any = None) -> CommittedBatch:
        self.offset += max(len(records), 1)
        return CommittedBatch(frames(*records), self.offset, 1, 1000, prepared)

    def prepared(self, base: MetadataImage, *records: Any) -> tuple[Prepared, CommittedBatch]:
        """As the local controller does it."""
        delta = MetadataDelta(base)
        for record in records:
            delta.replay(record)
        prepared = Prepared(delta)
        batch = self.batch(*records, prepared=prepared)
        prepared.image = delta.apply(batch.last_offset, 1, 1000)
        return prepared, batch

    @property
    def topics(self) -> list[str]:
        return sorted(self.metadata.image.topics.by_name)


def test_commits_of_others_are_one_change_those_of_the_controller_one_each() -> None:
    world = World()
    world.metadata.on_commit([world.batch(topic("a")), world.batch(topic("b"))])
    first, first_batch = world.prepared(world.metadata.image, topic("c"))
    second, second_batch = world.prepared(first.image, topic("d"))
    world.metadata.on_commit([first_batch, second_batch])
    assert world.heard == [{"a", "b"}, {"c"}, {"d"}]
    assert world.metadata.image is second.image
    assert world.metadata.offset == world.offset == 3


def test_what_was_prepared_on_another_state_is_read_from_the_records() -> None:
    world = World()
    lost, _ = world.prepared(world.metadata.image, topic("lost"))
    world.offset = -1
    world.metadata.on_commit([world.batch(topic("a"))])
    prepared, batch = world.prepared(lost.image, topic("b"))
    world.metadata.on_commit([batch])
    assert world.topics == ["a", "b"]
    assert world.metadata.image is not prepared.image


def test_a_command_in_several_batches_is_one_change_also_when_its_end_never_comes() -> None:
    world = World()
    base = world.metadata.image
    first = world.batch(topic("a"), prepared=MORE_FOLLOWS)
    delta = MetadataDelta(base)
    for name in "ab":
        delta.replay(topic(name))
    prepared = Prepared(delta)
    second = world.batch(topic("b"), prepared=prepared)
    prepared.image = delta.apply(second.last_offset, 1, 1000)
    world.metadata.on_commit([first])
    assert (world.topics, world.metadata.offset) == ([], 0)
    world.metadata.on_commit([second])
    assert world.heard == [{"a", "b"}]

    world.metadata.on_commit([world.batch(topic("c"), prepared=MORE_FOLLOWS)])
    world.metadata.on_commit([world.batch(), world.batch(topic("d"))])  # another leader goes on
    assert world.topics == ["a", "b", "c", "d"]
    assert world.heard[1:] == [{"c", "d"}]


def test_control_batches_move_the_offset_only() -> None:
    world = World()
    world.metadata.on_commit([world.batch()])
    assert (world.metadata.offset, world.metadata.image) == (0, EMPTY_IMAGE)
    assert world.heard == []


def test_an_open_transaction_is_held_back_and_ended_by_the_next_controller() -> None:
    world = World()
    begin = messages.BeginTransactionRecord()
    world.metadata.on_commit([world.batch(topic("a")), world.batch(begin, topic("b"))])
    assert (world.topics, world.metadata.in_transaction) == (["a"], True)
    _, batch = world.prepared(world.metadata.image, messages.AbortTransactionRecord(reason="restarted"))
    world.metadata.on_commit([batch])
    assert (world.topics, world.metadata.in_transaction) == (["a"], False)


def test_a_snapshot_is_told_as_what_differs() -> None:
    world = World()
    metadata = world.metadata
    metadata.on_commit(
        [
            world.batch(
                *(record for name in "abc" for record in (topic(name), partition(name))),
                setting("log.retention.ms", "5"),
                messages.FeatureLevelRecord(name="metadata.version", feature_level=30),
            )
        ]
    )
    assert metadata.config["log.retention.ms"] == 5
    before = metadata.image
    deltas: list[MetadataDelta] = []
    metadata.subscribe(lambda delta, _: deltas.append(delta))
    held = [topic("a"), partition("a"), topic("c"), partition("c", leader=2), topic("d"), partition("d")]
    version = messages.FeatureLevelRecord(name="metadata.version", feature_level=30)
    metadata.on_snapshot(100, 3, 7000, iter([frames(version), frames(*held)]))
    assert metadata.image is before  # until it is on the event loop
    metadata.on_commit([])
    assert world.topics == ["a", "c", "d"]
    assert (metadata.offset, metadata.image.epoch, metadata.image.timestamp_ms) == (99, 3, 7000)
    assert metadata.config["log.retention.ms"] != 5
    (delta,) = deltas
    assert {one.name: one.before is not None for one in delta.changed_topics.values()} == {"c": True, "d": False}
    assert [one.name for one in delta.deleted_topics.values()] == ["b"]
    assert delta.changed_configs == {(4, "")}
    assert delta.changed == set()


def test_equal_images_have_no_difference() -> None:
    world = World()
    world.metadata.on_commit([world.batch(topic("a"), partition("a"), setting("log.retention.ms", "5"))])
    delta = difference(world.metadata.image, world.metadata.image)
    assert not delta.changed_topics | delta.deleted_topics
    assert not delta.changed_configs | delta.changed_brokers
    assert not delta.changed


def test_who_waits_is_told_when_it_is_published_or_when_the_log_fails() -> None:
    async def main() -> None:
        world = World()
        metadata = world.metadata
        soon, never = asyncio.ensure_future(metadata.wait_for(0)), asyncio.ensure_future(metadata.wait_for(5))
        progress: list[int] = []
        metadata.subscribe_progress(progress.append)
        await asyncio.sleep(0)
        metadata.on_commit([world.batch(topic("a"))])
        await soon
        assert (world.heard, progress) == ([{"a"}], [0])
        failures: list[BaseException] = []
        metadata.subscribe_failure(failures.append)
        error = OSError("gone")
        for _ in range(2):
            metadata.on_failure(error)
        assert failures == [error]
        with pytest.raises(MetadataLogError, match="gone"):
            await never
        with pytest.raises(MetadataLogError):
            await metadata.wait_for(9)
        await metadata.wait_for(0)

    asyncio.run(main())


def test_leaders_are_told_once() -> None:
    world = World()
    heard: list[LeaderAndEpoch] = []
    world.metadata.subscribe_leader(heard.append)
    for leader in (LeaderAndEpoch(1, 1), LeaderAndEpoch(1, 1), LeaderAndEpoch(-1, 2), LeaderAndEpoch(2, 2)):
        world.metadata.on_leader(leader)
    assert heard == [(1, 1), (-1, 2), (2, 2)]
    assert world.metadata.leader == (2, 2)


def test_a_level_that_is_not_known_ends_it() -> None:
    world = World()
    with pytest.raises(MetadataLogError, match=r"new\.version=1"):
        world.metadata.on_commit([world.batch(messages.FeatureLevelRecord(name="new.version", feature_level=1))])
