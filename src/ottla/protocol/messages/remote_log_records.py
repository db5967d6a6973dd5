"""Records of `__remote_log_metadata`, which tell where tiered segments lie (KIP-405)."""

from __future__ import annotations

from ottla.protocol.message import (
    MetadataRecord,
    Struct,
    array,
    binary,
    boolean,
    int8,
    int32,
    int64,
    string,
    struct,
    uuid,
)


class TopicIdPartitionEntry(Struct):
    name: str = string("0+")
    id: bytes = uuid("0+")
    partition: int = int32("0+")


class RemoteLogSegmentIdEntry(Struct):
    topic_id_partition: TopicIdPartitionEntry = struct(TopicIdPartitionEntry, "0+")
    id: bytes = uuid("0+")


class SegmentLeaderEpochEntry(Struct):
    leader_epoch: int = int32("0+")
    offset: int = int64("0+")


class RemoteLogSegmentMetadataRecord(MetadataRecord, api_key=0, versions="0", flexible="0+"):
    """A tiered segment: its id, offsets, times, size and state."""

    remote_log_segment_id: RemoteLogSegmentIdEntry = struct(RemoteLogSegmentIdEntry, "0+")
    start_offset: int = int64("0+")
    end_offset: int = int64("0+")
    broker_id: int = int32("0+")
    max_timestamp_ms: int = int64("0+")
    event_timestamp_ms: int = int64("0+")
    segment_leader_epochs: list[SegmentLeaderEpochEntry] = array(SegmentLeaderEpochEntry, "0+")
    segment_size_in_bytes: int = int32("0+")
    custom_metadata: bytes | None = binary("0+", nullable="0+", default=None)
    remote_log_segment_state: int = int8("0+")
    txn_index_empty: bool = boolean("0+", tag=0, tagged="0+")


class RemoteLogSegmentMetadataUpdateRecord(MetadataRecord, api_key=1, versions="0", flexible="0+"):
    """A tiered segment changes its state."""

    remote_log_segment_id: RemoteLogSegmentIdEntry = struct(RemoteLogSegmentIdEntry, "0+")
    broker_id: int = int32("0+")
    event_timestamp_ms: int = int64("0+")
    custom_metadata: bytes | None = binary("0+", nullable="0+", default=None)
    remote_log_segment_state: int = int8("0+")


class RemotePartitionDeleteMetadataRecord(MetadataRecord, api_key=2, versions="0", flexible="0+"):
    """The tiered data of a partition is being deleted."""

    topic_id_partition: TopicIdPartitionEntry = struct(TopicIdPartitionEntry, "0+")
    broker_id: int = int32("0+")
    event_timestamp_ms: int = int64("0+")
    remote_partition_delete_state: int = int8("0+")


class RemoteLogSegmentMetadataSnapshotRecord(MetadataRecord, api_key=3, versions="0", flexible="0+"):
    """A tiered segment in the broker's local snapshot of this metadata."""

    segment_id: bytes = uuid("0+")
    start_offset: int = int64("0+")
    end_offset: int = int64("0+")
    broker_id: int = int32("0+")
    max_timestamp_ms: int = int64("0+")
    event_timestamp_ms: int = int64("0+")
    segment_leader_epochs: list[SegmentLeaderEpochEntry] = array(SegmentLeaderEpochEntry, "0+")
    segment_size_in_bytes: int = int32("0+")
    custom_metadata: bytes | None = binary("0+", nullable="0+", default=None)
    remote_log_segment_state: int = int8("0+")
    txn_index_empty: bool = boolean("0+", tag=0, tagged="0+")
