"""Our share consumer against Ottla and Apache Kafka, alone and in a group with Java's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

import ottla
from ottla import AcknowledgeType, ShareConsumer, TopicPartition, aio
from ottla.client.errors import IllegalStateError, RecordDeserializationError
from ottla.records.reader import ConsumerRecord
from tests.compatibility.topics import create_topic

Record = ConsumerRecord[bytes, bytes]


def fill(bootstrap: str, topic: str, count: int, partitions: int = 1) -> None:
    """A topic with `count` records, and its share group of the same name that begins at the start."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    create_topic(bootstrap, topic, partitions)
    reset = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.GROUP, topic, incremental_configs=[reset])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    for number in range(count):
        producer.produce(topic, f"{number}".encode(), partition=number % partitions)
    assert producer.flush(30) == 0


def drain(
    poll: Callable[[], list[Record]], until: Callable[[list[Record]], bool], timeout_s: float = 30
) -> list[Record]:
    found: list[Record] = []
    deadline = time.monotonic() + timeout_s
    while not until(found):
        assert time.monotonic() < deadline, f"{len(found)} records came"
        found += poll()
    return found


def test_records_are_accepted_by_the_next_poll(cluster: str, name: str) -> None:
    fill(cluster, name, 500, partitions=3)
    told: list[tuple[TopicPartition, int]] = []

    def acknowledged(offsets: dict[TopicPartition, list[int]], error: object) -> None:
        assert error is None
        told.extend((partition, offset) for partition, found in offsets.items() for offset in found)

    with ShareConsumer(cluster, topics=[name], group_id=name, on_acknowledgement=acknowledged) as consumer:
        records = drain(lambda: consumer.poll(1.0), lambda found: len(found) >= 500)
        assert {record.delivery_count for record in records} == {1}
        assert sorted(int(record.value or b"") for record in records) == list(range(500))
        assert set(consumer.commit().values()) <= {None}
        assert consumer.acquisition_lock_timeout_ms == 30_000
    assert sorted(told) == sorted((TopicPartition(r.topic, r.partition), r.offset) for r in records)
    with ShareConsumer(cluster, topics=[name], group_id=name) as consumer:
        assert consumer.poll(1.0) == []


def test_every_kind_of_acknowledgement(cluster: str, name: str) -> None:
    fill(cluster, name, 12)
    with ShareConsumer(cluster, {"share.acknowledgement.mode": "explicit"}, topics=[name], group_id=name) as consumer:
        records = drain(lambda: consumer.poll(1.0), lambda found: len(found) >= 12)
        kinds = list(AcknowledgeType)
        for record in records:
            consumer.acknowledge(record, kinds[record.offset % 4])
        assert consumer.commit() == {TopicPartition(name, 0): None}
        for record in records[3::4]:  # they were renewed, and are still held
            consumer.acknowledge(record)
        again = drain(lambda: consumer.poll(1.0), bool)
        assert [(record.offset, record.delivery_count) for record in again] == [(1, 2), (5, 2), (9, 2)]
        with pytest.raises(IllegalStateError, match="3 records of the last poll are not acknowledged"):
            consumer.poll(1.0)
        for record in again:
            consumer.acknowledge(record)
        with pytest.raises(IllegalStateError, match="cannot be acknowledged"):
            consumer.acknowledge(again[0])
        assert consumer.commit() == {TopicPartition(name, 0): None}
        assert consumer.poll(1.0) == []


def test_what_a_failed_consumer_held_comes_again(cluster: str, name: str) -> None:
    fill(cluster, name, 20)

    def fail() -> None:
        with ShareConsumer(cluster, topics=[name], group_id=name) as consumer:
            assert len(drain(lambda: consumer.poll(1.0), bool)) == 20
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    with ShareConsumer(cluster, topics=[name], group_id=name) as consumer:
        records = drain(lambda: consumer.poll(1.0), lambda found: len(found) >= 20)
        assert {record.delivery_count for record in records} == {2}


def test_two_consumers_share_a_partition(cluster: str, name: str) -> None:
    fill(cluster, name, 400)
    found: list[list[int]] = [[], []]
    done = threading.Event()

    def work(mine: list[int]) -> None:
        with ShareConsumer(
            cluster, topics=[name], group_id=name, max_poll_records=10, share_acquire_mode="record_limit"
        ) as consumer:
            while not done.is_set():
                mine += [record.offset for record in consumer.poll(0.2)]
                if len(found[0]) + len(found[1]) >= 400:
                    done.set()
                elif not all(found):
                    time.sleep(0.1)  # the other one is still joining

    threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    done.wait(60)
    done.set()
    for thread in threads:
        thread.join(30)
    assert sorted(found[0] + found[1]) == list(range(400))
    assert all(found)


def test_record_that_cannot_be_deserialized_is_released_until_it_is_given_up(cluster: str, name: str) -> None:
    fill(cluster, name, 3)

    def deserialize(value: bytes) -> int:
        number = int(value)
        if number == 1:
            raise ValueError("not one")
        return number

    values: list[int | None] = []
    errors: list[RecordDeserializationError] = []
    with ShareConsumer(cluster, topics=[name], group_id=name, value_deserializer=deserialize) as consumer:
        deadline = time.monotonic() + 30
        while len(errors) < 5:  # share.delivery.count.limit
            assert time.monotonic() < deadline
            try:
                values += [record.value for record in consumer.poll(1.0)]
            except RecordDeserializationError as error:
                errors.append(error)
        assert consumer.poll(0.5) == []
    assert {(error.offset, error.raw_value) for error in errors} == {(1, b"1")}
    assert values == [0, 2]


def test_coroutines_iterate(cluster: str, name: str) -> None:
    fill(cluster, name, 50)

    async def main() -> list[int]:
        found: list[int] = []
        async with aio.ShareConsumer[bytes, int](
            cluster, topics=[name], group_id=name, value_deserializer=lambda value: int(value)
        ) as consumer:
            async for record in consumer:
                assert record.value is not None
                found.append(record.value)
                if len(found) == 50:
                    break
            assert set((await consumer.commit()).values()) == {None}
        return found

    assert sorted(asyncio.run(main())) == list(range(50))


def test_misuse_is_told_in_a_line(cluster: str, name: str) -> None:
    with pytest.raises(ottla.KafkaError, match=r"group\.id is needed"):
        ShareConsumer(cluster, topics=[name])
    with ShareConsumer(cluster, group_id=name) as consumer:
        with pytest.raises(IllegalStateError, match="not subscribed"):
            consumer.poll(0.1)
        record = ConsumerRecord(name, 0, 0, b"", b"")
        with pytest.raises(IllegalStateError, match=r"Set share\.acknowledgement\.mode"):
            consumer.acknowledge(record)
    with pytest.raises(ottla.KafkaError, match="closed"):
        consumer.poll(0.1)
