import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.binary import read_uvarint, read_varint, read_varlong, write_uvarint, write_varint

EXAMPLES = settings(derandomize=True, max_examples=100, deadline=None)
EDGES = [0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**28, 2**31 - 1, 2**31, 2**32 - 1]


@pytest.mark.parametrize("value", EDGES)
def test_uvarint_edges(value):
    encoded = write_uvarint(value)
    assert len(encoded) == max(1, -(-value.bit_length() // 7))
    assert read_uvarint(b"x" + encoded + b"y", 1) == (value, 1 + len(encoded))


@EXAMPLES
@given(st.integers(0, 2**32 - 1))
def test_uvarint_round_trips(value):
    encoded = write_uvarint(value)
    for buffer in (encoded, bytearray(encoded), memoryview(encoded)):
        assert read_uvarint(buffer, 0) == (value, len(encoded))


@EXAMPLES
@given(st.integers(-(2**63), 2**63 - 1))
def test_varlong_round_trips(value):
    encoded = write_varint(value)
    assert read_varlong(encoded, 0) == (value, len(encoded))


@EXAMPLES
@given(st.integers(-(2**31), 2**31 - 1))
def test_varint_round_trips(value):
    assert read_varint(write_varint(value), 0)[0] == value


def test_zigzag_keeps_small_values_small():
    assert [write_varint(value) for value in (0, -1, 1, -2, 63, -64, 64)] == [
        *(bytes((byte,)) for byte in (0, 1, 2, 3, 126, 127)),
        b"\x80\x01",
    ]


@pytest.mark.parametrize(
    ("read", "encoded"),
    [
        (read_uvarint, b"\xff\xff\xff\xff\x1f"),
        (read_uvarint, b"\x80\x80\x80\x80\x80\x01"),
        (read_varint, b"\xff\xff\xff\xff\x1f"),
        (read_varint, b"\x80" * 5 + b"\x01"),
        (read_varlong, b"\xff" * 9 + b"\x02"),
        (read_varlong, b"\x80" * 10 + b"\x01"),
    ],
)
def test_encoding_that_is_too_long_is_refused(read, encoded):
    with pytest.raises(ValueError, match="var"):
        read(encoded, 0)


@pytest.mark.parametrize("read", [read_uvarint, read_varint, read_varlong])
def test_end_of_buffer_is_an_index_error(read):
    for encoded in (b"", b"\x80", b"\xff\xff"):
        with pytest.raises(IndexError):
            read(encoded, 0)


@pytest.mark.parametrize("value", [-1, 2**32])
def test_only_unsigned_32_bit_values_are_uvarints(value):
    with pytest.raises(ValueError, match="32-bit"):
        write_uvarint(value)


@pytest.mark.parametrize("value", [-(2**63) - 1, 2**63])
def test_only_64_bit_values_are_varints(value):
    with pytest.raises(ValueError, match="64-bit"):
        write_varint(value)
