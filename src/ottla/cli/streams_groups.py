"""`ottla streams-groups`: groups of Kafka Streams applications that the coordinator assigns (KIP-1071)."""

from __future__ import annotations

from argparse import ArgumentParser

from ottla.cli.actions import run_action

run = run_action


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    from ottla.cli.groups.actions import GroupActions
    from ottla.cli.groups.kinds import StreamsKind

    GroupActions(StreamsKind()).declare(parser)
