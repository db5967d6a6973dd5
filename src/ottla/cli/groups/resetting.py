"""Where a group's offsets are moved to: what was asked for, and the plan, partition by partition."""

from __future__ import annotations

import csv
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ottla.cli.errors import CommandError
from ottla.cli.groups.kinds import Position, listed_offsets
from ottla.client.admin.offsets import OffsetSpec
from ottla.client.model import TopicPartition

if TYPE_CHECKING:
    import ottla


class Move(NamedTuple):
    """What becomes of one partition's offset; `before` is None where nothing was committed."""

    partition: TopicPartition
    before: int | None
    after: int
    end_offset: int | None


def add_where_arguments(parser: ArgumentParser) -> None:
    """Declare where offsets are moved to; exactly one has to be given."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--to", metavar="WHERE", help="earliest, latest, current or an offset")
    where.add_argument(
        "--to-time", metavar="TIME", help="the first record from then on: 10m, yesterday, 2026-01-31T08:15"
    )
    where.add_argument("--shift", type=int, metavar="N", help="so many records on, or back (--shift=-10)")
    where.add_argument(
        "--from-file", metavar="FILE", help="topic,partition,offset a line, or what --dry-run --json prints"
    )


def plan(
    admin: ottla.Admin,
    options: Namespace,
    partitions: Iterable[TopicPartition],
    positions: Mapping[TopicPartition, Position],
    now_ms: int,
) -> list[Move]:
    """The moves that the options ask for, kept within what the partitions have. Raises `CommandError`."""
    from_file = None if options.from_file is None else read_offsets(options.from_file)
    wanted = sorted(partitions if from_file is None else from_file)
    if options.shift is not None or options.to == "current":
        for tp in wanted:
            if tp not in positions:
                raise CommandError(f"nothing is committed for {tp} that could be taken as a starting point")
    earliest = listed_offsets(admin, wanted, OffsetSpec.EARLIEST)
    latest = listed_offsets(admin, wanted, OffsetSpec.LATEST)
    missing = [str(tp) for tp in wanted if earliest.get(tp) is None or latest.get(tp) is None]
    if missing:
        raise CommandError(f"there is no partition {', '.join(missing[:5])} (any more)")
    targets: Mapping[TopicPartition, int | None]
    if from_file is not None:
        targets = from_file
    elif options.to_time is not None:
        from ottla.cli.units import parse_time_ms

        found = listed_offsets(admin, wanted, parse_time_ms(options.to_time, now_ms))
        targets = {tp: latest[tp] if found.get(tp) is None else found[tp] for tp in wanted}
    elif options.shift is not None:
        targets = {tp: positions[tp].offset + options.shift for tp in wanted}
    elif options.to == "current":
        targets = {tp: positions[tp].offset for tp in wanted}
    elif options.to in ("earliest", "beginning"):
        targets = earliest
    elif options.to in ("latest", "end"):
        targets = latest
    else:
        targets = dict.fromkeys(wanted, _offset(options.to))
    return [
        Move(
            tp,
            positions[tp].offset if tp in positions else None,
            _within(targets[tp], earliest[tp], latest[tp]),
            latest[tp],
        )
        for tp in wanted
    ]


def read_offsets(path: str) -> dict[TopicPartition, int]:
    """The offsets in a file: CSV of topic, partition, offset (Kafka's; a group may stand first), or JSON."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise CommandError(f"cannot read the file of --from-file, {path}: {reason.lower()}") from None
    found: dict[TopicPartition, int] = {}
    if text.lstrip().startswith(("[", "{")):
        return _json_offsets(text, path)
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[-1:] == ["offset"]):
            continue
        try:
            topic, partition, offset = cells[-3:]
            found[TopicPartition(topic, int(partition))] = int(offset)
        except ValueError:
            raise CommandError(f"{path}, line {number}: write topic,partition,offset") from None
    return found


def _json_offsets(text: str, path: str) -> dict[TopicPartition, int]:
    try:
        document = json.loads(text)
        rows = document.get("partitions", []) if isinstance(document, dict) else document
        return {
            TopicPartition(str(row["topic"]), int(row["partition"])): int(
                row["offset"] if "offset" in row else row["after"]
            )
            for row in rows
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CommandError(f'{path}: write an array of {{"topic": "orders", "partition": 0, "offset": 5}}') from None


def _offset(text: str) -> int:
    try:
        offset = int(text)
    except ValueError:
        offset = -1
    if offset < 0:
        raise CommandError(f"'{text}' is no place to move to; write earliest, latest, current or an offset")
    return offset


def _within(offset: int | None, earliest: int | None, latest: int | None) -> int:
    assert offset is not None
    assert earliest is not None
    assert latest is not None
    return min(max(offset, earliest), latest)
