"""A Kafka client on plain sockets: the few requests that a load needs, at versions that every Kafka of today serves.

It shares no code with the broker on purpose: what it says about offsets, checksums and order is a second opinion.
ApiVersions v0, Metadata v4, Produce v3, Fetch v4, ListOffsets v1, InitProducerId v0.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import crc32c

if TYPE_CHECKING:
    from benchmarks.wire_door import Door

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, CREATE_TOPICS, INIT_PRODUCER_ID = 0, 1, 2, 3, 18, 19, 22
EARLIEST, LATEST = -2, -1
COORDINATOR_LOAD_IN_PROGRESS = 14
HEADER_BYTES = 61

Buffer = bytes | bytearray | memoryview


class WireError(Exception):
    """The broker answered with an error code, closed the connection or sent something that cannot be."""

    def __init__(self, message: str, code: int = -1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Batch:
    """One record batch v2 as it was read, with what its header says."""

    base_offset: int
    last_offset: int
    attributes: int
    producer_id: int
    base_sequence: int
    record_count: int
    crc_matches: bool
    records: bytes

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & 0x20)

    def values(self) -> list[bytes | None]:
        """The record values; the batch must not be compressed."""
        if self.attributes & 7:
            raise WireError("a compressed batch")
        values: list[bytes | None] = []
        position = 0
        for _ in range(self.record_count):
            _, position = _read_varint(self.records, position)
            position += 1
            _, position = _read_varint(self.records, position)
            _, position = _read_varint(self.records, position)
            key_size, position = _read_varint(self.records, position)
            position += max(key_size, 0)
            value_size, position = _read_varint(self.records, position)
            values.append(None if value_size < 0 else bytes(self.records[position : position + value_size]))
            position += max(value_size, 0)
            header_count, position = _read_varint(self.records, position)
            for _ in range(header_count):
                size, position = _read_varint(self.records, position)
                position += size
                size, position = _read_varint(self.records, position)
                position += max(size, 0)
        return values


def record_batch(
    values: Iterable[bytes],
    timestamp_ms: int | None = None,
    *,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
) -> bytes:
    """An uncompressed record batch v2 with these values and null keys."""
    timestamp_ms = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
    records = bytearray()
    count = 0
    for count, value in enumerate(values, 1):
        body = b"\x00" + _varint(0) + _varint(count - 1) + _varint(-1) + _varint(len(value)) + value + _varint(0)
        records += _varint(len(body)) + body
    checked = (
        struct.pack(
            ">hiqqqhii", 0, count - 1, timestamp_ms, timestamp_ms, producer_id, producer_epoch, base_sequence, count
        )
        + records
    )
    return struct.pack(">qiib", 0, len(checked) + 9, -1, 2) + struct.pack(">I", crc32c.crc32c(checked)) + checked


def batches(data: Buffer) -> Iterator[Batch]:
    """The whole batches at the start of `data`; a last one that was cut off is left out."""
    position = 0
    while position + HEADER_BYTES <= len(data):
        base_offset, length, _, magic, crc = struct.unpack_from(">qiibI", data, position)
        end = position + 12 + length
        if end > len(data):
            return
        if magic != 2 or length < HEADER_BYTES - 12:
            raise WireError(f"no record batch at byte {position}: magic {magic}, length {length}")
        attributes, delta, _, _, producer_id, _, sequence, count = struct.unpack_from(">hiqqqhii", data, position + 21)
        matches = crc32c.crc32c(bytes(data[position + 21 : end])) == crc
        records = bytes(data[position + HEADER_BYTES : end])
        yield Batch(base_offset, base_offset + delta, attributes, producer_id, sequence, count, matches, records)
        position = end


class Connection:
    """One blocking connection. A response is a memoryview that is valid until the next one is received."""

    def __init__(self, bootstrap: str, timeout: float = 60.0, door: Door | None = None) -> None:
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation_id = 0
        self._buffer = bytearray(1 << 16)
        if door is not None:
            try:
                self.socket = door.wrap(self.socket, host)
                door.log_in(self)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def frame(self, api_key: int, version: int, body: bytes) -> bytes:
        self._correlation_id += 1
        header = struct.pack(">hhi", api_key, version, self._correlation_id) + _string("benchmark")
        return struct.pack(">i", len(header) + len(body)) + header + body

    def send(self, api_key: int, version: int, body: bytes) -> None:
        self.socket.sendall(self.frame(api_key, version, body))

    def receive(self) -> memoryview:
        """The body of the next response, after the correlation id."""
        view = memoryview(self._buffer)
        self._read_exactly(view[:4])
        size: int = struct.unpack_from(">i", self._buffer)[0]
        if size > len(self._buffer):
            view.release()
            self._buffer = bytearray(size * 2)
            view = memoryview(self._buffer)
        self._read_exactly(view[:size])
        return view[4:size]

    def call(self, api_key: int, version: int, body: bytes) -> memoryview:
        self.send(api_key, version, body)
        return self.receive()

    def _read_exactly(self, view: memoryview) -> None:
        got = 0
        while got < len(view):
            count = self.socket.recv_into(view[got:])
            if not count:
                raise WireError("the broker closed the connection")
            got += count

    # requests

    def api_versions(self) -> dict[int, tuple[int, int]]:
        response = bytes(self.call(API_VERSIONS, 0, b""))
        error, count = struct.unpack_from(">hi", response)
        _check(error, "ApiVersions")
        return {key: (low, high) for key, low, high in struct.iter_unpack(">hhh", response[6 : 6 + 6 * count])}

    def metadata(self, topics: Sequence[str], *, auto_create: bool = False) -> Metadata:
        return Metadata.read(bytes(self.call(METADATA, 4, metadata_body(topics, auto_create=auto_create))))

    def produce(self, topic: str, partition: int, batch: bytes, acks: int = -1) -> int:
        """The base offset that the batch got."""
        return check_produce(self.call(PRODUCE, 3, produce_body(topic, [(partition, batch)], acks)))

    def fetch(
        self, topic: str, partition: int, offset: int, *, max_wait_ms: int = 0, max_bytes: int = 1 << 20
    ) -> bytes:
        """The record bytes from the batch that holds `offset` on."""
        body = fetch_body(topic, {partition: offset}, max_wait_ms=max_wait_ms, partition_max_bytes=max_bytes)
        for _, error, records in read_fetch(self.call(FETCH, 4, body)):
            _check(error, f"Fetch of {topic}-{partition} at {offset}")
            return bytes(records)
        raise WireError("Fetch answered without the partition")

    def read_all(self, topic: str, partition: int) -> Iterator[Batch]:
        """Every batch from the log start to the log end as of now."""
        offset, end = self.list_offset(topic, partition, EARLIEST), self.list_offset(topic, partition, LATEST)
        while offset < end:
            found = False
            for batch in batches(self.fetch(topic, partition, offset)):
                found = True
                yield batch
                offset = batch.last_offset + 1
            if not found:
                raise WireError(f"{topic}-{partition}: nothing to read at {offset}, though the log ends at {end}")

    def list_offset(self, topic: str, partition: int, timestamp_ms: int) -> int:
        body = struct.pack(">ii", -1, 1) + _string(topic) + struct.pack(">iiq", 1, partition, timestamp_ms)
        response = self.call(LIST_OFFSETS, 1, body)
        error, _, offset = struct.unpack_from(">hqq", response, 4 + 2 + len(topic.encode()) + 4 + 4)
        _check(error, f"ListOffsets of {topic}-{partition}")
        return int(offset)

    def init_producer_id(self) -> tuple[int, int]:
        """A new producer id and its epoch. A broker that has only just started may still wait for its block of ids."""
        deadline = time.monotonic() + 30
        while True:
            response = self.call(INIT_PRODUCER_ID, 0, struct.pack(">hi", -1, 60_000))
            _, error, producer_id, epoch = struct.unpack_from(">ihqh", response)
            if error != COORDINATOR_LOAD_IN_PROGRESS or time.monotonic() > deadline:
                _check(error, "InitProducerId")
                return producer_id, epoch
            time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Metadata:
    """brokers: node id → (host, port). topics: name → (error code, {partition: (error code, leader)})."""

    brokers: dict[int, tuple[str, int]]
    topics: dict[str, tuple[int, dict[int, tuple[int, int]]]]

    @classmethod
    def read(cls, response: bytes) -> Metadata:
        reader = _Reader(response, 4)
        brokers: dict[int, tuple[str, int]] = {}
        for _ in range(reader.int32()):
            node = reader.int32()
            brokers[node] = reader.string() or "", reader.int32()
            reader.string()
        reader.string()
        reader.int32()
        topics: dict[str, tuple[int, dict[int, tuple[int, int]]]] = {}
        for _ in range(reader.int32()):
            error, name = reader.int16(), reader.string() or ""
            reader.skip(1)
            partitions: dict[int, tuple[int, int]] = {}
            for _ in range(reader.int32()):
                partition_error, partition, leader = reader.int16(), reader.int32(), reader.int32()
                for _ in ("replicas", "in-sync replicas"):
                    reader.skip(4 * reader.int32())
                partitions[partition] = partition_error, leader
            topics[name] = error, partitions
        return cls(brokers, topics)


def metadata_body(topics: Sequence[str], *, auto_create: bool = False) -> bytes:
    return struct.pack(">i", len(topics)) + b"".join(map(_string, topics)) + struct.pack(">b", auto_create)


def produce_body(topic: str, parts: Sequence[tuple[int, bytes]], acks: int = -1, timeout_ms: int = 30_000) -> bytes:
    pieces = [_string(None), struct.pack(">hii", acks, timeout_ms, 1), _string(topic), struct.pack(">i", len(parts))]
    for partition, batch in parts:
        pieces += [struct.pack(">ii", partition, len(batch)), batch]
    return b"".join(pieces)


def check_produce(response: memoryview) -> int:
    """Raise for any partition's error; return the base offset of the last partition."""
    base_offset = -1
    (topics,) = struct.unpack_from(">i", response)
    position = 4
    for _ in range(topics):
        (name_size,) = struct.unpack_from(">h", response, position)
        (partitions,) = struct.unpack_from(">i", response, position + 2 + name_size)
        position += 6 + name_size
        for _ in range(partitions):
            partition, error, base_offset, _ = struct.unpack_from(">ihqq", response, position)
            position += 22
            if error:
                raise WireError(f"Produce to partition {partition} got error {error}", error)
    return base_offset


