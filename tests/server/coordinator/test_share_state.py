"""Progress of share groups: batches against a model, commands, fencing, snapshots, and what a restart finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import (
    initialize_share_group_state,
    metadata_records,
    read_share_group_state,
    write_share_group_state,
)
from ottla.server.coordinator.result import Instant, Result
from ottla.server.coordinator.share_state.batches import StateBatch, check_batches, merge_batch, merged, prune
from ottla.server.coordinator.share_state.records import (
    SHARE_SNAPSHOT,
    SHARE_UPDATE,
    SharePartitionKey,
    ShareStateRecordCodec,
)
from ottla.server.coordinator.share_state.service import parse_key
from ottla.server.coordinator.share_state.shard import ShareStateSettings, ShareStateShard, durable_state
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage

TOPIC_ID = bytes(range(16))
OTHER_TOPIC_ID = bytes(range(16, 32))
KEY = SharePartitionKey("g", TOPIC_ID, 0)
INTERVAL_MS = 60_000


def image_of(*topics: bytes, partitions: int = 3) -> MetadataImage:
    delta = MetadataDelta(EMPTY_IMAGE)
    for number, topic_id in enumerate(topics):
        delta.replay(metadata_records.TopicRecord(name=f"t{number}", topic_id=topic_id))
        for partition in range(partitions):
            delta.replay(
                metadata_records.PartitionRecord(
                    partition_id=partition, topic_id=topic_id, replicas=[0], isr=[0], leader=0, leader_epoch=0
                )
            )
    return delta.apply(0, 0, 0)


class Driver:
    """A shard whose records go through their bytes; time stands in the test's hand."""

    def __init__(self, **values: int) -> None:
        self.settings = ShareStateSettings(**{"cold_snapshot_interval_ms": INTERVAL_MS, **values})
        self.image = image_of(TOPIC_ID, OTHER_TOPIC_ID)
        self.codec = ShareStateRecordCodec()
        self.log: list[tuple[bytes, bytes | None]] = []
        self.now_ms = 1_000
        self.shard = self.new_shard()

    def now(self) -> Instant:
        return Instant(self.now_ms, 1_700_000_000_000 + self.now_ms)

    def new_shard(self, start_offset: int = 0) -> ShareStateShard:
        shard = ShareStateShard(self.settings, self.image)
        for offset in range(start_offset, len(self.log)):
            record = self.codec.decode(*self.log[offset])
            assert record is not None
            shard.replay(record, offset, -1)
        shard.loaded(self.now())
        return shard

    def apply(self, result: Result[Any]) -> Any:
        for record in result.records or []:
            self.log.append(self.codec.encode(record))
            decoded = self.codec.decode(*self.log[-1])
            assert decoded is not None
            self.shard.replay(decoded, len(self.log) - 1, -1)
        self.shard.check_invariants()
        return result.response

    def key_types(self) -> list[int]:
        return [int.from_bytes(key[:2], "big") for key, _ in self.log]

    def initialize(self, key: SharePartitionKey = KEY, *, state_epoch: int = 1, start_offset: int = -1) -> None:
        data = initialize_share_group_state.PartitionData(
            partition=key.partition, state_epoch=state_epoch, start_offset=start_offset
        )
        self.apply(self.shard.initialize(key, data, self.now()))

    def write(
        self,
        *batches: tuple[int, int, int, int],
        key: SharePartitionKey = KEY,
        state_epoch: int = 1,
        leader_epoch: int = 0,
        start_offset: int = -1,
        delivery_complete_count: int = 0,
    ) -> None:
        data = write_share_group_state.PartitionData(
            partition=key.partition,
            state_epoch=state_epoch,
            leader_epoch=leader_epoch,
            start_offset=start_offset,
            delivery_complete_count=delivery_complete_count,
            state_batches=[
                write_share_group_state.StateBatch(
                    first_offset=first, last_offset=last, delivery_state=state, delivery_count=count
                )
                for first, last, state, count in batches
            ],
        )
        self.apply(self.shard.write(key, data, self.now()))

    def read(self, key: SharePartitionKey = KEY, *, leader_epoch: int = 0) -> read_share_group_state.PartitionResult:
        data = read_share_group_state.PartitionData(partition=key.partition, leader_epoch=leader_epoch)
        response: read_share_group_state.PartitionResult = self.apply(self.shard.read(key, data, self.now()))
        return response

    def advance(self, duration_ms: int) -> None:
        self.now_ms += duration_ms
        while (result := self.shard.take_due(self.now())) is not None:
            self.apply(result)

    def restart(self, start_offset: int = 0) -> None:
        before = durable_state(self.shard)
        self.shard = self.new_shard(start_offset)
        assert durable_state(self.shard) == before


