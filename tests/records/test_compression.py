"""Codecs: round trips, bombs, the framings of foreign writers, and foreign readers for ours."""

from __future__ import annotations

import gzip
import struct
import zlib

import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.records.batch import CorruptRecordError
from ottla.records.compression import (
    CODEC_BY_NAME,
    GZIP_LEVELS,
    LZ4_LEVELS,
    ZSTD_LEVELS,
    Codec,
    compress,
    decompress,
    decompress_lz4,
    xxh32,
)

TEXT = b"".join(b"line %d of a text that repeats itself, line %d\n" % (i, i * i) for i in range(6000))
SAMPLES = {"empty": b"", "byte": b"x", "text": TEXT, "zeros": bytes(300_000), "noise": zlib.compress(TEXT) * 5}
CODECS = [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD]
LIMIT = 8 << 20


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("sample", SAMPLES)
def test_round_trip(codec: Codec, sample: str) -> None:
    data = SAMPLES[sample]
    assert bytes(decompress(codec, compress(codec, data), LIMIT)) == data
    assert bytes(decompress(codec, memoryview(bytes(compress(codec, memoryview(data)))), len(data))) == data


@pytest.mark.parametrize(
    ("codec", "level"),
    [(Codec.GZIP, level) for level in (-1, *GZIP_LEVELS)]
    + [(Codec.LZ4, level) for level in (*LZ4_LEVELS, 2, 9, 12)]
    + [(Codec.ZSTD, level) for level in (-1, ZSTD_LEVELS[0], 0, 3, 9)],
)
def test_round_trip_at_every_kind_of_level(codec: Codec, level: int) -> None:
    for data in (TEXT, SAMPLES["noise"], b""):
        assert bytes(decompress(codec, compress(codec, data, level), LIMIT)) == data


@pytest.mark.parametrize(("codec", "low", "high"), [(Codec.GZIP, 1, 9), (Codec.LZ4, 9, 12), (Codec.ZSTD, 1, 19)])
def test_higher_level_compresses_better(codec: Codec, low: int, high: int) -> None:
    assert len(compress(codec, TEXT, high)) < len(compress(codec, TEXT, low))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CODECS), st.lists(st.binary(max_size=40), max_size=40), st.integers(1, 2000))
def test_round_trip_of_anything(codec: Codec, pieces: list[bytes], repeat: int) -> None:
    data = b"".join(pieces) * repeat
    assert bytes(decompress(codec, compress(codec, data), len(data))) == data


@pytest.mark.parametrize("codec", list(Codec))
def test_output_beyond_the_limit_is_refused(codec: Codec) -> None:
    bomb = compress(codec, bytes(4 * LIMIT))
    with pytest.raises(CorruptRecordError):
        decompress(codec, bomb, LIMIT)
    assert len(decompress(codec, bomb, 4 * LIMIT)) == 4 * LIMIT


def test_limit_holds_over_all_members_of_a_stream() -> None:
    with pytest.raises(CorruptRecordError):
        decompress(Codec.GZIP, gzip.compress(bytes(LIMIT)) * 3, 2 * LIMIT)
    with pytest.raises(CorruptRecordError):
        decompress(Codec.SNAPPY, bytes(compress(Codec.SNAPPY, bytes(LIMIT))) * 3, 2 * LIMIT)
    with pytest.raises(CorruptRecordError):
        decompress(Codec.ZSTD, bytes(compress(Codec.ZSTD, bytes(LIMIT))) * 3, 2 * LIMIT)


@pytest.mark.parametrize("codec", CODECS)
def test_truncated_data_is_corrupt(codec: Codec) -> None:
    data = bytes(compress(codec, TEXT))
    for size in [*range(1, 40), len(data) // 2, len(data) - 5, len(data) - 1]:
        try:
            result = bytes(decompress(codec, data[:size], LIMIT))
        except CorruptRecordError:
            continue
        # Chunks of snappy have no end mark: cut between two, they read as a shorter stream.
        assert codec is Codec.SNAPPY
        assert TEXT.startswith(result)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CODECS), st.binary(max_size=300), st.booleans())
