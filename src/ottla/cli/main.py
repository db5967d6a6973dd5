"""`ottla COMMAND …`: finds the command, parses its options, runs it, and says in one line what went wrong."""

from __future__ import annotations

import gc
import io
import os
import re
import sys
from argparse import Action, ArgumentParser, HelpFormatter, Namespace, _SubParsersAction
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import NoReturn, Protocol

from ottla.cli.errors import FAILURE, INTERRUPTED, USAGE, complain, describe, suggestion

FAMILIES: dict[str, dict[str, tuple[str, str]]] = {
    "a broker": {
        "start": (
            "ottla.cli.start",
            "Start a broker. No file is needed: data in ./ottla-data, Kafka on 127.0.0.1:9092.",
        ),
        "stop": ("ottla.cli.stop", "Stop the broker of a data directory, and wait until it is gone."),
        "status": ("ottla.cli.status", "Say whether a broker runs, and whether all is well with its cluster."),
        "doctor": ("ottla.cli.doctor", "Tell what is open in a configuration or a cluster, and what will not work."),
        "storage": ("ottla.cli.storage", "Prepare data directories for a cluster; tell whose they are; random ids."),
        "mock": ("ottla.cli.mock", "A Kafka in memory for tests in any language; faults and time over HTTP."),
    },
    "records": {
        "produce": ("ottla.cli.produce", "Send arguments, files or what comes through a pipe."),
        "consume": ("ottla.cli.consume", "Show records: by time, offset, key, header or a JSON path; follow, count."),
        "bench": ("ottla.cli.bench", "Measure how fast a cluster is: produce, consume, there and back."),
    },
    "topics and groups": {
        "topics": ("ottla.cli.topics", "List, create, describe, alter and delete topics."),
        "offsets": ("ottla.cli.offsets", "Where partitions start and end, or were at a time; delete old records."),
        "groups": ("ottla.cli.groups", "Consumer groups: list, describe, move offsets, delete, remove members."),
        "share-groups": ("ottla.cli.share_groups", "Share groups (queues): list, describe, move offsets, delete."),
        "streams-groups": ("ottla.cli.streams_groups", "Streams groups: list, describe, move offsets, delete."),
        "transactions": ("ottla.cli.transactions", "Show transactions, find hanging ones, end them."),
    },
    "the cluster": {
        "top": ("ottla.cli.top", "Watch brokers, topics and groups live."),
        "cluster": ("ottla.cli.cluster", "Show the cluster and its brokers; forget a broker that is gone."),
        "features": ("ottla.cli.features", "Show the levels of features, raise and lower them."),
        "partitions": (
            "ottla.cli.partitions",
            "Move partitions to other brokers or directories, elect their leaders.",
        ),
        "logs": ("ottla.cli.log_files", "The files of partitions: show, check, repair them, without a broker."),
        "metadata": ("ottla.cli.metadata", "The metadata quorum and its voters; what the metadata log says."),
        "configs": (
            "ottla.cli.configs",
            "Show and change settings of topics, brokers, groups, client metrics, loggers.",
        ),
    },
    "who may do what": {
        "security": (
            "ottla.cli.security",
            "Make a secured broker: authority, certificates, administrator, settings; renew, check.",
        ),
        "acls": ("ottla.cli.acls", "Show, add and remove access rules."),
        "users": ("ottla.cli.users", "Users: passwords (SCRAM), and what they may do, by roles."),
        "tokens": ("ottla.cli.tokens", "Delegation tokens, to log in with for a while: make, renew, end them."),
        "encryption": ("ottla.cli.encryption", "Encryption at rest: how far it is, another key, master keys."),
        "quotas": ("ottla.cli.quotas", "How much users, clients and addresses may have."),
    },
    "other": {
        "profiles": ("ottla.cli.profile_commands", "Names for clusters and how to reach them."),
        "completion": (
            "ottla.cli.completion",
            "Completion for bash, zsh and fish: commands, topics, groups, settings.",
        ),
        "install-kafka-tools": ("ottla.cli.install_kafka_tools", "Write kafka-topics.sh and the others, run by Ottla."),
        "version": ("ottla.cli.version", "Show the version."),
    },
}
"""The commands by what they are about: name, module, and what it does. Only the module that is called is loaded."""

COMMANDS = {name: command for family in FAMILIES.values() for name, command in family.items()}

HELP = """\
Ottla: Kafka's little sister, in Python.

usage: ottla COMMAND [options]

{commands}`ottla COMMAND --help` tells more about a command.
"""

_TOOL_PREFIXES = ("kafka-", "connect-")
_NO_ACTION = "the following arguments are required: ACTION"
_INVALID_ACTION = re.compile(r"argument ACTION: invalid choice: '(.*)' \(choose from (.*)\)$", re.DOTALL)


