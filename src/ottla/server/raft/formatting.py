"""What Apache Kafka's `kafka-storage format` writes for the metadata log, done on the first start.

`bootstrap.checkpoint` in the metadata directory holds the feature levels to begin with, the snapshot at offset 0 in
`__cluster_metadata-0` the quorum: kraft.version 1 and this node as its only voter (KIP-853).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ottla.runtime.disk import Disk
from ottla.server.raft.snapshot import (
    SnapshotId,
    read_snapshot_file,
    snapshot_pieces,
    write_snapshot_file,
)
from ottla.server.raft.voters import Voter

METADATA_DIRECTORY: Final = "__cluster_metadata-0"
BOOTSTRAP_FILE: Final = "bootstrap.checkpoint"


def is_formatted(disk: Disk, directory: str) -> bool:
    """Whether `directory` (of meta.properties) holds, or was prepared for, a metadata log."""
    return disk.exists(f"{directory}/{METADATA_DIRECTORY}/{SnapshotId(0, 0).file_name}") or (
        disk.exists(f"{directory}/{METADATA_DIRECTORY}")
        and any(
            name.endswith((".log", ".checkpoint")) for name in disk.list_directory(f"{directory}/{METADATA_DIRECTORY}")
        )
    )


def format_directory(disk: Disk, directory: str, voters: Sequence[Voter], frames: Iterable[bytes], now_ms: int) -> None:
    """Write both checkpoints; `frames` are the framed bootstrap records.

    A second run after a crash goes on. Bootstrap records that are there stay: somebody else formatted the directory.
    """
    metadata = f"{directory}/{METADATA_DIRECTORY}"
    disk.make_directories(metadata)
    if not disk.exists(f"{directory}/{BOOTSTRAP_FILE}"):
        write_bootstrap(disk, directory, frames, now_ms)
    quorum = snapshot_pieces((), kraft_version=1, voters=voters, timestamp_ms=now_ms, now_ms=now_ms)
    write_snapshot_file(disk, f"{metadata}/{SnapshotId(0, 0).file_name}", quorum, "format")


def write_bootstrap(disk: Disk, directory: str, frames: Iterable[bytes], now_ms: int) -> None:
    """Write the framed records that a metadata log begins with; `directory` must be there."""
    bootstrap = snapshot_pieces(frames, kraft_version=0, voters=(), timestamp_ms=0, now_ms=now_ms)
    write_snapshot_file(disk, f"{directory}/{BOOTSTRAP_FILE}", bootstrap, "format")


def read_bootstrap(disk: Disk, directory: str) -> list[bytes]:
    """The framed records of `bootstrap.checkpoint`; nothing when there is none."""
    path = f"{directory}/{BOOTSTRAP_FILE}"
    if not disk.exists(path):
        return []
    return [frame for batch in read_snapshot_file(disk, path).batches for frame in batch]
