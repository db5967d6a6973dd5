"""`ClusterMetadata`: the cluster as last committed, and word of every change to it; one for each node.

It follows the metadata log: commits are replayed on the image, or taken as the local controller has prepared them, and
published in order. Every so often the image is written as a snapshot, so that the log before it can go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ottla.core.errors import ApiError
from ottla.schema.config import BrokerConfig
from ottla.server.metadata.commits import CommittedBatch, LeaderAndEpoch, MetadataLogError
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.features import unknown_features
from ottla.server.metadata.image import EMPTY_IMAGE, ConfigResourceType, MetadataImage, with_dynamic_settings
from ottla.server.metadata.loader import RecordLoader
from ottla.server.metadata.records import RecordWriter, read_for_replay

if TYPE_CHECKING:
    from ottla.runtime.env import Env

Listener = Callable[[MetadataDelta, MetadataImage], None]
LeaderListener = Callable[[LeaderAndEpoch], None]

_log = logging.getLogger(__name__)


class Prepared:
    """What the local controller gives to the log with the last batch of a command: what changes, and the state after.

    The image has the offset of the last record, so it is set when the log has taken the batch, long before it commits.
    """

    __slots__ = ("delta", "image")

    def __init__(self, delta: MetadataDelta) -> None:
        self.delta = delta
        self.image: MetadataImage = delta.image


MORE_FOLLOWS: Final = object()
"""What it gives with the batches before: the last one brings what they amount to together."""


class SnapshotStore(Protocol):
    """The metadata log, as far as snapshots of the state are concerned; `MetadataLog` has the rest."""

    @property
    def bytes_since_snapshot(self) -> int: ...

    @property
    def snapshot_timestamp_ms(self) -> int: ...

    def write_snapshot(self, end_offset: int, epoch: int, timestamp_ms: int, frames: Iterable[bytes]) -> None: ...

    def drop_before_snapshot(self) -> None: ...


class ClusterMetadata:
    """The `RaftListener` of a node.

    `image` is the cluster as of the last commit, `config` the node's configuration with the image's dynamic settings,
    `offset` that of the last committed record (of control batches too, so it may be past `image.offset`), `leader` who
    leads the metadata log. `failure` is why the metadata log is of no use any more.
    """

    def __init__(self, config: BrokerConfig, env: Env, *, node_id: int) -> None:
        self.image: MetadataImage = EMPTY_IMAGE
        self.config = config
        self.node_id = node_id
        self.leader = LeaderAndEpoch(-1, 0)
        self.offset = -1
        self.failure: BaseException | None = None
        # For metrics.
        self.snapshot_ended_ms = -1
        self.snapshot_bytes = 0
        self._static_config = config
        self._env = env
        self._loader = RecordLoader(EMPTY_IMAGE)
        self._reloading = False
        self._held: list[CommittedBatch] = []
        self._listeners: list[Listener] = []
        self._leader_listeners: list[LeaderListener] = []
        self._progress_listeners: list[Callable[[int], None]] = []
        self._failure_listeners: list[Callable[[BaseException], None]] = []
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._store: SnapshotStore | None = None
        self._snapshot: asyncio.Task[None] | None = None

    # For the parts of the node

    def subscribe(self, listener: Listener) -> None:
        """Have `listener(delta, image)` called after every commit, in order, before its response is released.

        It runs on the event loop and should not fail: an exception is logged, and the others are called all the same.
        """
        self._listeners.append(listener)

    def subscribe_leader(self, listener: LeaderListener) -> None:
        """Have `listener(leader)` called when the leader of the metadata log, or the epoch, is another one.

        That this node leads is told after all commits of earlier epochs.
        """
        self._leader_listeners.append(listener)

    def subscribe_progress(self, listener: Callable[[int], None]) -> None:
        """Have `listener(offset)` called whenever `offset` has grown, after all that was committed is published."""
        self._progress_listeners.append(listener)

    def subscribe_failure(self, listener: Callable[[BaseException], None]) -> None:
        """Have `listener(error)` called once, when the metadata log fails."""
        self._failure_listeners.append(listener)

    def hush(self) -> None:
        """The node ends: subscribers of commits hear nothing any more."""
        self._listeners.clear()

    async def wait_for(self, offset: int) -> None:
        """Wait until the record at `offset` is committed and published. Raises MetadataLogError when the log fails."""
        if self.offset >= offset:
            return
        if self.failure is not None:
            raise self._refusal()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((offset, done))
        await done

    @property
    def in_transaction(self) -> bool:
        """A metadata transaction has begun in the log and not ended: its records are not part of the image."""
        return self._loader.in_transaction

    # For the metadata log: `RaftListener`

    def on_commit(self, batches: Sequence[CommittedBatch]) -> None:
        """Take over what is committed, in order. Raises MetadataError or MetadataLogError for what cannot be read."""
        if self._reloading:
            self._publish_reloaded()
        loader = self._loader
        for batch in batches:
            prepared = batch.prepared
            if prepared is MORE_FOLLOWS:
                self._held.append(batch)
                continue
            if prepared is not None and prepared.delta.image is loader.image and not loader.has_records:
                self._held.clear()
                loader.adopt(prepared.image)
                self._publish(prepared.delta, prepared.image)
                continue
            self._replay_held()
            if batch.frames or loader.has_records:
                loader.add(map(read_for_replay, batch.frames), batch.last_offset, batch.epoch, batch.timestamp_ms)
        if loader.has_records:
            self._publish(*loader.take())
        if batches:
            self._advance(batches[-1].last_offset)

    def on_snapshot(self, end_offset: int, epoch: int, timestamp_ms: int, batches: Iterator[list[bytes]]) -> None:
        """Start afresh from a snapshot. May run in a worker thread while nothing else is called; what it amounts to
        is published by the next `on_commit`, which may be an empty one."""
        loader = RecordLoader(EMPTY_IMAGE)
        for frames in batches:
            loader.add(map(read_for_replay, frames), end_offset - 1, epoch, timestamp_ms)
        loader.take()
        self._loader = loader
        self._held.clear()
        self._reloading = True

    def on_leader(self, leader: LeaderAndEpoch) -> None:
        """Somebody leads now, or nobody does."""
        if leader == self.leader:
            return
        self.leader = leader
        for listener in self._leader_listeners:
            listener(leader)

    def on_failure(self, error: BaseException) -> None:
        """The log failed: what its device holds is unknown, so the node should stop."""
        if self.failure is not None:
            return
        self.failure = error
        _log.error("the metadata log failed, no metadata can be changed any more: %s", error)
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            if not done.done():
                done.set_exception(self._refusal())
                done.exception()  # a waiter that has gone is no reason for a warning
        for listener in self._failure_listeners:
            listener(error)

    # Publishing

    def _replay_held(self) -> None:
        """The end of a command did not come as it was prepared; what has come of it counts all the same."""
        held, self._held = self._held, []
        for batch in held:
            self._loader.add(map(read_for_replay, batch.frames), batch.last_offset, batch.epoch, batch.timestamp_ms)

    def _publish_reloaded(self) -> None:
        self._reloading = False
        image = self._loader.image
        delta = MetadataDelta(self.image)
        if self._listeners:
            from ottla.server.metadata.difference import difference

            delta = difference(self.image, image)
        self._publish(delta, image, is_reloaded=True)
        self._advance(image.offset)

    def _publish(self, delta: MetadataDelta, image: MetadataImage, *, is_reloaded: bool = False) -> None:
        if is_reloaded or "features" in delta.changed:
            unknown = unknown_features(image)
            if unknown:
                raise MetadataLogError(
                    f"the metadata log needs features that this version of Ottla does not know: {', '.join(unknown)}"
                )
        self.image = image
        if is_reloaded or any(kind == ConfigResourceType.BROKER for kind, _ in delta.changed_configs):
            self.config = with_dynamic_settings(self._static_config, image, self.node_id)
        for listener in self._listeners:
            try:
                listener(delta, image)
            except Exception:
                _log.exception("a listener failed on the metadata at offset %d", image.offset)

    def _advance(self, offset: int) -> None:
        if offset <= self.offset:
            return
        self.offset = offset
        if self._waiting:
            still = []
            for wanted, done in self._waiting:
                if wanted > offset:
                    still.append((wanted, done))
                elif not done.done():
                    done.set_result(None)
            self._waiting = still
        for listener in self._progress_listeners:
            listener(offset)
        if self._store is not None:
            self._maybe_snapshot(self._store)

    def _refusal(self) -> MetadataLogError:
        return MetadataLogError(f"the metadata log failed: {self.failure}")

    # Snapshots

    def start_snapshots(self, store: SnapshotStore) -> None:
        """From now on write a snapshot whenever the log has grown, or aged, enough."""
        self._store = store
        self._maybe_snapshot(store)

    async def stop_snapshots(self) -> None:
        """Wait for the one under way; the log may then be closed."""
        self._store = None
        if self._snapshot is not None:
            await asyncio.wait([self._snapshot])

    def _maybe_snapshot(self, store: SnapshotStore) -> None:
        if self._snapshot is not None or self.failure is not None or self.image.is_empty():
            return
        age_limit_ms: int = self.config["metadata.log.max.snapshot.interval.ms"]
        aged = (
            age_limit_ms > 0
            and store.snapshot_timestamp_ms >= 0
            and self.image.timestamp_ms - store.snapshot_timestamp_ms >= age_limit_ms
        )
        if aged or store.bytes_since_snapshot >= self.config["metadata.log.max.record.bytes.between.snapshots"]:
            self._snapshot = asyncio.ensure_future(self._write_snapshot(store, self.image))

    async def _write_snapshot(self, store: SnapshotStore, image: MetadataImage) -> None:
        from ottla.server.metadata.writer import image_frames

        size = 0

        def frames() -> Iterator[bytes]:
            nonlocal size
            for frame in image_frames(image, RecordWriter(image.features).frame):
                size += len(frame)
                yield frame

        try:
            await self._env.run_blocking(
                store.write_snapshot, image.offset + 1, image.epoch, image.timestamp_ms, frames()
            )
            self.snapshot_bytes = size
            store.drop_before_snapshot()
            self.snapshot_ended_ms = self._env.clock.now_ms()
        except (OSError, MetadataLogError, ApiError) as error:
            # The log still has everything; the next commit tries again.
            _log.warning("no snapshot of the metadata could be written: %s", error)
        finally:
            self._snapshot = None
