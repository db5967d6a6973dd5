"""`python -m tests.fuzz.siege`: a broker in a process of its own, an honest client, and everybody else.

While the client sends and reads numbered records, connections are opened and dropped by the thousand, others stay half
open (also in the middle of a TLS handshake), and others send requests that are nearly right. Afterwards every record
that was acknowledged must be there, once and in order, and the broker must be as large, and have as many files open,
as one that has seen no harm.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from ottla.client.model import TopicPartition
from ottla.protocol.catalog import messages_and_versions
from ottla.protocol.framing import encode_request
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest
from tests.cli.doctor.authority import write_key_store
from tests.fuzz.mutation import mutate
from tests.protocol.conftest import random_message

TOPIC = "honest"
AT_ONCE = 100
PING = b"".join(encode_request(ApiVersionsRequest(), 0, 1, "siege"))
WRONG_LOGIN = b"".join(
    (
        *encode_request(SaslHandshakeRequest(mechanism="PLAIN"), 1, 1, "siege"),
        *encode_request(SaslAuthenticateRequest(auth_bytes=b"\0honest\0wrong"), 2, 2, "siege"),
    )
)


class Broker:
    """`ottla start` with a plain listener, one with TLS, and one with TLS and passwords."""

    def __init__(self, directory: Path) -> None:
        self.port, self.tls_port, self.guarded_port = _free_ports(3)
        store = directory / "keystore.pem"
        now = datetime.now(UTC)
        write_key_store(store, now - timedelta(days=1), now + timedelta(days=10))
        settings = {
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},SSL://127.0.0.1:{self.tls_port},"
            f"SASL_SSL://127.0.0.1:{self.guarded_port}",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": 'PlainLoginModule required user_honest="secret";',
            "ssl.keystore.location": store,
            "ssl.keystore.type": "PEM",
            "connections.first.request.timeout.ms": 5000,
            "queued.max.request.bytes": 200 * 2**20,
            "http.listeners": "",
        }
        command = [sys.executable, "-m", "ottla", "start", "--data", str(directory / "data")]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        self.log = directory / "broker.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "ready" not in line:
            raise RuntimeError(f"the broker did not start: {self.log.read_text()[-2000:]}")

    @property
    def memory_bytes(self) -> int:
        """What it holds now."""
        text = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def files(self) -> int:
        """Open files."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def peak_bytes(self) -> int:
        """The most it has held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024

    def stop(self) -> int:
        """End it in order; its exit code."""
        self.process.terminate()
        assert self.process.stdout is not None
        with self.process.stdout:
            return self.process.wait(30)


class Honest:
    """Sends numbered records and reads them, until told to stop."""

    def __init__(self, port: int) -> None:
        import ottla

        self._servers = f"127.0.0.1:{port}"
        self.acknowledged: list[int] = []
        self.longest_s = 0.0
        self.failure: BaseException | None = None
        self._stopping = threading.Event()
        with ottla.Admin(self._servers) as admin:
            admin.create_topics(TOPIC)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        import ottla

        try:
            with ottla.Producer(self._servers) as producer:
                number = 0
                while not self._stopping.is_set():
                    started = time.monotonic()
                    producer.send(TOPIC, b"%d" % number).result(30)
                    self.longest_s = max(self.longest_s, time.monotonic() - started)
                    self.acknowledged.append(number)
                    number += 1
        except BaseException as error:
            self.failure = error

    def stop(self) -> list[int]:
        """Stop sending, and read all that is there."""
        import ottla

        self._stopping.set()
        self._thread.join(60)
        if self.failure is not None:
            raise self.failure
        read: list[int] = []
        with ottla.Consumer(self._servers, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(TOPIC, 0)])
            end = time.monotonic() + 30
            while len(read) < len(self.acknowledged) and time.monotonic() < end:
                read += [int(record.value) for record in consumer.poll(1.0)]
        return read


async def in_portions(count: int, one: Callable[[int], Awaitable[None]]) -> None:
    """`count` of them, `AT_ONCE` at a time."""
    for start in range(0, count, AT_ONCE):
        await asyncio.gather(
            *(one(number) for number in range(start, min(count, start + AT_ONCE))), return_exceptions=True
        )


async def open_and_drop(ports: list[int], number: int, random: Random) -> None:
    """One connection that says little, or nonsense, and is gone."""
    _, writer = await asyncio.open_connection("127.0.0.1", ports[number % len(ports)])
    writer.write(
        (b"", b"\x00", PING, b"GET / HTTP/1.1\r\n\r\n", random.randbytes(200), b"\x7f\xff\xff\xff")[number % 6]
    )
    if number % 2:
        writer.transport.abort()
    else:
        writer.close()


async def stay_half_open(ports: list[int], number: int, kept: list[Any]) -> None:
    """A connection that begins something and does not go on; on a TLS port the beginning of a ClientHello."""
    _, writer = await asyncio.open_connection("127.0.0.1", ports[number % len(ports)])
    on_tls = number % len(ports) > 0
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00" if on_tls else (b"", b"\x00\x00", PING[:9])[number % 3])
    kept.append(writer)


def nearly_right(random: Random, requests: list[Any]) -> bytes:
    """A request with a few bytes changed, in a frame of the right size."""
    cls, version = random.choice(requests)
    frame = b"".join(encode_request(random_message(cls, version, random), version, 7, "siege"))
    # The header stays mostly, so that the body is what is looked at.
    changed = frame[4:12] + mutate(frame[12:], frame[12:], random)
    return len(changed).to_bytes(4, "big") + changed


async def send_nonsense(ports: list[int], number: int, random: Random, requests: list[Any]) -> None:
    """Some requests that are nearly right, on one connection; every fourth behind a handshake, and before a login."""
    is_guarded = number % 4 == 0
    context = None
    if is_guarded:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", ports[-1 if is_guarded else 0], ssl=context)
    if number % 8 == 0:
        writer.write(WRONG_LOGIN)
    for _ in range(5):
        writer.write(nearly_right(random, requests))
    try:
        await asyncio.wait_for(reader.read(65536), 0.2)
    except (TimeoutError, ConnectionError):
        pass
    writer.transport.abort()


async def attack(ports: list[int], drops: int, half_open: int, nonsense: int, seed: int) -> dict[str, float]:
    """All of it; seconds by kind."""
    random = Random(seed)
    wanted = (
        "Fetch",
        "Produce",
        "Metadata",
        "ListOffsets",
        "JoinGroup",
        "OffsetCommit",
        "ApiVersions",
        "FindCoordinator",
    )
    requests = [pair for pair in messages_and_versions() if pair[0].__name__ in {f"{name}Request" for name in wanted}]
    kept: list[Any] = []
    spent = {}
    started = time.monotonic()
    await in_portions(half_open, lambda number: stay_half_open(ports, number, kept))
    spent["half_open_s"] = round(time.monotonic() - started, 2)
    started = time.monotonic()
    await in_portions(drops, lambda number: open_and_drop(ports, number, random))
    spent["drops_s"] = round(time.monotonic() - started, 2)
    started = time.monotonic()
    await in_portions(nonsense, lambda number: send_nonsense(ports, number, random, requests))
    spent["nonsense_s"] = round(time.monotonic() - started, 2)
    spent["half_open"] = len(kept)
    await asyncio.sleep(1)
    for writer in kept:
        writer.transport.abort()
    return spent


def besiege(directory: Path, drops: int, half_open: int, nonsense: int, seed: int) -> dict[str, Any]:
    """The whole story in figures. Raises AssertionError when something was lost."""
    broker = Broker(directory)
    try:
        honest = Honest(broker.port)
        time.sleep(0.5)
        before = {"memory": broker.memory_bytes, "files": broker.files}
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.siege",
            "--attack",
            f"{broker.port},{broker.tls_port},{broker.guarded_port}",
        ]
        command += [
            "--drops",
            str(drops),
            "--half-open",
            str(half_open),
            "--nonsense",
            str(nonsense),
            "--seed",
            str(seed),
        ]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        time.sleep(1.0)
        read = honest.stop()
        assert read == honest.acknowledged, "records were lost, or doubled"
        time.sleep(1.0)
        after = {"memory": broker.memory_bytes, "files": broker.files}
        peak = broker.peak_bytes
    finally:
        code = broker.stop()
    log = broker.log.read_text()
    assert code == 0, log[-2000:]
    assert "Traceback" not in log, log[-4000:]
    return {
        **json.loads(told),
        "drops": drops,
        "nonsense": nonsense,
        "records": len(read),
        "lost": 0,
        "longest_send_ms": round(honest.longest_s * 1000),
        "memory_mib": [round(value / 2**20) for value in (before["memory"], peak, after["memory"])],
        "files": [before["files"], after["files"]],
        "log_lines": log.count("\n"),
    }


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def main() -> int:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.siege")
    parser.add_argument("--drops", type=int, default=10_000)
    parser.add_argument("--half-open", type=int, default=1000)
    parser.add_argument("--nonsense", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--attack", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        ports = [int(port) for port in options.attack.split(",")]
        print(json.dumps(asyncio.run(attack(ports, options.drops, options.half_open, options.nonsense, options.seed))))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        for name, value in besiege(
            Path(directory), options.drops, options.half_open, options.nonsense, options.seed
        ).items():
            print(f"{name:<16} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
