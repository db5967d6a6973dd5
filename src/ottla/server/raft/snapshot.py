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

BATCH_BYTES: Final = 1024 * 1024
"""A data batch in a snapshot is closed when its records reach this size (Kafka's bound is 8 MiB)."""
BATCH_RECORDS: Final = 4096

_NAME = re.compile(r"^(\d{20})-(\d{10})\.checkpoint$")


class SnapshotId(NamedTuple):
    """Ordered by offset, then epoch."""

    end_offset: int
    epoch: int

    @property
    def file_name(self) -> str:
        return f"{self.end_offset:020d}-{self.epoch:010d}.checkpoint"


class Voter(NamedTuple):
    """One voter of a dynamic quorum: its directory, and `(listener name, host, port)` where it can be reached."""

    voter_id: int
    directory_id: bytes
    endpoints: tuple[tuple[str, str, int], ...]


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
    return [version, messages.VotersRecord(version=0, voters=[_voter(voter) for voter in voters])]


def voters_of(record: messages.VotersRecord) -> tuple[Voter, ...]:
    """The voters of a KRAFT_VOTERS record."""
    return tuple(
        Voter(v.voter_id, v.voter_directory_id, tuple((e.name, e.host, e.port) for e in v.endpoints))
        for v in record.voters
    )


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
    """Read and check a snapshot; MetadataLogError when it is damaged or has no footer."""
    content = disk.read(path)
    data: list[list[bytes]] = []
    kraft_version: int | None = None
    voters: tuple[Voter, ...] | None = None
    timestamp_ms = -1
    complete = False
    try:
        for position, header in batches(content):
            if not crc_matches(content, position, header):
                raise CorruptRecordError(f"the batch at position {position} has a wrong CRC")
            records = read_batch_records(content, position, header)
            if not header.is_control:
                data.append([record.value for record in records if record.value is not None])
                continue
            for message in map(read_control_message, records):
                if isinstance(message, messages.SnapshotHeaderRecord):
                    timestamp_ms = message.last_contained_log_timestamp
                elif isinstance(message, messages.SnapshotFooterRecord):
                    complete = True
                elif isinstance(message, messages.KRaftVersionRecord):
                    kraft_version = message.kraft_version
                elif isinstance(message, messages.VotersRecord):
                    voters = voters_of(message)
    except CorruptRecordError as error:
        raise MetadataLogError(f"the metadata snapshot {path} is damaged: {error}") from error
    if not complete:
        raise MetadataLogError(f"the metadata snapshot {path} is damaged: its end is missing")
    return SnapshotContent(data, kraft_version, voters, timestamp_ms)


def _voter(voter: Voter) -> messages.VotersRecordVoter:
    return messages.VotersRecordVoter(
        voter_id=voter.voter_id,
        voter_directory_id=voter.directory_id,
        endpoints=[messages.Endpoint(name=name, host=host, port=port) for name, host, port in voter.endpoints],
        kraft_version_feature=messages.KRaftVersionFeature(min_supported_version=0, max_supported_version=1),
    )
