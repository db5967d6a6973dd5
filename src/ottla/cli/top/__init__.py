"""`ottla top`: brokers, topics by how much comes in, groups by lag, live.

On a terminal it draws a screen until q; `--once` and pipes get plain tables, `--json` an object for every interval.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections import deque
from typing import TYPE_CHECKING

from ottla.cli.connection import add_connection_arguments, open_admin
from ottla.cli.numbers import positive, whole
from ottla.cli.output import Output, add_output_arguments

if TYPE_CHECKING:
    import ottla
    from ottla.cli.top.samples import Sample, View

DEFAULT_INTERVAL_S = 2.0
ONCE_INTERVAL_S = 1.0
HISTORY = 120


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of `ottla top`."""
    parser.add_argument(
        "-i",
        "--interval",
        type=positive(3600, "seconds"),
        metavar="SECONDS",
        help="between two looks (2; with --once 1)",
    )
    parser.add_argument("-n", "--iterations", type=whole(1), metavar="N", help="end after so many")
    parser.add_argument("-1", "--once", action="store_true", help="show one interval as plain tables, and end")
    parser.add_argument("-a", "--internal", action="store_true", help="internal topics as well")
    add_connection_arguments(parser)
    add_output_arguments(parser)


def run(options: Namespace) -> int:
    """Show it, until q or Ctrl-C, or as often as asked."""
    output = Output(options)
    with open_admin(options) as admin:
        if options.once or not (output.is_terminal or output.is_json):
            return _print_tables(admin, options, output)
        if output.is_json:
            return _print_json(admin, options)
        return _live(admin, options)


def _print_tables(admin: ottla.Admin, options: Namespace, output: Output) -> int:
    from ottla.cli.top.screen import rate_text, sorted_groups, sorted_topics
    from ottla.cli.units import size_text

    view = _two_looks(admin, options.interval or ONCE_INTERVAL_S)
    if output.is_json:
        output.json(view.as_json())
        return 0
    output.line(f"cluster {view.cluster_id or '-'}: {rate_text(view.records_per_second)} records/s")
    output.line()
    brokers = [
        [
            row.broker,
            row.address,
            row.leaders,
            row.replicas,
            None if row.size_bytes is None else size_text(row.size_bytes),
            round(row.records_per_second, 1),
        ]
        for row in view.brokers
    ]
    output.table(None, ["broker", "address", "leads", "replicas", "size", "in/s"], brokers)
    topics = [
        [
            row.topic,
            row.partitions,
            row.records,
            None if row.size_bytes is None else size_text(row.size_bytes),
            round(row.records_per_second, 1),
            row.problems,
        ]
        for row in sorted_topics(view.topics, "rate", internal=options.internal)
    ]
    output.line()
    output.table(None, ["topic", "partitions", "records", "size", "in/s", "problems"], topics)
    groups = [
        [
            row.group_id,
            row.kind,
            row.state,
            row.members,
            row.lag,
            round(row.lag_per_second, 1),
            round(row.records_per_second, 1),
        ]
        for row in sorted_groups(view.groups, "lag")
    ]
    output.line()
    output.table(None, ["group", "kind", "state", "members", "lag", "lag/s", "out/s"], groups)
    return 0


def _print_json(admin: ottla.Admin, options: Namespace) -> int:
    """A line for every interval."""
    import json

    from ottla.cli.output import plain
    from ottla.cli.top.samples import compare, take_sample

    interval_s = options.interval or DEFAULT_INTERVAL_S
    before = take_sample(admin, time.monotonic())
    done = 0
    while options.iterations is None or done < options.iterations:
        time.sleep(interval_s)
        now = take_sample(admin, time.monotonic())
        print(json.dumps(plain(compare(before, now).as_json()), ensure_ascii=False), flush=True)
        before = now
        done += 1
    return 0


def _two_looks(admin: ottla.Admin, interval_s: float) -> View:
    from ottla.cli.top.samples import compare, take_sample

    before = take_sample(admin, time.monotonic())
    time.sleep(interval_s)
    return compare(before, take_sample(admin, time.monotonic()))


def _live(admin: ottla.Admin, options: Namespace) -> int:
    from rich.console import Console
    from rich.live import Live

    from ottla.cli.top.samples import compare, take_sample
    from ottla.cli.top.screen import Choices, frame, keyboard, read_keys
    from ottla.client.errors import KafkaError

    interval_s = options.interval or DEFAULT_INTERVAL_S
    choices = Choices(internal=options.internal)
    history: deque[float] = deque(maxlen=HISTORY)
    before: Sample | None = None
    now = take_sample(admin, time.monotonic())  # a cluster that is not there is an error, not a screen
    view, message, done = compare(None, now), "", 0
    console = Console(no_color=options.no_color or None, highlight=False)
    with keyboard() as has_keys, Live(console=console, screen=True, auto_refresh=False) as live:
        next_s = time.monotonic() + min(1.0, interval_s)  # the first rates come soon
        while not choices.quits:
            live.update(frame(view, choices, list(history), console.size.height, message), refresh=True)
            if options.iterations is not None and done >= options.iterations:
                break
            wait_s = next_s - time.monotonic()
            if has_keys:
                while (keys := read_keys(next_s - time.monotonic())) is not None:
                    if sum(map(choices.press, keys)):
                        break
            elif wait_s > 0:
                time.sleep(wait_s)
            if time.monotonic() < next_s:
                continue
            next_s = time.monotonic() + interval_s
            if choices.paused:
                continue
            try:
                before, now = now, take_sample(admin, time.monotonic())
            except KafkaError as error:
                message = str(error)
                continue
            view, message = compare(before, now), ""
            history.append(view.records_per_second)
            done += 1
    sys.stdout.flush()
    return 0
