"""Fetching and the buffer together, against a model of brokers: nothing is skipped, nothing comes twice."""

from __future__ import annotations

from random import Random

import pytest

from ottla.client.consumer.buffer import FetchBuffer
from ottla.client.consumer.fetching import Attempt, Fetching, FetchLimits
from ottla.client.consumer.positions import PartitionState, Stage
from ottla.client.consumer.resets import EARLIEST, ResetStrategy
from ottla.client.consumer.subscription import Subscription
from ottla.client.errors import (
    AuthorizationError,
    CorruptRecordsError,
    KafkaError,
    OffsetOutOfRangeError,
    RecordDeserializationError,
)
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.fetch import FetchResponse
from ottla.records.columns import Columns
from tests.client.consumer.model_broker import Log, ModelCluster


class Scene:
    """A consumer's core before a model cluster."""

    def __init__(
        self,
        nodes: int = 1,
        partitions: int = 1,
        *,
        ids: bool = True,
        limits: FetchLimits | None = None,
        reset: ResetStrategy | None = EARLIEST,
        buffer_bytes: int = 1 << 20,
    ) -> None:
        self.cluster = ModelCluster(nodes, ids=ids)
        self.cluster.add_topic("t", partitions)
        self.limits = limits or FetchLimits(max_partition_bytes=1000)
        self.subscription = Subscription()
        self.buffer = FetchBuffer(buffer_bytes, self.limits.max_partition_bytes)
        self.fetching = Fetching(self.subscription, self.buffer, self.limits, reset)
        self.metadata = self.cluster.metadata()
        self.now_ms = 1000
        self.states = self.subscription.assign([TopicPartition("t", number) for number in range(partitions)])
        for state in self.states:
            self.buffer.jump(state, 0)

    @property
    def state(self) -> PartitionState:
        return self.states[0]

    @property
    def log(self) -> Log:
        return self.cluster.logs[self.state.tp]

    def plan(self) -> list[Attempt]:
        attempts = self.fetching.plan(self.metadata, self.now_ms)
        self.fetching.check_invariants()
        return attempts

    def answer(self, attempt: Attempt) -> FetchResponse:
        names_only = attempt.max_version is not None
        return self.cluster.fetch(attempt.node_id, attempt.request, names_only=names_only)

    def learn(self) -> None:
        self.metadata = self.cluster.metadata()
        self.fetching.metadata_changed(self.metadata)

    def fetch(self) -> list[Attempt]:
        """One round with every broker."""
        attempts = self.plan()
        for attempt in attempts:
            self.fetching.answered(attempt, self.answer(attempt), self.now_ms)
            self.fetching.check_invariants()
        return attempts

    def take(self, count: int = 1000) -> list[int]:
        output: list[object] = []
        self.buffer.take(count, None, None, output)
        return [record.offset for record in output]  # type: ignore[attr-defined]


def values(count: int) -> list[str]:
    return [f"value {number}" for number in range(count)]


def test_a_topic_that_is_made_anew_is_read_from_its_beginning() -> None:
    scene = Scene()
    scene.log.leader_epoch = 7
    scene.learn()
    scene.log.append(values(5))
    scene.fetch()
    assert scene.take() == [0, 1, 2, 3, 4]
    del scene.cluster.logs[scene.state.tp]
    scene.cluster.add_topic("t", 1)
    scene.cluster.topic_ids["t"] = b"another topic id"
    scene.log.append(values(9))
    assert scene.log.leader_epoch < 7
    scene.learn()
    assert (scene.state.stage, scene.state.reset) == (Stage.RESETTING, EARLIEST)
    scene.buffer.jump(scene.state, 0)  # what ListOffsets says
    scene.fetch()
    assert scene.take() == list(range(9))


def test_records_come_in_order_and_the_next_fetch_goes_on_behind_them() -> None:
    scene = Scene()
    scene.log.append(values(3))
    scene.log.append(values(2))
    scene.fetch()
    assert scene.take(2) == [0, 1]
    assert (scene.state.position, scene.state.fetch_offset) == (2, 5)
    scene.log.append(values(1))
    scene.fetch()
    assert scene.take() == [2, 3, 4, 5]
    assert scene.state.lag(read_committed=False) == 0


