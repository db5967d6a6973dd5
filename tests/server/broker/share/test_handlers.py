"""ShareFetch and ShareAcknowledge over the wire, against a whole node in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse
from ottla.records.control import end_transaction_marker
from ottla.records.record import Record, build_batch
from ottla.records.validation import AppendOrigin
from ottla.server.broker.share.hosted import HostedSharePartition
from ottla.server.broker.share.persister import Persister
from ottla.server.log.verification import UNVERIFIED
from ottla.server.metadata.image import ConfigResourceType
from tests.server.broker.share.share_world import GROUP, TOPIC, Batch, ShareWorld, run


def test_records_are_handed_out_once_and_are_gone_when_accepted() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"a", b"b", b"c")
        async with world.worker("one") as one, world.worker("two") as two:
            taken = (await one.fetch())[0]
            assert taken.ranges == [(0, 2, 1)]
            assert taken.records == {0: b"a", 1: b"b", 2: b"c"}
            assert await two.fetch() == {}
            assert await one.acknowledge((0, 2, [1])) is ErrorCode.NONE
            assert await one.fetch() == {}
            await world.produce(b"d")
            assert (await two.fetch())[0].records == {3: b"d"}

    run(main)


def test_one_worker_takes_single_jobs_and_acknowledges_with_the_next_fetch() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(*(b"%d" % number for number in range(5)))
        async with world.worker() as worker:
            seen: list[bytes] = []
            last: list[Batch] = []
            while taken := (await worker.fetch({0: last} if last else None, max_records=1, strict=True)).get(0):
                assert taken.acknowledge_code is ErrorCode.NONE
                if not taken.ranges:
                    break
                seen += taken.records.values()
                last = [(taken.offsets[0], taken.offsets[0], [1])]
            assert seen == [b"0", b"1", b"2", b"3", b"4"]

    run(main)


def test_a_batch_is_handed_out_whole_unless_the_limit_is_strict() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"a", b"b", b"c")
        await world.produce(b"d", b"e")
        async with world.worker() as worker:
            assert (await worker.fetch(max_records=1))[0].ranges == [(0, 2, 1)]
            assert (await worker.fetch(max_records=1, strict=True))[0].ranges == [(3, 3, 1)]
            assert (await worker.fetch(max_records=1, version=1))[0].ranges == [(4, 4, 1)]

    run(main)


def test_large_acquisitions_come_in_pieces_that_end_at_batches() -> None:
    async def main(world: ShareWorld) -> None:
        for _ in range(4):
            await world.produce(b"a", b"b", b"c")
        async with world.worker() as worker:
            assert (await worker.fetch(batch_size=4))[0].ranges == [(0, 5, 1), (6, 11, 1)]

    run(main)


def test_a_fetch_waits_for_records_and_the_first_to_wait_gets_the_first() -> None:
    async def main(world: ShareWorld) -> None:
        async with world.worker("one") as one, world.worker("two") as two:
            loop = asyncio.get_running_loop()
            first = asyncio.create_task(one.fetch(max_wait_ms=5_000, max_records=1))
            await asyncio.sleep(0.01)
            second = asyncio.create_task(two.fetch(max_wait_ms=5_000, max_records=1))
            await asyncio.sleep(1)
            began = loop.time()
            await world.produce(b"a")
            assert (await first)[0].records == {0: b"a"}
            assert loop.time() - began < 0.5
            assert not second.done()
            await world.produce(b"b")
            assert (await second)[0].records == {1: b"b"}
            began = loop.time()
            assert await one.fetch(max_wait_ms=300) == {}
            assert 0.29 < loop.time() - began < 0.4

    run(main)


def test_a_fetch_waits_for_min_bytes() -> None:
    async def main(world: ShareWorld) -> None:
        async with world.worker() as worker:
            waiting = asyncio.create_task(worker.fetch(max_wait_ms=5_000, min_bytes=300))
            await asyncio.sleep(0.1)
            await world.produce(b"x" * 50)
            await asyncio.sleep(0.5)
            assert not waiting.done()
            await world.produce(b"x" * 200)
            assert (await waiting)[0].offsets == [0, 1]
            await world.produce(b"x")
            assert (await worker.fetch(max_wait_ms=500, min_bytes=300))[0].offsets == [2]

    run(main)


def test_released_records_go_to_who_waits_and_rejected_ones_to_nobody() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"a", b"b", b"c")
        async with world.worker("one") as one, world.worker("two") as two:
            assert (await one.fetch())[0].offsets == [0, 1, 2]
            waiting = asyncio.create_task(two.fetch(max_wait_ms=5_000))
            await asyncio.sleep(0.1)
            assert await one.acknowledge((0, 2, [3, 2, 1])) is ErrorCode.NONE
            assert (await waiting)[0].ranges == [(1, 1, 2)]
            assert await two.acknowledge((1, 1, [1])) is ErrorCode.NONE
            assert await one.fetch() == {}

    run(main)


def test_a_lock_times_out_and_its_old_owner_has_no_say() -> None:
    async def main(world: ShareWorld) -> None:
        await world.configure(share_record_lock_duration_ms="15000")
        await world.produce(b"a")
        async with world.worker("one") as one, world.worker("two") as two:
            assert (await one.fetch())[0].ranges == [(0, 0, 1)]
            assert one.response.acquisition_lock_timeout_ms == 15_000
            assert (await two.fetch(max_wait_ms=20_000))[0].ranges == [(0, 0, 2)]
            assert await one.acknowledge((0, 0, [1])) is ErrorCode.INVALID_RECORD_STATE
            assert await two.acknowledge((0, 0, [1])) is ErrorCode.NONE

    run(main)


def test_a_renewed_lock_holds_longer() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"a")
        async with world.worker("one") as one, world.worker("two") as two:
            await one.fetch()
            for _ in range(3):
                await asyncio.sleep(20)
                assert await one.acknowledge((0, 0, [4]), renew=True) is ErrorCode.NONE
                assert await two.fetch() == {}
            renewed = await one.fetch(
                {0: [(0, 0, [4])]}, renew=True, max_records=0, max_bytes=0, min_bytes=0, max_wait_ms=0
            )
            assert renewed[0].acknowledge_code is ErrorCode.NONE
            assert await one.acknowledge((0, 0, [4])) is ErrorCode.INVALID_REQUEST, "without is_renew_ack"
            await one.fetch({0: [(0, 0, [4])]}, renew=True, max_records=1)
            assert one.response.error_code == ErrorCode.INVALID_REQUEST, "renewing fetches nothing"
            assert await one.acknowledge((0, 0, [4]), version=1) is ErrorCode.INVALID_REQUEST
            await world.configure(share_renew_acknowledge_enable="false")
            assert await one.acknowledge((0, 0, [4]), renew=True) is ErrorCode.INVALID_RECORD_STATE

    run(main)


def test_what_fails_too_often_is_given_up() -> None:
    async def main(world: ShareWorld) -> None:
        await world.configure(share_delivery_count_limit="3")
        await world.produce(b"good", b"bad")
        async with world.worker() as worker:
            assert (await worker.fetch())[0].ranges == [(0, 1, 1)]
            assert await worker.acknowledge((0, 1, [1, 2])) is ErrorCode.NONE
            for count in (2, 3):
                assert (await worker.fetch())[0].ranges == [(1, 1, count)]
                assert await worker.acknowledge((1, 1, [2])) is ErrorCode.NONE
            assert await worker.fetch() == {}

    run(main)


def test_a_closed_session_and_a_lost_connection_give_records_back() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"a", b"b")
        async with world.worker("other") as other:
            async with world.worker("one") as one:
                assert (await one.fetch())[0].offsets == [0, 1]
                assert await one.acknowledge((0, 0, [1]), epoch=-1) is ErrorCode.NONE
                assert (await other.fetch())[0].ranges == [(1, 1, 2)]
                assert await one.acknowledge((1, 1, [1])) is ErrorCode.SHARE_SESSION_NOT_FOUND
                await other.fetch(epoch=-1)
            other.epoch = 0
            async with world.worker("two") as two:
                assert (await two.fetch())[0].ranges == [(1, 1, 3)]
                assert await other.fetch() == {}
            assert (await other.fetch(max_wait_ms=5_000))[0].ranges == [(1, 1, 4)]

    run(main)


def test_sessions_are_refused_at_wrong_epochs() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"a")
        async with world.worker() as worker:

            async def code(epoch: int) -> int:
                await worker.fetch(epoch=epoch)
                return int(worker.response.error_code)

            assert await code(1) == ErrorCode.SHARE_SESSION_NOT_FOUND
            assert await code(-1) == ErrorCode.SHARE_SESSION_NOT_FOUND
            assert await worker.acknowledge(epoch=0) is ErrorCode.INVALID_SHARE_SESSION_EPOCH
            assert await worker.acknowledge(epoch=1) is ErrorCode.SHARE_SESSION_NOT_FOUND
            await worker.fetch()
            assert await code(2) == ErrorCode.INVALID_SHARE_SESSION_EPOCH
            assert await worker.acknowledge(epoch=7) is ErrorCode.INVALID_SHARE_SESSION_EPOCH
            await worker.fetch({0: [(0, 0, [1])]}, epoch=0)
            assert worker.response.error_code == ErrorCode.INVALID_REQUEST, "nothing can be acquired before the session"
            worker.member_id = "x" * 37
            assert await code(0) == ErrorCode.INVALID_REQUEST
            worker.member_id = "fine"
            worker.group_id = ""
            assert await code(0) == ErrorCode.INVALID_REQUEST

    run(main)


def test_there_is_a_limit_of_sessions() -> None:
    async def main(world: ShareWorld) -> None:
        async with world.worker("one") as one, world.worker("two") as two:
            await one.fetch()
            began = asyncio.get_running_loop().time()
            await two.fetch(max_wait_ms=500)
            assert two.response.error_code == ErrorCode.SHARE_SESSION_LIMIT_REACHED
            assert asyncio.get_running_loop().time() - began >= 0.5
            await one.fetch(epoch=-1)
            await two.fetch()
            assert two.response.error_code == ErrorCode.NONE

    run(main, group_share_max_share_sessions=1)


def test_acknowledgements_that_make_no_sense_are_refused_and_change_nothing() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"a", b"b", b"c")
        async with world.worker("one") as one, world.worker("two") as two:
            await one.fetch(max_records=3)
            await two.fetch()
            invalid: list[list[Batch]] = [
                [(1, 0, [1])],
                [(0, 1, [])],
                [(0, 2, [1, 1])],
                [(0, 0, [5])],
                [(0, 0, [-1])],
                [(1, 1, [1]), (0, 0, [1])],
                [(0, 9, [1])],
            ]
            for batches in invalid:
                assert await one.acknowledge(*batches) is ErrorCode.INVALID_REQUEST, batches
            assert await two.acknowledge((0, 0, [1])) is ErrorCode.INVALID_RECORD_STATE
            assert await one.acknowledge((0, 1, [1]), (1, 1, [1])) is ErrorCode.INVALID_RECORD_STATE
            assert await one.acknowledge((0, 0, [1]), partition=7) is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert await one.acknowledge((0, 2, [1])) is ErrorCode.NONE
            assert await one.acknowledge((0, 2, [1])) is ErrorCode.NONE, "what lies before the start is done"
            one.topic_id = bytes(15) + b"\x07"
            assert await one.acknowledge((0, 2, [1])) is ErrorCode.UNKNOWN_TOPIC_ID

    run(main)


def test_partitions_that_are_not_there_say_so_beside_the_others() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"a")
        async with world.worker() as worker:
            worker.partitions = (0, 5)
            taken = await worker.fetch()
            assert taken[0].records == {0: b"a"}
            assert taken[5].code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            assert (await worker.fetch(max_wait_ms=1000, forget=[5])) == {}
        async with world.worker(group_id="strangers") as worker:
            # Its state was never initialized: the group coordinator does that when a member subscribes.
            assert (await worker.fetch(max_wait_ms=60_000))[0].code is not ErrorCode.NONE
        async with world.worker() as worker:
            worker.topic_id = bytes(15) + b"\x07"
            assert (await worker.fetch())[0].code is ErrorCode.UNKNOWN_TOPIC_ID

    run(main)


def test_every_partition_gets_its_turn() -> None:
    async def main(world: ShareWorld) -> None:
        for partition in range(3):
            for _ in range(3):
                await world.produce(b"x", partition=partition)
        async with world.worker() as worker:
            worker.partitions = (0, 1, 2)
            seen = [list(await worker.fetch(max_records=1)) for _ in range(9)]
            assert sorted(index for [index] in seen) == [0] * 3 + [1] * 3 + [2] * 3
            assert len({index for [index] in seen[:3]}) == 3

    run(main, partitions=3)


def test_the_window_bounds_what_is_in_flight() -> None:
    async def main(world: ShareWorld) -> None:
        await world.configure(share_partition_max_record_locks="100")
        for _ in range(15):
            await world.produce(*[b"x"] * 10)
        async with world.worker() as worker:
            assert len((await worker.fetch(max_records=1000))[0].offsets) == 100
            assert await worker.fetch() == {}
            assert await worker.acknowledge((50, 99, [1])) is ErrorCode.NONE
            assert await worker.fetch() == {}, "the first 50 hold the window"
            assert await worker.acknowledge((0, 9, [1])) is ErrorCode.NONE
            assert (await worker.fetch())[0].offsets == list(range(100, 110))

    run(main)


def test_deleted_records_and_topics_are_let_go() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"a", b"b", b"c")
        await world.produce(b"d")
        async with world.worker() as worker:
            assert (await worker.fetch(max_records=1, strict=True))[0].offsets == [0]
            partition = world.node.broker.replicas.get(TOPIC, 0)
            assert partition is not None
            partition.delete_records_before(2)
            assert (await worker.fetch({0: [(0, 0, [1])]}))[0].offsets == [2, 3]
            waiting = asyncio.create_task(worker.fetch(max_wait_ms=60_000))
            await asyncio.sleep(0.1)
            async with world.client() as client:
                await client.ask(DeleteTopicsRequest(topic_names=[TOPIC]), 4, DeleteTopicsResponse)
            assert (await waiting)[0].code is not ErrorCode.NONE
            assert (await worker.fetch())[0].code is ErrorCode.UNKNOWN_TOPIC_ID

    run(main)


def test_aborted_and_control_batches_are_nobodys() -> None:
    async def main(world: ShareWorld) -> None:
        await world.configure(share_isolation_level="read_committed")
        now_ms = world.env.clock.now_ms()

        def batch(*values: bytes, **more: Any) -> bytearray:
            return build_batch([Record(timestamp_ms=now_ms, value=value) for value in values], **more)

        def marker(producer_id: int, *, is_commit: bool) -> bytearray:
            return end_transaction_marker(
                is_commit=is_commit,
                producer_id=producer_id,
                producer_epoch=0,
                coordinator_epoch=0,
                timestamp_ms=now_ms,
            )

        partition = world.node.broker.replicas.get(TOPIC, 0)
        assert partition is not None
        async with world.worker() as worker:
            for producer_id, values in ((1, [b"aborted 0"]), (2, [b"committed 1", b"committed 2"])):
                transaction = batch(
                    *values, producer_id=producer_id, producer_epoch=0, base_sequence=0, transactional=True
                )
                partition.append(transaction, 1, now_ms, AppendOrigin.COORDINATOR, verification=UNVERIFIED)
            waiting = asyncio.create_task(worker.fetch(max_wait_ms=60_000))
            await asyncio.sleep(1)
            assert not waiting.done(), "nothing is stable yet"
            for ending in (marker(1, is_commit=False), marker(2, is_commit=True), batch(b"plain 5")):
                partition.append(ending, 1, now_ms, AppendOrigin.COORDINATOR)
            taken = [(await waiting)[0]]
            while more := await worker.fetch():
                taken.append(more[0])
            found = {offset: value for part in taken for offset, value in part.records.items()}
            assert found == {1: b"committed 1", 2: b"committed 2", 5: b"plain 5"}
            assert [offset for part in taken for offset in part.offsets] == [1, 2, 5]
            assert await worker.acknowledge((1, 2, [1]), (5, 5, [1])) is ErrorCode.NONE
            hosted = world.node.broker.share_partitions.existing(GROUP, world.topic_id, 0)
            assert hosted is not None
            assert hosted.core is not None
            assert hosted.core.start_offset == 6

    run(main)


def test_where_a_group_starts() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(b"old")
        await asyncio.sleep(3600)
        await world.produce(b"new")
        for reset, expected in (("earliest", b"old"), ("by_duration:PT30M", b"new"), ("by_duration:PT2H", b"old")):
            group_id = f"group {reset}".replace(":", "-")
            await world.alter(ConfigResourceType.GROUP, group_id, {"share_auto_offset_reset": reset})
            await world.initialize(group_id=group_id, start_offset=-1)
            async with world.worker(group_id=group_id) as worker:
                taken = (await worker.fetch(max_records=1, max_wait_ms=1000))[0]
                assert list(taken.records.values()) == [expected], reset
        await world.initialize(group_id="latest", start_offset=-1)
        async with world.worker(group_id="latest") as worker:
            assert await worker.fetch() == {}
        # Nothing was acknowledged, and the place is kept all the same.
        await world.produce(b"newest")
        async with world.worker(group_id="latest") as worker:
            assert (await worker.fetch())[0].records == {2: b"newest"}

    run(main)


def test_records_that_are_not_in_the_page_cache_are_read_aside() -> None:
    async def main(world: ShareWorld) -> None:
        for number in range(6):
            await world.produce(b"%d" % number)
        async with world.worker("one") as one, world.worker("two") as two, world.worker("three") as three:
            for worker in (one, two, three):
                await worker.fetch(max_records=1, strict=True)
            world.env.memory_disk.is_cold = True
            leaving = asyncio.create_task(three.fetch(max_records=1, max_wait_ms=5_000))
            await asyncio.sleep(0)
            three.client._writer.close()
            taken = await asyncio.gather(
                one.fetch(max_records=1, strict=True, max_wait_ms=5_000),
                two.fetch(max_records=5, max_wait_ms=5_000),
            )
            leaving.cancel()
            offsets = sorted(offset for found in taken for offset in found[0].offsets)
            assert offsets == sorted(set(offsets))
            assert {3, 4, 5} <= set(offsets), "what the third one asked for is for the others"
            for found in taken:
                assert found[0].records == {offset: b"%d" % offset for offset in found[0].offsets}

    run(main)


def test_behind_cold_offsets_without_a_record_the_fetch_looks_on() -> None:
    async def main(world: ShareWorld) -> None:
        async with world.worker() as worker:
            worker.partitions = (0, 1)
            assert await worker.fetch() == {}
            marker = end_transaction_marker(
                is_commit=True, producer_id=1, producer_epoch=0, coordinator_epoch=0, timestamp_ms=0
            )
            partition = world.node.broker.replicas.get(TOPIC, 0)
            assert partition is not None
            partition.append(marker, 1, world.env.clock.now_ms(), AppendOrigin.COORDINATOR)
            await world.produce(b"job", partition=1)
            world.env.memory_disk.is_cold = True
            started = asyncio.get_running_loop().time()
            assert (await worker.fetch(max_wait_ms=60_000))[1].records == {0: b"job"}
            assert asyncio.get_running_loop().time() - started < 1

    run(main, partitions=2)


@pytest.mark.parametrize("step", ["read", "scan"])
def test_what_nobody_expected_is_answered_and_not_waited_for(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("nobody expected this")

    async def main(world: ShareWorld) -> None:
        async with world.worker() as worker:
            assert await worker.fetch() == {}
            waiting = asyncio.create_task(worker.fetch(max_wait_ms=60_000))
            await asyncio.sleep(1)
            with monkeypatch.context() as patch:
                patch.setattr(HostedSharePartition, step, broken)
                world.env.memory_disk.is_cold = step == "scan"
                started = asyncio.get_running_loop().time()
                await world.produce(b"job")
                await waiting
                assert asyncio.get_running_loop().time() - started < 1
            assert worker.response.error_code == ErrorCode.UNKNOWN_SERVER_ERROR
            worker.epoch += 1
            assert (await worker.fetch())[0].records == {0: b"job"}

    run(main)


def test_a_failed_write_is_tried_again_until_the_broker_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []

    def fail(_: Persister, write: object, state_epoch: int, done: Callable[[ErrorCode], None]) -> None:
        tries.append(asyncio.get_running_loop().time())
        done(ErrorCode.COORDINATOR_NOT_AVAILABLE)

    async def main(world: ShareWorld) -> None:
        async with world.worker() as worker:
            await world.produce(b"job")
            await worker.fetch()
            monkeypatch.setattr(Persister, "write", fail)
            await asyncio.sleep(33)  # the lock times out
        assert len(tries) >= 3
        await world.node.stop()
        loop = cast(Any, asyncio.get_running_loop())
        left = [timer for timer in loop._scheduled if not timer.cancelled()]
        assert not [timer for timer in left if "HostedSharePartition" in repr(timer)]

    run(main)


def test_a_fetch_stays_within_its_bytes_but_gets_one_batch() -> None:
    async def main(world: ShareWorld) -> None:
        for _ in range(6):
            await world.produce(b"x" * 1000, partition=0)
            await world.produce(b"x" * 1000, partition=1)
        async with world.worker() as worker:
            worker.partitions = (0, 1)
            assert sum(len(found.offsets) for found in (await worker.fetch(max_bytes=10)).values()) == 1
            assert sum(len(found.offsets) for found in (await worker.fetch(max_bytes=3_500)).values()) == 3
            taken = await worker.fetch(max_bytes=100_000)
            assert sum(len(found.offsets) for found in taken.values()) == 8

    run(main, partitions=2)


def test_settings_of_the_group_take_effect_at_once() -> None:
    async def main(world: ShareWorld) -> None:
        await world.produce(*[b"x"] * 3)
        async with world.worker() as worker:
            await worker.fetch(max_records=1, strict=True)
            assert worker.response.acquisition_lock_timeout_ms == 30_000
            await world.configure(share_record_lock_duration_ms="20000", share_delivery_count_limit="2")
            await worker.fetch(max_records=1, strict=True)
            assert worker.response.acquisition_lock_timeout_ms == 20_000
            assert await worker.acknowledge((0, 1, [2])) is ErrorCode.NONE
            assert (await worker.fetch(max_records=2, strict=True))[0].ranges == [(0, 1, 2)]
            assert await worker.acknowledge((0, 1, [2])) is ErrorCode.NONE
            assert (await worker.fetch())[0].ranges == [(2, 2, 1)]
            assert await worker.fetch() == {}

    run(main)


def test_a_cluster_without_share_groups_says_so() -> None:
    async def main(world: ShareWorld) -> None:
        off = FeatureUpdateKey(feature="share.version", max_version_level=0, upgrade_type=2)
        async with world.worker() as worker:
            response = await worker.client.ask(UpdateFeaturesRequest(feature_updates=[off]), 2, UpdateFeaturesResponse)
            assert response.error_code == ErrorCode.NONE
            await worker.fetch()
            assert worker.response.error_code == ErrorCode.UNSUPPORTED_VERSION
            assert await worker.acknowledge((0, 0, [1])) is ErrorCode.UNSUPPORTED_VERSION

    run(main)


def test_who_fetches_before_anybody_has_joined_makes_the_topic_of_the_states() -> None:
    """As Apache Kafka, where the first to look for a coordinator does; there is nothing until somebody has joined."""

    async def main(world: ShareWorld) -> None:
        await world.produce(b"a")
        async with world.worker() as worker:
            assert await worker.fetch(max_wait_ms=5) == {}
            for _ in range(5):
                assert await worker.fetch(max_wait_ms=1000) == {}
            await world.initialize()
            for _ in range(20):
                if taken := {
                    index: data for index, data in (await worker.fetch(max_wait_ms=1000)).items() if data.ranges
                }:
                    break
            assert taken[0].records == {0: b"a"}

    run(main, initialize=False)
