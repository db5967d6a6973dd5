import errno
from random import Random

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import batches, parse_header
from ottla.records.record import Record, build_batch
from ottla.records.validation import AppendOrigin
from ottla.server.log.loader import LoadRequest, load_log
from ottla.server.log.log import Log
from tests.server.log.support import (
    DIRECTORY,
    EPOCH,
    NOW,
    PARTITION,
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


def code_of(function, *arguments, **options):
    with pytest.raises(ApiError) as raised:
        function(*arguments, **options)
    return raised.value.code


def sizes(log: Log, *, start=0, max_bytes=1 << 30, upper_bound=None, min_one_batch=True):
    bound = log.log_end_offset if upper_bound is None else upper_bound
    found = log.read(start, max_bytes, upper_bound=bound, min_one_batch=min_one_batch)
    data = found.read_cached()
    assert bytes(data) == found.read()
    assert len(data) == found.size
    return len(data), [header.base_offset for _, header in batches(data)]


# Appending


def test_a_log_that_was_never_written_to_is_an_empty_directory():
    host = KeepingHost(new_disk())
    log = new_log(host)
    assert host.disk.list_directory(DIRECTORY) == ["partition.metadata"]
    assert (log.log_start_offset, log.log_end_offset, log.size_in_bytes) == (0, 0, 0)
    assert sizes(log) == (0, [])
    assert log.offset_for_timestamp(0) is None
    assert log.offset_of_max_timestamp() is None
    assert len(host.open_files) == 0
    assert log.delete_old_segments(NOW) == 0
    again = reopen(log)
    assert again.topic_id == TOPIC_ID
    assert host.disk.list_directory(DIRECTORY) == ["partition.metadata"]


def test_offsets_and_epoch_are_written_into_the_batch():
    log = new_log()
    append(log, 3)
    result = append(log, 2, leader_epoch=9)
    assert (result.base_offset, result.last_offset, result.log_append_time_ms, result.duplicate) == (3, 4, -1, False)
    headers = read_all(log)
    assert [(header.base_offset, header.partition_leader_epoch) for header in headers] == [(0, EPOCH), (3, 9)]
    assert log.leader_epochs.entries() == [(EPOCH, 0), (9, 3)]
    assert log.end_offset_for_epoch(EPOCH) == (EPOCH, 3)
    assert log.end_offset_for_epoch(9) == (9, 5)
    assert log.epoch_for_offset(4) == 9


def test_log_append_time_is_stamped_and_reported():
    log = new_log(message_timestamp_type="LogAppendTime")
    result = append(log, 2, timestamp=5, now_ms=NOW + 7)
    assert result.log_append_time_ms == NOW + 7
    assert read_all(log)[0].max_timestamp == NOW + 7


def test_a_batch_that_is_repeated_gets_its_original_offset():
    log = new_log()
    first = append(log, 2, producer=(7, 0, 0))
    append(log, 2, producer=(7, 0, 2))
    again = append(log, 2, producer=(7, 0, 0))
    assert again.duplicate
    assert (again.base_offset, again.last_offset) == (first.base_offset, first.last_offset)
    assert log.log_end_offset == 4


@pytest.mark.parametrize(
    ("records", "settings", "code"),
    [
        (batch(size=3000), {"max_message_bytes": 1000}, ErrorCode.MESSAGE_TOO_LARGE),
        (batch(size=3000), {"segment_bytes": 1000}, ErrorCode.RECORD_LIST_TOO_LARGE),
        (batch()[:-1], {}, ErrorCode.INVALID_RECORD),
        (batch()[:-1] + b"?", {}, ErrorCode.CORRUPT_MESSAGE),
        (batch() + batch(), {}, ErrorCode.INVALID_RECORD),
        (batch(control=True), {}, ErrorCode.INVALID_RECORD),
        (batch(timestamp=NOW + 10**9), {}, ErrorCode.INVALID_TIMESTAMP),
    ],
)
def test_what_is_refused_leaves_no_trace(records, settings, code):
    host = KeepingHost(new_disk())
    log = new_log(host, **settings)
    assert code_of(log.append_as_leader, bytearray(records), EPOCH, NOW) is code
    assert log.log_end_offset == 0
    assert host.disk.list_directory(DIRECTORY) == ["partition.metadata"]


def test_the_metadata_quorum_appends_control_batches_with_its_epoch():
    log = new_log()
    records = batch(control=True) + batch(3)
    result = log.append_as_leader(records, 6, NOW, origin=AppendOrigin.RAFT_LEADER)
    assert (result.base_offset, result.last_offset) == (0, 3)
    assert [header.partition_leader_epoch for header in read_all(log)] == [6, 6]


def test_several_batches_are_written_all_or_not_at_all():
    log = new_log(max_message_bytes=500)
    append(log)
    records = batch(2) + batch(1, size=2000)
    assert (
        code_of(log.append_as_leader, records, 6, NOW, origin=AppendOrigin.COORDINATOR) is ErrorCode.MESSAGE_TOO_LARGE
    )
    assert log.log_end_offset == 1
    assert len(read_all(log)) == 1
    log.check_invariants()


def test_a_follower_keeps_offsets_and_leaves_out_what_is_cut_off():
    log = new_log()
    first = build_batch([Record(timestamp_ms=NOW, value=b"a")] * 2, base_offset=10, leader_epoch=3)
    second = build_batch([Record(timestamp_ms=NOW, value=b"b")], base_offset=15, leader_epoch=5)
    log.truncate_fully_and_start_at(10)
    result = log.append_as_follower(first + second[:-1])
    assert (result.base_offset, result.last_offset) == (10, 11)
    log.append_as_follower(bytes(second))
    assert [header.base_offset for header in read_all(log)] == [10, 15]
    assert log.leader_epochs.entries() == [(3, 10), (5, 15)]
    assert code_of(log.append_as_follower, bytes(first)) is ErrorCode.OFFSET_OUT_OF_RANGE


# Rolling


def bases(log: Log) -> list[int]:
    return [segment.base_offset for segment in log.segments]


def test_roll_by_size():
    log = new_log(segment_bytes=250)
    for _ in range(6):
        append(log, size=20)
    assert bases(log) == [0, 2, 4]
    assert all(segment.size <= 250 for segment in log.segments)


def test_roll_by_age_follows_the_records():
    log = new_log(segment_ms=1000)
    for timestamp in (5000, 5500, 6000, 6001, 4000):
        append(log, timestamp=timestamp, now_ms=6001)
    assert bases(log) == [0, 3]


def test_roll_by_age_follows_the_clock_without_timestamps():
    log = new_log(segment_ms=1000)
    for now_ms in (5000, 6000, 6001):
        append(log, timestamp=-1, now_ms=now_ms)
    assert bases(log) == [0, 2]


def test_compacted_topics_roll_within_their_maximum_lag():
    log = new_log(segment_ms=10_000, max_compaction_lag_ms=1000, cleanup_policy=("compact",))
    for timestamp in (5000, 6001):
        append(log, timestamp=timestamp, now_ms=6001)
    assert bases(log) == [0, 1]


def test_roll_when_an_index_is_full():
    log = new_log(index_interval_bytes=1, segment_index_bytes=40)
    for number in range(12):
        append(log, timestamp=NOW + number)
    assert bases(log) == [0, 3, 6, 9]
    for segment in log.segments[:-1]:
        assert segment.time_index.entries * 12 <= 40


def test_roll_when_the_relative_offset_would_be_too_large():
    log = new_log()
    append(log)
    log.append_as_follower(build_batch([Record(timestamp_ms=NOW)], base_offset=2**31))
    assert bases(log) == [0, 2**31]


def test_a_roll_takes_a_producer_snapshot_and_asks_for_a_flush():
    host = KeepingHost(new_disk())
    log = new_log(host, segment_bytes=250)
    for sequence in range(3):
        append(log, size=20, producer=(7, 0, sequence))
    assert log.snapshots.offsets == [2]
    assert host.to_flush == [log]
    assert log.recovery_point == 0
    log.flush()
    assert log.recovery_point == 3


def test_changed_settings_hold_from_the_next_append_on():
    log = new_log()
    append(log)
    log.update_config(type(log.config)(segment_bytes=100))
    append(log)
    assert bases(log) == [0, 1]


# Reading


def test_reads_begin_with_the_batch_that_holds_the_offset():
    log = new_log()
    for _ in range(3):
        append(log, 5)
    for offset in range(15):
        assert sizes(log, start=offset)[1] == [5 * number for number in range(offset // 5, 3)]


def test_reads_end_at_the_upper_bound():
    log = new_log()
    for _ in range(3):
        append(log, 5)
    assert sizes(log, upper_bound=10)[1] == [0, 5]
    assert sizes(log, start=7, upper_bound=10)[1] == [5]
    assert sizes(log, start=10, upper_bound=10) == (0, [])
    assert sizes(log, start=12, upper_bound=10) == (0, [])


def test_the_first_batch_is_whole_or_not_there():
    log = new_log()
    append(log, 5)
    append(log, 5)
    size = len(batch(5))
    assert sizes(log, max_bytes=1) == (size, [0])
    assert sizes(log, max_bytes=1, min_one_batch=False) == (0, [])
    assert sizes(log, max_bytes=size, min_one_batch=False) == (size, [0])
    assert sizes(log, max_bytes=size + 20) == (size + 20, [0])


def test_offsets_outside_are_out_of_range():
    log = new_log()
    append(log, 5)
    assert code_of(log.read, 6, 1, upper_bound=5, min_one_batch=True) is ErrorCode.OFFSET_OUT_OF_RANGE
    assert code_of(log.read, -1, 1, upper_bound=5, min_one_batch=True) is ErrorCode.OFFSET_OUT_OF_RANGE
    assert sizes(log, start=5) == (0, [])
    log.delete_records_before(3)
    assert code_of(log.read, 2, 1, upper_bound=5, min_one_batch=True) is ErrorCode.OFFSET_OUT_OF_RANGE


def test_cold_reads_are_left_to_a_worker():
    host = KeepingHost(new_disk())
    log = new_log(host, segment_bytes=2000, index_interval_bytes=100)
    for _ in range(60):
        append(log, 2)
    log = reopen(log)
    host.disk.is_cold = True
    for offset in range(0, 120, 7):
        for bound in (120, 100, offset + 1):
            if offset >= bound:
                continue
            found = log.read(offset, 500, upper_bound=bound, min_one_batch=True)
            assert found.read_cached() is None
            cold = found.read()
            host.disk.is_cold = False
            warm = log.read(offset, 500, upper_bound=bound, min_one_batch=True)
            assert bytes(warm.read_cached()) == cold
            assert warm.size == found.size == len(cold)
            host.disk.is_cold = True


def test_reads_of_a_deleted_segment_go_on_until_its_files_are_removed():
    host = KeepingHost(new_disk())
    log = new_log(host, segment_bytes=250, retention_ms=10)
    for _ in range(5):
        append(log, size=20)
    found = log.read(0, 100, upper_bound=5, min_one_batch=True)
    expected = bytes(found.read_cached())
    assert log.delete_old_segments(NOW + 1000) == 3
    assert found.read() == expected
    assert all(path.endswith(".deleted") for path in host.doomed)
    host.delete_now()
    assert not any(name.endswith(".deleted") for name in host.disk.list_directory(DIRECTORY))


def test_open_files_are_bounded():
    host = KeepingHost(new_disk())
    host.open_files.limit = 4
    log = new_log(host, segment_bytes=100)
    for _ in range(20):
        append(log)
    for offset in range(20):
        assert sizes(log, start=offset)[1] == [offset]
    assert sum(segment.file.is_open for segment in log.segments) <= 4


# Times


def test_offset_for_timestamp_is_exact_to_the_record():
    log = new_log(segment_bytes=600, index_interval_bytes=100)
    expected = []
    offset = 0
    for number in range(40):
        times = [1000 + 10 * number, 1000 + 10 * number + 7, 1000 + 10 * number - 3]
        records = [Record(timestamp_ms=time, value=b"x") for time in times]
        log.append_as_leader(build_batch(records), EPOCH, NOW)
        expected += [(time, offset + index) for index, time in enumerate(times)]
        offset += 3
    assert len(log.segments) > 5
    for log_now in (log, reopen(log)):
        for target in range(990, 1405, 3):
            wanted = next(((time, at, EPOCH) for time, at in expected if time >= target), None)
            assert log_now.offset_for_timestamp(target) == wanted
        best = max(expected, key=lambda item: item[0])
        assert log_now.offset_of_max_timestamp() == (*best, EPOCH)


def test_offset_for_timestamp_respects_the_log_start():
    log = new_log()
    append(log, 5, timestamp=100)
    log.delete_records_before(3)
    assert log.offset_for_timestamp(50) == (100, 3, EPOCH)


def test_offset_for_timestamp_with_log_append_time():
    log = new_log(message_timestamp_type="LogAppendTime")
    append(log, 3, timestamp=100, now_ms=500)
    append(log, 3, timestamp=50, now_ms=600)
    assert log.offset_for_timestamp(501) == (600, 3, EPOCH)
    assert log.offset_of_max_timestamp() == (600, 3, EPOCH)


# Transactions


def test_the_stable_offset_stays_before_an_open_transaction():
    log = new_log()
    append(log, 2)
    append(log, 2, producer=(7, 0, 0), transactional=True)
    append(log, 2)
    assert (log.high_watermark, log.last_stable_offset) == (6, 2)
    end_transaction(log, 7, 0, is_commit=True, commit=False)
    assert log.last_stable_offset == 2
    log.advance_high_watermark(7)
    assert log.last_stable_offset == 7


def test_aborted_transactions_are_found_by_range_also_after_a_restart():
    log = new_log(segment_bytes=400)
    append(log, 2, producer=(7, 0, 0), transactional=True)
    append(log, 2, producer=(8, 0, 0), transactional=True)
    append(log, 2, size=100)
    end_transaction(log, 7, 0, is_commit=False)
    append(log, 2, size=100)
    end_transaction(log, 8, 0, is_commit=True)
    append(log, 2, producer=(7, 0, 2), transactional=True)
    append(log, 2, size=100)
    end_transaction(log, 7, 0, is_commit=False)
    assert len(log.segments) >= 3
    for clean in (True, False):
        found = [(item.producer_id, item.first_offset, item.last_offset) for item in log.aborted_transactions(0, 100)]
        assert found == [(7, 0, 6), (7, 10, 14)]
        assert [item.first_offset for item in log.aborted_transactions(7, 10)] == []
        assert [item.first_offset for item in log.aborted_transactions(3, 5)] == [0]
        assert log.last_stable_offset == log.log_end_offset
        log = reopen(log, clean=clean, recovery_point=0)


def test_a_cut_transaction_index_of_a_closed_segment_is_made_again_at_a_clean_start():
    log = new_log()
    append(log, 2, producer=(7, 0, 0), transactional=True)
    end_transaction(log, 7, 0, is_commit=False)
    log.roll(NOW)
    append(log)
    disk, name = log.disk, log.segments[0].transaction_index.path
    log.flush()
    content = disk.read(name)
    assert len(content) == 34
    task = log.prepare_close()
    assert task is not None
    task.run()
    log.close()
    disk.replace(name, content[:-1])
    again = reopen(log)
    assert [item.first_offset for item in again.aborted_transactions(0, 100)] == [0]
    assert disk.read(name) == content


def test_a_transaction_index_that_can_not_be_read_refuses_its_own_partition_only():
    log = new_log()
    append(log, 2, producer=(7, 0, 0), transactional=True)
    end_transaction(log, 7, 0, is_commit=False)
    log.roll(NOW)
    append(log)
    log = reopen(log, clean=True)
    log.disk.fail_at(1, 5, operations={"open"}, path_part=".txnindex")
    with pytest.raises(ApiError) as refused:
        log.aborted_transactions(0, 100)
    assert refused.value.code is ErrorCode.KAFKA_STORAGE_ERROR


def test_an_abort_whose_index_can_not_be_written_is_known_to_readers_of_the_failed_directory():
    log = new_log()
    append(log, 2, producer=(7, 0, 0), transactional=True)
    log.disk.fail_at(1, 5, operations={"append"}, path_part=".txnindex")
    with pytest.raises(ApiError):
        end_transaction(log, 7, 0, is_commit=False, commit=False)
    log.advance_high_watermark(log.log_end_offset)
    assert log.last_stable_offset == 3
    assert [item.first_offset for item in log.aborted_transactions(0, 100)] == [0]


@pytest.mark.parametrize("clean", [True, False])
def test_open_transactions_and_sequences_survive_a_restart(clean):
    log = new_log(segment_bytes=300)
    append(log, 2, producer=(7, 0, 0), transactional=True)
    for sequence in range(0, 10, 2):
        append(log, 2, producer=(8, 3, sequence))
    log = reopen(log, clean=clean, recovery_point=0)
    assert log.last_stable_offset == 0
    assert append(log, 2, producer=(8, 3, 8)).duplicate
    assert code_of(append, log, 2, producer=(8, 3, 12)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert code_of(append, log, 2, producer=(8, 2, 0)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert not append(log, 2, producer=(8, 3, 10)).duplicate
    end_transaction(log, 7, 0, is_commit=True)
    assert log.last_stable_offset == log.log_end_offset


@pytest.mark.parametrize("segment_bytes", [300, 1_000_000])
@pytest.mark.parametrize("between", [0, 40])
def test_what_was_in_flight_at_an_orderly_restart_can_be_repeated(segment_bytes, between):
    """A snapshot keeps the last batch of a producer only, and the producer repeats all it has not heard of."""
    log = new_log(segment_bytes=segment_bytes, index_interval_bytes=200)
    first = {}
    for sequence in range(0, 14, 2):
        first[sequence] = append(log, 2, producer=(8, 3, sequence)).base_offset
        for other in range(between):
            append(log, 1, producer=(9, 0, (sequence // 2) * between + other))
    log = reopen(log)
    assert not append(log, 2, producer=(8, 3, 14)).duplicate
    for sequence in (6, 8, 10, 12):
        again = append(log, 2, producer=(8, 3, sequence))
        assert again.duplicate
        assert again.base_offset == first[sequence]
    assert append(log, 2, producer=(8, 3, 14)).duplicate
    # More than five are never in flight.
    assert code_of(append, log, 2, producer=(8, 3, 4)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert code_of(append, log, 2, producer=(8, 3, 18)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert not append(log, 2, producer=(8, 3, 16)).duplicate


def test_old_markers_are_refused():
    log = new_log()
    append(log, 1, producer=(7, 5, 0), transactional=True)
    assert code_of(end_transaction, log, 7, 4, is_commit=True) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert (
        code_of(end_transaction, log, 7, 5, is_commit=True, transaction_version=2) is ErrorCode.INVALID_PRODUCER_EPOCH
    )
    end_transaction(log, 7, 6, is_commit=True, transaction_version=2)
    end_transaction(log, 7, 6, is_commit=True, transaction_version=2)
    assert log.last_stable_offset == log.log_end_offset


def test_producers_are_described_and_expire():
    log = new_log()
    append(log, 2, producer=(7, 5, 0))
    (producer,) = log.producers()
    assert (producer.producer_id, producer.producer_epoch, producer.last_sequence) == (7, 5, 1)
    assert log.remove_expired_producers(NOW + 86_400_000) == 1
    assert log.producers() == []


# Retention


def test_retention_by_time_rolls_and_deletes_even_the_active_segment():
    host = KeepingHost(new_disk())
    log = new_log(host, segment_bytes=250, retention_ms=1000)
    for number in range(5):
        append(log, size=20, timestamp=NOW + number)
    assert log.delete_old_segments(NOW + 1000) == 0
    assert log.delete_old_segments(NOW + 1002) == 1
    assert (log.log_start_offset, bases(log)) == (2, [2, 4])
    assert log.delete_old_segments(NOW + 1005) == 2
    assert (log.log_start_offset, log.log_end_offset, bases(log)) == (5, 5, [5])
    assert log.delete_old_segments(NOW + 10**6) == 0
    assert append(log).base_offset == 5
    assert reopen(log).log_start_offset == 5


def test_timestamps_in_the_future_keep_a_segment():
    log = new_log(retention_ms=1000)
    append(log, timestamp=NOW + 3_000_000)
    assert log.delete_old_segments(NOW + 2_000_000) == 0


def test_segments_without_timestamps_age_with_their_file():
    disk = new_disk()
    disk.now_ms = lambda: NOW
    log = new_log(KeepingHost(disk), retention_ms=1000)
    append(log, timestamp=-1)
    assert log.delete_old_segments(NOW + 1000) == 0
    assert log.delete_old_segments(NOW + 1001) == 1


def test_retention_by_size_keeps_at_least_that_much():
    log = new_log(segment_bytes=250, retention_bytes=400, retention_ms=-1)
    for _ in range(11):
        append(log, size=20)
    segment_size = log.segments[0].size
    total = log.size_in_bytes
    log.delete_old_segments(NOW)
    assert 400 <= log.size_in_bytes < 400 + segment_size
    assert (total - log.size_in_bytes) % segment_size == 0


def test_nothing_above_the_high_watermark_is_deleted():
    log = new_log(segment_bytes=250, retention_ms=1)
    for _ in range(5):
        append(log, size=20, commit=False)
    log.advance_high_watermark(3)
    assert log.delete_old_segments(NOW + 10**6) == 1
    assert log.log_start_offset == 2


def test_compacted_logs_only_lose_what_is_below_the_log_start():
    log = new_log(segment_bytes=250, retention_ms=1, cleanup_policy=("compact",))
    for _ in range(5):
        append(log, size=20)
    assert log.delete_old_segments(NOW + 10**6) == 0
    log.delete_records_before(3)
    assert log.delete_old_segments(NOW + 10**6) == 1
    assert (log.log_start_offset, bases(log)) == (3, [2, 4])


def test_records_are_deleted_up_to_the_high_watermark():
    log = new_log()
    append(log, 5)
    append(log, 5, commit=False)
    assert code_of(log.delete_records_before, 6) is ErrorCode.OFFSET_OUT_OF_RANGE
    log.delete_records_before(4)
    log.delete_records_before(2)
    assert log.log_start_offset == 4
    assert log.leader_epochs.entries() == [(EPOCH, 4)]
    assert reopen(log).log_start_offset == 4


# Truncation


def test_truncation_takes_epochs_producers_and_transactions_back():
    host = KeepingHost(new_disk())
    log = new_log(host, segment_bytes=500, index_interval_bytes=50)
    for sequence in range(0, 8, 2):
        append(log, 2, producer=(7, 0, sequence))
    log.flush()
    append(log, 2, producer=(9, 0, 0), transactional=True, leader_epoch=EPOCH + 1)
    for sequence in range(8, 16, 2):
        append(log, 2, producer=(7, 0, sequence), leader_epoch=EPOCH + 1)
    log.truncate_to(8)
    log.check_invariants()
    assert (log.log_end_offset, log.high_watermark, log.last_stable_offset) == (8, 8, 8)
    assert log.leader_epochs.entries() == [(EPOCH, 0)]
    assert {entry.producer_id for entry in log.producers()} == {7}
    assert append(log, 2, producer=(7, 0, 8)).base_offset == 8
    assert log.offset_of_max_timestamp().offset == 0
    assert [header.base_offset for header in read_all(log)] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("offset", "end"), [(4, 3), (3, 3), (7, 6), (6, 6), (9, 9)])
def test_a_cut_within_a_batch_takes_all_of_it(offset, end):
    log = new_log(segment_bytes=200)
    for _ in range(3):
        append(log, 3, commit=False)
    log.truncate_to(offset)
    log.check_invariants()
    assert log.log_end_offset == end
    assert [header.base_offset for header in read_all(log)] == list(range(0, end, 3))
    assert append(log).base_offset == end


@pytest.mark.parametrize("is_fully", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_what_follows_a_cut_below_the_recovery_point_survives_with_its_epochs_or_not_at_all(seed, is_fully):
    disk = new_disk()
    log = new_log(KeepingHost(disk), segment_bytes=300)
    for _ in range(6):
        append(log, size=20)
    log.flush()
    checkpointed = log.recovery_point
    if is_fully:
        log.truncate_fully_and_start_at(2)
    else:
        log.truncate_to(2)
    for number in range(2):
        for _ in range(9):
            append(log, size=30, leader_epoch=EPOCH + 1 + number)
        disk.crash(Random(seed))
        request = LoadRequest(checkpointed, 0, 0, False)
        log = load_log(KeepingHost(disk), PARTITION, DIRECTORY, log.config, request, NOW)
        headers = read_all(log)
        offsets = [header.base_offset for header in headers]
        assert offsets == list(range(log.log_start_offset, log.log_end_offset))
        epochs: dict[int, int] = {}
        for header in headers:
            epochs.setdefault(header.partition_leader_epoch, header.base_offset)
        assert log.leader_epochs.entries() == sorted(epochs.items())


def test_truncation_below_the_first_segment_starts_anew():
    log = new_log()
    log.truncate_fully_and_start_at(100)
    append(log, 2)
    log.truncate_to(50)
    assert (log.log_start_offset, log.log_end_offset) == (50, 50)
    assert append(log).base_offset == 50
    again = reopen(log, clean=False, recovery_point=0)
    assert (again.log_start_offset, again.log_end_offset) == (50, 51)


def test_an_empty_log_remembers_where_it_goes_on():
    log = new_log()
    append(log, 3)
    log.truncate_fully_and_start_at(1000)
    for clean in (True, False):
        log = reopen(log, clean=clean)
        assert (log.log_start_offset, log.log_end_offset) == (1000, 1000)


# Failing disks


def test_a_full_disk_refuses_the_write_and_recovers():
    host = KeepingHost(new_disk())
    log = new_log(host)
    append(log, 2)
    before = host.disk.read(log.segments[0].file.path)
    host.disk.capacity_bytes = host.disk._used_bytes() + 50
    assert code_of(append, log, 2) is ErrorCode.KAFKA_STORAGE_ERROR
    assert host.failure is None
    assert host.disk.read(log.segments[0].file.path) == before
    assert sizes(log)[1] == [0]
    host.disk.capacity_bytes = None
    assert append(log, 2).base_offset == 2


def test_a_failing_disk_takes_the_directory_out_of_service_for_writes_only():
    host = KeepingHost(new_disk())
    log = new_log(host)
    append(log, 2)
    host.disk.fail_at(1, errno.EIO, operations=("append",))
    with pytest.raises(ApiError, match="/data/some-topic-3") as raised:
        append(log, 2)
    assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
    assert len(host.failures) == 1
    assert code_of(append, log, 2) is ErrorCode.KAFKA_STORAGE_ERROR
    assert sizes(log)[1] == [0]


def test_a_failed_fsync_flushes_nothing():
    host = KeepingHost(new_disk())
    log = new_log(host)
    append(log, 2)
    host.disk.fail_at(1, errno.EIO, operations=("sync",))
    with pytest.raises(OSError, match="some-topic-3"):
        log.flush()
    assert log.recovery_point == 0
    assert host.failure is not None


@pytest.mark.parametrize("number", range(1, 12))
def test_any_operation_of_an_append_may_fail_for_want_of_space(number):
    host = KeepingHost(new_disk())
    log = new_log(host, segment_bytes=250)
    for _ in range(2):
        append(log, size=20, producer=(7, 0, log.log_end_offset))
    host.disk.fail_at(number, errno.ENOSPC)
    code = None
    try:
        append(log, size=20, producer=(7, 0, 2))
    except ApiError as error:
        code = error.code
    failed = code is not None
    assert code in (None, ErrorCode.KAFKA_STORAGE_ERROR)
    host.disk.clear_faults()
    log.check_invariants()
    assert log.log_end_offset == (2 if failed else 3)
    assert append(log, size=20, producer=(7, 0, 2)).duplicate is not failed
    assert [header.base_offset for header in read_all(log)] == [0, 1, 2]
    assert [header.base_offset for header in read_all(reopen(log))] == [0, 1, 2]


# Flushing


def test_a_flush_covers_what_was_there_when_it_began():
    log = new_log(KeepingHost(new_disk()))
    append(log, 2)
    task = log.begin_flush()
    append(log, 2)
    task.run()
    log.complete_flush(task)
    assert log.recovery_point == 2
    assert log.begin_flush() is not None


def test_a_flush_that_was_overtaken_by_a_truncation_says_nothing():
    log = new_log(KeepingHost(new_disk()))
    append(log, 2)
    append(log, 2)
    task = log.begin_flush()
    log.truncate_to(2)
    append(log, 4)
    task.run()
    log.complete_flush(task)
    assert log.recovery_point == 0


def test_a_flush_survives_rolls_and_deletions():
    host = KeepingHost(new_disk())
    log = new_log(host, segment_bytes=250, retention_ms=1)
    for _ in range(5):
        append(log, size=20)
    task = log.begin_flush()
    append(log, size=20)
    log.delete_old_segments(NOW + 1000)
    host.delete_now()
    task.run()
    log.complete_flush(task)
    assert log.recovery_point == 5
    log.flush()
    assert log.recovery_point == 6


def test_flush_messages_asks_for_a_flush_in_time():
    host = KeepingHost(new_disk())
    log = new_log(host, flush_messages=3)
    assert [append(log).flush_pending for _ in range(3)] == [False, False, True]
    assert host.to_flush == [log]
    log.flush()
    assert [append(log).flush_pending for _ in range(3)] == [False, False, True]


def test_a_repeated_batch_waits_for_the_flush_that_the_first_one_asked_for():
    host = KeepingHost(new_disk())
    log = new_log(host, flush_messages=1)
    assert append(log, producer=(7, 0, 0)).flush_pending
    again = append(log, producer=(7, 0, 0))
    assert (again.duplicate, again.flush_pending) == (True, True)
    log.flush()
    again = append(log, producer=(7, 0, 0))
    assert (again.duplicate, again.flush_pending) == (True, False)


def test_flush_ms_is_due_after_its_time():
    log = new_log(KeepingHost(new_disk()), flush_ms=1000)
    append(log)
    assert not log.needs_flush(NOW)
    assert log.needs_flush(NOW + 1000)
    log.complete_flush(log.begin_flush(), NOW + 1000)
    assert not log.needs_flush(NOW + 5000)


def test_header_of_a_stored_batch_is_the_one_that_was_sent():
    log = new_log()
    sent = batch(3, producer=(7, 1, 0))
    wanted = parse_header(sent)._replace(partition_leader_epoch=EPOCH)
    log.append_as_leader(sent, EPOCH, NOW)
    assert read_all(log) == [wanted]
