"""`ottla logs`: the files of partitions, read, checked and repaired without a broker. Kafka's files are the same.

    ottla logs dump ottla-data/orders-0 --from 100
    ottla logs verify ottla-data
    ottla logs repair ottla-data/orders-0 --dry-run

A path is a segment (`….log`), a partition's directory, or a data directory with all its partitions. Repairing cuts a
log at its first bad batch, as a broker does after a crash, and makes the indexes anew; what is taken away is kept
elsewhere.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ottla.cli.actions import Actions, run_action
from ottla.cli.formats import FORMAT_NAMES
from ottla.cli.numbers import whole

run = run_action


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    dumping = actions.add("dump", _dump, "Show the records of a segment or a partition.", connects=False)
    dumping.add_argument("path", metavar="PATH", help="a segment (….log) or a partition's directory")
    dumping.add_argument("--from", dest="first", type=whole(), default=0, metavar="OFFSET", help="from this offset on")
    dumping.add_argument("--to", dest="end", type=whole(), metavar="OFFSET", help="up to this offset, without it")
    dumping.add_argument(
        "-n", "--max", dest="maximum", type=whole(), metavar="N", help="at most so many records or batches"
    )
    dumping.add_argument("-b", "--batches", action="store_true", help="the headers of batches instead of records")
    for flag, name in (("-k", "key"), ("-v", "value")):
        dumping.add_argument(
            flag,
            f"--{name}-format",
            default="string",
            metavar="FORMAT",
            help=f"how a {name} is shown: {', '.join(FORMAT_NAMES)} (string)",
        )
    verifying = actions.add("verify", _verify, "Check files: every batch, every index.", connects=False)
    verifying.add_argument("paths", nargs="+", metavar="PATH", help="data directories, partitions, segments")
    repairing = actions.add(
        "repair",
        _repair,
        "Cut logs at their first bad batch, and make indexes anew; a copy is kept.",
        loses=True,
        connects=False,
    )
    repairing.add_argument("paths", nargs="+", metavar="PATH", help="data directories, partitions, segments")
    repairing.add_argument(
        "--keep",
        metavar="DIR",
        help="where copies go (a directory beside the data directory, with the time in its name)",
    )


def _dump(options: Namespace) -> int:
    from ottla.cli.log_files.dumping import dump

    return dump(options)


def _verify(options: Namespace) -> int:
    from ottla.cli.log_files.repairing import verify

    return verify(options)


def _repair(options: Namespace) -> int:
    from ottla.cli.log_files.repairing import repair

    return repair(options)
