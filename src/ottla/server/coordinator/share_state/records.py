"""The records of ``__share_group_state``: a share partition's state in full (snapshot), or a change to it (update)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ottla.core.ids import uuid_to_text
from ottla.protocol.messages.share_records import (
    ShareSnapshotKey,
    ShareSnapshotValue,
    ShareUpdateKey,
    ShareUpdateValue,
)
from ottla.protocol.messages.share_records import StateBatch as StoredBatch
from ottla.server.coordinator.record_codec import TypedRecordCodec
from ottla.server.coordinator.result import CoordinatorRecord
from ottla.server.coordinator.share_state.batches import StateBatch

SHARE_SNAPSHOT = 0
SHARE_UPDATE = 1


class SharePartitionKey(NamedTuple):
    """A partition as consumed by one share group."""

    group_id: str
    topic_id: bytes
    partition: int

    def __str__(self) -> str:
        """The form whose hash says which partition of the state topic holds it, also what FindCoordinator is asked."""
        return f"{self.group_id}:{uuid_to_text(self.topic_id)}:{self.partition}"


class SharePartitionState:
    """State of one share partition as of its newest record.

    The fences are the highest epochs ever seen; an initialization may set the epochs themselves back. ``updates``
    counts since the last snapshot, ``snapshot_offset`` is that one's place in the log.
    """

    __slots__ = (
        "batches",
        "create_timestamp_ms",
        "delivery_complete_count",
        "leader_epoch",
        "leader_epoch_fence",
        "snapshot_epoch",
        "snapshot_offset",
        "start_offset",
        "state_epoch",
        "state_epoch_fence",
        "updates",
        "write_timestamp_ms",
    )

    def __init__(self) -> None:
        self.snapshot_epoch = 0
        self.state_epoch = 0
        self.leader_epoch = 0
        self.start_offset = -1
        self.delivery_complete_count = -1
        self.create_timestamp_ms = 0
        self.write_timestamp_ms = 0
        self.batches: list[StateBatch] = []
        self.state_epoch_fence = 0
        self.leader_epoch_fence = 0
        self.updates = 0
        self.snapshot_offset = -1

    def values(self) -> tuple[Any, ...]:
        """Everything durable, comparable; where the records stand does not belong to it."""
        return (
            self.snapshot_epoch,
            self.state_epoch,
            self.leader_epoch,
            self.start_offset,
            self.delivery_complete_count,
            self.create_timestamp_ms,
            self.write_timestamp_ms,
            tuple(self.batches),
            self.state_epoch_fence,
            self.leader_epoch_fence,
            self.updates,
        )


def snapshot(key: SharePartitionKey, state: SharePartitionState) -> CoordinatorRecord:
    """The record with the whole state."""
    return CoordinatorRecord(
        SHARE_SNAPSHOT,
        ShareSnapshotKey(group_id=key.group_id, topic_id=key.topic_id, partition=key.partition),
        ShareSnapshotValue(
            snapshot_epoch=state.snapshot_epoch,
            state_epoch=state.state_epoch,
            leader_epoch=state.leader_epoch,
            start_offset=state.start_offset,
            delivery_complete_count=state.delivery_complete_count,
            create_timestamp=state.create_timestamp_ms,
            write_timestamp=state.write_timestamp_ms,
            state_batches=_stored(state.batches),
        ),
    )


def update(
    key: SharePartitionKey,
    state: SharePartitionState,
    *,
    leader_epoch: int,
    start_offset: int,
    delivery_complete_count: int,
    batches: list[StateBatch],
) -> CoordinatorRecord:
    """The record with a change: ``start_offset`` -1 leaves it, ``batches`` are laid over those there are."""
    return CoordinatorRecord(
        SHARE_UPDATE,
        ShareUpdateKey(group_id=key.group_id, topic_id=key.topic_id, partition=key.partition),
        ShareUpdateValue(
            snapshot_epoch=state.snapshot_epoch,
            leader_epoch=leader_epoch,
            start_offset=start_offset,
            delivery_complete_count=delivery_complete_count,
            state_batches=_stored(batches),
        ),
    )


def tombstone(key: SharePartitionKey) -> CoordinatorRecord:
    """The record that forgets the share partition."""
    return CoordinatorRecord(
        SHARE_SNAPSHOT,
        ShareSnapshotKey(group_id=key.group_id, topic_id=key.topic_id, partition=key.partition),
        None,
    )


def loaded_batches(stored: Iterable[Any]) -> list[StateBatch]:
    """The batches of a record or request."""
    return [
        StateBatch(batch.first_offset, batch.last_offset, batch.delivery_state, batch.delivery_count)
        for batch in stored
    ]


def _stored(batches: list[StateBatch]) -> list[StoredBatch]:
    return [
        StoredBatch(
            first_offset=batch.first_offset,
            last_offset=batch.last_offset,
            delivery_state=batch.delivery_state,
            delivery_count=batch.delivery_count,
        )
        for batch in batches
    ]


_TYPES: dict[int, tuple[Any, Any]] = {
    SHARE_SNAPSHOT: (ShareSnapshotKey, ShareSnapshotValue),
    SHARE_UPDATE: (ShareUpdateKey, ShareUpdateValue),
}


class ShareStateRecordCodec(TypedRecordCodec):
    """Bytes of the records of ``__share_group_state``."""

    def __init__(self) -> None:
        super().__init__(_TYPES.get)
