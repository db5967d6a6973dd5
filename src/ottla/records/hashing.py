"""The hashes that choose a partition: Java's murmur2, librdkafka's crc32 and fnv1a.

All take the serialized key. `partition = murmur2_partition(key, count)` is what Java's default partitioner computes,
`crc32_partition` is librdkafka's `consistent` and `consistent_random`, `fnv1a_partition` its `fnv1a`. A record without
a key has no hash: where it goes is the partitioner's own decision.

A hot module: see docs/decisions/compiled-modules.md.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence

from ottla.records import memory

_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C
_FNV_PRIME = 0x01000193
_FNV_OFFSET = 0x811C9DC5
_MASK = 0xFFFFFFFF  # a name, because C takes a literal of 32 bits for a Python integer
_SIGN = 1 << 31
_RANGE = 1 << 32


def murmur2(data: bytes) -> int:
    """Kafka's murmur2 as a signed 32-bit integer, as Java's `Utils.murmur2` gives it."""
    value = _murmur2(data, len(data))
    return value - _RANGE if value >= _SIGN else value


def murmur2_partition(key: bytes, count: int) -> int:
    """The partition of `key` among `count` for Java's default partitioner."""
    if count <= 0:
        raise ValueError(f"a topic has at least one partition, not {count}")
    return (_murmur2(key, len(key)) & 0x7FFFFFFF) % count


def murmur2_partitions(keys: Sequence[bytes | None], count: int) -> array[int]:
    """`murmur2_partition` of many keys at once; -1 where there is no key."""
    if count <= 0:
        raise ValueError(f"a topic has at least one partition, not {count}")
    buffer = bytearray(4 * len(keys))
    partitions = memory.int32s(buffer)
    for index in range(len(keys)):
        key = keys[index]
        if key is None:
            partitions[index] = -1
        else:
            data = key
            partitions[index] = (_murmur2(data, len(key)) & 0x7FFFFFFF) % count
    return array("i", bytes(buffer))


def crc32_partition(key: bytes, count: int) -> int:
    """The partition of `key` among `count` for librdkafka's default partitioner (`consistent_random`)."""
    if count <= 0:
        raise ValueError(f"a topic has at least one partition, not {count}")
    return zlib.crc32(key) % count


def fnv1a(data: bytes) -> int:
    """librdkafka's FNV-1a: the absolute value of the signed 32-bit hash."""
    value = _fnv1a(data, len(data))
    return _RANGE - value if value >= _SIGN else value


def fnv1a_partition(key: bytes, count: int) -> int:
    """The partition of `key` among `count` for librdkafka's `fnv1a` and `fnv1a_random`."""
    if count <= 0:
        raise ValueError(f"a topic has at least one partition, not {count}")
    return fnv1a(key) % count


def _murmur2(data: bytes, length: int) -> int:
    value = _SEED ^ length
    position = 0
    while length - position >= 4:
        word = data[position] | data[position + 1] << 8 | data[position + 2] << 16 | data[position + 3] << 24
        word = word * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        value = value * _MULTIPLIER & _MASK ^ word
        position += 4
    if position < length:
        word = 0
        while length > position:
            length -= 1
            word = word << 8 | data[length]
        value = (value ^ word) * _MULTIPLIER & _MASK
    value = (value ^ value >> 13) * _MULTIPLIER & _MASK
    return value ^ value >> 15


def _fnv1a(data: bytes, length: int) -> int:
    value = _FNV_OFFSET
    for position in range(length):
        value = (value ^ data[position]) * _FNV_PRIME & _MASK
    return value
