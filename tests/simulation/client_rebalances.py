"""A thousand rebalances of our own consumers: `python -m tests.simulation.client_rebalances --rebalances 1000`.

Members are killed, closed and started at random, in groups of every kind by turns; no partition may be owned twice, no
record be skipped. Prints, in virtual seconds, the stall (from the event until all partitions were consumed again by
those they then belong to) and the silence (how long nothing came from a partition, with four records a second in each):
a kill includes the session timeout (6 s here) that passes before anybody can know. Members' code is slow now and then
(a second on average, after one poll in fifty), and a partition is not taken from under its hands.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Any, NamedTuple

from tests.simulation.workloads.cluster import Cluster, run_cluster
from tests.simulation.workloads.rebalancing import SESSION_MS, Group

CLASSIC: dict[str, Any] = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 1000}
KINDS: dict[str, dict[str, Any]] = {
    "range": CLASSIC | {"partition.assignment.strategy": "range"},
    "cooperative-sticky": CLASSIC | {"partition.assignment.strategy": "cooperative-sticky"},
    "sticky": CLASSIC | {"partition.assignment.strategy": "sticky", "enable.auto.commit": False},
    "consumer": {"group.protocol": "consumer"},
    "consumer, own commits": {"group.protocol": "consumer", "enable.auto.commit": False},
}


class Outcome(NamedTuple):
    """What a run was worth."""

    events: int
    stalls: dict[str, list[float]]
    silences: dict[str, list[float]]
    processed: int
    reprocessed: int


def rebalances(
    kind: str, seed: object, events: int, *, partitions: int = 8, slots: int = 5, slowness: float = 0.02
) -> Outcome:
    """One group; AssertionError when anything was owned twice or skipped."""

    async def main(cluster: Cluster) -> Outcome:
        settings = {"max.poll.interval.ms": 20_000, "auto.commit.interval.ms": 1000, **KINDS[kind]}
        group = Group(cluster, settings, partitions=partitions, slots=slots, records_per_s=4.0, slowness=slowness)
        await group.prepare()
        await group.run(events)
        await group.finish()
        return Outcome(group.events, group.stalls, group.silences, group.register.processed, group.register.reprocessed)

    return run_cluster(main, seed=f"{kind} {seed}")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main() -> int:
    """Groups of all kinds by turns until there were so many rebalances; how many runs failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rebalances", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=[*KINDS])
    parser.add_argument("--seconds", type=float, default=3600.0, help="real time after which no further group begins")
    parser.add_argument("--slowness", type=float, default=0.02, help="share of polls after which a member is busy")
    options = parser.parse_args()
    kinds = [options.kind] if options.kind else [*KINDS]
    measured: dict[tuple[str, str, str], list[float]] = {}
    totals: Counter[str] = Counter()
    failed = 0
    deadline = time.monotonic() + options.seconds
    seed = options.seed
    while totals["rebalances"] < options.rebalances and time.monotonic() < deadline:
        for kind in kinds:
            try:
                outcome = rebalances(kind, seed, 25, slowness=options.slowness)
            except Exception as error:
                failed += 1
                print(f"{kind}, seed {seed}: {error!r} {getattr(error, '__notes__', '')}"[:2000], flush=True)
                continue
            totals.update(
                rebalances=outcome.events, processed=outcome.processed, reprocessed=outcome.reprocessed, groups=1
            )
            for what, by_event in (("stall", outcome.stalls), ("silence", outcome.silences)):
                for event, values in by_event.items():
                    measured.setdefault((kind, event, what), []).extend(values)
                    measured.setdefault(("all", event, what), []).extend(values)
        seed += 1
    print(dict(totals), "failed:", failed)
    for (kind, event, what), values in sorted(measured.items()):
        figures = ", ".join(f"p{share * 100:g} {percentile(values, share):.2f} s" for share in (0.5, 0.9, 0.99))
        print(f"{kind:>22} {event:>5} {what:>7}: {len(values):4} times, {figures}, longest {max(values):.2f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main() > 0)