def test_one_fetch_at_a_time_goes_to_a_broker() -> None:
    scene = Scene(nodes=2, partitions=4)
    attempts = scene.plan()
    assert [attempt.node_id for attempt in attempts] == [1, 2]
    assert scene.plan() == []
    scene.fetching.failed(attempts[0], scene.now_ms)
    assert scene.plan() == []  # a back-off
    scene.now_ms += 1000
    assert [attempt.node_id for attempt in scene.plan()] == [1]


def test_a_partition_that_fills_its_share_of_the_buffer_does_not_hold_up_others() -> None:
    scene = Scene(partitions=2, buffer_bytes=2000)
    for number in range(40):
        scene.cluster.logs[scene.states[0].tp].append([f"{number} {'x' * 100}"])
    while scene.states[0].buffered_bytes < 1000:
        scene.fetch()
    quick = scene.plan()
    assert [tp.partition for tp in quick[0].entries] == [1]
    assert quick[0].request.max_wait_ms == 0  # room may come at any moment
    scene.fetching.answered(quick[0], scene.answer(quick[0]), scene.now_ms)
    assert scene.plan() == []
    assert scene.fetching.deadline_ms == scene.now_ms + 20
    rooms: list[int] = []
    scene.buffer.on_room = lambda: rooms.append(1)
    scene.cluster.logs[scene.states[1].tp].append(values(1))
    scene.take()
    assert rooms == [1]
    scene.now_ms += 20
    full = scene.plan()
    assert {tp.partition for tp in full[0].entries} == {0, 1}
    assert full[0].request.max_wait_ms == 500


def test_a_paused_partition_keeps_its_records_and_does_not_fill_the_buffer() -> None:
    scene = Scene(partitions=2, buffer_bytes=1500)
    for state in scene.states:
        for _ in range(30):
            scene.cluster.logs[state.tp].append(["x" * 100])
    scene.fetch()
    scene.buffer.pause(scene.states[0], True)
    assert scene.buffer.size_bytes == scene.states[1].buffered_bytes
    taken = scene.take()
    assert scene.states[0].position == 0
    assert taken == list(range(len(taken)))
    for _ in range(10):
        scene.fetch()
        scene.take()
    assert scene.states[1].position == 30
    scene.buffer.pause(scene.states[0], False)
    assert scene.take()[0] == 0


def test_a_seek_makes_what_is_buffered_and_under_way_void() -> None:
    scene = Scene()
    scene.log.append(values(10))
    scene.fetch()
    scene.log.append(values(10))
    (attempt,) = scene.plan()
    scene.buffer.jump(scene.state, 3)
    scene.fetching.answered(attempt, scene.answer(attempt), scene.now_ms)
    assert scene.take() == []
    scene.fetch()
    assert scene.take() == list(range(3, 20))


def test_an_out_of_range_offset_is_reset_once_the_user_has_all_before_it() -> None:
    scene = Scene()
    scene.log.append(values(3))
    scene.fetch()
    scene.log.start = scene.log.end = 100
    scene.fetch()
    assert scene.state.stage is Stage.FETCHING
    assert scene.take() == [0, 1, 2]
    scene.now_ms += 1000
    scene.fetch()
    assert scene.state.stage is Stage.RESETTING
    assert scene.state.reset is EARLIEST


def test_an_out_of_range_offset_is_an_error_without_a_reset() -> None:
    scene = Scene(reset=None)
    scene.log.start = scene.log.end = 100
    scene.fetch()
    with pytest.raises(OffsetOutOfRangeError, match="offset 0 of t-0"):
        scene.take()
    assert scene.take() == []
    scene.now_ms += 1000
    scene.fetch()
    with pytest.raises(OffsetOutOfRangeError):
        scene.take()


