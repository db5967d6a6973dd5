"""Keys and values between bytes and what people write."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.cli.formats import FORMAT_NAMES, format_of, load_json


@pytest.mark.parametrize(
    ("name", "typed", "sent", "shown"),
    [
        ("string", b"gr\xc3\xbcn", b"gr\xc3\xbcn", b"gr\xc3\xbcn"),
        ("json", b' {"a": 1} ', b'{"a": 1}', b'{"a":1}'),
        ("pretty", b'{"a":1}', b'{"a":1}', b'{\n  "a": 1\n}'),
        ("hex", b"00ff", b"\x00\xff", b"00ff"),
        ("hex", b"0x00FF", b"\x00\xff", b"00ff"),
        ("base64", b"AP8=", b"\x00\xff", b"AP8="),
        ("raw", b"\xff", b"\xff", b"\xff"),
        ("int8", b"-1", b"\xff", b"-1"),
        ("int16", b"258", b"\x01\x02", b"258"),
        ("int32", b"-2", b"\xff\xff\xff\xfe", b"-2"),
        ("long", b"1", bytes(7) + b"\x01", b"1"),
        ("double", b"1.5", b"\x3f\xf8" + bytes(6), b"1.5"),
        ("float", b"-2", b"\xc0\x00\x00\x00", b"-2.0"),
    ],
)
def test_what_is_typed_is_sent_and_shown_again(name, typed, sent, shown):
    form = format_of(name)
    assert form.encode(typed) == sent
    assert form.show(sent) == shown


@pytest.mark.parametrize(
    ("name", "typed", "reason"),
    [
        ("json", b"{", "not JSON: "),
        ("hex", b"abc", "'abc' is not hexadecimal"),
        ("base64", b"a?b=", "'a?b=' is not base64"),
        ("int32", b"ten", "'ten' is not an integer"),
        ("int8", b"128", "128 does not fit into 8 bits"),
        ("float32", b"1e300", "does not fit into a float32"),
    ],
)
def test_what_cannot_be_sent_says_why(name, typed, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        format_of(name).encode(typed)


@pytest.mark.parametrize(
    ("name", "received", "reason"),
    [
        ("string", b"\xff", "not UTF-8 text (byte 0)"),
        ("json", b"hello", "not JSON: "),
        ("int32", b"\x00", "an int32 has 4 bytes, not 1"),
        ("float64", b"\x00", "a float64 has 8 bytes, not 1"),
    ],
)
def test_what_cannot_be_shown_says_why(name, received, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        format_of(name).show(received)


def test_an_unknown_format_names_those_there_are():
    with pytest.raises(ValueError, match="there is no format 'avro'; there are string, json"):
        format_of("avro")


@settings(derandomize=True, max_examples=50)
@given(st.sampled_from([name for name in FORMAT_NAMES if name not in ("json", "pretty", "raw")]), st.data())
def test_an_envelope_takes_what_it_gives(name, data):
    form = format_of(name)
    size = {"int8": 1, "int16": 2, "int32": 4, "int64": 8}.get(name)
    if name == "string":
        sent = data.draw(st.text()).encode()
    elif name.startswith("float"):
        sent = form.encode_value(data.draw(st.floats(width=32, allow_nan=False)))
    else:
        sent = data.draw(st.binary() if size is None else st.binary(min_size=size, max_size=size))
    assert form.encode_value(form.decode(sent)) == sent
    assert form.encode(form.show(sent)) == sent


def test_load_json_refuses_what_is_none():
    assert load_json('{"a": [1, null]}') == {"a": [1, None]}
    with pytest.raises(ValueError, match="not JSON"):
        load_json(b"\xff")
