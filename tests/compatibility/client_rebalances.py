"""Rebalances of our consumers over real sockets: `python -m tests.compatibility.client_rebalances --rebalances 60`.

Members are processes that are killed (SIGKILL), told to close, and started at random, on Ottla or (`--broker kafka`)
Apache Kafka. They write what they get, lose and process into one pipe, so that its order is the order in which it
happened. No partition may be owned twice and no record be skipped; prints the stalls: from the event until all
partitions are owned by the living and were consumed since. A kill includes the session timeout of 6 s.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ottla
from benchmarks.brokers import ApacheKafka, Broker, OttlaBroker
from tests.compatibility.topics import create_topic

SESSION_MS = 6_000
SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "group.consumer.session.timeout.ms": str(SESSION_MS),
    "group.consumer.min.session.timeout.ms": str(SESSION_MS),
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
}
CLASSIC = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 1000}
KINDS: dict[str, dict[str, Any]] = {
    "range": CLASSIC | {"partition.assignment.strategy": "range"},
    "cooperative-sticky": CLASSIC | {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}
PARTITIONS, SLOTS, PATIENCE_S = 8, 4, 60.0


def member(name: str, bootstrap: str, topic: str, settings: dict[str, Any], pipe: int) -> None:
    """A member process: until a line comes on standard input."""

    def say(**what: Any) -> None:
        os.write(pipe, json.dumps({"member": name, **what}).encode() + b"\n")

    def told(event: str) -> Any:
        return lambda partitions: say(event=event, partitions=[place.partition for place in partitions])

    hooks = {f"on_{event}": told(event) for event in ("assigned", "revoked", "lost")}
    settings = {"group.id": topic, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 500, **settings}
    say(event="started")
    with ottla.Consumer(bootstrap, settings, topics=[topic], **hooks) as consumer:
        while not select.select([sys.stdin], [], [], 0)[0]:
            # Counted as processed by the poll after it.
            for record in consumer.poll(timeout_s=0.1):
                say(event="processed", partition=record.partition, offset=record.offset)
    say(event="closed")


class Run:
    """One group on one broker."""

    def __init__(self, bootstrap: str, topic: str, settings: dict[str, Any], dice: random.Random) -> None:
        self.bootstrap, self.topic, self.settings, self.dice = bootstrap, topic, settings, dice
        self.read_end, self.write_end = os.pipe()
        self.members: dict[str, subprocess.Popen[bytes]] = {}
        self.closing: set[str] = set()
        self.dead: set[str] = set()
        self.owners: dict[int, str] = {}
        self.fresh: set[int] = set()
        self.next_offset: dict[int, int] = {}
        self.problems: list[str] = []
        self.processed = self.reprocessed = self._number = 0
        self._rest = b""
        self._began_s = 0.0

    def start_member(self) -> None:
        self._number += 1
        name = f"{self.topic}-{self._number}"
        command = [sys.executable, "-m", __spec__.name, "--member", name, self.bootstrap, self.topic]
        command += [json.dumps(self.settings), str(self.write_end)]
        self.members[name] = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[self.write_end])

    def event(self) -> str:
        living = [name for name in self.members if name not in self.closing]
        if len(living) <= 1 or (len(living) < SLOTS and self.dice.random() < 0.5):
            self.start_member()
            return "join"
        name = self.dice.choice(living)
        process = self.members[name]
        if self.dice.random() < 0.6:
            process.send_signal(signal.SIGKILL)
            process.wait()
            self.dead.add(name)
            del self.members[name]
            return "kill"
        assert process.stdin is not None
        process.stdin.write(b"close\n")
        process.stdin.flush()
        self.closing.add(name)
        return "close"

    def wait(self, kind: str) -> float:
        self._began_s = time.monotonic()
        while not self._is_whole():
            if time.monotonic() > self._began_s + PATIENCE_S:
                self.problems.append(f"nobody consumes all after a {kind}: {self.owners}")
                break
            self.listen(0.05)
        return time.monotonic() - self._began_s

    def _is_whole(self) -> bool:
        living = self.members.keys() - self.closing
        return (
            not self.closing
            and not self.fresh
            and len(self.owners) == PARTITIONS
            and set(self.owners.values()) == living
        )

    def listen(self, timeout_s: float) -> None:
        while select.select([self.read_end], [], [], timeout_s)[0]:
            *lines, self._rest = (self._rest + os.read(self.read_end, 65536)).split(b"\n")
            for line in lines:
                self._heard(**json.loads(line))
            timeout_s = 0

    def _heard(
        self, member: str, event: str, partitions: list[int] | None = None, partition: int = -1, offset: int = -1
    ) -> None:
        for index in partitions or ():
            owner = self.owners.get(index)
            if event == "assigned":
                if owner not in (None, member) and owner not in self.dead:
                    self.problems.append(f"{index} is taken by {member} while {owner} has it")
                self.owners[index] = member
                self.fresh.add(index)
            elif owner == member:
                del self.owners[index]
                self.fresh.discard(index)
        if event == "processed":
            expected = self.next_offset.get(partition, 0)
            if offset > expected:
                self.problems.append(f"{member} goes on with {partition} at {offset}: {expected} was skipped")
            if self.owners.get(partition) != member and member not in self.dead:
                self.problems.append(f"{member} processes {partition}, which {self.owners.get(partition)} has")
            self.next_offset[partition] = max(expected, offset + 1)
            self.processed += 1
            self.reprocessed += offset < expected
            if self.owners.get(partition) == member:
                self.fresh.discard(partition)
        elif event == "started":
            self._began_s = time.monotonic()  # how long Python takes to start is not what is measured
        elif event == "closed":
            self.members.pop(member).wait()
            self.closing.discard(member)
            self.dead.add(member)

    def close(self) -> None:
        for process in self.members.values():
            process.kill()
            process.wait()
        os.close(self.read_end)
        os.close(self.write_end)


def supply(bootstrap: str, topic: str, over: threading.Event) -> None:
    with ottla.Producer(bootstrap, linger_ms=0) as producer:
        number = 0
        while not over.is_set():
            producer.send(topic, b"%d" % number, partition=number % PARTITIONS)
            number += 1
            time.sleep(0.01)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> int:
    """All kinds, one after the other; how many problems there were."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rebalances", type=int, default=60)
    parser.add_argument("--broker", choices=["ottla", "kafka"], default="ottla")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        kind_of_broker: type[Broker] = OttlaBroker if options.broker == "ottla" else ApacheKafka
        broker = kind_of_broker(Path(directory) / "broker", settings=SETTINGS)
        broker.start()
        try:
            for kind, settings in KINDS.items():
                problems += measure(broker.bootstrap, kind, settings, options.rebalances // len(KINDS), options.seed)
        finally:
            broker.stop()
    for problem in problems[:20]:
        print(problem)
    return len(problems)


def measure(bootstrap: str, kind: str, settings: dict[str, Any], events: int, seed: int) -> list[str]:
    topic = f"events-{kind}"
    create_topic(bootstrap, topic, PARTITIONS)
    over = threading.Event()
    supplier = threading.Thread(target=supply, args=(bootstrap, topic, over))
    supplier.start()
    run = Run(bootstrap, topic, settings, random.Random(f"{kind} {seed}"))
    stalls: dict[str, list[float]] = {}
    try:
        run.start_member()
        run.wait("start")
        for _ in range(events):
            event = run.event()
            stalls.setdefault(event, []).append(run.wait(event))
            run.listen(run.dice.uniform(0, 1))
    finally:
        over.set()
        supplier.join()
        run.close()
    print(f"{kind}: {run.processed} records, {run.reprocessed} again, {len(run.problems)} problems")
    for event, values in sorted(stalls.items()):
        figures = ", ".join(f"p{share * 100:g} {percentile(values, share):.2f} s" for share in (0.5, 0.99))
        print(f"  {event:>5}: {len(values):3} times, {figures}", flush=True)
    return run.problems


if __name__ == "__main__":
    if sys.argv[1:2] == ["--member"]:
        member(sys.argv[2], sys.argv[3], sys.argv[4], json.loads(sys.argv[5]), int(sys.argv[6]))
    else:
        sys.exit(main() > 0)
