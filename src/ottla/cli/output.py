"""What commands print: tables and colour for people, aligned text for pipes, JSON for programs.

- On a terminal a table is one of rich, in colour unless NO_COLOR or `--no-color` says otherwise.
- In a pipe it is aligned text without colour or lines: a header, then a row a line, columns two blanks apart.
- With `--json` everything is one JSON value on standard output. `--quiet` leaves only the first column of tables,
  for `xargs`, and no word about what was done.

Progress, questions and warnings go to standard error, never between the data.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TextIO

from ottla.cli.errors import CommandError

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.progress import Progress as RichProgress


class Column(NamedTuple):
    """A column of a table. Numbers are aligned to the right by themselves."""

    title: str
    style: str | None = None
    """A colour or style of rich, for terminals."""
    right: bool | None = None


def add_output_arguments(parser: ArgumentParser) -> None:
    """Declare `--json`, `--no-color` and `--quiet`."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print JSON")
    group.add_argument("--no-color", action="store_true", help="no colours (also: NO_COLOR=1)")
    group.add_argument("-q", "--quiet", action="store_true", help="names only, and no word about what was done")


def add_change_arguments(parser: ArgumentParser, *, dry_run: bool = True, confirm: bool = False) -> None:
    """Declare `--dry-run` for what changes something, `--yes` for what loses something."""
    group = parser.add_argument_group("changes")
    if dry_run:
        group.add_argument("--dry-run", action="store_true", help="show what would be done, and do nothing")
    if confirm:
        group.add_argument("-y", "--yes", action="store_true", help="do it without asking")


