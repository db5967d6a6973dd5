"""Replicas that move between data directories while they are written to, cancelled, deleted and crashed on."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ottla.core.ids import TopicPartition
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.schema.config import BrokerConfig
from ottla.server.log.config import LogConfig
from ottla.server.log.directories import LogDirectories
from ottla.server.log.log import Log
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.log.support import NOW, TOPIC_ID, append, end_transaction, read_all

KEY = TopicPartition("some-topic", 3)
RATE = "replica.alter.log.dirs.io.max.bytes.per.second"
SETTINGS = {"node.id": 1, "log.dirs": "/a,/b", "log.initial.task.delay.ms": 1000}


class World:
    """One broker's directories, its life after life; `flushed` is the end of what must not be lost."""

    def __init__(self, rate: int | None = None) -> None:
        self.rate = rate
        self.flushed = 0
        self.disk = MemoryDisk(now_ms=lambda: NOW)
        self.replaced: list[tuple[Log, Log]] = []
        self.directories: LogDirectories
        self.env: SimulatedEnv

    def live(self, life: object, *, seed: int = 1, clean: bool = True) -> None:
        async def main(env: SimulatedEnv) -> None:
            self.env = env
            directories = self.directories = LogDirectories(self.config, env)
            directories.on_replaced = lambda old, new: self.replaced.append((old, new))
            await directories.start()
            try:
                await life(self)  # type: ignore[operator]
            finally:
                if not self.disk.has_crashed:
                    await directories.stop(clean=clean)

        simulate(main, seed=seed, disk=self.disk)

    @property
    def config(self) -> BrokerConfig:
        config = BrokerConfig.of(SETTINGS)
        return config if self.rate is None else config.with_dynamic({}, {RATE: str(self.rate)})

    @property
    def log(self) -> Log:
        log = self.directories.get(KEY)
        assert log is not None
        return log

    def fill(self, batches: int = 20, **settings: object) -> Log:
        log = self.directories.get_or_create(KEY, TOPIC_ID, LogConfig(segment_bytes=2000, **settings))  # type: ignore[arg-type]
        for number in range(batches):
            append(log, 3, size=100, producer=(7, 0, 3 * number))
        return log

    def move(self, path: str) -> None:
        destination = self.directories.named(path)
        assert destination is not None
        self.directories.moves.begin(self.log, destination)

    async def until_moved(self) -> None:
        for _ in range(2000):
            if not self.directories.is_moving(KEY) and not self.disk.exists(f"{self.other_home}/{KEY}"):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the move does not end")

    @property
    def home(self) -> str:
        home = self.directories.directory_of(KEY)
        assert home is not None
        return home.path

    @property
    def other_home(self) -> str:
        return "/b" if self.home == "/a" else "/a"

    def names(self, path: str) -> list[str]:
        return [name for name in self.disk.list_directory(path) if name.startswith("some-topic-3")]


def test_moved_replica_has_every_batch_and_goes_on() -> None:
    async def life(world: World) -> None:
        old = world.fill()
        headers = read_all(old)
        world.move("/b")
        await world.until_moved()
        log = world.log
        assert world.home == "/b"
        assert world.replaced == [(old, log)]
        assert read_all(log) == headers
        assert log.directory == f"/b/{KEY}"
        assert (log.log_end_offset, log.high_watermark) == (60, 60)
        assert append(log, 3, producer=(7, 0, 57)).duplicate  # the last five batches are still known
        append(log, 1, producer=(7, 0, 60))
        log.check_invariants()
        await asyncio.sleep(70)
        assert world.names("/a") == []

    async def again(world: World) -> None:
        assert world.home == "/b"
        assert world.log.log_end_offset == 61
        assert len(read_all(world.log)) == 21

    world = World()
    world.live(life)
    world.live(again)


def test_writes_and_transactions_go_on_during_a_move() -> None:
    async def life(world: World) -> None:
        world.fill(60)
        world.move("/b")
        for number in range(100):
            append(world.log, 2, size=50, producer=(9, 0, 2 * number), transactional=True)
            if number % 10 == 9:
                end_transaction(world.log, 9, 0, is_commit=number % 20 == 9)
            await asyncio.sleep(0.002)
        await world.until_moved()
        log = world.log
        assert world.home == "/b"
        headers = read_all(log)
        assert headers[-1].next_offset == log.log_end_offset
        assert sum(header.records_count for header in headers) == log.log_end_offset
        assert len(log.aborted_transactions(0, log.log_end_offset)) == 5
        assert log.last_stable_offset == log.high_watermark == log.log_end_offset

    World().live(life)


def test_rate_of_a_move_is_limited_and_its_lag_is_told() -> None:
    async def life(world: World) -> None:
        world.fill(200)
        size = world.log.size_in_bytes
        world.rate = 10_000
        world.directories.config = world.config
        started = asyncio.get_running_loop().time()
        world.move("/b")
        await asyncio.sleep(1)
        described = {item.path: item for item in await world.directories.describe()}
        (move,) = described["/b"].futures
        assert 0 < move.offset_lag < world.log.log_end_offset
        assert described["/a"].futures == []
        await world.until_moved()
        assert asyncio.get_running_loop().time() - started > size / 10_000 * 0.8

    World().live(life)


def test_cancelled_move_leaves_the_log_where_it_is() -> None:
    async def life(world: World) -> None:
        world.fill(200)
        world.move("/b")
        await asyncio.sleep(0.001)
        world.directories.moves.cancel(KEY)
        await asyncio.sleep(70)
        assert world.home == "/a"
        assert world.names("/b") == []
        append(world.log)

    World().live(life)


