"""`ottla completion bash|zsh|fish`: what the shell loads to complete our commands, and the answers to its questions.

The script calls `ottla` with the line so far (argcomplete's protocol); only the command on the line is loaded for the
answer. Names of topics, groups and brokers come from the cluster that the line, the profile or the environment means;
one that does not answer at once completes nothing, in silence.
"""

from __future__ import annotations

import os
import signal
from argparse import ArgumentParser, Namespace
from types import FrameType

from ottla.cli.output import Output

SHELLS = ("bash", "zsh", "fish")
DEADLINE_S = 3
"""Whatever happens, the prompt is back after this time."""

_HOW = {
    "bash": 'eval "$(ottla completion bash)"  # in ~/.bashrc',
    "zsh": 'eval "$(ottla completion zsh)"  # in ~/.zshrc, after compinit',
    "fish": "ottla completion fish > ~/.config/fish/completions/ottla.fish",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the shell."""
    parser.add_argument(
        "shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish; the script begins with how to use it"
    )


def run(options: Namespace) -> int:
    """Print the script."""
    from argcomplete.shell_integration import shellcode

    shell = options.shell
    script = shellcode(["ottla"], use_defaults=True, shell=shell)
    output = Output()
    output.line(f"# {_HOW[shell]}")
    output.line(script.strip("\n"))
    return 0


def answer() -> int:
    """Print what could follow on the line of COMP_LINE; nothing, when anything goes wrong."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(DEADLINE_S)
    try:
        import argcomplete

        parser = _parser(os.environ.get("COMP_LINE", ""))
        argcomplete.autocomplete(parser, always_complete_options=False)
    except Exception:  # a shell's prompt is no place for it
        pass
    return 1


def _give_up(number: int, frame: FrameType | None) -> None:
    os._exit(1)


def _parser(line: str) -> ArgumentParser:
    """All commands; the options only of the one on the line."""
    from ottla.cli.main import COMMANDS, CommandParser, command_parser, is_tool

    words = line.split()[1:]
    named = words[0] if words and (len(words) > 1 or line.endswith(" ")) else ""
    parser = CommandParser(prog="ottla", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, (_, summary) in COMMANDS.items():
        if name == named:
            commands._name_parser_map[name] = command_parser(name)[1]
        elif not named:
            commands.add_parser(name, help=summary)
    if not named and words and is_tool(words[0]):
        from ottla.cli import kafka

        for tool in kafka.TOOLS:
            commands.add_parser(tool)
    return parser