def test_what_nobody_but_the_user_can_solve_is_raised_behind_the_records_before_it() -> None:
    scene = Scene()
    scene.log.append(values(2))
    scene.fetch()
    scene.cluster.errors[scene.state.tp] = ErrorCode.TOPIC_AUTHORIZATION_FAILED
    scene.fetch()
    assert scene.plan() == []
    assert scene.take() == [0, 1]
    with pytest.raises(AuthorizationError, match="t-0"):
        scene.take()
    scene.log.append(values(1))
    scene.now_ms += 1000
    scene.fetch()
    assert scene.take() == [2]


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_SERVER_ERROR,
    ],
)
def test_transient_errors_leave_the_partition_alone_for_a_while(code: ErrorCode) -> None:
    scene = Scene()
    scene.log.append(values(2))
    scene.cluster.errors[scene.state.tp] = code
    (attempt,) = scene.plan()
    outcome = scene.fetching.answered(attempt, scene.answer(attempt), scene.now_ms)
    asks = code not in (ErrorCode.UNKNOWN_SERVER_ERROR, ErrorCode.UNKNOWN_LEADER_EPOCH)
    assert outcome.metadata_update is asks
    assert scene.plan() == []
    assert scene.fetching.deadline_ms == scene.now_ms + 100
    scene.now_ms += 100
    scene.fetch()
    assert scene.take() == [0, 1]


@pytest.mark.parametrize("code", [ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, ErrorCode.CORRUPT_MESSAGE, 9999])
def test_other_errors_are_raised(code: int) -> None:
    scene = Scene()
    scene.cluster.errors[scene.state.tp] = code
    scene.fetch()
    with pytest.raises(KafkaError, match="t-0 could not be fetched at offset 0"):
        scene.take()


def test_the_hint_who_leads_now_is_taken() -> None:
    scene = Scene(nodes=2)
    scene.log.append(values(2))
    scene.cluster.move_leader(scene.state.tp, 2)
    (attempt,) = scene.plan()
    outcome = scene.fetching.answered(attempt, scene.answer(attempt), scene.now_ms)
    assert outcome.leaders == [(scene.state.tp, 2, 1)]
    assert {node.id for node in outcome.nodes} == {1, 2}
    assert not outcome.metadata_update
    scene.learn()
    assert [attempt.node_id for attempt in scene.fetch()] == [2]  # at once
    assert scene.take() == [0, 1]


def test_a_leader_of_a_later_epoch_is_asked_first_whether_it_has_our_offset() -> None:
    scene = Scene(nodes=2)
    scene.log.append(values(2))
    scene.fetch()
    scene.cluster.move_leader(scene.state.tp, 2)
    scene.learn()
    assert scene.plan() == []
    assert scene.state.stage is Stage.VALIDATING
    assert scene.take() == [0, 1]  # what was fetched before was there
    scene.state.validated()
    assert [attempt.node_id for attempt in scene.fetch()] == [2]


def test_the_preferred_replica_is_fetched_from_until_it_fails_or_the_choice_expires() -> None:
    scene = Scene(nodes=2, limits=FetchLimits(rack="near", preferred_replica_ms=5000))
    scene.log.append(values(2))
    scene.log.followers.add(2)

    def prefer(node: int) -> None:
        (attempt,) = scene.plan()
        assert attempt.node_id == 1
        assert attempt.request.rack_id == "near"
        response = scene.answer(attempt)
        data = response.responses[0].partitions[0]
        data.preferred_read_replica, data.records = node, b""
        scene.fetching.answered(attempt, response, scene.now_ms)

    prefer(2)
    assert [attempt.node_id for attempt in scene.fetch()] == [2]
    assert scene.take() == [0, 1]
    scene.now_ms += 5000
    scene.log.append(values(1))
    prefer(2)
    scene.cluster.errors[scene.state.tp] = ErrorCode.OFFSET_OUT_OF_RANGE  # the follower lags behind
    assert [attempt.node_id for attempt in scene.fetch()] == [2]
    assert scene.state.stage is Stage.FETCHING
    assert [attempt.node_id for attempt in scene.plan()] == [1]
    prefer_again = Scene(nodes=2)
    prefer_again.fetch()
    prefer_again.state.preferred_replica, prefer_again.state.preferred_until_ms = 2, 10**9
    (attempt,) = prefer_again.plan()
    prefer_again.fetching.failed(attempt, prefer_again.now_ms)
    assert [attempt.node_id for attempt in prefer_again.plan()] == [1]


