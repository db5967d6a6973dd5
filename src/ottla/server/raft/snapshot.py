"""Snapshot files: `<end offset 20 digits>-<epoch 10 digits>.checkpoint`.

A snapshot stands for the log before its end offset. Content: a control batch with SNAPSHOT_HEADER (and KRAFT_VERSION,
KRAFT_VOTERS when the quorum is dynamic), batches of framed records, a control batch with SNAPSHOT_FOOTER; offsets
inside count from 0. It is written under a name ending in `.checkpoint.part` and renamed when it is complete and on the
device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ottla.protocol.messages import raft_data as messages
from ottla.records.batch import CorruptRecordError, batches, crc_matches
from ottla.records.control import ControlMessage, control_batch, read_control_message
from ottla.records.record import Record, build_batch, read_batch_records
from ottla.runtime.disk import Disk
from ottla.server.raft.metadata_log import MetadataLogError
from ottla.server.raft.voters import Voter, VoterSet

BATCH_BYTES: Final = 1024 * 1024
"""A data batch in a snapshot is closed when its records reach this size (Kafka's bound is 8 MiB)."""
BATCH_RECORDS: Final = 4096
READ_BYTES: Final = 1024 * 1024

_NAME = re.compile(r"^(\d{20})-(\d{10})\.checkpoint$")


class SnapshotId(NamedTuple):
    """Ordered by offset, then epoch."""

    end_offset: int
    epoch: int

    @property
    def file_name(self) -> str:
        return f"{self.end_offset:020d}-{self.epoch:010d}.checkpoint"


class SnapshotContent(NamedTuple):
    """What a snapshot holds: framed records batch by batch, and the quorum as of it."""

    batches: list[list[bytes]]
    kraft_version: int | None
    voters: tuple[Voter, ...] | None
    timestamp_ms: int


def find_snapshots(disk: Disk, directory: str) -> list[SnapshotId]:
    """The complete snapshots of a directory, oldest first."""
    found = []
    for name in disk.list_directory(directory):
        match = _NAME.match(name)
        if match:
            found.append(SnapshotId(int(match[1]), int(match[2])))
    return sorted(found)


def quorum_messages(kraft_version: int, voters: Sequence[Voter]) -> list[ControlMessage]:
    """KRAFT_VERSION and KRAFT_VOTERS; nothing for a static quorum."""
    if kraft_version == 0:
        return []
    version = messages.KRaftVersionRecord(version=0, kraft_version=kraft_version)
    return [version, VoterSet(voters).to_record()]


def snapshot_pieces(
    frames: Iterable[bytes], *, kraft_version: int, voters: Sequence[Voter], timestamp_ms: int, now_ms: int
) -> Iterator[bytearray]:
    """The batches of a snapshot file. `timestamp_ms` is that of the last record which the snapshot contains."""
    header = messages.SnapshotHeaderRecord(version=0, last_contained_log_timestamp=timestamp_ms)
    first = [header, *quorum_messages(kraft_version, voters)]
    yield control_batch(first, timestamp_ms=now_ms, leader_epoch=0)
    offset = len(first)
    pending: list[Record] = []
    size = 0
    for frame in frames:
        pending.append(Record(timestamp_ms=now_ms, value=frame))
        size += len(frame)
        if size >= BATCH_BYTES or len(pending) >= BATCH_RECORDS:
            yield build_batch(pending, base_offset=offset, leader_epoch=0)
            offset += len(pending)
            pending, size = [], 0
    if pending:
        yield build_batch(pending, base_offset=offset, leader_epoch=0)
        offset += len(pending)
    footer = messages.SnapshotFooterRecord(version=0)
    yield control_batch([footer], timestamp_ms=now_ms, base_offset=offset, leader_epoch=0)


def write_snapshot_file(disk: Disk, path: str, pieces: Iterable[bytearray], suffix: str) -> None:
    """Write, sync, rename: after this the file is complete under its name, or there is none of that name."""
    part = f"{path.removesuffix('.checkpoint')}-{suffix}.checkpoint.part"
    file = disk.open(part, create=True)
    try:
        file.truncate(0)  # it may be left over from an attempt that did not end
        for piece in pieces:
            file.append(piece)
        file.sync()
    finally:
        file.close()
    disk.rename(part, path)
    disk.sync_directory(path.rpartition("/")[0])


def read_snapshot_file(disk: Disk, path: str) -> SnapshotContent:
    """Read and check a whole snapshot; MetadataLogError when it is damaged or has no footer."""
    with SnapshotReader(disk, path) as reader:
        return SnapshotContent(list(reader.batches()), reader.kraft_version, reader.voters, reader.timestamp_ms)


class SnapshotReader:
    """Reads a snapshot piece by piece: its beginning, which says what of the quorum it has, when it is made.

    MetadataLogError when the file is damaged.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        self.kraft_version: int | None = None
        self.voters: tuple[Voter, ...] | None = None
        self.timestamp_ms = -1
        self._path = path
        self._is_complete = False
        self._file = disk.open(path, read_only=True)
        self._batches = self._read_batches()
        try:
            self._first = next(self._batches, None)
        except MetadataLogError:
            self._file.close()
            raise

    def __enter__(self) -> SnapshotReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def batches(self) -> Iterator[list[bytes]]:
        """The framed records batch by batch; once. Missing records are told at the end."""
        if self._first is not None:
            yield self._first
            yield from self._batches
        if not self._is_complete:
            raise self._damage("its end is missing")

    def check(self) -> None:
        """Read it all; for one that somebody else has written."""
        for _ in self.batches():
            pass

    def _read_batches(self) -> Iterator[list[bytes]]:
        position, rest = 0, b""
        try:
            while data := self._file.read_at(position, READ_BYTES):
                position += len(data)
                rest += data
                done = 0
                for start, header in batches(rest):
                    if not crc_matches(rest, start, header):
                        raise self._damage(f"the batch at position {position - len(rest) + start} has a wrong CRC")
                    records = read_batch_records(rest, start, header)
                    done = start + header.size_in_bytes
                    if not header.is_control:
                        yield [record.value for record in records if record.value is not None]
                        continue
                    for message in map(read_control_message, records):
                        self._take_note(message)
                rest = rest[done:]
        except CorruptRecordError as error:
            raise self._damage(str(error)) from error

    def _take_note(self, message: ControlMessage | None) -> None:
        if isinstance(message, messages.SnapshotHeaderRecord):
            self.timestamp_ms = message.last_contained_log_timestamp
        elif isinstance(message, messages.SnapshotFooterRecord):
            self._is_complete = True
        elif isinstance(message, messages.KRaftVersionRecord):
            self.kraft_version = message.kraft_version
        elif isinstance(message, messages.VotersRecord):
            self.voters = tuple(VoterSet.from_record(message))

    def _damage(self, what: str) -> MetadataLogError:
        return MetadataLogError(f"the metadata snapshot {self._path} is damaged: {what}")
