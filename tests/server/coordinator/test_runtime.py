"""The shell: append, replay, commit, load, timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.group_records import OffsetCommitKey, OffsetCommitValue
from ottla.records.batch import batches
from ottla.records.compression import Codec
from ottla.records.control import end_transaction_marker
from ottla.records.record import Record, build_batch
from ottla.server.coordinator.group_records import GroupRecordCodec
from ottla.server.coordinator.partitions import CoordinatorRuntime
from ottla.server.coordinator.result import NOTHING, Completions, CoordinatorRecord, Instant, Pending, Result
from ottla.server.coordinator.runtime import (
    CoordinatorPartition,
    PartitionState,
    RuntimeSettings,
    TransactionalWrite,
)
from ottla.server.coordinator.timers import Timers
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.coordinator.fake_log import FakeLog


class Counter:
    """The smallest shard: remembers what was replayed."""

    def __init__(self) -> None:
        self.completions: Completions = []
        self.values: list[tuple[int, int, int]] = []
        self.markers: list[tuple[int, bool]] = []
        self.loaded_at: Instant | None = None
        self.deadlines: list[int] = []
        self.ran_at: list[int] = []
        self.unloaded: ErrorCode | None = None

    def replay(self, record: CoordinatorRecord, record_offset: int, producer_id: int) -> None:
        self.values.append((record_offset, record.value.offset, producer_id))

    def replay_end_of_transaction(self, producer_id: int, *, committed: bool) -> None:
        self.markers.append((producer_id, committed))

    def loaded(self, now: Instant) -> None:
        self.loaded_at = now

    def next_deadline_ms(self) -> int | None:
        return min(self.deadlines, default=None)

    def take_due(self, now: Instant) -> Result[None] | None:
        for deadline in sorted(self.deadlines):
            if deadline <= now.monotonic_ms:
                self.deadlines.remove(deadline)
                self.ran_at.append(now.monotonic_ms)
                return Result(None)
        return None

    def unload(self, code: ErrorCode) -> None:
        self.unloaded = code


def put(*offsets: int, response: str = "stored", **options: Any) -> Result[str]:
    records = [
        CoordinatorRecord(1, OffsetCommitKey(group="g", topic="t", partition=0), OffsetCommitValue(offset=offset), 4)
        for offset in offsets
    ]
    return Result(response, records, **options)


def refusal(code: ErrorCode) -> str:
    return code.name


def partition_of(env: SimulatedEnv, log: FakeLog, **settings: Any) -> CoordinatorPartition[Counter]:
    return CoordinatorPartition(3, 0, log, Counter(), GroupRecordCodec(), RuntimeSettings(**settings), env.clock.now_ms)


def simulated(main: Callable[[SimulatedEnv], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run the test in virtual time."""

    def run() -> None:
        simulate(main, seed=1)

    run.__name__ = main.__name__
    return run


@simulated
async def test_a_committed_command_answers_at_once(env: SimulatedEnv) -> None:
    log = FakeLog()
    partition = partition_of(env, log)
    partition.start()
    assert partition.state is PartitionState.ACTIVE
    assert partition.complete(put(1, 2), refusal) == "stored"
    assert partition.shard.values == [(0, 1, -1), (1, 2, -1)]
    assert log.appends == 1
    assert len(log.records()) == 2
    assert log.records()[0].timestamp_ms == env.clock.now_ms()
    assert partition.complete(Result("nothing to store"), refusal) == "nothing to store"
    assert log.appends == 1


@simulated
async def test_a_response_waits_for_the_commit_of_everything_before(env: SimulatedEnv) -> None:
    log = FakeLog()
    log.commits = False
    partition = partition_of(env, log)
    partition.start()
    parked: Pending[str] = Pending(refusal)
    partition.shard.completions.append((parked, "woken"))
    first = partition.complete(put(1), refusal)
    second = partition.complete(put(2, response="second"), refusal)
    read = partition.complete(Result("read"), refusal)
    assert isinstance(first, Pending)
    assert isinstance(second, Pending)
    assert isinstance(read, Pending)
    heard: list[str] = []
    read.listener = heard.append
    assert partition.shard.values == [(0, 1, -1), (1, 2, -1)], "replayed at once, answered later"
    log.commit(1)
    await asyncio.sleep(0.001)
    assert (parked.response, first.response, second.response, read.response) == ("woken", "stored", None, None)
    log.commit()
    await asyncio.sleep(0.001)
    assert (second.response, heard) == ("second", ["read"])
    assert log.listener is None


