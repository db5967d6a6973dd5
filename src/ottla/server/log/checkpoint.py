"""Kafka's small text files: offsets per partition, leader epochs, a partition's topic id."""

from __future__ import annotations

from collections.abc import Mapping

from ottla.core.ids import ZERO_UUID, TopicPartition, uuid_from_text, uuid_to_text
from ottla.runtime.disk import Disk
from ottla.server.log.errors import LogError

CHECKPOINT_VERSION = "0"


def read_offsets(disk: Disk, path: str) -> dict[TopicPartition, int]:
    """The offsets in a checkpoint; none when the file is missing or empty. `LogError` when it is something else."""
    offsets: dict[TopicPartition, int] = {}
    for line in _checkpoint_lines(disk, path):
        parts = line.split(" ")
        try:
            topic, partition, offset = parts
            offsets[TopicPartition(topic, int(partition))] = int(offset)
        except ValueError:
            raise LogError(f"corrupt offset checkpoint {path}: unexpected line {line!r}") from None
    return offsets


def format_offsets(offsets: Mapping[TopicPartition, int]) -> bytes:
    """The content of a checkpoint."""
    lines = [CHECKPOINT_VERSION, str(len(offsets))]
    lines += [f"{topic} {partition} {offset}" for (topic, partition), offset in offsets.items()]
    return ("\n".join(lines) + "\n").encode()


def read_leader_epochs(disk: Disk, path: str) -> list[tuple[int, int]]:
    """(epoch, start offset) in the order of the file; none when it is missing or empty."""
    entries = []
    for line in _checkpoint_lines(disk, path):
        try:
            epoch, start_offset = map(int, line.split(" "))
        except ValueError:
            raise LogError(f"corrupt leader epoch checkpoint {path}: unexpected line {line!r}") from None
        entries.append((epoch, start_offset))
    return entries


def format_leader_epochs(entries: list[tuple[int, int]]) -> bytes:
    """The content of a `leader-epoch-checkpoint`."""
    lines = [CHECKPOINT_VERSION, str(len(entries)), *(f"{epoch} {start_offset}" for epoch, start_offset in entries)]
    return ("\n".join(lines) + "\n").encode()


def read_topic_id(disk: Disk, path: str) -> bytes:
    """The topic id in a `partition.metadata`; the zero id when the file is missing, or empty after a crash."""
    if not disk.exists(path):
        return ZERO_UUID
    text = disk.read(path).decode("utf-8", "replace")
    if not text.strip("\0 \n"):
        return ZERO_UUID
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    try:
        if int(fields["version"]) != 0:
            raise LogError(f"unknown version {fields['version']} of {path}")
        return uuid_from_text(fields["topic_id"].strip())
    except (KeyError, ValueError):
        raise LogError(f"corrupt partition metadata {path}") from None


def format_topic_id(topic_id: bytes) -> bytes:
    """The content of a `partition.metadata`."""
    return f"version: 0\ntopic_id: {uuid_to_text(topic_id)}".encode()


def write_unsynced(disk: Disk, path: str, data: bytes) -> None:
    """Replace a file without waiting for the device: readers see old or new, a crash may leave it empty.

    For what is rebuilt from elsewhere when lost; a later flush makes it durable.
    """
    temporary = path + ".tmp"
    file = disk.open(temporary, create=True)
    try:
        if file.size():
            file.truncate(0)
        file.append(data)
    finally:
        file.close()
    disk.rename(temporary, path)


def _checkpoint_lines(disk: Disk, path: str) -> list[str]:
    if not disk.exists(path):
        return []
    raw = disk.read(path)
    if not raw:
        return []
    try:
        lines = raw.decode("utf-8").splitlines()
        if not raw.endswith(b"\n"):
            raise LogError(f"corrupt checkpoint {path}: the last line is cut off")
        if lines[0].strip() != CHECKPOINT_VERSION:
            raise LogError(f"corrupt checkpoint {path}: unknown version {lines[0][:40]!r}")
        count = int(lines[1])
    except (UnicodeDecodeError, IndexError, ValueError):
        raise LogError(f"corrupt checkpoint {path}: it is not a checkpoint of version 0") from None
    entries = [line for line in lines[2:] if line]
    if len(entries) != count:
        raise LogError(f"corrupt checkpoint {path}: {count} entries announced, {len(entries)} found")
    return entries
