"""`ottla install-kafka-tools`: Kafka's tools by the names that scripts call them by."""

from __future__ import annotations

import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ottla.cli.errors import CommandError

_MARK = "# written by ottla install-kafka-tools"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of `ottla install-kafka-tools`."""
    parser.add_argument(
        "directory", metavar="DIR", help="where to write kafka-topics.sh and the others; made if needed"
    )
    parser.add_argument("--force", action="store_true", help="replace files of these names that are not ours")


def run(options: Namespace) -> int:
    """Write a shell script for each tool; those of an earlier call are replaced."""
    from ottla.cli.kafka import TOOLS

    directory = Path(options.directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        foreign = [path.name for tool in TOOLS if (path := directory / f"{tool}.sh").exists() and not _is_ours(path)]
        if foreign and not options.force:
            named = ", ".join(foreign[:3]) + (" and others" if len(foreign) > 3 else "")
            raise CommandError(f"{directory} has a {named} of somebody else; choose another directory, or --force")
        for tool in TOOLS:
            path = directory / f"{tool}.sh"
            path.write_text(script(tool))
            path.chmod(0o755)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"cannot write to {error.filename or directory}: {reason}") from None
    print(f"wrote {len(TOOLS)} tools to {directory}: {', '.join(f'{tool}.sh' for tool in list(TOOLS)[:3])}, …")
    if str(directory.resolve()) not in os.environ.get("PATH", "").split(os.pathsep):
        print(f"to call them by name: export PATH={shlex.quote(str(directory.resolve()))}:$PATH")
    return 0


def script(tool: str) -> str:
    """What `kafka-topics.sh` consists of. It runs the Python that wrote it, wherever it is called from."""
    return f'#!/bin/sh\n{_MARK}\nexec {shlex.quote(sys.executable)} -m ottla {tool} "$@"\n'


def _is_ours(path: Path) -> bool:
    try:
        return _MARK in path.read_text(errors="replace")
    except OSError:
        return False