class Output:
    """Prints what a command has to say, as the options ask for it."""

    def __init__(
        self, options: Namespace | None = None, *, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.is_json: bool = getattr(options, "json", False)
        self.is_quiet: bool = getattr(options, "quiet", False)
        self._stdout = sys.stdout if stdout is None else stdout
        self._stderr = sys.stderr if stderr is None else stderr
        self._plain = getattr(options, "no_color", False) or bool(os.environ.get("NO_COLOR"))
        self.is_terminal = self._stdout.isatty() and os.environ.get("TERM") != "dumb"

    def table(
        self,
        title: str | None,
        columns: Sequence[str | Column],
        rows: Iterable[Sequence[object]],
        *,
        json_rows: Sequence[object] | None = None,
    ) -> None:
        """Print a table. In JSON an array of `json_rows`, or of objects with the columns' titles as names."""
        heads = [Column(column) if isinstance(column, str) else column for column in columns]
        given = [list(row) for row in rows]
        if self.is_json:
            names = [head.title.lower().replace(" ", "_") for head in heads]
            made = [dict(zip(names, row, strict=True)) for row in given]
            self.json(made if json_rows is None else json_rows)
            return
        cells = [[cell_text(value) for value in row] for row in given]
        if self.is_quiet:
            for row in cells:
                self._write(row[0])
            return
        right = [
            head.right
            if head.right is not None
            else any(_is_number(row[at]) for row in given)
            and all(row[at] is None or _is_number(row[at]) for row in given)
            for at, head in enumerate(heads)
        ]
        if self.is_terminal:
            self._rich_table(title, heads, cells, right)
        else:
            if title:
                self._write(title)
            for line in aligned([[head.title.upper() for head in heads], *cells], right):
                self._write(line)

    def fields(self, title: str | None, fields: Mapping[str, object], *, json: object = None) -> None:
        """Print one thing as `name  value` lines; in JSON an object."""
        if self.is_json:
            named = {name.lower().replace(" ", "_"): value for name, value in fields.items()}
            self.json(named if json is None else json)
            return
        if title:
            self._write(self.styled(title, "bold"))
        width = max(map(len, fields), default=0)
        for name, value in fields.items():
            padding = " " * (width - len(name))
            self._write(f"{self.styled(name, 'cyan')}{padding}  {cell_text(value)}".rstrip())

    def json(self, value: object) -> None:
        """Print a value as JSON: named tuples as objects, enums by name, sets as sorted arrays."""
        import json

        self._write(json.dumps(plain(value), indent=2, ensure_ascii=False))

    def line(self, text: str = "") -> None:
        """Print a line of text, unless the output is JSON or quiet."""
        if not self.is_json and not self.is_quiet:
            self._write(text)

    def done(self, text: str, *, json: object = None) -> None:
        """Say what was done; in JSON print `json` (or `{"message": text}`)."""
        if self.is_json:
            self.json({"message": text} if json is None else json)
        elif not self.is_quiet:
            self._write(text)

    def note(self, text: str) -> None:
        """Something worth knowing that is no result; on standard error."""
        if not self.is_quiet:
            print(f"ottla: {' '.join(text.split())}", file=self._stderr, flush=True)

    def styled(self, text: str, style: str) -> str:
        """The text in a style of rich (`green`, `bold`, `dim red`) where colours are shown, else the text itself."""
        if not self.is_terminal or self._plain or not text:
            return text
        codes = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
        return f"\x1b[{';'.join(codes[word] for word in style.split())}m{text}\x1b[0m"

    def progress(self, total: int | None, what: str) -> Progress:
        """A progress bar on standard error, when that is a terminal: `with output.progress(100, "moved") as bar`."""
        shown = self._stderr.isatty() and not self.is_quiet and os.environ.get("TERM") != "dumb"
        return Progress(total, what, self._console(self._stderr) if shown else None)

    def confirm(self, question: str, options: Namespace) -> None:
        """Go on only with consent: `--yes`, or an answer on the terminal. Raises `CommandError` without."""
        if getattr(options, "yes", False):
            return
        if not (sys.stdin is not None and sys.stdin.isatty() and self._stderr.isatty()):
            raise CommandError(f"{question} Say --yes when that is what you want")
        print(f"{question} [y/N] ", end="", file=self._stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise CommandError("nothing was changed")

    def _rich_table(
        self, title: str | None, heads: Sequence[Column], cells: list[list[str]], right: list[bool]
    ) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        console = self._console(self._stdout)
        table = Table(
            title=title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            show_edge=False,
            padding=(0, 1, 0, 0),
            collapse_padding=True,
        )
        for at, (head, is_right) in enumerate(zip(heads, right, strict=True)):
            # Where the terminal is narrow text is folded; heads and numbers stay whole as long as they can.
            words = head.title.split() + ([row[at] for row in cells] if is_right else [])
            table.add_column(
                head.title.upper(),
                style=head.style,
                justify="right" if is_right else "left",
                overflow="fold",
                min_width=min(max(map(len, words), default=1), console.width),
            )
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))  # as text: a cell may look like markup
        console.print(table, soft_wrap=table.__rich_measure__(console, console.options).minimum > console.width)

    def _console(self, stream: TextIO) -> Console:
        from rich.console import Console

        return Console(file=stream, no_color=self._plain or None, highlight=False)

    def _write(self, text: str) -> None:
        self._stdout.write(text + "\n")


class Progress:
    """How far a long piece of work is; made by `Output.progress`."""

    def __init__(self, total: int | None, what: str, console: Console | None) -> None:
        self._total = total
        self._what = what
        self._console = console
        self._bar: RichProgress | None = None
        self._task: Any = None
        self.completed = 0

    def advance(self, n: int = 1) -> None:
        """So many more are done."""
        self.at(self.completed + n)

    def at(self, completed: int, total: int | None = None) -> None:
        """So many are done (of so many, when that changed)."""
        self.completed = completed
        if self._bar is not None:
            self._bar.update(self._task, completed=completed, total=self._total if total is None else total)

    def __enter__(self) -> Self:
        if self._console is not None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def cell_text(value: object) -> str:
    """A value in a table: `-` for None, yes and no, lists with commas; control characters are shown as escapes."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return value.name.lower().replace("_", "-")
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
    if isinstance(value, (list, tuple, set, frozenset)) and not hasattr(value, "_fields"):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return ", ".join(map(cell_text, items)) or "-"
    return printable(str(value))


def printable(text: str) -> str:
    """The text without anything that could steer a terminal."""
    return text if text.isprintable() else "".join(one if one.isprintable() else _escape(one) for one in text)


def plain(value: object) -> Any:
    """The value as dictionaries, lists, texts and numbers that JSON has."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else cell_text(key): plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value), key=str)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)


def aligned(rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Rows as lines with columns two blanks apart, each as wide as its widest cell; no blanks at the end."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(right))]
    return [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, (bool, Enum))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
