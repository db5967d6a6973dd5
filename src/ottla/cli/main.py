"""`ottla COMMAND …`: finds the command, parses its options, runs it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, HelpFormatter, Namespace
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol

from ottla.cli.errors import FAILURE, INTERRUPTED, USAGE, CommandError, complain

COMMANDS = {
    "start": ("ottla.cli.start", "Start a broker. No file is needed: data in ./ottla-data, Kafka on 127.0.0.1:9092."),
    "version": ("ottla.cli.version", "Show the version."),
}

HELP = """\
Ottla: Kafka's little sister, in Python.

usage: ottla COMMAND [options]

commands:
{commands}

`ottla COMMAND --help` tells more about a command.
"""


class Command(Protocol):
    """What a command module offers."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, options: Namespace) -> int:
        """Do it; returns the exit code. Raises `CommandError` for what the user should know in one line."""


class _HelpFormatter(HelpFormatter):
    """Of a fixed width. argparse makes one for every option it learns, and to look for the terminal's width it loads
    `shutil` and the compression libraries with it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=78)


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        complain(f"{message} (see `{self.prog} --help`)")
        sys.exit(USAGE)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help(), end="")
        return 0 if arguments else USAGE
    name = {"--version": "version", "-V": "version"}.get(arguments[0], arguments[0])
    if name not in COMMANDS:
        complain(_unknown(name))
        return USAGE
    module, summary = COMMANDS[name]
    command: Command = import_module(module)
    parser = _Parser(prog=f"ottla {name}", description=summary, allow_abbrev=False, formatter_class=_HelpFormatter)
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args(arguments[1:]))
    except CommandError as error:
        complain(str(error))
        return FAILURE
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    return HELP.format(commands="\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items()))


def _unknown(name: str) -> str:
    from ottla.schema.definition import nearest

    if name.startswith("-"):
        return f"{name} must follow a command, as in `ottla start {name}`"
    suggestion = nearest(name, list(COMMANDS))
    hint = f"did you mean {suggestion}?" if suggestion else "`ottla --help` lists the commands"
    return f"unknown command '{name}'; {hint}"
