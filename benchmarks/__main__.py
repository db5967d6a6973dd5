"""`python -m benchmarks`: the same loads against Ottla and Apache Kafka, interleaved, and a table of ratios.

Every case runs on one broker, then on the other, and again (--reps): what else happens on the machine meets both.
Throughput is in MB (1e6) of record value; processor time is the whole process tree's, from /proc, in steps of 10 ms;
latencies include the client. The first seconds of a fresh JVM cost several times what a warm one costs, so both
brokers get a warm-up first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import confluent_kafka

from benchmarks.brokers import ApacheKafka, Broker, BrokerError, OttlaBroker, kafka_version
from benchmarks.cases import Case, cases
from benchmarks.load_latency import many_raw
from benchmarks.load_throughput import produce_confluent, produce_raw
from benchmarks.measure import Lock, warm_memory
from benchmarks.report import Result, line, table
from benchmarks.topics import Options, Target

# About what a case writes.
WARM_GIGABYTES = {"produce": 1.0, "produce-java": 0.5, "produce-rdkafka": 1.0, "produce-raw": 3.0, "partitions": 0.5}
QUICK_SECTIONS = {"startup", "produce", "produce-raw", "consume", "consume-raw", "small", "e2e"}


@dataclass(frozen=True)
class Arguments:
    targets: list[str]
    only: set[str] | None
    skip: set[str]
    match: str | None
    reps: int
    options: Options
    warm_up: float
    json: Path | None
    everything: bool


def main() -> int:
    arguments = parse()
    if arguments is None:
        return 0
    started = time.monotonic()
    chosen = [case for case in cases() if _is_chosen(case, arguments)]
    with ExitStack() as stack:
        try:
            targets = [_start(name, stack) for name in arguments.targets]
        except BrokerError as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 1
        lock = Lock(Path(os.environ.get("BENCH_LOCK", Path(tempfile.gettempdir()) / "cpu.lock")), hold=150)
        stack.callback(lock.drop)
        if any(case.section != "startup" for case in chosen):
            for target in targets:
                lock.take()
                _warm_up(target, arguments)
        results = []
        for case in chosen:
            results.append(_measure(case, targets, arguments, lock))
            _save(arguments, results)
    theirs = "kafka" if "kafka" in arguments.targets else None
    print()
    print(_conditions(arguments, time.monotonic() - started))
    print(table(results, arguments.targets[0], theirs, everything=arguments.everything))
    return 0


def parse() -> Arguments | None:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Ottla beside Apache Kafka, as ratios.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: short, once, and few cases")
    parser.add_argument("--targets", default="ottla,kafka", help="ottla,kafka (default) or one of them")
    parser.add_argument("--only", help="sections, comma-separated; --list shows them")
    parser.add_argument("--skip", default="", help="sections to leave out")
    parser.add_argument("--match", help="only cases whose name matches this regular expression")
    parser.add_argument("--reps", type=int, default=2, help="how often each case runs on each broker (2)")
    parser.add_argument("--secs", type=float, default=2.0, help="length of the timed loads (2)")
    parser.add_argument("--scale", type=float, default=0.3, help="factor for the counted loads (0.3)")
    parser.add_argument("--partitions", type=int, default=4, help="partitions of the throughput topics (4)")
    parser.add_argument("--warmup", type=float, default=8.0, help="seconds of load before anything is measured (8)")
    parser.add_argument("--json", type=Path, help="also write every single figure to this file")
    parser.add_argument("--all", action="store_true", help="show every metric in the table")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    given = parser.parse_args()
    if given.list:
        for case in cases():
            print(f"{case.section:16} {case.name}")
        return None
    skip = set(filter(None, given.skip.split(",")))
    options = Options(given.secs, given.scale, given.partitions)
    if given.quick:
        options = Options(0.5, 0.05, given.partitions)
        skip |= {section for case in cases() if (section := case.section) not in QUICK_SECTIONS}
    return Arguments(
        targets=given.targets.split(","),
        only=set(given.only.split(",")) if given.only else None,
        skip=skip,
        match=given.match,
        reps=1 if given.quick else given.reps,
        options=options,
        warm_up=2.0 if given.quick else given.warmup,
        json=given.json,
        everything=given.all,
    )


def _is_chosen(case: Case, arguments: Arguments) -> bool:
    if arguments.only is not None and case.section not in arguments.only:
        return False
    if case.section in arguments.skip or (case.only is not None and case.only not in arguments.targets):
        return False
    return arguments.match is None or re.search(arguments.match, case.name) is not None


def _start(name: str, stack: ExitStack) -> Target:
    kinds: dict[str, type[ApacheKafka] | type[OttlaBroker]] = {"ottla": OttlaBroker, "kafka": ApacheKafka}
    if name not in kinds:
        raise BrokerError(f"no broker is called {name}; there are {' and '.join(kinds)}")
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"bench-{name}-")))
    broker: Broker = kinds[name](directory)
    stack.callback(broker.stop)
    broker.start()
    target = Target(broker, make=kinds[name])
    with target.connect() as connection:
        target.apis = frozenset(connection.api_versions())
    return target


def _warm_up(target: Target, arguments: Arguments) -> None:
    options = Options(arguments.warm_up / 4, arguments.options.scale, arguments.options.partitions)
    produce_raw(target, options, 100, 16_000)
    many_raw(target, options)
    produce_confluent(target, options, 1024, -1, "none", 65_536)
    produce_confluent(target, options, 100, -1, "lz4", 65_536)


def _measure(case: Case, targets: list[Target], arguments: Arguments, lock: Lock) -> Result:
    result = Result(case.section, case.name)
    for _ in range(arguments.reps):
        for target in targets:
            unserved = case.needs is not None and case.needs not in target.apis
            if unserved or target.label in result.errors or (case.only is not None and case.only != target.label):
                continue
            lock.take()
            if gigabytes := WARM_GIGABYTES.get(case.section):
                warm_memory(gigabytes)
            try:
                result.repeats.setdefault(target.label, []).append(case.run(target, arguments.options))
            except Exception as error:
                # One load that fails on one broker must not end the run; the table says so.
                result.errors[target.label] = f"{type(error).__name__}: {str(error)[:200]}"
    for target in targets:
        if target.label in result.repeats or target.label in result.errors:
            print(line(result, target.label), flush=True)
    return result


def _save(arguments: Arguments, results: list[Result]) -> None:
    if arguments.json is None:
        return
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {"when": time.strftime("%Y-%m-%d"), "results": [result.to_json() for result in results]}, indent=1
    )
    arguments.json.write_text(text)


def _conditions(arguments: Arguments, seconds: float) -> str:
    versions = [f"Python {platform.python_version()}", f"librdkafka {confluent_kafka.libversion()[0]}"]
    if "kafka" in arguments.targets:
        versions.append(f"Apache Kafka {kafka_version()}")
    options = arguments.options
    return (
        f"{', '.join(versions)}; {os.cpu_count()} cores; median of {arguments.reps}, {options.seconds:g} s, "
        f"scale {options.scale:g}; the run took {seconds / 60:.1f} minutes\n"
    )


if __name__ == "__main__":
    sys.exit(main())
