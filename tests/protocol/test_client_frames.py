"""Memory of large responses is used again, and never while somebody looks into it."""

from __future__ import annotations

from random import Random

from ottla.core.binary import Buffer
from ottla.protocol.codec import encode
from ottla.protocol.connection import (
    CLIENT_BYTES,
    NEED_DATA,
    QUIET_RECEIVES,
    ClientConnection,
    NeedData,
    Response,
)
from ottla.protocol.framing import SIZE
from ottla.protocol.messages.fetch import FetchableTopicResponse, FetchRequest, FetchResponse, PartitionData

VERSION = 12


def answer(correlation_id: int, records: bytes) -> bytes:
    partition = PartitionData(partition_index=0, records=records)
    body = encode(FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=[partition])]), VERSION)
    frame = correlation_id.to_bytes(4, "big") + b"\0" + body
    return SIZE.pack(len(frame)) + frame


def fetch(connection: ClientConnection, correlation_id: int, records: bytes) -> Buffer:
    """Receive an answer as a transport does: as much as there is room for, then a look whether that was all."""
    connection.send(FetchRequest(), VERSION)
    data = answer(correlation_id, records)
    response: Response | NeedData = NEED_DATA
    while response is NEED_DATA:
        room = connection.get_buffer()
        size = min(len(room), len(data), CLIENT_BYTES)
        room[:size] = data[:size]
        del room
        connection.bytes_received(size)
        data = data[size:]
        response = connection.next_response()
    assert isinstance(response, Response)
    assert isinstance(response.body, FetchResponse)
    found = response.body.responses[0].partitions[0].records
    assert found is not None
    return found


def test_what_is_held_stays_what_it_was() -> None:
    chance = Random(5)
    connection = ClientConnection()
    held: list[tuple[Buffer, bytes]] = []
    memories = set()
    for number in range(300):
        content = chance.randbytes(chance.choice((10, CLIENT_BYTES, 3 * CLIENT_BYTES, 5 * CLIENT_BYTES)))
        records = fetch(connection, number, content)
        if len(content) > CLIENT_BYTES:
            assert isinstance(records, memoryview)
            assert isinstance(records.obj, bytearray)
            memories.add(id(records.obj))
        held.append((records, content))
        del records
        while len(held) > chance.randrange(1, 6):
            del held[chance.randrange(len(held))]
        assert all(bytes(found) == expected for found, expected in held)
    assert len(memories) < 100  # of some 150


def test_quiet_connection_gives_memory_back() -> None:
    connection = ClientConnection()
    records = fetch(connection, 0, bytes(4 * CLIENT_BYTES))
    assert isinstance(records, memoryview)
    first = id(records.obj)
    del records
    records = fetch(connection, 1, bytes(4 * CLIENT_BYTES))
    assert isinstance(records, memoryview)
    assert id(records.obj) == first
    del records
    for number in range(2, 3 + QUIET_RECEIVES):
        fetch(connection, number, b"small")
    assert not connection._frames._frames
