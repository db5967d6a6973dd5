"""The same broker twice, once as Ottla's and once as Apache Kafka's: a plain listener, and two that ask who one is."""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path
from urllib.request import urlopen

from benchmarks.brokers import ApacheKafka, Broker, free_port
from tests.conftest import SETTINGS

SECURITY = "org.apache.kafka.common.security"
PLAIN = f'{SECURITY}.plain.PlainLoginModule required username="x" password="y" user_alice="secret" user_bob="secret";'
SCRAM = f"{SECURITY}.scram.ScramLoginModule required;"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
DELAY_MS = 20
SESSION_MS = 60_000
PATIENCE_S = 15.0


class Signed:
    """A broker with the listeners PLAINTEXT, SIGNIN, SHORT (where sessions end), and BRIEF (where they end soon)."""

    def __init__(self, kind: type[Broker], directory: Path) -> None:
        more = {"heap": "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"} if kind is ApacheKafka else {}
        self.broker = kind(directory, **more)
        self.ports = {name: free_port() for name in ("SIGNIN", "SHORT", "BRIEF")}
        self.metrics_port = free_port()
        self.broker.settings = self._settings()

    def at(self, name: str) -> str:
        """The address of a listener."""
        return f"127.0.0.1:{self.ports[name]}"

    def logins(self, listener: str, kind: str) -> int:
        """A count of Ottla's metrics: successful-reauthentication, expired-connections-killed, …"""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        name = f"kafka_server_socket_server_metrics_{kind.replace('-', '_')}"
        found = re.findall(rf'^{name}{{[^}}]*listener="{listener}"[^}}]*}} (\S+)$', text, re.MULTILINE)
        return int(float(found[0]))

    def _settings(self) -> dict[str, str]:
        listeners = [f"PLAINTEXT://{self.broker.bootstrap}", *(f"{name}://{self.at(name)}" for name in self.ports)]
        protocols = "PLAINTEXT:PLAINTEXT,SIGNIN:SASL_PLAINTEXT,SHORT:SASL_PLAINTEXT,BRIEF:SASL_PLAINTEXT"
        settings = {
            **SETTINGS,
            "listeners": ",".join(listeners),
            "listener.security.protocol.map": protocols,
            "inter.broker.listener.name": "PLAINTEXT",
            "connection.failed.authentication.delay.ms": str(DELAY_MS),
            "sasl.server.max.receive.size": "2000",
            "listener.name.short.connections.max.reauth.ms": str(SESSION_MS),
            "listener.name.brief.connections.max.reauth.ms": "1500",
        }
        if isinstance(self.broker, ApacheKafka):
            controller = f"CONTROLLER://127.0.0.1:{self.broker.controller_port}"
            settings["advertised.listeners"] = settings["listeners"]
            settings["listeners"] += f",{controller}"
            settings["listener.security.protocol.map"] += ",CONTROLLER:PLAINTEXT"
        else:
            settings["http.listeners"] = f"http://127.0.0.1:{self.metrics_port}"
        for name in self.ports:
            prefix = f"listener.name.{name.lower()}"
            settings[f"{prefix}.sasl.enabled.mechanisms"] = ",".join(MECHANISMS)
            settings[f"{prefix}.plain.sasl.jaas.config"] = PLAIN
            for mechanism in ("scram-sha-256", "scram-sha-512"):
                settings[f"{prefix}.{mechanism}.sasl.jaas.config"] = SCRAM
        return settings


class Line:
    """A connection on which frames are sent as they are."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, frame: bytes) -> bytes | None:
        """Send a frame; the one that comes back, None when the connection ends instead."""
        return self.say_raw(struct.pack(">i", len(frame)) + frame)

    def say_raw(self, data: bytes) -> bytes | None:
        """The same, with a size that is part of the data."""
        try:
            self._socket.sendall(data)
            return self._read(struct.unpack(">i", self._read(4))[0])
        except (EOFError, ConnectionError, BrokenPipeError):
            return None

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data
