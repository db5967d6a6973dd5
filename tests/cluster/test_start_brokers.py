"""`ottla start --brokers 3`: real processes that serve, come back when killed, end in order, and start again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import ottla

READY = re.compile(r"ready in .* s: 3 brokers, kafka on (\S+), data in")
PATIENCE_S = 60.0


class LocalCluster:
    """The supervising process, and what it said."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.log = directory / "log"
        self.process: subprocess.Popen[str] | None = None
        self.bootstrap = ""

    def start(self) -> None:
        port = () if (self.data / "ottla.cluster").exists() else ("--port", "0")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ottla", "start", "--brokers", "3", *port, "--data", str(self.data)]
                + ["--set", "http.listeners=", "--set", "broker.session.timeout.ms=4000"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "OTTLA_DEBUG": "1"},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = READY.search(line)
        assert found, f"{line}\n{self.log.read_text()[-4000:]}"
        self.bootstrap = found[1]

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode

    def pid_of(self, broker: int) -> int | None:
        """From what the broker has left in its directory while it serves."""
        try:
            text = (self.data / f"broker-{broker}" / "ottla.node").read_text()
        except FileNotFoundError:
            return None
        return int(re.findall(r"^pid=(\d+)$", text, re.MULTILINE)[0])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    made = LocalCluster(tmp_path)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def ottla_json(*arguments: str) -> dict:
    done = subprocess.run([sys.executable, "-m", "ottla", *arguments, "--json"], capture_output=True, text=True)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def is_in_sync(cluster: LocalCluster) -> bool:
    with ottla.Admin(bootstrap_servers=cluster.bootstrap) as admin:
        topics = admin.describe_topics(["orders"])
    return all(len(one.in_sync_replicas) == 3 for one in topics["orders"].partitions)


def test_three_brokers_serve_survive_and_start_again(cluster: LocalCluster) -> None:
    with ottla.Admin(bootstrap_servers=cluster.bootstrap) as admin:
        admin.create_topics([ottla.admin.NewTopic("orders", num_partitions=3)])
    sent: list[bytes] = []

    def send(count: int) -> None:
        with ottla.Producer(bootstrap_servers=cluster.bootstrap, acks="all") as producer:
            for number in range(len(sent), len(sent) + count):
                sent.append(b"%d" % number)
                producer.send("orders", sent[-1])

    send(100)
    said = ottla_json("status", "--data", str(cluster.data))
    assert (said["health"], len(said["brokers"])) == ("healthy", 3)

    victim = cluster.pid_of(2)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    send(100)  # two of three are enough
    wait_until(lambda: cluster.pid_of(2) not in (None, victim), "the broker is started again")
    wait_until(lambda: is_in_sync(cluster), "the broker catches up")
    assert "broker-2" in cluster.log.read_text()

    assert cluster.stop() == 0
    assert all((cluster.data / f"broker-{broker}" / ".kafka_cleanshutdown").exists() for broker in (1, 2, 3))
    cluster.start()
    with ottla.Consumer(cluster.bootstrap, group_id="g", topics=["orders"], auto_offset_reset="earliest") as consumer:
        found: list[int] = []
        while len(found) < len(sent):
            found += [int(record.value) for record in consumer.poll(30)]
    assert sorted(found) == list(range(len(sent)))
    assert cluster.stop() == 0
