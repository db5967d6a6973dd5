import errno

import pytest

from ottla.records.batch import HEADER_SIZE
from ottla.records.record import Record, build_batch
from ottla.runtime.disk import DiskError
from ottla.server.log.errors import LogError
from ottla.server.log.files import offset_name
from tests.server.log.support import (
    DIRECTORY,
    EPOCH,
    NOW,
    TOPIC_ID,
    KeepingHost,
    append,
    batch,
    end_transaction,
    new_disk,
    new_log,
    read_all,
    reopen,
)


def path(offset, suffix=".log"):
    return f"{DIRECTORY}/{offset_name(offset, suffix)}"


def put(disk, name, data):
    file = disk.open(name, create=True)
    file.truncate(0)
    file.append(data)
    file.close()


def offsets(log):
    return [header.base_offset for header in read_all(log)]


@pytest.fixture
def small_log():
    """Three batches of two records, the producer's sequences and an aborted transaction in them."""
    log = new_log(KeepingHost(new_disk()), index_interval_bytes=1)
    append(log, 2, producer=(7, 0, 0), transactional=True)
    end_transaction(log, 7, 0, is_commit=False)
    append(log, 2, producer=(7, 0, 2))
    return log


def test_a_log_cut_at_any_byte_is_recovered_to_its_last_whole_batch(small_log):
    disk = small_log._host.disk
    small_log.prepare_close()
    whole = disk.read(path(0))
    ends = [header.size_in_bytes for header in read_all(small_log)]
    ends = [sum(ends[: index + 1]) for index in range(len(ends))]
    for size in range(len(whole) + 1):
        put(disk, path(0), whole[:size])
        log = reopen(small_log, clean=False, recovery_point=0)
        kept = sum(end <= size for end in ends)
        assert offsets(log) == [0, 2, 3][:kept]
        assert log.log_end_offset == [0, 2, 3, 5][kept]
        assert disk.size(path(0)) == ([0] + ends)[kept]
        assert len(log.aborted_transactions(0, 10)) == (kept >= 2)
        assert (log.last_stable_offset == 0) == (kept <= 1)
        assert {entry.producer_id: entry.last_sequence for entry in log.producers()} == (
            {} if kept == 0 else {7: 1} if kept < 3 else {7: 3}
        )
        assert log.leader_epochs.entries() == ([(EPOCH, 0)] if kept else [])
        log.check_invariants()
        log.close()