def refused(code: ErrorCode) -> Any:
    return pytest.raises(ApiError, check=lambda error: error.code is code)


# -- batches

_OFFSETS = st.integers(0, 14)
_BATCHES = st.builds(
    lambda first, length, state, count: StateBatch(first, first + length, state, count),
    _OFFSETS,
    st.integers(0, 6),
    st.sampled_from([0, 2, 4]),
    st.integers(1, 3),
)


def offsets_of(batches: list[StateBatch]) -> dict[int, tuple[int, int]]:
    return {
        offset: (batch.delivery_count, batch.delivery_state)
        for batch in batches
        for offset in range(batch.first_offset, batch.last_offset + 1)
    }


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.lists(_BATCHES, max_size=8), st.integers(-1, 20))
def test_batches_say_of_every_offset_the_furthest_state(batches: list[StateBatch], start_offset: int) -> None:
    model: dict[int, tuple[int, int]] = {}
    for batch in batches:
        for offset in range(batch.first_offset, batch.last_offset + 1):
            model[offset] = max(model.get(offset, (0, 0)), (batch.delivery_count, batch.delivery_state))
    result = merged(batches, start_offset)
    check_batches(result)
    assert offsets_of(result) == {offset: state for offset, state in model.items() if offset >= start_offset}
    assert merged(reversed(batches), start_offset) == result


def test_touching_batches_of_equal_state_become_one() -> None:
    batches = [StateBatch(0, 4, 2, 1), StateBatch(10, 14, 2, 1)]
    merge_batch(batches, StateBatch(5, 9, 2, 1))
    assert batches == [StateBatch(0, 14, 2, 1)]


def test_a_batch_across_the_start_offset_is_cut() -> None:
    batches = [StateBatch(0, 4, 2, 1), StateBatch(5, 9, 0, 2), StateBatch(12, 13, 4, 2)]
    prune(batches, 7)
    assert batches == [StateBatch(7, 9, 0, 2), StateBatch(12, 13, 4, 2)]
    prune(batches, -1)
    assert len(batches) == 2


# -- commands


def test_a_share_partition_is_initialized_written_and_read() -> None:
    driver = Driver()
    driver.initialize(start_offset=5)
    driver.write((5, 9, 2, 1), (10, 12, 0, 1), delivery_complete_count=5)
    state = driver.read()
    assert (state.state_epoch, state.start_offset) == (1, 5)
    assert [(b.first_offset, b.last_offset, b.delivery_state, b.delivery_count) for b in state.state_batches] == [
        (5, 9, 2, 1),
        (10, 12, 0, 1),
    ]
    driver.write((10, 10, 2, 2), start_offset=10, delivery_complete_count=1)
    state = driver.read()
    assert state.start_offset == 10
    assert [(b.first_offset, b.last_offset) for b in state.state_batches] == [(10, 10), (11, 12)]
    summary = driver.apply(driver.shard.read_summary(KEY))
    assert (summary.start_offset, summary.delivery_complete_count, summary.state_epoch) == (10, 1, 1)
    driver.restart()


