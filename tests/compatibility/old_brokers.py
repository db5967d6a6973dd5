"""Our clients on older brokers: `python -m tests.compatibility.old_brokers 2.4.1 2.8.2 3.9.1 [--only PART]`.

Downloads those versions of Apache Kafka with mvn into `--home` (outside the checkout, about 100 MB each; kept), starts
each as one node on loopback (with a ZooKeeper before 3.3), tries every feature of the clients once, and prints a table
in Markdown: yes; no, where the broker lacks it and the client said so in a KafkaError; FAILED, with the reasons below
the table. A cluster that runs already, of whatever kind, is tried with `--bootstrap HOST:PORT --label Redpanda`; it
gets topics and groups whose names begin with "sweep-". Not part of the test suite: what it has found is kept as tests
against scripted brokers in `tests/client`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ottla
from benchmarks.brokers import Broker, BrokerError, free_port
from tests.compatibility.broker_sweep import Outcome, sweep_cluster

POM = """<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>ottla</groupId><artifactId>old-kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_{scala}</artifactId><version>{version}</version></dependency>
    {others}
  </dependencies>
  <build><plugins><plugin>
    <groupId>org.apache.maven.plugins</groupId><artifactId>maven-dependency-plugin</artifactId><version>3.6.1</version>
  </plugin></plugins></build>
</project>
"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
LOG4J = (("org.slf4j", "slf4j-reload4j", "1.7.36"),)
ZOOKEEPER = (("org.apache.zookeeper", "zookeeper", "3.5.9"),)
"""For Kafka before 2.4, whose own does not run on Java 14 or newer; brings a log4j along."""
LOG4J_2 = tuple(("org.apache.logging.log4j", name, "2.25.3") for name in ("log4j-slf4j-impl", "log4j-core"))
COMMON = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
}


