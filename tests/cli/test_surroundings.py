"""What surrounds a command: terminals of all widths, readers that go away, locales without our letters."""

import os
import pty
import subprocess
import sys
from fcntl import ioctl
from struct import pack
from termios import TIOCSWINSZ

import pytest

from ottla.cli.main import COMMANDS, main


def in_terminal(columns, program):
    """What a Python program prints to a terminal of so many columns."""
    terminal, stdout = pty.openpty()
    ioctl(stdout, TIOCSWINSZ, pack("HHHH", 50, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=stdout, env={**environment, "TERM": "xterm", "NO_COLOR": "1"}
    ) as process:
        os.close(stdout)
        parts = []
        try:
            while part := os.read(terminal, 65536):
                parts.append(part)
        except OSError:  # how Linux says that the other end is closed
            pass
        os.close(terminal)
    assert process.returncode == 0
    return b"".join(parts).decode().replace("\r", "").replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines()


@pytest.mark.parametrize("columns", [60, 200])
def test_help_is_as_wide_as_the_terminal(columns):
    lines = in_terminal(columns, "from ottla.cli.main import main; main(['topics', 'create', '--help'])")
    assert 50 < max(map(len, lines)) <= min(columns, 100)


TABLE = """
from argparse import Namespace
from ottla.cli.output import Output
Output(Namespace()).table(None, ["topic", "partition", "producer id", "in sync replicas", "size"],
    [["a-topic-with-quite-a-long-name-that-goes-on-and-on", 1234567, 87654321, [1, 2, 3], "1.5 GiB"]])
"""


def test_a_table_in_a_narrow_terminal_keeps_words_and_numbers_whole():
    lines = in_terminal(60, TABLE)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 60
    for word in ("PARTITION", "PRODUCER", "REPLICAS", "1234567", "87654321"):
        assert word in text
    (wide,) = [line for line in in_terminal(200, TABLE) if "1234567" in line]
    assert "a-topic-with-quite-a-long-name-that-goes-on-and-on" in wide


TOP = """
from rich.console import Console
from ottla.cli.top.samples import BrokerRow, View
from ottla.cli.top.screen import Choices, frame
row = BrokerRow(**{**dict.fromkeys(BrokerRow._fields, 0), "broker": 7, "address": "broker-7.example:29092",
    "rack": "a", "is_controller": True})
view = View(**{**dict.fromkeys(View._fields, ()), "cluster_id": "c", "brokers": [row], "seconds": 1.0,
    "records_per_second": 0.0})
Console().print(frame(view, Choices(), [0.0], 30))
"""


def test_top_names_brokers_in_a_narrow_terminal():
    (line,) = [line for line in in_terminal(60, TOP) if "broker-7" in line]
    assert line.split()[0] == "7"


def test_a_reader_that_goes_away_is_no_failure_of_the_help():
    with subprocess.Popen(
        [sys.executable, "-m", "ottla", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_locale_without_our_letters_shows_escapes():
    program = (
        "import sys, ottla.cli.main as m\n"
        "m.main = lambda arguments: print('6 \\u2192 8') or 0\n"
        "sys.exit(m._whole_process([]))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "6 \\u2192 8\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_usage_is_short(capsys, command):
    main([command, "--help"])
    assert "[-h]" not in capsys.readouterr().out


def test_no_servers_are_not_some_servers(ottla):
    assert "-b is empty" in ottla("topics", "list", "-b", "", code=1).err


def test_a_bench_of_a_topic_that_is_not_there_ends_at_once(ottla, name):
    for action in ("produce", "consume", "round-trip"):
        said = ottla("bench", action, name, "-n", "1", code=1)
        assert said.err.startswith(f"ottla: error: UNKNOWN_TOPIC_OR_PARTITION: {name}")
    assert "for the topic that is made" in ottla("bench", "consume", name, "--partitions", "2", code=1).err


def test_changes_are_told_to_programs_as_data(ottla, name):
    ottla("topics", "create", name)
    said = ottla("topics", "alter", name, "-p", "2", "-c", "retention.ms=1d", "--json").json
    assert said["changed"][name] == [
        {"name": "partitions", "operation": "set", "before": 1, "value": 2},
        {"name": "retention.ms", "operation": "set", "before": "604800000", "value": "86400000"},
    ]
    said = ottla("configs", "unset", f"topic/{name}", "retention.ms", "--json").json
    assert said["changed"] == [{"name": "retention.ms", "operation": "delete", "before": "86400000", "value": None}]
