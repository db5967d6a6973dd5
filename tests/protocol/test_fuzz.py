"""Whatever bytes come in: a message or ProtocolError, in bounded time and memory."""

import tracemalloc
from random import Random

import pytest

from ottla.protocol.catalog import all_messages, messages_and_versions
from ottla.protocol.codec import ProtocolError, decode, decoder, encode
from ottla.protocol.headers import parse_request_header
from ottla.protocol.layout import Layout

HUGE = (
    b"\xff\xff\xff\xff\x07" * 20,  # compact lengths just below 2**31
    b"\x7f\xff\xff\xff" * 20,  # fixed lengths just below 2**31
    b"\x00\x01" + b"\x7f\xff\xff\xff" * 20,
    b"\x01" + b"\xff\xff\xff\xff\x07" * 20,
    b"\x00\x7f" * 40,
    b"\xfe\xff\xff\xff\x0f" * 20,
    b"\x80" * 80,
)


def attempt(cls, version, data):
    try:
        decode(cls, version, data)
    except ProtocolError:
        return False
    return True


@pytest.mark.parametrize("cls", all_messages().values(), ids=lambda cls: cls.__name__)
def test_bad_bytes_are_protocol_errors_and_nothing_else(cls, make_message):
    random = Random(cls.__name__)
    for version in range(cls.VALID_VERSIONS[0], cls.VALID_VERSIONS[1] + 1):
        for size in (0, 1, 5, 20, 60):
            attempt(cls, version, random.randbytes(size))
            attempt(cls, version, bytes(random.choices(b"\0\0\0\0\1\1\2\3\xff", k=size)))
        for data in HUGE:
            attempt(cls, version, data)
        body = encode(make_message(cls, version, random), version)
        assert attempt(cls, version, body)
        assert not attempt(cls, version, body + b"\0")
        for size in random.sample(range(len(body)), min(len(body), 8)):
            assert not attempt(cls, version, body[:size])
            # The same in a longer buffer: the limit is the frame's, not the buffer's.
            with pytest.raises(ProtocolError):
                decoder(cls, version)(bytearray(body), 0, size)
        for _ in range(12 if body else 0):
            mutated = bytearray(body)
            for _ in range(random.randrange(1, 4)):
                mutated[random.randrange(len(mutated))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            attempt(cls, version, mutated)


def test_a_length_allocates_nothing_before_its_bytes_are_there():
    pairs = messages_and_versions()[::7]
    for cls, version in pairs:
        decoder(cls, version)
        attempt(cls, version, HUGE[0])
    for cls, version in pairs:
        for data in HUGE:
            tracemalloc.start()
            attempt(cls, version, data)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 64 * 1024, (cls, version, data[:8])


def test_no_array_element_is_free():
    """An array's count is bounded by the bytes that remain, as long as each element takes at least one."""

    def elements(layout, cls):
        for struct in layout.structs(cls):
            for field in struct.FIELDS:
                if field.type == "array" and not layout.is_absent(field):
                    yield layout.smallest_element(field)

    sizes = [size for cls, version in messages_and_versions() for size in elements(Layout(cls, version), cls)]
    assert min(sizes) >= 1


def test_bad_request_headers_are_protocol_errors():
    random = Random(7)
    for _ in range(3000):
        start = random.choice((b"", b"\0\x12\0\3", b"\0\0\0\x0d", b"\0\1\0\4", b"\x7f\xff\xff\xff"))
        data = start + bytes(random.choices(b"\0\0\0\1\1\x7f\x80\xff", k=random.randrange(30)))
        try:
            *_, offset = parse_request_header(data, 0, len(data))
        except ProtocolError:
            continue
        assert offset <= len(data)
