"""Brokers in the test process: their life, records in and out, and what helpers say that wait in vain."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import ottla
from ottla.client.errors import (
    ClientForkedError,
    ConfigError,
    IllegalStateError,
    KafkaError,
    RecordDeserializationError,
    UnknownTopicError,
)
from ottla.testing import Cluster
from ottla.testing.steps import Ask


@dataclass
class Order:
    id: int
    name: str = ""


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    shared.reset()
    return shared


def is_open(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


# Life


def test_a_cluster_serves_between_start_and_stop() -> None:
    cluster = Cluster()
    with pytest.raises(IllegalStateError, match="not started"):
        _ = cluster.bootstrap_servers
    with cluster:
        address = cluster.bootstrap_servers
        assert cluster.is_running
        assert is_open(address)
        assert address in repr(cluster)
    assert not cluster.is_running
    assert not is_open(address)
    assert "stopped" in repr(cluster)


def test_a_stopped_cluster_can_be_started_again_and_is_empty() -> None:
    cluster = Cluster(topics={"orders": 2})
    for _ in range(2):
        with cluster:
            assert cluster.read("orders") == []
            assert set(cluster.end_offsets("orders")) == {0, 1}
            cluster.produce("orders", "1")


def test_starting_twice_is_refused_and_stopping_twice_is_not() -> None:
    with Cluster() as cluster:
        with pytest.raises(IllegalStateError, match="runs already"):
            cluster.start()
        assert cluster.topics() == []
    cluster.stop()


def test_several_clusters_do_not_meet() -> None:
    with Cluster() as one, Cluster() as other:
        one.produce("orders", "1")
        assert other.topics() == []
        assert one.bootstrap_servers != other.bootstrap_servers


def test_no_thread_is_left_when_a_cluster_has_stopped() -> None:
    def brokers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "ottla-broker-0"}

    before = brokers()
    with Cluster():
        assert len(brokers() - before) == 1
    assert not brokers() - before


def test_requests_that_wait_do_not_hold_up_the_stop() -> None:
    cluster = Cluster(topics=["orders"]).start()
    with ottla.Consumer(cluster.bootstrap_servers, group_id="g", fetch_max_wait_ms=60_000) as consumer:
        consumer.subscribe(["orders"])
        consumer.poll(0.2)
        stopping = threading.Thread(target=cluster.stop)
        stopping.start()
        stopping.join(5)
        assert not stopping.is_alive()
        consumer.close(0)


def test_less_than_one_broker_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="one broker at least, not 0"):
        Cluster(brokers=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"log.retention.hoers": 1}, "log.retention.hours"), ({"num.partitions": "many"}, "num.partitions")],
)
def test_wrong_settings_are_refused_before_anything_starts(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cluster(settings=settings)


def test_a_broker_that_cannot_start_says_why_and_leaves_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cluster = Cluster(settings={"listeners": f"PLAINTEXT://127.0.0.1:{port}"})
        with pytest.raises(OSError, match="already in use"):
            cluster.start()
        assert not cluster.is_running


def test_settings_are_those_of_the_broker() -> None:
    with Cluster(settings={"num.partitions": 3, "auto.create.topics.enable": True}) as cluster:
        cluster.produce("orders", "1")
        assert set(cluster.end_offsets("orders")) == {0, 1, 2}


def test_data_on_disk_outlives_the_cluster(tmp_path: Path) -> None:
    with Cluster(data=tmp_path) as cluster:
        cluster.produce("orders", "1", "2")
    with Cluster(data=tmp_path) as cluster:
        assert cluster.read("orders", str) == ["1", "2"]
        cluster.reset()
        assert cluster.topics() == []
    assert (tmp_path / "broker-0" / "meta.properties").exists()


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_a_killed_broker_comes_back_at_its_address_with_what_was_acknowledged(tmp_path: Path, on_disk: bool) -> None:
    with Cluster(data=tmp_path if on_disk else None) as cluster:
        address = cluster.bootstrap_servers
        cluster.produce("orders", "1")
        with ottla.Producer(address) as producer:
            producer.send("orders", "2").result(10)
            cluster.kill()
            assert not is_open(address)
            with pytest.raises(IllegalStateError, match="does not run"):
                cluster.topics()
            cluster.restart()
            assert cluster.bootstrap_servers == address
            producer.send("orders", "3").result(10)
        assert cluster.read("orders", str) == ["1", "2", "3"]
        cluster.restart()
        assert cluster.read("orders", str) == ["1", "2", "3"]


def test_a_forgotten_cluster_is_stopped_and_told_of() -> None:
    clusters = [Cluster().start()]
    address = clusters[0].bootstrap_servers
    with pytest.warns(ResourceWarning, match="unclosed Cluster"):
        clusters.clear()
    gc.collect()
    assert not is_open(address)


def run_program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, timeout=30, check=False
    )


def test_an_interpreter_that_exits_waits_for_no_broker() -> None:
    ended = run_program(
        "import ottla, warnings\n"
        "from ottla.testing import Cluster\n"
        "cluster = Cluster().start()\n"
        "producer = ottla.Producer(cluster.bootstrap_servers)\n"
        "producer.send('orders', b'1').result(10)\n"
        "print('end')\n"
    )
    assert (ended.returncode, ended.stdout) == (0, "end\n")
    assert "Traceback" not in ended.stderr


def test_an_interpreter_that_exits_stops_a_broker_with_data_in_order(tmp_path: Path) -> None:
    ended = run_program(
        "from ottla.testing import Cluster\n"
        f"cluster = Cluster(data={str(tmp_path)!r}).start()\n"
        "cluster.produce('orders', b'1')\n"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert (tmp_path / "broker-0" / ".kafka_cleanshutdown").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_a_client_and_no_broker() -> None:
    ended = run_program(
        "import os, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "import ottla\n"
        "from ottla.errors import ClientForkedError\n"
        "from ottla.testing import Cluster\n"
        "with Cluster() as cluster:\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        try:\n"
        "            cluster.topics()\n"
        "        except ClientForkedError as error:\n"
        "            assert 'forked' in str(error)\n"
        "        with ottla.Producer(cluster.bootstrap_servers) as producer:\n"
        "            producer.send('orders', b'child').result(10)\n"
        "        cluster.stop()\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "    print(cluster.read('orders'))\n"
    )
    assert (ended.stdout, ended.stderr) == ("[b'child']\n", "")


def test_a_thread_of_the_broker_can_be_asked(cluster: Cluster) -> None:
    thread = cluster.thread()
    assert thread.call(lambda: threading.current_thread().name) == "ottla-broker-0"
    with pytest.raises(IllegalStateError, match="wait for itself"):
        thread.call(lambda: thread.call(int))
    assert not issubclass(ClientForkedError, IllegalStateError)


# Topics


def test_what_a_topic_is_made_with_may_be_named(cluster: Cluster) -> None:
    cluster.create_topic(name="orders", partitions=3, replication_factor=1, retention_ms=1000)
    assert len(cluster.end_offsets("orders")) == 3


def test_one_topic_needs_no_list() -> None:
    with Cluster(topics="orders") as cluster:
        assert cluster.topics() == ["orders"]


def test_topics_are_made_and_deleted(cluster: Cluster) -> None:
    assert cluster.create_topic("orders", 3, retention_ms=1000, cleanup_policy=["compact", "delete"]) == "orders"
    assert cluster.topics() == ["orders"]
    with ottla.Admin(cluster.bootstrap_servers) as admin:
        (topic,) = admin.describe_topics(["orders"]).values()
        assert len(topic.partitions) == 3
    with pytest.raises(KafkaError, match="TOPIC_ALREADY_EXISTS"):
        cluster.create_topic("orders")
    with pytest.raises(KafkaError, match="INVALID_CONFIG"):
        cluster.create_topic("other", retention_ms="long")
    cluster.delete_topic("orders")
    assert cluster.topics() == []
    with pytest.raises(UnknownTopicError):
        cluster.delete_topic("orders")
    with pytest.raises(UnknownTopicError):
        cluster.end_offsets("orders")


# Records


def test_values_go_in_as_python_and_come_out_as_what_is_asked_for(cluster: Cluster) -> None:
    cluster.produce("orders", {"id": 1}, Order(2, "two"), b'{"id": 3}', '{"id": 4}', None, [5])
    assert cluster.read("orders", count=6) == [
        b'{"id":1}',
        b'{"id":2,"name":"two"}',
        b'{"id": 3}',
        b'{"id": 4}',
        None,
        b"[5]",
    ]
    cluster.produce("structs", {"id": 1}, Order(2, "two"))
    assert cluster.read("structs", Order) == [Order(1), Order(2, "two")]
    assert cluster.read("structs", dict)[0] == {"id": 1}
    assert cluster.read("structs", len) == [8, 21]
    cluster.produce("numbers", 1, -1, serializer=int)
    assert cluster.read("numbers", int) == [1, -1]


def test_what_can_not_be_read_is_told_with_its_place(cluster: Cluster) -> None:
    cluster.produce("orders", "{}", "no JSON")
    with pytest.raises(RecordDeserializationError, match="value at offset 1 of orders-0"):
        cluster.read("orders", dict)


def test_keys_headers_timestamps_and_partitions_arrive(cluster: Cluster) -> None:
    cluster.create_topic("orders", 4)
    places = cluster.produce("orders", "a", "b", key="k", headers={"trace": "1", "none": None}, timestamp_ms=1000)
    assert places == [(places[0][0], 0), (places[0][0], 1)]
    record = cluster.records("orders", str, key=str, count=2)[0]
    assert (record.key, record.value, record.timestamp_ms) == ("k", "a", 1000)
    assert record.headers == (("trace", b"1"), ("none", None))
    with ottla.Producer(cluster.bootstrap_servers) as producer:
        assert producer.send("orders", "c", key="k").result(10).partition == places[0][0]
    assert cluster.produce("orders", "d", partition=2) == [(2, 0 if places[0][0] != 2 else 3)]
    with pytest.raises(KafkaError, match="none 4"):
        cluster.produce("orders", "e", partition=4)


def test_values_without_a_key_take_turns_and_are_read_by_time(cluster: Cluster) -> None:
    cluster.create_topic("orders", 2)
    assert cluster.produce("orders", "0", "1", "2") == [(0, 0), (1, 0), (0, 1)]
    cluster.produce("orders", "early", partition=1, timestamp_ms=1)
    cluster.produce("orders", "first", partition=0, timestamp_ms=0)
    values = cluster.read("orders", str)
    assert sorted(values) == ["0", "1", "2", "early", "first"]
    by_partition = {0: ["0", "2", "first"], 1: ["1", "early"]}
    for expected in by_partition.values():
        assert [value for value in values if value in expected] == expected


def test_records_are_waited_for(cluster: Cluster) -> None:
    timer = threading.Timer(0.05, cluster.produce, ("orders", "1"))
    timer.start()
    assert cluster.read("orders", str, count=1) == ["1"]
    timer.join()
    cluster.produce("orders", "2")
    assert cluster.read("orders", str, count=1) == ["1", "2"], "what is there is not hidden"


def test_too_few_records_fail_with_what_was_there(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match=r"orders should have 1 records; the topic does not exist after 0\.01 s"):
        cluster.records("orders", count=1, timeout_s=0.01)
    cluster.produce("orders", *range(7))
    with pytest.raises(AssertionError, match=r"has 7 after 0\.01 s: …, '2', '3', '4', '5', '6'"):
        cluster.records("orders", str, count=8, timeout_s=0.01)


def test_reading_goes_on_from_where_it_was(cluster: Cluster) -> None:
    cluster.create_topic("orders", 2)
    cluster.produce("orders", "a", "b", "c")
    mark = cluster.end_offsets("orders")
    assert mark == {0: 2, 1: 1}
    cluster.produce("orders", "d", partition=1)
    assert cluster.read("orders", str, since=mark) == ["d"]


def test_what_was_deleted_is_not_read(cluster: Cluster) -> None:
    cluster.produce("orders", "a", "b", "c")
    with ottla.Admin(cluster.bootstrap_servers) as admin:
        admin.delete_records({ottla.TopicPartition("orders", 0): 2})
    assert cluster.read("orders", str) == ["c"]
    assert cluster.start_offsets("orders") == {0: 2}


def test_only_committed_records_are_read_unless_told_otherwise(cluster: Cluster) -> None:
    with ottla.Producer(cluster.bootstrap_servers, transactional_id="shop") as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send("orders", "aborted").result(10)
        assert cluster.read("orders") == []
        assert cluster.read("orders", str, committed=False) == ["aborted"]
        producer.abort_transaction()
        with producer.transaction():
            producer.send("orders", "committed")
    assert cluster.read("orders", str, count=1) == ["committed"]
    assert cluster.read("orders", str, committed=False) == ["aborted", "committed"]


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_records_are_read(cluster: Cluster, compression: str) -> None:
    with ottla.Producer(cluster.bootstrap_servers, compression_type=compression) as producer:
        producer.send_many("orders", [b"a" * 1000] * 10)
    assert cluster.read("orders", count=10) == [b"a" * 1000] * 10


# Waiting for other things


def test_an_empty_topic_is_empty_and_stays_so(cluster: Cluster) -> None:
    cluster.assert_topic_empty("orders")
    timer = threading.Timer(0.03, cluster.produce, ("orders", {"id": 1}))
    timer.start()
    with pytest.raises(AssertionError, match=r"""should be empty; it has 1 records: b'{"id":1}'"""):
        cluster.assert_topic_empty("orders", for_s=5)
    timer.join()


def test_conditions_are_waited_for(cluster: Cluster) -> None:
    seen: list[int] = []

    def third_time() -> int:
        seen.append(1)
        assert len(seen) != 1, "a first look is too early"
        return len(seen) if len(seen) > 2 else 0

    assert cluster.wait_until(third_time) == 3
    with pytest.raises(AssertionError, match="the shop is open; not within 0 s, at last it returned None"):
        cluster.wait_until(lambda: None, timeout_s=0, message="the shop is open")

    def never() -> None:
        raise AssertionError("closed")

    with pytest.raises(AssertionError, match="never should hold; not within 0 s, at last: closed"):
        cluster.wait_until(never, timeout_s=0)

    async def asynchronous() -> bool:
        return True

    with pytest.raises(TypeError, match=r"await it with cluster\.aio"):
        cluster.wait_until(asynchronous)


# asyncio


def test_helpers_can_be_awaited_beside_the_code_under_test() -> None:
    async def main() -> None:
        async with Cluster(topics=["orders"]) as kafka:
            assert kafka.is_running
            producer = ottla.aio.Producer(kafka.bootstrap_servers)

            async def shop() -> None:
                await asyncio.sleep(0.02)
                await producer.send("orders", "1")
                await producer.flush()

            selling = asyncio.create_task(shop())
            assert await kafka.read("orders", str, count=1) == ["1"]
            await selling
            await producer.close()
            await kafka.create_topic("more", 2)
            assert await kafka.topics() == ["more", "orders"]
            await kafka.wait_until(lambda: True)

            async def condition() -> str:
                return "yes"

            assert await kafka.wait_until(condition) == "yes"
            await kafka.kill()
            await kafka.restart()
            assert await kafka.cluster.aio.read("orders", str) == ["1"]
            await kafka.reset()
            assert await kafka.topics() == ["orders"]
            assert "AsyncCluster of 1 at" in repr(kafka)
        assert not kafka.is_running

    asyncio.run(main())


def test_a_cancelled_wait_ends_and_the_cluster_goes_on() -> None:
    async def main() -> None:
        async with Cluster() as kafka:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(kafka.records("orders", count=1), 0.05)
            await kafka.produce("orders", "1")
            assert await kafka.read("orders", str) == ["1"]

    asyncio.run(main())


def test_one_cluster_serves_several_event_loops_and_threads_at_once(cluster: Cluster) -> None:
    def in_a_loop(topic: str) -> None:
        async def main() -> None:
            await cluster.aio.produce(topic, *range(5))
            assert len(await cluster.aio.records(topic, count=5)) == 5

        asyncio.run(main())

    threads = [threading.Thread(target=in_a_loop, args=(f"topic-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cluster.topics()) == 4


def test_a_blocking_wait_in_an_event_loop_says_what_it_did(cluster: Cluster) -> None:
    async def main() -> None:
        cluster.records("orders", count=1, timeout_s=0.01)

    with pytest.raises(AssertionError) as raised:
        asyncio.run(main())
    assert "await cluster.aio.records" in raised.value.__notes__[0]


def test_a_start_that_is_cancelled_leaves_nothing_running() -> None:
    async def main() -> None:
        for pause_s in (0, 0.001, 0.005, 0.02):
            cluster = Cluster()
            starting = asyncio.ensure_future(cluster.__aenter__())
            await asyncio.sleep(pause_s)
            if starting.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await starting
            else:
                await cluster.aio.stop()
            assert not cluster.is_running

    asyncio.run(main())


def test_who_waits_for_a_broker_that_ends_is_told_and_not_cancelled(cluster: Cluster) -> None:
    async def main() -> None:
        waiting = asyncio.ensure_future(cluster.aio._ask(Ask(None, lambda node: asyncio.sleep(60))))
        await asyncio.sleep(0.01)
        await cluster.aio.kill()
        with pytest.raises(ottla.errors.IllegalStateError, match="stopped during the call"):
            await waiting
        await cluster.aio.restart()
        waiting = asyncio.ensure_future(cluster.aio._ask(Ask(None, lambda node: asyncio.sleep(60))))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