def test_garbage_is_corrupt_and_never_another_error(codec: Codec, garbage: bytes, with_magic: bool) -> None:
    if with_magic:
        garbage = bytes(compress(codec, TEXT))[:7] + garbage
    try:
        assert len(decompress(codec, garbage, LIMIT)) <= LIMIT
    except CorruptRecordError:
        pass


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CODECS), st.data())
def test_mutated_data_is_corrupt_or_bounded(codec: Codec, data: st.DataObject) -> None:
    mutated = bytearray(compress(codec, TEXT[:3000]))
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(decompress(codec, mutated, LIMIT)) <= LIMIT
    except CorruptRecordError:
        pass


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_unknown_codec_is_corrupt(codec: int) -> None:
    with pytest.raises(CorruptRecordError, match="unknown"):
        decompress(codec, b"x", LIMIT)


def test_names_are_those_of_the_compression_type_setting() -> None:
    assert CODEC_BY_NAME["zstd"] is Codec.ZSTD
    assert CODEC_BY_NAME["uncompressed"] is Codec.NONE


# --- gzip


def test_gzip_of_several_members_is_read_as_one() -> None:
    assert decompress(Codec.GZIP, gzip.compress(b"one ") + gzip.compress(b"two"), LIMIT) == b"one two"
    assert decompress(Codec.GZIP, gzip.compress(b"one") + b"\0\0\0", LIMIT) == b"one"


def test_gzip_is_read_by_others() -> None:
    assert gzip.decompress(bytes(compress(Codec.GZIP, TEXT))) == TEXT


# --- snappy


def test_snappy_is_written_in_xerial_chunks_of_32_kib() -> None:
    data = bytes(compress(Codec.SNAPPY, TEXT))
    assert data[:16] == bytes.fromhex("82534e41505059000000000100000001")
    position, chunks = 16, []
    while position < len(data):
        (size,) = struct.unpack_from(">i", data, position)
        chunks.append(bytes(cramjam.snappy.decompress_raw(data[position + 4 : position + 4 + size])))
        position += 4 + size
    assert b"".join(chunks) == TEXT
    assert {len(chunk) for chunk in chunks[:-1]} == {32 * 1024}


def test_snappy_is_read_raw_and_in_concatenated_streams() -> None:
    assert bytes(decompress(Codec.SNAPPY, bytes(cramjam.snappy.compress_raw(TEXT)), LIMIT)) == TEXT
    twice = bytes(compress(Codec.SNAPPY, b"one ")) + bytes(compress(Codec.SNAPPY, b"two"))
    assert bytes(decompress(Codec.SNAPPY, twice, LIMIT)) == b"one two"


def test_snappy_claim_of_an_impossible_size_allocates_nothing() -> None:
    with pytest.raises(CorruptRecordError, match=r"impossible|more than"):
        decompress(Codec.SNAPPY, b"\xff\xff\xff\xff\x07abc", 1 << 31)


# --- lz4


def lz4_frame(flags: int, blocks: bytes, *, extra: bytes = b"", checksum: int | None = None) -> bytes:
    descriptor = bytes([flags, 0x40]) + extra
    if checksum is None:
        checksum = xxh32(descriptor) >> 8 & 0xFF
    return b"\x04\x22\x4d\x18" + descriptor + bytes([checksum]) + blocks


RAW_BLOCK = struct.pack("<I", 5 | 0x80000000) + b"hello"


def test_xxh32_agrees_with_the_published_values() -> None:
    assert xxh32(b"") == 0x02CC5D05
    assert xxh32(b"a") == 0x550D7456
    assert xxh32(b"abc") == 0x32D153FF
    assert xxh32(b"\x60\x40") >> 8 & 0xFF == 0x82


def lz4_block_sizes(data: bytes, most: int) -> list[int]:
    """What the blocks of a frame without checksums unfold to."""
    position, sizes = 7, []
    while size := struct.unpack_from("<I", data, position)[0]:
        block = data[position + 4 : position + 4 + (size & 0x7FFFFFFF)]
        sizes.append(len(block) if size >> 31 else cramjam.lz4.decompress_block_into(block, bytearray(most)))
        position += 4 + len(block)
    assert position + 4 == len(data)
    return sizes