@simulated
async def test_records_of_a_transaction_carry_its_producer(env: SimulatedEnv) -> None:
    log = FakeLog()
    partition = partition_of(env, log)
    partition.start()
    assert partition.complete(put(1, 2), refusal, TransactionalWrite(9, 3, None)) == "stored"
    assert partition.shard.values == [(0, 1, 9), (1, 2, 9)]
    [(_, header)] = batches(log.data)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 3, -1)
    assert header.is_transactional


@simulated
async def test_a_marker_is_appended_replayed_and_awaited(env: SimulatedEnv) -> None:
    log = FakeLog()
    partition = partition_of(env, log)
    partition.start()

    def end(commit: bool) -> ErrorCode | Pending[ErrorCode]:
        marker = end_transaction_marker(
            is_commit=commit, producer_id=9, producer_epoch=3, coordinator_epoch=0, timestamp_ms=1
        )
        return partition.end_transaction(marker, 9, committed=commit, transaction_version=2)

    assert end(True) is ErrorCode.NONE
    log.commits = False
    pending = end(False)
    assert partition.shard.markers == [(9, True), (9, False)]
    assert isinstance(pending, Pending)
    assert pending.response is None
    log.commit()
    await asyncio.sleep(0.001)
    assert pending.response is ErrorCode.NONE
    log.refusal = ErrorCode.INVALID_PRODUCER_EPOCH
    assert end(True) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert len(partition.shard.markers) == 2


@simulated
async def test_what_waits_for_a_commit_is_done_once_it_is_there_however_late(env: SimulatedEnv) -> None:
    log = FakeLog()
    partition = partition_of(env, log, commit_timeout_ms=10)
    partition.start()
    done: list[int] = []
    partition.when_committed(lambda: done.append(0))
    assert done == [], "in a later turn"
    await asyncio.sleep(0)
    assert done == [0]
    log.commits = False
    for number in (1, 2):
        partition.complete(put(number), refusal)
        partition.when_committed(lambda number=number: done.append(number))  # type: ignore[misc]
    await asyncio.sleep(1)
    assert done == [0]
    log.commit(1)
    await asyncio.sleep(0.001)
    assert done == [0, 1]
    log.commit()
    await asyncio.sleep(0.001)
    assert done == [0, 1, 2]
    assert log.listener is None
    partition.complete(put(3), refusal)
    partition.when_committed(lambda: done.append(3))
    partition.close()
    log.commit()
    await asyncio.sleep(1)
    assert done == [0, 1, 2], "another broker does it"


@simulated
async def test_a_commit_that_does_not_come_is_given_up(env: SimulatedEnv) -> None:
    log = FakeLog()
    log.commits = False
    partition = partition_of(env, log, commit_timeout_ms=5_000)
    partition.start()
    early = partition.complete(put(1), refusal)
    await asyncio.sleep(3)
    late = partition.complete(put(2), refusal)
    assert isinstance(early, Pending)
    assert isinstance(late, Pending)
    await asyncio.sleep(2.1)
    assert early.response == "COORDINATOR_NOT_AVAILABLE"
    assert late.response is None
    log.commit()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert late.response == "stored"


@simulated
async def test_one_timer_watches_over_all_that_waits(env: SimulatedEnv) -> None:
    log = FakeLog()
    log.commits = False
    partition = partition_of(env, log)
    partition.start()
    armed = 0
    call_later = asyncio.get_running_loop().call_later

    def counted(delay: float, *arguments: Any) -> asyncio.TimerHandle:
        handle = call_later(delay, *arguments)
        handles.append(handle)
        return handle

    handles: list[asyncio.TimerHandle] = []
    asyncio.get_running_loop().call_later = counted  # type: ignore[method-assign]
    for offset in range(50):
        partition.complete(put(offset), refusal)
        log.commit(offset)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        armed = max(armed, sum(not handle.cancelled() for handle in handles))
    assert armed == 1


@simulated
async def test_a_refused_append_changes_nothing(env: SimulatedEnv) -> None:
    log = FakeLog()
    partition = partition_of(env, log)
    partition.start()
    log.refusal = ErrorCode.NOT_ENOUGH_REPLICAS
    assert partition.complete(put(1), refusal) == "NOT_ENOUGH_REPLICAS"
    heard: list[ErrorCode | None] = []
    assert partition.complete(put(1, appended=heard.append), refusal) == "stored"
    assert heard == [ErrorCode.NOT_ENOUGH_REPLICAS]
    assert partition.shard.values == []
    log.refusal = None
    assert partition.complete(put(1, appended=heard.append, replay=False), refusal) == "stored"
    assert heard[1:] == [None]
    assert partition.shard.values == []