class OldKafka(Broker):
    """One node of an older Apache Kafka: KRaft since 3.3, a ZooKeeper beside it before."""

    def __init__(self, version: str, home: Path, directory: Path) -> None:
        super().__init__(directory)
        self.label = f"Kafka {version}"
        self.version = tuple(int(part) for part in version.split("."))
        self.libs = download(version, home)
        self.zookeeper: subprocess.Popen[bytes] | None = None
        self.second_port = free_port()
        """ZooKeeper's, or the controller's."""

    @property
    def log_directory(self) -> Path:
        return self.directory / "data"

    @property
    def has_zookeeper(self) -> bool:
        return self.version < (3, 3)

    def java(self, heap: str, *command: str) -> list[str]:
        log4j = self.directory / "log4j.properties"
        log4j.write_text(
            "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"
            "log4j.appender.out.layout=org.apache.log4j.SimpleLayout\n"
        )
        flags = ["-XX:TieredStopAtLevel=1", f"-Dlog4j.configuration=file:{log4j}"]
        return ["java", f"-Xmx{heap}", *flags, "-cp", str(self.libs / "*"), *command]

    def command(self) -> list[str]:
        settings = COMMON | {"listeners": f"PLAINTEXT://{self.bootstrap}", "log.dirs": str(self.log_directory)}
        second = f"127.0.0.1:{self.second_port}"
        if self.has_zookeeper:
            self._start_zookeeper()
            settings |= {"broker.id": "1", "zookeeper.connect": second, "zookeeper.connection.timeout.ms": "30000"}
        else:
            settings |= {
                "process.roles": "broker,controller",
                "node.id": "1",
                "controller.quorum.voters": f"1@{second}",
                "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{second}",
                "controller.listener.names": "CONTROLLER",
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            }
        properties = self.directory / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        if not self.has_zookeeper:
            formatting = self.java("128m", "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAew")
            subprocess.run([*formatting, "-c", str(properties)], check=True, capture_output=True)
        return self.java("384m", "kafka.Kafka", str(properties))

    def _start_zookeeper(self) -> None:
        properties = self.directory / "zookeeper.properties"
        properties.write_text(
            f"dataDir={self.directory / 'zookeeper'}\nclientPort={self.second_port}\n"
            "clientPortAddress=127.0.0.1\nadmin.enableServer=false\nmaxClientCnxns=0\n"
        )
        command = self.java("96m", "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(properties))
        with (self.directory / "zookeeper.log").open("wb") as output:
            self.zookeeper = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

    def wait_until_ready(self) -> float:
        deadline = time.monotonic() + self.start_timeout
        with ottla.Admin(self.bootstrap, default_api_timeout_ms=2_000, request_timeout_ms=1_000) as admin:
            while True:
                try:
                    if admin.describe_cluster().nodes:
                        return (time.monotonic_ns() - self.started_at_ns) / 1e9
                except ottla.KafkaError as error:
                    is_over = self.process is None or self.process.poll() is not None
                    if is_over or time.monotonic() > deadline:
                        raise BrokerError(f"{self.label} does not start ({error}):\n{self.output[-2000:]}") from error
                time.sleep(0.2)

    def stop(self) -> int | None:
        code = super().kill()
        if self.zookeeper is not None:
            self.zookeeper.kill()
            self.zookeeper.wait()
        return code


def download(version: str, home: Path) -> Path:
    """The jars of a version."""
    directory = home / version
    libs = directory / "libs"
    if not any(libs.glob("kafka-clients-*.jar")):
        directory.mkdir(parents=True, exist_ok=True)
        number = tuple(map(int, version.split(".")[:2]))
        others = LOG4J_2 if number >= (4, 0) else LOG4J if number >= (2, 4) else ZOOKEEPER
        (directory / "pom.xml").write_text(
            POM.format(
                version=version,
                scala="2.13" if number >= (2, 4) else "2.12",
                others="\n    ".join(DEPENDENCY.format(*names) for names in others),
            )
        )
        mvn = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={libs}"]
        subprocess.run(mvn, cwd=directory, check=True)
    return libs


def swept(label: str, bootstrap: str, only: str) -> dict[str, Outcome]:
    found = {}
    for name, outcome in sweep_cluster(bootstrap, only):
        found[name] = outcome
        if outcome.status != "yes":
            print(f"{label}: {name}: {outcome.status or '-'} {outcome.message}", file=sys.stderr, flush=True)
    return found


def table(results: dict[str, dict[str, Outcome]]) -> str:
    """A column for each cluster; the admin calls that work everywhere share a row."""
    names = list(next(iter(results.values())))
    lines = ["| | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    plain = 0
    for name in names:
        statuses = [found[name].status for found in results.values()]
        if re.match("`Admin", name) and set(statuses) == {"yes"}:
            plain += 1
        else:
            lines.append(f"| {name} | " + " | ".join(statuses) + " |")
    if plain:
        lines.append(f"| {plain} other kinds of admin calls" + " | yes" * len(results) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", help="of Apache Kafka, 2.1.1 or newer")
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "old-kafka", help="for downloads")
    parser.add_argument("--bootstrap", help="a cluster that runs already")
    parser.add_argument("--label", default="this cluster", help="its name in the table")
    parser.add_argument("--only", default="", help="only features whose name contains this")
    options = parser.parse_args()
    results: dict[str, dict[str, Outcome]] = {}
    if options.bootstrap:
        results[options.label] = swept(options.label, options.bootstrap, options.only)
    for version in options.versions:
        with tempfile.TemporaryDirectory() as directory:
            broker = OldKafka(version, options.home, Path(directory))
            try:
                broker.start()
                results[broker.label] = swept(broker.label, broker.bootstrap, options.only)
            finally:
                broker.stop()
    print(table(results))
    failed = [name for found in results.values() for name, outcome in found.items() if outcome.status == "FAILED"]
    # No client is left to close, and none may keep the program alive.
    sys.stdout.flush()
    os._exit(1 if failed else 0)


if __name__ == "__main__":
    main()
