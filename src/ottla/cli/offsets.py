"""`ottla offsets`: where partitions start and end, where they were at a time, and deleting what is older."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin
from ottla.cli.errors import CommandError
from ottla.cli.numbers import whole
from ottla.cli.output import Output
from ottla.cli.selection import add_topics_argument, select_partitions
from ottla.cli.units import parse_time_ms, time_text

if TYPE_CHECKING:
    import ottla
    from ottla.client.admin.offsets import OffsetSpec
    from ottla.core.ids import TopicPartition

run = run_action

_WORDS = {
    "earliest": "EARLIEST",
    "start": "EARLIEST",
    "latest": "LATEST",
    "end": "LATEST",
    "max-timestamp": "MAX_TIMESTAMP",
    "earliest-local": "EARLIEST_LOCAL",
    "latest-tiered": "LATEST_TIERED",
    "earliest-pending-upload": "EARLIEST_PENDING_UPLOAD",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    listing = actions.add("list", _list, "Show where partitions start and end.", aliases=["ls", "describe"])
    add_topics_argument(listing, partitions=True, required=False)
    listing.add_argument(
        "-a",
        "--at",
        metavar="WHEN",
        help="the first offset at or after a time (10m ago, 2026-01-31T08:15), or earliest, latest, max-timestamp",
    )
    listing.add_argument(
        "-c", "--committed", action="store_true", help="ends as read_committed sees them, before open transactions"
    )
    deleting = actions.add("delete", _delete, "Delete the records before an offset or a time.", loses=True)
    add_topics_argument(deleting, partitions=True)
    what = deleting.add_mutually_exclusive_group(required=True)
    what.add_argument("--before", type=whole(), metavar="OFFSET", help="the records below this offset")
    what.add_argument("--older-than", metavar="WHEN", help="records before a time: 7d (ago), 2026-01-31")
    what.add_argument("--all", action="store_true", help="all records that are there now")


def _list(options: Namespace) -> int:
    from ottla.client.admin.offsets import OffsetSpec

    output = Output(options)
    isolation = "read_committed" if options.committed else "read_uncommitted"
    with open_admin(options) as admin:
        partitions = select_partitions(admin, options.topics)
        if options.at is not None:
            spec = parse_spec(options.at)
            listed = (
                admin.list_offsets(dict.fromkeys(partitions, spec), isolation_level=isolation) if partitions else {}
            )
            rows = [[*key, listed[key].offset, time_text(listed[key].timestamp_ms)] for key in partitions]
            json_rows = [{**key._asdict(), **listed[key]._asdict()} for key in partitions]
            output.table(None, ["topic", "partition", "offset", "timestamp"], rows, json_rows=json_rows)
            return 0
        start, end = {}, {}
        if partitions:
            start = admin.list_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
            end = admin.list_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST), isolation_level=isolation)
    bounds = [(key, start[key].offset or 0, end[key].offset or 0) for key in partitions]
    output.table(
        None,
        ["topic", "partition", "start", "end", "records"],
        [[*key, first, after, after - first] for key, first, after in bounds],
        json_rows=[
            {**key._asdict(), "start_offset": first, "end_offset": after, "records": after - first}
            for key, first, after in bounds
        ],
    )
    return 0


def parse_spec(text: str) -> OffsetSpec | int:
    """`earliest`, `latest`, … or a time as milliseconds since 1970; raises `CommandError`."""
    from ottla.client.admin.offsets import OffsetSpec

    word = _WORDS.get(text.strip().lower().replace("_", "-"))
    return OffsetSpec[word] if word is not None else parse_time_ms(text, int(time.time() * 1000))


def _delete(options: Namespace) -> int:
    from ottla.client.admin.offsets import OffsetSpec

    output = Output(options)
    with open_admin(options) as admin:
        partitions = select_partitions(admin, options.topics)
        start = admin.list_offsets(dict.fromkeys(partitions, OffsetSpec.EARLIEST))
        end = admin.list_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
        before = _bounds(options, admin, {key: found.offset or 0 for key, found in end.items()})
        lost = {key: max(before[key] - (start[key].offset or 0), 0) for key in partitions}
        rows = [[*key, start[key].offset, before[key], lost[key]] for key in partitions]
        if not options.dry_run and any(lost.values()):
            asked = f"Delete {sum(lost.values())} records of {_few(partitions)}?"
            output.confirm(asked, options)
        if not options.dry_run:
            moved = admin.delete_records(before)
            rows = [[*key, start[key].offset, moved[key], lost[key]] for key in partitions]
    columns = ["topic", "partition", "start was", "would start at" if options.dry_run else "starts at", "records"]
    names = ("topic", "partition", "start_offset_before", "start_offset", "records")
    json_rows = [{**dict(zip(names, row, strict=True)), "dry_run": options.dry_run} for row in rows]
    output.table(None, columns, rows, json_rows=json_rows)
    return 0


def _bounds(options: Namespace, admin: ottla.Admin, end: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Before which offset records go, by partition."""
    if options.all:
        return dict(end)
    if options.before is not None:
        for key, offset in end.items():
            if options.before > offset:
                raise CommandError(f"{key} ends at {offset}: there is nothing before {options.before} but that")
        return dict.fromkeys(end, options.before)
    timestamp_ms = parse_time_ms(options.older_than, int(time.time() * 1000))
    found = admin.list_offsets(dict.fromkeys(end, timestamp_ms))
    # A partition without a record from then on has only older ones.
    return {key: end[key] if one.offset is None else one.offset for key, one in found.items()}


def _few(partitions: list[TopicPartition]) -> str:
    names = [str(partition) for partition in partitions]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more partitions" if len(names) > 5 else "")
