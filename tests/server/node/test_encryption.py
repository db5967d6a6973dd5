"""A node with encryption at rest: nothing readable in its directory, other keys, plain and back, kills at any time."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ottla.cli.main import main

CANARY = b"a-canary-in-a-record"
TOPIC = "canary-topic"
# The names of topics are in those of directories, which stay as they are.
PLAIN_FILES = {".lock", ".ottla-keys", ".kafka_cleanshutdown", "meta.properties", "ottla.node"}


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OTTLA_"))}
    return kept | more


class Process:
    """`ottla start` on a data directory."""

    def __init__(self, data: Path, *settings: str) -> None:
        self.process = subprocess.Popen(
            self.command(data, *settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )
        assert self.process.stdout is not None
        self.line = line = self.process.stdout.readline()
        self.log = ""
        if not line:
            self.end(signal.SIGKILL)
            raise AssertionError(self.log)
        self.address = line.split("kafka on ")[1].split(",")[0]

    @staticmethod
    def command(data: Path, *settings: str) -> list[str]:
        arguments = ["listeners=PLAINTEXT://127.0.0.1:0", "http.listeners=", "log.segment.bytes=1048576", *settings]
        command = [sys.executable, "-m", "ottla", "start", "--data", str(data)]
        for argument in arguments:
            command += ["--set", argument]
        return command

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.log += self.process.communicate(timeout=30)[1]

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


Run = Any


@pytest.fixture
def ottla(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Runs a command, against a broker where one is given; what it printed, or complained of when it fails."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*arguments: str, broker: Process | None = None, code: int = 0, **more: str) -> str:
        with monkeypatch.context() as patch:
            if broker is not None:
                patch.setenv("OTTLA_BOOTSTRAP_SERVERS", broker.address)
            for name, value in more.items():
                patch.setenv(name, value)
            capsys.readouterr()
            returned = main(list(arguments))
            captured = capsys.readouterr()
        assert returned == code, captured.err or captured.out
        return captured.out if code == 0 else captured.err

    return run


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.write_bytes(secrets.token_bytes(32))
    return f"encryption.key=file:{path}"


def records(count: int, path: Path) -> str:
    path.write_bytes(b"".join(CANARY + b"-%06d-%s\n" % (number, b"." * 900) for number in range(count)))
    return str(path)


def status(ottla: Run, data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ottla("encryption", "status", "--json", "--data", str(data)))
    return found


def wait_for(what: Any) -> None:
    deadline_s = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def readable(data: Path, *needles: bytes) -> list[str]:
    return [
        path.name
        for path in sorted(data.rglob("*"))
        if path.is_file() and path.name not in PLAIN_FILES and any(needle in path.read_bytes() for needle in needles)
    ]


def test_nothing_in_the_directory_is_readable(tmp_path: Path, ottla: Run, key: str) -> None:
    data = tmp_path / "data"
    with Process(data, key) as broker:
        ottla("produce", TOPIC, "-f", records(50, tmp_path / "records"), "-k", "a-canary-in-a-key", broker=broker)
        ottla("consume", TOPIC, "-g", "canary-group", broker=broker)
        ottla("configs", "set", f"topic/{TOPIC}", "retention.ms=123456789", broker=broker)
        assert ottla("consume", TOPIC, "--count", broker=broker).split()[-1] == "50"
    assert readable(data, b"canary", b"retention.ms") == []
    found = status(ottla, data)
    assert found["plain_files"] == 0
    assert len(found["keys"]) == 1
    with Process(data, key) as broker:
        assert ottla("consume", TOPIC, "--count", broker=broker).split()[-1] == "50"


def test_a_missing_or_another_key_is_told_in_one_line(tmp_path: Path, ottla: Run, key: str) -> None:
    data = tmp_path / "data"
    with Process(data, key):
        pass
    wanted = status(ottla, data)["keys"][0]["id"]
    other = tmp_path / "other"
    other.write_bytes(secrets.token_bytes(32))
    for settings in ([], [f"encryption.key=file:{other}"], [f"encryption.key=file:{tmp_path}/none"]):
        with pytest.raises(AssertionError) as caught:
            Process(data, *settings)
        [line] = [line for line in str(caught.value).splitlines() if line.startswith("ottla: error:")]
        assert "Traceback" not in str(caught.value)
        assert wanted in line or "cannot read the key file" in line
    (data / ".ottla-keys").rename(tmp_path / "ring")
    with pytest.raises(AssertionError) as caught:
        Process(data, key)
    assert f"key {wanted}, but the ring of keys {data}/.ottla-keys is gone" in str(caught.value)
    (tmp_path / "ring").rename(data / ".ottla-keys")
    with Process(data, key):
        pass


def test_a_plain_directory_is_encrypted_while_it_is_used_and_made_plain_again(
    tmp_path: Path, ottla: Run, key: str
) -> None:
    data = tmp_path / "data"
    with Process(data) as broker:
        ottla("produce", TOPIC, "-f", records(3000, tmp_path / "records"), broker=broker)
    assert readable(data, CANARY)
    with Process(data, key) as broker:
        ottla("produce", TOPIC, "-f", records(100, tmp_path / "records"), broker=broker)
        wait_for(lambda: status(ottla, data)["plain_files"] == 0)
        ottla("produce", TOPIC, "one more", broker=broker)
        assert ottla("consume", TOPIC, "--count", broker=broker).split()[-1] == "3101"
        assert readable(data, CANARY) == []
    assert "are encrypted" in broker.log
    with Process(data, key, "encryption.enabled=false") as broker:
        wait_for(lambda: not any(one["files"] for one in status(ottla, data)["keys"]))
        assert ottla("consume", TOPIC, "--count", broker=broker).split()[-1] == "3101"
    assert readable(data, CANARY)


def test_a_new_key_is_taken_while_the_node_runs_and_files_follow(tmp_path: Path, ottla: Run, key: str) -> None:
    data = tmp_path / "data"
    with Process(data, key) as broker:
        ottla("produce", TOPIC, "-f", records(10, tmp_path / "records"), broker=broker)
        first = status(ottla, data)["keys"][0]["id"]
        told = ottla("encryption", "rotate", "--data", str(data))
        ottla("produce", TOPIC, "another", broker=broker)
        wait_for(lambda: {one["id"]: one["files"] for one in status(ottla, data)["keys"]}[first] == 0)
        second = status(ottla, data)["keys"][0]["id"]
        assert second in told
        assert second != first
    with Process(data, key) as broker:
        assert ottla("consume", TOPIC, "--count", broker=broker).split()[-1] == "11"


def test_kills_while_files_are_converted_and_keys_rotated_lose_nothing(tmp_path: Path, ottla: Run, key: str) -> None:
    data = tmp_path / "data"
    with Process(data) as broker:
        ottla("produce", TOPIC, "-f", records(4_000, tmp_path / "records"), broker=broker)
    expected = 4_000
    for turn in range(3):
        broker = Process(data, key, f"encryption.enabled={'false' if turn == 1 else 'true'}")
        ottla("produce", TOPIC, f"{turn}", broker=broker)
        expected += 1
        if turn:
            ottla("encryption", "rotate", "--data", str(data))
        time.sleep(0.01 * turn)
        broker.end(signal.SIGKILL)
    with Process(data, key) as broker:
        wait_for(lambda: status(ottla, data)["plain_files"] == 0)
        assert ottla("consume", TOPIC, "--count", broker=broker).split()[-1] == str(expected)
        lines = ottla("consume", TOPIC, "-n", "4000", broker=broker).encode().splitlines()
        assert [line[: len(CANARY) + 7] for line in lines] == [CANARY + b"-%06d" % number for number in range(4_000)]
    assert readable(data, CANARY) == []
    ottla("logs", "verify", str(data), OTTLA_ENCRYPTION_KEY=key.partition("=")[2])


def test_offline_tools_read_encrypted_files_when_they_have_the_key(tmp_path: Path, ottla: Run, key: str) -> None:
    data = tmp_path / "data"
    with Process(data, key) as broker:
        ottla("produce", TOPIC, CANARY.decode(), broker=broker)
    segment = str(data / f"{TOPIC}-0" / "00000000000000000000.log")
    metadata = str(data / "__cluster_metadata-0" / "00000000000000000000.log")
    has_key = {"OTTLA_ENCRYPTION_KEY": key.partition("=")[2]}
    assert CANARY.decode() in ottla("logs", "dump", segment, **has_key)
    ottla("logs", "verify", str(data), **has_key)
    assert TOPIC in ottla("metadata", "log", str(data), **has_key)
    dump = ("kafka-dump-log.sh", "--print-data-log", "--files", segment)
    assert CANARY.decode() in ottla(*dump, **has_key)
    assert TOPIC in ottla("kafka-dump-log.sh", "--cluster-metadata-decoder", "--files", metadata, **has_key)
    for command in (("logs", "dump", segment), ("metadata", "log", str(data))):
        assert "OTTLA_ENCRYPTION_KEY=file:PATH" in ottla(*command, code=1)
    assert "OTTLA_ENCRYPTION_KEY=file:PATH" in ottla(*dump, code=1)
    wrong = tmp_path / "wrong"
    wrong.write_bytes(secrets.token_bytes(32))
    assert "wrapped by the master key" in ottla("logs", "dump", segment, code=1, OTTLA_ENCRYPTION_KEY=f"file:{wrong}")
