"""Values of a test as record batches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.records.hashing import murmur2_partition
from ottla.records.writer import BatchWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH_LIMIT_BYTES = 1 << 30
"""One batch per partition, whatever its size: what the topic allows is for the broker to say."""


class Batch(NamedTuple):
    """A finished batch, and which of the values are in it, by their positions."""

    data: bytearray
    rows: list[int]


def batches_of(
    topic: str,
    values: Sequence[object],
    key: object,
    headers: Mapping[str, Any] | Iterable[tuple[str, Any]],
    *,
    timestamp_ms: int | None,
    serializer: Any,
    key_serializer: Any,
    partition: int | None,
    partitions_count: int,
) -> dict[int, Batch]:
    """One batch for each partition that gets any of the values."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    to_bytes = _serializer(serializer, "value")
    raw_key = _serializer(key_serializer, "key")(topic, key, pairs)
    raw_values = [to_bytes(topic, value, pairs) for value in values]
    now_ms = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
    if partition is None and raw_key is not None:
        partition = murmur2_partition(raw_key, partitions_count)
    rows: dict[int, list[int]] = {}
    for row in range(len(values)):
        rows.setdefault(row % partitions_count if partition is None else partition, []).append(row)
    batches = {}
    for number, members in rows.items():
        writer = BatchWriter(BATCH_LIMIT_BYTES)
        for row in members:
            writer.append(now_ms, raw_key, raw_values[row], pairs or None)
        batches[number] = Batch(writer.close(), members)
    return batches


def _serializer(spec: Any, field: str) -> Any:
    """The function that makes bytes of values. Without a spec: bytes and text as they are, the rest as JSON."""
    if spec is None:
        return _plain
    from ottla.serde.resolve import resolve_serializer

    return resolve_serializer(spec, field).serialize


def _plain(topic: str, value: object, headers: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    from ottla.serde.structured import json

    return json().serialize(topic, value)