def fetch_body(
    topic: str,
    offsets: dict[int, int],
    *,
    max_wait_ms: int = 500,
    min_bytes: int = 1,
    max_bytes: int = 52_428_800,
    partition_max_bytes: int = 1_048_576,
) -> bytes:
    pieces = [
        struct.pack(">iiiibi", -1, max_wait_ms, min_bytes, max_bytes, 0, 1),
        _string(topic),
        struct.pack(">i", len(offsets)),
    ]
    pieces += [struct.pack(">iqi", partition, offset, partition_max_bytes) for partition, offset in offsets.items()]
    return b"".join(pieces)


def read_fetch(response: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """(partition, error code, record bytes) of every partition in a Fetch v4 response."""
    (topics,) = struct.unpack_from(">i", response, 4)
    position = 8
    for _ in range(topics):
        (name_size,) = struct.unpack_from(">h", response, position)
        (partitions,) = struct.unpack_from(">i", response, position + 2 + name_size)
        position += 6 + name_size
        for _ in range(partitions):
            partition, error, _, _, aborted = struct.unpack_from(">ihqqi", response, position)
            position += 26 + 16 * max(aborted, 0)
            (size,) = struct.unpack_from(">i", response, position)
            position += 4
            end = position + max(size, 0)
            yield partition, error, response[position:end]
            position = end


def advance(response: memoryview, offsets: dict[int, int]) -> int:
    """Move `offsets` past what this Fetch v4 response holds; return the number of records. Looks at headers only."""
    records = 0
    for partition, error, data in read_fetch(response):
        if error:
            raise WireError(f"Fetch of partition {partition} got error {error}", error)
        position, wanted = 0, offsets[partition]
        while position + HEADER_BYTES <= len(data):
            base_offset, length = struct.unpack_from(">qi", data, position)
            if position + 12 + length > len(data):
                break
            last = base_offset + struct.unpack_from(">i", data, position + 23)[0]
            if last >= wanted:
                records += last - max(wanted, base_offset) + 1
                wanted = last + 1
            position += 12 + length
        offsets[partition] = wanted
    return records


class _Lane:
    """One connection of `pump` with the times of its outstanding requests."""

    __slots__ = ("connection", "received", "sent_at")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.sent_at: deque[int] = deque()
        self.received = bytearray()


def pump(
    connections: Sequence[Connection],
    make_frame: Callable[[Connection], bytes],
    in_flight: int,
    seconds: float,
    *,
    on_round_trip: Callable[[int], object] | None = None,
    check: Callable[[memoryview], object] | None = None,
) -> tuple[int, float]:
    """Keep `in_flight` requests on every connection for `seconds`, then drain. Returns (requests, seconds).

    `on_round_trip` gets nanoseconds; `check` gets each response body and raises when it does not like it.
    """
    poller = select.epoll()
    lanes: dict[int, _Lane] = {}
    clock = time.perf_counter_ns
    start = clock()
    end = start + int(seconds * 1e9)
    for connection in connections:
        poller.register(connection.socket.fileno(), select.EPOLLIN)
        lane = lanes[connection.socket.fileno()] = _Lane(connection)
        for _ in range(in_flight):
            lane.sent_at.append(clock())
            connection.socket.sendall(make_frame(connection))
    done, outstanding = 0, in_flight * len(connections)
    while outstanding:
        events = poller.poll(60)
        if not events:
            raise WireError("no response for 60 s")
        for number, _ in events:
            lane = lanes[number]
            count = _receive_frames(lane, check)
            now = clock()
            for _ in range(count):
                sent_at = lane.sent_at.popleft()
                done += 1
                outstanding -= 1
                if on_round_trip is not None:
                    on_round_trip(now - sent_at)
                if now < end:
                    lane.sent_at.append(clock())
                    outstanding += 1
                    lane.connection.socket.sendall(make_frame(lane.connection))
    poller.close()
    return done, (clock() - start) / 1e9


def _receive_frames(lane: _Lane, check: Callable[[memoryview], object] | None) -> int:
    data = lane.connection.socket.recv(1 << 18)
    if not data:
        raise WireError("the broker closed the connection")
    received = lane.received
    received += data
    count = position = 0
    while len(received) - position >= 4:
        (size,) = struct.unpack_from(">i", received, position)
        if len(received) - position - 4 < size:
            break
        if check is not None:
            check(memoryview(bytes(received[position + 8 : position + 4 + size])))
        position += 4 + size
        count += 1
    if position:
        del received[:position]
    return count


class _Reader:
    """Reads the fixed (not flexible) forms."""

    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data, self.position = data, position

    def skip(self, size: int) -> None:
        self.position += size

    def int16(self) -> int:
        self.position += 2
        return int.from_bytes(self.data[self.position - 2 : self.position], "big", signed=True)

    def int32(self) -> int:
        self.position += 4
        return int.from_bytes(self.data[self.position - 4 : self.position], "big", signed=True)

    def string(self) -> str | None:
        size = self.int16()
        if size < 0:
            return None
        self.position += size
        return self.data[self.position - size : self.position].decode()


def _check(error: int, what: str) -> None:
    if error:
        raise WireError(f"{what} got error {error}", error)


def _string(text: str | None) -> bytes:
    if text is None:
        return b"\xff\xff"
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def _varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value & ~0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (result >> 1) ^ -(result & 1), position
        shift += 7


def keep_in_flight(
    connection: Connection,
    send: Callable[[], object],
    check: Callable[[memoryview], object],
    in_flight: int,
    seconds: float,
) -> int:
    """So many requests under way for so long; how many were answered. `send` sends one, `check` looks at its answer."""
    end = time.perf_counter() + seconds
    for _ in range(in_flight):
        send()
    done, outstanding = 0, in_flight
    while outstanding:
        check(connection.receive())
        done += 1
        outstanding -= 1
        if time.perf_counter() < end:
            send()
            outstanding += 1
    return done
