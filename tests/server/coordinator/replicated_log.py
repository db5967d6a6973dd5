"""One partition of an internal topic on several brokers, as a model: leaders that go, tails that are lost.

A record is committed when every broker has it. Any broker may become the leader, with all that its log holds; the
others give up what that leader does not have. Who was leader before does not hear of it at once: until then it appends
to a log whose tail nobody will copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import assign_offsets, batches

Entry = tuple[int, bytes]
"""Leader epoch and batch."""


class ReplicaLog:
    """The log of one broker: what its coordinator sees of the partition (`runtime.PartitionLog`)."""

    def __init__(self, random: Random, *, refuses: float = 0.0) -> None:
        self.entries: list[Entry] = []
        self.leads_in: int | None = None
        self.high_watermark = 0
        self.log_start_offset = 0
        self._random = random
        self._refuses = refuses
        self._listener: Callable[[], None] | None = None

    @property
    def log_end_offset(self) -> int:
        return next_offset(self.entries[-1]) if self.entries else 0

    def append(
        self, records: bytearray, now_ms: int, *, verification: object | None = None, transaction_version: int = 0
    ) -> int:
        if self.leads_in is None:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if self._random.random() < self._refuses:
            raise ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)
        [(position, _)] = batches(records)
        assign_offsets(records, position, self.log_end_offset, self.leads_in)
        self.entries.append((self.leads_in, bytes(records)))
        return self.log_end_offset - 1

    async def read(self, offset: int, max_bytes: int) -> bytes:
        await asyncio.sleep(self._random.random() / 100)
        found = bytearray()
        for entry in self.entries:
            if next_offset(entry) > offset and (not found or len(found) + len(entry[1]) <= max_bytes):
                found += entry[1]
        return bytes(found)

    def delete_records_before(self, offset: int) -> None:
        raise ApiError(ErrorCode.POLICY_VIOLATION)

    def set_listener(self, listener: Callable[[], None] | None) -> None:
        self._listener = listener

    def commit(self, offset: int) -> None:
        """The leader, or a follower later, learns how far the log is committed."""
        if offset > self.high_watermark:
            self.high_watermark = offset
            if self._listener is not None:
                self._listener()


class ReplicatedLog:
    """The logs by broker, copied batch by batch when the test says so."""

    def __init__(self, brokers: int, random: Random, *, refuses: float = 0.0) -> None:
        self.logs = {index: ReplicaLog(random, refuses=refuses) for index in range(brokers)}
        self.leader = 0
        self.epoch = 0
        self.lost = 0
        """Batches that were in some log and are gone."""
        self.logs[0].leads_in = 0
        self._fetched: dict[int, int] = {}

    def copy(self, follower: int) -> None:
        """One fetch of a follower: it gives up what the leader does not have, and gets a batch."""
        leader, log = self.logs[self.leader], self.logs[follower]
        if follower == self.leader or log.leads_in is not None:
            return  # it does not know yet that another broker leads
        same = 0
        for mine, theirs in zip(log.entries, leader.entries, strict=False):
            if mine != theirs:
                break
            same += 1
        if same < len(log.entries):
            self.lost += len(log.entries) - same
            assert same == 0 or next_offset(log.entries[same - 1]) >= log.high_watermark, "a committed record is lost"
            del log.entries[same:]
        self._fetched[follower] = log.log_end_offset
        committed = min([leader.log_end_offset, *(self._fetched.get(other, 0) for other in self._others())])
        leader.commit(committed)
        if len(log.entries) < len(leader.entries):
            log.entries.append(leader.entries[len(log.entries)])
        log.commit(min(leader.high_watermark, log.log_end_offset))

    def elect(self, broker: int) -> int:
        """The broker leads from now on, in the epoch that is returned; who did before is told by `depose`."""
        self.epoch += 1
        self.leader = broker
        self._fetched.clear()
        self.logs[broker].leads_in = self.epoch
        return self.epoch

    def depose(self, broker: int) -> None:
        """A former leader hears of it."""
        if broker != self.leader:
            self.logs[broker].leads_in = None

    def _others(self) -> list[int]:
        return [index for index in self.logs if index != self.leader]


def next_offset(entry: Entry) -> int:
    """The offset after the batch."""
    [(_, header)] = batches(entry[1])
    return header.next_offset
