"""The accumulator against a simple model: nothing is lost, order holds, memory comes back."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from threading import Lock
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.client.errors import ClientClosedError, RecordTooLargeError, SerializationError, UnknownTopicError
from ottla.core.ids import TopicPartition
from ottla.records.record import read_records
from ottla.records.writer import split_batch

BATCH = 1000


class Stage:
    """An accumulator, its clock, and who leads what."""

    def __init__(self, hot: ModuleType, *, partitions: int = 3, seed: int = 0, **more: Any) -> None:
        self.now_ms = 0
        self.wakes = 0
        self.leaders = {TopicPartition("t", number): (number % 2, 0) for number in range(partitions)}
        self.room = {0: 5, 1: 5}
        arguments = {
            "lock": Lock(),
            "now_ms": lambda: self.now_ms,
            "time": lambda: 1234.5,
            "random": Random(seed).random,
            "wake": self._wake,
            "waiting": None,
            "batch_bytes": BATCH,
            "growth_bytes": 4 * BATCH,
            "buffer_bytes": 1 << 20,
            "max_request_bytes": 1 << 16,
            "linger_ms": 5,
        }
        self.accumulator = hot.Accumulator(**(arguments | more))
        self.accumulator.learn_topic("t", partitions, tuple(range(partitions)))

    def _wake(self) -> None:
        self.wakes += 1

    def send(self, value: Any, key: Any = None, partition: int | None = None, **more: Any) -> Any:
        return self.accumulator.try_send("t", value, key, partition, more.get("timestamp_ms"), more.get("headers"))

    def drain(self) -> list[list[Any]]:
        drained = self.accumulator.drain(self.now_ms, self.leaders.get, self.room.__getitem__)
        for _, batches in drained.requests:
            for batch in batches:
                if batch.data is None:
                    self.accumulator.closed_batch(batch, batch.writer.close())
        self.accumulator.check_invariants()
        self.last = drained
        return [batches for _, batches in drained.requests]

    def complete(self, batch: Any, base_offset: int = 0) -> None:
        self.accumulator.returned(batch)
        self.accumulator.complete(batch, base_offset, -1)


def test_a_batch_leaves_when_it_has_lingered(hot: ModuleType) -> None:
    stage = Stage(hot)
    stage.send(b"a", partition=0)
    assert stage.wakes == 1
    assert stage.drain() == []
    assert stage.last.look_again_ms == 5
    stage.now_ms = 5
    [[batch]] = stage.drain()
    assert [record.value for record in read_records(batch.data)] == [b"a"]
    assert stage.accumulator.used_bytes == len(batch.data)
    stage.complete(batch)
    assert stage.accumulator.used_bytes == 0


def test_a_ripe_batch_leaves_at_once_and_takes_the_others_of_its_node_along(hot: ModuleType) -> None:
    stage = Stage(hot)
    stage.send(b"other node", partition=1)
    stage.send(b"same node", partition=2)
    for _ in range(10):
        stage.send(bytes(100), partition=0)
    [batches] = stage.drain()
    assert {batch.tp.partition for batch in batches} == {0, 2}


def test_ripe_batches_grow_while_the_node_is_busy(hot: ModuleType) -> None:
    stage = Stage(hot)
    stage.room[0] = 0
    for _ in range(100):
        stage.send(bytes(100), partition=0)
    assert stage.drain() == []
    assert stage.last.waiting_nodes == {0}
    stage.room[0] = 5
    sizes = [len(batch.data) for batches in stage.drain() for batch in batches]
    assert max(sizes) > 3 * BATCH
    assert max(sizes) <= 4 * BATCH


def test_requests_stay_below_their_largest_size(hot: ModuleType) -> None:
    stage = Stage(hot, max_request_bytes=3000, partitions=8)
    for number in range(8):
        for _ in range(9):
            stage.send(bytes(100), partition=number)
    requests = stage.drain()
    assert len(requests) > 2
    assert all(sum(batch.raw_bytes for batch in batches) <= 3000 for batches in requests)
    assert sum(len(batches) for batches in requests) == 8


def test_the_sender_is_not_called_more_often_than_needed(hot: ModuleType) -> None:
    stage = Stage(hot)
    stage.send(b"a", partition=0)
    assert stage.wakes == 1
    stage.drain()
    stage.accumulator.rest(stage.last.look_again_ms, True)
    stage.send(b"b", partition=1)
    assert stage.wakes == 1, "it will look in time"
    for _ in range(30):
        stage.send(bytes(100), partition=0)
    assert stage.wakes == 2
    stage.drain()
    stage.send(b"c", partition=2)
    assert stage.wakes == 2, "it is looking"
    stage.accumulator.rest(1 << 62, True)
    assert stage.wakes == 3, "and has missed something"


def test_a_batch_that_comes_back_goes_first_and_alone(hot: ModuleType) -> None:
    stage = Stage(hot, linger_ms=0)
    batches = []
    for number in range(3):
        stage.send(b"%d" % number, partition=0)
        batches += stage.drain()[0]
    stage.send(b"3", partition=0)
    for batch in (batches[1], batches[0]):
        stage.accumulator.returned(batch)
        batch.attempts += 1
        batch.retry_at_ms = 100
        stage.accumulator.requeue(batch)
    assert stage.drain() == []
    assert stage.last.look_again_ms == 100
    stage.now_ms = 100
    assert stage.drain() == [[batches[0]]]
    assert stage.drain() == [], "the next waits for the first"
    stage.complete(batches[0])
    assert stage.drain() == [[batches[1]]]


def test_one_in_flight_keeps_the_order_when_the_leader_moves(hot: ModuleType) -> None:
    stage = Stage(hot, linger_ms=0)
    stage.accumulator.one_by_one = True
    stage.room = {0: 1, 1: 1}
    stage.send(b"0", partition=0)
    [[first]] = stage.drain()
    stage.leaders[TopicPartition("t", 0)] = (1, 1)
    stage.send(b"1", partition=0)
    assert stage.drain() == [], "the old leader may refuse the first yet"
    stage.accumulator.returned(first)
    stage.accumulator.requeue(first)
    assert stage.drain() == [[first]]


def test_another_leader_ends_the_pause(hot: ModuleType) -> None:
    stage = Stage(hot, linger_ms=0)
    stage.send(b"a", partition=0)
    [[batch]] = stage.drain()
    stage.accumulator.returned(batch)
    batch.attempts, batch.retry_at_ms = 1, 1000
    stage.accumulator.requeue(batch)
    assert stage.drain() == []
    stage.leaders[batch.tp] = (1, 1)
    assert stage.drain() == [[batch]]


def test_a_partition_without_leader_waits(hot: ModuleType) -> None:
    stage = Stage(hot, linger_ms=0)
    del stage.leaders[TopicPartition("t", 0)]
    stage.send(b"a", partition=0)
    assert stage.drain() == []
    assert stage.last.unknown_topics == {"t"}


def test_room_is_given_in_the_order_of_asking(hot: ModuleType) -> None:
    stage = Stage(hot, buffer_bytes=2000, linger_ms=0)
    granted: list[int] = []
    assert stage.send(bytes(900), partition=0) is not None
    assert stage.send(bytes(600), partition=0) is not None
    held = stage.send(bytes(700), partition=0)
    assert type(held).__name__ == "HeldRecord"
    first = stage.accumulator.reserve(900, lambda: granted.append(1))
    second = stage.accumulator.reserve(100, lambda: granted.append(2))
    assert type(stage.send(b"", partition=0)).__name__ == "HeldRecord", "nobody jumps the queue"
    assert not granted
    [[batch]] = stage.drain()
    stage.complete(batch)
    assert granted == [1, 2]
    stage.accumulator.append_held(held, first)
    stage.accumulator.give_back(second)
    [[batch]] = stage.drain()
    stage.complete(batch)
    assert stage.accumulator.used_bytes == 0


def test_parts_stand_where_the_whole_stood(hot: ModuleType) -> None:
    stage = Stage(hot, linger_ms=0)
    deliveries = [stage.send(b"%d" % number, partition=0) for number in range(10)]
    [[batch]] = stage.drain()
    later = stage.send(b"later", partition=0)
    seen: list[int] = []
    for number, delivery in enumerate(deliveries):
        delivery.add_done_callback(lambda _, number=number: seen.append(number))
    stage.accumulator.returned(batch)
    datas = [(data, len(list(read_records(data)))) for data in split_batch(batch.data, 75)]
    assert len(datas) > 2
    parts = stage.accumulator.split(batch, datas, 75)
    offset = 0
    while not later.done():
        for batches in stage.drain():
            for sent in batches:
                stage.complete(sent, offset)
                offset += sent.records_count
    assert len(parts) == len(datas)
    assert [delivery.result().offset for delivery in deliveries] == list(range(10))
    assert later.result().offset == 10
    assert seen == list(range(10))
    stage.accumulator.check_invariants()
    assert stage.accumulator.used_bytes == 0


def test_what_cannot_be_sent_is_refused(hot: ModuleType) -> None:
    stage = Stage(hot, buffer_bytes=5000)
    assert stage.accumulator.try_send("unknown", b"", None, None, None, None) is None
    assert stage.send(b"", partition=3) is None
    for error, arguments in (
        (UnknownTopicError, {"partition": -1}),
        (SerializationError, {"timestamp_ms": -1}),
        (SerializationError, {"timestamp_ms": "now"}),
        (SerializationError, {"headers": [(1, b"")]}),
        (SerializationError, {"headers": 7}),
    ):
        with pytest.raises(error):
            stage.send(b"", **arguments)
    with pytest.raises(SerializationError, match="value_serializer"):
        stage.send(7)
    with pytest.raises(RecordTooLargeError, match=r"buffer\.memory"):
        stage.send(bytes(5000))
    with pytest.raises(RecordTooLargeError, match=r"max\.request\.size"):
        stage.send(bytes(1 << 16))
    stage.accumulator.gate = ClientClosedError("closed")
    with pytest.raises(ClientClosedError):
        stage.send(b"")
    assert stage.accumulator.used_bytes == 0


def test_the_sticky_partition_changes_with_every_batch(hot: ModuleType) -> None:
    stage = Stage(hot, partitions=8)
    seen = [stage.send(bytes(100)).metadata().partition for _ in range(900)]
    changes = sum(before != after for before, after in pairwise(seen))
    assert set(seen) == set(range(8))
    assert 50 <= changes <= 100


def test_partitions_with_little_to_do_are_preferred(hot: ModuleType) -> None:
    assert hot.load_table([0, 3, 1], [5, 6, 7], 3) == ([4, 5, 8], [5, 6, 7])
    assert hot.load_table([2, 2], [0, 1], 2) is None
    assert hot.load_table([2, 2], [0, 1], 3) == ([1, 2], [0, 1])
    assert hot.load_table([], [], 3) is None
    stage = Stage(hot, partitions=4, availability_timeout_ms=50)
    stage.room[1] = 0
    for number in (1, 3):
        stage.send(bytes(3000), partition=number)
    stage.drain()
    stage.now_ms = 100
    stage.send(b"", partition=0)
    stage.drain()
    topic = stage.accumulator.topics["t"]
    assert topic.load_table[1] == [0, 2], "the node of 1 and 3 has taken nothing for too long"
    assert {topic.switch(stage.accumulator.random).tp.partition for _ in range(50)} == {0, 2}


actions = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3), st.integers(0, 700)),
        st.tuples(st.just("drain"), st.integers(0, 2), st.integers(0, 2)),
        st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from(["ok", "again", "fail", "split"])),
        st.tuples(st.just("wait"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("expire"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(actions=actions)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_nothing_is_lost_and_order_holds(hot: ModuleType, actions: list[tuple[str, int, Any]]) -> None:
    stage = Stage(hot, partitions=3, buffer_bytes=1 << 14)
    accumulator = stage.accumulator
    sent: list[Any] = []
    written: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    flying: list[Any] = []

    def answer(batch: Any, what: str) -> None:
        flying.remove(batch)
        if batch.is_done:  # it had expired
            accumulator.returned(batch)
        elif what == "ok":
            log = written[batch.tp.partition]
            base = len(log)
            log += [record.value for record in read_records(batch.data)]
            stage.complete(batch, base)
        elif what == "fail":
            accumulator.returned(batch)
            assert accumulator.fail(batch, ClientClosedError("refused"))
        elif what == "split" and batch.records_count > 1:
            accumulator.returned(batch)
            limit = accumulator.split_limit(batch)
            datas = [(data, len(list(read_records(data)))) for data in split_batch(batch.data, limit)]
            accumulator.split(batch, datas, limit)
        else:
            accumulator.returned(batch)
            batch.attempts += 1
            batch.retry_at_ms = stage.now_ms + 3
            accumulator.requeue(batch)

    for action, number, more in actions:
        if action == "send":
            outcome = stage.send(b"%06d" % len(sent) + bytes(more), partition=None if number == 3 else number)
            if type(outcome).__name__ == "Delivery":
                sent.append(outcome)
        elif action == "drain":
            stage.room = {0: number, 1: more}
            for batches in stage.drain():
                flying += batches
        elif action == "answer" and flying:
            # In the order of sending within a partition, as one connection answers.
            chosen = flying[number % len(flying)]
            first = next(batch for batch in flying if batch.tp == chosen.tp)
            answer(first, more)
        elif action == "wait":
            stage.now_ms += number
        elif action == "expire":
            for batch in accumulator.expired(stage.now_ms - 40)[0]:
                accumulator.fail(batch, ClientClosedError("expired"))
        accumulator.check_invariants()

    stage.room = {0: 1, 1: 1}
    while accumulator.incomplete or flying:
        stage.now_ms += 10
        for batches in stage.drain():
            flying += batches
        for batch in list(flying):
            answer(batch, "ok")
    accumulator.check_invariants()
    assert accumulator.used_bytes == 0
    assert all(delivery.done() for delivery in sent)
    for number, delivery in enumerate(sent):
        if delivery.exception() is None:
            metadata = delivery.result()
            assert written[metadata.partition][metadata.offset][:6] == b"%06d" % number
    assert sum(map(len, written.values())) == sum(delivery.exception() is None for delivery in sent)