def test_what_was_not_initialized_is_refused() -> None:
    driver = Driver()
    with refused(ErrorCode.INVALID_REQUEST):
        driver.read()
    with refused(ErrorCode.INVALID_REQUEST):
        driver.write((0, 1, 2, 1))
    summary = driver.apply(driver.shard.read_summary(KEY))
    assert (summary.start_offset, summary.delivery_complete_count, summary.state_epoch) == (-1, -1, 0)
    driver.apply(driver.shard.delete(KEY))
    assert driver.log == []


def test_impossible_partitions_batches_and_topics_are_refused() -> None:
    driver = Driver()
    with refused(ErrorCode.INVALID_REQUEST):
        driver.initialize(KEY._replace(partition=-1))
    for key in (KEY._replace(partition=3), KEY._replace(topic_id=bytes(16))):
        with refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION):
            driver.initialize(key)
        with refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION):
            driver.shard.delete(key)
        with refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION):
            driver.shard.read_summary(key)
    driver.initialize()
    with refused(ErrorCode.INVALID_REQUEST):
        driver.write((5, 4, 2, 1))


def test_an_older_state_epoch_is_fenced() -> None:
    driver = Driver()
    driver.initialize(state_epoch=3)
    with refused(ErrorCode.FENCED_STATE_EPOCH):
        driver.initialize(state_epoch=2)
    with refused(ErrorCode.FENCED_STATE_EPOCH):
        driver.write((0, 1, 2, 1), state_epoch=2)
    driver.write((0, 1, 2, 1), state_epoch=-1)
    driver.initialize(state_epoch=4, start_offset=0)
    with refused(ErrorCode.FENCED_STATE_EPOCH):
        driver.write((0, 1, 2, 1), state_epoch=3)
    assert driver.read().state_batches == []


def test_a_late_initialization_takes_nothing_back() -> None:
    """From a group coordinator that stood still while another one did its work."""
    driver = Driver()
    driver.initialize(state_epoch=3)
    driver.write((0, 9, 2, 1), state_epoch=3, start_offset=10)
    driver.initialize(state_epoch=3)
    assert driver.read().start_offset == 10
    driver.initialize(state_epoch=3, start_offset=0)
    assert driver.read().start_offset == 0


def test_a_new_leaders_read_fences_the_one_before() -> None:
    driver = Driver()
    driver.initialize()
    driver.read(leader_epoch=7)
    with refused(ErrorCode.FENCED_LEADER_EPOCH):
        driver.write((0, 1, 2, 1), leader_epoch=6)
    with refused(ErrorCode.FENCED_LEADER_EPOCH):
        driver.read(leader_epoch=6)
    records = len(driver.log)
    driver.read(leader_epoch=7)
    driver.read(leader_epoch=-1)
    assert len(driver.log) == records
    driver.restart()
    with refused(ErrorCode.FENCED_LEADER_EPOCH):
        driver.write((0, 1, 2, 1), leader_epoch=6)
    driver.write((0, 1, 2, 1), leader_epoch=7)


def test_every_so_many_updates_there_is_a_snapshot() -> None:
    driver = Driver(updates_per_snapshot=2)
    driver.initialize(start_offset=0)
    for offset in range(5):
        driver.write((offset, offset, 2, 1), start_offset=offset)
    assert driver.key_types() == [
        SHARE_SNAPSHOT,
        SHARE_UPDATE,
        SHARE_UPDATE,
        SHARE_SNAPSHOT,
        SHARE_UPDATE,
        SHARE_UPDATE,
    ]
    assert driver.shard.needed_offset(len(driver.log)) == 3
    driver.restart(3)


def test_share_partitions_that_lie_still_are_written_again_while_others_move() -> None:
    driver = Driver(updates_per_snapshot=0)
    still, moving = KEY, KEY._replace(partition=1)
    driver.initialize(still, start_offset=0)
    driver.initialize(moving, start_offset=0)
    for offset in range(4):
        driver.now_ms += INTERVAL_MS // 4
        driver.write((offset, offset, 2, 1), key=moving)
    assert driver.shard.needed_offset(len(driver.log)) == 0
    driver.advance(1_000)
    assert driver.shard.needed_offset(len(driver.log)) > 0
    records = len(driver.log)
    driver.advance(INTERVAL_MS)
    driver.advance(INTERVAL_MS)
    settled = len(driver.log)
    assert settled > records
    driver.advance(INTERVAL_MS)
    driver.advance(INTERVAL_MS)
    assert len(driver.log) == settled, "when nothing moves nothing is written"
    driver.restart(driver.shard.needed_offset(len(driver.log)))


