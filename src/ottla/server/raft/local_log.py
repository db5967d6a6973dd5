"""A metadata log led by this node alone: Kafka's `__cluster_metadata-0` directory as a quorum of one.

Batches, control records, `quorum-state` and snapshots are Kafka's own, so that Apache Kafka's tools read the directory
and either program can go on where the other stopped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ottla.core.errors import ApiError
from ottla.core.ids import ONE_UUID, ZERO_UUID, TopicPartition, uuid_to_text
from ottla.protocol.messages import raft_data as messages
from ottla.records.batch import CorruptRecordError, batches, crc_matches
from ottla.records.control import ControlMessage, control_batch, read_control_message
from ottla.records.record import Record, build_batch, read_batch_records
from ottla.records.validation import AppendOrigin
from ottla.runtime.env import Env
from ottla.server.log.config import LogConfig
from ottla.server.log.files import METADATA_TOPIC
from ottla.server.log.host import SimpleHost
from ottla.server.log.loader import LoadRequest, create_log, load_log
from ottla.server.log.log import Log
from ottla.server.raft.formatting import METADATA_DIRECTORY
from ottla.server.raft.metadata_log import (
    CommittedBatch,
    LeaderAndEpoch,
    MetadataLogError,
    NotLeaderError,
    QuorumDescription,
    RaftListener,
    VoterState,
)
from ottla.server.raft.quorum_state import FILE_NAME, QuorumState, decode_quorum_state, encode_quorum_state
from ottla.server.raft.snapshot import (
    SnapshotId,
    find_snapshots,
    quorum_messages,
    read_snapshot_file,
    snapshot_pieces,
    write_snapshot_file,
)
from ottla.server.raft.voters import Voter, VoterSet

READ_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LocalVoter:
    """This node in the quorum: its id, the id of its metadata directory, the cluster it belongs to, and the
    `(listener name, host, port)` under which other voters would reach it."""

    node_id: int
    directory_id: bytes
    cluster_id: str
    endpoints: tuple[tuple[str, str, int], ...] = ()


class _MetadataHost(SimpleHost):
    """A host for one log: removes at once, and leaves flushing to `commit`."""

    def flush_later(self, log: Log) -> None:
        """The next commit covers every segment that is not on the device yet."""


def open_local_log(
    env: Env, directory: str, voter: LocalVoter, *, segment_bytes: int, segment_ms: int
) -> LocalMetadataLog:
    """Recover the log below `directory` (the one of meta.properties), formatted before. Waits for the disk.

    Like Kafka's, it is checked batch by batch from the newest snapshot on, however it was closed.
    """
    disk = env.disk
    path = f"{directory}/{METADATA_DIRECTORY}"
    config = LogConfig(
        cleanup_policy=(),  # what goes is decided by snapshots alone
        max_message_bytes=segment_bytes,
        segment_bytes=segment_bytes,
        segment_ms=segment_ms,
    )
    host = _MetadataHost(disk, random=env.random)
    partition = TopicPartition(METADATA_TOPIC, 0)
    if any(name.endswith(".log") for name in disk.list_directory(path)):
        snapshots = find_snapshots(disk, path)
        start = snapshots[-1].end_offset if snapshots else 0
        log = load_log(host, partition, path, config, LoadRequest(recovery_point=start), now_ms=env.clock.now_ms())
    else:
        log = create_log(host, partition, path, ONE_UUID, config)
    return LocalMetadataLog(env, path, log, host, voter)


class LocalMetadataLog:
    """The quorum of one; see `MetadataLog` for the methods.

    `log` is the partition log of `directory`, already recovered, and `host` what it was opened with. `load`, `lead` and
    `write_snapshot` wait for the disk and may run in a worker thread, one at a time; the rest is called on the event
    loop.
    """

    def __init__(self, env: Env, directory: str, log: Log, host: SimpleHost, voter: LocalVoter) -> None:
        self.directory = directory
        self._env = env
        self._log = log
        self._host = host
        self._voter = voter
        self._epoch = -1
        self._last_epoch = 0
        self._committed_offset = 0
        self._snapshot = SnapshotId(0, 0)
        self._snapshot_timestamp_ms = -1
        self._appended_bytes = 0
        self._snapshot_bytes = 0
        self._kraft_version = 0
        self._voters: tuple[Voter, ...] = ()
        self._quorum_in_log = False
        self._flush: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._listener: RaftListener | None = None
        self._uncommitted: deque[CommittedBatch] = deque()
        self._committing: asyncio.Task[None] | None = None
        self.election_ns = 0

    async def start(self, listener: RaftListener) -> None:
        """Load, lead, tell."""
        await self._env.run_blocking(self._start, listener)
        self._listener = listener
        listener.on_leader(self.leader)
        self._commit_soon()

    def _start(self, listener: RaftListener) -> None:
        rest = self.load()
        first = next(rest, None)
        if first is not None and self._snapshot.end_offset > 0:
            end, epoch, stamp = *self._snapshot, self._snapshot_timestamp_ms
            pieces = [first.frames]
            held: list[CommittedBatch] = []
            for batch in rest:
                if batch.last_offset >= end:
                    held.append(batch)
                    break
                pieces.append(batch.frames)
            listener.on_snapshot(end, epoch, stamp, iter(pieces))
            listener.on_commit(held)
        elif first is not None:
            listener.on_commit([first])
        for batch in rest:
            listener.on_commit([batch])
        begin_ns = self._env.work_ns()
        self.lead(self._env.clock.now_ms())
        self.election_ns = self._env.work_ns() - begin_ns

    async def stop(self) -> None:
        """Wait for the commit under way; close."""
        self._listener = None
        if self._committing is not None and not self._committing.done():
            await asyncio.wait([self._committing])
        await self._env.run_blocking(self.close)

    @property
    def leader(self) -> LeaderAndEpoch:
        """This node, once it leads."""
        return LeaderAndEpoch(self._voter.node_id if self._epoch >= 0 else -1, max(self._epoch, 0))

    @property
    def is_leader(self) -> bool:
        """Once it was told."""
        return self._listener is not None

    def leader_address(self) -> tuple[str, int] | None:
        """Where this node's controller listener would be."""
        return self._voter.endpoints[0][1:] if self._voter.endpoints else None

    async def wait_committed(self, end_offset: int) -> None:
        """Everything appended shares an fsync."""
        if self._committed_offset < end_offset:
            await self.commit()

    def resign(self, epoch: int) -> None:
        """There is nobody else."""

    def _commit_soon(self) -> None:
        if self._committing is None and self._listener is not None:
            self._committing = asyncio.ensure_future(self._commit())

    async def _commit(self) -> None:
        listener = self._listener
        assert listener is not None
        try:
            while self._uncommitted:
                committed = await self.commit()
                ready = []
                while self._uncommitted and self._uncommitted[0].last_offset < committed:
                    ready.append(self._uncommitted.popleft())
                listener.on_commit(ready)
        except Exception as error:
            self._failure = self._failure or error
            listener.on_failure(error)
        finally:
            self._committing = None

    @property
    def leader_epoch(self) -> int:
        """Epoch of this node's leadership; -1 before `lead`."""
        return self._epoch

    @property
    def end_offset(self) -> int:
        """The offset of the next record."""
        return self._log.log_end_offset

    @property
    def committed_offset(self) -> int:
        """End of what an fsync has covered."""
        return self._committed_offset

    @property
    def bytes_since_snapshot(self) -> int:
        """Bytes of batches behind the newest snapshot."""
        return self._appended_bytes - self._snapshot_bytes

    @property
    def snapshot_timestamp_ms(self) -> int:
        """Timestamp of the newest snapshot's last record; -1 without one."""
        return self._snapshot_timestamp_ms

    @property
    def voters(self) -> tuple[Voter, ...]:
        """The quorum as the log has it; empty for a static one."""
        return self._voters

    @property
    def kraft_version(self) -> int:
        """Level of `kraft.version`."""
        return self._kraft_version

    def describe_quorum(self) -> QuorumDescription:
        """This node leads, and is the only voter."""
        own = self._voter
        known = self._voters or (Voter(own.node_id, ZERO_UUID, own.endpoints),)
        return QuorumDescription(
            leader_id=own.node_id,
            leader_epoch=self._epoch,
            high_watermark=self._committed_offset,
            voters=tuple(VoterState(v.voter_id, v.directory_id, self.end_offset, v.endpoints) for v in known),
        )

    # Opening

    def load(self) -> Iterator[CommittedBatch]:
        """The newest snapshot, then the log. Raises MetadataLogError when either is damaged or of another quorum."""
        disk = self._env.disk
        for name in disk.list_directory(self.directory):
            if name.endswith((".checkpoint.part", ".checkpoint.deleted")):
                disk.remove(f"{self.directory}/{name}")
        snapshots = find_snapshots(disk, self.directory)
        if snapshots:
            yield from self._load_snapshot(snapshots[-1])
        log = self._log
        start = self._snapshot.end_offset
        if log.log_end_offset < start:
            log.truncate_fully_and_start_at(start)
        if log.log_start_offset > start:
            raise MetadataLogError(
                f"{self.directory} is incomplete: the log begins at offset {log.log_start_offset}, "
                f"the newest snapshot ends at {start}"
            )
        yield from self._load_log(start)
        self._check_quorum()

    def _load_snapshot(self, snapshot: SnapshotId) -> Iterator[CommittedBatch]:
        content = read_snapshot_file(self._env.disk, f"{self.directory}/{snapshot.file_name}")
        self._snapshot = snapshot
        self._last_epoch = snapshot.epoch
        if content.kraft_version is not None:
            self._kraft_version = content.kraft_version
        if content.voters is not None:
            self._voters = content.voters
            self._quorum_in_log = snapshot.end_offset > 0
        if snapshot.end_offset > 0:
            self._snapshot_timestamp_ms = content.timestamp_ms
        for frames in content.batches:
            yield CommittedBatch(frames, snapshot.end_offset - 1, snapshot.epoch, content.timestamp_ms)

    def _load_log(self, start: int) -> Iterator[CommittedBatch]:
        log = self._log
        offset, end = start, log.log_end_offset
        while offset < end:
            data = log.read(offset, READ_BYTES, upper_bound=end, min_one_batch=True).read()
            before = offset
            for position, header in batches(data):
                if header.last_offset < offset:
                    continue
                if not crc_matches(data, position, header):
                    raise MetadataLogError(f"{self.directory} is damaged: wrong CRC at offset {header.base_offset}")
                self._appended_bytes += header.size_in_bytes
                self._last_epoch = max(self._last_epoch, header.partition_leader_epoch)
                try:
                    records = [r for r in read_batch_records(data, position, header) if r.offset >= offset]
                except CorruptRecordError as error:
                    raise MetadataLogError(f"{self.directory} is damaged: {error}") from error
                offset = header.last_offset + 1
                frames = [record.value for record in records if record.value is not None]
                if header.is_control:
                    self._replay_control(records)
                    frames = []
                yield CommittedBatch(frames, header.last_offset, header.partition_leader_epoch, header.max_timestamp)
            if offset == before:
                raise MetadataLogError(f"{self.directory} is damaged: nothing can be read at offset {offset}")

    def _replay_control(self, records: Sequence[Record]) -> None:
        for message in map(read_control_message, records):
            if isinstance(message, messages.KRaftVersionRecord):
                self._kraft_version = message.kraft_version
            elif isinstance(message, messages.VotersRecord):
                self._voters = tuple(VoterSet.from_record(message))
                self._quorum_in_log = True

    def _check_quorum(self) -> None:
        """Only a quorum that consists of this very replica may be led without asking anybody."""
        state = self._read_quorum_state()
        node_id = self._voter.node_id
        if self._kraft_version > 0:
            voters = [voter.voter_id for voter in self._voters]
            own = [voter for voter in self._voters if voter.voter_id == node_id]
            if own and own[0].directory_id != self._voter.directory_id:
                raise MetadataLogError(
                    f"{self.directory} belongs to directory id {uuid_to_text(own[0].directory_id)}, "
                    f"but meta.properties says {uuid_to_text(self._voter.directory_id)}"
                )
        else:
            voters = list(state.current_voters or ())
        if voters and voters != [node_id]:
            raise MetadataLogError(
                f"{self.directory} belongs to a metadata quorum of the nodes {voters}; "
                f"node {node_id} cannot lead it alone"
            )
        self._last_epoch = max(self._last_epoch, state.leader_epoch)

    def _read_quorum_state(self) -> QuorumState:
        path = f"{self.directory}/{FILE_NAME}"
        disk = self._env.disk
        return decode_quorum_state(disk.read(path), path) if disk.exists(path) else QuorumState()

    def lead(self, now_ms: int) -> None:
        """Begin the next epoch: `quorum-state` first, so that the epoch is never used again, then LEADER_CHANGE."""
        assert self._epoch < 0, "leads already"
        epoch = self._last_epoch + 1
        node_id = self._voter.node_id
        state = QuorumState(
            leader_id=node_id,
            leader_epoch=epoch,
            current_voters=None if self._kraft_version > 0 else (node_id,),
            cluster_id=self._voter.cluster_id,
        )
        self._env.disk.replace(f"{self.directory}/{FILE_NAME}", encode_quorum_state(state))
        self._epoch = epoch
        voter = messages.LeaderChangeMessageVoter(voter_id=node_id)
        change = messages.LeaderChangeMessage(version=0, leader_id=node_id, voters=[voter], granting_voters=[voter])
        first: list[ControlMessage] = [change]
        if not self._quorum_in_log:
            first += quorum_messages(self._kraft_version, self._voters)
            self._quorum_in_log = True
        end = self.end_offset
        self._append(control_batch(first, timestamp_ms=now_ms, base_offset=end, leader_epoch=epoch), now_ms)

    # Writing

    def upgrade_kraft_version(self, epoch: int, now_ms: int) -> int:
        """Move the voters into the log: kraft.version 1 with this node as the only one."""
        assert self._kraft_version == 0, "is at version 1 already"
        own = self._voter
        voters = (Voter(own.node_id, own.directory_id, own.endpoints),)
        batch = control_batch(
            quorum_messages(1, voters), timestamp_ms=now_ms, base_offset=self.end_offset, leader_epoch=self._epoch
        )
        self._append(batch, now_ms)
        self._kraft_version, self._voters = 1, voters
        return self.end_offset

    def append(self, epoch: int, frames: Sequence[bytes], now_ms: int, prepared: Any = None) -> int:
        """Append one batch; the offset of its last record."""
        if epoch != self._epoch:
            raise NotLeaderError(f"epoch {epoch} is over")
        records = [Record(0, now_ms, None, frame) for frame in frames]
        batch = build_batch(records, base_offset=self.end_offset, leader_epoch=self._epoch)
        return self._append(batch, now_ms, list(frames), prepared)

    def _append(self, batch: bytearray, now_ms: int, frames: list[bytes] | None = None, prepared: Any = None) -> int:
        assert self._epoch >= 0, "does not lead"
        if self._failure is not None:
            raise MetadataLogError(f"{self.directory} has failed before: {self._failure}") from self._failure
        try:
            result = self._log.append_as_leader(batch, self._epoch, now_ms, origin=AppendOrigin.RAFT_LEADER)
        except ApiError as error:
            if self._host.failure is not None:
                raise MetadataLogError(error.message) from error
            raise
        self._appended_bytes += len(batch)
        self._uncommitted.append(CommittedBatch(frames or [], result.last_offset, self._epoch, now_ms, prepared))
        self._commit_soon()
        return result.last_offset

    async def commit(self) -> int:
        """Wait for an fsync that began after everything appended so far; concurrent callers share one."""
        target = self.end_offset
        while self._committed_offset < target:
            if self._failure is not None:
                raise self._failure
            if self._flush is None:
                self._flush = asyncio.ensure_future(self._flush_once())
            await asyncio.shield(self._flush)
        return self._committed_offset

    async def _flush_once(self) -> None:
        end = self.end_offset
        task = self._log.begin_flush()
        try:
            if task is not None:
                await self._env.run_blocking(task.run)
                self._log.complete_flush(task)
        except BaseException as error:
            # After a failed fsync nobody knows what the device holds; writing on could build on lost records.
            self._failure = error
            raise
        finally:
            self._flush = None
        self._committed_offset = end
        self._log.advance_high_watermark(end)

    def write_snapshot(self, end_offset: int, epoch: int, timestamp_ms: int, frames: Iterable[bytes]) -> None:
        """Write a snapshot file; from then on loading starts from it."""
        assert end_offset <= self._committed_offset, "only what is committed may enter a snapshot"
        snapshot = SnapshotId(end_offset, epoch)
        appended_bytes = self._appended_bytes
        if snapshot <= self._snapshot:
            return
        pieces = snapshot_pieces(
            frames,
            kraft_version=self._kraft_version,
            voters=self._voters,
            timestamp_ms=timestamp_ms,
            now_ms=self._env.clock.now_ms(),
        )
        suffix = f"{self._env.random.getrandbits(48):012x}"
        write_snapshot_file(self._env.disk, f"{self.directory}/{snapshot.file_name}", pieces, suffix)
        self._snapshot = snapshot
        self._snapshot_timestamp_ms = timestamp_ms
        self._snapshot_bytes = appended_bytes

    def drop_before_snapshot(self) -> None:
        """Remove older snapshots, and the segments that lie wholly before the newest one."""
        for snapshot in find_snapshots(self._env.disk, self.directory):
            if snapshot < self._snapshot:
                self._env.disk.remove(f"{self.directory}/{snapshot.file_name}")
        now_ms = self._env.clock.now_ms()
        self._log.roll(now_ms)  # only whole segments can go, so the next snapshot finds one that ends here
        self._log.delete_records_before(self._snapshot.end_offset)
        self._log.delete_old_segments(now_ms)

    def close(self) -> None:
        """Bring everything to the device and release the files; waits for the disk."""
        task = self._log.prepare_close()
        if task is not None and self._failure is None:
            task.run()
            self._log.complete_flush(task)
        self._log.close()
