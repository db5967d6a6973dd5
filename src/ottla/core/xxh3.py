"""XXH3, 64 bits, seed 0: the hash by which group records say which topics a group was assigned by (KIP-1101).

Plain Python, since it runs once per changed topic: some microseconds for a small topic, about a millisecond for one of
ten thousand partitions. Written after the specification of xxHash (doc/xxhash_spec.md in Cyan4973/xxHash).
"""

from __future__ import annotations

from struct import unpack_from
from typing import Final

_SECRET: Final = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8"
    "fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb17"
    "0ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_MASK: Final = (1 << 64) - 1
_PRIME32_1: Final = 0x9E3779B1
_PRIME32_2: Final = 0x85EBCA77
_PRIME32_3: Final = 0xC2B2AE3D
_PRIME64_1: Final = 0x9E3779B185EBCA87
_PRIME64_2: Final = 0xC2B2AE3D27D4EB4F
_PRIME64_3: Final = 0x165667B19E3779F9
_PRIME64_4: Final = 0x85EBCA77C2B2AE63
_PRIME64_5: Final = 0x27D4EB2F165667C5
_PRIME_MX1: Final = 0x165667919E3779F9
_PRIME_MX2: Final = 0x9FB21C651E98DF25
_STRIPE: Final = 64
_STRIPES_PER_BLOCK: Final = (len(_SECRET) - _STRIPE) // 8
_FIRST_ACCUMULATORS: Final = (
    _PRIME32_3,
    _PRIME64_1,
    _PRIME64_2,
    _PRIME64_3,
    _PRIME64_4,
    _PRIME32_2,
    _PRIME64_5,
    _PRIME32_1,
)


def xxh3_64(data: bytes) -> int:
    """The hash as an unsigned 64-bit integer."""
    length = len(data)
    if length > 240:
        return _hash_long(data)
    if length > 128:
        return _hash_129_to_240(data)
    if length > 16:
        return _hash_17_to_128(data)
    return _hash_0_to_16(data)


def xxh3_64_signed(data: bytes) -> int:
    """The hash as Java's long, which is how records carry it."""
    value = xxh3_64(data)
    return value - (1 << 64) if value >> 63 else value


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


def _u64(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")


def _folded(left: int, right: int) -> int:
    product = left * right
    return (product & _MASK) ^ (product >> 64)


def _avalanche(value: int) -> int:
    value ^= value >> 37
    value = value * _PRIME_MX1 & _MASK
    return value ^ value >> 32


def _avalanche_xxh64(value: int) -> int:
    value ^= value >> 33
    value = value * _PRIME64_2 & _MASK
    value ^= value >> 29
    value = value * _PRIME64_3 & _MASK
    return value ^ value >> 32


def _hash_0_to_16(data: bytes) -> int:
    length = len(data)
    if length > 8:
        low = _u64(data, 0) ^ _u64(_SECRET, 24) ^ _u64(_SECRET, 32)
        high = _u64(data, length - 8) ^ _u64(_SECRET, 40) ^ _u64(_SECRET, 48)
        swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
        return _avalanche((length + swapped + high + _folded(low, high)) & _MASK)
    if length >= 4:
        combined = _u32(data, length - 4) | _u32(data, 0) << 32
        value = combined ^ _u64(_SECRET, 8) ^ _u64(_SECRET, 16)
        value ^= _rotated(value, 49) ^ _rotated(value, 24)
        value = value * _PRIME_MX2 & _MASK
        value ^= (value >> 35) + length
        value = value * _PRIME_MX2 & _MASK
        return value ^ value >> 28
    if length:
        combined = data[-1] | length << 8 | data[0] << 16 | data[length >> 1] << 24
        return _avalanche_xxh64(combined ^ _u32(_SECRET, 0) ^ _u32(_SECRET, 4))
    return _avalanche_xxh64(_u64(_SECRET, 56) ^ _u64(_SECRET, 64))


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _mixed(data: bytes, offset: int, secret_offset: int) -> int:
    return _folded(
        _u64(data, offset) ^ _u64(_SECRET, secret_offset), _u64(data, offset + 8) ^ _u64(_SECRET, secret_offset + 8)
    )


def _hash_17_to_128(data: bytes) -> int:
    length = len(data)
    value = length * _PRIME64_1
    for step in range((length - 1) // 32 + 1):
        value += _mixed(data, 16 * step, 32 * step)
        value += _mixed(data, length - 16 * (step + 1), 32 * step + 16)
    return _avalanche(value & _MASK)


def _hash_129_to_240(data: bytes) -> int:
    length = len(data)
    value = length * _PRIME64_1 + sum(_mixed(data, 16 * step, 16 * step) for step in range(8))
    value = _avalanche(value & _MASK)
    value += sum(_mixed(data, 16 * step, 16 * (step - 8) + 3) for step in range(8, length // 16))
    return _avalanche((value + _mixed(data, length - 16, 136 - 17)) & _MASK)


def _hash_long(data: bytes) -> int:
    length = len(data)
    accumulators = list(_FIRST_ACCUMULATORS)
    block_size = _STRIPE * _STRIPES_PER_BLOCK
    for block in range((length - 1) // block_size):
        for stripe in range(_STRIPES_PER_BLOCK):
            _accumulate(accumulators, data, block * block_size + stripe * _STRIPE, 8 * stripe)
        _scramble(accumulators)
    begin = (length - 1) // block_size * block_size
    for stripe in range((length - 1 - begin) // _STRIPE):
        _accumulate(accumulators, data, begin + stripe * _STRIPE, 8 * stripe)
    _accumulate(accumulators, data, length - _STRIPE, len(_SECRET) - _STRIPE - 7)
    value = length * _PRIME64_1
    for pair in range(4):
        secret_offset = 11 + 16 * pair
        value += _folded(
            accumulators[2 * pair] ^ _u64(_SECRET, secret_offset),
            accumulators[2 * pair + 1] ^ _u64(_SECRET, secret_offset + 8),
        )
    return _avalanche(value & _MASK)


def _accumulate(accumulators: list[int], data: bytes, offset: int, secret_offset: int) -> None:
    words = unpack_from("<8Q", data, offset)
    keys = unpack_from("<8Q", _SECRET, secret_offset)
    for lane in range(8):
        word = words[lane]
        keyed = word ^ keys[lane]
        accumulators[lane ^ 1] = accumulators[lane ^ 1] + word & _MASK
        accumulators[lane] = accumulators[lane] + (keyed & 0xFFFFFFFF) * (keyed >> 32) & _MASK


def _scramble(accumulators: list[int]) -> None:
    keys = unpack_from("<8Q", _SECRET, len(_SECRET) - _STRIPE)
    for lane in range(8):
        value = accumulators[lane]
        accumulators[lane] = (value ^ value >> 47 ^ keys[lane]) * _PRIME32_1 & _MASK