def test_a_changed_byte_anywhere_in_the_last_batch_drops_it(small_log):
    disk = small_log._host.disk
    whole = disk.read(path(0))
    start = len(whole) - len(batch(2, producer=(7, 0, 2)))
    outside_crc = {*range(start + 12, start + 16)}  # the partition leader epoch
    for position in range(start, len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 0x55
        put(disk, path(0), bytes(broken))
        log = reopen(small_log, clean=False, recovery_point=0)
        if position in outside_crc:
            assert offsets(log) == [0, 2, 3]
        elif position < start + 8:
            assert offsets(log)[:2] == [0, 2]  # another base offset: smaller ones are refused, larger ones a gap
        else:
            assert offsets(log) == [0, 2]
        log.check_invariants()
        log.close()


@pytest.mark.parametrize("tail", [bytes(1), bytes(HEADER_SIZE), bytes(5000), b"\xff" * 100, b"garbage" * 30])
def test_what_is_no_batch_at_the_end_is_cut_off(small_log, tail):
    disk = small_log._host.disk
    whole = disk.read(path(0))
    put(disk, path(0), whole + tail)
    log = reopen(small_log, clean=False, recovery_point=0)
    assert offsets(log) == [0, 2, 3]
    assert disk.read(path(0)) == whole
    assert append(log, 2, producer=(7, 0, 4)).base_offset == 5


def test_batches_must_follow_each_other(small_log):
    disk = small_log._host.disk
    whole = disk.read(path(0))
    put(disk, path(0), whole + build_batch([Record()], base_offset=4, leader_epoch=EPOCH))
    assert offsets(reopen(small_log, clean=False, recovery_point=0)) == [0, 2, 3]


def segmented_log(**settings):
    log = new_log(KeepingHost(new_disk()), segment_bytes=250, index_interval_bytes=1, **settings)
    for sequence in range(8):
        append(log, size=20, producer=(7, 0, sequence), timestamp=NOW + sequence)
    assert [segment.base_offset for segment in log.segments] == [0, 2, 4, 6]
    return log


def test_segments_after_a_bad_batch_go():
    log = segmented_log()
    disk = log._host.disk
    broken = bytearray(disk.read(path(4)))
    broken[-1] ^= 1
    put(disk, path(4), bytes(broken))
    log = reopen(log, clean=False, recovery_point=0)
    assert offsets(log) == [0, 1, 2, 3, 4]
    assert not disk.exists(path(6))
    assert append(log, producer=(7, 0, 5)).base_offset == 5
    assert log.snapshots.latest == 5


def test_segments_below_the_recovery_point_are_believed():
    log = segmented_log()
    log.flush()
    disk = log._host.disk
    broken = bytearray(disk.read(path(0)))
    broken[-1] ^= 1
    put(disk, path(0), bytes(broken))
    log = reopen(log, clean=False, recovery_point=6)
    assert offsets(log) == list(range(8))


def test_recovery_makes_the_same_indexes_as_appending():
    log = segmented_log()
    disk = log._host.disk
    task = log.prepare_close()
    task.run()
    names = [name for name in disk.list_directory(DIRECTORY) if name.endswith(("index", ".snapshot", "checkpoint"))]
    assert len(names) == 4 * 2 + 3 + 1 + 1
    expected = {name: disk.read(f"{DIRECTORY}/{name}") for name in names}
    for name in names:
        disk.remove(f"{DIRECTORY}/{name}")
    reopen(log, clean=False, recovery_point=0).prepare_close()
    assert {name: disk.read(f"{DIRECTORY}/{name}") for name in names} == expected


@pytest.mark.parametrize("damage", ["missing", "cut", "zeros", "beyond"])
@pytest.mark.parametrize("offset", [0, 2, 6])
def test_indexes_of_a_clean_log_are_rebuilt_when_they_can_not_be_right(damage, offset):
    log = segmented_log()
    disk = log._host.disk
    task = log.prepare_close()
    task.run()
    index = disk.read(path(offset, ".index"))
    assert index
    match damage:
        case "missing":
            disk.remove(path(offset, ".index"))
        case "cut":
            put(disk, path(offset, ".index"), index[:-1])
        case "zeros":
            put(disk, path(offset, ".index"), bytes(16))
        case _:
            put(disk, path(offset, ".index"), index[:4] + b"\x7f\0\0\0")
    again = reopen(log)
    assert offsets(again) == list(range(8))
    for start in range(8):
        assert read_all(again, start=start)[0].base_offset == start
    assert again.offset_for_timestamp(NOW + 5) == (NOW + 5, 5, EPOCH)


def test_indexes_without_records_go():
    log = segmented_log()
    disk = log._host.disk
    put(disk, path(77, ".index"), bytes(8))
    put(disk, path(77, ".txnindex"), bytes(34))
    reopen(log)
    assert not disk.exists(path(77, ".index"))
    assert not disk.exists(path(77, ".txnindex"))


def test_deleted_and_unfinished_files_are_removed():
    log = segmented_log()
    disk = log._host.disk
    for name in (path(0) + ".deleted", path(0, ".snapshot") + ".deleted", path(2) + ".cleaned", f"{DIRECTORY}/x.tmp"):
        put(disk, name, b"whatever")
    # A swap above the unfinished file belongs to the same interrupted work.
    put(disk, path(4) + ".swap", b"whatever")
    log = reopen(log)
    assert offsets(log) == list(range(8))
    assert not [name for name in disk.list_directory(DIRECTORY) if name.endswith(("ed", ".tmp", ".swap"))]


def test_an_interrupted_swap_is_finished():
    log = segmented_log()
    disk = log._host.disk
    log.prepare_close()
    # The cleaner has made one segment, 2 and 5 kept, out of those at 2 and 4.
    swapped = build_batch([Record(timestamp_ms=NOW)], base_offset=2, leader_epoch=EPOCH)
    swapped += build_batch([Record(timestamp_ms=NOW)], base_offset=5, leader_epoch=EPOCH)
    put(disk, path(2) + ".swap", bytes(swapped))
    put(disk, path(2, ".index") + ".swap", b"")
    put(disk, path(2, ".timeindex") + ".swap", b"")
    for clean in (True, False):
        log = reopen(log, clean=clean)
        assert [segment.base_offset for segment in log.segments] == [0, 2, 6]
        assert offsets(log) == [0, 1, 2, 5, 6, 7]


def test_lost_leader_epochs_are_learned_from_the_batches():
    log = segmented_log()
    append(log, leader_epoch=EPOCH + 3)
    log.flush()
    disk = log._host.disk
    for content in (b"", bytes(12), b"0\n9\n"):
        put(disk, f"{DIRECTORY}/leader-epoch-checkpoint", content)
        again = reopen(log, clean=False, recovery_point=8)
        assert again.leader_epochs.entries() == [(EPOCH, 0), (EPOCH + 3, 8)]
        again.close()


def test_an_epoch_checkpoint_torn_in_a_crash_that_took_all_records_does_not_stop_a_later_start():
    log = new_log()
    append(log)
    disk = log.disk
    log.close()
    put(disk, path(0), b"")
    put(disk, f"{DIRECTORY}/leader-epoch-checkpoint", b"0\n1\n5 ")
    log = reopen(log, clean=False, recovery_point=0)
    assert log.log_end_offset == 0
    log = reopen(log, clean=True)
    assert log.leader_epochs.entries() == []


def test_a_corrupt_epoch_checkpoint_of_a_clean_log_is_named():
    log = segmented_log()
    log.prepare_close()
    put(log._host.disk, f"{DIRECTORY}/leader-epoch-checkpoint", b"nonsense")
    with pytest.raises(LogError, match="leader-epoch-checkpoint"):
        reopen(log)


def test_corrupt_snapshots_are_skipped():
    log = segmented_log()
    disk = log._host.disk
    task = log.prepare_close()
    task.run()
    for offset in (8, 6):
        put(disk, path(offset, ".snapshot"), b"broken")
    log = reopen(log)
    assert append(log, producer=(7, 0, 7)).duplicate
    assert not append(log, producer=(7, 0, 8)).duplicate


def test_snapshots_of_a_deleted_past_go():
    log = segmented_log(retention_bytes=300)
    assert log.snapshots.offsets == [2, 4, 6]
    log.delete_old_segments(NOW)
    log._host.delete_now()
    assert log.snapshots.offsets == [4, 6]
    log = reopen(log)
    # The one at the log start says nothing about records that are still there.
    assert log.snapshots.offsets == [6, 8]
    assert log.log_start_offset == 4


def test_a_lost_end_below_the_log_start_begins_anew_there():
    log = segmented_log()
    log.delete_records_before(7)
    disk = log._host.disk
    for base in (4, 6):
        for suffix in (".log", ".index", ".timeindex", ".snapshot"):
            if disk.exists(path(base, suffix)):
                disk.remove(path(base, suffix))
    log = reopen(log, clean=False, recovery_point=0)
    assert (log.log_start_offset, log.log_end_offset, offsets(log)) == (7, 7, [])
    assert append(log).base_offset == 7


def test_metadata_lost_in_a_crash_is_assigned_again():
    log = segmented_log()
    disk = log._host.disk
    put(disk, f"{DIRECTORY}/partition.metadata", b"")
    log = reopen(log, clean=False)
    assert log.topic_id == bytes(16)
    log.assign_topic_id(TOPIC_ID)
    assert reopen(log).topic_id == TOPIC_ID


def test_the_high_watermark_comes_from_its_checkpoint():
    log = segmented_log()
    assert reopen(log, high_watermark=5).high_watermark == 5
    assert reopen(log, high_watermark=50).high_watermark == 8


def test_a_clean_log_costs_no_scan():
    log = segmented_log()
    host = log._host
    log.prepare_close().run()
    # Everything but the headers behind the last index entry may be unreadable.
    for base in (0, 2, 4):
        put(host.disk, path(base), b"x" * host.disk.size(path(base)))
    again = reopen(log)
    assert again.log_end_offset == 8
    assert len(host.open_files) <= 1
    assert not any(segment.file.is_open for segment in again.segments)


@pytest.mark.parametrize("number", range(1, 60, 4))
def test_every_error_while_loading_comes_out_as_one(number):
    log = segmented_log()
    log._host.disk.fail_at(number, errno.EIO)
    try:
        again = reopen(log, clean=False, recovery_point=0)
    except DiskError:
        log._host.disk.clear_faults()
        again = reopen(log, clean=False, recovery_point=0)
    assert offsets(again) == list(range(8))
