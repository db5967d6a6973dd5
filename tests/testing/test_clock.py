"""Time that is skipped: in its order, and in milliseconds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ottla
from ottla import errors
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.testing import Cluster
from ottla.testing.clock import ClusterClock
from tests.testing.raw_client import RawClient

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(topics=["bills"]) as cluster:
        yield cluster


@pytest.fixture
def on_loop() -> Iterator[tuple[ClusterClock, Callable[[Callable[[asyncio.AbstractEventLoop], None]], None]]]:
    """A clock, and what runs a function on a loop of it that goes on."""
    clock = ClusterClock()
    loop = clock.loop_factory()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(function: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        done = threading.Event()
        loop.call_soon_threadsafe(function, loop)
        loop.call_soon_threadsafe(done.set)
        assert done.wait(5)

    yield clock, run
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


# The clock


def test_timers_fire_in_their_order_also_those_that_are_set_on_the_way(on_loop: Any) -> None:
    clock, run = on_loop
    fired: list[tuple[str, int]] = []
    began = clock.time()

    def note(name: str) -> None:
        fired.append((name, round(clock.time() - began)))

    def first(loop: asyncio.AbstractEventLoop) -> None:
        note("first")
        loop.call_later(20, note, "set on the way")  # at 30

    def plan(loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(40, note, "last")
        loop.call_later(10, first, loop)
        loop.call_later(35, note, "cancelled").cancel()
        loop.call_later(20, note, "second")
        loop.call_later(70, note, "too late")

    run(plan)
    clock.skip(60)
    assert fired == [("first", 10), ("second", 20), ("set on the way", 30), ("last", 40)]
    clock.skip(9)
    clock.skip(1)
    assert fired[-1] == ("too late", 70)
    assert clock.offset_ms == 70_000


def test_coroutines_and_worker_threads_are_waited_for(on_loop: Any) -> None:
    clock, run = on_loop
    seen: list[str] = []

    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(10)
            await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.02)
            seen.append("worked")
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 20)
        except TimeoutError:
            seen.append("out of time")

    tasks: list[asyncio.Task[None]] = []
    run(lambda loop: tasks.append(loop.create_task(work())))
    clock.skip(45)
    assert seen == ["worked"] * 3
    clock.skip(10)
    assert seen[-1] == "out of time"


def test_a_long_skip_is_coarse_but_takes_no_time_to_speak_of(on_loop: Any) -> None:
    clock, run = on_loop
    ticks: list[float] = []

    def tick(loop: asyncio.AbstractEventLoop) -> None:
        ticks.append(clock.time())
        loop.call_later(1, tick, loop)

    run(tick)
    clock.skip(30 * DAY)
    assert 900 < len(ticks) < 1100
    assert ticks == sorted(ticks)


def test_several_loops_go_through_time_together(on_loop: Any) -> None:
    clock, run = on_loop
    other = clock.loop_factory()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    order: list[int] = []
    run(lambda loop: [loop.call_later(at, order.append, at) for at in (10, 30)])
    other.call_soon_threadsafe(lambda: [other.call_later(at, order.append, at) for at in (20, 40)])
    clock.skip(50)
    assert order == [10, 20, 30, 40]
    other.call_soon_threadsafe(other.stop)
    thread.join(5)
    other.close()


def test_the_wall_clock_goes_along(on_loop: Any) -> None:
    clock, _ = on_loop
    before = clock.now_ms()
    clock.skip(2 * HOUR)
    assert 0 <= clock.now_ms() - before - 2 * HOUR * 1000 < 10_000
    clock.skip(0)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_time_goes_forward_only(seconds: float) -> None:
    with pytest.raises(ValueError, match="forward only"):
        ClusterClock().skip(seconds)


def test_a_skip_on_the_brokers_own_thread_is_refused(cluster: Cluster) -> None:
    with pytest.raises(errors.IllegalStateError, match="own thread"):
        cluster.thread().call(cluster.skip, 1)


# What brokers do with it


def test_retention_by_time_deletes_old_records(cluster: Cluster) -> None:
    cluster.create_topic("news", retention_ms=HOUR * 1000, segment_ms=600_000)
    cluster.produce("news", "old")
    cluster.skip(2 * HOUR)
    assert cluster.start_offsets("news") == {0: 1}
    assert cluster.records("news") == []
    assert len(cluster.records("bills")) == 0


def test_the_default_retention_of_a_week_passes_in_a_moment(cluster: Cluster) -> None:
    cluster.produce("bills", "old")
    cluster.skip(6 * DAY)
    assert len(cluster.records("bills")) == 1
    cluster.skip(3 * DAY)
    assert cluster.records("bills") == []


@pytest.mark.parametrize("group_protocol", ["classic", "consumer"])
def test_a_member_that_is_silent_loses_its_session(cluster: Cluster, group_protocol: str) -> None:
    consumer = ottla.Consumer(
        cluster.bootstrap_servers, group_id="g", topics=["bills"], group_protocol=group_protocol, client_id="gone"
    )
    consumer.poll(0.2)
    cluster.assert_group_stable("g", members=1)
    with cluster.faults.partition(client_id="gone"):
        cluster.skip(30)
        assert len(cluster.group("g").members) == 1
        cluster.skip(30)
        assert not cluster.group("g").members
        with ottla.Consumer(
            cluster.bootstrap_servers, group_id="g", topics=["bills"], group_protocol=group_protocol
        ) as other:
            other.poll(0.2)
            cluster.assert_group_stable("g", members=1)
    consumer.close(timeout_s=1)


def test_a_transaction_that_takes_too_long_is_aborted(cluster: Cluster) -> None:
    with ottla.Producer(cluster.bootstrap_servers, transactional_id="t", transaction_timeout_ms=60_000) as producer:
        producer.begin_transaction()
        producer.send("bills", b"1").result(5)
        assert cluster.records("bills") == []
        assert len(cluster.records("bills", committed=False)) == 1
        cluster.skip(59)
        cluster.skip(30)
        with ottla.Consumer(
            cluster.bootstrap_servers, isolation_level="read_committed", auto_offset_reset="earliest"
        ) as consumer:
            cluster.produce("bills", "after it")
            consumer.assign([ottla.TopicPartition("bills", 0)])
            assert [record.value for record in consumer.poll(5)] == [b"after it"]  # not held back any more
        with pytest.raises(errors.KafkaError):
            producer.commit_transaction()


def test_delayed_operations_come_to_their_end(cluster: Cluster) -> None:
    partition = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1000)
    request = FetchRequest(
        max_wait_ms=600_000,
        min_bytes=1,
        max_bytes=10_000,
        topics=[FetchTopic(topic="bills", partitions=[partition])],
    )
    with RawClient(cluster.bootstrap_servers) as client:
        client.send(request, 4)
        time.sleep(0.05)
        cluster.skip(601)
        assert not client.receive(request, 4).responses[0].partitions[0].records


def test_idle_connections_are_closed_and_clients_come_back(cluster: Cluster) -> None:
    with ottla.Producer(cluster.bootstrap_servers) as producer:
        producer.send("bills", b"1").result(5)
        cluster.skip(HOUR)
        assert producer.send("bills", b"2").result(5).offset == 1


def test_a_reset_is_back_in_real_time(cluster: Cluster) -> None:
    cluster.skip(DAY)
    cluster.reset()
    assert cluster.clock.offset_ms == 0
    cluster.produce("bills", "1")
    assert abs(cluster.records("bills")[0].timestamp_ms - time.time() * 1000) < 60_000
