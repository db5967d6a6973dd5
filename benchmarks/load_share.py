"""A topic as a work queue (KIP-932): many workers, each of which takes one small job at a time and reports it done."""

from __future__ import annotations

import select
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.measure import Measures, percentiles
from benchmarks.topics import Options, Target
from benchmarks.wire import PRODUCE, Connection, WireError, check_produce, produce_body, record_batch

SHARE_FETCH, SHARE_ACKNOWLEDGE, INITIALIZE_SHARE_GROUP_STATE, FIND_COORDINATOR = 78, 79, 83, 10
WORKERS = 50
JOB = b"x" * 100
ACCEPT = b"\x02\x01"
FINAL_EPOCH = -1
MAX_WAIT_MS = 500
NOT_YET = (14, 15, 16)  # the share coordinator is loading, or not there yet


def work_queue(
    target: Target, options: Options, partitions: int, *, one_request: bool = False, batch: int = 1
) -> Measures:
    """Fifty workers and a filled topic. With `one_request` a worker acknowledges a job with its next fetch, otherwise
    with a request of its own. `batch` jobs were produced together."""
    jobs = int(20_000 * options.scale)
    with target.topic(partitions) as topic, ExitStack() as stack:
        topic_id = _topic_id(target, topic)
        group = f"queue-{uuid.uuid4().hex[:8]}"
        admin = stack.enter_context(target.connect())
        _initialize(admin, group, topic_id, partitions)
        _fill(target, topic, partitions, jobs, batch)
        workers = [
            Worker(stack.enter_context(target.connect()), group, topic_id, partitions, one_request)
            for _ in range(WORKERS)
        ]
        with target.window() as measured:
            done, seconds = _work(workers, jobs)
        latencies = [latency for worker in workers for latency in worker.latencies]
    if len(done) != jobs:
        raise WireError(f"{len(done)} of {jobs} jobs were done")
    measures = {"jobs_s": jobs / seconds, **percentiles(latencies)}
    if measured.broker_cpu_s:
        measures["broker_cpu_us_per_job"] = measured.broker_cpu_s / jobs * 1e6
    return measures


class Worker:
    """One member of the group: takes a job, says it is done, takes the next."""

    def __init__(self, connection: Connection, group: str, topic_id: bytes, partitions: int, one_request: bool) -> None:
        self.connection = connection
        self.latencies: list[int] = []
        self.received = bytearray()
        self.taken: tuple[int, int] | None = None
        self._topic_id = topic_id
        self._partitions = partitions
        self._one_request = one_request
        self._member = _compact(group) + _compact(uuid.uuid4().hex)
        self._epoch = 0
        self._sent_at = 0
        self._is_acknowledging = False

    def fetch(self) -> bytes:
        """The frame that asks for one job, and with `one_request` gives the last one back."""
        topics = b"\x01"
        if self._epoch == 0:
            wanted = b"".join(struct.pack(">ibb", index, 1, 0) for index in range(self._partitions))
            topics = b"\x02" + self._topic_id + _length(self._partitions) + wanted + b"\x00"
        elif self.taken is not None:
            topics = self._done()
        limits = struct.pack(">iiiiiibb", self._epoch, MAX_WAIT_MS, 1, 1 << 20, 1, 1, 1, 0)
        self._epoch += 1
        self._sent_at = time.perf_counter_ns()
        self._is_acknowledging = False
        return self.connection.frame(SHARE_FETCH, 2, b"\x00" + self._member + limits + topics + b"\x01\x00")

    def acknowledge(self) -> bytes:
        """The frame that gives the last job back."""
        epoch = struct.pack(">ib", self._epoch, 0)
        self._epoch += 1
        self._is_acknowledging = True
        return self.connection.frame(SHARE_ACKNOWLEDGE, 2, b"\x00" + self._member + epoch + self._done() + b"\x00")

    def _done(self) -> bytes:
        assert self.taken is not None
        index, offset = self.taken
        batch = struct.pack(">ibqq", index, 2, offset, offset) + ACCEPT + b"\x00"
        return b"\x02" + self._topic_id + b"\x02" + batch + b"\x00\x00"

    def answered(self, response: memoryview, done: set[tuple[int, int]]) -> bytes:
        """Take the response of the last request; the next frame."""
        if self._is_acknowledging:
            _check(struct.unpack_from(">h", response, 5)[0], "ShareAcknowledge")
            self._finish(done)
            return self.fetch()
        if self.taken is not None:
            self._finish(done)
        for index, first_offset, last_offset in acquired(response):
            if first_offset != last_offset or self.taken is not None:
                raise WireError(f"more than one job at a time: offsets {first_offset} to {last_offset}")
            self.taken = index, first_offset
            self.latencies.append(time.perf_counter_ns() - self._sent_at)
        return self.fetch() if self._one_request or self.taken is None else self.acknowledge()

    def _finish(self, done: set[tuple[int, int]]) -> None:
        assert self.taken is not None
        if self.taken in done:
            raise WireError(f"job {self.taken} was handed out again after it was done")
        done.add(self.taken)
        self.taken = None


