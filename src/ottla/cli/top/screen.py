"""The live screen: a frame of tables from a view, drawn by rich; keys read from the terminal."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ottla.cli.output import printable
from ottla.cli.units import size_text

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from ottla.cli.top.samples import GroupRow, TopicRow, View

TOPIC_SORTS = ("rate", "records", "size", "name")
GROUP_SORTS = ("lag", "rate", "name")
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z~]|O[A-Za-z])")
_BARS = " ▁▂▃▄▅▆▇█"
WIDEST_NAME = 80
HELP = "q quit  s sort topics  g sort groups  i internal topics  space pause"


@dataclass(slots=True)
class Choices:
    """What the user chose by keys."""

    topic_sort: int = 0
    group_sort: int = 0
    internal: bool = False
    paused: bool = False
    quits: bool = False

    def press(self, key: str) -> bool:
        """A key was pressed; says whether the screen looks different now."""
        if key in ("q", "Q", "\x1b", "\x03", "\x04"):
            self.quits = True
        elif key == "s":
            self.topic_sort = (self.topic_sort + 1) % len(TOPIC_SORTS)
        elif key == "g":
            self.group_sort = (self.group_sort + 1) % len(GROUP_SORTS)
        elif key == "i":
            self.internal = not self.internal
        elif key in (" ", "p"):
            self.paused = not self.paused
        else:
            return False
        return True


def sorted_topics(rows: Sequence[TopicRow], sort: str, *, internal: bool) -> list[TopicRow]:
    """Topics in the order that was chosen, internal ones only when they are wanted."""
    keys: dict[str, Any] = {
        "rate": lambda row: (-row.records_per_second, row.topic),
        "records": lambda row: (-row.records, row.topic),
        "size": lambda row: (-(row.size_bytes or 0), row.topic),
        "name": lambda row: row.topic,
    }
    return sorted((row for row in rows if internal or not row.topic.startswith("__")), key=keys[sort])


def sorted_groups(rows: Sequence[GroupRow], sort: str) -> list[GroupRow]:
    """Groups in the order that was chosen."""
    keys: dict[str, Any] = {
        "lag": lambda row: (-(row.lag or 0), row.group_id),
        "rate": lambda row: (-row.records_per_second, row.group_id),
        "name": lambda row: row.group_id,
    }
    return sorted(rows, key=keys[sort])


def sparkline(values: Sequence[float], width: int = 30) -> str:
    """The last values as little bars."""
    shown = values[-width:]
    highest = max(shown, default=0.0)
    if highest <= 0:
        return _BARS[1] * len(shown)
    return "".join(_BARS[1 + int((len(_BARS) - 2) * value / highest)] for value in shown)


def rate_text(rate: float) -> str:
    """`12`, `1.5k`, `2.3M`, with a sign where it is below zero."""
    if abs(rate) < 1000:
        return f"{rate:.0f}" if abs(rate) >= 10 or rate == int(rate) else f"{rate:.1f}"
    for unit in ("k", "M", "G"):
        rate /= 1000
        if abs(rate) < 1000 or unit == "G":
            return f"{rate:.1f}{unit}"
    raise AssertionError


def frame(view: View, choices: Choices, history: Sequence[float], height: int, message: str = "") -> Group:
    """All of the screen. Tables get the lines that are there, most for topics."""
    from rich.console import Group
    from rich.text import Text

    head = Text()
    head.append("ottla top", style="bold cyan")
    head.append(
        f"  cluster {view.cluster_id or '-'}  {len(view.brokers)} broker{'' if len(view.brokers) == 1 else 's'}  "
    )
    head.append(f"{rate_text(view.records_per_second)} records/s ", style="bold green")
    head.append(sparkline(history), style="green")
    if choices.paused:
        head.append("  paused", style="bold yellow")
    topics = sorted_topics(view.topics, TOPIC_SORTS[choices.topic_sort], internal=choices.internal)
    groups = sorted_groups(view.groups, GROUP_SORTS[choices.group_sort])
    left = max(6, height - 3 - 3 * 3)  # head, message, keys; each table has a title, a head and a blank line
    broker_lines = min(len(view.brokers), max(1, left // 4))
    group_lines = min(len(groups), max(1, (left - broker_lines) // 2))
    topic_lines = max(1, left - broker_lines - group_lines)
    return Group(
        head,
        _brokers(view, broker_lines),
        _topics(topics, topic_lines, TOPIC_SORTS[choices.topic_sort]),
        _groups(groups, group_lines, GROUP_SORTS[choices.group_sort]),
        Text(message, style="bold red", overflow="ellipsis", no_wrap=True),
        Text(HELP, style="dim", overflow="ellipsis", no_wrap=True),
    )


def _brokers(view: View, lines: int) -> Table:
    table = _table(
        f"Brokers ({len(view.brokers)})", ("broker", "address", "rack", "role"), ("leads", "replicas", "size", "in/s")
    )
    for row in view.brokers[:lines]:
        table.add_row(
            str(row.broker),
            printable(row.address),
            printable(row.rack or "-"),
            "controller" if row.is_controller else "",
            str(row.leaders),
            str(row.replicas),
            "-" if row.size_bytes is None else size_text(row.size_bytes),
            rate_text(row.records_per_second),
        )
    return table


def _topics(rows: Sequence[TopicRow], lines: int, sort: str) -> Table:
    table = _table(f"Topics ({len(rows)}) by {sort}", ("topic",), ("partitions", "records", "size", "in/s", "problems"))
    for row in rows[:lines]:
        table.add_row(
            printable(row.topic),
            str(row.partitions),
            f"{row.records:,}",
            "-" if row.size_bytes is None else size_text(row.size_bytes),
            rate_text(row.records_per_second),
            str(row.problems) if row.problems else "",
            style="red" if row.problems else None,
        )
    return table


def _groups(rows: Sequence[GroupRow], lines: int, sort: str) -> Table:
    table = _table(
        f"Groups ({len(rows)}) by {sort}",
        ("group", "kind", "state"),
        ("members", "partitions", "lag", "lag/s", "out/s"),
    )
    for row in rows[:lines]:
        table.add_row(
            printable(row.group_id),
            row.kind,
            row.state,
            "-" if row.members is None else str(row.members),
            str(row.partitions),
            "-" if row.lag is None else f"{row.lag:,}",
            rate_text(row.lag_per_second),
            rate_text(row.records_per_second),
            style="yellow" if row.lag_per_second > 0 else None,
        )
    return table


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, name in enumerate(left):
        # What names a row is the last to be cut off.
        table.add_column(
            name,
            header_style="dim",
            no_wrap=True,
            overflow="ellipsis",
            min_width=len(name) if not number else None,
            max_width=None if number else WIDEST_NAME,
        )
    for name in right:
        table.add_column(name, header_style="dim", justify="right", no_wrap=True)
    return table


@contextmanager
def keyboard() -> Iterator[bool]:
    """Keys come one by one, and are not shown. False when standard input is no terminal."""
    if not sys.stdin.isatty():
        yield False
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield True
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def read_keys(timeout_s: float) -> str | None:
    """The keys that were pressed, or None when none was in time. The end of the input is as good as q."""
    ready, _, _ = select.select([sys.stdin], [], [], max(0.0, timeout_s))
    if not ready:
        return None
    data = os.read(sys.stdin.fileno(), 64)
    if not data:
        return "q"
    # Arrows and function keys come as several bytes that begin with Escape; none of them means anything here.
    return _SEQUENCE.sub("", data.decode(errors="replace"))
