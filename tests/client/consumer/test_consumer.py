"""The blocking consumer against a broker."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable

import pytest

import ottla
from ottla import Consumer, Producer, SubscriptionPattern, TopicPartition
from ottla.client.errors import (
    ClientClosedError,
    ClientForkedError,
    ConfigError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordDeserializationError,
    UnknownTopicError,
    WakeupError,
)
from ottla.client.model import OffsetAndMetadata


@pytest.fixture
def bootstrap(quick_bootstrap: str) -> str:
    return quick_bootstrap


def quick(protocol: str) -> dict[str, object]:
    """Settings of a member that hears of rebalances quickly; of the others the broker decides."""
    beats: dict[str, object] = {"heartbeat_interval_ms": 100, "session_timeout_ms": 6000}
    return {"group_protocol": protocol, **(beats if protocol == "classic" else {})}


PROTOCOLS = pytest.mark.parametrize("protocol", ["classic", "consumer"])


def produce(
    bootstrap: str, topic: str, values: Iterable[object], partition: int | None = 0, **settings: object
) -> None:
    with Producer(bootstrap, **settings) as producer:  # type: ignore[arg-type]
        for value in values:
            producer.send(topic, str(value), partition=partition)
        producer.flush()


def make_topic(bootstrap: str, topic: str, partitions: int) -> list[TopicPartition]:
    with ottla.Admin(bootstrap) as admin:
        admin.create_topics([ottla.admin.NewTopic(topic, partitions)])
    return [TopicPartition(topic, number) for number in range(partitions)]


def earliest(bootstrap: str, **settings: object) -> Consumer[bytes, bytes]:
    return Consumer(bootstrap, auto_offset_reset="earliest", **settings)  # type: ignore[arg-type]


def poll_values(consumer: Consumer[bytes, bytes], count: int, timeout_s: float = 10) -> list[str]:
    found: list[str] = []
    deadline_s = time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < deadline_s:
        found += [(record.value or b"").decode() for record in consumer.poll(timeout_s=0.2)]
    return found


def poll_until(consumer: Consumer[bytes, bytes], condition: Callable[[], bool], timeout_s: float = 15) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it took too long"
        consumer.poll(timeout_s=0.02)


# --- assigned partitions


def test_records_as_they_were_produced(bootstrap: str, name: str) -> None:
    with Producer(bootstrap) as producer:
        sent = producer.send(name, b"value", key="key", headers=[("h", b"1")], partition=0, timestamp_ms=1234).result(
            10
        )
    with earliest(bootstrap) as consumer:
        consumer.assign([TopicPartition(name, 0)])
        records = consumer.poll(timeout_s=10)
        assert records.partitions() == [TopicPartition(name, 0)]
        (record,) = records
    assert (record.topic, record.partition, record.offset) == (name, 0, sent.offset)
    assert (record.key, record.value, record.headers) == (b"key", b"value", (("h", b"1"),))
    assert (record.timestamp_ms, record.leader_epoch) == (1234, 0)


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_in_order_across_many_fetches(bootstrap: str, name: str, compression: str) -> None:
    produce(bootstrap, name, range(3000), compression_type=compression, batch_size=2000)
    with earliest(bootstrap, max_partition_fetch_bytes=4000, max_poll_records=77) as consumer:
        consumer.assign([TopicPartition(name, 0)])
        assert poll_values(consumer, 3000) == [str(number) for number in range(3000)]
        assert consumer.position(TopicPartition(name, 0)) == 3000
        assert consumer.current_lag(TopicPartition(name, 0)) == 0


def test_iterating_hands_out_one_record_after_the_other(bootstrap: str, name: str) -> None:
    tp = TopicPartition(name, 0)
    produce(bootstrap, name, range(10))
    with earliest(bootstrap) as consumer:
        consumer.assign([tp])
        for record in consumer:
            assert consumer.position(tp) == record.offset + 1
            assert consumer.current_lag(tp) == 9 - record.offset
            if record.offset == 3:
                break
        assert next(iter(consumer)).offset == 4
        assert [record.offset for record in consumer.poll(timeout_s=5, max_records=2)] == [5, 6]
        consumer.seek(tp, 1)
        assert next(iter(consumer)).offset == 1
        for record in consumer:
            if record.offset == 5:
                consumer.seek(tp, 8)
            if record.offset == 9:
                break
        assert consumer.position(tp) == 10


def test_batches_and_polls_of_a_size(bootstrap: str, name: str) -> None:
    produce(bootstrap, name, range(20))
    with earliest(bootstrap) as consumer:
        consumer.assign([TopicPartition(name, 0)])
        assert len(consumer.poll(timeout_s=5, max_records=3)) == 3
        sizes = []
        for batch in consumer.batches(max_records=7):
            sizes.append(len(batch))
            if sum(sizes) == 17:
                break
        assert max(sizes) <= 7
        assert consumer.poll(timeout_s=0) == []


def test_columns_and_tables(bootstrap: str, name: str) -> None:
    produce(bootstrap, name, range(10))
    with earliest(bootstrap) as consumer:
        consumer.assign([TopicPartition(name, 0)])
        columns = consumer.poll_columns(timeout_s=5, max_records=6)
        assert list(columns.offset) == list(range(6))
        assert columns.to_arrow().column("value").to_pylist() == [b"%d" % number for number in range(6)]
        records = consumer.poll(timeout_s=5)
        table = records.to_arrow()
        assert table.column("offset").to_pylist() == [6, 7, 8, 9]
        assert table.schema.field("topic").type == columns.to_arrow().schema.field("topic").type
        assert table.schema.field("timestamp").type == columns.to_arrow().schema.field("timestamp").type
        assert records.to_polars()["value"].to_list() == [b"6", b"7", b"8", b"9"]
        assert list(records.to_pandas()["partition"]) == [0, 0, 0, 0]
        assert consumer.position(TopicPartition(name, 0)) == 10


def test_seeking(bootstrap: str, name: str) -> None:
    tp = TopicPartition(name, 0)
    produce(bootstrap, name, range(10))
    with Consumer(bootstrap) as consumer:
        consumer.assign([tp])
        assert consumer.position(tp) == 10
        consumer.seek_to_beginning()
        assert consumer.position(tp) == 0
        assert poll_values(consumer, 10)[0] == "0"
        consumer.seek(tp, OffsetAndMetadata(7, leader_epoch=0))
        assert poll_values(consumer, 3) == ["7", "8", "9"]
        consumer.seek_to_end([tp])
        assert consumer.position(tp) == 10
        with pytest.raises(ValueError, match="negative"):
            consumer.seek(tp, -1)
        with pytest.raises(IllegalStateError, match="not assigned"):
            consumer.seek(TopicPartition(name, 7), 1)


def test_pausing(bootstrap: str, name: str) -> None:
    first, second = make_topic(bootstrap, name, 2)
    produce(bootstrap, name, range(10), partition=0)
    produce(bootstrap, name, range(100, 110), partition=1)
    with earliest(bootstrap) as consumer:
        consumer.assign([first, second])
        consumer.pause([first])
        assert consumer.paused() == {first}
        assert poll_values(consumer, 10) == [str(number) for number in range(100, 110)]
        assert consumer.poll(timeout_s=0.1) == []
        consumer.resume(first)
        assert poll_values(consumer, 10) == [str(number) for number in range(10)]
        consumer.seek_to_beginning()
        consumer.pause(second)
        for record in consumer:  # what is left of a paused partition waits
            assert record.partition == 0
            if record.offset == 4:
                consumer.pause()
                break
        assert consumer.poll(timeout_s=0.1) == []
        consumer.resume()
        assert sorted(map(int, poll_values(consumer, 15))) == [*range(5, 10), *range(100, 110)]


def test_offsets_by_time_and_at_the_ends(bootstrap: str, name: str) -> None:
    first, second = make_topic(bootstrap, name, 2)
    with Producer(bootstrap) as producer:
        for number in range(5):
            producer.send(name, b"x", partition=0, timestamp_ms=1000 + 10 * number)
        producer.flush()
    with Consumer(bootstrap) as consumer:
        assert consumer.beginning_offsets([first, second]) == {first: 0, second: 0}
        assert consumer.end_offsets([first, second]) == {first: 5, second: 0}
        found = consumer.offsets_for_times({first: 1015, second: 0})
        assert found[first] is not None
        assert found[first][:2] == (2, 1020)
        assert found[second] is None
        assert consumer.offsets_for_times({first: 5000}) == {first: None}
        with pytest.raises(UnknownTopicError, match="2 partitions"):
            consumer.end_offsets([TopicPartition(name, 2)])
        with pytest.raises(ValueError, match="negative"):
            consumer.offsets_for_times({first: -1})
        infos = consumer.partitions_for(name)
        assert [info.partition for info in infos] == [0, 1]
        assert infos[0].leader is not None
        assert name in consumer.list_topics()


def test_resets(bootstrap: str, name: str) -> None:
    tp = TopicPartition(name, 0)
    now_ms = int(time.time() * 1000)
    with Producer(bootstrap) as producer:
        producer.send(name, b"old", partition=0, timestamp_ms=now_ms - 7_200_000)
        producer.send(name, b"new", partition=0, timestamp_ms=now_ms)
        producer.flush()
    for reset, position in (("earliest", 0), ("latest", 2), ("by_duration:PT1H", 1), ("by_duration:PT0S", 2)):
        with Consumer(bootstrap, auto_offset_reset=reset) as consumer:
            consumer.assign([tp])
            assert consumer.position(tp) == position
            consumer.seek(tp, 100)
            assert poll_values(consumer, 2 - position, 5) == ["old", "new"][position:]
    with Consumer(bootstrap, auto_offset_reset="none") as consumer:
        consumer.assign([tp])
        with pytest.raises(NoOffsetForPartitionError):
            consumer.poll(timeout_s=5)
        consumer.seek(tp, 100)
        with pytest.raises(OffsetOutOfRangeError, match="offset 100"):
            consumer.poll(timeout_s=5)
        consumer.seek(tp, 1)
        assert poll_values(consumer, 1) == ["new"]


def test_read_committed(bootstrap: str, name: str) -> None:
    tp = TopicPartition(name, 0)
    produce(bootstrap, name, ["plain"])
    with Producer(bootstrap, transactional_id=name) as producer:
        for end in ("abort", "commit"):
            transaction = producer.transaction()
            try:
                with transaction:
                    for number in range(3):
                        producer.send(name, f"{end} {number}", partition=0)
                    producer.flush()
                    if end == "abort":
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass
    with earliest(bootstrap, isolation_level="read_committed") as consumer:
        consumer.assign([tp])
        assert poll_values(consumer, 4) == ["plain", "commit 0", "commit 1", "commit 2"]
        poll_until(consumer, lambda: consumer.position(tp) == 9)
        assert consumer.current_lag(tp) == 0
    with earliest(bootstrap) as consumer:
        consumer.assign([tp])
        assert len(poll_values(consumer, 7)) == 7


def test_deserializers(bootstrap: str, name: str) -> None:
    tp = TopicPartition(name, 0)
    produce(bootstrap, name, ['{"id": 1}', "broken", '{"id": 2}'])
    with earliest(bootstrap, value_deserializer="json") as consumer:
        consumer.assign([tp])
        assert [record.value for record in consumer.poll(timeout_s=5)] == [{"id": 1}]
        for _ in range(2):
            with pytest.raises(RecordDeserializationError, match="offset 1") as raised:
                consumer.poll(timeout_s=5)
        assert raised.value.raw_value == b"broken"
        assert consumer.position(tp) == 1
        consumer.seek(tp, raised.value.offset + 1)
        assert [record.value for record in consumer.poll(timeout_s=5)] == [{"id": 2}]


class Counting:
    """An interceptor."""

    def __init__(self) -> None:
        self.consumed = 0
        self.committed: list[object] = []
        self.closed = False

    def on_consume(self, records: object) -> object:
        self.consumed += len(records)  # type: ignore[arg-type]
        return records

    def on_commit(self, offsets: object) -> None:
        self.committed.append(offsets)
        raise ZeroDivisionError

    def close(self) -> None:
        self.closed = True


def test_interceptors_see_what_is_consumed_and_committed(bootstrap: str, name: str) -> None:
    tp = TopicPartition(name, 0)
    produce(bootstrap, name, range(3))
    counting = Counting()
    with earliest(bootstrap, group_id=name, interceptors=[counting]) as consumer:
        consumer.assign([tp])
        assert len(poll_values(consumer, 3)) == 3
        consumer.commit()
    assert counting.consumed == 3
    assert counting.committed[0] == {tp: OffsetAndMetadata(3, "", 0)}
    assert counting.closed


# --- commits


def test_commits_of_every_kind(bootstrap: str, name: str) -> None:
    tp = TopicPartition(name, 0)
    produce(bootstrap, name, range(10))
    with earliest(bootstrap, group_id=name, enable_auto_commit=False) as consumer:
        consumer.assign([tp])
        assert consumer.committed(tp) == {tp: None}
        records = consumer.poll(timeout_s=5, max_records=4)
        assert len(records) == 4
        consumer.commit(records[1])
        assert consumer.committed()[tp] == OffsetAndMetadata(2, "", 0)
        consumer.commit()
        assert consumer.committed()[tp] == OffsetAndMetadata(4, "", 0)
        consumer.commit({tp: 7})
        assert consumer.committed()[tp] == OffsetAndMetadata(7)
        consumer.commit(records)
        assert consumer.committed()[tp] == OffsetAndMetadata(4, "", 0)
        heard: list[object] = []
        consumer.commit_async({tp: OffsetAndMetadata(5, "text")}, lambda *outcome: heard.append(outcome))
        consumer.commit_async({tp: 6}, lambda *outcome: heard.append(outcome))
        consumer.commit({tp: OffsetAndMetadata(9, "last")})
        assert [offsets[tp].offset for offsets, error in heard if error is None] == [5, 6]  # type: ignore[misc,attr-defined]
        assert consumer.committed()[tp] == OffsetAndMetadata(9, "last")
        for record in consumer:
            if record.offset == 6:
                consumer.commit()  # in the middle of what was taken at once
                break
        assert consumer.committed()[tp] is not None
        assert consumer.committed()[tp].offset == 7  # type: ignore[union-attr]
        with pytest.raises(ValueError, match="negative"):
            consumer.commit({tp: -1})
        with pytest.raises(TypeError):
            consumer.commit([1])  # type: ignore[list-item]
    with earliest(bootstrap, group_id=name) as consumer:
        consumer.assign([tp])
        assert poll_values(consumer, 3) == ["7", "8", "9"]


def test_automatic_commits_leave_out_what_is_not_processed(bootstrap: str, name: str) -> None:
    tp = TopicPartition(name, 0)
    produce(bootstrap, name, range(10))

    def committed() -> int | None:
        with Consumer(bootstrap, group_id=name, enable_auto_commit=False) as other:
            found = other.committed([tp])[tp]
            return None if found is None else found.offset

    with earliest(bootstrap, group_id=name, auto_commit_interval_ms=30, max_poll_records=4) as consumer:
        consumer.assign([tp])
        assert len(consumer.poll(timeout_s=5)) == 4
        time.sleep(0.2)
        assert committed() == 0
        assert len(consumer.poll(timeout_s=5)) == 4  # now the first ones are done with
        deadline_s = time.monotonic() + 5
        while committed() != 4:
            assert time.monotonic() < deadline_s
    assert committed() == 8  # closing says that all of it is


def test_an_error_on_the_way_out_does_not_commit_what_was_not_processed(bootstrap: str, name: str) -> None:
    tp = TopicPartition(name, 0)
    produce(bootstrap, name, range(10))

    def polls() -> None:
        with earliest(bootstrap, group_id=name, max_poll_records=4) as consumer:
            consumer.assign([tp])
            assert consumer.poll(timeout_s=5)[0].offset == 0
            raise ZeroDivisionError

    def iterates() -> None:
        with earliest(bootstrap, group_id=name) as consumer:
            consumer.assign([tp])
            for record in consumer:
                if record.offset == 6:
                    raise ZeroDivisionError

    for fails in (polls, polls, iterates):
        with pytest.raises(ZeroDivisionError):
            fails()
    with earliest(bootstrap, group_id=name) as consumer:
        consumer.assign([tp])
        assert consumer.poll(timeout_s=5)[0].offset == 6


# --- groups


@PROTOCOLS
def test_a_group_goes_on_where_it_was(bootstrap: str, name: str, protocol: str) -> None:
    make_topic(bootstrap, name, 3)
    produce(bootstrap, name, range(30), partition=None)
    seen: list[str] = []
    for _ in range(3):
        with earliest(bootstrap, group_id=name, topics=[name], group_protocol=protocol) as consumer:
            for record in consumer:
                seen.append((record.value or b"").decode())
                if len(seen) % 10 == 0:
                    break
            assert len(consumer.assignment()) == 3
            assert consumer.subscription() == {name}
            metadata = consumer.group_metadata()
            assert metadata.group_id == name
            assert metadata.member_id
            assert metadata.generation_id > 0
    assert sorted(map(int, seen)) == list(range(30))


class Listening(ottla.RebalanceListener):
    def __init__(self) -> None:
        self.heard: list[tuple[str, list[TopicPartition]]] = []

    def on_assigned(self, partitions: list[TopicPartition]) -> None:
        self.heard.append(("assigned", partitions))

    def on_revoked(self, partitions: list[TopicPartition]) -> None:
        self.heard.append(("revoked", partitions))


@PROTOCOLS
def test_members_share_the_partitions_and_hear_of_it(bootstrap: str, name: str, protocol: str) -> None:
    partitions = make_topic(bootstrap, name, 4)
    produce(bootstrap, name, range(40), partition=None)
    listening = Listening()
    settings = {"group_id": name, "topics": [name], **quick(protocol)}
    first = earliest(bootstrap, listener=listening, **settings)
    second = earliest(bootstrap, **settings)
    seen = poll_values(first, 40)
    assert sorted(map(int, seen)) == list(range(40))
    assert listening.heard == [("assigned", partitions)]
    deadline_s = time.monotonic() + 20
    while not (len(first.assignment()) == 2 and len(second.assignment()) == 2):
        assert time.monotonic() < deadline_s
        first.poll(timeout_s=0.05)
        assert second.poll(timeout_s=0.05) == []  # all of it was committed when it was given away
    assert first.assignment() | second.assignment() == set(partitions)
    second.close()
    deadline_s = time.monotonic() + 20
    while len(first.assignment()) < 4:
        assert time.monotonic() < deadline_s
        first.poll(timeout_s=0.05)
    first.close()
    held: set[TopicPartition] = set()
    for event, some in listening.heard:
        if event == "assigned":
            assert not held & set(some)
            held |= set(some)
        else:
            assert held >= set(some)
            held -= set(some)
    assert not held


@PROTOCOLS
def test_callbacks_may_use_the_consumer_and_be_coroutines(bootstrap: str, name: str, protocol: str) -> None:
    tp = TopicPartition(name, 0)
    make_topic(bootstrap, name, 1)
    produce(bootstrap, name, range(10))
    heard: list[str] = []

    def on_assigned(partitions: list[TopicPartition]) -> None:
        heard.append("assigned")
        consumer.seek(partitions[0], 6)

    async def on_revoked(partitions: list[TopicPartition]) -> None:
        heard.append("revoked")

    consumer = earliest(bootstrap, group_id=name, group_protocol=protocol, enable_auto_commit=False)
    consumer.subscribe([name], on_assigned=on_assigned, on_revoked=on_revoked)
    assert poll_values(consumer, 4) == ["6", "7", "8", "9"]
    consumer.close()
    assert heard == ["assigned", "revoked"]

    def commits(partitions: list[TopicPartition]) -> None:
        consumer.commit({tp: 3})

    consumer = earliest(
        bootstrap, group_id=name, group_protocol=protocol, topics=name, on_revoked=commits, enable_auto_commit=False
    )
    poll_until(consumer, lambda: bool(consumer.assignment()))
    consumer.close()
    with earliest(bootstrap, group_id=name, group_protocol=protocol, topics=name) as consumer:
        assert consumer.poll(timeout_s=10)[0].offset == 3


@PROTOCOLS
def test_what_a_callback_raises_is_raised_by_poll(bootstrap: str, name: str, protocol: str) -> None:
    make_topic(bootstrap, name, 1)
    produce(bootstrap, name, range(3))

    def fails(partitions: list[TopicPartition]) -> None:
        raise ZeroDivisionError

    with earliest(bootstrap, group_id=name, group_protocol=protocol, topics=name, on_assigned=fails) as consumer:
        with pytest.raises(ZeroDivisionError):
            poll_values(consumer, 3)
        assert len(poll_values(consumer, 3)) == 3


@PROTOCOLS
def test_patterns(bootstrap: str, name: str, protocol: str) -> None:
    for suffix in ("-a", "-b"):
        make_topic(bootstrap, name + suffix, 1)
        produce(bootstrap, name + suffix, [suffix])
    with earliest(bootstrap, group_id=name, metadata_max_age_ms=500, **quick(protocol)) as consumer:
        consumer.subscribe(re.compile(f"{name}-[ab]"))
        assert sorted(poll_values(consumer, 2)) == ["-a", "-b"]
        assert consumer.subscription() == {f"{name}-a", f"{name}-b"}
        consumer.subscribe(f"^{name}-[bc]")
        make_topic(bootstrap, name + "-c", 1)
        produce(bootstrap, name + "-c", ["-c"])
        assert poll_values(consumer, 1, 20) == ["-c"]
        poll_until(consumer, lambda: {tp.topic for tp in consumer.assignment()} == {f"{name}-b", f"{name}-c"})


def test_patterns_that_the_coordinator_matches(bootstrap: str, name: str) -> None:
    make_topic(bootstrap, name + "-a", 1)
    produce(bootstrap, name + "-a", ["-a"])
    with earliest(bootstrap, group_id=name, group_protocol="consumer") as consumer:
        consumer.subscribe(SubscriptionPattern(f"{name}-.*"))
        assert poll_values(consumer, 1) == ["-a"]
    with earliest(bootstrap, group_id=name) as consumer, pytest.raises(ConfigError, match="group_protocol"):
        consumer.subscribe(SubscriptionPattern("x"))


@PROTOCOLS
def test_another_subscription_and_none(bootstrap: str, name: str, protocol: str) -> None:
    for suffix in ("-a", "-b"):
        make_topic(bootstrap, name + suffix, 1)
        produce(bootstrap, name + suffix, [suffix])
    heard = Listening()
    with earliest(bootstrap, group_id=name, topics=name + "-a", listener=heard, **quick(protocol)) as consumer:
        assert poll_values(consumer, 1) == ["-a"]
        consumer.subscribe([name + "-b"])
        assert poll_values(consumer, 1, 15) == ["-b"]
        assert consumer.assignment() == {TopicPartition(name + "-b", 0)}
        consumer.unsubscribe()
        assert consumer.assignment() == frozenset()
        assert heard.heard[-1] == ("revoked", [TopicPartition(name + "-b", 0)])
        with pytest.raises(IllegalStateError, match="neither topics nor partitions"):
            consumer.poll(timeout_s=0)
        consumer.assign([TopicPartition(name + "-a", 0)])
        consumer.seek_to_beginning()
        assert poll_values(consumer, 1) == ["-a"]
        consumer.unsubscribe()
        consumer.subscribe(name + "-b")
        consumer.poll(timeout_s=0)
        poll_until(consumer, lambda: consumer.assignment() == {TopicPartition(name + "-b", 0)})


@PROTOCOLS
def test_a_static_member_that_comes_back_keeps_its_partitions(bootstrap: str, name: str, protocol: str) -> None:
    make_topic(bootstrap, name, 4)
    produce(bootstrap, name, range(20), partition=None)
    settings = {"group_id": name, "topics": [name], **quick(protocol)}
    one = earliest(bootstrap, group_instance_id="one", **settings)
    two = earliest(bootstrap, group_instance_id="two", **settings)
    deadline_s = time.monotonic() + 20
    while len(one.assignment()) != 2 or len(two.assignment()) != 2:
        assert time.monotonic() < deadline_s
        one.poll(timeout_s=0.02)
        two.poll(timeout_s=0.02)
    before, others = one.assignment(), two.assignment()
    one.close()
    one = earliest(bootstrap, group_instance_id="one", **settings)
    poll_until(one, lambda: bool(one.assignment()))
    assert one.assignment() == before
    two.poll(timeout_s=0.3)
    assert two.assignment() == others
    for consumer in (one, two):
        consumer.close(leave_group=True)


@PROTOCOLS
def test_records_of_a_partition_being_taken_away_are_finished_first(bootstrap: str, name: str, protocol: str) -> None:
    make_topic(bootstrap, name, 2)
    for partition in (0, 1):
        produce(bootstrap, name, range(partition * 100, partition * 100 + 50), partition=partition)
    settings = {"group_id": name, "topics": [name], **quick(protocol)}
    seen: list[str] = []
    second: Consumer[bytes, bytes] | None = None
    others: list[str] = []
    with earliest(bootstrap, **settings) as first:
        for record in first:  # one by one, slowly: the group does not have to wait for the whole list
            seen.append((record.value or b"").decode())
            if len(seen) == 10:
                second = earliest(bootstrap, **settings)
                second.poll(timeout_s=0)
            if second is not None:
                time.sleep(0.01)
                others += [(record.value or b"").decode() for record in second.poll(timeout_s=0)]
            if len(seen) + len(others) >= 100:
                break
    assert second is not None
    second.close()
    assert others
    assert sorted(map(int, seen + others)) == [*range(50), *range(100, 150)]


# --- one user at a time


def test_wakeup_ends_a_poll(bootstrap: str, name: str) -> None:
    make_topic(bootstrap, name, 1)
    with Consumer(bootstrap) as consumer:
        consumer.assign([TopicPartition(name, 0)])
        timer = threading.Timer(0.1, consumer.wakeup)
        timer.start()
        with pytest.raises(WakeupError):
            consumer.poll()
        timer.join()
        assert consumer.poll(timeout_s=0) == []
        consumer.wakeup()
        with pytest.raises(WakeupError):
            consumer.poll(timeout_s=5)


def test_two_threads_at_once_are_refused(bootstrap: str, name: str) -> None:
    make_topic(bootstrap, name, 1)
    with Consumer(bootstrap) as consumer:
        consumer.assign([TopicPartition(name, 0)])
        thread = threading.Thread(target=lambda: consumer.poll(timeout_s=0.5))
        thread.start()
        time.sleep(0.1)
        for call in (lambda: consumer.poll(timeout_s=0), consumer.seek_to_end, consumer.close):
            with pytest.raises(IllegalStateError, match="Two threads"):
                call()
        thread.join()
        assert consumer.poll(timeout_s=0) == []


def test_what_makes_no_sense_is_refused(bootstrap: str, name: str) -> None:
    consumer: Consumer[bytes, bytes] = Consumer(bootstrap)
    with pytest.raises(IllegalStateError, match="neither topics nor partitions"):
        consumer.poll(timeout_s=0)
    with pytest.raises(ConfigError, match="group_id"):
        consumer.subscribe([name])
    with pytest.raises(ConfigError, match="group_id"):
        Consumer(bootstrap, topics=[name])
    for call in (consumer.commit, consumer.committed, consumer.group_metadata, consumer.enforce_rebalance):
        with pytest.raises(IllegalStateError, match="group_id"):
            call()
    missing = TopicPartition(name, 77)
    consumer.assign([missing])
    with pytest.raises(KafkaTimeoutError, match="position"):
        consumer.position(missing, timeout_s=0.1)
    consumer.close()
    consumer.close()
    for call in (lambda: consumer.poll(timeout_s=0), consumer.seek_to_end, consumer.unsubscribe):
        with pytest.raises(ClientClosedError):
            call()
    with pytest.raises(ConfigError, match="on_assigned"):
        Consumer(bootstrap, on_assigned=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="key_deserializer"):
        Consumer(bootstrap, key_deserializer="no such thing")


def test_a_broker_that_is_not_there_is_an_error() -> None:
    with Consumer("127.0.0.1:1", request_timeout_ms=300, default_api_timeout_ms=300) as consumer:
        consumer.assign([TopicPartition("t", 0)])
        with pytest.raises(KafkaError, match=r"127\.0\.0\.1:1"):
            consumer.poll(timeout_s=5)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded")
def test_a_forked_child_can_not_use_it(bootstrap: str, name: str) -> None:
    make_topic(bootstrap, name, 1)
    with Consumer(bootstrap) as consumer:
        consumer.assign([TopicPartition(name, 0)])
        child = os.fork()
        if child == 0:
            code = 1
            try:
                consumer.poll(timeout_s=0)
            except ClientForkedError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert consumer.poll(timeout_s=0) == []


@PROTOCOLS
def test_an_interpreter_that_ends_without_close_leaves_the_group(bootstrap: str, name: str, protocol: str) -> None:
    make_topic(bootstrap, name, 1)
    produce(bootstrap, name, range(5))
    program = f"""
