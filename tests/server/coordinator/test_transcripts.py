"""The rules of groups and offsets, as transcripts (OTTLA_REWRITE_TESTDATA=1 writes what happens now)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.server.coordinator.consumer_transcript import ConsumerTranscript
from tests.server.coordinator.transcript import Transcript

TESTDATA = Path(__file__).parent / "testdata"


def _scenarios(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """(title, [(comments and command, expected)]) of each scenario; a title is a line "# == title"."""
    scenarios: list[tuple[str, list[tuple[str, str]]]] = []
    for block in text.split("\n\n"):
        block = block.strip("\n")
        if block.startswith("# == "):
            title, _, rest = block.partition("\n")
            scenarios.append((title[5:], []))
            block = rest
        if not block:
            continue
        command, _, expected = block.partition("\n----")
        scenarios[-1][1].append((command, expected.lstrip("\n") + "\n"))
    return scenarios


def _all() -> list[object]:
    return [
        pytest.param(path, title, id=f"{path.stem}: {title}")
        for path in sorted(TESTDATA.glob("*.txt"))
        for title, _ in _scenarios(path.read_text())
    ]


def _run(path: Path, steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    transcript = ConsumerTranscript() if path.stem.startswith("consumer") else Transcript()
    done = []
    for text, _ in steps:
        commands = [line for line in text.splitlines() if not line.startswith("#")]
        done.append((text, "".join(transcript.run(command) for command in commands)))
    return done


@pytest.mark.parametrize(("path", "title"), _all())
def test_transcript(path: Path, title: str) -> None:
    scenarios = _scenarios(path.read_text())
    steps = dict(scenarios)[title]
    happened = _run(path, steps)
    if os.environ.get("OTTLA_REWRITE_TESTDATA"):
        rewritten = [(name, happened if name == title else content) for name, content in scenarios]
        path.write_text(
            "\n".join(
                f"# == {name}\n\n" + "\n".join(f"{command}\n----\n{output}" for command, output in content)
                for name, content in rewritten
            )
        )
        return
    for (command, expected), (_, actual) in zip(steps, happened, strict=True):
        assert (command, actual) == (command, expected)
