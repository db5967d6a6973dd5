import struct

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import parse_header
from ottla.records.control import end_transaction_marker
from ottla.records.record import Record, build_batch
from ottla.server.log.errors import CorruptSnapshotError
from ottla.server.log.producer_snapshot import SnapshotEntry, SnapshotFiles, decode_snapshot, encode_snapshot
from ottla.server.log.producer_state import EndTransactionMarker, ProducerState, read_marker
from ottla.server.log.verification import UNVERIFIED
from tests.server.log.support import new_disk

DAY = 86_400_000


def header(count=1, producer_id=7, epoch=0, sequence=0, *, offset=0, transactional=False, timestamp=100):
    records = [Record(timestamp_ms=timestamp, value=b"v")] * count
    return parse_header(
        build_batch(
            records,
            base_offset=offset,
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=sequence,
            transactional=transactional,
        )
    )


def marker(producer_id=7, epoch=0, *, offset=0, is_commit=True, coordinator_epoch=1):
    batch = end_transaction_marker(
        is_commit=is_commit,
        producer_id=producer_id,
        producer_epoch=epoch,
        coordinator_epoch=coordinator_epoch,
        timestamp_ms=100,
        base_offset=offset,
    )
    parsed = parse_header(batch)
    content = read_marker(batch, 0, parsed)
    assert content is not None
    return parsed, content


def code_of(function, *arguments, **options):
    with pytest.raises(ApiError) as raised:
        function(*arguments, **options)
    return raised.value.code


def check(state, batch):
    return state.check_batch(batch, UNVERIFIED)


def start_verification(state, *, epoch=0, sequence=0, transactions_v2=False, now_ms=0):
    return state.start_verification(7, epoch, sequence, transactions_v2=transactions_v2, now_ms=now_ms)


def test_any_sequence_is_fine_for_an_unknown_producer():
    assert check(ProducerState(), header(sequence=500)) is None


def test_a_transaction_of_version_2_starts_with_sequence_zero():
    state = ProducerState()
    verification = start_verification(state, sequence=5, transactions_v2=True)
    later = header(sequence=5, transactional=True)
    assert code_of(state.check_batch, later, verification) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert start_verification(state, transactions_v2=True) is verification
    assert state.check_batch(header(transactional=True), verification) is None