import ottla
consumer = ottla.Consumer({bootstrap!r}, group_id={name!r}, topics=[{name!r}], auto_offset_reset="earliest",
                          group_protocol={protocol!r})
print(len(consumer.poll(timeout_s=10)))
"""
    started_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["5"]
    assert done.stderr == ""
    with earliest(bootstrap, group_id=name, topics=[name], group_protocol=protocol) as consumer:
        assert len(poll_values(consumer, 5)) == 5  # nobody said that they were processed
    assert time.monotonic() - started_s < 20  # less than a session timeout


def test_metrics_go_by_kafkas_names(bootstrap: str, name: str) -> None:
    make_topic(bootstrap, name, 1)
    produce(bootstrap, name, range(10))
    with earliest(bootstrap, group_id=name, topics=name, client_id=name) as consumer:
        assert len(poll_values(consumer, 10)) == 10
        consumer.commit()
        found = {(metric.group, metric.name): value for metric, value in consumer.metrics().items()}
        assert found["consumer-fetch-manager-metrics", "records-consumed-total"] == 10
        assert found["consumer-fetch-manager-metrics", "records-lag"] == 0
        assert found["consumer-coordinator-metrics", "assigned-partitions"] == 1
        assert found["consumer-metrics", "commit-sync-time-ns-total"] >= 0
        assert len(consumer.client_instance_id()) == 22


def test_who_waits_for_the_others_to_join_may_leave_at_once(bootstrap: str, name: str) -> None:
    make_topic(bootstrap, name, 2)
    settings = {"group_id": name, "topics": [name], **quick("classic")}
    first = earliest(bootstrap, on_revoked=lambda partitions: None, **settings)  # which runs in a poll only
    poll_until(first, lambda: len(first.assignment()) == 2)
    second = earliest(bootstrap, **settings)
    assert second.poll(timeout_s=1) == []
    began_s = time.monotonic()
    second.close()
    assert time.monotonic() - began_s < 10
    poll_until(first, lambda: len(first.assignment()) == 2)
    first.close()


def test_a_close_that_is_cancelled_leaves_nothing_behind(bootstrap: str, name: str) -> None:
    async def main() -> None:
        for turns in range(1, 12):
            consumer = ottla.aio.Consumer(bootstrap, group_id=name, topics=[name])
            await consumer.poll(timeout_s=0.05)
            closing = asyncio.ensure_future(consumer.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