def test_deleted_log_takes_its_copy_with_it() -> None:
    async def life(world: World) -> None:
        world.fill(200)
        world.move("/b")
        await asyncio.sleep(0.001)
        world.directories.delete(KEY)
        await asyncio.sleep(70)
        assert world.names("/a") == world.names("/b") == []

    World().live(life)


def test_move_that_is_cancelled_before_it_began_leaves_nothing() -> None:
    async def life(world: World) -> None:
        world.fill()
        world.move("/b")
        world.directories.moves.cancel(KEY)
        await asyncio.sleep(70)
        assert world.home == "/a"
        assert world.names("/b") == []

    World().live(life)


def test_log_that_has_moved_stays_when_its_new_directory_fails_to_flush() -> None:
    async def life(world: World) -> None:
        def fail_from_now_on(old: Log, new: Log) -> None:
            append(new)  # there is something to flush
            world.disk.fail_at(1, 5, operations={"sync"}, path_part=f"/b/{KEY}")

        world.fill()
        world.directories.on_replaced = fail_from_now_on
        world.move("/b")
        await asyncio.sleep(70)
        assert world.home == "/b"
        assert [directory.path for directory in world.directories.offline] == ["/b"]
        assert world.disk.exists(f"/b/{KEY}")

    World().live(life)


def test_broker_that_stops_waits_for_a_move_that_came_through() -> None:
    async def begin(world: World) -> None:
        world.fill()
        world.move("/b")
        for _ in range(100_000):
            if world.replaced:
                return
            await asyncio.sleep(0.0001)

    world = World()
    world.live(begin)
    assert world.replaced
    assert world.names("/b") == [str(KEY)]
    assert str(KEY) not in world.names("/a")


def test_move_is_resumed_by_the_next_start() -> None:
    async def begin(world: World) -> None:
        world.fill(300)
        world.move("/b")
        await asyncio.sleep(0.01)
        assert world.directories.is_moving(KEY)

    async def go_on(world: World) -> None:
        assert world.home == "/a"
        headers = read_all(world.log)
        await asyncio.sleep(5)
        assert world.home == "/b"
        assert read_all(world.log) == headers

    world = World(100_000)
    world.live(begin)
    assert [name for name in world.names("/b") if name.endswith("-future")]
    world.live(go_on)


def test_copy_that_can_not_be_read_at_the_next_start_takes_its_directory_out_of_service() -> None:
    async def begin(world: World) -> None:
        world.fill(300)
        world.move("/b")
        await asyncio.sleep(0.01)

    async def go_on(world: World) -> None:
        await asyncio.sleep(5)
        assert world.home == "/a"
        assert [directory.path for directory in world.directories.offline] == ["/b"]
        append(world.log)

    world = World(100_000)
    world.live(begin)
    world.disk.fail_at(1, 5, operations={"open"}, path_part="-future")
    world.live(go_on)


def test_log_start_offset_and_cleaned_offset_go_along() -> None:
    async def life(world: World) -> None:
        log = world.fill()
        log.delete_records_before(31)  # inside of a batch
        log.delete_old_segments(NOW)
        log.cleaned_offset = 40
        world.move("/b")
        await world.until_moved()
        assert (world.log.log_start_offset, world.log.cleaned_offset) == (31, 40)
        assert read_all(world.log, start=31)[0].base_offset == 30

    World().live(life)


def test_empty_log_moves() -> None:
    async def life(world: World) -> None:
        world.fill(0)
        world.move("/b")
        await world.until_moved()
        assert world.home == "/b"
        append(world.log)

    World().live(life)


def test_directory_without_room_fails_the_move_and_nothing_else() -> None:
    async def life(world: World) -> None:
        world.fill(200)
        world.disk.fail_at(3, 28, operations={"append"}, path_part="future")
        world.move("/b")
        await asyncio.sleep(70)
        assert world.home == "/a"
        assert world.names("/b") == []
        assert len(world.directories.online) == 2
        append(world.log)

    World().live(life)


@pytest.mark.parametrize("power", [True, False], ids=["power", "process"])
def test_crash_at_every_operation_of_a_move_loses_nothing(power: bool) -> None:
    for operation in range(1, 400, 2 if power else 5):
        world = World(3_000_000)

        async def begin(world: World) -> None:
            world.fill(30)
            await world.directories.flush(world.log)
            await world.directories.write_checkpoints()

        async def move(world: World, operation: int = operation) -> None:
            world.disk.crash_at(operation)
            world.flushed = 90
            world.move("/b")
            for number in range(20):
                append(world.log, 3, size=100, producer=(7, 0, 90 + 3 * number))
                end_offset = world.log.log_end_offset
                await world.directories.flush(world.log)
                world.flushed = end_offset
                await asyncio.sleep(0.002)
            await asyncio.sleep(2)

        async def check(world: World) -> None:
            log = world.log
            assert log.log_end_offset >= world.flushed
            headers = read_all(log)
            assert sum(header.records_count for header in headers) == log.log_end_offset
            append(log)
            await asyncio.sleep(5)
            assert world.home == "/b" or not [name for name in world.names("/b") if name.endswith("-future")]
            assert read_all(world.log)[:-1] == headers

        world.live(begin)
        try:
            world.live(move)
            passed = True
        except SimulatedCrashError:
            passed = False
        if power:
            world.disk.crash(Random(operation))
        else:
            world.disk.restart_process()
        world.live(check)
        if passed:
            return
    pytest.fail("no move got through")
