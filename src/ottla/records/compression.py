"""The five codecs of a record batch, in the framings that Kafka's clients read and write.

`compress` writes what Java's producer writes (gzip stream, xerial-framed snappy, one lz4 frame of independent blocks,
one zstd frame); `decompress` accepts all that Java's consumer accepts, and never makes more than `limit_bytes`
of it, whatever the input claims. The native codecs are imported on first use: a broker that only moves batches
never loads them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from ottla.core.binary import Buffer
from ottla.records.batch import CorruptRecordError


class Codec(IntEnum):
    """Compression codec: the low three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


CODEC_BY_NAME = {"uncompressed": Codec.NONE} | {codec.name.lower(): codec for codec in Codec}

# Nobody writes batches this large; a batch that unfolds to more is taken for a bomb.
DEFAULT_LIMIT_BYTES = 128 * 1024 * 1024


class TooLargeError(CorruptRecordError):
    """Data that becomes longer than it may; perhaps there is nothing else wrong with it."""


GZIP_LEVELS = (1, 9)
GZIP_DEFAULT_LEVEL = -1
LZ4_LEVELS = (1, 17)
LZ4_DEFAULT_LEVEL = 9
ZSTD_LEVELS = (-131072, 22)
ZSTD_DEFAULT_LEVEL = 3


def compress(codec: int, data: Buffer, level: int | None = None) -> Buffer:
    """Compress; `level` as in `compression.<codec>.level` (KIP-390), None for the codec's default."""
    return _COMPRESSORS[codec](data, level)


