"""Feeds targets in turn, and counts."""

from __future__ import annotations

import resource
import time
import traceback
import tracemalloc
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.mutation import mutate
from tests.fuzz.targets import Target

TURN = 50
"""Inputs of one target before the next one's."""
MEASURED = 25
"""One input of so many is measured for its memory, which takes ten times as long."""
KEPT = 64
"""Valid inputs to change, by target."""


@dataclass(slots=True)
class Figures:
    """What came of one target."""

    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    slowest_input: bytes = b""
    largest_bytes: int = 0
    """Most memory that one input took, beyond itself, of those that were measured."""
    crashes: list[tuple[bytes, str]] = field(default_factory=list)


def fuzz(
    targets: Iterable[Target], seed: int, *, inputs: int | None = None, seconds: float | None = None
) -> dict[str, Figures]:
    """Feed each target so many inputs, or all of them for so long. The same seed gives the same inputs."""
    states = [(target, Random(f"{seed} {target.name}"), Figures()) for target in targets]
    valid = {target.name: [target.make(random) for _ in range(KEPT)] for target, random, _ in states}
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        for target, random, figures in states:
            _turn(target, valid[target.name], random, figures)
        if end is not None and time.monotonic() >= end:
            break
        if inputs is not None and states[0][2].inputs >= inputs:
            break
    return {target.name: figures for target, _, figures in states}


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _turn(target: Target, valid: list[bytes], random: Random, figures: Figures) -> None:
    valid[random.randrange(KEPT)] = target.make(random)
    for number in range(TURN):
        data = mutate(random.choice(valid), random.choice(valid), random)
        if number % MEASURED == 0:
            tracemalloc.start()
            _feed(target, data, figures)
            figures.largest_bytes = max(figures.largest_bytes, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        else:
            started = time.perf_counter()
            _feed(target, data, figures)
            spent = time.perf_counter() - started
            figures.seconds += spent
            if spent * 1000 > figures.slowest_ms:
                figures.slowest_ms, figures.slowest_input = spent * 1000, data


def _feed(target: Target, data: bytes, figures: Figures) -> None:
    figures.inputs += 1
    try:
        target.feed(data)
    except target.refusals:
        figures.refused += 1
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        figures.crashes.append((data, "".join(traceback.format_exception(error))))
