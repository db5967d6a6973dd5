"""What the files of data directories are: plain, or encrypted with which key. Needs no key, changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from ottla.runtime.disk import Disk, DiskError, MissingFileError
from ottla.runtime.encryption.conversion import FileState, state_of
from ottla.runtime.encryption.disk import TEMPORARY_SUFFIX
from ottla.server.log.files import CLEAN_SHUTDOWN, LOCK, META_PROPERTIES, parse_directory_name
from ottla.server.security.encryption.ring import REQUEST, RING

PLAIN_NAMES: Final = frozenset({CLEAN_SHUTDOWN, LOCK, META_PROPERTIES, REQUEST, RING, f"{RING}.tmp"})
"""Files that stay plain: they say whose the directory is, and must be readable before any key is."""

OF_THE_DIRECTORY: Final = (".jsonl", "-checkpoint", ".checkpoint")
"""How files end that Ottla and Kafka have in the data directory itself; others may be anybody's."""


class Found(NamedTuple):
    """A file that is, or could be, encrypted."""

    path: str
    state: FileState


class Totals(NamedTuple):
    """Files and bytes on the device, by the id of their key (None: plain)."""

    files: Counter[bytes | None]
    bytes: Counter[bytes | None]


def files(disk: Disk, directory: str) -> Iterator[Found]:
    """All files of a data directory that have content, in the order of their names. Raises `DiskError` when the
    directory cannot be read; files that vanish meanwhile are left out.
    """
    for path in _paths(disk, directory):
        try:
            state = state_of(disk, path)
        except MissingFileError:
            continue
        if not state.is_void:
            yield Found(path, state)


def leftovers(disk: Disk, directory: str) -> list[str]:
    """Copies that were being made when a node ended."""
    return [
        f"{below}/{name}"
        for below in _directories(disk, directory)
        for name in disk.list_directory(below)
        if name.endswith(TEMPORARY_SUFFIX)
    ]


def totals(disk: Disk, directory: str) -> Totals:
    """How far a directory is converted. Raises `DiskError`."""
    found = Totals(Counter(), Counter())
    for file in files(disk, directory):
        found.files[file.state.key_id] += 1
        found.bytes[file.state.key_id] += file.state.physical_bytes
    return found


def _paths(disk: Disk, directory: str) -> Iterator[str]:
    for below in _directories(disk, directory):
        for name in _names(disk, below):
            if name in PLAIN_NAMES or name.endswith(TEMPORARY_SUFFIX):
                continue
            if below == directory and not name.endswith(OF_THE_DIRECTORY):
                continue
            path = f"{below}/{name}"
            if not disk.is_directory(path):
                yield path


def _directories(disk: Disk, directory: str) -> list[str]:
    """The data directory and those of its partitions."""
    below = [
        f"{directory}/{name}"
        for name in _names(disk, directory)
        if parse_directory_name(name) is not None and disk.is_directory(f"{directory}/{name}")
    ]
    return [directory, *below]


def _names(disk: Disk, directory: str) -> list[str]:
    try:
        return disk.list_directory(directory)
    except MissingFileError:
        return []
    except DiskError:
        if disk.exists(directory):
            raise
        return []
