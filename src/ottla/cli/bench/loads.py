"""The loads: a producer as fast as it can (or as it may), a consumer, and one record after the other there and back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.cli.bench.measures import Latencies, Result
from ottla.core.ids import TopicPartition

if TYPE_CHECKING:
    import ottla
    from ottla.client.producer.batches import Delivery
    from ottla.client.producer.bulk import BulkDelivery

PIECE_RECORDS = 2000
DISTINCT_PAYLOADS = 997
_ALPHABET = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789  "
_POLL_S = 0.2
_GIVE_UP_S = 30.0

Advance = Callable[[int], None]


class Load(NamedTuple):
    """What is asked for."""

    topic: str
    records: int
    seconds: float
    """It ends after this time, whatever is left to do."""
    size_bytes: int = 100
    keys: int = 0
    """How many different keys; 0: no keys."""
    rate: float | None = None
    """Records a second at most."""


def payloads(size_bytes: int, count: int = DISTINCT_PAYLOADS, seed: int = 1) -> list[bytes]:
    """Values of text that compresses as text does."""
    chosen = random.Random(seed)
    return [bytes(chosen.choices(_ALPHABET, k=size_bytes)) for _ in range(count)]


def produce(producer: ottla.Producer[Any, Any], load: Load, advance: Advance) -> Result:
    """Send; the latency is that of one record in each piece, from `send` to its acknowledgement."""
    values = payloads(load.size_bytes)
    piece_records = PIECE_RECORDS if load.rate is None else max(1, min(PIECE_RECORDS, int(load.rate / 100)))
    piece_values = [values[index % len(values)] for index in range(piece_records)]
    piece_keys = None if not load.keys else [b"%d" % (index % load.keys) for index in range(piece_records)]
    producer.partitions_for(load.topic)
    seconds: list[float] = []
    refused: list[int] = []
    bulks: list[BulkDelivery] = []
    failed = sent = 0

    def watched(began_s: float) -> Callable[[Delivery], None]:
        def acknowledged(delivery: Delivery) -> None:
            if delivery.exception() is None:
                seconds.append(time.perf_counter() - began_s)
            else:
                refused.append(1)

        return acknowledged

    started_s = time.perf_counter()
    while sent < load.records and (now_s := time.perf_counter()) - started_s < load.seconds:
        if load.rate is not None and (ahead_s := sent / load.rate - (now_s - started_s)) > 0:
            time.sleep(ahead_s)
        count = min(piece_records, load.records - sent)
        key = None if piece_keys is None else piece_keys[0]
        began_s = time.perf_counter()
        producer.send(load.topic, piece_values[0], key).add_done_callback(watched(began_s))
        if count > 1:
            keys = None if piece_keys is None else piece_keys[1:count]
            bulks.append(producer.send_many(load.topic, piece_values[1:count], keys))
        sent += count
        advance(count)
        if len(bulks) > 100:
            failed += _failures(bulks)
    for bulk in bulks:
        bulk.exception()
    producer.flush()
    took_s = time.perf_counter() - started_s
    failed += _failures(bulks) + len(refused)
    return Result(
        "produce", load.topic, sent - failed, (sent - failed) * load.size_bytes, took_s, failed, Latencies.of(seconds)
    )


def _failures(bulks: list[BulkDelivery]) -> int:
    """How many records of those that are done were refused; they are dropped from the list."""
    failed = 0
    waiting = []
    for bulk in bulks:
        if bulk.done():
            failed += sum(one.records_count for one in bulk.outcomes()[1])
        else:
            waiting.append(bulk)
    bulks[:] = waiting
    return failed


def consume(consumer: ottla.Consumer[Any, Any], load: Load, advance: Advance) -> Result:
    """Read what is there, from the beginning, as columns."""
    partitions = [TopicPartition(load.topic, info.partition) for info in consumer.partitions_for(load.topic)]
    started_s = time.perf_counter()
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(partitions)
    records = size_bytes = 0
    first_s = None
    while records < load.records and time.perf_counter() - started_s < load.seconds:
        columns = consumer.poll_columns(_POLL_S, load.records - records)
        count = len(columns)
        if not count:
            if all(consumer.position(tp) >= end for tp, end in ends.items()):
                break
            continue
        if first_s is None:
            first_s = time.perf_counter() - started_s
        records += count
        size_bytes += sum(chunk.keys.used + chunk.values.used for chunk in columns.chunks())
        advance(count)
    took_s = time.perf_counter() - started_s
    return Result("consume", load.topic, records, size_bytes, took_s, first_record_seconds=first_s)


def round_trip(
    producer: ottla.Producer[Any, Any], consumer: ottla.Consumer[Any, Any], load: Load, advance: Advance
) -> Result:
    """One record after the other: from `send` until the consumer has it."""
    values = payloads(load.size_bytes)
    tp = TopicPartition(load.topic, 0)
    consumer.assign([tp])
    consumer.seek_to_end([tp])
    consumer.position(tp)
    producer.partitions_for(load.topic)
    seconds: list[float] = []
    started_s = time.perf_counter()
    for number in range(load.records):
        began_s = time.perf_counter()
        if began_s - started_s >= load.seconds:
            break
        offset = producer.send(load.topic, values[number % len(values)], partition=0).result(_GIVE_UP_S).offset
        _await_record(consumer, offset)
        seconds.append(time.perf_counter() - began_s)
        advance(1)
        if load.rate is not None:
            time.sleep(max(0.0, (number + 1) / load.rate - (time.perf_counter() - started_s)))
    took_s = time.perf_counter() - started_s
    count = len(seconds)
    return Result("round-trip", load.topic, count, count * load.size_bytes, took_s, 0, Latencies.of(seconds))


def _await_record(consumer: ottla.Consumer[Any, Any], offset: int) -> None:
    from ottla.cli.errors import CommandError

    deadline_s = time.perf_counter() + _GIVE_UP_S
    while time.perf_counter() < deadline_s:
        if any(record.offset >= offset for record in consumer.poll(_GIVE_UP_S)):
            return
    raise CommandError(f"the record at offset {offset} did not come back within {_GIVE_UP_S:g} s")
