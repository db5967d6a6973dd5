"""`python -m benchmarks.tls`: produce and fetch over TLS, Ottla against Apache Kafka, in turns on one machine.

Both brokers have the same PKCS12 keystore (P-256) and speak TLS 1.3 with AES-256-GCM, which both prefer. The client is
one process with one blocking connection for each case: what it costs is the same for both. Throughput is in MB (1e6)
of batches; processor time is the broker's alone.
"""

from __future__ import annotations

import argparse
import datetime
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12
from cryptography.x509 import load_pem_x509_certificates

from benchmarks import wire
from benchmarks.brokers import ApacheKafka, Broker, OttlaBroker, free_port
from benchmarks.measure import cpu_seconds
from ottla.security.authority import issue, make_authority

_PASSWORD = "benchmark"
_WRITTEN, _READ, _SMALL = "written", "read", "small"
_NOT_LEADER = 6


class TlsConnection(wire.Connection):
    """A `wire.Connection` with TLS, when there is a context."""

    def __init__(self, bootstrap: str, context: ssl.SSLContext | None) -> None:
        super().__init__(bootstrap)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname=bootstrap.partition(":")[0])


@dataclass
class Target:
    """A broker that listens with and without TLS."""

    broker: Broker
    tls_port: int
    context: ssl.SSLContext
    figures: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By case: MB/s (or requests/s), and broker's processor seconds per GB (or per 100,000 requests)."""

    def connect(self, *, tls: bool) -> TlsConnection:
        if tls:
            return TlsConnection(f"127.0.0.1:{self.tls_port}", self.context)
        return TlsConnection(self.broker.bootstrap, None)


@dataclass(frozen=True)
class Case:
    """`run` does its work for so many seconds and says how many requests and bytes that were."""

    name: str
    run: Callable[[wire.Connection, float], tuple[int, int]]
    tls: bool = True
    is_small: bool = False


def produce(size: int, in_flight: int) -> Callable[[wire.Connection, float], tuple[int, int]]:
    batch = wire.record_batch([bytes(size - 100)])

    def run(connection: wire.Connection, seconds: float) -> tuple[int, int]:
        body = wire.produce_body(_WRITTEN, [(0, batch)])

        def send() -> None:
            connection.send(wire.PRODUCE, 3, body)

        count = wire.keep_in_flight(connection, send, wire.check_produce, in_flight, seconds)
        return count, count * len(batch)

    return run


def fetch(
    partition_max_bytes: int, in_flight: int, topic: str = _READ
) -> Callable[[wire.Connection, float], tuple[int, int]]:
    def run(connection: wire.Connection, seconds: float) -> tuple[int, int]:
        received = 0
        # The same records again and again: from the page cache, as a consumer's that keeps up.
        body = wire.fetch_body(topic, {0: 0}, max_wait_ms=0, partition_max_bytes=partition_max_bytes)

        def send() -> None:
            connection.send(wire.FETCH, 4, body)

        def check(response: memoryview) -> None:
            nonlocal received
            for _, error, records in wire.read_fetch(response):
                assert not error, error
                received += len(records)

        return wire.keep_in_flight(connection, send, check, in_flight, seconds), received

    return run


CASES = [
    Case("produce, batches of 1 MB", produce(1_000_000, 4)),
    Case("fetch, 1 MB at a time", fetch(1_000_000, 2)),
    Case("fetch, 16 MB at a time", fetch(16_000_000, 2)),
    Case("produce, batches of 1 KB", produce(1_000, 8), is_small=True),
    Case("fetch, 16 KB at a time", fetch(16_000, 4, _SMALL), is_small=True),
    Case("produce 1 MB, no TLS", produce(1_000_000, 4), tls=False),
    Case("fetch 1 MB, no TLS", fetch(1_000_000, 2), tls=False),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each case and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--match", default="", help="only cases with this in their name")
    parser.add_argument("--targets", default="ottla,kafka")
    parser.add_argument("--directory", default="/var/tmp", help="of the logs; one in memory leaves the disk out of it")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if arguments.match in case.name]
    with tempfile.TemporaryDirectory(prefix="ottla-tls-", dir=arguments.directory) as home:
        settings, context = _stores(Path(home))
        targets = {name: _target(name, Path(home) / name, settings, context) for name in arguments.targets.split(",")}
        try:
            for target in targets.values():
                target.broker.start()
                _prepare(target)
            for number in range(-1, arguments.rounds):  # the first one is a warm-up
                for case in chosen:
                    for target in targets.values():
                        figure = _measure(target, case, arguments.seconds)
                        if number >= 0:
                            target.figures.setdefault(case.name, []).append(figure)
        finally:
            for target in targets.values():
                target.broker.kill()
    _report(chosen, targets)
    return 0


