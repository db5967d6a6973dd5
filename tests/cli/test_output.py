import io
import json
from argparse import ArgumentParser, Namespace
from enum import IntEnum
from typing import NamedTuple

import pytest

from ottla.cli.errors import CommandError
from ottla.cli.output import Column, Output, add_change_arguments, add_output_arguments, cell_text, plain


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Colour(IntEnum):
    DARK_RED = 1


class Pair(NamedTuple):
    left: int
    right: str | None


def printed(*arguments, terminal=False):
    parser = ArgumentParser()
    add_output_arguments(parser)
    stream = Terminal() if terminal else io.StringIO()
    return Output(parser.parse_args(arguments), stdout=stream, stderr=io.StringIO()), stream


ROWS = [["orders", 6, None], ["x", 12, "a\nb"]]


def test_a_pipe_gets_aligned_text():
    output, stream = printed()
    output.table(None, ["topic", Column("partitions", style="red"), "note"], ROWS)
    assert stream.getvalue() == "TOPIC   PARTITIONS  NOTE\norders           6  -\nx               12  a\\nb\n"


def test_json_has_the_values_themselves():
    output, stream = printed("--json")
    output.line("not shown")
    output.table("title", ["topic", "partition count", "note"], ROWS)
    assert json.loads(stream.getvalue()) == [
        {"topic": "orders", "partition_count": 6, "note": None},
        {"topic": "x", "partition_count": 12, "note": "a\nb"},
    ]
    output, stream = printed("--json")
    output.table(None, ["a"], [["x"]], json_rows=[Pair(1, None)])
    assert json.loads(stream.getvalue()) == [{"left": 1, "right": None}]


def test_quiet_leaves_names():
    output, stream = printed("-q")
    output.table("title", ["topic", "partitions", "note"], ROWS)
    output.line("told")
    output.done("done")
    assert stream.getvalue() == "orders\nx\n"


def test_a_terminal_gets_a_table_and_no_colour_when_asked(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    columns = [Column("topic", style="red"), "partitions", "note"]
    output, stream = printed(terminal=True)
    output.table(None, columns, [["[red]orders", 1, None]])
    assert "\x1b[" in stream.getvalue()
    assert "[red]orders" in stream.getvalue()  # what looks like markup is only text
    assert "─" in stream.getvalue()
    output.line(output.styled("x", "bold red"))
    assert stream.getvalue().endswith("\x1b[1;31mx\x1b[0m\n")
    for arguments, variable in ((["--no-color"], ""), ([], "1")):
        monkeypatch.setenv("NO_COLOR", variable)
        output, stream = printed(*arguments, terminal=True)
        output.table(None, columns, ROWS)
        output.line(output.styled("x", "red"))
        assert "\x1b[3" not in stream.getvalue()


def test_pipes_need_no_rich():
    import subprocess
    import sys

    program = (
        "import sys; from ottla.cli.output import Output; o = Output(); o.table(None, ['a'], [[1]]); o.json([1])\n"
        "with o.progress(3, 'x') as bar: bar.advance()\n"
        "print(*[m for m in sys.modules if m.split('.')[0] == 'rich'])"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert process.stdout == "A\n1\n[\n  1\n]\n\n"


def test_fields():
    output, stream = printed()
    output.fields("broker", {"cluster id": "abc", "racks": ["a", "b"], "none": None})
    assert stream.getvalue() == "broker\ncluster id  abc\nracks       a, b\nnone        -\n"
    output, stream = printed("--json")
    output.fields("broker", {"cluster id": "abc"})
    assert json.loads(stream.getvalue()) == {"cluster_id": "abc"}


def test_done_is_an_object_in_json():
    output, stream = printed("--json")
    output.done("Created.", json={"created": ["x"]})
    assert json.loads(stream.getvalue()) == {"created": ["x"]}
    output, stream = printed("--json")
    output.done("Created.")
    assert json.loads(stream.getvalue()) == {"message": "Created."}


def test_values_as_text_and_as_json():
    assert [cell_text(one) for one in (True, False, 1.5, 2e7, [], {3, 1}, Colour.DARK_RED, "\x1b[31m")] == [
        "yes",
        "no",
        "1.5",
        "20000000",
        "-",
        "1, 3",
        "dark-red",
        "\\x1b[31m",
    ]
    value = {Pair(1, "x"): {Colour.DARK_RED}, "n": (float("nan"), b"\xff", Colour.DARK_RED, True, 1.5)}
    assert plain(value) == {"Pair(left=1, right='x')": ["DARK_RED"], "n": ["nan", "\\xff", "DARK_RED", True, 1.5]}


def test_consent(monkeypatch):
    parser = ArgumentParser()
    add_change_arguments(parser, confirm=True)
    output, _ = printed()
    output.confirm("Delete it?", parser.parse_args(["-y"]))
    with pytest.raises(CommandError, match=r"Delete it\? Say --yes"):
        output.confirm("Delete it?", parser.parse_args([]))
    for answer, goes_on in (("y\n", True), ("yes\n", True), ("\n", False), ("no\n", False), ("", False)):
        stdin, stderr = Terminal(answer), Terminal()
        monkeypatch.setattr("sys.stdin", stdin)
        asking = Output(Namespace(), stdout=io.StringIO(), stderr=stderr)
        if goes_on:
            asking.confirm("Delete it?", Namespace())
        else:
            with pytest.raises(CommandError, match="nothing was changed"):
                asking.confirm("Delete it?", Namespace())
        assert stderr.getvalue() == "Delete it? [y/N] "


def test_progress_is_for_terminals(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    silent, shown = io.StringIO(), Terminal()
    for stream in (silent, shown):
        with Output(Namespace(), stdout=io.StringIO(), stderr=stream).progress(4, "moving") as bar:
            bar.advance()
            bar.advance(2)
            assert bar.completed == 3
    assert silent.getvalue() == ""
    assert "moving" in shown.getvalue()
