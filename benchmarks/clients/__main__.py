"""One run: every case with every client in turn, each in a process of its own, and a table of ratios.

Records are counted from the first one acknowledged or received to the last: connecting is not part of a rate. Ratios
are Ottla's figure through the peer's, of the medians; what else the machine does meets all clients, since they take
turns.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.brokers import ROOT, ApacheKafka, Broker, BrokerError, OttlaBroker
from benchmarks.clients.jobs import HELD_RECORDS, Job
from benchmarks.measure import Lock, Measures, warm_memory
from benchmarks.topics import Target

PEER = "confluent-kafka"
PYTHONS = ("aiokafka", "kafka-python")
SLOW = 8  # a client in plain Python gets so many times fewer records
SIZES = (100, 1024)
CODECS = ("none", "lz4", "zstd")
PARTITIONS = 4
JOB_TIMEOUT_S = 300


@dataclass(frozen=True)
class Case:
    """`entries` are (client, kind of job); the first is judged, `goals` are (metric, client, at least this ratio)."""

    name: str
    size: int
    compression: str
    entries: tuple[tuple[str, str], ...]
    goals: tuple[tuple[str, str, str, str, float], ...] = ()
    """(metric, our client:kind, peer client:kind, "at least" or "at most", ratio)"""
    consumes: bool = False


@dataclass
class Outcome:
    case: Case
    repeats: dict[str, list[Measures]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def median(self, entry: str, metric: str) -> float | None:
        found = [measures[metric] for measures in self.repeats.get(entry, ()) if metric in measures]
        return statistics.median(found) if found else None


def cases() -> Iterator[Case]:
    for size in SIZES:
        for codec in CODECS:
            yield _producing(size, codec)
    for size in SIZES:
        for codec in CODECS:
            yield _consuming(size, codec)
    yield Case(
        f"memory of {HELD_RECORDS:,} buffered records 100B",
        100,
        "none",
        (("ottla", "hold"), (PEER, "hold"), ("kafka-python", "hold")),
        (("held_mb", "ottla:hold", f"{PEER}:hold", "at most", 1.0),),
    )
    yield Case(
        f"memory of {HELD_RECORDS:,} consumed records 100B",
        100,
        "none",
        (
            ("ottla", "hold_consumed"),
            (PEER, "hold_consumed"),
            ("aiokafka", "hold_consumed"),
            ("kafka-python", "hold_consumed"),
        ),
        (("held_mb", "ottla:hold_consumed", f"{PEER}:hold_consumed", "at most", 1.0),),
        consumes=True,
    )


def _producing(size: int, codec: str) -> Case:
    entries = (
        ("ottla", "produce"),
        ("ottla-aio", "produce"),
        (PEER, "produce"),
        *((client, "produce") for client in PYTHONS),
        ("ottla", "produce_many"),
        ("ottla-aio", "produce_many"),
        (PEER, "produce_many"),
    )
    goals = (
        ("records_s", "ottla:produce", f"{PEER}:produce", "at least", 1.0),
        ("records_s", "ottla:produce_many", f"{PEER}:produce_many", "at least", 1.0),
        *(("records_s", "ottla:produce", f"{client}:produce", "at least", 5.0) for client in PYTHONS),
        ("records_s", "ottla-aio:produce", "ottla:produce", "at least", 0.9),
    )
    return Case(f"produce {size}B {codec}", size, codec, entries, goals)


def _consuming(size: int, codec: str) -> Case:
    entries = (
        ("ottla", "consume"),
        ("ottla-aio", "consume"),
        (PEER, "consume"),
        *((client, "consume") for client in PYTHONS),
        ("ottla", "consume_columns"),
        ("ottla-aio", "consume_columns"),
    )
    goals = (
        ("records_s", "ottla:consume", f"{PEER}:consume", "at least", 1.0),
        ("records_s", "ottla:consume_columns", f"{PEER}:consume", "at least", 5.0),
        ("records_s", "ottla-aio:consume", "ottla:consume", "at least", 0.9),
    )
    return Case(f"consume {size}B {codec}", size, codec, entries, goals, consumes=True)


def main() -> int:
    arguments = _parse()
    chosen = [case for case in cases() if not arguments.match or arguments.match in case.name]
    if arguments.list:
        print(*(case.name for case in chosen), sep="\n")
        return 0
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-clients-")))
        kind: type[Broker] = ApacheKafka if arguments.broker == "kafka" else OttlaBroker
        broker = kind(directory / arguments.broker)
        stack.callback(broker.wipe)
        try:
            broker.start()
        except BrokerError as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 1
        lock = Lock(Path(os.environ.get("BENCH_LOCK", Path(tempfile.gettempdir()) / "cpu.lock")), hold=150)
        stack.callback(lock.drop)
        target = Target(broker, kind)
        outcomes = []
        for case in chosen:
            lock.take()
            outcomes.append(_measure(case, target, arguments))
            if arguments.json:
                arguments.json.write_text(json.dumps([_to_json(outcome) for outcome in outcomes], indent=1))
    print()
    print(_table(outcomes))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.clients", description="Python's Kafka clients, as ratios.")
    parser.add_argument("--broker", choices=("ottla", "kafka"), default="ottla", help="whose broker serves (ottla)")
    parser.add_argument("--match", help="only cases whose name contains this")
    parser.add_argument("--clients", help="only these clients, comma-separated")
    parser.add_argument("--reps", type=int, default=3, help="how often each case runs with each client (3)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of records (1)")
    parser.add_argument("--json", type=Path, help="also write every single figure to this file")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    return parser.parse_args()


def _measure(case: Case, target: Target, arguments: argparse.Namespace) -> Outcome:
    outcome = Outcome(case)
    count = int((2_000_000 if case.size < 500 else 500_000) * arguments.scale)
    only = set(arguments.clients.split(",")) if arguments.clients else None
    if case.name.startswith("memory"):
        count = HELD_RECORDS + 1
    warm_memory(1.0)
    with ExitStack() as stack:
        filled = stack.enter_context(target.topic(PARTITIONS)) if case.consumes else None
        if filled is not None:
            _run(Job(PEER, "produce", target.bootstrap, filled, case.size, case.compression, count), target.broker)
        for _ in range(arguments.reps):
            for client, kind in case.entries:
                if only is not None and client not in only:
                    continue
                share = count if client not in PYTHONS or case.name.startswith("memory") else count // SLOW
                with ExitStack() as turn:
                    topic = filled or turn.enter_context(target.topic(PARTITIONS))
                    job = Job(client, kind, target.bootstrap, topic, case.size, case.compression, share)
                    entry = f"{client}:{kind}"
                    try:
                        outcome.repeats.setdefault(entry, []).append(_run(job, target.broker))
                    except WorkerError as error:
                        outcome.errors[entry] = str(error)
    for client, kind in case.entries:
        _print_entry(outcome, f"{client}:{kind}")
    return outcome


class WorkerError(Exception):
    """A job failed; the message is the end of what it printed."""


def _run(job: Job, broker: Broker) -> Measures:
    """Do a job in a process of its own; it may ask for the broker to be paused meanwhile."""
    command = [sys.executable, "-m", "benchmarks.clients.worker", job.to_json()]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        result = None
        try:
            for line in process.stdout:
                if line.strip() in _SIGNALS:
                    os.kill(broker.pid or 0, _SIGNALS[line.strip()])
                    process.stdin.write("\n")
                    process.stdin.flush()
                elif line.startswith("{"):
                    result = json.loads(line)
        finally:
            os.kill(broker.pid or 0, signal.SIGCONT)
        process.wait(JOB_TIMEOUT_S)
        errors.seek(0)
        if process.returncode or result is None:
            raise WorkerError(f"{job.client} {job.kind}: {errors.read()[-400:].strip()}")
        measures: Measures = result
        return measures


_SIGNALS = {"pause": signal.SIGSTOP, "continue": signal.SIGCONT}


def _print_entry(outcome: Outcome, entry: str) -> None:
    if entry in outcome.errors:
        print(f"{outcome.case.name} | {entry} | failed: {outcome.errors[entry]}", flush=True)
    for metric in ("records_s", "client_cpu_us", "held_mb"):
        values = [measures[metric] for measures in outcome.repeats.get(entry, ()) if metric in measures]
        if values:
            spread = f"{min(values):,.2f} / {statistics.median(values):,.2f} / {max(values):,.2f}"
            print(f"{outcome.case.name} | {entry} | {metric} {spread}", flush=True)


def _table(outcomes: list[Outcome]) -> str:
    lines = ["| case | metric | ours | peer | ratio | goal | |", "|---|---|---:|---:|---:|---:|---|"]
    met = total = 0
    for outcome in outcomes:
        for metric, ours, theirs, sense, bound in outcome.case.goals:
            mine, other = outcome.median(ours, metric), outcome.median(theirs, metric)
            if mine is None or other is None:
                continue
            ratio = mine / other
            is_met = ratio >= bound if sense == "at least" else ratio <= bound
            total += 1
            met += is_met
            sign = "≥" if sense == "at least" else "≤"
            cells = (f"{ours} {mine:,.0f}", f"{theirs} {other:,.0f}", f"{ratio:.2f}x", f"{sign} {bound:g}x")
            verdict = "met" if is_met else "NOT MET"
            lines.append(f"| {outcome.case.name} | {metric} | {' | '.join(cells)} | {verdict} |")
    return "\n".join([*lines, "", f"{met} of {total} goals met."])


def _to_json(outcome: Outcome) -> dict[str, object]:
    return {"case": outcome.case.name, "repeats": outcome.repeats, "errors": outcome.errors}


if __name__ == "__main__":
    sys.exit(main())
