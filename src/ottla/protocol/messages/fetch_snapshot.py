"""FetchSnapshot, API key 59."""

from __future__ import annotations

from ottla.core.binary import Buffer
from ottla.protocol.message import (
    Request,
    Response,
    Struct,
    array,
    int16,
    int32,
    int64,
    record_set,
    string,
    struct,
    uint16,
    uuid,
)


class SnapshotId(Struct):
    end_offset: int = int64("0+")
    epoch: int = int32("0+")


class FetchSnapshotRequestPartitionSnapshot(Struct):
    partition: int = int32("0+")
    current_leader_epoch: int = int32("0+")
    snapshot_id: SnapshotId = struct(SnapshotId, "0+")
    position: int = int64("0+")
    replica_directory_id: bytes = uuid("1+", ignorable=True, tag=0, tagged="1+")


class FetchSnapshotRequestTopicSnapshot(Struct):
    name: str = string("0+", entity="topicName")
    partitions: list[FetchSnapshotRequestPartitionSnapshot] = array(FetchSnapshotRequestPartitionSnapshot, "0+")


class FetchSnapshotRequest(Request, api_key=59, versions="0-1", flexible="0+", listeners=("controller",)):
    """Reads part of a snapshot of the metadata log (KIP-630)."""

    cluster_id: str | None = string("0+", nullable="0+", default=None, tag=0, tagged="0+")
    replica_id: int = int32("0+", default=-1, entity="brokerId")
    max_bytes: int = int32("0+", default=2147483647)
    topics: list[FetchSnapshotRequestTopicSnapshot] = array(FetchSnapshotRequestTopicSnapshot, "0+")


class LeaderIdAndEpoch(Struct):
    leader_id: int = int32("0+", entity="brokerId")
    leader_epoch: int = int32("0+")


class FetchSnapshotResponsePartitionSnapshot(Struct):
    index: int = int32("0+")
    error_code: int = int16("0+")
    snapshot_id: SnapshotId = struct(SnapshotId, "0+")
    current_leader: LeaderIdAndEpoch = struct(LeaderIdAndEpoch, "0+", tag=0, tagged="0+")
    size: int = int64("0+")
    position: int = int64("0+")
    unaligned_records: Buffer | None = record_set("0+")


class FetchSnapshotResponseTopicSnapshot(Struct):
    name: str = string("0+", entity="topicName")
    partitions: list[FetchSnapshotResponsePartitionSnapshot] = array(FetchSnapshotResponsePartitionSnapshot, "0+")


class NodeEndpoint(Struct):
    node_id: int = int32("1+", key=True, entity="brokerId")
    host: str = string("1+")
    port: int = uint16("1+")


class FetchSnapshotResponse(Response, api_key=59, versions="0-1", flexible="0+"):
    """Bytes of the snapshot, or the leader to ask instead."""

    throttle_time_ms: int = int32("0+", ignorable=True)
    error_code: int = int16("0+")
    topics: list[FetchSnapshotResponseTopicSnapshot] = array(FetchSnapshotResponseTopicSnapshot, "0+")
    node_endpoints: list[NodeEndpoint] = array(NodeEndpoint, "1+", tag=0, tagged="1+")