@simulated
async def test_many_records_become_several_batches(env: SimulatedEnv) -> None:
    log = FakeLog()
    partition = partition_of(env, log, max_batch_bytes=1_000, compression=Codec.GZIP)
    partition.start()
    partition.complete(put(*range(100)), refusal)
    assert log.appends > 3
    assert all(header.compression == Codec.GZIP for _, header in batches(log.data))
    assert partition.shard.values == [(offset, offset, -1) for offset in range(100)]


@simulated
async def test_records_are_refused_as_a_whole_where_one_has_no_bytes(env: SimulatedEnv) -> None:
    log = FakeLog()
    partition = partition_of(env, log, max_batch_bytes=1_000)
    partition.start()
    result = put(*range(100))
    assert result.records is not None
    key = OffsetCommitKey(group="g" * 40_000, topic="t", partition=0)
    result.records.append(CoordinatorRecord(1, key, OffsetCommitValue(offset=1), 4))
    assert partition.complete(result, refusal) == "INVALID_REQUEST"
    assert log.appends == 0
    assert partition.shard.values == []


@simulated
async def test_text_that_no_record_can_hold_is_refused(env: SimulatedEnv) -> None:
    partition = partition_of(env, FakeLog())
    partition.start()
    key = OffsetCommitKey(group="g" * 40_000, topic="t", partition=0)
    result = Result("stored", [CoordinatorRecord(1, key, OffsetCommitValue(offset=1), 4)])
    assert partition.complete(result, refusal) == "INVALID_REQUEST"


@simulated
async def test_loading_replays_the_log_in_chunks(env: SimulatedEnv) -> None:
    log = FakeLog()
    writer = partition_of(env, log)
    writer.start()
    for offset in range(1_200):
        writer.complete(put(offset), refusal)
    log.start_offset = 100
    reader = partition_of(env, log, load_chunk_bytes=10_000)
    reader.start()
    assert reader.state is PartitionState.LOADING
    await reader.wait_until_loaded()
    assert reader.state is PartitionState.ACTIVE
    assert reader.shard.values == writer.shard.values[100:]
    assert log.reads > 5
    assert reader.shard.loaded_at is not None


@simulated
async def test_loading_understands_transactions(env: SimulatedEnv) -> None:
    log = FakeLog()
    codec = GroupRecordCodec()
    key, value = codec.encode((put(7).records or [])[0])
    records = [Record(timestamp_ms=1, key=key, value=value)]
    log.append(build_batch(records, producer_id=9, producer_epoch=0, base_sequence=0, transactional=True), 0)
    log.append(
        end_transaction_marker(is_commit=True, producer_id=9, producer_epoch=0, coordinator_epoch=0, timestamp_ms=1),
        0,
    )
    log.append(build_batch([Record(key=b"\x00\x63", value=b"a type of the future"), Record(value=b"no key")]), 0)
    partition = partition_of(env, log)
    partition.start()
    await partition.wait_until_loaded()
    assert partition.state is PartitionState.ACTIVE
    assert partition.shard.values == [(0, 7, 9)]
    assert partition.shard.markers == [(9, True)]


@pytest.mark.parametrize("damage", ["crc", "disk", "gap", "value"])
def test_a_log_that_cannot_be_read_is_not_coordinated(damage: str) -> None:
    async def main(env: SimulatedEnv) -> None:
        log = FakeLog()
        writer = partition_of(env, log)
        writer.start()
        writer.complete(put(1), refusal)
        if damage == "crc":
            log.data[-1] ^= 1
        elif damage == "disk":
            log.read_error = OSError("disk")
        elif damage == "gap":
            log.end_offset += 1
        else:
            log.append(build_batch([Record(key=b"\x00\x01\xff", value=b"\x00\x04")]), 0)
        runtime = CoordinatorRuntime(
            lambda index: log, lambda index: Counter(), GroupRecordCodec(), RuntimeSettings(), env.clock.now_ms
        )
        runtime.elected(3, 0)
        with pytest.raises(ApiError) as loading:
            runtime.active(3)
        assert loading.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        await runtime.wait_until_loaded()
        with pytest.raises(ApiError) as failed:
            runtime.active(3)
        assert failed.value.code is ErrorCode.NOT_COORDINATOR

    simulate(main, seed=1)


