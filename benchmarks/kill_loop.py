"""Kill -9 under load, again and again: what was acknowledged must be there, in order, once, and the node soon back.

    python -m benchmarks.kill_loop --times 100

Idempotent producers on plain sockets write numbered records with acks=all and five batches in flight, to a topic with
flush.messages=1 (acknowledged means flushed) and to one without (acknowledged means written: that survives the end of
the process, though not of the machine). At random moments the broker gets SIGKILL and is started again on its
directory; the producers send again what was not acknowledged. After every restart the logs are read back through the
port: every checksum, offset and number is checked, and every topic that was created before is there.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.brokers import ApacheKafka, Broker, OttlaBroker
from benchmarks.wire import PRODUCE, Connection, WireError, check_produce, produce_body, record_batch

IN_FLIGHT = 5
# Between two batches of a producer: a hundred kills shall not make a log that takes minutes to read back.
PAUSE_SECONDS = 0.002
DUPLICATE_SEQUENCE_NUMBER = 46
# What a node that is starting may answer: unknown topic or partition, leader not available, not leader, loading.
WAIT_A_MOMENT = {3, 5, 6, 14, 15, 16}
FLUSHED, UNFLUSHED = "flushed", "not-flushed"


class LostError(AssertionError):
    """Something that was acknowledged is not there, or something is there that must not be."""


class Writer(threading.Thread):
    """An idempotent producer of the numbers 0, 1, 2 … to one partition; it outlives the broker it writes to."""

    def __init__(self, bootstrap: str, topic: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.bootstrap, self.topic = bootstrap, topic
        self.random = random.Random(seed)
        self.sent = self.acknowledged = 0
        self.stopping = threading.Event()
        self.problem: str | None = None
        self._producer: tuple[int, int] | None = None
        # Batches that were made and not acknowledged: (first number, count, bytes).
        self._window: deque[tuple[int, int, bytes]] = deque()

    def run(self) -> None:
        while not self.stopping.is_set() and self.problem is None:
            try:
                with Connection(self.bootstrap, timeout=20) as connection:
                    if self._producer is None:
                        self._producer = connection.init_producer_id()
                    self._write(connection)
            except WireError as error:
                if error.code not in WAIT_A_MOMENT and error.code != -1:
                    self.problem = f"{self.topic}: {error}"
                time.sleep(0.01)
            except OSError:
                time.sleep(0.01)

    def _write(self, connection: Connection) -> None:
        for _, _, batch in self._window:
            self._send(connection, batch)
        while not self.stopping.is_set():
            while len(self._window) < IN_FLIGHT:
                batch = self._next_batch()
                self._send(connection, batch)
            response = connection.receive()
            try:
                check_produce(response)
            except WireError as error:
                if error.code != DUPLICATE_SEQUENCE_NUMBER:
                    raise
            first, count, _ = self._window.popleft()
            self.acknowledged = first + count
            time.sleep(PAUSE_SECONDS)

    def _next_batch(self) -> bytes:
        assert self._producer is not None
        first, count = self.sent, self.random.randint(1, 20)
        values = [b"%010d" % number for number in range(first, first + count)]
        producer_id, epoch = self._producer
        batch = record_batch(values, producer_id=producer_id, producer_epoch=epoch, base_sequence=first)
        self._window.append((first, count, batch))
        self.sent += count
        return batch

    def _send(self, connection: Connection, batch: bytes) -> None:
        connection.send(PRODUCE, 3, produce_body(self.topic, [(0, batch)]))


@dataclass
class Outcome:
    """What a run saw. Times are seconds from the start of the process until it answered."""

    restart_s: list[float] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)
    topics: int = 0

    def summary(self) -> str:
        times = sorted(self.restart_s)
        spread = f"min {times[0]:.3f}, median {statistics.median(times):.3f}, p90 {times[int(len(times) * 0.9)]:.3f}"
        records = ", ".join(f"{count} in '{topic}'" for topic, count in self.acknowledged.items())
        return (
            f"{len(times)} kills: nothing acknowledged was lost, doubled or out of order"
            f" ({records}; {self.topics} topics created)\n"
            f"restart until it answers, seconds: {spread}, max {times[-1]:.3f}"
        )


def kill_loop(
    broker: Broker, times: int, *, seed: int = 1, most_seconds: float = 600, report: Callable[[str], object] = print
) -> Outcome:
    """Start `broker`, kill it up to `times` times within `most_seconds`, and check what it kept; raises `LostError`."""
    chance = random.Random(seed)
    outcome = Outcome()
    broker.start()
    _create(broker, FLUSHED, {"flush.messages": "1"})
    _create(broker, UNFLUSHED, {})
    writers = [Writer(broker.bootstrap, topic, seed + number) for number, topic in enumerate((FLUSHED, UNFLUSHED))]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + most_seconds
    created: list[str] = []
    try:
        for number in range(times):
            if time.monotonic() > deadline:
                report(f"stopping after {number} kills: the time is over")
                break
            _create(broker, f"created-{number}", {})
            created.append(f"created-{number}")
            before = [writer.acknowledged for writer in writers]
            _wait_for_progress(writers, before)
            time.sleep(chance.uniform(0, 0.3))
            broker.kill()
            acknowledged = [writer.acknowledged for writer in writers]
            broker.spawn()
            outcome.restart_s.append(broker.wait_until_ready())
            for writer, least in zip(writers, acknowledged, strict=True):
                check_log(broker.bootstrap, writer.topic, least)
            _check_topics(broker.bootstrap, created)
            report(f"kill {number + 1}: back in {outcome.restart_s[-1]:.3f} s, {sum(acknowledged)} records kept")
        _wait_for_progress(writers, [writer.acknowledged for writer in writers])
    finally:
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join(30)
    broker.stop()
    broker.start()
    for writer in writers:
        if writer.problem:
            raise LostError(writer.problem)
        found = check_log(broker.bootstrap, writer.topic, writer.acknowledged)
        if found > writer.sent:
            raise LostError(f"{writer.topic}: {found} records, though only {writer.sent} were sent")
        outcome.acknowledged[writer.topic] = writer.acknowledged
    outcome.topics = len(created)
    return outcome


def check_log(bootstrap: str, topic: str, acknowledged: int) -> int:
    """Read a partition from its start: whole batches with right checksums, numbers from 0 on, each once. The count."""
    expected = 0
    with Connection(bootstrap) as connection:
        for batch in connection.read_all(topic, 0):
            if not batch.crc_matches:
                raise LostError(f"{topic}: the batch at offset {batch.base_offset} has a wrong checksum")
            if batch.base_offset != expected or batch.last_offset + 1 - batch.base_offset != batch.record_count:
                raise LostError(f"{topic}: expected offset {expected}, got {batch.base_offset}-{batch.last_offset}")
            numbers = [int(value or b"-1") for value in batch.values()]
            if numbers != list(range(expected, expected + len(numbers))):
                raise LostError(f"{topic}: at offset {expected} stand the records {numbers[0]}…{numbers[-1]}")
            expected += len(numbers)
    if expected < acknowledged:
        raise LostError(f"{topic}: {acknowledged} records were acknowledged, {expected} are there")
    return expected


def _create(broker: Broker, topic: str, config: dict[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(30)


def _check_topics(bootstrap: str, topics: list[str]) -> None:
    with Connection(bootstrap) as connection:
        found = connection.metadata(topics).topics
    if missing := [topic for topic in topics if found[topic][0] == 3]:
        raise LostError(f"topics that were created are gone: {', '.join(missing)}")


def _wait_for_progress(writers: list[Writer], before: list[int], timeout: float = 30) -> None:
    """Until every writer has had something acknowledged since."""
    deadline = time.monotonic() + timeout
    for writer, count in zip(writers, before, strict=True):
        while writer.acknowledged <= count:
            if writer.problem:
                raise LostError(writer.problem)
            if time.monotonic() > deadline:
                raise LostError(f"{writer.topic}: nothing was acknowledged for {timeout} s")
            time.sleep(0.001)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.kill_loop", description="Kill -9 under load, and what was kept.")
    parser.add_argument("--times", type=int, default=100, help="how often to kill (100)")
    parser.add_argument("--seed", type=int, default=1, help="for the moments of the kills and the sizes of the batches")
    parser.add_argument("--most-seconds", type=float, default=600, help="stop killing after so many seconds (600)")
    parser.add_argument("--broker", choices=("ottla", "kafka"), default="ottla")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kill-loop-")))
        broker = ApacheKafka(directory) if options.broker == "kafka" else OttlaBroker(directory)
        stack.callback(broker.kill)
        try:
            outcome = kill_loop(broker, options.times, seed=options.seed, most_seconds=options.most_seconds)
        except LostError as error:
            print(f"kill loop: {error}", file=sys.stderr)
            return 1
        print(outcome.summary())
    return 0


if __name__ == "__main__":
    sys.exit(main())