@pytest.mark.parametrize(
    ("size", "block_size", "header"),
    [
        (65_536, 1 << 16, "04224d18604082"),
        (65_537, 1 << 18, "04224d186050fb"),
        (1 << 20, 1 << 20, "04224d18606051"),
        (5 << 20, 1 << 22, "04224d18607073"),
    ],
)
def test_lz4_is_written_as_one_frame_of_as_few_blocks_as_can_be(size: int, block_size: int, header: str) -> None:
    text = (TEXT * (size // len(TEXT) + 1))[:size]
    data = bytes(compress(Codec.LZ4, text))
    assert data[:7].hex() == header
    sizes = lz4_block_sizes(data, block_size)
    assert sizes == [block_size] * (size // block_size) + [size % block_size] * bool(size % block_size)
    assert bytes(cramjam.lz4.decompress(data)) == text
    assert bytes(decompress(Codec.LZ4, data, LIMIT)) == text


@pytest.mark.parametrize("level", [1, 12, 17])
def test_lz4_levels_write_a_frame_of_independent_blocks(level: int) -> None:
    data = bytes(compress(Codec.LZ4, TEXT, level))
    assert data[:7] == bytes.fromhex("04224d18604082")
    sizes = lz4_block_sizes(data, 1 << 16)
    assert sizes[:-1] == [1 << 16] * (len(sizes) - 1)
    assert sum(sizes) == len(TEXT)
    assert bytes(cramjam.lz4.decompress(data)) == TEXT


def test_lz4_options_of_other_writers_are_read() -> None:
    end = bytes(4)
    assert bytes(decompress(Codec.LZ4, lz4_frame(0x60, RAW_BLOCK + end), LIMIT)) == b"hello"
    with_size = lz4_frame(0x68, RAW_BLOCK + end, extra=struct.pack("<Q", 5))
    assert bytes(decompress(Codec.LZ4, with_size, LIMIT)) == b"hello"
    assert bytes(decompress(Codec.LZ4, lz4_frame(0x64, RAW_BLOCK + end + b"cccc"), LIMIT)) == b"hello"
    for options in ({"block_linked": True}, {"block_linked": False}, {"content_checksum": True}):
        compressor = cramjam.lz4.Compressor(**options)
        compressor.compress(TEXT)
        assert bytes(decompress(Codec.LZ4, bytes(compressor.finish()), LIMIT)) == TEXT


def test_lz4_block_checksum_is_checked() -> None:
    compressor = cramjam.lz4.Compressor(block_linked=False)
    compressor.compress(TEXT)
    frame = bytearray(compressor.finish())
    assert frame[4] & 0x10
    size = struct.unpack_from("<I", frame, 7)[0]
    frame[11 + size] ^= 1
    with pytest.raises(CorruptRecordError):
        decompress(Codec.LZ4, frame, LIMIT)


def test_lz4_wrong_header_checksum_is_accepted_only_where_it_was_once_written() -> None:
    frame = lz4_frame(0x60, RAW_BLOCK + bytes(4), checksum=0)
    with pytest.raises(CorruptRecordError, match="checksum"):
        decompress(Codec.LZ4, frame, LIMIT)
    assert bytes(decompress_lz4(frame, LIMIT, check_header=False)) == b"hello"


@pytest.mark.parametrize("flags", [0x20, 0x62, 0xA0])
def test_lz4_frame_of_another_version_is_corrupt(flags: int) -> None:
    with pytest.raises(CorruptRecordError, match="descriptor"):
        decompress(Codec.LZ4, lz4_frame(flags, RAW_BLOCK + bytes(4)), LIMIT)


# --- zstd


def test_zstd_without_content_size_is_read() -> None:
    compressor = cramjam.zstd.Compressor(level=3)
    for start in range(0, len(TEXT), 10_000):
        compressor.compress(TEXT[start : start + 10_000])
    assert bytes(decompress(Codec.ZSTD, bytes(compressor.finish()), LIMIT)) == TEXT


def test_zstd_of_several_frames_and_skippable_ones_is_read_as_one() -> None:
    skippable = struct.pack("<II", 0x184D2A53, 3) + b"abc"
    data = bytes(compress(Codec.ZSTD, b"one ")) + skippable + bytes(compress(Codec.ZSTD, b"two"))
    assert bytes(decompress(Codec.ZSTD, data, LIMIT)) == b"one two"


@pytest.mark.parametrize("length", [3, 20, 62, 127])
def test_lz4_block_that_begins_like_a_length_is_read_as_a_block(length: int) -> None:
    """A first record of less than 64 bytes starts with its size and two zeros: with the token, a small number."""
    data = bytes((length << 1 & 0x7F, 0, 0)) + bytes(range(1, 60)) * 5
    assert bytes(decompress(Codec.LZ4, compress(Codec.LZ4, data))) == data
