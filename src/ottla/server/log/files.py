"""Names of files and directories in a data directory, as Kafka gives them.

A segment is named after its base offset, a producer snapshot after the offset it was taken at, 20 digits each.
Partition directories are `<topic>-<partition>`; a topic name may hold dashes, so the last one counts. Suffixes:
`.cleaned` is the cleaner's output while it is written, `.swap` the same when complete, `.deleted` waits for its
removal.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ottla.core.ids import TopicPartition

LOG_SUFFIX = ".log"
INDEX_SUFFIX = ".index"
TIME_INDEX_SUFFIX = ".timeindex"
TRANSACTION_INDEX_SUFFIX = ".txnindex"
SNAPSHOT_SUFFIX = ".snapshot"
DELETED_SUFFIX = ".deleted"
CLEANED_SUFFIX = ".cleaned"
SWAP_SUFFIX = ".swap"
INDEX_SUFFIXES = (INDEX_SUFFIX, TIME_INDEX_SUFFIX, TRANSACTION_INDEX_SUFFIX)
SEGMENT_SUFFIXES = (LOG_SUFFIX, *INDEX_SUFFIXES)

LEADER_EPOCH_CHECKPOINT = "leader-epoch-checkpoint"
PARTITION_METADATA = "partition.metadata"

LOCK = ".lock"
META_PROPERTIES = "meta.properties"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
RECOVERY_POINT_CHECKPOINT = "recovery-point-offset-checkpoint"
LOG_START_OFFSET_CHECKPOINT = "log-start-offset-checkpoint"
HIGH_WATERMARK_CHECKPOINT = "replication-offset-checkpoint"
CLEANER_OFFSET_CHECKPOINT = "cleaner-offset-checkpoint"

METADATA_TOPIC = "__cluster_metadata"
REMOTE_INDEX_CACHE = "remote-log-index-cache"

DELETE_MARK = "delete"
FUTURE_MARK = "future"
STRAY_MARK = "stray"

LONGEST_NAME = 255
_UNIQUE_LENGTH = 32

_OFFSET_NAME = re.compile(r"(\d{20})(\.[a-z]+)((?:\.[a-z]+)?)\Z", re.ASCII)
_MARKED = re.compile(r"(.+)\.([0-9a-f]{32})-(delete|future|stray)\Z", re.ASCII)


class OffsetFile(NamedTuple):
    """A file named after an offset: `00000000000000000042.log.deleted` is (42, ".log", ".deleted")."""

    offset: int
    kind: str
    state: str


class PartitionDirectory(NamedTuple):
    """What the name of a partition's directory says; `mark` is "", "delete", "future" or "stray"."""

    topic_partition: TopicPartition
    mark: str


def offset_name(offset: int, suffix: str) -> str:
    """The name of the file of kind `suffix` for an offset."""
    return f"{offset:020d}{suffix}"


def parse_offset_name(name: str) -> OffsetFile | None:
    """Take such a name apart; None for any other file."""
    match = _OFFSET_NAME.match(name)
    return None if match is None else OffsetFile(int(match[1]), match[2], match[3])


def parse_directory_name(name: str) -> PartitionDirectory | None:
    """Take the name of a partition's directory apart; None for a directory of another kind."""
    mark = ""
    marked = _MARKED.match(name)
    if marked is not None:
        name, mark = marked[1], marked[3]
    topic, dash, partition = name.rpartition("-")
    if not dash or not topic or not (partition.isascii() and partition.isdigit()):
        return None
    return PartitionDirectory(TopicPartition(topic, int(partition)), mark)


def marked_directory_name(topic_partition: TopicPartition, mark: str, unique: str) -> str:
    """The name a directory is moved to; the topic is shortened where the name would be too long for a file system."""
    ending = f"-{topic_partition.partition}.{unique}-{mark}"
    assert len(unique) == _UNIQUE_LENGTH
    return topic_partition.topic[: LONGEST_NAME - len(ending)] + ending