def _stores(home: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    now = datetime.datetime.now(datetime.UTC)
    authority = make_authority("benchmark", now=now, days=2)
    node = issue(authority, "node", ["127.0.0.1", "localhost"], now=now, days=1)
    certificates = load_pem_x509_certificates(node.certificate.encode())
    key = load_pem_private_key(node.key.encode(), None)
    data = pkcs12.serialize_key_and_certificates(
        b"node",
        key,  # type: ignore[arg-type]  # one of those that can be in it
        certificates[0],
        certificates[1:],
        BestAvailableEncryption(_PASSWORD.encode()),
    )
    path = home / "node.p12"
    path.write_bytes(data)
    settings = {
        "ssl.keystore.location": str(path),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.password": _PASSWORD,
        "ssl.key.password": _PASSWORD,
    }
    return settings, ssl.create_default_context(cadata=authority.certificate)


def _target(name: str, directory: Path, settings: dict[str, str], context: ssl.SSLContext) -> Target:
    tls_port = free_port()
    broker: Broker = ApacheKafka(directory, heap="-Xmx512m -Xms512m") if name == "kafka" else OttlaBroker(directory)
    listeners = f"PLAINTEXT://{broker.bootstrap},SSL://127.0.0.1:{tls_port}"
    more = {"log.retention.bytes": "4000000000", "log.segment.bytes": "1000000000"}
    if isinstance(broker, ApacheKafka):
        listeners += f",CONTROLLER://127.0.0.1:{broker.controller_port}"
        more["advertised.listeners"] = listeners
        more["listener.security.protocol.map"] = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL"
    else:
        more["inter.broker.listener.name"] = "PLAINTEXT"
    broker.settings = {"listeners": listeners, **more, **settings}
    return Target(broker, tls_port, context)


def _prepare(target: Target) -> None:
    """The topics, and 32 MB of records to read."""
    batch = wire.record_batch([bytes(999_900)])
    with target.connect(tls=False) as connection:
        deadline = time.monotonic() + 30
        while True:
            topics = connection.metadata([_WRITTEN, _READ, _SMALL], auto_create=True).topics
            leaders = [leader for _, partitions in topics.values() for _, leader in partitions.values()]
            if len(leaders) == 3 and min(leaders) >= 0:
                break
            assert time.monotonic() < deadline, "no topics"
            time.sleep(0.1)
        small = wire.record_batch([bytes(900)])
        for topic, each in [(_WRITTEN, small), *[(_READ, batch)] * 32, *[(_SMALL, small)] * 32]:
            _produce(connection, topic, each, deadline)


def _produce(connection: wire.Connection, topic: str, batch: bytes, deadline: float) -> None:
    """Kafka names the leader of a new topic before the leader knows."""
    while True:
        try:
            connection.produce(topic, 0, batch)
            return
        except wire.WireError as error:
            if error.code != _NOT_LEADER or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _measure(target: Target, case: Case, seconds: float) -> tuple[float, float]:
    pid = target.broker.pid
    assert pid is not None, target.broker.output[-2000:]
    with target.connect(tls=case.tls) as connection:
        before, start = cpu_seconds(pid), time.perf_counter()
        requests, size = case.run(connection, seconds)
        took, cost = time.perf_counter() - start, cpu_seconds(pid) - before
    amount = requests / 1e5 if case.is_small else size / 1e9
    return (requests if case.is_small else size / 1e6) / took, cost / amount


def _report(chosen: list[Case], targets: dict[str, Target]) -> None:
    names = list(targets)
    print(f"| case | {' | '.join(names)} | ratio | cpu: {' | cpu: '.join(names)} |")
    print("| --- |" + " ---: |" * (2 * len(names) + 1))
    for case in chosen:
        best = [max(speed for speed, _ in targets[name].figures[case.name]) for name in names]
        cost = [statistics.median(cost for _, cost in targets[name].figures[case.name]) for name in names]
        unit, per = ("/s", "s/100k") if case.is_small else (" MB/s", "s/GB")
        speeds = " | ".join(f"{each:,.0f}{unit}" for each in best)
        costs = " | ".join(f"{each:.2f} {per}" for each in cost)
        ratio = f"{best[0] / best[1]:.2f}" if len(best) > 1 else ""
        print(f"| {case.name} | {speeds} | {ratio} | {costs} |")


if __name__ == "__main__":
    sys.exit(main())
