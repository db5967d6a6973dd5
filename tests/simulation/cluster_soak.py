"""Whole clusters, many seeds, as long as you like: `python -m tests.simulation.cluster_soak --minutes 10 --seed 1000`.

Each seed throws the dice for a profile (who works, what goes wrong) and a shape of cluster, unless they are given. A
failure is told with what repeats it, and the run goes on; the exit status says whether there was one. With --only one
seed is run and its whole story told; SIMULATION_TRACE=1 shows requests, SIMULATION_HISTORY=DIR keeps histories.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
import traceback
from collections import Counter
from random import Random
from types import FrameType

from tests.simulation.cluster_scenarios import PROFILES, SHAPES, play

MOST_MINUTES = 24 * 60
MOST_TOLD = 1500
LONGEST_SEED_S = 90.0
"""Of the processor's time: many times what a seed takes."""
SHAPE_WEIGHTS = {"three": 6, "five": 1, "apart": 2, "one": 1}


class StuckError(BaseException):
    """Virtual time does not go on, or nothing comes to an end."""


def _stuck(number: int, frame: FrameType | None) -> None:
    raise StuckError(f"more than {LONGEST_SEED_S} s of the processor, in {''.join(traceback.format_stack(frame))}")


def main() -> int:
    """Run seeds until the time is up; how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1 << 30, help="not more than so many")
    parser.add_argument("--profile", choices=list(PROFILES))
    parser.add_argument("--shape", choices=list(SHAPES))
    parser.add_argument("--seconds", type=float, default=20.0, help="virtual seconds of trouble")
    parser.add_argument("--only", action="store_true", help="this one seed, with the whole story of a failure")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings are iterated in another order in every process otherwise.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    signal.signal(signal.SIGVTALRM, _stuck)
    started = time.monotonic()
    deadline = started + 60 * min(options.minutes, MOST_MINUTES)
    totals: Counter[str] = Counter()
    failed: list[str] = []
    seed = options.seed
    while time.monotonic() < deadline and seed < options.seed + options.seeds:
        dice = Random(f"soak {seed}")
        profile = dice.choice([*PROFILES])
        shape = dice.choices([*SHAPE_WEIGHTS], [*SHAPE_WEIGHTS.values()])[0]
        profile, shape = options.profile or profile, options.shape or shape
        signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_SEED_S)
        try:
            totals.update(play(profile, seed, shape=shape, seconds=options.seconds))
        except (Exception, StuckError) as error:
            again = f"--only --seed {seed} --profile {profile!r} --shape {shape} --seconds {options.seconds:g}"
            failed.append(again)
            print(f"\n{again}\n{_story(error)}", flush=True)
            if options.only:
                traceback.print_exc()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        seed += 1
        if options.only:
            break
    number = seed - options.seed
    took_s = time.monotonic() - started
    print(f"seeds {options.seed} to {seed - 1}, {60 * number / took_s:.1f} a minute: {dict(sorted(totals.items()))}")
    print(f"failed: {len(failed)}")
    for again in failed:
        print(f"  {again}")
    return len(failed)


def _story(error: BaseException) -> str:
    """What went wrong, shortly: the first failures."""
    notes = [str(error), *getattr(error, "__notes__", ())[2:]]
    return "\n".join([type(error).__name__, *(_short(note) for note in notes[:4])])


def _short(text: str) -> str:
    text = re.sub(r"\.{9,}", "...", text)
    return text if len(text) <= MOST_TOLD else f"{text[: MOST_TOLD // 2]} [...] {text[-MOST_TOLD // 2 :]}"


if __name__ == "__main__":
    sys.exit(main() > 0)
