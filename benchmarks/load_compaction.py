"""Compaction: the same compacted topic is filled on each broker, then its cleaner is let loose and timed.

While the topic is filled its `min.cleanable.dirty.ratio` is 1, which is never exceeded. Lowering it is the signal;
the end is the entry in `cleaner-offset-checkpoint`, which both brokers write when a round is done.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import crc32c
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from benchmarks.measure import Measures
from benchmarks.topics import Options, Target
from benchmarks.wire import PRODUCE, WireError, check_produce, produce_body

BATCH_BYTES = 16_384
SEGMENT_BYTES = 100_000_000
BYTES_AT_SCALE_1 = 1_000_000_000
WARM_UP_BYTES = 60_000_000
UNIQUE_KEYS = 0.1
BACKOFF_MS = 50
IN_FLIGHT = 5
POLL_S = 0.005
# Closed segments are flushed in the background, by either broker.
SETTLE_S = 1.5
TIMEOUT_S = 120.0


def compaction(target: Target, options: Options, size: int, *, is_mixed: bool = False) -> Measures:
    """MB of log that a second cleans, one record in ten the last of its key; and what it costs in processor time.

    `is_mixed`: values have half to one and a half times `size`, else all have that.
    """
    node_id = next(iter(target.admin().list_topics(timeout=30).brokers))
    _set(target, ResourceType.BROKER, str(node_id), "log.cleaner.backoff.ms", str(BACKOFF_MS))
    sizes = range(size // 2, size + size // 2 + 1) if is_mixed else range(size, size + 1)
    # A virtual machine that compiles as it goes is measured after it has.
    _clean_once(target, sizes, WARM_UP_BYTES, segment_bytes=WARM_UP_BYTES // 4)
    return _clean_once(target, sizes, int(BYTES_AT_SCALE_1 * options.scale), segment_bytes=SEGMENT_BYTES)


def _clean_once(target: Target, sizes: range, total_bytes: int, *, segment_bytes: int) -> Measures:
    config = {
        "cleanup.policy": "compact",
        "min.cleanable.dirty.ratio": "1.0",
        "segment.bytes": str(segment_bytes),
        "file.delete.delay.ms": "1000",
    }
    with target.topic(1, config) as topic:
        _fill(target, topic, sizes, total_bytes)
        time.sleep(SETTLE_S)
        directory = target.broker.log_directory / f"{topic}-0"
        segments = sorted(directory.glob("*.log"))
        before = sum(path.stat().st_size for path in segments[:-1])
        active_offset = int(segments[-1].stem)
        with target.window() as measured:
            _set(target, ResourceType.TOPIC, topic, "min.cleanable.dirty.ratio", "0.01")
            started = time.perf_counter()
            _wait_until_clean(target.broker.log_directory, topic, active_offset)
            seconds = time.perf_counter() - started
        after = sum(path.stat().st_size for path in sorted(directory.glob("*.log"))[:-1])
        return {
            "mb_s": before / 1e6 / seconds,
            "broker_cpu_s_per_gb": measured.broker_cpu_s / (before / 1e9),
            "seconds": seconds,
            "left_share": after / before,
        }


def _fill(target: Target, topic: str, sizes: range, total_bytes: int) -> None:
    waiting = 0
    with target.connect() as connection:
        for batch in _batches(sizes, total_bytes):
            connection.send(PRODUCE, 3, produce_body(topic, [(0, batch)]))
            waiting += 1
            if waiting == IN_FLIGHT:
                check_produce(connection.receive())
                waiting -= 1
        for _ in range(waiting):
            check_produce(connection.receive())


def _batches(sizes: range, total_bytes: int) -> Iterator[bytes]:
    """Batches of records with random keys out of a tenth as many as there are records; always the same ones."""
    size = (sizes[0] + sizes[-1]) // 2
    dice = random.Random(size)
    key_length = 12
    keys = [b"key-%08d" % number for number in range(max(int(total_bytes / (size + 25) * UNIQUE_KEYS), 1))]
    values = [_varint(length) + dice.randbytes(length) + b"\x00" for length in dice.choices(sizes, k=1000)]
    count = max(BATCH_BYTES // (size + 25), 1)
    heads = [b"\x00" + _varint(0) + _varint(number) + _varint(key_length) for number in range(count)]
    made = 0
    while made < total_bytes:
        chosen = dice.choices(keys, k=count), dice.choices(values, k=count)
        records = b"".join(
            [
                piece
                for head, key, value in zip(heads, *chosen, strict=True)
                for piece in (_varint(len(head) + key_length + len(value)), head, key, value)
            ]
        )
        now_ms = int(time.time() * 1000)
        checked = struct.pack(">hiqqqhii", 0, count - 1, now_ms, now_ms, -1, -1, -1, count) + records
        batch = struct.pack(">qiibI", 0, len(checked) + 9, -1, 2, crc32c.crc32c(checked)) + checked
        made += len(batch)
        yield batch


def _wait_until_clean(log_directory: Path, topic: str, offset: int) -> None:
    checkpoint = log_directory / "cleaner-offset-checkpoint"
    deadline = time.perf_counter() + TIMEOUT_S
    while time.perf_counter() < deadline:
        if checkpoint.exists():
            entries = [line.split(" ") for line in checkpoint.read_text().splitlines()]
            if any(entry[:2] == [topic, "0"] and int(entry[2]) >= offset for entry in entries if len(entry) == 3):
                return
        time.sleep(POLL_S)
    raise WireError(f"{topic} was not compacted within {TIMEOUT_S:.0f} s")


def _set(target: Target, kind: ResourceType, name: str, key: str, value: str) -> None:
    entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(kind, name, incremental_configs=[entry])
    admin = target.admin()  # a client that is dropped drops its request
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)


def _varint(value: int) -> bytes:
    value <<= 1
    output = bytearray()
    while value > 127:
        output.append(value & 127 | 128)
        value >>= 7
    output.append(value)
    return bytes(output)
