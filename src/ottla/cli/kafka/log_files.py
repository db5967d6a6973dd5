"""The files of a log as they are: batches, index entries, producers, aborted transactions.

Read by path and without any repair, so that a damaged log can be looked at; what cannot be read at all raises
`ToolError` with the words that Kafka has for it.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from ottla.cli.kafka.common import ToolError
from ottla.records.batch import BatchHeader, CorruptRecordError, parse_header
from ottla.schema.definition import SettingError
from ottla.server.security.encryption.offline import content

_INT32 = struct.Struct(">i")
_OFFSET_ENTRY = struct.Struct(">ii")
_TIME_ENTRY = struct.Struct(">qi")
_ABORTED = struct.Struct(">hqqqq")
_HEADER_TO_MAGIC = 17
_LENGTH_END = 12
_SMALLEST_RECORD = 14
NO_TIMESTAMP = -1
_CORRUPT_RECORD = "org.apache.kafka.common.errors.CorruptRecordException"


class LogSlice:
    """The bytes of a log file from a position on."""

    def __init__(self, path: str, start: int = 0, size: int | None = None) -> None:
        self.path = path
        try:
            self.data = content(path)
        except FileNotFoundError:
            raise ToolError(path, "java.nio.file.NoSuchFileException") from None
        except PermissionError:
            raise ToolError(path, "java.nio.file.AccessDeniedException") from None
        except SettingError as error:
            raise ToolError(str(error), "org.apache.kafka.common.config.ConfigException") from None
        length = len(self.data)
        self.start = start
        self.end = length if size is None else min(length, start + size)

    def slice(self, start: int, size: int | None = None) -> LogSlice:
        """A part of the same file."""
        if start < 0:
            raise ToolError(f"Invalid position: {start} in read from {self}")
        if start > len(self.data):
            raise ToolError(f"Slice from position {start} exceeds end position of {self}")
        part = object.__new__(LogSlice)
        part.path, part.data, part.start = self.path, self.data, start
        part.end = len(self.data) if size is None else min(len(self.data), start + size)
        return part

    def batches(self) -> Iterator[tuple[int, BatchHeader]]:
        """Position and header of every complete batch; a cut-off one at the end is none."""
        position = self.start
        while position < self.end - _HEADER_TO_MAGIC:
            size = _INT32.unpack_from(self.data, position + 8)[0]
            if size < _SMALLEST_RECORD:
                raise ToolError(
                    f"Found record size {size} smaller than minimum record overhead ({_SMALLEST_RECORD}) "
                    f"in file {self.path}.",
                    _CORRUPT_RECORD,
                )
            if position > self.end - _LENGTH_END - size:
                return
            try:
                header = parse_header(self.data, position)
            except CorruptRecordError as error:
                raise ToolError(str(error), _CORRUPT_RECORD) from None
            yield position, header
            position += _LENGTH_END + size

    def __str__(self) -> str:
        return f"FileRecords(size={self.end - self.start}, file={self.path}, start={self.start}, end={self.end})"


class OffsetEntry(NamedTuple):
    """An entry of an offset index."""

    offset: int
    position: int


class TimeEntry(NamedTuple):
    """An entry of a time index."""

    offset: int
    timestamp_ms: int


class OffsetIndexFile:
    """An offset index. A preallocated one ends in zeros, which count as entries, as for Kafka."""

    def __init__(self, path: str, base_offset: int) -> None:
        data = _read(path)
        self.path = path
        self.base_offset = base_offset
        self._excess = len(data) % _OFFSET_ENTRY.size
        self.length = len(data)
        self.entries = [
            OffsetEntry(base_offset + relative, position)
            for relative, position in _OFFSET_ENTRY.iter_unpack(data[: len(data) - self._excess])
        ]

    def check(self) -> None:
        """What a broker checks when it starts."""
        path = os.path.abspath(self.path)
        if self.entries and self.entries[-1].offset < self.base_offset:
            raise _corrupt(
                f"Corrupt index found, index file {path} has non-zero size but the last offset is "
                f"{self.entries[-1].offset} which is less than the base offset {self.base_offset}"
            )

    def used(self) -> list[OffsetEntry]:
        """The entries before the zeros at the end."""
        return _until_zeros(self.entries, self.base_offset)

    def position_of(self, offset: int) -> int:
        """Where a scan for `offset` begins."""
        entries = self.used()
        found = bisect_right(entries, offset, key=lambda entry: entry.offset)
        return entries[found - 1].position if found else 0


class TimeIndexFile:
    """A time index, like the offset index."""

    def __init__(self, path: str, base_offset: int) -> None:
        data = _read(path)
        self.path = path
        self.base_offset = base_offset
        self._excess = len(data) % _TIME_ENTRY.size
        self.length = len(data)
        self.entries = [
            TimeEntry(base_offset + relative, timestamp)
            for timestamp, relative in _TIME_ENTRY.iter_unpack(data[: len(data) - self._excess])
        ]

    def check(self) -> None:
        """What a broker checks when it starts."""
        path = os.path.abspath(self.path)
        if self.entries:
            first, last = self.entries[0], self.entries[-1]
            if last.timestamp_ms < first.timestamp_ms:
                raise _corrupt(
                    f"Corrupt time index found, time index file ({path}) has non-zero size but the last timestamp is "
                    f"{last.timestamp_ms} which is less than the first timestamp {first.timestamp_ms}"
                )
            if last.offset < self.base_offset:
                raise _corrupt(
                    f"Corrupt time index found, time index file ({path}) has non-zero size but the last offset is "
                    f"{last.offset} which is less than the first offset {self.base_offset}"
                )
        if self._excess:
            raise _torn("Time index", path, self.length, _TIME_ENTRY.size)

    def used(self) -> list[TimeEntry]:
        """The entries before the zeros at the end."""
        return _until_zeros(self.entries, self.base_offset)


Entry = TypeVar("Entry", OffsetEntry, TimeEntry)


def _until_zeros(entries: list[Entry], base_offset: int) -> list[Entry]:
    for index, entry in enumerate(entries):
        if index and entry.offset == base_offset:
            return entries[:index]
    return entries


def _torn(what: str, path: str, length: int, entry_size: int) -> ToolError:
    return _corrupt(
        f"{what} file {path} is corrupt, found {length} bytes which is neither positive nor a multiple of {entry_size}"
    )


class AbortedEntry(NamedTuple):
    """An entry of a transaction index."""

    version: int
    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


def aborted_transactions(path: str) -> Iterator[AbortedEntry]:
    """The entries of a transaction index."""
    data = _read(path)
    for position in range(0, len(data) - _ABORTED.size + 1, _ABORTED.size):
        entry = AbortedEntry._make(_ABORTED.unpack_from(data, position))
        if entry.version > 0:
            raise ToolError(
                f"Unexpected aborted transaction version {entry.version} in transaction index {path}, "
                "current version is 0",
                "org.apache.kafka.common.KafkaException",
            )
        yield entry


def _corrupt(message: str) -> ToolError:
    return ToolError(message, "org.apache.kafka.storage.internals.log.CorruptIndexException")


def _read(path: str) -> bytes:
    try:
        return bytes(content(path))
    except FileNotFoundError:
        raise ToolError(path, "java.nio.file.NoSuchFileException") from None
    except SettingError as error:
        raise ToolError(str(error), "org.apache.kafka.common.config.ConfigException") from None
