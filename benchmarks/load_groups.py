"""Very many groups: what they cost a broker in memory, and what the heartbeats of idle members cost it."""

from __future__ import annotations

import struct
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measure import Measures, memory_mb, window
from benchmarks.topics import Options, Target
from benchmarks.wire import PRODUCE, Connection, WireError, check_produce, produce_body, record_batch

OFFSET_COMMIT, FIND_COORDINATOR, CONSUMER_GROUP_HEARTBEAT = 8, 10, 68
GROUPS = 10_000
CONSUMERS = 1_000
TOPIC = "read-by-many"
NOT_YET = (14, 15, 16)  # the coordinator is loading, or not there yet
IDLE_ROUNDS = 5


def ten_thousand_groups(target: Target, options: Options) -> Measures:
    """A broker of its own. All groups have a committed offset; a tenth of them have a member that is connected."""
    del options
    broker = target.new_broker(Path(tempfile.mkdtemp(prefix="bench-groups-")))
    measures: Measures = {}
    try:
        broker.start()
        with ExitStack() as stack:
            connection = stack.enter_context(Connection(broker.bootstrap))
            _create_topic(connection)
            _await_coordinators(connection)
            before = memory_mb(broker.pid)["rss_mb"]
            started = time.perf_counter()
            _commit_offsets(connection)
            measures["commits_s"] = GROUPS / (time.perf_counter() - started)
            members = []
            started = time.perf_counter()
            for number in range(CONSUMERS):
                member = stack.enter_context(Connection(broker.bootstrap))
                members.append((member, _join(member, number)))
            measures["joins_s"] = CONSUMERS / (time.perf_counter() - started)
            with window(broker.pid) as measured:
                for _ in range(IDLE_ROUNDS):
                    for number, (member, epoch) in enumerate(members):
                        member.send(CONSUMER_GROUP_HEARTBEAT, 0, _heartbeat(number, epoch))
                    for member, _ in members:
                        _epoch(member.receive())
            beats = IDLE_ROUNDS * CONSUMERS
            measures["broker_cpu_us_per_heartbeat"] = measured.broker_cpu_s / beats * 1e6
            time.sleep(2)
            after = memory_mb(broker.pid)["rss_mb"]
            measures["rss_mb"] = after
            measures["rss_growth_mb"] = after - before
    finally:
        broker.wipe()
    return measures


def _create_topic(connection: Connection) -> None:
    """With its first record."""
    connection.metadata([TOPIC], auto_create=True)
    deadline = time.monotonic() + 30
    while True:
        try:
            check_produce(connection.call(PRODUCE, 3, produce_body(TOPIC, [(0, record_batch([b"x"]))])))
            return
        except WireError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _await_coordinators(connection: Connection) -> None:
    """Until all partitions of the internal topic take commits: a hundred groups hit nearly all of them."""
    connection.call(FIND_COORDINATOR, 2, _string("group-0") + b"\x00")
    for number in range(500):
        deadline = time.monotonic() + 60
        while True:
            error = _committed(connection.call(OFFSET_COMMIT, 2, _commit(number)))
            if not error:
                break
            if error not in NOT_YET or time.monotonic() > deadline:
                raise WireError(f"OffsetCommit got error {error}", error)
            connection.call(FIND_COORDINATOR, 2, _string(f"group-{number}") + b"\x00")
            time.sleep(0.1)


def _commit_offsets(connection: Connection) -> None:
    for first in range(0, GROUPS, 100):
        for number in range(first, first + 100):
            connection.send(OFFSET_COMMIT, 2, _commit(number))
        for _ in range(100):
            error = _committed(connection.receive())
            if error:
                raise WireError(f"OffsetCommit got error {error}", error)


def _commit(number: int) -> bytes:
    """OffsetCommit 2, which both brokers serve: offset 1 of the one partition, from nobody."""
    head = _string(f"group-{number}") + struct.pack(">i", -1) + _string("") + struct.pack(">q", -1)
    return head + struct.pack(">i", 1) + _string(TOPIC) + struct.pack(">iiq", 1, 0, 1) + _string("")


def _committed(response: memoryview) -> int:
    error: int = struct.unpack_from(">h", response, len(response) - 2)[0]
    return error


def _join(connection: Connection, number: int) -> int:
    """The epoch of the new member."""
    return _epoch(connection.call(CONSUMER_GROUP_HEARTBEAT, 0, _heartbeat(number, 0)))


def _heartbeat(number: int, epoch: int) -> bytes:
    """ConsumerGroupHeartbeat 0: everything when joining, nothing but the epoch afterwards."""
    joins = not epoch
    member = f"member-{number:026}"
    body = b"\x00" + _compact(f"group-{number}") + _compact(member) + struct.pack(">i", epoch) + b"\x00\x00"
    body += struct.pack(">i", 60_000 if joins else -1)
    body += b"\x02" + _compact(TOPIC) if joins else b"\x00"
    # No assignor; no owned partitions when joining, nothing said of them otherwise.
    return body + b"\x00" + (b"\x01" if joins else b"\x00") + b"\x00"


def _epoch(response: memoryview) -> int:
    """The member epoch of an answer: after the error, its message and the member id."""
    error = struct.unpack_from(">h", response, 5)[0]
    if error:
        raise WireError(f"ConsumerGroupHeartbeat got error {error}", error)
    position = 7
    for _ in range(2):
        position += max(response[position], 1)
    epoch: int = struct.unpack_from(">i", response, position)[0]
    return epoch


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _compact(text: str) -> bytes:
    return bytes([len(text) + 1]) + text.encode()
