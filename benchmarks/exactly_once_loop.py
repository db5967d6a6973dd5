"""Consume, transform, produce, with everybody killed at random: every input is in the committed output exactly once.

    python -m benchmarks.exactly_once_loop --times 50

A feeder writes numbers into two partitions; two workers (processes of their own, `exactly_once_worker`) copy them in
transactions that also carry their position. At random moments a worker, the broker, or both get SIGKILL and are started
again. In the end the output, read with read_committed, must be the input: nothing lost, nothing doubled, and nothing
that hangs in front of a reader.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.brokers import ROOT, ApacheKafka, Broker, OttlaBroker
from benchmarks.exactly_once_worker import GROUP, INPUT, OUTPUT

PARTITIONS = 2
RATE = 400
SETTINGS = {"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "4"}


class NotOnceError(AssertionError):
    """An input is missing in the output, or is there twice."""


@dataclass
class Outcome:
    """What a run saw."""

    kills: Counter[str] = field(default_factory=Counter)
    inputs: int = 0
    aborted: int = 0
    worker_ends: int = 0
    seconds: float = 0.0

    def summary(self) -> str:
        kills = ", ".join(f"{count} of {what}" for what, count in sorted(self.kills.items()))
        return (
            f"{sum(self.kills.values())} kills ({kills}) in {self.seconds:.0f} s: each of {self.inputs} inputs is in"
            f" the committed output once; {self.aborted} records of aborted transactions beside them, workers gave up"
            f" {self.worker_ends} times"
        )


class Feeder(threading.Thread):
    """Writes the numbers 0, 1, 2 … with an idempotent producer that outlives the broker."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(daemon=True)
        self.stopping = threading.Event()
        self.sent = 0
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "log_level": 0,
                "reconnect.backoff.max.ms": 200,
            }
        )

    def run(self) -> None:
        while not self.stopping.is_set():
            for _ in range(RATE // 20):
                self._producer.produce(INPUT, b"%d" % self.sent, partition=self.sent % PARTITIONS)
                self.sent += 1
            self._producer.poll(0)
            time.sleep(0.05)
        if self._producer.flush(60):
            raise NotOnceError("the feeder could not write all of its numbers")


class Worker:
    """A worker process that is started again whenever it ends."""

    def __init__(self, bootstrap: str, name: str, log: Path) -> None:
        self._command = [sys.executable, "-m", "benchmarks.exactly_once_worker", bootstrap, name]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.ends = 0

    def keep_running(self) -> None:
        """Start it unless it runs."""
        if self._process is not None and self._process.poll() is not None:
            self.ends += 1
            self._process = None
        if self._process is None:
            with self._log.open("ab") as output:
                self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=output, stderr=output)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def exactly_once_loop(
    broker: Broker, times: int, *, seed: int = 1, most_seconds: float = 600, report: Callable[[str], object] = print
) -> Outcome:
    """Start `broker` and the rest, kill `times` times, and check the output; raises `NotOnceError`."""
    chance = random.Random(seed)
    outcome = Outcome()
    began = time.monotonic()
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
    for created in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in (INPUT, OUTPUT)]).values():
        created.result(30)
    feeder = Feeder(broker.bootstrap)
    workers = [
        Worker(broker.bootstrap, f"worker-{number}", broker.directory / f"worker-{number}.log") for number in range(2)
    ]
    feeder.start()
    try:
        for number in range(times):
            for worker in workers:
                worker.keep_running()
            if time.monotonic() - began > most_seconds:
                report(f"stopping after {number} kills: the time is over")
                break
            time.sleep(chance.uniform(0.3, 1.5))
            what = chance.choice(("worker", "worker", "broker", "both"))
            if what != "broker":
                chance.choice(workers).kill()
            if what != "worker":
                broker.kill()
                broker.spawn()
                broker.wait_until_ready()
            outcome.kills[what] += 1
            report(f"kill {number + 1}: {what}; {feeder.sent} inputs so far")
        feeder.stopping.set()
        feeder.join(90)
        _wait_for_workers(broker.bootstrap, workers, feeder.sent)
    finally:
        feeder.stopping.set()
        for worker in workers:
            worker.kill()
            outcome.worker_ends += worker.ends
    outcome.inputs = feeder.sent
    outcome.aborted = check_output(broker.bootstrap, feeder.sent)
    outcome.seconds = time.monotonic() - began
    return outcome


def _wait_for_workers(bootstrap: str, workers: list[Worker], inputs: int, timeout: float = 90) -> None:
    """Until the group's position is the end of the input."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP, "log_level": 0})
    deadline = time.monotonic() + timeout
    try:
        while True:
            for worker in workers:
                worker.keep_running()
            partitions = [TopicPartition(INPUT, index) for index in range(PARTITIONS)]
            position = sum(max(found.offset, 0) for found in consumer.committed(partitions, 30))
            if position == inputs:
                return
            if time.monotonic() > deadline:
                raise NotOnceError(f"the workers stand at {position} of {inputs} inputs after {timeout} s")
            time.sleep(0.2)
    finally:
        consumer.close()


def check_output(bootstrap: str, inputs: int) -> int:
    """Read the output as consumers of either kind do; how many records were aborted."""
    committed = Counter(read_all(bootstrap, OUTPUT, "read_committed"))
    doubled = [number for number, count in committed.items() if count > 1]
    missing = [number for number in range(inputs) if number not in committed]
    if doubled or missing or len(committed) != inputs:
        raise NotOnceError(f"doubled: {sorted(doubled)[:20]}, missing: {missing[:20]}, {len(committed)} of {inputs}")
    return len(read_all(bootstrap, OUTPUT, "read_uncommitted")) - inputs


def read_all(bootstrap: str, topic: str, isolation: str) -> list[int]:
    """Every number up to the end of each partition, as this kind of consumer sees it."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "-",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(topic, index, 0) for index in range(PARTITIONS)])
    numbers: list[int] = []
    ends = 0
    while ends < PARTITIONS:
        message = consumer.poll(30)
        if message is None:
            raise NotOnceError(f"no end of {topic} within 30 s")
        if message.error() is None:
            numbers.append(int(message.value() or b"-1"))
        else:
            ends += 1
    consumer.close()
    return numbers


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.exactly_once_loop", description="Kill -9 of brokers and workers; every input once."
    )
    parser.add_argument("--times", type=int, default=50, help="how often to kill (50)")
    parser.add_argument("--seed", type=int, default=1, help="for the moments of the kills and who is killed")
    parser.add_argument("--most-seconds", type=float, default=600, help="stop killing after so many seconds (600)")
    parser.add_argument("--broker", choices=("ottla", "kafka"), default="ottla")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="exactly-once-")))
        kind = ApacheKafka if options.broker == "kafka" else OttlaBroker
        broker = kind(directory, settings=SETTINGS)
        stack.callback(broker.kill)
        try:
            outcome = exactly_once_loop(broker, options.times, seed=options.seed, most_seconds=options.most_seconds)
        except NotOnceError as error:
            print(f"exactly-once loop: {error}", file=sys.stderr)
            return 1
        print(outcome.summary())
    return 0


if __name__ == "__main__":
    sys.exit(main())
