"""The core of a share partition: who has which record, which are done, and what of it has to be written.

The ranges in flight lie side by side without holes between `start_offset` (the share-partition start offset, SPSO) and
`end_offset`, the exclusive end of what was ever handed out. Nothing here reads, writes or knows the time: what was read
is handed in, what to write is handed out, and a lock times out when `expire` is called after its deadline.

    fetch_offset, wanted_end_offset = partition.plan(max_records)   # what to read
    ranges = partition.acquire(request, scan(...), now_ms)          # what the member gets
    change = partition.acknowledge(member_id, acknowledgements, now_ms)
    write = partition.take_write()                                  # for the share coordinator
    settled = partition.finish_write(ErrorCode.NONE, now_ms)        # now the changes hold, and may be answered
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.broker.share.delivery import (
    ACCEPT,
    ACKNOWLEDGED,
    ACQUIRED,
    ARCHIVED,
    ARCHIVING,
    AVAILABLE,
    DELIVERY_COUNT_EXCEEDED,
    REJECT,
    REJECTED,
    RELEASE,
    RENEW,
    Acknowledgement,
    AcquireRequest,
    DeadLetter,
    InFlight,
    ShareSettings,
    StateBatch,
    StateChange,
    StateWrite,
)
from ottla.server.broker.share.state_write import state_write
from ottla.server.broker.share.window import InFlightWindow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ottla.server.broker.share.fetched import FetchedBatches


class SharePartition(InFlightWindow):
    """State of the records of one partition for one group.

    `batches` is what the share coordinator has: states from `start_offset` on. What lies between them was never
    settled, and is available.
    """

    __slots__ = (
        "_dead_letters",
        "_deadline_ms",
        "_is_unsure",
        "_sent",
        "_unsent",
        "settings",
    )

    def __init__(self, start_offset: int, settings: ShareSettings, batches: Iterable[StateBatch] = ()) -> None:
        super().__init__(start_offset)
        self.settings = settings
        self._deadline_ms: int | None = None  # no lock times out before it
        self._unsent: list[StateChange] = []
        self._sent: list[StateChange] = []
        self._is_unsure = False  # what the share coordinator has, after a write without an answer
        self._dead_letters: list[DeadLetter] = []
        for batch in sorted(batches):
            self._restore(batch)
        self._advance()

    def _restore(self, batch: StateBatch) -> None:
        first_offset = max(batch.first_offset, self.end_offset)
        end_offset = batch.last_offset + 1
        if end_offset <= first_offset:
            return
        if first_offset > self.end_offset:
            self._append(InFlight(self.end_offset, first_offset, AVAILABLE, 0))
        state = AVAILABLE if batch.delivery_state == ACQUIRED else batch.delivery_state
        self._append(InFlight(first_offset, end_offset, state, batch.delivery_count))
        if state == ARCHIVING:
            # The cause is not persisted.
            is_exceeded = batch.delivery_count >= self.settings.delivery_count_limit
            cause = DELIVERY_COUNT_EXCEEDED if is_exceeded else REJECTED
            self._dead_letters.append(DeadLetter(first_offset, end_offset, batch.delivery_count, cause))

    # Acquiring

    def plan(self, max_records: int) -> tuple[int, int]:
        """Where to read, and up to which offset, for this many records; twice the same offset when there is nothing to
        hand out, because the window is full.
        """
        start = self._find_available()
        if start is None:
            room = self.settings.max_record_locks - (self.end_offset - self.start_offset)
            return self.end_offset, self.end_offset + max(min(max_records, room), 0)
        ranges = self._ranges
        fetch_offset = ranges[start].first_offset
        for index in range(start, len(ranges)):
            found = ranges[index]
            if found.state == AVAILABLE:
                max_records -= found.end_offset - found.first_offset
                if max_records <= 0:
                    return fetch_offset, found.end_offset + max_records
        room = self.settings.max_record_locks - (self.end_offset - self.start_offset)
        return fetch_offset, self.end_offset + max(min(max_records, room), 0)

    def acquire(self, request: AcquireRequest, fetched: FetchedBatches, now_ms: int) -> list[InFlight]:
        """Hand records out of what was read; the ranges that the member now has, by ascending offset."""
        data_end_offset = fetched.end_offset
        if fetched.skipped:
            for first_offset, end_offset in fetched.skipped:
                self._archive_available(first_offset, end_offset)
        acquired: list[InFlight] = []
        remaining = request.max_records
        ranges = self._ranges
        index = self._index(fetched.offset)
        while remaining > 0 and index < len(ranges):
            found = ranges[index]
            if found.first_offset >= data_end_offset:
                break
            if found.state == AVAILABLE and found.end_offset > fetched.offset:
                alone = self._most_at_once(found)
                if alone and acquired:
                    remaining = 0  # for a fetch of their own
                    break
                if found.first_offset < fetched.offset:
                    found = self._split(index, fetched.offset)
                    index += 1
                most = min(remaining, alone) if alone else remaining
                end_offset = min(found.end_offset, data_end_offset)
                if end_offset - found.first_offset > most:
                    is_strict = request.is_strict or bool(alone)
                    end_offset = fetched.cut(found.first_offset, end_offset, most, is_strict=is_strict)
                if end_offset < found.end_offset:
                    self._split(index, end_offset)
                remaining = 0 if alone else remaining - (end_offset - found.first_offset)
                if not self._lock(found, request, acquired, now_ms):
                    del ranges[index]
                    continue
            index += 1
        if remaining > 0 and data_end_offset > self.end_offset:
            self._acquire_new(request, fetched, remaining, acquired, now_ms)
        self._advance()
        if len(ranges) > self._compact_at:
            self._compact()
        return acquired

    def _acquire_new(
        self, request: AcquireRequest, fetched: FetchedBatches, remaining: int, acquired: list[InFlight], now_ms: int
    ) -> None:
        """Records that nobody had before, from the end of the window on."""
        remaining = min(remaining, self.settings.max_record_locks - (self.end_offset - self.start_offset))
        data_end_offset = fetched.end_offset
        for skip_offset, skip_end_offset in (*fetched.skipped, (data_end_offset, data_end_offset)):
            if skip_end_offset <= self.end_offset:
                continue
            first_offset = self.end_offset
            if skip_offset > first_offset:
                if remaining <= 0:
                    return
                end_offset = skip_offset
                if end_offset - first_offset > remaining:
                    end_offset = fetched.cut(first_offset, end_offset, remaining, is_strict=request.is_strict)
                remaining -= end_offset - first_offset
                while first_offset < end_offset:
                    piece_end_offset = end_offset
                    if not request.is_strict:
                        piece_end_offset = fetched.piece(first_offset, end_offset, request.batch_size)
                    piece = InFlight(first_offset, piece_end_offset, AVAILABLE, 0)
                    self._append(piece)
                    self._lock(piece, request, None, now_ms)
                    acquired.append(piece)
                    first_offset = piece_end_offset
                if end_offset < skip_offset:
                    return
            if skip_end_offset > self.end_offset:
                self._append(InFlight(self.end_offset, skip_end_offset, ARCHIVED, 0))

    def _lock(self, found: InFlight, request: AcquireRequest, acquired: list[InFlight] | None, now_ms: int) -> bool:
        """Give an available range to the member. False when it went into the last range of `acquired`."""
        deadline_ms = now_ms + self.settings.record_lock_duration_ms
        found.state = ACQUIRED
        found.delivery_count += 1
        if self._deadline_ms is None or deadline_ms < self._deadline_ms:
            self._deadline_ms = deadline_ms
        if acquired:
            last = acquired[-1]
            if (
                last.end_offset == found.first_offset
                and last.delivery_count == found.delivery_count
                and last.end_offset - last.first_offset < request.batch_size
            ):
                last.end_offset = found.end_offset
                return False
        found.member_id = request.member_id
        found.deadline_ms = deadline_ms
        if acquired is not None:
            acquired.append(found)
        return True

    def _most_at_once(self, found: InFlight) -> int:
        """How many records of an available range may be handed out together; 0 when there is no such limit.

        What has failed repeatedly goes out in halves, then in quarters, and for its last delivery one by one.
        """
        settings = self.settings
        if found.delivery_count < settings.throttled_delivery_count:
            return 0
        if found.delivery_count >= settings.delivery_count_limit - 1:
            return 1
        return max(found.batch_records >> (found.delivery_count - settings.throttled_delivery_count + 1), 1)

    def _archive_available(self, first_offset: int, end_offset: int) -> None:
        """Offsets that hold no record for a consumer: nobody has to be asked."""
        index = self._index(first_offset)
        ranges = self._ranges
        while index < len(ranges) and ranges[index].first_offset < end_offset:
            found = ranges[index]
            if found.state == AVAILABLE and found.end_offset > first_offset:
                if found.first_offset < first_offset:
                    found = self._split(index, first_offset)
                    index += 1
                if found.end_offset > end_offset:
                    self._split(index, end_offset)
                found.state = ARCHIVED
            index += 1

    # Changes of state

    def acknowledge(
        self, member_id: str, acknowledgements: Sequence[Acknowledgement], now_ms: int
    ) -> StateChange | None:
        """What a member says about its records, all or none of it; ascending, as the protocol wants them.

        Gives the change to be written, or None when there is nothing to write. Raises ApiError INVALID_RECORD_STATE
        when a record is not (or no longer) acquired by the member, INVALID_REQUEST when it was never handed out.
        """
        expected = self.start_offset
        for first_offset, end_offset, kind in acknowledgements:
            if end_offset > self.start_offset:
                self._check_owned(member_id, max(first_offset, self.start_offset), end_offset, expected)
                if kind == RENEW and not self.settings.renew_enabled:
                    raise ApiError(
                        ErrorCode.INVALID_RECORD_STATE, "Renewing acquisition locks is not enabled for the group."
                    )
                expected = end_offset
        change = StateChange(is_reversible=True)
        for first_offset, end_offset, kind in acknowledgements:
            if end_offset > self.start_offset:
                for found in self._carve(max(first_offset, self.start_offset), end_offset):
                    if kind == RENEW:
                        found.deadline_ms = now_ms + self.settings.record_lock_duration_ms
                    else:
                        self._begin(change, found, kind)
        if not change.ranges:
            return None
        self._unsent.append(change)
        return change

    def _check_owned(self, member_id: str, first_offset: int, end_offset: int, expected: int) -> None:
        if not self._ranges or first_offset < expected:
            raise ApiError(ErrorCode.INVALID_RECORD_STATE, f"Offset {first_offset} is not acquired.")
        if end_offset > self.end_offset:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"Offset {end_offset - 1} is past the acquired records.")
        ranges = self._ranges
        index = self._index(first_offset)
        while index < len(ranges):
            found = ranges[index]
            if found.first_offset >= end_offset:
                return
            if found.state != ACQUIRED or found.is_changing:
                raise ApiError(ErrorCode.INVALID_RECORD_STATE, f"Offset {found.first_offset} is not acquired.")
            if found.member_id != member_id:
                raise ApiError(ErrorCode.INVALID_RECORD_STATE, "Member is not the owner of the records.")
            index += 1

    def release_member(self, member_id: str) -> StateChange | None:
        """Give back everything that a member has acquired; the change to be written, None when it had nothing."""
        change = StateChange(is_reversible=True)
        for found in self._ranges:
            if found.state == ACQUIRED and found.member_id == member_id and not found.is_changing:
                self._begin(change, found, RELEASE)
        if not change.ranges:
            return None
        self._unsent.append(change)
        return change

    def _begin(self, change: StateChange, found: InFlight, kind: int) -> None:
        found.change = change
        change.ranges.append(found)
        if kind == ACCEPT:
            found.target = ACKNOWLEDGED
        elif kind == RELEASE:
            found.target = self._released(found)
        elif kind == REJECT and self.settings.has_dead_letter_queue:
            found.target = ARCHIVING
            found.cause = REJECTED
        else:
            found.target = ARCHIVED

    def _released(self, found: InFlight) -> int:
        """The state of a range whose owner did not process it."""
        if found.delivery_count < self.settings.delivery_count_limit:
            return AVAILABLE
        found.cause = DELIVERY_COUNT_EXCEEDED
        return ARCHIVING if self.settings.has_dead_letter_queue else ARCHIVED

    @property
    def next_deadline_ms(self) -> int | None:
        """When `expire` has to be called; it may be a little early. None when nothing is locked."""
        return self._deadline_ms

    def expire(self, now_ms: int) -> bool:
        """Take back what was locked for too long. True when anything was."""
        if self._deadline_ms is None or self._deadline_ms > now_ms:
            return False
        change = StateChange(is_reversible=False)
        deadline_ms: int | None = None
        for found in self._ranges:
            if found.state != ACQUIRED or found.is_changing:
                continue
            if found.deadline_ms <= now_ms:
                self._take_back(change, found)
            elif deadline_ms is None or found.deadline_ms < deadline_ms:
                deadline_ms = found.deadline_ms
        self._deadline_ms = deadline_ms
        if not change.ranges:
            return False
        self._unsent.append(change)
        self._advance()
        return True

    def _take_back(self, change: StateChange, found: InFlight) -> None:
        found.state = found.target = self._released(found)
        found.member_id = ""
        found.change = change
        change.ranges.append(found)
        if found.state == AVAILABLE:
            self._available_from = min(self._available_from, found.first_offset)

    def move_start(self, log_start_offset: int) -> None:
        """The log begins here now: nothing before it can be delivered, or has to be acknowledged, any more."""
        if log_start_offset <= self.start_offset:
            return
        ranges = self._ranges
        if log_start_offset >= self.end_offset:
            ranges.clear()
            self.end_offset = log_start_offset
        else:
            index = self._index(log_start_offset)
            if ranges[index].first_offset < log_start_offset:
                self._split(index, log_start_offset)
                index += 1
            del ranges[:index]
        self.start_offset = log_start_offset
        self._available_from = max(self._available_from, log_start_offset)
        self._dead_letters = [letter for letter in self._dead_letters if letter.end_offset > log_start_offset]
        self._advance()

    # Dead letters

    def take_dead_letters(self) -> list[DeadLetter]:
        """What has to go into the dead-letter queue now: its state is written, so that it cannot be forgotten."""
        letters, self._dead_letters = self._dead_letters, []
        return letters

    def archive_dead_letter(self, letter: DeadLetter) -> None:
        """The records are in the dead-letter queue, or there is no such queue any more."""
        first_offset, end_offset = max(letter.first_offset, self.start_offset), letter.end_offset
        if first_offset >= end_offset:
            return
        change = StateChange(is_reversible=False)
        for found in self._carve(first_offset, end_offset):
            if found.state == ARCHIVING:
                found.state = found.target = ARCHIVED
                found.change = change
                change.ranges.append(found)
        if change.ranges:
            self._unsent.append(change)
            self._advance()

    # Writing

    @property
    def needs_write(self) -> bool:
        """Something waits to be written, and nothing is being written."""
        return bool(self._unsent) and not self._sent

    @property
    def is_idle(self) -> bool:
        """Everything is written, and nothing is on its way to the dead-letter queue."""
        return not self._unsent and not self._sent and all(found.state != ARCHIVING for found in self._ranges)

    def touch(self) -> None:
        """Have the start offset written although no record changed its state."""
        if not self._unsent:
            self._unsent.append(StateChange(is_reversible=False))

    def take_write(self) -> StateWrite:
        """Everything that changed since the last write; to be settled with `finish_write`."""
        assert not self._sent, "a write is under way"
        self._sent, self._unsent = self._unsent, []
        for change in self._sent:
            change.is_sent = True
        return state_write(self._ranges, self.end_offset, self._sent, is_unsure=self._is_unsure)

    def finish_write(self, code: ErrorCode, now_ms: int) -> list[StateChange]:
        """The write succeeded, or was given up with an error. The changes that are settled now, for their waiters.

        After an error, what a client asked for has not happened; what happened by itself is written with the next
        write.
        """
        settled: list[StateChange] = []
        sent, self._sent = self._sent, []
        expired = StateChange(is_reversible=False)
        self._is_unsure = code is not ErrorCode.NONE
        for change in sent:
            change.is_sent = False
            if code is ErrorCode.NONE:
                self._commit(change)
                settled.append(change)
            elif change.is_reversible:
                for found in change.ranges:
                    if found.change is change:
                        found.change = None
                        if found.deadline_ms <= now_ms:
                            self._take_back(expired, found)
                        else:
                            found.target = ACQUIRED
                            self._deadline_ms = min(found.deadline_ms, self._deadline_ms or found.deadline_ms)
                settled.append(change)
            else:
                self._unsent.append(change)
        if expired.ranges:
            self._unsent.append(expired)
        self._advance()
        if len(self._ranges) > self._compact_at:
            self._compact()
        return settled

    def abandon(self) -> list[StateChange]:
        """Everything that is not settled, for its waiters: nothing will be written any more."""
        changes = self._sent + self._unsent
        self._sent, self._unsent = [], []
        return changes

    def _commit(self, change: StateChange) -> None:
        for found in change.ranges:
            if found.change is not change:
                continue
            found.change = None
            if change.is_reversible:
                found.state = found.target
                found.member_id = ""
                if found.state == AVAILABLE:
                    self._available_from = min(self._available_from, found.first_offset)
            if found.state == ARCHIVING and found.first_offset >= self.start_offset:
                self._dead_letters.append(
                    DeadLetter(found.first_offset, found.end_offset, found.delivery_count, found.cause)
                )

    def check_invariants(self) -> None:
        """Raise AssertionError when a rule of this class is broken."""
        expected = self.start_offset
        for found in self._ranges:
            assert found.first_offset == expected, f"{found} does not begin at {expected}"
            assert found.end_offset > found.first_offset, found
            expected = found.end_offset
            assert (found.state == ACQUIRED) == bool(found.member_id), found
            if found.state == AVAILABLE:
                assert found.first_offset >= self._available_from, found
                assert found.delivery_count < self.settings.delivery_count_limit, found
            if found.state == ACQUIRED and not found.is_changing:
                assert self._deadline_ms is not None, found
                assert self._deadline_ms <= found.deadline_ms, found
            if found.change is not None:
                assert found in found.change.ranges, found
        assert expected == self.end_offset
        assert not self._ranges or not self._ranges[0].is_done
