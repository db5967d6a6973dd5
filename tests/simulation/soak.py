"""Many seeds, for as long as you like: `python -m tests.simulation.soak --seconds 600 --seed 1000 [--scenario groups]`.

A failure is told with its scenario and seed, and the run goes on; the exit status says whether there was one. The same
seed gives the same run, with the same PYTHONHASHSEED: `--only --seed N` repeats one, and SIMULATION_TRACE=1 shows its
requests.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter

from tests.simulation import client_world
from tests.simulation.client_outages import outages
from tests.simulation.client_renewals import renewals
from tests.simulation.workloads import scenarios

SCENARIOS = (*scenarios.SCENARIOS, *client_world.SCENARIOS, outages, renewals)

MOST_SECONDS = 24 * 3600


def main() -> int:
    """Run scenarios by turns until the time is up; how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenario", choices=[scenario.__name__ for scenario in SCENARIOS])
    parser.add_argument("--only", action="store_true", help="this one seed, with the whole story of a failure")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings are iterated in another order in every process otherwise.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    chosen = [scenario for scenario in SCENARIOS if options.scenario in (None, scenario.__name__)]
    deadline = time.monotonic() + min(options.seconds, MOST_SECONDS)
    totals: Counter[str] = Counter()
    failed: list[str] = []
    seed = options.seed
    while time.monotonic() < deadline:
        for scenario in chosen:
            try:
                totals.update(scenario(seed))
            except Exception as error:
                failed.append(f"{scenario.__name__} {seed}")
                print(f"{scenario.__name__}, seed {seed}: {str(error)[:1000]}", flush=True)
                if options.only:
                    traceback.print_exc()
        seed += 1
        if options.only:
            break
    print(f"seeds {options.seed} to {seed - 1}: {dict(totals)}")
    print(f"failed: {', '.join(failed) or 'none'}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main() > 0)
