"""`ottla logs dump`: the records of files, or the headers of their batches."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from typing import Any

from ottla.cli.errors import CommandError
from ottla.cli.formats import Format, format_of
from ottla.cli.log_files.checking import read_file, walk
from ottla.cli.log_files.places import Partition, partitions_at
from ottla.cli.output import Output
from ottla.cli.units import time_text
from ottla.core.binary import Buffer
from ottla.records.batch import BatchHeader, CorruptRecordError
from ottla.records.control import read_control_message
from ottla.records.record import Record, read_batch_records
from ottla.server.log.files import LOG_SUFFIX, offset_name

_COMPRESSIONS = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}


def dump(options: Namespace) -> int:
    """Do it; the exit code is 1 when the files end in something that cannot be read."""
    output = Output(options)
    found = partitions_at(options.path)
    if len(found) != 1:
        raise CommandError(f"{options.path} has {len(found)} partitions; name one of them")
    reading = _Reading(found[0], options.first, options.end)
    rows = reading.batches() if options.batches else reading.records(*_formats(options))
    listed = list(islice(rows, options.maximum))
    columns = _BATCH_COLUMNS if options.batches else _RECORD_COLUMNS
    names = [name for name in columns if any(row.get(name) not in (None, "", []) for row in listed)]
    output.table(
        None,
        names,
        [[_shown(name, row.get(name)) for name in names] for row in listed],
        json_rows=listed,
    )
    if reading.problem:
        output.note(reading.problem)
        return 1
    return 0


def _formats(options: Namespace) -> tuple[Format, Format]:
    try:
        return format_of(options.key_format), format_of(options.value_format)
    except ValueError as error:
        raise CommandError(str(error)) from None


_PRODUCER = ("producer_id", "producer_epoch", "sequence")
_RECORD_COLUMNS = ("offset", "timestamp", "headers", "key", "value", "control", *_PRODUCER)
_BATCH_COLUMNS = (
    *("base_offset", "last_offset", "records", "bytes", "position", "leader_epoch", "timestamp", "compression"),
    *(*_PRODUCER, "transactional", "control", "version"),
)


class _Reading:
    """Goes through the segments of a partition. `problem` tells, in the end, of what could not be read."""

    def __init__(self, partition: Partition, first: int, end: int | None) -> None:
        self._partition = partition
        self._first = first
        self._end = end
        self.problem = ""

    def _walk(self) -> Iterator[tuple[Buffer, int, BatchHeader]]:
        segments = self._partition.segments()
        for number, base_offset in enumerate(segments):
            following = segments[number + 1] if number + 1 < len(segments) else None
            if following is not None and following <= self._first:
                continue
            if self._end is not None and base_offset >= self._end:
                return
            name = offset_name(base_offset, LOG_SUFFIX)
            data = read_file(os.path.join(self._partition.directory, name))
            for position, found in walk(data, base_offset):
                if isinstance(found, str):
                    self.problem = f"{name}, byte {position}: {found}; what follows in this file is not shown"
                    break
                if found.last_offset < self._first:
                    continue
                if self._end is not None and found.base_offset >= self._end:
                    return
                yield data, position, found

    def batches(self) -> Iterator[dict[str, Any]]:
        """The headers."""
        for _, position, header in self._walk():
            is_idempotent = header.producer_id >= 0
            yield {
                "base_offset": header.base_offset,
                "last_offset": header.last_offset,
                "records": header.records_count,
                "bytes": header.size_in_bytes,
                "position": position,
                "leader_epoch": header.partition_leader_epoch if header.partition_leader_epoch >= 0 else None,
                "timestamp": header.max_timestamp,
                "compression": _COMPRESSIONS.get(header.attributes & 7, "unknown"),
                "producer_id": header.producer_id if is_idempotent else None,
                "producer_epoch": header.producer_epoch if is_idempotent else None,
                "sequence": header.base_sequence if is_idempotent else None,
                "transactional": True if header.is_transactional else None,
                "control": True if header.is_control else None,
                "version": header.magic,
            }

    def records(self, key_format: Format, value_format: Format) -> Iterator[dict[str, Any]]:
        """The records, as objects."""
        for data, position, header in self._walk():
            try:
                records = read_batch_records(data, position, header)
            except CorruptRecordError as error:
                self.problem = f"the batch at offset {header.base_offset} cannot be read: {error}"
                return
            for number, record in enumerate(records):
                if record.offset >= self._first and (self._end is None or record.offset < self._end):
                    yield _object(header, record, number, key_format, value_format)


def _object(
    header: BatchHeader, record: Record, number: int, key_format: Format, value_format: Format
) -> dict[str, Any]:
    found: dict[str, Any] = {"offset": record.offset, "timestamp": record.timestamp_ms}
    if record.headers:
        found["headers"] = [[name, _content(value, format_of("string"))] for name, value in record.headers]
    if header.is_control:
        message = read_control_message(record)
        found["control"] = "unknown" if message is None else type(message).__name__
    else:
        found["key"] = _content(record.key, key_format)
        found["value"] = _content(record.value, value_format)
    if header.producer_id >= 0:
        found["producer_id"] = header.producer_id
        found["producer_epoch"] = header.producer_epoch
        if header.base_sequence >= 0:
            found["sequence"] = header.base_sequence + number
    return found


def _content(data: bytes | None, form: Format) -> Any:
    if data is None:
        return None
    try:
        return form.decode(bytes(data))
    except ValueError:
        return {"base64": format_of("base64").decode(bytes(data))}


def _shown(name: str, value: Any) -> object:
    if name == "timestamp":
        return "" if value is None or value < 0 else time_text(value)
    if name == "headers":
        return ",".join(f"{key}:{'' if each is None else each}" for key, each in value or ())
    if isinstance(value, dict) and list(value) == ["base64"]:
        return value["base64"]
    return value
