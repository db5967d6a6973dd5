"""CPU time of the broker per request and per gigabyte, for the shapes of load that decide about its hot path.

    python -m benchmarks.micro_produce [--secs 1] [--bootstrap HOST:PORT --pid PID] [--only REGEX] [--perf FILE]

Starts a broker of its own on a fresh directory unless told where one runs, and reads the scheduler's nanoseconds of the
broker instead of clock ticks. Times say little on a busy machine; CPU time moves less.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.brokers import OttlaBroker
from benchmarks.wire import (
    FETCH,
    PRODUCE,
    Connection,
    advance,
    check_produce,
    fetch_body,
    produce_body,
    pump,
    record_batch,
)

ONE_RECORD = 1
SMALL = b"x" * 100


def cpu_ns(pid: int) -> int:
    """Nanoseconds all threads of the process have been on a core."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


class Load:
    """Runs cases against one broker and prints a line for each."""

    def __init__(self, bootstrap: str, pid: int, seconds: float, only: str, perf: str | None) -> None:
        self.bootstrap = bootstrap
        self.pid = pid
        self.seconds = seconds
        self.only = re.compile(only)
        self.perf = perf
        self._topics = 0

    def topic(self) -> str:
        """A new topic of one partition, ready to be written to."""
        self._topics += 1
        name = f"micro-{os.getpid()}-{self._topics}"
        with Connection(self.bootstrap) as connection:
            while not connection.metadata([name], auto_create=True).topics.get(name, (3, {}))[1]:
                time.sleep(0.01)
        return name

    def case(self, name: str, run: Callable[[], tuple[int, int]]) -> None:
        """`run` gives (requests, payload bytes); a first short run warms up."""
        if not self.only.search(name):
            return
        seconds, self.seconds = self.seconds, min(self.seconds, 0.2)
        run()
        self.seconds = seconds
        with self._profile():
            before, started = cpu_ns(self.pid), time.perf_counter()
            requests, size = run()
            cpu, elapsed = cpu_ns(self.pid) - before, time.perf_counter() - started
        line = f"{name:32} {requests / elapsed:9.0f} req/s {cpu / requests / 1000:9.1f} us CPU/req"
        if size:
            line += f" {size / elapsed / 1e6:9.1f} MB/s {cpu / size:7.3f} CPU-s/GB"
        print(line, flush=True)

    @contextmanager
    def _profile(self) -> Iterator[None]:
        if self.perf is None:
            yield
            return
        command = ["perf", "record", "-q", "-g", "-F", "4000", "-o", self.perf, "-p", str(self.pid)]
        with subprocess.Popen(command) as recorder:
            time.sleep(0.3)
            yield
            recorder.send_signal(2)

    def synchronous(self, acks: int) -> tuple[int, int]:
        """One connection, one record, the next request after the answer."""
        body = produce_body(self.topic(), [(0, record_batch([SMALL]))], acks)
        with Connection(self.bootstrap) as connection:
            end = time.perf_counter() + self.seconds
            requests = 0
            while time.perf_counter() < end:
                check_produce(connection.call(PRODUCE, 3, body))
                requests += 1
        return requests, 0

    def pumped(self, batch: bytes, connections: int, in_flight: int) -> tuple[int, int]:
        """Several connections with several requests under way on each."""
        body = produce_body(self.topic(), [(0, batch)])
        opened = [Connection(self.bootstrap) for _ in range(connections)]
        requests, _ = pump(opened, lambda c: c.frame(PRODUCE, 3, body), in_flight, self.seconds)
        for connection in opened:
            connection.close()
        return requests, requests * len(batch) if len(batch) > 4096 else 0

    def fetched(self, topic: str, partition_bytes: int) -> tuple[int, int]:
        """Reads a topic from its beginning, again and again."""
        requests = size = 0
        with Connection(self.bootstrap) as connection:
            end = time.perf_counter() + self.seconds
            offsets = {0: 0}
            while time.perf_counter() < end:
                response = connection.call(FETCH, 4, fetch_body(topic, offsets, partition_max_bytes=partition_bytes))
                requests += 1
                size += len(response)
                if not advance(response, offsets):
                    offsets = {0: 0}
        return requests, size

    def filled_topic(self, batch: bytes, count: int) -> str:
        topic = self.topic()
        body = produce_body(topic, [(0, batch)])
        with Connection(self.bootstrap) as connection:
            for _ in range(count):
                check_produce(connection.call(PRODUCE, 3, body))
        return topic


def run_all(load: Load) -> None:
    """Every case."""
    one = record_batch([SMALL])
    load.case("sync 1 record acks=1", lambda: load.synchronous(1))
    load.case("sync 1 record acks=all", lambda: load.synchronous(-1))
    load.case("10 connections x 5 in flight", lambda: load.pumped(one, 10, 5))
    for size in (16, 64, 1000):
        batch = record_batch([b"x" * 1024] * (size * 1000 // 1032))
        load.case(f"{size} KB batches x 5 in flight", partial(load.pumped, batch, 1, 5))
    if load.only.search("fetch 1 MB") or load.only.search("fetch 64 KB"):
        topic = load.filled_topic(record_batch([b"x" * 1024] * 62), 3000)
        load.case("fetch 1 MB", lambda: load.fetched(topic, 1 << 20))
        load.case("fetch 64 KB", lambda: load.fetched(topic, 1 << 16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secs", type=float, default=1.0)
    parser.add_argument("--bootstrap")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--only", default="")
    parser.add_argument("--data", help="where to make the data directory, say /dev/shm")
    parser.add_argument("--perf", help="record the broker's stacks into this file")
    arguments = parser.parse_args()
    if arguments.bootstrap:
        run_all(Load(arguments.bootstrap, arguments.pid, arguments.secs, arguments.only, arguments.perf))
        return
    with tempfile.TemporaryDirectory(dir=arguments.data) as directory:
        broker = OttlaBroker(Path(directory))
        broker.start()
        pid = broker.pid
        assert pid is not None
        try:
            run_all(Load(broker.bootstrap, pid, arguments.secs, arguments.only, arguments.perf))
        finally:
            broker.stop()


if __name__ == "__main__":
    main()
