"""Records as JSON objects, there and back."""

import json
import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.cli.envelope import Enveloped, read_envelope, write_envelope
from ottla.cli.formats import format_of

STRING = format_of("string")
HEADERS = st.lists(st.tuples(st.text(), st.none() | st.binary()), max_size=3).map(tuple)


@settings(derandomize=True, max_examples=100)
@given(st.none() | st.binary(), st.none() | st.binary(), HEADERS, st.sampled_from(["string", "hex", "base64", "int32"]))
def test_nothing_is_lost(key, value, headers, name):
    form = format_of(name)
    record = SimpleNamespace(
        topic="t", partition=3, offset=9, timestamp_ms=1700000000000, headers=headers, key=key, value=value
    )
    line = write_envelope(record, form, form)
    assert b"\n" not in line
    assert read_envelope(line, form, form, 0) == Enveloped(value, key, 3, 1700000000000, headers)


def test_what_it_looks_like():
    record = SimpleNamespace(
        topic="t", partition=0, offset=1, timestamp_ms=-1, headers=(("a", b"\xff"),), key=None, value=b"\xfe"
    )
    assert json.loads(write_envelope(record, STRING, STRING)) == {
        "topic": "t",
        "partition": 0,
        "offset": 1,
        "timestamp": None,
        "headers": [["a", {"base64": "/w=="}]],
        "key": None,
        "value_base64": "/g==",
    }


def test_short_forms_are_taken():
    given_ = {"value": {"a": 1}, "headers": {"n": 1, "s": "x", "none": None}, "timestamp": "2026-01-31T00:00:00Z"}
    found = read_envelope(given_, STRING, STRING, 0)
    assert found.value == b'{"a":1}'
    assert found.headers == (("n", b"1"), ("s", b"x"), ("none", None))
    assert found.timestamp_ms == 1769817600000


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([1], "an envelope is a JSON object with a value"),
        (b"{", "not JSON"),
        ({"key": "a"}, "the envelope has no value"),
        ({"valu": 1}, "no field 'valu'"),
        ({"value": 1, "partition": -1}, "partition: it has to be a number from 0 on"),
        ({"value": 1, "timestamp": "soon"}, "timestamp: 'soon' is no point in time"),
        ({"value": 1, "headers": [["a"]]}, "headers: an object, or an array of [name, value]"),
        ({"value_base64": "?"}, "value: "),
    ],
)
def test_mistakes_are_explained(document, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        read_envelope(document, STRING, STRING, 0)
