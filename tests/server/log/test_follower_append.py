"""A follower's log has the same bytes as its leader's, whatever came in which portions, was cut, or began anew."""

from __future__ import annotations

from random import Random

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import CorruptRecordError
from ottla.records.control import end_transaction_marker
from ottla.server.log.log import AppendOrigin, Log
from tests.server.log.support import (
    DIRECTORY,
    NOW,
    KeepingHost,
    append,
    batch,
    new_disk,
    new_log,
    read_all,
    reopen,
)


class Pair:
    """A leader's log, a follower's, and what may happen to them."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        settings = {
            "segment_bytes": random.choice([700, 2500, 1 << 20]),
            "segment_index_bytes": random.choice([32, 80, 4096]),
            "index_interval_bytes": random.choice([0, 150, 4096]),
            "segment_ms": random.choice([300, 1 << 40]),
        }
        self.leader_host, self.follower_host = KeepingHost(new_disk()), KeepingHost(new_disk())
        self.leader = new_log(self.leader_host, **settings)
        self.follower = new_log(self.follower_host, **settings)
        self.epoch = 0
        self.now = NOW
        self.sequences = dict.fromkeys(range(3), 0)
        self.open: set[int] = set()

    def write(self) -> None:
        random = self.random
        self.now += random.randrange(20)
        kind = random.random()
        if kind < 0.1:
            self.epoch += random.randrange(1, 3)
        count, size = random.randrange(1, 4), random.randrange(80)
        if kind < 0.5:
            append(self.leader, count, size=size, timestamp=self.now, now_ms=self.now, leader_epoch=self.epoch)
            return
        producer = random.randrange(3)
        if producer in self.open and kind < 0.7:
            marker = end_transaction_marker(
                is_commit=random.random() < 0.5,
                producer_id=producer,
                producer_epoch=0,
                coordinator_epoch=1,
                timestamp_ms=self.now,
            )
            self.leader.append_as_leader(marker, self.epoch, self.now, origin=AppendOrigin.COORDINATOR)
            self.leader.advance_high_watermark(self.leader.log_end_offset)
            self.open.discard(producer)
            return
        sequence = self.sequences[producer]
        self.sequences[producer] += count
        append(
            self.leader,
            count,
            size=size,
            timestamp=self.now,
            now_ms=self.now,
            leader_epoch=self.epoch,
            producer=(producer, 0, sequence),
            transactional=True,
        )
        self.open.add(producer)

    def fetch(self) -> None:
        """As a fetch does: from one segment, perhaps with the last batch cut off."""
        offset = self.follower.log_end_offset
        if offset == self.leader.log_end_offset:
            return
        max_bytes = self.random.choice([1, 200, 1000, 1 << 20])
        found = self.leader.read(offset, max_bytes, upper_bound=self.leader.log_end_offset, min_one_batch=True)
        records = bytearray(found.read())
        self.follower.append_as_follower(memoryview(records), self.now, leader_epoch=self.epoch)
        assert self.follower.log_end_offset > offset
        self.follower.advance_high_watermark(min(self.leader.high_watermark, self.follower.log_end_offset))
        self.follower.check_invariants()

    def diverge(self) -> None:
        """The follower gets records that nobody else has, of an epoch of its own, and loses them again."""
        end_offset = self.follower.log_end_offset
        epoch = self.epoch + 10
        for _ in range(self.random.randrange(1, 5)):
            records = batch(self.random.randrange(1, 3), size=self.random.randrange(200), timestamp=self.now)
            self.follower.append_as_leader(records, epoch, self.now)
        if self.random.random() < 0.3:
            self.follower.flush()
        if self.random.random() < 0.3:
            self.follower = reopen(self.follower, clean=False, now_ms=self.now)
        self.follower.truncate_to(end_offset, self.now)
        self.follower.check_invariants()

    def check_same(self) -> None:
        """Records, epochs, producers, and aborted transactions; and segments, when they were cut at the same places."""
        leader, follower = self.leader, self.follower
        assert records_of(leader) == records_of(follower)
        assert leader.leader_epochs.entries() == follower.leader_epochs.entries()
        assert leader.producers_state.ongoing == follower.producers_state.ongoing
        assert state_of(leader) == state_of(follower)
        end = leader.log_end_offset
        assert leader.aborted_transactions(0, end) == follower.aborted_transactions(0, end)
        assert leader.last_stable_offset == follower.last_stable_offset


def records_of(log: Log) -> bytes:
    return b"".join(bytes(segment.file.read_at(0, segment.size)) for segment in log.segments)


def state_of(log: Log) -> list[tuple[object, ...]]:
    return sorted(
        (
            entry.producer_id,
            entry.producer_epoch,
            entry.batches[-1:],
            entry.coordinator_epoch,
            entry.current_transaction_first_offset,
        )
        for entry in log.producers_state.producers.values()
    )


def files_of(host: KeepingHost) -> dict[str, bytes]:
    """Every file of the partition but those that wait for their removal."""
    disk = host.disk
    return {
        name: bytes(disk.read(f"{DIRECTORY}/{name}"))
        for name in disk.list_directory(DIRECTORY)
        if not name.endswith(".deleted")
    }


@pytest.mark.parametrize("seed", range(25))
def test_a_follower_that_only_appends_has_the_very_files_of_its_leader(seed: int) -> None:
    pair = Pair(seed)
    for _ in range(80):
        pair.write()
        if pair.random.random() < 0.4:
            pair.fetch()
    while pair.follower.log_end_offset < pair.leader.log_end_offset:
        pair.fetch()
    pair.follower.advance_high_watermark(pair.leader.high_watermark)
    pair.check_same()
    for log in (pair.leader, pair.follower):
        task = log.prepare_close()
        if task is not None:
            task.run()
        log.close()
    assert files_of(pair.leader_host) == files_of(pair.follower_host)


@pytest.mark.parametrize("seed", range(25))
def test_a_follower_that_was_cut_and_restarted_has_the_same_records_and_state(seed: int) -> None:
    pair = Pair(1000 + seed)
    for _ in range(80):
        pair.write()
        choice = pair.random.random()
        if choice < 0.4:
            pair.fetch()
        elif choice < 0.5:
            pair.diverge()
        elif choice < 0.55:
            pair.follower = reopen(pair.follower, clean=pair.random.random() < 0.5, now_ms=pair.now)
        elif choice < 0.58:
            pair.follower.truncate_fully_and_start_at(0, now_ms=pair.now)
    while pair.follower.log_end_offset < pair.leader.log_end_offset:
        pair.fetch()
    pair.follower.advance_high_watermark(pair.leader.high_watermark)
    pair.check_same()


def test_batches_before_one_that_is_damaged_stay() -> None:
    leader, follower = new_log(), new_log()
    for number in range(4):
        append(leader, 2, timestamp=NOW + number)
    found = leader.read(0, 1 << 20, upper_bound=8, min_one_batch=True)
    records = bytearray(found.read())
    records[-1] ^= 1
    with pytest.raises(CorruptRecordError):
        follower.append_as_follower(records, NOW)
    assert follower.log_end_offset == 6
    follower.check_invariants()
    with pytest.raises(ApiError) as refused:
        follower.append_as_follower(records[: len(records) // 4], NOW)
    assert refused.value.code is ErrorCode.OFFSET_OUT_OF_RANGE
    records[-1] ^= 1
    follower.append_as_follower(records[len(records) // 4 * 3 :], NOW)
    assert records_of(follower) == records_of(leader)


def test_batches_of_a_later_epoch_than_the_leader_had_when_it_was_asked_are_left_out() -> None:
    leader, follower = new_log(), new_log()
    for epoch in (4, 4, 5):
        append(leader, leader_epoch=epoch)
    records = leader.read(0, 1 << 20, upper_bound=3, min_one_batch=True).read()
    follower.append_as_follower(records, NOW, leader_epoch=4)
    assert follower.log_end_offset == 2
    assert follower.leader_epochs.entries() == [(4, 0)]


def test_what_the_leaders_compaction_left_out_is_no_loss_after_a_crash() -> None:
    """Two batches with a hole between them in two segments, never flushed, and the process is killed."""
    host = KeepingHost(new_disk())
    log = new_log(host, segment_bytes=300)
    for base_offset in (0, 57, 59, 2**31 + 100, 2**32 + 200):
        log.append_as_follower(memoryview(batch(2, size=100, base_offset=base_offset)), NOW)
    assert log.log_end_offset == 2**32 + 202
    bases = [header.base_offset for header in read_all(log)]
    again = reopen(log, clean=False, recovery_point=0)
    assert [header.base_offset for header in read_all(again)] == bases
    assert again.log_end_offset == log.log_end_offset


def test_what_the_leaders_compaction_left_out_at_the_beginning_is_not_deleted_after_a_restart() -> None:
    """Whoever reads from the beginning would be told that there is nothing any more."""
    host = KeepingHost(new_disk())
    log = new_log(host)
    log.append_as_follower(memoryview(batch(2, base_offset=57)), NOW)
    again = reopen(log, clean=True)
    assert (again.log_start_offset, again.log_end_offset) == (0, 59)
