"""What is wrong with a partition's files. Nothing is changed."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ottla.cli.log_files.places import Partition
from ottla.core.binary import Buffer
from ottla.records.batch import LENGTH_END, BatchHeader, CorruptRecordError, crc_matches, parse_header
from ottla.server.log.files import (
    INDEX_SUFFIX,
    LEADER_EPOCH_CHECKPOINT,
    LOG_SUFFIX,
    SNAPSHOT_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    offset_name,
    parse_offset_name,
)
from ottla.server.log.segment import MAXIMUM_RELATIVE_OFFSET
from ottla.server.security.encryption.offline import content, offline_disk

_INT32 = struct.Struct(">i")
_OFFSET_ENTRY = struct.Struct(">ii")
_TIME_ENTRY = struct.Struct(">qi")
_TRANSACTION_ENTRY = struct.Struct(">hqqqq")
_HEADER_TO_MAGIC = 17


class Problem(NamedTuple):
    """Something that is not as it should be, in the file `name` of the segment at `base_offset`.

    `cut_at`: of records, the byte from which on nothing can be kept; None for what can be made anew from the records.
    """

    base_offset: int
    name: str
    text: str
    cut_at: int | None = None
    next_offset: int = -1
    """Of records: the offset behind the last good one."""


class Batches(NamedTuple):
    """The good batches of a segment: position and first offset of each, and the offset behind the last."""

    places: dict[int, tuple[int, int]]
    next_offset: int


def read_file(path: str) -> Buffer:
    """The bytes of a file, mapped; of an encrypted one, decrypted (`SettingError` without the key)."""
    return content(path)


def walk(data: Buffer, base_offset: int) -> Iterator[tuple[int, BatchHeader | str]]:
    """Position and header of every good batch; in the end, if there is something else, its position and what is wrong.

    The batches' checksums are looked at, not the records in them.
    """
    position, next_offset, size = 0, base_offset, len(data)
    while position < size:
        if size - position <= _HEADER_TO_MAGIC:
            yield position, f"{size - position} bytes are too few for a batch"
            return
        length = _INT32.unpack_from(data, position + 8)[0] + LENGTH_END
        if length <= _HEADER_TO_MAGIC:
            yield position, f"a batch of {length} bytes cannot be"
            return
        if length > size - position:
            yield position, f"a batch of {length} bytes is cut off after {size - position}"
            return
        try:
            header = parse_header(data, position)
        except CorruptRecordError as error:
            yield position, str(error)
            return
        wrong = _wrong(data, position, header, next_offset, base_offset)
        if wrong:
            yield position, wrong
            return
        yield position, header
        next_offset = header.next_offset
        position += length


def _wrong(data: Buffer, position: int, header: BatchHeader, next_offset: int, base_offset: int) -> str:
    if not crc_matches(data, position, header):
        return f"the batch at offset {header.base_offset} has a wrong checksum"
    if header.base_offset < next_offset:
        return f"offset {header.base_offset} comes behind offset {next_offset - 1}"
    if header.last_offset_delta < 0 or header.last_offset - base_offset > MAXIMUM_RELATIVE_OFFSET:
        return f"the batch at offset {header.base_offset} ends at the impossible offset {header.last_offset}"
    return ""


def check(partition: Partition) -> list[Problem]:
    """The problems of a partition, those of the first segments first."""
    problems: list[Problem] = []
    bases = partition.segments()
    names = set(os.listdir(partition.directory))
    for number, base_offset in enumerate(bases):
        following = bases[number + 1] if number + 1 < len(bases) else None
        problems += _check_segment(partition.directory, base_offset, following, names)
    if partition.only is None:
        problems += _check_others(partition.directory, names, bases)
    return problems


def _check_segment(directory: str, base_offset: int, following: int | None, names: set[str]) -> list[Problem]:
    problems = []
    name = offset_name(base_offset, LOG_SUFFIX)
    data = read_file(os.path.join(directory, name))
    places: dict[int, tuple[int, int]] = {}
    next_offset = base_offset
    for position, found in walk(data, base_offset):
        if isinstance(found, str):
            problems.append(Problem(base_offset, name, f"byte {position}: {found}", position, next_offset))
            break
        places[position] = found.base_offset, found.last_offset
        next_offset = found.next_offset
    if following is not None and next_offset > following:
        text = f"its records go to offset {next_offset - 1}, but the next segment begins at {following}"
        problems.append(Problem(following, offset_name(following, LOG_SUFFIX), text, 0, next_offset))
    if problems:
        return problems  # indexes that speak of what cannot be read are made anew with it
    batches = Batches(places, next_offset)
    for suffix, look in _INDEXES.items():
        index = offset_name(base_offset, suffix)
        if index not in names:
            if suffix == INDEX_SUFFIX:
                problems.append(Problem(base_offset, index, "is missing"))
            continue
        text = look(read_file(os.path.join(directory, index)), base_offset, batches)
        if text:
            problems.append(Problem(base_offset, index, text))
    return problems


def _check_offset_index(data: Buffer, base_offset: int, batches: Batches) -> str:
    if len(data) % _OFFSET_ENTRY.size:
        return f"{len(data)} bytes are no whole number of entries"
    last = (-1, -1)
    for number, entry in enumerate(_used(data, _OFFSET_ENTRY)):
        offset, position = base_offset + entry[0], entry[1]
        if entry <= last or position <= last[1]:
            return f"entry {number} (offset {offset}) does not ascend"
        place = batches.places.get(position)
        if place is None:
            return f"entry {number} (offset {offset}) points to byte {position}, where no batch begins"
        if not place[0] <= offset <= place[1]:
            return f"entry {number} says offset {offset} is at byte {position}, where {place[0]} to {place[1]} are"
        last = entry
    return ""


def _check_time_index(data: Buffer, base_offset: int, batches: Batches) -> str:
    if len(data) % _TIME_ENTRY.size:
        return f"{len(data)} bytes are no whole number of entries"
    last = (-1, -1)
    for number, (timestamp, relative) in enumerate(_used(data, _TIME_ENTRY)):
        if timestamp < last[0] or relative < last[1]:
            return f"entry {number} (offset {base_offset + relative}) does not ascend"
        if not 0 <= relative < max(1, batches.next_offset - base_offset):
            return f"entry {number} speaks of offset {base_offset + relative}, which the segment does not have"
        last = timestamp, relative
    return ""


def _check_transaction_index(data: Buffer, base_offset: int, batches: Batches) -> str:
    if len(data) % _TRANSACTION_ENTRY.size:
        return f"{len(data)} bytes are no whole number of entries"
    before = -1
    for number, entry in enumerate(_TRANSACTION_ENTRY.iter_unpack(data)):
        version, _, _, last_offset, _ = entry
        if version != 0:
            return f"entry {number} has the unknown version {version}"
        if last_offset <= before or not base_offset <= last_offset < max(base_offset + 1, batches.next_offset):
            return f"entry {number} ends at offset {last_offset}, which cannot be"
        before = last_offset
    return ""


_INDEXES: dict[str, Callable[[Buffer, int, Batches], str]] = {
    INDEX_SUFFIX: _check_offset_index,
    TIME_INDEX_SUFFIX: _check_time_index,
    TRANSACTION_INDEX_SUFFIX: _check_transaction_index,
}


def _used(data: Buffer, entry: struct.Struct) -> list[tuple[int, int]]:
    """The entries of an index. One that is written to may have room at its end, filled with zeros."""
    entries = [(first, second) for first, second in entry.iter_unpack(data)]
    while entries and entries[-1] == (0, 0):
        entries.pop()
    return entries


def _check_others(directory: str, names: set[str], bases: list[int]) -> list[Problem]:
    from ottla.server.log.checkpoint import read_leader_epochs
    from ottla.server.log.errors import CorruptSnapshotError, LogError
    from ottla.server.log.producer_snapshot import decode_snapshot

    last = bases[-1] if bases else 0
    problems = []
    for name in sorted(names):
        file = parse_offset_name(name)
        if file is not None and file.kind == SNAPSHOT_SUFFIX and not file.state:
            try:
                decode_snapshot(bytes(read_file(os.path.join(directory, name))))
            except CorruptSnapshotError as error:
                base = max((base for base in bases if base <= file.offset), default=0)
                problems.append(Problem(base, name, f"is no snapshot of producers: {error}"))
    if LEADER_EPOCH_CHECKPOINT in names:
        try:
            entries = read_leader_epochs(offline_disk(directory), os.path.join(directory, LEADER_EPOCH_CHECKPOINT))
        except LogError as error:
            problems.append(Problem(last, LEADER_EPOCH_CHECKPOINT, str(error)))
        else:
            if entries != sorted(entries) or sorted(start for _, start in entries) != [start for _, start in entries]:
                problems.append(Problem(last, LEADER_EPOCH_CHECKPOINT, "its epochs do not ascend"))
    return problems