def test_deleting_leaves_nothing_that_is_needed() -> None:
    driver = Driver()
    driver.initialize()
    driver.apply(driver.shard.delete(KEY))
    assert durable_state(driver.shard) == {}
    assert driver.shard.needed_offset(len(driver.log)) == len(driver.log)
    driver.restart()


def test_the_state_of_deleted_topics_goes() -> None:
    driver = Driver()
    driver.initialize()
    driver.initialize(SharePartitionKey("g", OTHER_TOPIC_ID, 0))
    delta = MetadataDelta(driver.image)
    delta.replay(metadata_records.RemoveTopicRecord(topic_id=TOPIC_ID))
    driver.image = delta.apply(1, 0, 0)
    driver.apply(driver.shard.metadata_changed(delta, driver.image))
    assert list(driver.shard.states) == [SharePartitionKey("g", OTHER_TOPIC_ID, 0)]


def test_the_state_of_topics_that_went_while_nobody_looked_goes_in_time() -> None:
    driver = Driver()
    driver.initialize()
    driver.image = image_of(OTHER_TOPIC_ID)
    driver.restart()
    driver.advance(INTERVAL_MS)
    assert driver.shard.states == {}


@pytest.mark.parametrize("text", ["", "g", "g:0", ":AAECAwQFBgcICQoLDA0ODw:0", "g:x:0", "g:AAECAwQFBgcICQoLDA0ODw:x"])
def test_malformed_keys_are_refused(text: str) -> None:
    with refused(ErrorCode.INVALID_REQUEST):
        parse_key(text)


def test_a_groups_name_may_have_colons() -> None:
    key = parse_key("a:b:AAECAwQFBgcICQoLDA0ODw:2")
    assert key == SharePartitionKey("a:b", TOPIC_ID, 2)
    assert str(key) == "a:b:AAECAwQFBgcICQoLDA0ODw:2"


# -- at random

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["initialize", "write", "write", "write", "read", "delete", "time", "restart"]),
        st.integers(0, 1),
        st.integers(0, 30),
        st.integers(0, 5),
        st.sampled_from([0, 2, 4]),
        st.integers(1, 3),
    ),
    max_size=40,
)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(_STEPS)
def test_state_is_what_a_model_says_whatever_is_written_and_restarted(
    steps: list[tuple[str, int, int, int, int, int]],
) -> None:
    """Offsets one by one, with the start moving up; restarts from the first record and from the first needed one."""
    driver = Driver(updates_per_snapshot=3)
    model: dict[SharePartitionKey, tuple[int, dict[int, tuple[int, int]]]] = {}
    for action, partition, offset, length, state, count in steps:
        key = KEY._replace(partition=partition)
        if action == "initialize":
            driver.initialize(key, start_offset=offset)
            model[key] = (offset, {})
        elif action == "delete":
            driver.apply(driver.shard.delete(key))
            model.pop(key, None)
        elif action == "time":
            driver.advance(INTERVAL_MS)
        elif action == "restart":
            driver.restart()
        elif key in model and action == "write":
            start = max(model[key][0], offset - 8)
            driver.write((offset, offset + length, state, count), key=key, start_offset=start)
            states = model[key][1]
            for written in range(offset, offset + length + 1):
                states[written] = max(states.get(written, (0, 0)), (count, state))
            model[key] = (start, {at: value for at, value in states.items() if at >= start})
        elif key in model:
            found = driver.read(key)
            assert (found.start_offset, offsets_of(driver.shard.states[key].batches)) == model[key]
    driver.restart(driver.shard.needed_offset(len(driver.log)))
    assert set(driver.shard.states) == set(model)
