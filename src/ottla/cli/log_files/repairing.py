"""`ottla logs verify` and `ottla logs repair`.

A repair leaves the files to the code that recovers a log after a crash: it cuts at the first bad batch, drops the
segments behind it, and writes indexes, leader epochs and producers' states anew. Everything from the first damaged
segment on is copied away first.
"""

from __future__ import annotations

import os
import shutil
import time
from argparse import Namespace
from collections.abc import Iterable
from typing import NamedTuple

from ottla.cli.errors import CommandError
from ottla.cli.log_files.checking import Problem, check
from ottla.cli.log_files.places import Partition, nobody_else, partitions_at
from ottla.cli.output import Output
from ottla.server.log.files import (
    HIGH_WATERMARK_CHECKPOINT,
    LEADER_EPOCH_CHECKPOINT,
    LOG_START_OFFSET_CHECKPOINT,
    LOG_SUFFIX,
    PARTITION_METADATA,
    RECOVERY_POINT_CHECKPOINT,
    offset_name,
    parse_offset_name,
)


class Damage(NamedTuple):
    """A partition with problems."""

    partition: Partition
    problems: list[Problem]

    @property
    def first_segment(self) -> int:
        """The segment from which on files change."""
        return min(problem.base_offset for problem in self.problems)

    @property
    def cut(self) -> Problem | None:
        """The first batch that cannot be kept, and with it all that follows; None when only indexes are bad."""
        cuts = [problem for problem in self.problems if problem.cut_at is not None]
        return min(cuts, key=lambda problem: problem.base_offset, default=None)

    def lost_bytes(self) -> int:
        """How many bytes of records will go."""
        from ottla.server.security.encryption.offline import offline_disk

        cut = self.cut
        if cut is None or cut.cut_at is None:
            return 0
        later = [base for base in Partition(self.partition.directory).segments() if base >= cut.base_offset]
        disk = offline_disk(self.partition.directory)
        sizes = [disk.size(os.path.join(self.partition.directory, offset_name(base, LOG_SUFFIX))) for base in later]
        return sum(sizes) - cut.cut_at

    def plan(self) -> str:
        """What a repair does, in one line."""
        cut = self.cut
        if cut is None:
            return "make anew " + ", ".join(dict.fromkeys(problem.name for problem in self.problems))
        return f"cut at offset {cut.next_offset}, which takes {self.lost_bytes()} bytes of records away"


def verify(options: Namespace) -> int:
    """Check; the exit code is 1 when something is wrong."""
    output = Output(options)
    partitions = _partitions(options.paths)
    with nobody_else(partitions):
        damaged = _check(partitions, output)
    rows = [(damage.partition.name, problem.name, problem.text) for damage in damaged for problem in damage.problems]
    if rows or output.is_json:
        json_rows = [
            {
                "directory": damage.partition.directory,
                "file": problem.name,
                "problem": problem.text,
                "loses_records": problem.cut_at is not None,
            }
            for damage in damaged
            for problem in damage.problems
        ]
        output.table(None, ["partition", "file", "problem"], rows, json_rows=json_rows)
    count = len(partitions)
    if not rows:
        output.note(f"{count} partition{'s' if count != 1 else ''}: nothing is wrong")
        return 0
    output.note(
        f"{len(damaged)} of {count} partitions have problems; `ottla logs repair --dry-run` says what would help"
    )
    return 1


