"""A share partition with one entry per offset: slow, and plain enough to be believed."""

from __future__ import annotations

from random import Random

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.broker.share.delivery import (
    ACCEPT,
    ACKNOWLEDGED,
    ACQUIRED,
    ARCHIVED,
    ARCHIVING,
    AVAILABLE,
    REJECT,
    RELEASE,
    RENEW,
    Acknowledgement,
    AcquireRequest,
    ShareSettings,
    StateBatch,
    StateWrite,
)
from ottla.server.broker.share.fetched import FetchedBatches
from ottla.server.broker.share.share_partition import SharePartition


class ModelLog:
    """Batches at growing offsets, with gaps, and some that no consumer gets."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.batches: list[tuple[int, int, bool]] = []  # base, end, is for nobody
        self.end_offset = 0

    def grow(self) -> None:
        random = self.random
        base = self.end_offset + (random.choice((0, 0, 0, 1, 3)) if self.batches else 0)
        end = base + random.choice((1, 1, 2, 5, 12))
        self.batches.append((base, end, random.random() < 0.15))
        self.end_offset = end

    def read(self, offset: int, most_batches: int, wanted_end_offset: int) -> FetchedBatches:
        """What `scan` would find, without the bytes."""
        found = FetchedBatches(offset, b"")
        expected = offset
        for base, end, is_nobodys in self.batches:
            if end <= offset:
                continue
            if expected >= wanted_end_offset or len(found.ends) >= most_batches:
                break
            if base > expected:
                found.skipped.append((expected, base))
            if is_nobodys:
                found.skipped.append((max(base, offset), end))
            found.bases.append(base)
            found.ends.append(end)
            found.positions.append(len(found.ends))
            expected = end
        return found

    def is_for_somebody(self, offset: int) -> bool:
        return any(base <= offset < end and not is_nobodys for base, end, is_nobodys in self.batches)


class Entry:
    """One offset."""

    def __init__(self, state: int = AVAILABLE, count: int = 0) -> None:
        self.state = state
        self.count = count
        self.member = ""
        self.deadline = 0
        self.target: int | None = None


class ModelPersister:
    """What the share coordinator knows."""

    def __init__(self) -> None:
        self.start_offset = 0
        self.states: dict[int, tuple[int, int]] = {}

    def write(self, write: StateWrite) -> None:
        for first, last, state, count in write.batches:
            for offset in range(first, last + 1):
                self.states[offset] = (state, count)
        self.start_offset = write.start_offset
        self.states = {offset: state for offset, state in self.states.items() if offset >= write.start_offset}

    def batches(self) -> list[StateBatch]:
        return [StateBatch(offset, offset, state, count) for offset, (state, count) in sorted(self.states.items())]


class World:
    """The partition, its model, its log and its persister, driven by random commands."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.log = ModelLog(self.random)
        self.persister = ModelPersister()
        self.settings = ShareSettings(
            record_lock_duration_ms=100,
            delivery_count_limit=self.random.choice((2, 3, 5)),
            max_record_locks=self.random.choice((8, 40)),
            has_dead_letter_queue=self.random.random() < 0.5,
        )
        self.now = 0
        self.members = ["a", "b", "c"]
        self.done: set[int] = set()  # acknowledged with success, or archived: never to be seen again
        self.in_flight_writes: list[tuple[StateWrite, dict[int, int]]] = []
        self.accepted_by_change: dict[int, list[int]] = {}
        self.dead: set[int] = set()  # delivered to the dead-letter queue
        self.highest_start = 0
        self.start()

    def start(self) -> None:
        self.core = SharePartition(self.persister.start_offset, self.settings, self.persister.batches())
        self.model: dict[int, Entry] = {}
        end = max(self.persister.states, default=self.persister.start_offset - 1) + 1
        for offset in range(self.persister.start_offset, end):
            self.model[offset] = Entry(*self.persister.states.get(offset, (AVAILABLE, 0)))
        self.pending: list[tuple[object, dict[int, int]]] = []
        self.writing: StateWrite | None = None
        self.highest_start = self.core.start_offset
        self.check()

    # commands

    def act(self) -> None:
        command = self.random.choices(
            (self.grow, self.fetch, self.acknowledge, self.leave, self.wait, self.write, self.settle, self.crash,
             self.dead_letters, self.delete_records),
            (6, 14, 12, 2, 5, 8, 8, 1, 3, 1),
        )[0]  # fmt: skip
        command()
        self.check()

    def grow(self) -> None:
        self.log.grow()

    def fetch(self) -> None:
        random = self.random
        request = AcquireRequest(
            random.choice(self.members), random.choice((1, 2, 7, 30)), random.choice((1, 4, 100)),
            is_strict=random.random() < 0.5,
        )  # fmt: skip
        offset, wanted_end_offset = self.core.plan(request.max_records)
        if offset >= wanted_end_offset:
            return
        fetched = self.log.read(offset, random.choice((1, 2, 5)), wanted_end_offset)
        if not fetched.ends:
            return
        before = {o: e.state for o, e in self.model.items()}
        ranges = self.core.acquire(request, fetched, self.now)
        taken = [o for found in ranges for o in range(found.first_offset, found.end_offset)]
        assert taken == sorted(set(taken))
        if request.is_strict:
            assert len(taken) <= request.max_records
        for o in taken:
            assert self.log.is_for_somebody(o), "an offset without a record was handed out"
            assert o not in self.done, "a record that is done was handed out again"
            assert before.get(o, AVAILABLE) == AVAILABLE, "a record was handed out twice"
            entry = self.model.setdefault(o, Entry())
            assert entry.count < self.settings.delivery_count_limit
            entry.state, entry.member = ACQUIRED, request.member_id
            entry.count += 1
            entry.deadline = self.now + self.settings.record_lock_duration_ms
        for found in ranges:
            assert found.member_id == request.member_id
            for o in range(found.first_offset, found.end_offset):
                assert self.model[o].count == found.delivery_count
        for first, end in fetched.skipped:
            for o in range(first, end):
                known = self.model.get(o)
                if known is not None and known.state == AVAILABLE:
                    known.state = ARCHIVED
        for o in range(self.core.start_offset, self.core.end_offset):
            # New to the window, and for nobody.
            self.model.setdefault(o, Entry(ARCHIVED))
        if not taken:
            assert any(first <= o < end for first, end in fetched.skipped for o in [offset]), "nothing handed out"

    def acknowledge(self) -> None:
        random = self.random
        member = random.choice(self.members)
        owned = [o for o, e in self.model.items() if e.state == ACQUIRED and e.member == member and e.target is None]
        acknowledgements: list[Acknowledgement] = []
        offset = random.choice(sorted(owned)) if owned and random.random() < 0.9 else random.randint(0, 30)
        for _ in range(random.choice((1, 1, 2))):
            end = offset + random.choice((1, 1, 3, 6))
            while owned and end > offset + 1 and end - 1 not in owned and random.random() < 0.9:
                end -= 1
            acknowledgements.append(Acknowledgement(offset, end, random.choice((0, 1, 1, 1, 2, 2, 3, 4))))
            offset = end + random.choice((0, 0, 1))
        touched = [(o, a.type) for a in acknowledgements for o in range(a.first_offset, a.end_offset)]
        touched = [(o, kind) for o, kind in touched if o >= self.core.start_offset]
        fits = all(
            o in self.model
            and self.model[o].state == ACQUIRED
            and self.model[o].member == member
            and self.model[o].target is None
            for o, _ in touched
        )
        if not fits:
            with pytest.raises(ApiError) as refusal:
                self.core.acknowledge(member, acknowledgements, self.now)
            assert refusal.value.code in (ErrorCode.INVALID_RECORD_STATE, ErrorCode.INVALID_REQUEST)
            return
        change = self.core.acknowledge(member, acknowledgements, self.now)
        targets: dict[int, int] = {}
        for o, kind in touched:
            entry = self.model[o]
            if kind == RENEW:
                entry.deadline = self.now + self.settings.record_lock_duration_ms
            else:
                entry.target = targets[o] = self.target(entry, kind)
        assert (change is None) == (not targets)
        if change is not None:
            self.pending.append((change, targets))

    def target(self, entry: Entry, kind: int) -> int:
        given_up = ARCHIVING if self.settings.has_dead_letter_queue else ARCHIVED
        if kind == ACCEPT:
            return ACKNOWLEDGED
        if kind == RELEASE:
            return AVAILABLE if entry.count < self.settings.delivery_count_limit else given_up
        return given_up if kind == REJECT else ARCHIVED

    def leave(self) -> None:
        member = self.random.choice(self.members)
        change = self.core.release_member(member)
        targets: dict[int, int] = {}
        for o, entry in self.model.items():
            if entry.state == ACQUIRED and entry.member == member and entry.target is None:
                entry.target = targets[o] = self.target(entry, RELEASE)
        assert (change is None) == (not targets)
        if change is not None:
            self.pending.append((change, targets))

    def wait(self) -> None:
        self.now += self.random.choice((1, 10, 60, 120))
        due = self.core.next_deadline_ms
        locked = [e.deadline for e in self.model.values() if e.state == ACQUIRED and e.target is None]
        assert not locked or (due is not None and due <= min(locked)), "a lock would be forgotten"
        self.core.expire(self.now)
        for entry in self.model.values():
            if entry.state == ACQUIRED and entry.target is None and entry.deadline <= self.now:
                self.take_back(entry)

    def take_back(self, entry: Entry) -> None:
        entry.state, entry.member = self.target(entry, RELEASE), ""

    def write(self) -> None:
        if self.core.needs_write:
            assert self.writing is None
            self.writing = self.core.take_write()
            assert self.writing.start_offset >= self.core.start_offset
            sent = {id(change) for change, _ in self.pending}
            self.sent_changes = sent

    def settle(self) -> None:
        if self.writing is None:
            return
        outcome = self.random.choice(("ok", "ok", "ok", "failed", "lost response"))
        if outcome != "failed":
            self.persister.write(self.writing)
        self.writing = None
        code = ErrorCode.NONE if outcome == "ok" else ErrorCode.COORDINATOR_NOT_AVAILABLE
        settled = {id(change) for change in self.core.finish_write(code, self.now)}
        kept = []
        for change, targets in self.pending:
            if id(change) not in self.sent_changes:
                kept.append((change, targets))
                continue
            assert id(change) in settled
            for o, target in targets.items():
                entry = self.model.get(o)
                if entry is None:
                    continue
                entry.target = None
                if outcome == "ok":
                    entry.state, entry.member = target, ""
                    if target in (ACKNOWLEDGED, ARCHIVED):
                        self.done.add(o)
                elif entry.deadline <= self.now:
                    self.take_back(entry)
        self.pending = kept

    def dead_letters(self) -> None:
        for letter in self.core.take_dead_letters():
            for o in range(max(letter.first_offset, self.core.start_offset), letter.end_offset):
                assert self.model[o].state == ARCHIVING
                assert o in self.persister.states, "given up before that was written"
                assert self.persister.states[o][0] == ARCHIVING
                self.dead.add(o)
                self.model[o].state = ARCHIVED
            self.core.archive_dead_letter(letter)

    def delete_records(self) -> None:
        offset = self.random.randint(self.core.start_offset, max(self.core.end_offset, self.core.start_offset) + 2)
        offset = min(offset, self.log.end_offset)
        self.core.move_start(offset)
        self.log.batches = [batch for batch in self.log.batches if batch[1] > offset]

    def crash(self) -> None:
        """Another leader takes over with what is persisted."""
        if self.writing is not None and self.random.random() < 0.5:
            self.persister.write(self.writing)
        self.start()

    # what must hold

    def check(self) -> None:
        core = self.core
        core.check_invariants()
        assert core.start_offset >= self.highest_start, "the start offset went back"
        self.highest_start = core.start_offset
        for o in [o for o in self.model if o < core.start_offset]:
            del self.model[o]
        expanded = {
            o: (found.state, found.member_id if found.state == ACQUIRED else "")
            for found in core.ranges
            for o in range(found.first_offset, found.end_offset)
        }
        assert expanded == {o: (e.state, e.member if e.state == ACQUIRED else "") for o, e in self.model.items()}
        for found in core.ranges:
            if found.state in (AVAILABLE, ACQUIRED):
                for o in range(found.first_offset, found.end_offset):
                    assert self.model[o].count == found.delivery_count, (o, found)

    def drain(self) -> None:
        """A member that processes all it gets, and a coordinator that works: afterwards nothing is left."""
        for _ in range(1000):
            self.now += 200
            self.core.expire(self.now)
            if self.core.needs_write:
                self.persister.write(self.core.take_write())
                self.core.finish_write(ErrorCode.NONE, self.now)
            for letter in self.core.take_dead_letters():
                self.core.archive_dead_letter(letter)
            offset, wanted_end_offset = self.core.plan(10)
            if self.core.is_idle and offset >= self.log.end_offset:
                break
            fetched = self.log.read(offset, 3, wanted_end_offset)
            if fetched.ends:
                for found in self.core.acquire(AcquireRequest("d", 10), fetched, self.now):
                    owned = Acknowledgement(found.first_offset, found.end_offset, ACCEPT)
                    self.core.acknowledge("d", [owned], self.now)
            self.core.check_invariants()
        assert self.core.start_offset == self.core.end_offset >= self.log.end_offset
        assert self.core.ranges == []