def test_old_brokers_get_topics_by_name() -> None:
    scene = Scene(ids=False)
    scene.log.append(values(2))
    (attempt,) = scene.fetch()
    assert attempt.max_version == 12
    assert scene.take() == [0, 1]


def test_a_damaged_batch_is_raised_when_it_is_the_next() -> None:
    scene = Scene()
    scene.log.append(values(2))
    scene.log.append(values(2))
    base, end, batch = scene.log.batches[1]
    scene.log.batches[1] = (base, end, batch[:-2] + bytes([batch[-2] ^ 1, batch[-1]]))  # in the last value
    scene.fetch()
    assert scene.take() == [0, 1]
    for _ in range(2):
        with pytest.raises(CorruptRecordsError, match="offset 2"):
            scene.take()
    scene.buffer.jump(scene.state, 4)
    scene.log.append(values(1))
    scene.fetch()
    assert scene.take() == [4]
    unchecked = Scene(limits=FetchLimits(check_crcs=False))
    unchecked.cluster = scene.cluster
    unchecked.fetch()
    assert unchecked.take() == [0, 1, 2, 3, 4]


class Picky:
    """Fails at one value, until told otherwise."""

    def __init__(self, bad: bytes) -> None:
        self.bad = bad

    def deserialize(self, topic: str, data: bytes | None, headers: object) -> str:
        if data == self.bad:
            raise ValueError("bad value")
        return (data or b"").decode()


def test_a_record_that_can_not_be_deserialized_stays_the_next_one() -> None:
    scene = Scene()
    scene.log.append(values(4))
    scene.fetch()
    picky = Picky(b"value 2")
    output: list[object] = []
    scene.buffer.take(100, None, picky, output)
    assert len(output) == 2
    assert scene.state.position == 2
    for _ in range(2):
        with pytest.raises(RecordDeserializationError, match=r"offset 2 of t-0.*bad value") as raised:
            scene.buffer.take(100, None, picky, [])
        assert (raised.value.offset, raised.value.origin, raised.value.raw_value) == (2, "value", b"value 2")
    assert scene.state.position == 2
    picky.bad = b""
    scene.buffer.take(100, None, picky, output)
    assert len(output) == 4


def test_what_is_given_back_comes_again() -> None:
    scene = Scene()
    scene.log.append(values(6))
    scene.fetch()
    assert scene.take(4) == [0, 1, 2, 3]
    scene.buffer.give_back({scene.state.tp: 2})
    assert scene.state.position == 2
    scene.fetch()
    assert scene.take() == [2, 3, 4, 5]


def test_positions_to_commit_are_those_before_what_the_user_works_on() -> None:
    scene = Scene()
    scene.log.append(values(6))
    scene.fetch()
    tp = scene.state.tp
    scene.take(2)
    assert scene.buffer.positions(scene.states, processed=True)[tp][0] == 0
    assert scene.buffer.positions(scene.states, processed=False)[tp][0] == 2
    scene.buffer.returned()
    scene.take(2)
    assert scene.buffer.positions(scene.states, processed=True)[tp] == (2, 0)
    assert scene.buffer.suspend(scene.states, True)
    assert scene.take() == []
    scene.buffer.returned()
    assert not scene.buffer.suspend(scene.states, True)
    assert scene.buffer.positions(scene.states, processed=True)[tp] == (4, 0)


def test_columns_come_from_the_same_buffer() -> None:
    scene = Scene()
    scene.log.append(values(6))
    scene.fetch()
    columns = Columns()
    scene.buffer.take_columns(4, columns)
    assert list(columns.offset) == [0, 1, 2, 3]
    assert scene.take() == [4, 5]


def test_sessions_are_ended_where_no_fetch_is_under_way() -> None:
    scene = Scene(nodes=2, partitions=2)
    scene.fetch()
    scene.log.append(values(1))
    attempts = scene.plan()
    scene.fetching.answered(attempts[1], scene.answer(attempts[1]), scene.now_ms)
    assert [node_id for node_id, _ in scene.fetching.closing_requests()] == [2]


# --- everything at random


