"""Committed batches to whoever follows the log, in order; and word of leadership at the right place among them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from ottla.runtime.disk import MissingFileError
from ottla.server.raft.metadata_log import CommittedBatch, LeaderAndEpoch, RaftListener

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.server.raft.replica_log import DiskReplicaLog

BYTES_PER_TURN: Final = 128 * 1024
"""So much is read from the log and handed over before others have a turn."""


class _Appended(NamedTuple):
    """A batch that this node appended as the leader, so that it need not be read again."""

    base_offset: int
    batch: CommittedBatch


class Delivery:
    """Drives the listener. `next_offset` is the end of what it has, `told` the leader it knows of.

    `failed(error)` is called when it, or the log it is read from, fails.
    """

    def __init__(
        self, env: Env, log: DiskReplicaLog, listener: RaftListener, failed: Callable[[BaseException], None]
    ) -> None:
        self.next_offset = 0
        self.told: LeaderAndEpoch | None = None
        self._env = env
        self._log = log
        self._listener = listener
        self._failed = failed
        self._committed_offset = 0
        self._appended: deque[_Appended] = deque()
        self._leader: LeaderAndEpoch | None = None
        self._leader_offset = 0
        self._task: asyncio.Task[None] | None = None
        self._in_turn = False
        self._is_stopped = False
        log.on_truncated = self._on_truncated

    def appended(self, base_offset: int, batch: CommittedBatch) -> None:
        """The leader's own batch is in the log; `batch.prepared` comes back with its commit."""
        self._appended.append(_Appended(base_offset, batch))

    def commit(self, end_offset: int) -> None:
        """Everything before `end_offset` is committed, and in the log."""
        if end_offset > self._committed_offset:
            self._committed_offset = end_offset
            self._go_on()

    def change_leader(self, leader: LeaderAndEpoch, after_offset: int) -> None:
        """Tell of `leader` as soon as everything before `after_offset` was handed over."""
        self._leader, self._leader_offset = leader, after_offset
        self._go_on()

    async def start_from_snapshot(self) -> None:
        """Hand over the newest snapshot, if there is one, before anything else."""
        while self._log.latest_snapshot is not None and self.next_offset < self._log.latest_snapshot.end_offset:
            await self._load_snapshot()

    async def stop(self) -> None:
        """Hand over nothing more."""
        self._is_stopped = True
        if self._task is not None:
            await asyncio.wait([self._task])

    def _go_on(self) -> None:
        # What the listener does may commit something, or end leadership: the turn that it is in takes that along.
        if self._task is not None or self._in_turn or self._is_stopped:
            return
        try:
            if not self._turn():
                self._task = asyncio.ensure_future(self._catch_up())
        except Exception as error:
            self._failed(error)

    def _turn(self) -> bool:
        """Hand over what is at hand; whether that was all."""
        self._in_turn = True
        try:
            while self._hand_over():
                leader = self._leader
                if leader is None or self.next_offset < self._leader_offset:
                    return True
                self._leader = None
                self.told = leader
                self._listener.on_leader(leader)
            return False
        finally:
            self._in_turn = False

    def _hand_over(self) -> bool:
        """What is committed, as far as it need not be waited for; whether that was all."""
        may_read = True
        while self.next_offset < self._committed_offset:
            batches = self._take_appended()
            if not batches:
                if not may_read or self.next_offset < self._log.start_offset:
                    return False
                may_read = False
                batches = self._read()
            self.next_offset = batches[-1].last_offset + 1
            self._listener.on_commit(batches)
        return True

    async def _catch_up(self) -> None:
        """What takes longer: others have a turn in between."""
        try:
            while not self._is_stopped:
                await asyncio.sleep(0)
                if self.next_offset < self._log.start_offset:
                    await self._load_snapshot()
                if self._turn():
                    return
        except Exception as error:
            self._failed(error)
        finally:
            self._task = None

    def _take_appended(self) -> list[CommittedBatch]:
        appended, ready = self._appended, []
        next_offset = self.next_offset
        while appended and appended[0].base_offset < next_offset:
            appended.popleft()
        while appended and appended[0].base_offset == next_offset:
            batch = appended[0].batch
            if batch.last_offset >= self._committed_offset:
                break
            ready.append(batch)
            next_offset = batch.last_offset + 1
            appended.popleft()
        return ready

    def _read(self) -> list[CommittedBatch]:
        end_offset = self._committed_offset
        if self._appended:
            end_offset = min(end_offset, self._appended[0].base_offset)
        data = self._log.read_before(self.next_offset, BYTES_PER_TURN, end_offset)
        batches = [one.batch for one in self._log.decode(data, self.next_offset)]
        if not batches:
            raise self._log.damage(f"nothing can be read at offset {self.next_offset}")
        return batches

    async def _load_snapshot(self) -> None:
        snapshot = self._log.latest_snapshot
        assert snapshot is not None, "a log that begins later has a snapshot"
        try:
            await self._env.run_blocking(self._log.feed_snapshot, snapshot, self._listener)
        except MissingFileError:
            if self._log.latest_snapshot == snapshot:
                raise
            return  # a newer one has taken its place
        self.next_offset = snapshot.end_offset
        self._committed_offset = max(self._committed_offset, snapshot.end_offset)
        self._listener.on_commit([])

    def _on_truncated(self, offset: int) -> None:
        while self._appended and self._appended[-1].batch.last_offset >= offset:
            self._appended.pop()
