"""`MetadataLog` of a node that is alone: a quorum of one which nobody can ask anything, nor join.

It leads from the start, and what the device has is committed. A node with a controller listener has a `RaftNode`
instead, also when it is the only voter: others may come there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ottla.core.ids import ZERO_UUID, uuid_to_text
from ottla.protocol.messages.raft_data import LeaderChangeMessage, LeaderChangeMessageVoter
from ottla.records.control import ControlMessage
from ottla.runtime.env import Env
from ottla.server.raft.metadata_log import (
    CommittedBatch,
    LeaderAndEpoch,
    MetadataLogError,
    NotLeaderError,
    QuorumDescription,
    RaftListener,
    VoterState,
)
from ottla.server.raft.quorum_state import QuorumState, read_quorum_state, write_quorum_state
from ottla.server.raft.replica_log import DiskReplicaLog
from ottla.server.raft.shell import ReplicaShell
from ottla.server.raft.snapshot import quorum_messages
from ottla.server.raft.voters import Voter


@dataclass(frozen=True, slots=True)
class LocalVoter:
    """This node in the quorum: its id, the id of its metadata directory, the cluster it belongs to, and the
    `(listener name, host, port)` under which other voters would reach it."""

    node_id: int
    directory_id: bytes
    cluster_id: str
    endpoints: tuple[tuple[str, str, int], ...] = ()


class LoneNode(ReplicaShell):
    """The quorum of one; see `MetadataLog` for the methods. `replica` was opened, and not read yet."""

    def __init__(self, env: Env, replica: DiskReplicaLog, voter: LocalVoter) -> None:
        super().__init__(env, replica)
        self.election_ns = 0
        self._voter = voter
        self._epoch = -1
        self._committed_offset = 0
        self._listener: RaftListener | None = None
        self._failure: BaseException | None = None
        self._uncommitted: deque[CommittedBatch] = deque()
        self._committing: asyncio.Task[None] | None = None

    # Life

    async def start(self, listener: RaftListener) -> None:
        """Read everything, which is committed; lead."""
        await self._env.run_blocking(self._load, listener)
        self._listener = listener
        listener.on_leader(self.leader)
        self._commit_soon()

    async def stop(self) -> None:
        """Wait for the commit under way; close."""
        self._listener = None
        if self._committing is not None:
            await asyncio.wait([self._committing])
        await self._env.run_blocking(lambda: self.replica.close(flush=self._failure is None))

    def _load(self, listener: RaftListener) -> None:
        replica = self.replica
        start_offset = 0
        if replica.latest_snapshot is not None:
            replica.feed_snapshot(replica.latest_snapshot, listener)
            start_offset = replica.latest_snapshot.end_offset
            listener.on_commit([])
        last_epoch = replica.last_epoch
        for read in replica.batches(start_offset, replica.end_offset):
            replica.take_note(read)
            listener.on_commit([read.batch])
        state = read_quorum_state(self._env.disk, replica.path)
        check_alone(replica, self._voter, state)
        begin_ns = self._env.work_ns()
        self._lead(max(last_epoch, state.leader_epoch) + 1)
        self.election_ns = self._env.work_ns() - begin_ns

    def _lead(self, epoch: int) -> None:
        """`quorum-state` first, so that the epoch is never used again, then LEADER_CHANGE."""
        node_id, history = self._voter.node_id, self.replica.history
        state = QuorumState(
            leader_id=node_id,
            leader_epoch=epoch,
            current_voters=None if history.kraft_version > 0 else (node_id,),
            cluster_id=self._voter.cluster_id,
        )
        write_quorum_state(self._env.disk, self.replica.path, state)
        self._epoch = epoch
        voter = LeaderChangeMessageVoter(voter_id=node_id)
        first: list[ControlMessage] = [
            LeaderChangeMessage(version=0, leader_id=node_id, voters=[voter], granting_voters=[voter])
        ]
        if history.voters_offset == -1:  # known from `storage format`, and not in the log
            first += quorum_messages(history.kraft_version, tuple(history.voters))
        self._append_control(first)

    # Reading

    @property
    def leader(self) -> LeaderAndEpoch:
        """This node, once it leads."""
        return LeaderAndEpoch(self._voter.node_id if self._epoch >= 0 else -1, max(self._epoch, 0))

    @property
    def is_leader(self) -> bool:
        """Whether the listener was told."""
        return self._listener is not None

    def leader_address(self) -> tuple[str, int] | None:
        """There is no controller listener to connect to."""
        return None

    @property
    def committed_offset(self) -> int:
        """End of what an fsync has covered."""
        return self._committed_offset

    def describe_quorum(self) -> QuorumDescription:
        """This node leads, and is the only voter."""
        own = self._voter
        known = tuple(self.replica.history.voters) or (Voter(own.node_id, ZERO_UUID, own.endpoints),)
        return QuorumDescription(
            leader_id=own.node_id,
            leader_epoch=self._epoch,
            high_watermark=self._committed_offset,
            voters=tuple(VoterState(v.voter_id, v.directory_id, self.end_offset, v.endpoints) for v in known),
        )

    # Writing

    def append(self, epoch: int, frames: Sequence[bytes], now_ms: int, prepared: Any = None) -> int:
        """Append one batch; the offset of its last record."""
        self._check(epoch)
        last_offset = self.replica.append_as_leader(epoch, frames, now_ms)
        self._appended(CommittedBatch(list(frames), last_offset, epoch, now_ms, prepared))
        return last_offset

    def upgrade_kraft_version(self, epoch: int, now_ms: int) -> int:
        """Move the voters into the log: kraft.version 1 with this node as the only one."""
        self._check(epoch)
        assert self.kraft_version == 0, "is at version 1 already"
        own = self._voter
        self._append_control(quorum_messages(1, (Voter(own.node_id, own.directory_id, own.endpoints),)))
        return self.end_offset

    def _append_control(self, messages: list[ControlMessage]) -> None:
        offset = self.replica.append_control(self._epoch, messages)
        for number, message in enumerate(messages):
            self.replica.history.replay(offset + number, message)
        self._appended(CommittedBatch([], self.end_offset - 1, self._epoch, self._env.clock.now_ms()))

    def _check(self, epoch: int) -> None:
        if self._failure is not None:
            raise MetadataLogError(f"{self.replica.path} has failed before: {self._failure}") from self._failure
        if epoch != self._epoch:
            raise NotLeaderError(f"epoch {epoch} is over")

    def _appended(self, batch: CommittedBatch) -> None:
        self._uncommitted.append(batch)
        self._commit_soon()

    def resign(self, epoch: int) -> None:
        """There is nobody else."""

    async def wait_committed(self, end_offset: int) -> None:
        """Everything appended is committed together."""
        while self._committed_offset < end_offset:
            if self._failure is not None:
                raise MetadataLogError(f"{self.replica.path} has failed: {self._failure}") from self._failure
            self._commit_soon()
            assert self._committing is not None
            await asyncio.wait([self._committing])

    def _commit_soon(self) -> None:
        if self._committing is None and self._listener is not None:
            self._committing = asyncio.ensure_future(self._commit(self._listener))

    async def _commit(self, listener: RaftListener) -> None:
        """Until nothing is left: all that is appended when an fsync begins shares it."""
        try:
            while self._uncommitted:
                end_offset = self.end_offset
                task = self.replica.begin_flush()
                if task is not None:
                    await self._env.run_blocking(task.run)
                    self.replica.complete_flush(task)
                self._committed_offset = end_offset
                self.replica.advance_high_watermark(end_offset)
                ready = []
                while self._uncommitted and self._uncommitted[0].last_offset < end_offset:
                    ready.append(self._uncommitted.popleft())
                listener.on_commit(ready)
        except BaseException as error:
            # After a failed fsync nobody knows what the device holds; writing on could build on lost records.
            self._failure = error
            listener.on_failure(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._committing = None


def check_alone(replica: DiskReplicaLog, own: LocalVoter, state: QuorumState) -> None:
    """Only a quorum that consists of this very replica may be led without asking anybody: else MetadataLogError."""
    path, history = replica.path, replica.history
    if history.kraft_version > 0:
        voters = list(history.voters.ids)
        known = history.voters.get(own.node_id)
        if known is not None and known.directory_id != own.directory_id:
            raise MetadataLogError(
                f"{path} belongs to directory id {uuid_to_text(known.directory_id)}, "
                f"but meta.properties says {uuid_to_text(own.directory_id)}"
            )
    else:
        voters = list(state.current_voters or ())
    if voters and voters != [own.node_id]:
        raise MetadataLogError(
            f"{path} belongs to a metadata quorum of the nodes {voters}; node {own.node_id} cannot lead it alone"
        )