class World:
    """Random users, brokers and networks; each partition's records have to come one after the other."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        nodes = self.random.randint(1, 3)
        limits = FetchLimits(
            max_partition_bytes=self.random.choice([150, 400, 2000]), max_bytes=self.random.choice([300, 5000])
        )
        buffer_bytes = self.random.choice([200, 1000, 100_000])
        ids = self.random.random() < 0.7
        self.scene = Scene(nodes, self.random.randint(1, 5), limits=limits, buffer_bytes=buffer_bytes, ids=ids)
        self.expected = {state.tp: 0 for state in self.scene.states}
        self.under_way: list[tuple[Attempt, FetchResponse | None]] = []

    def step(self, *, calm: bool = False) -> None:
        scene, random = self.scene, self.random
        scene.now_ms += random.choice([0, 1, 20, 200])
        actions = [self.send, self.send, self.deliver, self.deliver, self.take, self.take]
        faults = [
            self.produce,
            self.produce,
            self.move,
            self.lose,
            self.evict,
            self.seek,
            self.pause,
            self.learn,
            self.validate,
            self.refuse,
        ]
        random.choice(actions if calm else actions + faults)()
        if random.random() < 0.3 or calm:
            self.learn()
            self.validate()
        scene.fetching.check_invariants()

    def produce(self) -> None:
        tp = self.random.choice(list(self.expected))
        self.scene.cluster.logs[tp].append(values(self.random.randint(1, 5)))

    def send(self) -> None:
        for attempt in self.scene.plan():
            response = None if self.random.random() < 0.05 else self.scene.answer(attempt)
            self.under_way.append((attempt, response))

    def deliver(self) -> None:
        if self.under_way:
            attempt, response = self.under_way.pop(self.random.randrange(len(self.under_way)))
            if response is None:
                self.scene.fetching.failed(attempt, self.scene.now_ms)
            else:
                self.scene.fetching.answered(attempt, response, self.scene.now_ms)

    def take(self) -> None:
        self.scene.buffer.returned()
        output: list[object] = []
        self.scene.buffer.take(self.random.choice([1, 3, 100]), None, None, output)
        for record in output:
            tp = TopicPartition(record.topic, record.partition)  # type: ignore[attr-defined]
            assert record.offset == self.expected[tp]  # type: ignore[attr-defined]
            assert not self.scene.subscription.state(tp).paused
            self.expected[tp] += 1
        for state in self.scene.states:
            if state.has_position:
                assert state.position == self.expected[state.tp]

    def move(self) -> None:
        tp = self.random.choice(list(self.expected))
        self.scene.cluster.move_leader(tp, self.random.choice(list(self.scene.cluster.nodes)))

    def lose(self) -> None:
        if self.under_way:
            attempt, _ = self.under_way.pop()
            self.scene.fetching.failed(attempt, self.scene.now_ms)

    def evict(self) -> None:
        self.scene.cluster.lose_sessions(self.random.choice(list(self.scene.cluster.nodes)))

    def refuse(self) -> None:
        code = self.random.choice([ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.UNKNOWN_TOPIC_ID])
        self.scene.cluster.errors[self.random.choice(list(self.expected))] = code

    def seek(self) -> None:
        state = self.random.choice(self.scene.states)
        offset = self.random.randint(0, self.scene.cluster.logs[state.tp].end)
        self.scene.buffer.jump(state, offset)
        self.expected[state.tp] = offset

    def pause(self) -> None:
        self.scene.buffer.pause(self.random.choice(self.scene.states), self.random.random() < 0.5)

    def learn(self) -> None:
        self.scene.learn()

    def validate(self) -> None:
        for state in self.scene.states:
            state.validated()

    def finish(self) -> None:
        for state in self.scene.states:
            self.scene.buffer.pause(state, False)
        for _ in range(3000):
            self.step(calm=True)
            ends = {tp: log.end for tp, log in self.scene.cluster.logs.items()}
            if ends == self.expected:
                return
        raise AssertionError(f"{self.expected} and not {ends}")


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_skipped_and_nothing_comes_twice(seed: int) -> None:
    world = World(seed)
    for _ in range(300):
        world.step()
    world.finish()
