"""A share coordinator that is slow, away, or of another opinion."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.read_share_group_state import PartitionResult as ReadResult
from ottla.protocol.messages.read_share_group_state import ReadShareGroupStateResponse, ReadStateResult
from ottla.protocol.messages.write_share_group_state import (
    PartitionResult,
    WriteShareGroupStateRequest,
    WriteShareGroupStateResponse,
    WriteStateResult,
)
from ottla.runtime.memory_disk import MemoryDisk
from ottla.server.broker.share.persister import GIVE_UP_AFTER_MS
from ottla.server.coordinator.result import Pending
from ottla.server.log.log import Log
from tests.server.broker.share.share_world import GROUP, ShareWorld, run


class Store:
    """Stands before the share coordinator: counts what is written, and answers otherwise when told to."""

    def __init__(self, world: ShareWorld) -> None:
        self.coordinator = world.node.broker.share_state
        self.requests: list[WriteShareGroupStateRequest] = []
        self.answer: Callable[[WriteShareGroupStateRequest], Any] | None = None
        self.really_write = self.coordinator.write
        self.really_read = self.coordinator.read
        self.coordinator.write = self.write  # type: ignore[method-assign]

    def write(self, request: WriteShareGroupStateRequest) -> Any:
        self.requests.append(request)
        return self.really_write(request) if self.answer is None else self.answer(request)

    def refuse(self, code: ErrorCode) -> None:
        self.answer = lambda request: refusal(code)


def refusal(code: ErrorCode) -> WriteShareGroupStateResponse:
    result = PartitionResult(partition=0, error_code=code, error_message=None)
    return WriteShareGroupStateResponse(results=[WriteStateResult(partitions=[result])])


def test_a_coordinator_that_is_away_for_a_moment_is_waited_for() -> None:
    async def main(world: ShareWorld) -> None:
        store = Store(world)
        codes = [
            ErrorCode.NOT_COORDINATOR,
            ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ]

        def answer(request: WriteShareGroupStateRequest) -> Any:
            if len(codes) == 2:
                raise ApiError(codes.pop())
            return refusal(codes.pop()) if codes else store.really_write(request)

        await world.produce(b"a")
        async with world.worker() as worker:
            await worker.fetch()
            store.answer = answer
            assert await worker.acknowledge((0, 0, [1])) is ErrorCode.NONE
            assert not codes
            assert await worker.fetch() == {}

    run(main)


def test_a_coordinator_that_stays_away_leaves_things_as_they_were() -> None:
    async def main(world: ShareWorld) -> None:
        store = Store(world)
        await world.produce(b"a", b"b")
        async with world.worker("one") as one, world.worker("two") as two:
            await one.fetch(max_records=1, strict=True)
            store.refuse(ErrorCode.NOT_COORDINATOR)
            began = asyncio.get_running_loop().time()
            assert await one.acknowledge((0, 0, [1])) is ErrorCode.COORDINATOR_NOT_AVAILABLE
            assert GIVE_UP_AFTER_MS <= (asyncio.get_running_loop().time() - began) * 1000 < GIVE_UP_AFTER_MS + 2000
            assert (await two.fetch())[0].offsets == [1], "the first is its owner's as before"
            store.answer = None
            assert await one.acknowledge((0, 0, [1])) is ErrorCode.NONE

    run(main)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (ErrorCode.FENCED_STATE_EPOCH, ErrorCode.NOT_LEADER_OR_FOLLOWER),
        (ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.NOT_LEADER_OR_FOLLOWER),
        (ErrorCode.GROUP_ID_NOT_FOUND, ErrorCode.GROUP_ID_NOT_FOUND),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
    ],
)
def test_a_fenced_share_partition_is_read_anew(code: ErrorCode, told: ErrorCode) -> None:
    async def main(world: ShareWorld) -> None:
        store = Store(world)
        await world.produce(b"a", b"b")
        async with world.worker() as worker:
            await worker.fetch()
            assert await worker.acknowledge((0, 0, [1])) is ErrorCode.NONE
            store.refuse(code)
            assert await worker.acknowledge((1, 1, [1])) is told
            if told is ErrorCode.NOT_LEADER_OR_FOLLOWER:
                assert worker.response.responses[0].partitions[0].current_leader.leader_id == 1
                assert worker.response.node_endpoints[0].port == 9092
            store.answer = None
            assert (await worker.fetch(max_wait_ms=1000))[0].ranges == [(1, 1, 1)]
            assert await worker.acknowledge((1, 1, [1])) is ErrorCode.NONE

    run(main)


def test_any_other_error_is_an_unknown_one_and_the_record_stays() -> None:
    async def main(world: ShareWorld) -> None:
        store = Store(world)
        await world.produce(b"a")
        async with world.worker() as worker:
            await worker.fetch()
            store.refuse(ErrorCode.KAFKA_STORAGE_ERROR)
            assert await worker.acknowledge((0, 0, [1])) is ErrorCode.UNKNOWN_SERVER_ERROR
            store.answer = None
            assert await worker.acknowledge((0, 0, [2])) is ErrorCode.NONE
            assert (await worker.fetch())[0].ranges == [(0, 0, 2)]

    run(main)


def test_what_is_acknowledged_during_a_write_goes_into_the_next_one() -> None:
    async def main(world: ShareWorld) -> None:
        store = Store(world)
        await world.produce(*[b"x"] * 6)
        async with world.worker("one") as one, world.worker("two") as two, world.worker("three") as three:
            workers = (one, two, three)
            for worker in workers:
                await worker.fetch(max_records=2, strict=True)
            waiting: list[tuple[Pending[Any], WriteShareGroupStateRequest]] = []

            def answer(request: WriteShareGroupStateRequest) -> Any:
                waiting.append((Pending(lambda code: refusal(code)), request))
                return waiting[-1][0]

            store.answer = answer
            store.requests.clear()
            tasks = [
                asyncio.create_task(worker.acknowledge((2 * number, 2 * number + 1, [1])))
                for number, worker in enumerate(workers)
            ]
            await asyncio.sleep(0.5)
            assert len(waiting) == 1, "one write at a time"
            store.answer = None
            pending, request = waiting[0]
            pending.release(store.really_write(request))
            assert {await task for task in tasks} == {ErrorCode.NONE}
            assert len(store.requests) == 2
            last = store.requests[-1].topics[0].partitions[0]
            assert last.start_offset == 6
            assert last.state_batches == [], "what the start offset passes needs no state"
            assert last.delivery_complete_count == 0

    run(main)


def test_states_that_cannot_be_read_are_told_and_tried_again() -> None:
    async def main(world: ShareWorld) -> None:
        store = Store(world)

        def failing(request: Any) -> Any:
            result = ReadResult(partition=0, error_code=ErrorCode.GROUP_ID_NOT_FOUND, state_batches=[])
            return ReadShareGroupStateResponse(results=[ReadStateResult(partitions=[result])])

        await world.produce(b"a")
        store.coordinator.read = failing  # type: ignore[method-assign]
        async with world.worker() as worker:
            assert (await worker.fetch())[0].code is ErrorCode.COORDINATOR_NOT_AVAILABLE
            store.coordinator.read = store.really_read  # type: ignore[method-assign]
            assert (await worker.fetch())[0].records == {0: b"a"}

    run(main)


def test_the_state_outlives_its_leader() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(*[b"x"] * 10)
        async with world.worker() as worker:
            await worker.fetch()
            assert await worker.acknowledge((0, 1, [1]), (4, 6, [1]), (8, 8, [2])) is ErrorCode.NONE
            partition = world.node.broker.replicas.get("jobs", 0)
            assert partition is not None
            hosted = world.node.broker.share_partitions.existing(GROUP, world.topic_id, 0)
            assert hosted is not None
            partition.update_leadership(partition.node_id, partition.leader_epoch + 1, (1,), (1,))
            assert hosted.is_closed
            taken = (await worker.fetch(max_wait_ms=1000))[0]
            assert taken.ranges == [(2, 3, 1), (7, 7, 1), (8, 8, 2), (9, 9, 1)]

    run(main)


def test_a_broker_that_stops_in_order_keeps_delivery_counts() -> None:
    disk = MemoryDisk()
    open_until_the_end = []

    async def first(world: ShareWorld) -> None:
        await world.produce(b"a", b"b")
        connected = world.worker()
        open_until_the_end.append(connected)
        await (await connected.__aenter__()).fetch()

    async def second(world: ShareWorld) -> None:
        async with world.worker() as worker:
            assert (await worker.fetch(max_wait_ms=1000))[0].ranges == [(0, 1, 2)]

    run(first, disk=disk)
    disk.restart_process()
    run(second, disk=disk, initialize=False)


def test_a_coordinator_that_cannot_write_is_asked_now_and_then() -> None:
    async def main(world: ShareWorld) -> None:
        store = Store(world)
        await world.produce(b"a")
        async with world.worker() as worker:
            await worker.fetch()
            store.refuse(ErrorCode.KAFKA_STORAGE_ERROR)
            await asyncio.sleep(60)  # the lock times out, which has to be written
            assert 10 < len(store.requests) < 60
            store.answer = None
            await asyncio.sleep(2)
            written = len(store.requests)
            await asyncio.sleep(10)
            assert len(store.requests) == written
            assert (await worker.fetch())[0].ranges == [(0, 0, 2)]
            assert await worker.acknowledge((0, 0, [1])) is ErrorCode.NONE

    run(main)


def test_a_coordinator_that_breaks_is_an_answer_too(caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: WriteShareGroupStateRequest) -> Any:
        raise RuntimeError("nobody expected this")

    async def main(world: ShareWorld) -> None:
        store = Store(world)
        await world.produce(b"a")
        async with world.worker() as worker:
            await worker.fetch()
            store.answer = broken
            assert await worker.acknowledge((0, 0, [1])) is ErrorCode.UNKNOWN_SERVER_ERROR
            store.answer = None
            assert await worker.acknowledge((0, 0, [1])) is ErrorCode.NONE

    run(main)
    assert "the share coordinator failed" in caplog.text


def test_a_group_whose_start_cannot_be_found_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    async def main(world: ShareWorld) -> None:
        await world.configure(share_auto_offset_reset="by_duration:PT1H")
        await world.initialize(start_offset=-1)
        await world.produce(b"a")
        async with world.worker() as worker:
            with monkeypatch.context() as patch:
                patch.setattr(Log, "timestamp_search", broken)
                taken = await worker.fetch(max_wait_ms=60_000)
                assert taken[0].code is ErrorCode.UNKNOWN_SERVER_ERROR
            assert (await worker.fetch(max_wait_ms=60_000))[0].records == {0: b"a"}

    run(main, initialize=False)
    assert "cannot find its start" in caplog.text
