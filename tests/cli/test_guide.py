"""The examples of docs/command-line.md that are marked `sh`, one after the other, and that it names every action."""

import re
import shlex
from argparse import _SubParsersAction
from pathlib import Path

import pytest

from ottla.cli.main import COMMANDS, command_parser

GUIDE = Path(__file__).parents[2] / "docs" / "command-line.md"
OURS = (
    "topics",
    "offsets",
    "partitions",
    "configs",
    "cluster",
    "features",
    "metadata",
    "acls",
    "users",
    "tokens",
    "quotas",
)


def test_examples(ottla, make_broker, monkeypatch, tmp_path):
    broker = make_broker()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTTLA_BOOTSTRAP_SERVERS", broker.bootstrap)
    text = GUIDE.read_text().replace("127.0.0.1:9092", broker.bootstrap)
    examples = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    assert len(examples) > 20
    for example in examples:
        program, *arguments = shlex.split(example)
        assert program == "ottla"
        ottla(*arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_named(name):
    assert re.search(rf"`(ottla )?{name}\b", GUIDE.read_text())


@pytest.mark.parametrize("name", [*OURS, "profiles"])
def test_every_action_has_json_and_changes_have_a_dry_run(name):
    _, parser = command_parser(name)
    (actions,) = [action for action in parser._actions if isinstance(action, _SubParsersAction)]
    for action, options in actions.choices.items():
        known = options._option_string_actions
        assert "--json" in known, action
        reads = ("list", "ls", "describe", "get", "info", "brokers", "nodes", "log-dirs", "id", "quorum", "status")
        reads += ("voters", "log", "show", "plan", "moves", "verify", "roles")
        if action not in reads and name != "profiles":
            assert "--dry-run" in known, action
