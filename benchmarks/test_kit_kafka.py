"""`python -m benchmarks.test_kit_kafka`: a suite of tests on the test kit's fixture and on Apache Kafka, side by side.

The tests are the same ones, of the made-up shop (tests/compatibility/shop) and 200 small ones with a fresh topic each,
written with confluent-kafka. pytest is a new process each time; Apache Kafka is started by its fixture, freshly, with a
small heap and quick settings (`tests/conftest.py`). Wall clock; memory is the peak of pytest's process and of the
processes that it started.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.brokers import ROOT, ApacheKafka, kafka_version

KINDS = {"fixture": "the kit's fixture", "apache": "Apache Kafka"}
SMALL = 200
FIRST_RECORDS = 5

SMALL_TESTS = f"""
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

@pytest.mark.parametrize("number", range({SMALL}))
def test_small(bootstrap_servers, name, number, clients_of):
    admin, producer = clients_of(bootstrap_servers)
    admin.create_topics([NewTopic(name, 1)])[name].result(20)
    reports = []
    producer.produce(name, b"1", on_delivery=lambda error, message: reports.append((error, message.offset())))
    producer.flush(20)
    assert reports == [(None, 0)]
"""
SMALL_FIXTURES = """
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from tests.compatibility.conftest import kafka_bootstrap
from tests.compatibility.shop.conftest import bootstrap_servers
from tests.conftest import name

@pytest.fixture(scope="session")
def clients_of():
    made = {}
    def clients(address):
        if address not in made:
            settings = {"bootstrap.servers": address, "log_level": 0}
            made[address] = AdminClient(settings), Producer(settings | {"linger.ms": 0})
        return made[address]
    return clients
"""
FIRST_RECORD = """
import json, time
began = time.perf_counter()
from confluent_kafka import Producer
from ottla.testing import Cluster
with Cluster() as cluster:
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers, "linger.ms": 0, "log_level": 0})
    reports = []
    producer.produce("orders", b"1", on_delivery=lambda error, message: reports.append(error))
    producer.flush(20)
    took = time.perf_counter() - began
    assert reports == [None]
print(json.dumps(took))
"""


class Figures(NamedTuple):
    """Of one run of a suite."""

    outcomes: dict[str, str]
    first_s: float
    median_ms: float
    total_s: float
    memory_mb: float


class Watch:
    """A pytest plugin: when the first test began, what each took, and how much memory was there."""

    def __init__(self) -> None:
        self.first_s = 0.0
        self.took_ms: dict[str, float] = {}
        self.outcomes: dict[str, str] = {}
        self.memory_mb = 0.0

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note a phase of a test."""
        name = report.nodeid.partition("::")[2].replace("[fixture", "[").replace("[apache", "[")
        if report.when == "setup" and not self.first_s:
            self.first_s = time.time() - float(os.environ["OTTLA_BENCHMARK_BEGAN"])
        elif report.when == "call":
            self.took_ms[name] = report.duration * 1000
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[name] = report.outcome
        if report.when == "call":
            self.memory_mb = max(self.memory_mb, sum(map(_peak_mb, [os.getpid(), *_children()])))

    def pytest_sessionfinish(self) -> None:
        """Write it down for the process that asked."""
        figures = [self.outcomes, self.first_s, median(self.took_ms.values() or [0]), 0.0, self.memory_mb]
        Path(os.environ["OTTLA_BENCHMARK_FIGURES"]).write_text(json.dumps(figures))


def pytest_configure(config: Any) -> None:
    """This module is the plugin, too."""
    config.pluginmanager.register(Watch())


def _children() -> list[int]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def _peak_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def main() -> int:
    """Print the table; 1 when the results are not the same."""
    with tempfile.TemporaryDirectory() as directory:
        small = Path(directory) / "small"
        small.mkdir()
        (small / "test_small.py").write_text(SMALL_TESTS)
        (small / "conftest.py").write_text(SMALL_FIXTURES)
        suites = {kind: _suite(kind, ROOT / "tests/compatibility/shop", Path(directory)) for kind in KINDS}
        smalls = {kind: _suite(kind, small, Path(directory)) for kind in KINDS}
        first = {"fixture": _first_in_process(), "apache": _first_of_kafka(Path(directory))}
    same = suites["fixture"].outcomes == suites["apache"].outcomes and set(suites["fixture"].outcomes.values()) == {
        "passed"
    }
    count = len(suites["fixture"].outcomes)
    print(
        f"Apache Kafka {kafka_version()}; {count} tests of the shop: {'the same results' if same else 'NOT the same'}"
    )
    _row("", *KINDS.values())
    _row("import, start → first acknowledged record", *(f"{first[kind] * 1000:.0f} ms" for kind in KINDS))
    for what, figures in ((f"{count} tests of the shop", suites), (f"{SMALL} small tests, a topic each", smalls)):
        _row(f"{what}: until the first begins", *(f"{figures[kind].first_s:.1f} s" for kind in KINDS))
        _row("  a test (median)", *(f"{figures[kind].median_ms:.0f} ms" for kind in KINDS))
        _row("  all of it, pytest and broker too", *(f"{figures[kind].total_s:.1f} s" for kind in KINDS))
        _row("  memory, pytest and broker", *(f"{figures[kind].memory_mb:.0f} MB" for kind in KINDS))
    return 0 if same else 1


def _suite(kind: str, tests: Path, directory: Path) -> Figures:
    written = directory / "figures.json"
    written.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "benchmarks.test_kit_kafka"]
    command += ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), "-k", kind, str(tests)]
    began = time.time()
    environment = {
        **os.environ,
        "OTTLA_BENCHMARK_BEGAN": str(began),
        "OTTLA_BENCHMARK_FIGURES": str(written),
        "OTTLA_REQUIRE_TOOLS": "1",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    total = time.time() - began
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-1000:], file=sys.stderr)
    return Figures(*json.loads(written.read_text()))._replace(total_s=total)


def _first_in_process() -> float:
    took = []
    for _ in range(FIRST_RECORDS):
        done = subprocess.run([sys.executable, "-c", FIRST_RECORD], capture_output=True, text=True, check=True)
        took.append(float(json.loads(done.stdout)))
    return median(took)


def _first_of_kafka(directory: Path) -> float:
    """With formatting of its directory, as a fixture has to do it; nothing is imported but the client."""
    from confluent_kafka import Producer

    broker = ApacheKafka(directory / "kafka", heap="-Xmx512m -Xms128m -XX:TieredStopAtLevel=1")
    began = time.perf_counter()
    broker.start()
    try:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0, "log_level": 0})
        producer.produce("orders", b"1")
        if producer.flush(60):
            raise TimeoutError("Apache Kafka took no record")
        return time.perf_counter() - began
    finally:
        broker.stop()


def _row(what: str, *cells: str) -> None:
    print(f"{what:<58} {' '.join(f'{cell:>18}' for cell in cells)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
