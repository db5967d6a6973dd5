"""`ottla COMMAND list|describe|…`: what the commands with several actions have in common.

    actions = Actions(parser)
    describe = actions.add("describe", _describe, "Show topics in detail.")
    describe.add_argument("topics", nargs="*", metavar="TOPIC")

Every action gets the connection's and the output's options; `run_action(options)` does what was chosen.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence

from ottla.cli.connection import add_connection_arguments
from ottla.cli.output import add_change_arguments, add_output_arguments

Run = Callable[[Namespace], int]


class Actions:
    """The actions of a command; each is a parser of its own."""

    def __init__(self, parser: ArgumentParser) -> None:
        self._formatter = parser.formatter_class
        self._parsers = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)

    def add(
        self,
        name: str,
        run: Run,
        summary: str,
        *,
        aliases: Sequence[str] = (),
        changes: bool = False,
        loses: bool = False,
        connects: bool = True,
    ) -> ArgumentParser:
        """Declare an action. `changes` gives it `--dry-run`, `loses` also `--yes`."""
        parser = self._parsers.add_parser(
            name,
            aliases=list(aliases),
            help=summary,
            description=summary,
            allow_abbrev=False,
            formatter_class=self._formatter,
        )
        parser.set_defaults(act=run)
        if changes or loses:
            add_change_arguments(parser, confirm=loses)
        add_output_arguments(parser)
        if connects:
            add_connection_arguments(parser)
        return parser


def run_action(options: Namespace) -> int:
    """Do the action that was chosen; returns the exit code."""
    code: int = options.act(options)
    return code
