"""The `ottla` command against a broker of either kind: in this process, or as one of its own for pipes and signals."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import pytest

from ottla.cli.main import main


class Said(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def rows(self) -> list[Any]:
        """The JSON objects that were printed a line each."""
        return [json.loads(line) for line in self.lines]


class Input(io.TextIOWrapper):
    """Standard input with these bytes in it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


class CommandLine:
    """Runs commands; `topic(…)` makes a topic that nothing else uses."""

    def __init__(self, bootstrap: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.bootstrap = bootstrap
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, code: int = 0, stdin: bytes | str = b"") -> Said:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        self._monkeypatch.setattr(sys, "stdin", Input(data))
        self._capsys.readouterr()
        returned = main([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        assert returned == code, captured.err or captured.out
        assert "Traceback" not in captured.err
        return Said(returned, captured.out, captured.err)

    def topic(self, name: str, partitions: int = 1, **configs: str) -> str:
        """Make a topic."""
        settings = [f"--config={key.replace('_', '.')}={value}" for key, value in configs.items()]
        self("topics", "create", name, "-p", str(partitions), *settings)
        return name

    def spawn(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """The command as a process with pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "ottla", *arguments],
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
            env={**os.environ, "OTTLA_BOOTSTRAP_SERVERS": self.bootstrap},
        )


@pytest.fixture
def ottla(
    cluster: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> CommandLine:
    """The command line, against Ottla and Apache Kafka in turn."""
    monkeypatch.setenv("OTTLA_BOOTSTRAP_SERVERS", cluster)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("OTTLA_PROFILE", raising=False)
    return CommandLine(cluster, capsys, monkeypatch)
