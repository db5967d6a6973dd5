"""Both producers against a broker process: threads, serializers, tables, transactions, forks and exits."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

import ottla
from ottla.client.errors import (
    ClientForkedError,
    IllegalStateError,
    KafkaError,
    ProducerFencedError,
    SerializationError,
    TransactionAbortableError,
)
from ottla.client.network.cluster import Cluster
from ottla.client.portal import portal
from ottla.client.settings import AdminSettings
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.records.record import Record, read_records


class Reader:
    """Reads partitions from their beginning."""

    def __init__(self, bootstrap: str) -> None:
        self._cluster = Cluster(AdminSettings.of(bootstrap, None, {}))

    def create(self, topic: str, partitions: int) -> None:
        request = CreateTopicsRequest(
            topics=[CreatableTopic(name=topic, num_partitions=partitions, replication_factor=1)]
        )
        portal().run(self._cluster.request_any(request))

    def read(self, topic: str, partition: int = 0, *, committed: bool = False) -> list[Record]:
        return portal().run(self._read(topic, partition, committed))

    async def _read(self, topic: str, partition: int, committed: bool) -> list[Record]:
        metadata = await self._cluster.wait_for_topic(topic, 5000)
        node = metadata.partitions[partition].leader
        found: list[Record] = []
        offset = 0
        while True:
            request = FetchRequest(
                max_wait_ms=0,
                min_bytes=0,
                isolation_level=int(committed),
                topics=[
                    FetchTopic(
                        topic=topic,
                        topic_id=metadata.id,
                        partitions=[
                            FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 24)
                        ],
                    )
                ],
            )
            response = await self._cluster.request(node, request)
            [answer] = response.responses[0].partitions
            assert answer.error_code == 0
            records = [one for one in read_records(answer.records or b"") if one.offset >= offset]
            if not records:
                break
            aborted = {each.producer_id for each in answer.aborted_transactions or ()}
            assert not aborted, "these tests do not read aborted records"
            found += [one for one in read_records(answer.records or b"", skip_control=True) if one.offset >= offset]
            offset = records[-1].offset + 1
        return found

    def close(self) -> None:
        portal().run(self._cluster.close())


@pytest.fixture(scope="module")
def reader(bootstrap: str) -> Iterator[Reader]:
    found = Reader(bootstrap)
    yield found
    found.close()


def test_ten_lines(bootstrap: str, name: str, reader: Reader) -> None:
    with ottla.Producer[str, dict[str, int]](bootstrap, value_serializer="json", linger_ms=5) as producer:
        delivery = producer.send(name, {"id": 1}, key="a", headers={"from": "test"})
        metadata = delivery.result(10)
        assert (metadata.topic, metadata.offset) == (name, 0)
        seen = []
        delivery.add_done_callback(seen.append)
        assert seen == [delivery]
        at = datetime(2024, 5, 6, tzinfo=UTC)
        producer.send(name, {"id": 2}, key="a", timestamp_ms=at, partition=metadata.partition)
        producer.flush(10)
        assert producer.partitions_for(name)[0].topic == name
    first, second = reader.read(name, metadata.partition)
    assert (first.key, first.value, first.headers) == (b"a", b'{"id":1}', (("from", b"test"),))
    assert second.timestamp_ms == int(at.timestamp() * 1000)


def test_coroutines_do_the_same(bootstrap: str, name: str, reader: Reader) -> None:
    async def main() -> None:
        async with ottla.aio.Producer(bootstrap, value_serializer="json") as producer:
            delivery = await producer.send(name, [1], key="a")
            metadata = await delivery
            assert metadata.offset == 0
            deliveries = await asyncio.gather(*(producer.send(name, number, partition=0) for number in range(50)))
            await producer.flush(10)
            assert [each.result().offset - deliveries[0].result().offset for each in deliveries] == list(range(50))

    asyncio.run(main())


def test_threads_keep_their_order(bootstrap: str, name: str, reader: Reader) -> None:
    reader.create(name, 3)
    with ottla.Producer(bootstrap, buffer_memory=100_000, batch_size=4000) as producer:

        def work(thread: int) -> None:
            for number in range(3000):
                producer.send(name, b"%d %d" % (thread, number), partition=number % 3)

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for partition in range(3):
        records = [tuple(map(int, (one.value or b"").split())) for one in reader.read(name, partition)]
        assert len(records) == 4000
        for thread in range(4):
            numbers = [number for found, number in records if found == thread]
            assert numbers == list(range(partition, 3000, 3))


def test_a_delivery_of_threads_may_be_awaited(bootstrap: str, name: str) -> None:
    with ottla.Producer(bootstrap) as producer:

        async def main() -> None:
            assert (await producer.send(name, b"a")).offset == 0

        asyncio.run(main())


def test_callbacks_must_not_wait(bootstrap: str, name: str) -> None:
    with ottla.Producer(bootstrap, linger_ms=0) as producer:
        problems: list[Any] = []
        done = threading.Event()

        def callback(delivery: Any) -> None:
            later = producer.send(name, b"from the callback")
            for call in (later.result, producer.flush):
                try:
                    call()
                except KafkaError as error:
                    problems.append(error)
            done.set()

        producer.send(name, b"a").add_done_callback(callback)
        assert done.wait(10)
        assert [type(problem) for problem in problems] == [IllegalStateError, IllegalStateError]


def columns() -> dict[str, Any]:
    pa = pytest.importorskip("pyarrow")
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    whole = pa.table({"value": pa.array([b"x", b"a", None, b"c"]), "key": ["0", None, "2", "3"]})
    category = polars.Series(["a", None, "c"], dtype=polars.Categorical)
    empty = whole.slice(0, 0)
    return {
        "slice": whole.slice(1),
        "large": pa.table({"value": pa.array(["a", None, "c"], pa.large_string())}),
        "dictionary": pa.table({"value": pa.array(["a", None, "c"]).dictionary_encode()}),
        "category": polars.DataFrame({"value": category}),
        "chunks": pa.concat_tables([whole.slice(1, 1), empty, whole.slice(2)]),
        "frame": pandas.DataFrame({"value": ["x", "a", None, "c"]})[1:],
        "array": pa.array(["a", None, "c"]),
        "series": polars.Series(["a", None, "c"]),
        "batch": whole.to_batches()[0].slice(1),
    }


@pytest.mark.parametrize(
    "form", ["slice", "large", "dictionary", "category", "chunks", "frame", "array", "series", "batch"]
)
def test_columns_of_all_kinds(form: str, bootstrap: str, name: str, reader: Reader) -> None:
    with ottla.Producer(bootstrap) as producer:
        assert producer.send_many(name, columns()[form], partition=0).count == 3
    records = reader.read(name)
    assert [record.value for record in records] == [b"a", None, b"c"]
    if form in ("slice", "chunks", "batch"):
        assert [record.key for record in records] == [None, b"2", b"3"]


@pytest.mark.parametrize("values", [None, 5, "text", {"value": [b"a"]}])
def test_what_are_not_many_values_is_said(values: Any, bootstrap: str, name: str) -> None:
    with ottla.Producer(bootstrap) as producer, pytest.raises(SerializationError):
        producer.send_many(name, values)


@pytest.mark.parametrize("form", ["values", "generator", "keys", "arrow", "polars", "pandas", "rows"])
def test_many_records_in_one_call(form: str, bootstrap: str, name: str, reader: Reader) -> None:
    reader.create(name, 4)
    values = [b"value %d" % number for number in range(20_000)]
    keys = [b"%d" % (number % 100) for number in range(20_000)]
    expects_keys = form in ("keys", "arrow", "polars", "pandas")
    serializer = "json" if form == "rows" else None
    with ottla.Producer(bootstrap, batch_size=20_000, value_serializer=serializer) as producer:
        if form == "values":
            bulk = producer.send_many(name, values, headers={"a": "b"})
        elif form == "generator":
            bulk = producer.send_many(name, (value.decode() for value in values), timestamps_ms=range(20_000))
        elif form == "keys":
            bulk = producer.send_many(name, values, keys)
        elif form == "rows":
            pa = pytest.importorskip("pyarrow")
            bulk = producer.send_many(name, pa.table({"id": range(20_000)}))
        else:
            library = pytest.importorskip({"arrow": "pyarrow"}.get(form, form))
            data = {"key": keys, "value": values}
            bulk = producer.send_many(name, library.table(data) if form == "arrow" else library.DataFrame(data))
        assert bulk.count == 20_000
        ranges = bulk.result(20)
        assert bulk.done()
        assert bulk.exception() is None
    assert sum(each.end_offset - each.start_offset for each in ranges) == 20_000
    found = [reader.read(name, partition) for partition in range(4)]
    assert len(ranges) == sum(map(bool, found)), "one range for each partition: nobody else writes"
    everything = [record for records in found for record in records]
    if form == "rows":
        assert {record.value for record in everything} == {b'{"id":%d}' % number for number in range(20_000)}
    else:
        assert sorted(record.value or b"" for record in everything) == sorted(values)
    for records in found:
        if expects_keys:
            numbers = [int((record.value or b"")[6:]) for record in records]
            assert numbers == sorted(numbers)
    if form == "values":
        assert everything[0].headers == (("a", b"b"),)
    if form == "generator":
        assert all(record.timestamp_ms == int((record.value or b"")[6:]) for record in everything)
    if expects_keys:
        homes: dict[bytes | None, set[int]] = {}
        for partition, records in enumerate(found):
            for record in records:
                homes.setdefault(record.key, set()).add(partition)
        assert len(homes) == 100
        assert all(len(home) == 1 for home in homes.values())


def test_transactions_commit_and_abort(bootstrap: str, name: str, reader: Reader) -> None:
    reader.create(name, 1)
    group = f"{name}-group"
    with ottla.Producer(bootstrap, transactional_id=name) as producer:
        with pytest.raises(IllegalStateError, match="outside of a transaction"):
            producer.send(name, b"too early")
        with producer.transaction():
            producer.send(name, b"1")
            producer.send_offsets_to_transaction({ottla.TopicPartition(name, 0): 7}, group)
        producer.begin_transaction()
        producer.send(name, b"2")
        producer.commit_transaction()
        with ottla.Producer(bootstrap, transactional_id=name) as other:
            with other.transaction():
                other.send(name, b"3")
            with pytest.raises(ProducerFencedError), producer.transaction():
                producer.send(name, b"never").result(10)
            with pytest.raises(ProducerFencedError):
                producer.begin_transaction()
    assert [record.value for record in reader.read(name, committed=True)] == [b"1", b"2", b"3"]


def test_an_aborted_transaction_leaves_nothing(bootstrap: str, name: str) -> None:
    with ottla.Producer(bootstrap, transactional_id=name, linger_ms=1000) as producer:
        with suppress(ZeroDivisionError), producer.transaction():
            delivery = producer.send(name, b"1")
            raise ZeroDivisionError
        assert delivery.done()
        with producer.transaction():
            committed = producer.send(name, b"2")
        assert committed.done()
        assert committed.exception() is None

    async def main() -> None:
        async with ottla.aio.Producer(bootstrap, transactional_id=f"{name}-2") as producer:
            with suppress(ZeroDivisionError):
                async with producer.transaction():
                    await (await producer.send(name, b"1"))
                    raise ZeroDivisionError
            async with producer.transaction():
                delivery = await producer.send(name, b"2")
            assert delivery.result().offset > 0

    asyncio.run(main())


def test_a_transaction_that_cannot_be_aborted_because_of_another_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        pass

    async def fenced(*_: object) -> None:
        raise ProducerFencedError("another producer took over")

    async def main() -> None:
        async with ottla.aio.Producer("127.0.0.1:1", transactional_id="one") as producer:
            monkeypatch.setattr(producer, "begin_transaction", nothing)
            monkeypatch.setattr(producer._engine, "abort_transaction", fenced)
            with pytest.raises(ProducerFencedError) as raised:
                async with producer.transaction():
                    raise TransactionAbortableError("the epoch is old")
            assert isinstance(raised.value.__cause__, TransactionAbortableError)
            with pytest.raises(ZeroDivisionError):
                async with producer.transaction():
                    raise ZeroDivisionError

    asyncio.run(main())


def test_without_transactional_id_there_are_no_transactions(bootstrap: str) -> None:
    with ottla.Producer(bootstrap) as producer, pytest.raises(IllegalStateError, match=r"Set transactional\.id"):
        producer.begin_transaction()


def test_a_forked_child_is_told(bootstrap: str, name: str) -> None:
    with ottla.Producer(bootstrap) as producer:
        producer.send(name, b"a").result(10)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                for call in (lambda: producer.send(name, b"b"), producer.flush):
                    try:
                        call()
                    except ClientForkedError:
                        os.write(writing, b"x")
                producer.close()
                os.write(writing, b"closed")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        assert os.read(reading, 100) == b"xxclosed"
        os.close(reading)
        producer.send(name, b"c").result(10)


def test_an_exit_without_close_neither_hangs_nor_loses(bootstrap: str, name: str, reader: Reader) -> None:
    program = (
        f"import ottla\nproducer = ottla.Producer({bootstrap!r}, linger_ms=60_000)\n"
        f"for number in range(1000): producer.send({name!r}, str(number), partition=0)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
    assert [int(record.value or b"") for record in reader.read(name, 0)] == list(range(1000))


def test_nobody_there_is_told_in_one_line(name: str) -> None:
    with ottla.Producer("127.0.0.1:1", max_block_ms=300) as producer, pytest.raises(KafkaError) as caught:
        producer.send(name, b"")
    assert "127.0.0.1:1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broker_that_restarts_costs_nothing_but_time(make_broker: Any, name: str) -> None:
    broker = make_broker()
    with ottla.Producer(broker.bootstrap, linger_ms=0) as producer:
        deliveries = []
        stopping = threading.Thread(target=lambda: (broker.stop(), broker.start()))
        for number in range(2000):
            deliveries.append(producer.send(name, b"%d" % number, partition=0))
            if number == 500:
                stopping.start()
            if number % 100 == 0:
                threading.Event().wait(0.02)
        stopping.join()
        producer.flush(30)
        assert [delivery.result().offset for delivery in deliveries] == list(range(2000))