@simulated
async def test_records_that_contradict_one_another_end_the_loading(env: SimulatedEnv) -> None:
    class Strict(Counter):
        def replay(self, record: CoordinatorRecord, record_offset: int, producer_id: int) -> None:
            raise AssertionError("two members in one seat")

    log = FakeLog()
    writer = partition_of(env, log)
    writer.start()
    writer.complete(put(1), refusal)
    reader = CoordinatorPartition(3, 1, log, Strict(), GroupRecordCodec(), RuntimeSettings(), env.clock.now_ms)
    reader.start()
    await reader.wait_until_loaded()
    assert reader.state is PartitionState.FAILED


@simulated
async def test_timers_run_at_their_deadline(env: SimulatedEnv) -> None:
    partition = partition_of(env, FakeLog())
    partition.start()
    partition.shard.deadlines = [5_000, 2_000, 2_000]
    partition.complete(Result("x"), refusal)
    partition.shard.deadlines.append(1_000)
    partition.complete(Result("x"), refusal)
    await asyncio.sleep(10)
    assert partition.shard.ran_at == [1_000, 2_000, 2_000, 5_000]


@simulated
async def test_a_timed_command_that_fails_does_not_stop_the_others(env: SimulatedEnv) -> None:
    class Failing(Counter):
        def take_due(self, now: Instant) -> Result[None] | None:
            result = super().take_due(now)
            if self.ran_at == [1_000]:
                self.ran_at.append(-1)
                raise ValueError("a mistake of ours")
            return result

    loop = asyncio.get_running_loop()
    reported: list[Any] = []
    loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))
    partition = CoordinatorPartition(
        3, 0, FakeLog(), Failing(), GroupRecordCodec(), RuntimeSettings(), env.clock.now_ms
    )
    partition.shard.deadlines = [1_000, 2_000]
    partition.start()
    await asyncio.sleep(3)
    assert partition.shard.ran_at == [1_000, -1, 2_000]
    assert [type(error) for error in reported] == [ValueError]


@simulated
async def test_leadership_comes_and_goes(env: SimulatedEnv) -> None:
    logs = {1: FakeLog(), 2: FakeLog()}
    runtime = CoordinatorRuntime(
        logs.get, lambda index: Counter(), GroupRecordCodec(), RuntimeSettings(), env.clock.now_ms
    )
    runtime.elected(1, 5)
    runtime.elected(7, 5)
    first = runtime.active(1)
    logs[1].commits = False
    waiting = first.complete(put(1), refusal)
    runtime.elected(1, 5)
    assert runtime.active(1) is first, "known already"
    assert runtime.led_partitions() == [1]
    runtime.elected(1, 6)
    assert runtime.active(1) is first, "the same log, so the same state"
    assert first.leader_epoch == 6
    assert isinstance(waiting, Pending)
    assert waiting.response is None
    runtime.resigned(1)
    assert waiting.response == "NOT_COORDINATOR"
    assert first.shard.unloaded is ErrorCode.NOT_COORDINATOR
    runtime.resigned(1)
    assert runtime.led_partitions() == []
    with pytest.raises(ApiError) as error:
        runtime.active(1)
    assert error.value.code is ErrorCode.NOT_COORDINATOR
    runtime.elected(2, 1)
    runtime.stop()
    assert runtime.active_partitions() == []


@simulated
async def test_an_election_during_a_load_goes_on_with_it(env: SimulatedEnv) -> None:
    log = FakeLog()
    writer = partition_of(env, log)
    writer.start()
    writer.complete(put(1), refusal)
    log.reads, log.read_delay = 0, 1.0
    shards: list[Counter] = []

    def new_shard(index: int) -> Counter:
        shards.append(Counter())
        return shards[-1]

    runtime = CoordinatorRuntime(lambda index: log, new_shard, GroupRecordCodec(), RuntimeSettings(), env.clock.now_ms)
    runtime.elected(3, 1)
    await asyncio.sleep(0.5)
    runtime.elected(3, 2)
    await runtime.wait_until_loaded()
    assert len(shards) == 1
    assert log.reads == 1
    assert runtime.active(3).leader_epoch == 2


