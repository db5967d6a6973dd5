"""Variable-length integers as Kafka writes them: LEB128, seven bits a byte, least significant group first.

`uvarint` is unsigned and at most 32 bits (lengths, counts and tags of the flexible encoding); `varint` and `varlong`
are zigzag-encoded and used inside record batches. Readers take any buffer that gives integers by index and return
`(value, next_offset)`; they raise ValueError for an encoding that is too long and IndexError when the buffer ends.
"""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview
"""What encoded data may come in: readers index and slice it, nothing else."""

UVARINT_BYTES = tuple(bytes((value,)) for value in range(128))
"""The encodings that take one byte."""


def write_uvarint(value: int) -> bytes:
    """Encode `value` (0 … 2**32 - 1)."""
    if 0 <= value < 128:
        return UVARINT_BYTES[value]
    if not 0 <= value < 1 << 32:
        raise ValueError(f"not an unsigned 32-bit value: {value}")
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_uvarint(buffer: Buffer, offset: int) -> tuple[int, int]:
    """Decode up to five bytes."""
    value = buffer[offset]
    offset += 1
    if value < 128:
        return value, offset
    return read_uvarint_rest(buffer, offset, value)


def read_uvarint_rest(buffer: Buffer, offset: int, first: int) -> tuple[int, int]:
    """Go on after a `first` byte of 128 or more, which callers have usually looked at themselves."""
    value = first & 127
    for shift in (7, 14, 21, 28):
        byte = buffer[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >= 1 << 32:
                break
            return value, offset
    raise ValueError("a varint is longer than 32 bits")


def write_varint(value: int) -> bytes:
    """Encode a signed value of at most 64 bits, zigzag."""
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"not a signed 64-bit value: {value}")
    value = (value << 1) ^ (value >> 63)
    if value < 128:
        return UVARINT_BYTES[value]
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(buffer: Buffer, offset: int) -> tuple[int, int]:
    """Decode a zigzag value of at most 32 bits (five bytes)."""
    value, offset = _read_groups(buffer, offset, 5)
    if value >= 1 << 32:
        raise ValueError("a varint is longer than 32 bits")
    return (value >> 1) ^ -(value & 1), offset


def read_varlong(buffer: Buffer, offset: int) -> tuple[int, int]:
    """Decode a zigzag value of at most 64 bits (ten bytes)."""
    value, offset = _read_groups(buffer, offset, 10)
    if value >= 1 << 64:
        raise ValueError("a varlong is longer than 64 bits")
    return (value >> 1) ^ -(value & 1), offset


def _read_groups(buffer: Buffer, offset: int, limit: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * limit, 7):
        byte = buffer[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
    raise ValueError(f"a varint takes more than {limit} bytes")
