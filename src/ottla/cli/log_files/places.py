"""From paths to partitions' directories, and the lock that says nobody else writes to them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from ottla.cli.errors import CommandError
from ottla.core.ids import TopicPartition
from ottla.server.log.files import LOCK, LOG_SUFFIX, META_PROPERTIES, parse_directory_name, parse_offset_name


class Partition(NamedTuple):
    """A partition's directory. `only` is the base offset of the one segment that is meant, None for all."""

    directory: str
    only: int | None = None

    @property
    def name(self) -> str:
        return os.path.basename(self.directory)

    @property
    def data_directory(self) -> str:
        return os.path.dirname(self.directory)

    @property
    def topic_partition(self) -> TopicPartition:
        parsed = parse_directory_name(self.name)
        return TopicPartition(self.name, 0) if parsed is None else parsed.topic_partition

    def segments(self) -> list[int]:
        """The base offsets of the segments, in order."""
        found = (parse_offset_name(name) for name in os.listdir(self.directory))
        bases = sorted(file.offset for file in found if file is not None and file.kind == LOG_SUFFIX and not file.state)
        return [base for base in bases if self.only is None or base == self.only]


def partitions_at(path: str) -> list[Partition]:
    """What a path means. Raises `CommandError`."""
    path = os.path.abspath(path)
    if os.path.isfile(path):
        file = parse_offset_name(os.path.basename(path))
        if file is None or file.kind != LOG_SUFFIX or file.state:
            raise CommandError(f"{path} is no segment; name a file like 00000000000000000000.log, or its directory")
        return [Partition(os.path.dirname(path), file.offset)]
    if not os.path.isdir(path):
        raise CommandError(f"{path} does not exist")
    names = sorted(os.listdir(path))
    if META_PROPERTIES not in names and any(name.endswith(LOG_SUFFIX) for name in names):
        return [Partition(path)]
    found = [
        Partition(os.path.join(path, name))
        for name in names
        if (parsed := parse_directory_name(name)) is not None
        and not parsed.mark
        and os.path.isdir(os.path.join(path, name))
    ]
    if not found and META_PROPERTIES not in names:
        parsed = parse_directory_name(os.path.basename(path))
        if parsed is not None and not parsed.mark:
            return [Partition(path)]  # a partition without any record
        raise CommandError(f"{path} holds no partitions; name a data directory, a partition's directory or a segment")
    return found


@contextmanager
def nobody_else(partitions: Iterable[Partition]) -> Iterator[None]:
    """Hold the locks of the data directories; raises `CommandError` when a broker has one."""
    from ottla.runtime.disk import DiskLockedError
    from ottla.runtime.real_disk import RealDisk

    with ExitStack() as stack:
        for directory in sorted({partition.data_directory for partition in partitions}):
            path = os.path.join(directory, LOCK)
            if not os.path.exists(path):
                continue  # a copy, or a directory of its own: no broker has ever had it
            try:
                stack.callback(RealDisk().lock(path).release)
            except DiskLockedError:
                raise CommandError(f"a broker is running on {directory}; stop it first") from None
        yield
