"""What is written is read again, for every message and version."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.protocol.catalog import all_messages, messages_and_versions
from ottla.protocol.codec import decode, decode_prefix, encode, encode_into

PAIRS = messages_and_versions()


def check_round_trip(message, version):
    cls = type(message)
    body = encode(message, version)
    assert decode(cls, version, body) == message
    parts = []
    encode_into(message, version, parts)
    assert b"".join(parts) == body
    framed = bytearray(b"\xff" * 3 + body + b"\xff" * 20)
    again, offset = decode_prefix(cls, version, framed, 3)
    assert offset == 3 + len(body)
    assert again == message
    assert encode(again, version) == body


@pytest.mark.parametrize("cls", all_messages().values(), ids=lambda cls: cls.__name__)
def test_every_version_round_trips(cls, make_message):
    random = Random(cls.__name__)
    for version in range(cls.VALID_VERSIONS[0], cls.VALID_VERSIONS[1] + 1):
        check_round_trip(cls(), version)
        for _ in range(3):
            check_round_trip(make_message(cls, version, random), version)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(pair=st.sampled_from(PAIRS), random=st.randoms(use_true_random=False))
def test_any_message_round_trips(make_message, pair, random):
    cls, version = pair
    check_round_trip(make_message(cls, version, random), version)


def test_every_api_has_a_version_to_round_trip():
    assert len(PAIRS) > 600
    assert {cls.__name__ for cls, _ in PAIRS} == {
        name for name, cls in all_messages().items() if cls.VALID_VERSIONS != (0, -1)
    }