def _work(workers: list[Worker], jobs: int) -> tuple[set[tuple[int, int]], float]:
    """Let them work until every job is done, at most two minutes; the jobs, and the seconds they took."""
    done: set[tuple[int, int]] = set()
    poller = select.epoll()
    by_number = {worker.connection.socket.fileno(): worker for worker in workers}
    started = time.perf_counter()
    ended = started
    for number, worker in by_number.items():
        worker.connection.socket.setblocking(False)
        poller.register(number, select.EPOLLIN)
        worker.connection.socket.send(worker.fetch())
    while len(done) < jobs and time.perf_counter() - started < 120:
        for number, _ in poller.poll(1):
            worker = by_number[number]
            received = worker.received
            received += worker.connection.socket.recv(1 << 20)
            if len(received) >= 4 and len(received) >= 4 + struct.unpack_from(">i", received)[0]:
                frame = worker.answered(memoryview(bytes(received))[8:], done)
                received.clear()
                worker.connection.socket.send(frame)
                ended = time.perf_counter()
    poller.close()
    for worker in workers:
        worker.connection.socket.setblocking(True)
    return done, ended - started


def acquired(response: memoryview) -> Iterator[tuple[int, int, int]]:
    """(partition, first offset, last offset) of everything that a ShareFetch v2 response hands out."""
    _check(struct.unpack_from(">h", response, 5)[0], "ShareFetch")
    _, position = _string(response, 7)
    topics, position = _uvarint(response, position + 4)
    for _ in range(topics - 1):
        partitions, position = _uvarint(response, position + 16)
        for _ in range(partitions - 1):
            index, error = struct.unpack_from(">ih", response, position)
            _check(error, "ShareFetch of a partition")
            _, position = _string(response, position + 6)
            _check(struct.unpack_from(">h", response, position)[0], "an acknowledgement")
            _, position = _string(response, position + 2)
            size, position = _uvarint(response, position + 9)
            position += max(size - 1, 0)
            ranges, position = _uvarint(response, position)
            for _ in range(ranges - 1):
                first_offset, last_offset = struct.unpack_from(">qq", response, position)
                yield index, first_offset, last_offset
                position += 19
            position += 1
        position += 1


def _topic_id(target: Target, topic: str) -> bytes:
    from confluent_kafka import TopicCollection

    admin = target.admin()  # a client that is dropped drops its request
    found = admin.describe_topics(TopicCollection([topic]))[topic].result(30).topic_id
    high, low = found.get_most_significant_bits(), found.get_least_significant_bits()
    return struct.pack(">QQ", high & (2**64 - 1), low & (2**64 - 1))


def _initialize(connection: Connection, group: str, topic_id: bytes, partitions: int) -> None:
    """What the group coordinator does for a group with members: its state begins at the first record."""
    from base64 import urlsafe_b64encode

    text = urlsafe_b64encode(topic_id).decode()[:22]
    keys = b"".join(_compact(f"{group}:{text}:{index}") for index in range(partitions))
    deadline = time.monotonic() + 60
    while True:
        connection.call(FIND_COORDINATOR, 6, b"\x00\x02" + _length(partitions) + keys + b"\x00")
        begins = b"".join(struct.pack(">iiqb", index, 1, 0, 0) for index in range(partitions))
        topics = b"\x02" + topic_id + _length(partitions) + begins + b"\x00"
        body = b"\x00" + _compact(group) + topics + b"\x00"
        response = connection.call(INITIALIZE_SHARE_GROUP_STATE, 0, body)
        count, position = _uvarint(response, 18)
        errors = set()
        for _ in range(count - 1):
            errors.add(struct.unpack_from(">h", response, position + 4)[0])
            _, position = _string(response, position + 6)
            position += 1
        if errors == {0}:
            return
        if not errors <= {0, *NOT_YET} or time.monotonic() > deadline:
            raise WireError(f"InitializeShareGroupState got errors {errors}")
        time.sleep(0.1)


def _fill(target: Target, topic: str, partitions: int, jobs: int, batch: int) -> None:
    data = record_batch([JOB] * batch)
    with ExitStack() as stack:
        connection = stack.enter_context(target.connect())
        bodies = [produce_body(topic, [(index, data)]) for index in range(partitions)]
        for first in range(0, jobs // batch, 100):
            count = min(100, jobs // batch - first)
            for number in range(count):
                connection.send(PRODUCE, 3, bodies[(first + number) % partitions])
            for _ in range(count):
                check_produce(connection.receive())


def _check(error: int, what: str) -> None:
    if error:
        raise WireError(f"{what} got error {error}", error)


def _compact(text: str) -> bytes:
    return _length(len(text.encode())) + text.encode()


def _length(count: int) -> bytes:
    """The length of a compact string or array."""
    count += 1
    pieces = bytearray()
    while count > 0x7F:
        pieces.append(count & 0x7F | 0x80)
        count >>= 7
    pieces.append(count)
    return bytes(pieces)


def _uvarint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _string(data: memoryview, position: int) -> tuple[bytes, int]:
    size, position = _uvarint(data, position)
    end = position + max(size - 1, 0)
    return bytes(data[position:end]), end