def decompress(codec: int, data: Buffer, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> Buffer:
    """Decompress; `CorruptRecordError` when it is damaged or cut off, `TooLargeError` when it would become longer than
    `limit_bytes`.
    """
    try:
        decompressor = _DECOMPRESSORS[codec]
    except KeyError:
        raise CorruptRecordError(f"unknown compression codec {codec}") from None
    try:
        return decompressor(data, limit_bytes)
    except (_cramjam_error(), zlib.error, struct.error) as error:
        raise CorruptRecordError(f"{Codec(codec).name.lower()} data is corrupt: {error}") from error


def decompress_lz4(data: Buffer, limit_bytes: int, *, check_header: bool = True) -> Buffer:
    """Read the first LZ4 frame. Messages of magic 0 carry a wrong header checksum: `check_header` False for them."""
    view = memoryview(data)
    if len(view) < 7 or view[:4] != _LZ4_MAGIC:
        raise CorruptRecordError("lz4 data does not start with the magic of a frame")
    flags, block_descriptor = view[4], view[5]
    block_size = _LZ4_BLOCK_SIZES.get(block_descriptor)
    if flags & 0xC2 != 0x40 or block_size is None:
        raise CorruptRecordError(f"unsupported lz4 frame descriptor {flags:#04x} {block_descriptor:#04x}")
    position = 6 + (8 if flags & _LZ4_CONTENT_SIZE else 0) + (4 if flags & _LZ4_DICTIONARY else 0)
    if position >= len(view):
        raise CorruptRecordError("lz4 frame header is cut off")
    if check_header and view[position] != xxh32(bytes(view[4:position])) >> 8 & 0xFF:
        raise CorruptRecordError("lz4 frame header has a wrong checksum")
    blocks, end = _lz4_blocks(view, position + 1, 4 if flags & _LZ4_BLOCK_CHECKSUM else 0)
    if flags & (_LZ4_BLOCK_CHECKSUM | _LZ4_DICTIONARY) or not flags & _LZ4_INDEPENDENT:
        # Checksums to verify, or blocks that refer to each other: the library reads the frame, into a buffer of ours.
        end = min(end + (4 if flags & _LZ4_CONTENT_CHECKSUM else 0), len(view))
        return _into_bounded(_codecs().lz4.decompress_into, view[:end], len(blocks) * block_size, limit_bytes)
    return _decompress_lz4_blocks(blocks, block_size, limit_bytes)


def xxh32(data: bytes) -> int:
    """XXH32 with seed 0, for inputs shorter than 16 bytes (a frame descriptor has at most 14)."""
    assert len(data) < 16
    value = _PRIME_5 + len(data)
    whole = len(data) & ~3
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        value = _rotate(value + word * _PRIME_3, 17) * _PRIME_4
    for byte in data[whole:]:
        value = _rotate(value + byte * _PRIME_5, 11) * _PRIME_1
    value &= 0xFFFFFFFF
    value = (value ^ value >> 15) * _PRIME_2 & 0xFFFFFFFF
    value = (value ^ value >> 13) * _PRIME_3 & 0xFFFFFFFF
    return value ^ value >> 16


_PRIME_1, _PRIME_2, _PRIME_3, _PRIME_4, _PRIME_5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393


def _rotate(value: int, count: int) -> int:
    value &= 0xFFFFFFFF
    return (value << count | value >> (32 - count)) & 0xFFFFFFFF


_library: Any = None


def _codecs() -> Any:
    """The cramjam module, imported on first use."""
    global _library
    if _library is None:
        import cramjam

        _library = cramjam
    return _library


def _cramjam_error() -> type[Exception]:
    """What to catch: evaluated only when something was raised, and nothing of cramjam is raised before its import."""
    return _library.DecompressionError if _library is not None else zlib.error


def _into_bounded(
    decompress_into: Callable[[Buffer, bytearray], int], data: Buffer, at_most: int, limit_bytes: int
) -> Buffer:
    """Decompress into a buffer of the proven maximum size, or of the limit, where running over is an error."""
    output = bytearray(min(at_most, limit_bytes))
    try:
        count = decompress_into(data, output)
    except _cramjam_error() as error:
        if at_most > limit_bytes:
            raise _too_long(limit_bytes) from error
        raise
    del output[count:]
    return output


def _too_long(limit_bytes: int) -> TooLargeError:
    return TooLargeError(f"records decompress to more than {limit_bytes} bytes")


# --- none


def _copy(data: Buffer, level: int | None) -> Buffer:
    return data


def _identity(data: Buffer, limit_bytes: int) -> Buffer:
    if len(data) > limit_bytes:
        raise _too_long(limit_bytes)
    return data


# --- gzip

_GZIP_WINDOW_BITS = 31  # 15, plus 16 for the gzip header and trailer
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_FIRST_PIECE = 512


def _compress_gzip(data: Buffer, level: int | None) -> bytes:
    stream = zlib.compressobj(GZIP_DEFAULT_LEVEL if level is None else level, zlib.DEFLATED, _GZIP_WINDOW_BITS)
    return stream.compress(data) + stream.flush()


def _decompress_gzip(data: Buffer, limit_bytes: int) -> bytes:
    pieces: list[bytes] = []
    view = memoryview(data)
    remaining = limit_bytes
    position = 0
    while True:
        member = zlib.decompressobj(_GZIP_WINDOW_BITS)
        # What a member leaves over is copied: with all that follows it, thousands of members would take a square of it.
        # The first one is nearly always the only one.
        fed = len(view) if not position else _GZIP_FIRST_PIECE
        while not member.eof:
            piece = view[position : position + fed]
            if not piece:
                raise CorruptRecordError("gzip data is cut off")
            output = member.decompress(piece, remaining + 1)
            if len(output) > remaining:
                raise _too_long(limit_bytes)
            pieces.append(output)
            remaining -= len(output)
            position += len(piece) - len(member.unused_data)
            fed *= 2
        # As Java does: what follows a member and is not another one is ignored.
        if view[position : position + 2] != _GZIP_MAGIC:
            return b"".join(pieces) if len(pieces) > 1 else output


# --- snappy

_XERIAL_HEADER = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
_XERIAL_MAGIC = _XERIAL_HEADER[:8]
_XERIAL_CHUNK = 32 * 1024
_LENGTH = struct.Struct(">I")


def _compress_snappy(data: Buffer, level: int | None) -> bytes:
    compress_raw = _codecs().snappy.compress_raw
    pieces: list[Buffer] = [_XERIAL_HEADER]
    view = memoryview(data)
    for start in range(0, len(view), _XERIAL_CHUNK):
        block = compress_raw(view[start : start + _XERIAL_CHUNK])
        pieces += (_LENGTH.pack(len(block)), block)
    return b"".join(pieces)


def _decompress_snappy(data: Buffer, limit_bytes: int) -> Buffer:
    view = memoryview(data)
    if view[:8] != _XERIAL_MAGIC:
        return _decompress_snappy_block(view, limit_bytes, limit_bytes)
    pieces: list[Buffer] = []
    remaining = limit_bytes
    position = 0
    while position < len(view):
        if view[position : position + 8] == _XERIAL_MAGIC:  # streams may follow one another, each with its header
            if len(view) - position < len(_XERIAL_HEADER):
                raise CorruptRecordError("snappy header is cut off")
            position += len(_XERIAL_HEADER)
            continue
        start = position + 4
        (length,) = _LENGTH.unpack_from(view, position)
        position = start + length
        if position > len(view):
            raise CorruptRecordError("snappy chunk is cut off")
        piece = _decompress_snappy_block(view[start:position], remaining, limit_bytes)
        remaining -= len(piece)
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _decompress_snappy_block(block: memoryview, remaining: int, limit_bytes: int) -> Buffer:
    snappy = _codecs().snappy
    size = snappy.decompress_raw_len(block)
    if size > remaining:
        raise _too_long(limit_bytes)
    # No element of the format yields more than 64 bytes, and each takes two: a larger claim is not worth the memory.
    if size > len(block) * 64:
        raise CorruptRecordError("snappy block claims an impossible size")
    output = bytearray(size)
    if snappy.decompress_raw_into(block, output) != size:
        raise CorruptRecordError("snappy block is shorter than it claims")
    return output


# --- lz4

_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_LZ4_INDEPENDENT = 0x20
_LZ4_BLOCK_CHECKSUM = 0x10
_LZ4_CONTENT_SIZE = 0x08
_LZ4_CONTENT_CHECKSUM = 0x04
_LZ4_DICTIONARY = 0x01
_LZ4_BLOCK_SIZES = {0x40: 1 << 16, 0x50: 1 << 18, 0x60: 1 << 20, 0x70: 1 << 22}
_LZ4_UNCOMPRESSED_BLOCK = 0x80000000
# Version 1, independent blocks of 64 KiB, 256 KiB, 1 MiB or 4 MiB; then the second byte of the xxh32 of the two.
_LZ4_HEADERS = {
    1 << 16: _LZ4_MAGIC + b"\x60\x40\x82",
    1 << 18: _LZ4_MAGIC + b"\x60\x50\xfb",
    1 << 20: _LZ4_MAGIC + b"\x60\x60\x51",
    1 << 22: _LZ4_MAGIC + b"\x60\x70\x73",
}
_LZ4_LARGEST_BLOCK = 1 << 22
_LZ4_END_MARK = bytes(4)
_LZ4_HIGHEST_LEVEL = 12  # Java's 13 to 17 do the same as this one
_LITTLE_LENGTH = struct.Struct("<I")


def _compress_lz4(data: Buffer, level: int | None) -> bytes:
    view = memoryview(data)
    if level is not None and level != LZ4_DEFAULT_LEVEL:
        return _compress_lz4_slowly(view, level)
    # Java's default level, too, is the fast compressor; only other levels choose the high compression one.
    compress_block = _codecs().lz4.compress_block
    # As few blocks as can be: while a block is compressed other threads run, and after each this one has to wait for
    # the interpreter again.
    block_size = next((size for size in _LZ4_HEADERS if size >= len(view)), _LZ4_LARGEST_BLOCK)
    pieces: list[Buffer] = [_LZ4_HEADERS[block_size]]
    for start in range(0, len(view), block_size):
        raw = view[start : start + block_size]
        block = compress_block(raw, store_size=False)
        if len(block) < len(raw):
            pieces += (_LITTLE_LENGTH.pack(len(block)), block)
        else:
            pieces += (_LITTLE_LENGTH.pack(len(raw) | _LZ4_UNCOMPRESSED_BLOCK), raw)
    pieces.append(_LZ4_END_MARK)
    return b"".join(pieces)


def _compress_lz4_slowly(view: memoryview, level: int) -> bytes:
    """High compression exists only for whole frames, written with block checksums: take its blocks into our frame."""
    compressor = _codecs().lz4.Compressor(
        level=min(level, _LZ4_HIGHEST_LEVEL), content_checksum=False, block_linked=False
    )
    compressor.compress(bytes(view))  # it takes nothing else
    frame = memoryview(compressor.finish())
    block_size = _LZ4_BLOCK_SIZES.get(frame[5])
    if block_size is None or not frame[4] & _LZ4_INDEPENDENT:
        raise AssertionError(f"the lz4 library wrote an unexpected frame: {bytes(frame[4:6]).hex()}")
    blocks, _ = _lz4_blocks(frame, 7, 4 if frame[4] & _LZ4_BLOCK_CHECKSUM else 0)
    pieces: list[Buffer] = [_LZ4_HEADERS[block_size]]
    for is_raw, block in blocks:
        pieces += (_LITTLE_LENGTH.pack(len(block) | (_LZ4_UNCOMPRESSED_BLOCK if is_raw else 0)), block)
    pieces.append(_LZ4_END_MARK)
    return b"".join(pieces)


def _lz4_blocks(view: memoryview, position: int, checksum_size: int) -> tuple[list[tuple[bool, memoryview]], int]:
    """The blocks of a frame (stored uncompressed or not, bytes) and the position after its end mark."""
    blocks: list[tuple[bool, memoryview]] = []
    while True:
        (word,) = _LITTLE_LENGTH.unpack_from(view, position)
        position += 4
        if word == 0:
            return blocks, position
        end = position + (word & 0x7FFFFFFF)
        if end + checksum_size > len(view):
            raise CorruptRecordError("lz4 block is cut off")
        blocks.append((word & _LZ4_UNCOMPRESSED_BLOCK != 0, view[position:end]))
        position = end + checksum_size


def _decompress_lz4_blocks(blocks: list[tuple[bool, memoryview]], block_size: int, limit_bytes: int) -> Buffer:
    decompress_block_into = _codecs().lz4.decompress_block_into
    output = bytearray(min(len(blocks) * block_size, limit_bytes))
    target = memoryview(output)
    end = 0
    for is_raw, block in blocks:
        if is_raw:
            count = len(block)
            if count > block_size:
                raise CorruptRecordError("lz4 block is larger than its frame allows")
            if end + count > len(output):
                raise _too_long(limit_bytes)
            target[end : end + count] = block
        else:
            # Not told the length, the library may take the first bytes of a block for it.
            room = min(block_size, len(output) - end)
            try:
                count = decompress_block_into(block, target[end : end + room], output_len=room)
            except _cramjam_error() as error:
                if room < block_size:
                    raise _too_long(limit_bytes) from error
                raise
        end += count
    target.release()
    del output[end:]
    return output


# --- zstd

_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_ZSTD_MAXIMUM_BLOCK = 128 * 1024


def _compress_zstd(data: Buffer, level: int | None) -> Buffer:
    output: Buffer = _codecs().zstd.compress(data, level=ZSTD_DEFAULT_LEVEL if level is None else level)
    return output


def _decompress_zstd(data: Buffer, limit_bytes: int) -> Buffer:
    view = memoryview(data)
    return _into_bounded(_codecs().zstd.decompress_into, view, _zstd_maximum_size(view), limit_bytes)


def _zstd_maximum_size(view: memoryview) -> int:
    """What the frames can unfold to at most, from their block headers (RFC 8878): the content size may be missing."""
    total = 0
    position = 0
    while position < len(view):
        (magic,) = _LITTLE_LENGTH.unpack_from(view, position)
        if magic in _ZSTD_SKIPPABLE:
            position += 8 + _LITTLE_LENGTH.unpack_from(view, position + 4)[0]
            continue
        if magic != _ZSTD_MAGIC or len(view) - position < 6:
            raise CorruptRecordError("zstd data does not start with the magic of a frame")
        descriptor = view[position + 4]
        single_segment = descriptor >> 5 & 1
        content_size_bytes = (single_segment, 2, 4, 8)[descriptor >> 6]
        position += 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3] + content_size_bytes
        is_last = False
        while not is_last:
            if position + 3 > len(view):
                raise CorruptRecordError("zstd frame is cut off")
            block = view[position] | view[position + 1] << 8 | view[position + 2] << 16
            is_last = block & 1 != 0
            kind, size = block >> 1 & 3, block >> 3
            total += _ZSTD_MAXIMUM_BLOCK if kind == 2 else size
            position += 3 + (1 if kind == 1 else size)
        position += 4 if descriptor & 4 else 0
    return total


_COMPRESSORS: dict[int, Callable[[Buffer, int | None], Buffer]] = {
    Codec.NONE: _copy,
    Codec.GZIP: _compress_gzip,
    Codec.SNAPPY: _compress_snappy,
    Codec.LZ4: _compress_lz4,
    Codec.ZSTD: _compress_zstd,
}
_DECOMPRESSORS: dict[int, Callable[[Buffer, int], Buffer]] = {
    Codec.NONE: _identity,
    Codec.GZIP: _decompress_gzip,
    Codec.SNAPPY: _decompress_snappy,
    Codec.LZ4: decompress_lz4,
    Codec.ZSTD: _decompress_zstd,
}