def test_the_last_five_batches_are_recognised_when_repeated():
    state = ProducerState()
    for number in range(7):
        state.append_batch(header(2, sequence=2 * number, offset=100 * number))
    for number in range(2, 7):
        duplicate = check(state, header(2, sequence=2 * number))
        assert (duplicate.base_offset, duplicate.last_offset) == (100 * number, 100 * number + 1)
    assert code_of(check, state, header(2, sequence=2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_repeated_part_of_a_batch_is_not_a_duplicate():
    state = ProducerState()
    state.append_batch(header(3, sequence=0))
    for count, sequence in [(2, 0), (2, 1), (4, 0)]:
        assert code_of(check, state, header(count, sequence=sequence)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER


def test_a_gap_is_refused():
    state = ProducerState()
    state.append_batch(header(sequence=0))
    assert code_of(check, state, header(sequence=2)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check(state, header(sequence=1)) is None


def test_sequences_wrap_after_the_largest_int32():
    state = ProducerState()
    state.append_batch(header(3, sequence=2**31 - 2))
    assert state.producers[7].last_sequence == 0
    assert check(state, header(sequence=1)) is None
    duplicate = check(state, header(3, sequence=2**31 - 2))
    assert duplicate.base_sequence == 2**31 - 2


def test_epochs_only_rise_and_begin_with_sequence_zero():
    state = ProducerState()
    state.append_batch(header(sequence=0, epoch=3))
    assert code_of(check, state, header(sequence=1, epoch=2)) is ErrorCode.INVALID_PRODUCER_EPOCH
    assert code_of(check, state, header(sequence=1, epoch=4)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check(state, header(sequence=0, epoch=4)) is None


def test_after_a_marker_with_a_new_epoch_sequences_begin_at_zero():
    state = ProducerState()
    state.append_batch(header(sequence=0, transactional=True))
    state.end_transaction(*marker(epoch=1, offset=1))
    assert code_of(check, state, header(sequence=1, epoch=1)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert check(state, header(sequence=0, epoch=1)) is None


def test_a_plain_batch_inside_a_transaction_is_refused():
    state = ProducerState()
    state.append_batch(header(sequence=0, transactional=True))
    assert code_of(check, state, header(sequence=1)) is ErrorCode.INVALID_TXN_STATE


def test_markers_of_old_epochs_and_old_coordinators_are_refused():
    state = ProducerState()
    state.append_batch(header(epoch=5, transactional=True))
    state.end_transaction(*marker(epoch=5, offset=1, coordinator_epoch=8))
    assert code_of(state.check_marker, *marker(epoch=4), 0) is ErrorCode.INVALID_PRODUCER_EPOCH
    old = marker(epoch=5, coordinator_epoch=7)
    assert code_of(state.check_marker, *old, 0) is ErrorCode.TRANSACTION_COORDINATOR_FENCED
    state.check_marker(*marker(epoch=5, coordinator_epoch=8), 0)


def test_only_a_verified_batch_begins_a_transaction():
    state = ProducerState()
    first = header(transactional=True)
    assert code_of(state.check_batch, first) is ErrorCode.INVALID_TXN_STATE
    assert code_of(state.check_commit, first, None) is ErrorCode.INVALID_TXN_STATE
    verification = start_verification(state)
    assert code_of(state.check_batch, first) is ErrorCode.INVALID_TXN_STATE
    assert state.check_batch(first, verification) is None
    state.append_batch(first)
    assert state.is_in_transaction(7, 0)
    assert not state.is_in_transaction(7, 1)
    assert start_verification(state) is None
    assert state.check_batch(header(sequence=1, transactional=True)) is None
    assert state.check_batch(first) is not None, "a repeated batch is answered whatever became of its transaction"
    state.end_transaction(*marker(offset=1))
    assert state.check_batch(first) is not None
    assert code_of(state.check_batch, header(sequence=1, transactional=True)) is ErrorCode.INVALID_TXN_STATE


def test_a_verification_that_comes_after_the_marker_is_worth_nothing():
    state = ProducerState()
    late = start_verification(state)
    state.end_transaction(*marker(offset=0))
    first = header(transactional=True)
    assert code_of(state.check_batch, first, late) is ErrorCode.INVALID_TXN_STATE
    again = start_verification(state)
    assert again is not late
    assert code_of(state.check_batch, first, late) is ErrorCode.INVALID_TXN_STATE
    assert state.check_batch(first, again) is None


def test_a_marker_of_version_2_leaves_the_verification_of_the_next_transaction():
    state = ProducerState()
    state.append_batch(header(transactional=True))
    following = start_verification(state, epoch=1, transactions_v2=True)
    state.end_transaction(*marker(epoch=1, offset=1))
    assert state.check_batch(header(epoch=1, transactional=True), following) is None
    state.end_transaction(*marker(epoch=2, offset=2))
    assert code_of(start_verification, state, epoch=1) is ErrorCode.INVALID_PRODUCER_EPOCH
    stale = code_of(state.check_batch, header(epoch=1, transactional=True), following)
    assert stale is ErrorCode.INVALID_PRODUCER_EPOCH


def test_a_batch_waits_for_the_one_before_it_that_could_not_be_verified():
    state = ProducerState()
    verification = start_verification(state, sequence=0)
    start_verification(state, sequence=3)
    code = code_of(state.check_batch, header(sequence=3, transactional=True), verification)
    assert code is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert state.check_batch(header(sequence=0, transactional=True), verification) is None


def test_verifications_nobody_made_use_of_expire():
    state = ProducerState()
    start_verification(state, now_ms=10)
    state.remove_expired(9 + DAY, DAY)
    assert state.verifications
    state.remove_expired(10 + DAY, DAY)
    assert not state.verifications


def test_version_2_markers_carry_a_higher_epoch_or_repeat_one():
    state = ProducerState()
    state.append_batch(header(epoch=5, transactional=True))
    assert code_of(state.check_marker, *marker(epoch=5), 2) is ErrorCode.INVALID_PRODUCER_EPOCH
    state.check_marker(*marker(epoch=6), 2)
    state.end_transaction(*marker(epoch=6, offset=1))
    state.check_marker(*marker(epoch=6), 2)


def test_open_transactions_hold_back_the_stable_offset_until_the_marker_is_replicated():
    state = ProducerState()
    state.append_batch(header(producer_id=1, offset=10, transactional=True))
    state.append_batch(header(producer_id=2, offset=11, transactional=True))
    assert state.first_unstable_offset() == 10
    completed = state.end_transaction(*marker(producer_id=1, offset=12, is_commit=False))
    assert (completed.first_offset, completed.last_offset, completed.is_aborted) == (10, 12, True)
    assert state.stable_offset_after(completed) == 11
    assert state.first_unstable_offset() == 10
    state.high_watermark_advanced(12)
    assert state.first_unstable_offset() == 10
    state.high_watermark_advanced(13)
    assert state.first_unstable_offset() == 11
    last = state.end_transaction(*marker(producer_id=2, offset=13))
    assert state.stable_offset_after(last) == 14
    state.high_watermark_advanced(14)
    assert state.first_unstable_offset() is None
    assert not state.holds_back_stable_offset


def test_a_marker_without_data_completes_nothing():
    state = ProducerState()
    assert state.end_transaction(*marker(offset=5)) is None
    assert not state.holds_back_stable_offset
    assert state.producers[7].producer_epoch == 0


def test_idle_producers_expire_unless_in_a_transaction():
    state = ProducerState()
    state.append_batch(header(producer_id=1, timestamp=1000))
    state.append_batch(header(producer_id=2, timestamp=1000, transactional=True))
    state.append_batch(header(producer_id=3, timestamp=2000))
    assert state.remove_expired(1000 + DAY, DAY) == 1
    assert set(state.producers) == {2, 3}


def test_snapshot_is_kafkas_bytes():
    entry = SnapshotEntry(7, 2, 11, 102, 2, 1_700_000_000_005, -1, -1)
    data = encode_snapshot([entry])
    body = struct.pack(">iqhiqiqiq", 1, 7, 2, 11, 102, 2, 1_700_000_000_005, -1, -1)
    assert data == struct.pack(">hI", 1, crc32c(body)) + body
    assert len(data) == 10 + 46
    assert decode_snapshot(data) == [entry]


def test_every_damage_to_a_snapshot_is_noticed():
    data = encode_snapshot([SnapshotEntry(7, 2, 11, 102, 2, 5, -1, 40)])
    for size in range(len(data)):
        with pytest.raises(CorruptSnapshotError):
            decode_snapshot(data[:size])
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 0x41
        with pytest.raises(CorruptSnapshotError):
            decode_snapshot(bytes(broken))


def test_restored_state_knows_the_last_batch_and_open_transactions_in_order():
    state = ProducerState()
    state.append_batch(header(2, producer_id=1, sequence=0, offset=20, transactional=True))
    state.append_batch(header(2, producer_id=2, sequence=0, offset=10, transactional=True))
    state.append_batch(header(2, producer_id=3, sequence=0, offset=30))
    state.append_batch(header(2, producer_id=3, sequence=2, offset=32))
    again = ProducerState()
    again.restore(decode_snapshot(encode_snapshot(state.snapshot())), 34, 100, DAY)
    assert again.map_end_offset == 34
    assert again.first_unstable_offset() == 10
    assert check(again, header(2, producer_id=3, sequence=2)).base_offset == 32
    assert code_of(check, again, header(2, producer_id=3, sequence=0)) is ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    late = ProducerState()
    late.restore(state.snapshot(), 34, 100 + DAY, DAY)
    assert set(late.producers) == {1, 2}


def test_unreadable_snapshots_are_removed_and_older_ones_used():
    disk = new_disk()
    files = SnapshotFiles(disk, "/data")
    files.take(5, [SnapshotEntry(1, 0, 0, 4, 0, 0, -1, -1)])
    files.take(9, [])
    disk.replace(files.path(9), b"broken")
    offset, entries = files.load_newest(100)
    assert (offset, entries[0].producer_id, files.offsets) == (5, 1, [5])
    assert not disk.exists(files.path(9))
    assert files.load_newest(4) is None


def test_snapshots_at_segment_starts_and_the_newest_are_kept():
    files = SnapshotFiles(new_disk(), "/data")
    for offset in (3, 5, 8, 9):
        files.take(offset, [])
    files.remove_strays({5, 7})
    assert files.offsets == [5, 9]
    files.remove_outside(5, 9)
    assert files.offsets == [9]


class Model:
    """The rules of idempotence, written down as simply as possible, without wrapping and transactions."""

    def __init__(self):
        self.epoch = None
        self.batches = []  # all of this epoch: (first sequence, last sequence)

    def answer(self, count, epoch, sequence):
        if self.epoch is None:
            return "append"
        if epoch < self.epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if epoch > self.epoch:
            return "append" if sequence == 0 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        if (sequence, sequence + count - 1) in self.batches[-5:]:
            return "duplicate"
        expected = self.batches[-1][1] + 1
        return "append" if sequence == expected else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER

    def append(self, count, epoch, sequence):
        if epoch != self.epoch:
            self.epoch, self.batches = epoch, []
        self.batches.append((sequence, sequence + count - 1))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(0, 9)), max_size=40))
def test_sequences_agree_with_the_model(batches):
    state, model, offset = ProducerState(), Model(), 0
    for count, epoch, sequence in batches:
        candidate = header(count, epoch=epoch, sequence=sequence, offset=offset)
        expected = model.answer(count, epoch, sequence)
        if isinstance(expected, ErrorCode):
            assert code_of(check, state, candidate) is expected
        elif expected == "duplicate":
            assert check(state, candidate).last_sequence == sequence + count - 1
        else:
            assert check(state, candidate) is None
            state.append_batch(candidate)
            model.append(count, epoch, sequence)
            offset += count


def test_marker_content():
    assert marker(is_commit=False, coordinator_epoch=9)[1] == EndTransactionMarker(True, 9)
