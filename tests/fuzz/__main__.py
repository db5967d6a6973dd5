"""`python -m tests.fuzz --minutes 10 --seed 1`: every decoder, and figures. The exit code is 1 when something broke."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.runner import fuzz, peak_bytes
from tests.fuzz.targets import targets


def main() -> int:
    """Run, and tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", metavar="NAME", help="targets whose names hold this")
    parser.add_argument("--crashes", metavar="DIR", default="build/fuzz", help="where inputs go that broke something")
    options = parser.parse_args()
    chosen = [target for target in targets() if options.only is None or options.only in target.name]
    found = fuzz(chosen, options.seed, seconds=options.minutes * 60)
    print(f"{'target':<28}{'inputs':>10}{'refused':>9}{'crashes':>9}{'slowest ms':>12}{'most KiB':>10}")
    for name, figures in found.items():
        share = 100 * figures.refused / figures.inputs
        print(
            f"{name:<28}{figures.inputs:>10}{share:>8.0f}%{len(figures.crashes):>9}{figures.slowest_ms:>12.1f}"
            f"{figures.largest_bytes / 1024:>10.0f}"
        )
    total = sum(figures.inputs for figures in found.values())
    crashes = sum(len(figures.crashes) for figures in found.values())
    print(f"{total} inputs, {crashes} crashes, at most {peak_bytes() / 2**20:.0f} MiB of memory")
    for name, figures in found.items():
        for number, (data, text) in enumerate(figures.crashes[:5]):
            directory = Path(options.crashes)
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"{name.replace(' ', '-')}-{number}").write_bytes(data)
            print(f"\n{name}: {data[:200]!r}\n{text}", file=sys.stderr)
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