def repair(options: Namespace) -> int:
    """Check, ask, copy, repair."""
    output = Output(options)
    partitions = _partitions(options.paths)
    with nobody_else(partitions):
        damaged = _check(partitions, output)
        if not damaged:
            output.done("nothing is wrong, nothing was changed", json={"repaired": []})
            return 0
        for damage in damaged if not output.is_json else ():
            output.line(f"{damage.partition.name}: {damage.plan()}")
        planned = [
            {
                "directory": damage.partition.directory,
                "cut_at_offset": None if damage.cut is None else damage.cut.next_offset,
                "lost_bytes": damage.lost_bytes(),
                "files": list(dict.fromkeys(problem.name for problem in damage.problems)),
            }
            for damage in damaged
        ]
        if options.dry_run:
            output.done("nothing was changed (--dry-run)", json={"would_repair": planned})
            return 0
        lost = sum(damage.lost_bytes() for damage in damaged)
        output.confirm(f"Repair {len(damaged)} partitions, and lose {lost} bytes of records (a copy is kept)?", options)
        keep = options.keep or _keep_beside(damaged[0].partition)
        for damage in damaged:
            _keep(damage, keep)
            _repair_partition(damage)
        output.done(
            f"{len(damaged)} partitions repaired; copies of what was there are in {keep}",
            json={"repaired": planned, "copies": keep},
        )
    return 0


def _partitions(paths: Iterable[str]) -> list[Partition]:
    found = [partition for path in paths for partition in partitions_at(path)]
    return list(dict.fromkeys(found))


def _check(partitions: list[Partition], output: Output) -> list[Damage]:
    damaged = []
    with output.progress(len(partitions), "checking") as progress:
        for partition in partitions:
            problems = check(partition)
            if problems:
                damaged.append(Damage(partition, problems))
            progress.advance()
    return damaged


def _keep_beside(partition: Partition) -> str:
    when = time.strftime("%Y%m%d-%H%M%S")
    return f"{partition.data_directory}-before-repair-{when}"


def _keep(damage: Damage, keep: str) -> None:
    """Copy all files that may change. They were read a moment ago: that there is room for them is up to the user."""
    directory = damage.partition.directory
    target = os.path.join(keep, damage.partition.name)
    try:
        os.makedirs(target, exist_ok=False)
        for name in os.listdir(directory):
            file = parse_offset_name(name)
            changes = file is not None and (file.state or file.offset >= damage.first_segment)
            if changes or name in (LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA):
                shutil.copy2(os.path.join(directory, name), os.path.join(target, name))
    except FileExistsError:
        raise CommandError(f"{target} exists already; choose another directory with --keep DIR") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"nothing was repaired, no copy can be kept in {target}: {reason}") from None


def _repair_partition(damage: Damage) -> None:
    from ottla.server.log.checkpoint import format_offsets, read_offsets
    from ottla.server.log.config import LogConfig
    from ottla.server.log.host import SimpleHost
    from ottla.server.log.loader import LoadRequest, load_log
    from ottla.server.security.encryption.offline import offline_disk

    partition = damage.partition
    disk = offline_disk(partition.directory)
    key = partition.topic_partition

    def checkpoint(name: str) -> dict[object, int]:
        return dict(read_offsets(disk, os.path.join(partition.data_directory, name)))

    for problem in damage.problems:
        if problem.cut_at is None and problem.name == LEADER_EPOCH_CHECKPOINT:
            os.remove(os.path.join(partition.directory, problem.name))  # learned from the batches again
    request = LoadRequest(
        recovery_point=damage.first_segment,
        log_start_offset=checkpoint(LOG_START_OFFSET_CHECKPOINT).get(key, 0),
        high_watermark=checkpoint(HIGH_WATERMARK_CHECKPOINT).get(key, 0),
        # Segments may have holes between them, where records were compacted away: the check found nothing lost there.
        cleaned_offset=max(Partition(partition.directory).segments(), default=0),
    )
    log = load_log(SimpleHost(disk), key, partition.directory, LogConfig(), request, time.time_ns() // 1_000_000)
    task = log.prepare_close()
    if task is not None:
        task.run()
        log.complete_flush(task)
    log.close()
    for name in (RECOVERY_POINT_CHECKPOINT, HIGH_WATERMARK_CHECKPOINT):
        path = os.path.join(partition.data_directory, name)
        offsets = read_offsets(disk, path)
        if offsets.get(key, 0) > log.log_end_offset:
            disk.replace(path, format_offsets({**offsets, key: log.log_end_offset}))
