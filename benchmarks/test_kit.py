"""`python -m benchmarks.test_kit`: how long the test kit takes, against its goals.

A start is measured in an interpreter of its own, imports included, as the first test of a suite meets it (with bytecode
that was written before, as pip does), and in one that has started a cluster already. Wall clock, medians; the processor
time beside it is what to trust on a machine that is busy.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

START_GOAL_MS = 150
STOP_GOAL_MS = 50
SUITE_GOAL_S = 10
TESTS = 200
FRESH_STARTS = 9
WARM_STARTS = 50

FRESH_START = """
import json, resource, time
wall, cpu = time.perf_counter(), time.process_time()
from ottla.testing import Cluster
cluster = Cluster().start()
{first_record}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
stopping = time.perf_counter()
cluster.stop()
stopping = time.perf_counter() - stopping
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([wall * 1000, cpu * 1000, stopping * 1000, memory / 1000]))
"""
FIRST_RECORD = {
    "the kit's own produce()": 'cluster.produce("orders", b"1")',
    "ottla.Producer": (
        "import ottla\n"
        "producer = ottla.Producer(cluster.bootstrap_servers, linger_ms=0)\n"
        'producer.send("orders", b"1").result(10)'
    ),
}
SUITE = f"""
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_small(kafka, kafka_topic, number):
    kafka.produce(kafka_topic, {{"id": number}})
    assert kafka.read(kafka_topic, dict, count=1) == [{{"id": number}}]
"""
CLIENT_SUITE = f"""
import ottla
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_small(kafka, kafka_topic, number):
    with ottla.Producer(kafka.bootstrap_servers) as producer:
        producer.send(kafka_topic, b"1")
    with ottla.Consumer(kafka.bootstrap_servers, group_id="shop", auto_offset_reset="earliest") as consumer:
        consumer.subscribe([kafka_topic])
        assert [record.value for record in consumer.poll(10)] == [b"1"]
"""


def main() -> int:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{directory}/bytecode"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for client, first_record in FIRST_RECORD.items():
            _fresh(client, FRESH_START.format(first_record=first_record), environment)
        _warm()
        _suite("each with a fresh topic", SUITE, Path(directory), environment)
        _suite("each with a fresh topic, a producer and a group", CLIENT_SUITE, Path(directory), environment)
        _suite("the same on two workers", CLIENT_SUITE, Path(directory), environment, "-n", "2")
    return 0


def _fresh(client: str, program: str, environment: dict[str, str]) -> None:
    runs = []
    for number in range(FRESH_STARTS + 1):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        if number:  # the first one writes the bytecode
            runs.append(json.loads(done.stdout))
    wall, cpu, stop, memory = (statistics.median(column) for column in zip(*runs, strict=True))
    _line(f"new interpreter: import, start, first record by {client}", f"{wall:.0f} ms", f"{START_GOAL_MS} ms")
    _line("  of that processor time", f"{cpu:.0f} ms")
    _line("  stop", f"{stop:.1f} ms", f"{STOP_GOAL_MS} ms")
    _line("  memory of the process", f"{memory:.0f} MB")


def _warm() -> None:
    from ottla.testing import Cluster

    def start() -> Cluster:
        cluster = Cluster().start()
        cluster.produce("orders", b"1")
        return cluster

    starts, stops, resets = [], [], []
    for _ in range(WARM_STARTS):
        took, cluster = _timed(start)
        starts.append(took)
        resets.append(_timed(cluster.reset)[0])
        stops.append(_timed(cluster.stop)[0])
    _line("warm: start, first record", f"{statistics.median(starts):.1f} ms", f"{START_GOAL_MS} ms")
    _line("  reset", f"{statistics.median(resets):.1f} ms")
    _line("  stop", f"{statistics.median(stops):.1f} ms", f"{STOP_GOAL_MS} ms")


def _timed(function: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    result = function()
    return (time.perf_counter() - began) * 1000, result


def _suite(what: str, text: str, directory: Path, environment: dict[str, str], *options: str) -> None:
    (directory / "test_suite.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, *options]
    began = time.perf_counter()
    subprocess.run([*command, str(directory)], env=environment, capture_output=True, check=True)
    took = time.perf_counter() - began
    _line(f"{TESTS} tests, {what}", f"{took:.1f} s", f"{SUITE_GOAL_S} s")


def _line(what: str, figure: str, goal: str = "") -> None:
    print(f"{what:<75} {figure:>9}{f'   goal {goal}' if goal else ''}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
