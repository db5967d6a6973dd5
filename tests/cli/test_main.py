import json
import subprocess
import sys

import pytest

from ottla.cli.main import COMMANDS, main
from ottla.version import VERSION


def outcome(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_version(capsys):
    for arguments in (["version"], ["--version"], ["-V"]):
        assert outcome(capsys, *arguments) == (0, f"ottla {VERSION} (Apache Kafka 4.4)\n", "")
    code, out, _ = outcome(capsys, "version", "--json")
    assert code == 0
    assert json.loads(out)["ottla"] == VERSION


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["-h"], 0), (["help"], 0)])
def test_help_lists_every_command(capsys, arguments, code):
    returned, out, err = outcome(capsys, *arguments)
    assert (returned, err) == (code, "")
    assert all(f"\n  {name}" in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    code, out, err = outcome(capsys, command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: ottla {command}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["strat"], "unknown command 'strat'; did you mean start?"),
        (["frobnicate"], "unknown command 'frobnicate'; `ottla --help` lists the commands"),
        (["--data", "x"], "--data must follow a command, as in `ottla start --data`"),
        (["start", "--dat", "x"], "unrecognized arguments: --dat x (see `ottla start --help`)"),
        (["start", "--config"], "argument --config: expected one argument (see `ottla start --help`)"),
        (["topics"], "say what to do: list, create, describe, alter, delete (see `ottla topics --help`)"),
        (
            ["topics", "zzz"],
            "unknown action 'zzz'; there are list, create, describe, alter, delete (see `ottla topics --help`)",
        ),
        (["produce"], "the following arguments are required: TOPIC (see `ottla produce --help`)"),
        (
            ["consume", "x", "-n", "-3"],
            "argument -n/--max-records: it takes a whole number, 0 or more, not '-3' (see `ottla consume --help`)",
        ),
        (
            ["topics", "create", "x", "-p", "-1"],
            "argument -p/--partitions: it takes a whole number, 1 or more, not '-1' (see `ottla topics create --help`)",
        ),
        (
            ["topics", "list", "--timeout", "x"],
            (
                "argument --timeout: it takes a number of seconds above 0, at most 86,400, not 'x' "
                "(see `ottla topics list --help`)"
            ),
        ),
        (["version", "--yaml"], "unrecognized arguments: --yaml (see `ottla version --help`)"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(capsys, arguments, message):
    assert outcome(capsys, *arguments) == (2, "", f"ottla: error: {message}\n")


def test_python_m_ottla_is_the_command():
    process = subprocess.run([sys.executable, "-m", "ottla", "version"], capture_output=True, text=True, check=True)
    assert process.stdout.startswith(f"ottla {VERSION}")


def test_a_command_imports_only_what_it_needs():
    program = "import sys; import ottla.cli.main as m; m.main(['version']); print(*sys.modules, sep='\\n')"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(process.stdout.split())
    assert not {"asyncio", "logging", "ottla.cli.start", "ottla.schema.config", "typer", "rich", "msgspec"} & modules