@simulated
async def test_the_late_load_of_an_old_epoch_is_thrown_away(env: SimulatedEnv) -> None:
    log = FakeLog()
    writer = partition_of(env, log)
    writer.start()
    writer.complete(put(1), refusal)
    log.read_delay = 1.0
    shards: list[Counter] = []

    def new_shard(index: int) -> Counter:
        shards.append(Counter())
        return shards[-1]

    runtime = CoordinatorRuntime(lambda index: log, new_shard, GroupRecordCodec(), RuntimeSettings(), env.clock.now_ms)
    runtime.elected(3, 1)
    await asyncio.sleep(0.5)
    runtime.resigned(3)
    with pytest.raises(ApiError) as gone:
        runtime.active(3)
    assert gone.value.code is ErrorCode.NOT_COORDINATOR
    writer.complete(put(2), refusal)  # by the leader in between
    runtime.elected(3, 3)
    with pytest.raises(ApiError) as loading:
        runtime.active(3)
    assert loading.value.code is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    await runtime.wait_until_loaded()
    await asyncio.sleep(5)
    assert runtime.active(3).shard is shards[1]
    assert shards[1].values == [(0, 1, -1), (1, 2, -1)]
    assert shards[0].loaded_at is None
    assert shards[0].values == []


@simulated
async def test_a_load_that_failed_is_tried_again_with_the_next_election(env: SimulatedEnv) -> None:
    log = FakeLog()
    writer = partition_of(env, log)
    writer.start()
    writer.complete(put(1), refusal)
    log.read_error = OSError("disk")
    runtime = CoordinatorRuntime(
        lambda index: log, lambda index: Counter(), GroupRecordCodec(), RuntimeSettings(), env.clock.now_ms
    )
    runtime.elected(3, 1)
    await runtime.wait_until_loaded()
    log.read_error = None
    runtime.elected(3, 2)
    await runtime.wait_until_loaded()
    assert runtime.active(3).shard.values == [(0, 1, -1)]


@simulated
async def test_uncommitted_records_of_the_leader_before_hold_answers_back(env: SimulatedEnv) -> None:
    log = FakeLog()
    log.commits = False
    writer = partition_of(env, log)
    writer.start()
    writer.complete(put(1), refusal)
    reader = partition_of(env, log)
    reader.start()
    await reader.wait_until_loaded()
    assert reader.shard.values == [(0, 1, -1)], "all up to the end: the new leader's log is what gets committed"
    answer = reader.complete(Result("read"), refusal)
    done: list[int] = []
    reader.when_committed(lambda: done.append(1))
    await asyncio.sleep(0.1)
    assert isinstance(answer, Pending)
    assert (answer.response, done) == (None, [])
    log.commit()
    await asyncio.sleep(0.1)
    assert (answer.response, done) == ("read", [1])


def test_timers_that_were_cancelled_do_not_pile_up() -> None:
    timers = Timers()
    kept = timers.schedule(50, lambda now: NOTHING)
    for _ in range(10_000):
        timers.schedule(2**31, lambda now: NOTHING).cancel()
        timers.move(kept, 40 - kept.deadline_ms % 2)
    assert len(timers._heap) <= 1_000
    assert timers.next_deadline_ms() == 40
    assert timers.take_due(40) is not None
    assert timers.next_deadline_ms() is None


def test_random_timers_against_a_list() -> None:
    from ottla.server.coordinator.result import NOTHING
    from ottla.server.coordinator.timers import Timer, Timers

    random = Random(7)
    timers = Timers()
    expected: dict[int, tuple[int, Timer]] = {}
    ran: list[int] = []
    now_ms = 0
    for number in range(2_000):
        choice = random.random()
        if choice < 0.5 or not expected:
            deadline_ms = now_ms + random.randrange(1_000)

            def action(now: Instant, number: int = number) -> Result[None]:
                ran.append(number)
                return NOTHING

            expected[number] = (deadline_ms, timers.schedule(deadline_ms, action))
        elif choice < 0.75:
            moved = random.choice(list(expected))
            deadline_ms = now_ms + random.randrange(1_000)
            timers.move(expected[moved][1], deadline_ms)
            expected[moved] = (deadline_ms, expected[moved][1])
        elif choice < 0.85:
            expected.pop(random.choice(list(expected)))[1].cancel()
        else:
            now_ms += random.randrange(200)
            due = {number for number, (deadline_ms, _) in expected.items() if deadline_ms <= now_ms}
            ran.clear()
            while (action_due := timers.take_due(now_ms)) is not None:
                action_due(Instant(now_ms, 0))
            assert set(ran) == due
            assert [expected[number][0] for number in ran] == sorted(expected[number][0] for number in ran)
            for number in due:
                del expected[number]
        assert timers.next_deadline_ms() == min((deadline for deadline, _ in expected.values()), default=None)
