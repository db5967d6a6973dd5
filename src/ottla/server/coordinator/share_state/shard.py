"""The state of one partition of ``__share_group_state``: how far share groups got, as commands and replay (KIP-932).

The leader of a share partition initializes, reads and writes its state here. Two epochs fence those who are late: the
state epoch, which an administrator's reset or a new life of the group raises, and the leader epoch of the partition
being consumed, which a new leader's first read raises.

A write becomes an update record; every so often, and for share partitions that lie still, the whole state is written
as a snapshot, so that older records can be dropped from the log (`needed_offset`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import (
    delete_share_group_state,
    initialize_share_group_state,
    read_share_group_state,
    read_share_group_state_summary,
    write_share_group_state,
)
from ottla.server.coordinator.result import Completions, CoordinatorRecord, Instant, Result
from ottla.server.coordinator.share_state.batches import check_batches, merge_batch, merged, prune
from ottla.server.coordinator.share_state.records import (
    SHARE_SNAPSHOT,
    SHARE_UPDATE,
    SharePartitionKey,
    SharePartitionState,
    loaded_batches,
    snapshot,
    tombstone,
    update,
)
from ottla.server.coordinator.timers import TimedShard, Timers
from ottla.server.metadata.image import EMPTY_IMAGE

if TYPE_CHECKING:
    from ottla.protocol.messages.share_records import ShareUpdateValue
    from ottla.server.coordinator.settings import SettingSource
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage

UNINITIALIZED_OFFSET = -1
"""Start offset of a share partition that nobody read from yet: its leader finds where to start."""

_UNSET_EPOCH = -1


@dataclass(frozen=True, slots=True)
class ShareStateSettings:
    """The ``share.coordinator.*`` settings with Kafka's defaults; times in milliseconds."""

    partition_count: int = 50
    updates_per_snapshot: int = 500
    cold_snapshot_interval_ms: int = 300_000
    prune_interval_ms: int = 300_000
    compression_codec: int = 0
    write_timeout_ms: int = 5_000
    load_buffer_bytes: int = 5_242_880

    @classmethod
    def from_config(cls, config: SettingSource) -> ShareStateSettings:
        """Take the settings out of a broker's configuration."""
        return cls(
            partition_count=config["share.coordinator.state.topic.num.partitions"],
            updates_per_snapshot=config["share.coordinator.snapshot.update.records.per.snapshot"],
            cold_snapshot_interval_ms=config["share.coordinator.cold.partition.snapshot.interval.ms"],
            prune_interval_ms=config["share.coordinator.state.topic.prune.interval.ms"],
            compression_codec=config["share.coordinator.state.topic.compression.codec"],
            write_timeout_ms=config["share.coordinator.write.timeout.ms"],
            load_buffer_bytes=config["share.coordinator.load.buffer.size"],
        )


