"""Broker processes: an Ottla or an Apache Kafka node on loopback, started, stopped and killed from outside.

Both keep everything in one directory; `broker.log` there is what they printed.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from benchmarks.wire import Connection, WireError
from benchmarks.wire_door import Door

ROOT = Path(__file__).resolve().parent.parent
KAFKA_HOME = Path(os.environ.get("KAFKA_HOME", ROOT / ".tools" / "kafka"))


class BrokerError(Exception):
    """A broker did not start or went away; the message ends with what it printed last."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker(ABC):
    """One node with its data in `directory`; `settings` are Kafka settings on top of what the kind of broker needs."""

    label: str
    start_timeout = 60.0
    door: Door | None = None
    """How one gets in; None where everybody does."""

    def __init__(self, directory: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.settings = dict(settings or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at_ns = 0
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process and self.process.poll() is None else None

    @property
    def output(self) -> str:
        path = self.directory / "broker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    @abstractmethod
    def log_directory(self) -> Path:
        """Where the partition directories are."""

    @abstractmethod
    def command(self) -> list[str]:
        """What to run; may write files into the directory first."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def spawn(self) -> None:
        """Start the process without waiting for it, in a session of its own: a Ctrl-C here does not reach it."""
        command = self.command()
        with (self.directory / "broker.log").open("ab") as output:
            self.started_at_ns = time.monotonic_ns()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                start_new_session=True,
            )

    def connect(self, timeout: float = 60.0) -> Connection:
        """A connection to its first listener. OSError when there is none."""
        return Connection(self.bootstrap, timeout, self.door)

    def start(self) -> Broker:
        self.spawn()
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> float:
        """Wait until the node answers and names itself; returns the seconds since it was spawned."""
        deadline = time.monotonic() + self.start_timeout
        while True:
            with contextlib.suppress(OSError, WireError), self.connect(5) as connection:
                connection.api_versions()
                if connection.metadata([]).brokers:
                    return (time.monotonic_ns() - self.started_at_ns) / 1e9
            if self.process is None or self.process.poll() is not None:
                raise BrokerError(f"{self.label} ended while it started:\n{self.output[-2000:]}")
            if time.monotonic() > deadline:
                raise BrokerError(f"{self.label} is not up after {self.start_timeout} s:\n{self.output[-2000:]}")
            time.sleep(0.005)

    def stop(self) -> int | None:
        """SIGTERM, and SIGKILL when that does not help within 30 s. Returns the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int | None:
        """SIGKILL: what the process had not flushed is left to the operating system."""
        return self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int | None:
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def wipe(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class OttlaBroker(Broker):
    """`ottla start` from the environment that runs this program."""

    label = "ottla"

    @property
    def log_directory(self) -> Path:
        return self.directory / "data"

    def command(self) -> list[str]:
        command = [sys.executable, "-m", "ottla", "start", "--data", str(self.log_directory)]
        for name, value in {
            "listeners": f"PLAINTEXT://{self.bootstrap}",
            "http.listeners": "",
            **self.settings,
        }.items():
            command += ["--set", f"{name}={value}"]
        return command


class OttlaOnProperties(OttlaBroker):
    """`ottla start --config FILE` with the server.properties that another broker, Apache Kafka, was started with."""

    def __init__(self, directory: Path, properties: Path, log_directory: Path, *, port: int) -> None:
        super().__init__(directory, port=port)
        self.properties = properties
        self._log_directory = log_directory

    @property
    def log_directory(self) -> Path:
        return self._log_directory

    def command(self) -> list[str]:
        return [sys.executable, "-m", "ottla", "start", "--config", str(self.properties)]


class ApacheKafka(Broker):
    """One KRaft node in combined mode from the jars in KAFKA_HOME, stock settings, the stock script's JVM flags."""

    label = "kafka"

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        heap: str = "-Xmx1G -Xms1G",
    ) -> None:
        super().__init__(directory, port=port, settings=settings)
        self.controller_port = free_port()
        self.heap = heap

    @property
    def log_directory(self) -> Path:
        return self.directory / "data"

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"

    def command(self) -> list[str]:
        self._write_properties()
        if not (self.log_directory / "meta.properties").exists():
            self._format()
        flags = "-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35"
        flags += " -XX:+ExplicitGCInvokesConcurrent -XX:MaxInlineLevel=15 -Djava.awt.headless=true"
        return [*java(*self.heap.split(), *flags.split(), log_level="INFO"), "kafka.Kafka", str(self.properties)]

    def _write_properties(self) -> None:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "num.network.threads": "3",
            "num.io.threads": "8",
            "socket.send.buffer.bytes": "102400",
            "socket.receive.buffer.bytes": "102400",
            "socket.request.max.bytes": "104857600",
            "log.dirs": str(self.log_directory),
            "num.partitions": "1",
            "num.recovery.threads.per.data.dir": "2",
            "offsets.topic.replication.factor": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "log.retention.hours": "168",
            "log.segment.bytes": "1073741824",
            "log.retention.check.interval.ms": "300000",
            **self.settings,
        }
        self.properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))

    def _format(self) -> None:
        tool = [*java("-Xmx256m"), "kafka.tools.StorageTool"]
        cluster_id = (
            "A" + base64.urlsafe_b64encode(os.urandom(16)).decode()[1:22]
        )  # a leading dash would look like an option
        done = subprocess.run(
            [*tool, "format", "--standalone", "-t", cluster_id, "-c", str(self.properties)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BrokerError(f"kafka-storage format failed:\n{done.stdout}{done.stderr}")


def java(*flags: str, log_level: str = "WARN") -> list[str]:
    """The start of a command line that runs a class of Apache Kafka."""
    home = require_kafka()
    logging = [f"-Dlog4j2.configurationFile={home / 'log4j2.yaml'}", f"-Dottla.loglevel={log_level}"]
    return ["java", *flags, *logging, "-cp", str(home / "libs" / "*")]


def require_kafka() -> Path:
    """KAFKA_HOME, or one clear line about what is missing."""
    if not shutil.which("java"):
        raise BrokerError("Apache Kafka needs the command java, which is not on this machine")
    if not any((KAFKA_HOME / "libs").glob("kafka_2.13-*.jar")):
        raise BrokerError(
            f"Apache Kafka is not in {KAFKA_HOME}: run `scripts/install-tools kafka` (needs java and mvn)"
        )
    return KAFKA_HOME


def kafka_version() -> str:
    for jar in (require_kafka() / "libs").glob("kafka-clients-*.jar"):
        if found := re.search(r"kafka-clients-(.+)\.jar", jar.name):
            return found.group(1)
    return "?"
