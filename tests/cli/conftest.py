"""The command line in this process: `ottla("topics", "list")` → exit code, what it printed, what it complained of."""

from __future__ import annotations

import json
from collections.abc import Callable
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


Ottla = Callable[..., Said]


@pytest.fixture
def ottla(bootstrap: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path) -> Ottla:
    """Runs a command against the session's broker; fails the test when its exit code is not `code`."""
    monkeypatch.setenv("OTTLA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("OTTLA_PROFILE", raising=False)

    def run(*arguments: str, code: int = 0) -> Said:
        capsys.readouterr()
        returned = main(list(arguments))
        captured = capsys.readouterr()
        assert returned == code, captured.err or captured.out
        return Said(returned, captured.out, captured.err)

    return run
