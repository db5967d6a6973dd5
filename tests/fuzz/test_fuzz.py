"""A short part of `python -m tests.fuzz`, the same inputs each time."""

from __future__ import annotations

import pytest

from tests.fuzz.runner import fuzz
from tests.fuzz.targets import Target, targets

INPUTS = 300
MOST_BYTES = 16 * 1024 * 1024


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_bad_bytes_are_refused_and_nothing_else_happens(target: Target) -> None:
    figures = fuzz([target], 1, inputs=INPUTS)[target.name]
    assert not figures.crashes, "\n".join(f"{data!r}\n{text}" for data, text in figures.crashes[:3])
    assert figures.inputs == INPUTS
    assert figures.largest_bytes < MOST_BYTES


def test_the_same_seed_gives_the_same_inputs() -> None:
    target = targets()[0]
    seen: list[list[bytes]] = []
    for _ in range(2):
        inputs: list[bytes] = []
        fuzz([target._replace(feed=inputs.append)], 7, inputs=50)
        seen.append(inputs)
    assert seen[0] == seen[1]


def test_what_breaks_is_told_with_its_input() -> None:
    def fragile(data: bytes) -> None:
        if data[:1] == b"\xff":
            raise IndexError("broken")

    figures = fuzz([Target("fragile", lambda random: b"\xff", fragile, ())], 1, inputs=50)["fragile"]
    assert figures.crashes
    data, text = figures.crashes[0]
    assert data[:1] == b"\xff"
    assert "IndexError: broken" in text