class Command(Protocol):
    """What a command module offers."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, options: Namespace) -> int:
        """Do it; returns the exit code. Raises `CommandError` for what the user should know in one line."""


class _HelpFormatter(HelpFormatter):
    """As wide as the terminal, but for very wide ones. argparse makes one for every option it learns, and would load
    `shutil` and the compression libraries with it to look for the width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width(), max_help_position=32)

    def _format_action_invocation(self, action: Action) -> str:
        """`-n N, --max N` is `-n, --max N`."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


def _width() -> int:
    try:
        return max(40, min(100, os.get_terminal_size(1).columns or 100))
    except OSError:  # no terminal
        return 100


class CommandParser(ArgumentParser):
    """Tells of wrong usage in one line, and of the right one without repeating every option."""

    def error(self, message: str) -> NoReturn:
        unknown = _INVALID_ACTION.match(message)
        actions = self._actions_there_are()
        if unknown is not None:
            hint = suggestion(unknown[1], re.findall(r"[\w-]+", unknown[2]), f"there are {actions}")
            message = f"unknown action '{unknown[1]}'; {hint}"
        elif message == _NO_ACTION:
            message = f"say what to do: {actions}"
        message = message.replace("invalid choice: ", "there is no ")
        complain(f"{message} (see `{self.prog} --help`)")
        sys.exit(USAGE)

    def format_help(self) -> str:
        self._set_usage()
        return super().format_help()

    def parse_known_intermixed_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        self._set_usage()  # argparse would make one that repeats every option
        return super().parse_known_intermixed_args(args, namespace)

    def _set_usage(self) -> None:
        if self.usage is None:
            formatter = self._get_formatter()
            formatter.add_usage(None, self._get_positional_actions(), [], "")
            usage = formatter.format_help().strip().removeprefix(self.prog)
            self.usage = f"%(prog)s [options]{usage}".replace("%", "%%").replace("%%(prog)s", "%(prog)s")

    def _actions_there_are(self) -> str:
        """`list, create, …`, without other names for the same."""
        for group in self._action_groups:
            for action in group._group_actions:
                if isinstance(action, _SubParsersAction):
                    return ", ".join(choice.dest for choice in action._choices_actions)
        return ""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code. Without arguments it is that of the process."""
    if argv is None:
        return _whole_process(sys.argv[1:])
    arguments = list(argv)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could follow
        from ottla.cli.completion import answer

        return answer()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if len(arguments) > 1 and arguments[0] == "help":
            return main([*arguments[1:], "--help"])
        return _guarded(lambda: _show_help(0 if arguments else USAGE))
    name = {"--version": "version", "-V": "version"}.get(arguments[0], arguments[0])
    if is_tool(name) and (code := _run_tool(name, arguments[1:])) is not None:
        return code
    if name not in COMMANDS:
        complain(_unknown(name))
        return USAGE
    return _guarded(lambda: _run(name, arguments[1:]))


def _whole_process(arguments: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        # In a locale without → or ü these are shown as escapes: better than nothing shown at all.
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() not in ("utf-8", "utf8"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return main(arguments)
    except KeyboardInterrupt:  # before there was anything to interrupt
        return INTERRUPTED
    finally:
        gc.freeze()  # when the interpreter ends it looks for garbage, which is a tenth of a short command's time


def is_tool(name: str) -> bool:
    """Whether a command may be one of Kafka's own tools."""
    return name.startswith(_TOOL_PREFIXES)


def command_parser(name: str) -> tuple[Command, CommandParser]:
    """The module of a command, and the parser with its options."""
    module, summary = COMMANDS[name]
    command: Command = import_module(module)
    parser = CommandParser(
        prog=f"ottla {name}", description=summary, allow_abbrev=False, formatter_class=_HelpFormatter
    )
    command.add_arguments(parser)
    return command, parser


def _run(name: str, arguments: list[str]) -> int:
    command, parser = command_parser(name)
    code = command.run(parser.parse_args(arguments))
    sys.stdout.flush()  # here, where a reader who has gone is noticed
    return code


def _guarded(run: Callable[[], int]) -> int:
    """Run it; whatever happens becomes an exit code, and a line for what went wrong."""
    try:
        return run()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_has_gone()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except Exception as error:
        complain(describe(error))
        return FAILURE


def _reader_has_gone() -> int:
    """`ottla topics list | head -1`: who reads has seen enough, which is no failure."""
    # The interpreter flushes once more when it ends; that must go somewhere.
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
    return 0


def _run_tool(name: str, arguments: list[str]) -> int | None:
    """Run one of Kafka's own tools (`ottla kafka-topics --list …`); None when there is no such tool."""
    from ottla.cli import kafka

    tool = name.removesuffix(".sh")
    if tool not in kafka.TOOLS:
        return None

    def run() -> int:
        code = kafka.run(tool, arguments)
        sys.stdout.flush()
        return code

    return _guarded(run)


def _show_help(code: int) -> int:
    print(_help(), end="", flush=True)
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    parts = []
    for title, family in FAMILIES.items():
        if family:
            parts.append(f"{title}:\n")
            parts += [f"  {name:<{width}}  {summary}\n" for name, (_, summary) in family.items()]
            parts.append("\n")
    return HELP.format(commands="".join(parts))


def _unknown(name: str) -> str:
    if name.startswith("-"):
        return f"{name} must follow a command, as in `ottla start {name}`"
    names = list(COMMANDS)
    if is_tool(name):
        from ottla.cli import kafka

        names += kafka.TOOLS
    return f"unknown command '{name}'; {suggestion(name, names, '`ottla --help` lists the commands')}"
