"""A small siege of a real broker; `python -m tests.fuzz.siege` is the large one."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.siege import besiege


def test_an_honest_client_loses_nothing_while_others_misbehave(tmp_path: Path) -> None:
    figures = besiege(tmp_path, drops=200, half_open=40, nonsense=20, seed=1)
    assert figures["records"] > 0
    assert figures["lost"] == 0
    assert figures["half_open"] == 40
    assert figures["files"][1] <= figures["files"][0] + 2, "every connection is gone"
