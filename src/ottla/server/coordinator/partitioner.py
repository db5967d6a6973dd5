"""Which partition of an internal topic coordinates a key: Java's String.hashCode, made positive, modulo the count."""

from __future__ import annotations


def java_string_hash(text: str) -> int:
    """Java's ``String.hashCode``: over UTF-16 units, wrapped to a signed 32-bit integer."""
    value = 0
    if text.isascii():
        for unit in text.encode("ascii"):
            value = (31 * value + unit) & 0xFFFFFFFF
    else:
        data = text.encode("utf-16-be", "surrogatepass")
        for position in range(0, len(data), 2):
            value = (31 * value + (data[position] << 8 | data[position + 1])) & 0xFFFFFFFF
    return value - 0x100000000 if value & 0x80000000 else value


def coordinator_partition(key: str, partition_count: int) -> int:
    """The partition (0 … partition_count-1) of a group id or transactional id; the hash -2^31 counts as 0."""
    value = java_string_hash(key)
    return 0 if value == -0x80000000 else abs(value) % partition_count