class ShareStateShard(TimedShard):
    """One shard of the share coordinator; each command is about one share partition."""

    def __init__(self, settings: ShareStateSettings, image: MetadataImage = EMPTY_IMAGE) -> None:
        self.settings = settings
        self.image = image
        self.states: dict[SharePartitionKey, SharePartitionState] = {}
        self.completions: Completions = []
        self.timers = Timers()
        self._last_tombstone_offset = -1

    # -- commands

    def initialize(
        self, key: SharePartitionKey, data: initialize_share_group_state.PartitionData, now: Instant
    ) -> Result[initialize_share_group_state.PartitionResult]:
        """Start from scratch, also over a state that exists; ApiError FENCED_STATE_EPOCH for an old epoch.

        A start that is left open, in the epoch that the state has already, says nothing new: it comes from a group
        coordinator that was replaced before it heard the answer, or from the one that took its place. Taken literally,
        as Kafka does, it would hand out again what has been acknowledged since.
        """
        _check_partition(key)
        before = self.states.get(key)
        if before is not None:
            _check_state_epoch(before, data.state_epoch)
        self._check_topic(key)
        response = initialize_share_group_state.PartitionResult(partition=key.partition)
        if before is not None and (data.state_epoch, data.start_offset) == (before.state_epoch, UNINITIALIZED_OFFSET):
            return Result(response)
        state = SharePartitionState()
        state.snapshot_epoch = 0 if before is None else before.snapshot_epoch + 1
        state.state_epoch = data.state_epoch
        state.start_offset = data.start_offset
        # Without a start there is nothing a lag could be counted from.
        state.delivery_complete_count = -1 if data.start_offset == UNINITIALIZED_OFFSET else 0
        state.create_timestamp_ms = state.write_timestamp_ms = now.wall_ms
        return Result(response, [snapshot(key, state)])

    def write(
        self, key: SharePartitionKey, data: write_share_group_state.PartitionData, now: Instant
    ) -> Result[write_share_group_state.PartitionResult]:
        """Lay changes over the state; ApiError INVALID_REQUEST (not initialized), FENCED_…_EPOCH and others."""
        state = self._initialized(key)
        _check_leader_epoch(state, data.leader_epoch)
        _check_state_epoch(state, data.state_epoch)
        self._check_topic(key)
        if any(batch.first_offset > batch.last_offset for batch in data.state_batches):
            raise ApiError(ErrorCode.INVALID_REQUEST, "A state batch ends before it begins.")
        record = self._change(key, state, data, state.leader_epoch, now)
        return Result(write_share_group_state.PartitionResult(partition=key.partition), [record])

    def read(
        self, key: SharePartitionKey, data: read_share_group_state.PartitionData, now: Instant
    ) -> Result[read_share_group_state.PartitionResult]:
        """The whole state; a leader of a new epoch fences those before it."""
        state = self._initialized(key)
        _check_leader_epoch(state, data.leader_epoch)
        self._check_topic(key)
        response = read_share_group_state.PartitionResult(
            partition=key.partition,
            state_epoch=state.state_epoch,
            start_offset=state.start_offset,
            state_batches=[
                read_share_group_state.StateBatch(
                    first_offset=batch.first_offset,
                    last_offset=batch.last_offset,
                    delivery_state=batch.delivery_state,
                    delivery_count=batch.delivery_count,
                )
                for batch in state.batches
            ],
        )
        if data.leader_epoch in (_UNSET_EPOCH, state.leader_epoch_fence):
            return Result(response)
        unchanged = write_share_group_state.PartitionData(
            start_offset=state.start_offset, delivery_complete_count=state.delivery_complete_count, state_batches=[]
        )
        return Result(response, [self._change(key, state, unchanged, data.leader_epoch, now)])

    def read_summary(self, key: SharePartitionKey) -> Result[read_share_group_state_summary.PartitionResult]:
        """Where the share partition stands; a start offset of -1 when it has no state."""
        _check_partition(key)
        self._check_topic(key)
        state = self.states.get(key) or SharePartitionState()
        return Result(
            read_share_group_state_summary.PartitionResult(
                partition=key.partition,
                state_epoch=state.state_epoch,
                leader_epoch=state.leader_epoch,
                start_offset=state.start_offset,
                delivery_complete_count=state.delivery_complete_count,
            )
        )

    def delete(self, key: SharePartitionKey) -> Result[delete_share_group_state.PartitionResult]:
        """Forget the share partition; nothing to do is a success."""
        _check_partition(key)
        self._check_topic(key)
        records = [tombstone(key)] if key in self.states else None
        return Result(delete_share_group_state.PartitionResult(partition=key.partition), records)

    # -- metadata and time

    def metadata_changed(self, delta: MetadataDelta, image: MetadataImage) -> Result[None]:
        """Take over a commit of metadata: the state of deleted topics goes."""
        self.image = image
        deleted = delta.deleted_topics
        if not deleted:
            return Result(None)
        return Result(None, [tombstone(key) for key in self.states if key.topic_id in deleted])

    def needed_offset(self, log_end_offset: int) -> int:
        """The first record of the log that a restart needs; everything below is repeated by later snapshots."""
        if not self.states:
            return self._last_tombstone_offset + 1
        return min(min(state.snapshot_offset for state in self.states.values()), log_end_offset)

    def _tidy(self, now: Instant) -> Result[None]:
        """Every so often: snapshots of share partitions that lie still, so that they hold no old records.

        A broker that stopped between a topic's deletion and the tombstones finds what is left here, too.
        """
        self.timers.schedule(now.monotonic_ms + self.settings.cold_snapshot_interval_ms, self._tidy)
        topics = self.image.topics.by_id
        records = [tombstone(key) for key in self.states if key.topic_id not in topics]
        # When all of them lie still, nothing grows, and there is nothing to win.
        if any(state.create_timestamp_ms == state.write_timestamp_ms for state in self.states.values()):
            newest_ms = now.wall_ms - self.settings.cold_snapshot_interval_ms
            for key, state in self.states.items():
                if key.topic_id in topics and state.write_timestamp_ms <= newest_ms:
                    records.append(self._snapshot(key, state, now, create_timestamp_ms=state.create_timestamp_ms))
        return Result(None, records)

    # -- the shell's port (runtime.CoordinatorShard)

    def replay(self, record: CoordinatorRecord, record_offset: int, producer_id: int) -> None:
        """Apply one record of the partition."""
        stored_key, value = record.key, record.value
        key = SharePartitionKey(stored_key.group_id, stored_key.topic_id, stored_key.partition)
        if record.key_type == SHARE_SNAPSHOT:
            if value is None:
                self.states.pop(key, None)
                self._last_tombstone_offset = record_offset
                return
            state = self.states.get(key)
            if state is None:
                state = self.states[key] = SharePartitionState()
            state.snapshot_epoch = value.snapshot_epoch
            state.state_epoch = value.state_epoch
            state.leader_epoch = value.leader_epoch
            state.start_offset = value.start_offset
            state.delivery_complete_count = value.delivery_complete_count
            state.create_timestamp_ms = value.create_timestamp
            state.write_timestamp_ms = value.write_timestamp
            state.batches = merged(loaded_batches(value.state_batches), -1)
            state.state_epoch_fence = max(state.state_epoch_fence, value.state_epoch)
            state.leader_epoch_fence = max(state.leader_epoch_fence, value.leader_epoch)
            state.updates = 0
            state.snapshot_offset = record_offset
        elif record.key_type == SHARE_UPDATE and value is not None:
            state = self.states.get(key)
            if state is None:
                # Its snapshot is missing; Kafka takes the change for all there is, and so does a broker that follows.
                state = self.states[key] = SharePartitionState()
                state.snapshot_epoch = value.snapshot_epoch
                state.snapshot_offset = record_offset
            _apply_update(state, value)

    def replay_end_of_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Nothing here is transactional."""

    def loaded(self, now: Instant) -> None:
        """Everything in the log was replayed: the time of still share partitions begins to run."""
        self.timers.schedule(now.monotonic_ms + self.settings.cold_snapshot_interval_ms, self._tidy)

    def unload(self, code: ErrorCode) -> None:
        """Nothing is parked here."""

    # -- parts

    def _initialized(self, key: SharePartitionKey) -> SharePartitionState:
        _check_partition(key)
        state = self.states.get(key)
        if state is None:
            raise ApiError(ErrorCode.INVALID_REQUEST, "The share partition has not been initialized.")
        return state

    def _check_topic(self, key: SharePartitionKey) -> None:
        topic = self.image.topics.by_id.get(key.topic_id)
        if topic is None or key.partition not in topic.partitions:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def _change(
        self,
        key: SharePartitionKey,
        state: SharePartitionState,
        data: write_share_group_state.PartitionData,
        leader_epoch: int,
        now: Instant,
    ) -> CoordinatorRecord:
        batches = loaded_batches(data.state_batches)
        if state.updates < self.settings.updates_per_snapshot:
            return update(
                key,
                state,
                leader_epoch=leader_epoch,
                start_offset=data.start_offset,
                delivery_complete_count=data.delivery_complete_count,
                batches=merged(batches, data.start_offset),
            )
        after = SharePartitionState()
        after.state_epoch = state.state_epoch
        after.leader_epoch = leader_epoch
        after.start_offset = state.start_offset if data.start_offset == UNINITIALIZED_OFFSET else data.start_offset
        after.delivery_complete_count = data.delivery_complete_count
        after.batches = state.batches[:]
        for batch in batches:
            merge_batch(after.batches, batch)
        prune(after.batches, after.start_offset)
        after.snapshot_epoch = state.snapshot_epoch
        return self._snapshot(key, after, now, create_timestamp_ms=now.wall_ms)

    def _snapshot(
        self, key: SharePartitionKey, state: SharePartitionState, now: Instant, *, create_timestamp_ms: int
    ) -> CoordinatorRecord:
        """The state in the next snapshot epoch; one of a share partition that lies still keeps when it was made."""
        record = snapshot(key, state)
        assert record.value is not None
        record.value.snapshot_epoch = state.snapshot_epoch + 1
        record.value.create_timestamp = create_timestamp_ms
        record.value.write_timestamp = now.wall_ms
        return record

    def check_invariants(self) -> None:
        """What holds between commands; for tests and simulations."""
        for state in self.states.values():
            check_batches(state.batches)
            assert state.state_epoch <= state.state_epoch_fence
            assert state.leader_epoch <= state.leader_epoch_fence
            assert 0 <= state.updates <= self.settings.updates_per_snapshot
            if state.batches and state.start_offset >= 0:
                assert state.start_offset <= state.batches[0].first_offset


def durable_state(shard: ShareStateShard) -> dict[SharePartitionKey, tuple[object, ...]]:
    """What a restart must find again; for tests."""
    return {key: state.values() for key, state in shard.states.items()}


def _apply_update(state: SharePartitionState, value: ShareUpdateValue) -> None:
    state.leader_epoch_fence = max(state.leader_epoch_fence, value.leader_epoch)
    if value.leader_epoch != _UNSET_EPOCH:
        state.leader_epoch = value.leader_epoch
    if value.start_offset != UNINITIALIZED_OFFSET:
        state.start_offset = value.start_offset
    state.delivery_complete_count = value.delivery_complete_count
    for batch in loaded_batches(value.state_batches):
        merge_batch(state.batches, batch)
    prune(state.batches, state.start_offset)
    state.updates += 1


def _check_partition(key: SharePartitionKey) -> None:
    if key.partition < 0:
        raise ApiError(ErrorCode.INVALID_REQUEST, "The partition cannot be negative.")


def _check_leader_epoch(state: SharePartitionState, leader_epoch: int) -> None:
    if leader_epoch != _UNSET_EPOCH and leader_epoch < state.leader_epoch_fence:
        raise ApiError(ErrorCode.FENCED_LEADER_EPOCH)


def _check_state_epoch(state: SharePartitionState, state_epoch: int) -> None:
    if state_epoch != _UNSET_EPOCH and state_epoch < state.state_epoch_fence:
        raise ApiError(ErrorCode.FENCED_STATE_EPOCH)
