"""Which batches go to the user: compared with reading the log the slow way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.client.consumer.filtering import deliverable
from ottla.client.errors import CorruptRecordsError, RecordTooLargeError
from ottla.client.model import TopicPartition
from ottla.protocol.messages.fetch import AbortedTransaction
from ottla.records.control import end_transaction_marker
from ottla.records.record import Record, build_batch, read_batch_records

TP = TopicPartition("t", 0)
STEP = st.tuples(st.sampled_from(["plain", "write", "write", "commit", "abort"]), st.integers(1, 3), st.integers(1, 3))


def log_of(
    steps: list[tuple[str, int, int]],
) -> tuple[list[tuple[int, bytes]], list[tuple[int, AbortedTransaction]], set[int], set[int]]:
    """Batches as (next offset, bytes), aborted transactions with the offset of their markers, the offsets of all
    records and of committed ones.
    """
    batches: list[tuple[int, bytes]] = []
    aborted: list[tuple[int, AbortedTransaction]] = []
    everything: set[int] = set()
    visible: set[int] = set()
    open_: dict[int, tuple[int, set[int]]] = {}
    offset = 0
    ends = [("abort", producer, 0) for producer in (1, 2, 3)]  # what is left open ends, so that all is stable
    for kind, producer, count in [*steps, *ends]:
        if kind in ("plain", "write"):
            records = [Record(timestamp_ms=0, value=b"%d" % (offset + index)) for index in range(count)]
            offsets = set(range(offset, offset + count))
            everything |= offsets
            transactional = kind == "write"
            if transactional:
                first, written = open_.setdefault(producer, (offset, set()))
                open_[producer] = first, written | offsets
            else:
                visible |= offsets
            batch = build_batch(
                records,
                base_offset=offset,
                producer_id=producer if transactional else -1,
                producer_epoch=0 if transactional else -1,
                base_sequence=0 if transactional else -1,
                transactional=transactional,
            )
            offset += count
        elif producer in open_:
            first, written = open_.pop(producer)
            if kind == "abort":
                aborted.append((offset, AbortedTransaction(producer_id=producer, first_offset=first)))
            else:
                visible |= written
            batch = end_transaction_marker(
                is_commit=kind == "commit",
                producer_id=producer,
                producer_epoch=0,
                coordinator_epoch=0,
                timestamp_ms=0,
                base_offset=offset,
            )
            offset += 1
        else:
            continue
        batches.append((offset, bytes(batch)))
    return batches, aborted, everything, visible


def offsets_of(data: bytes, found: list[tuple[int, object]], fetch_offset: int) -> list[int]:
    return [
        record.offset
        for position, header in found
        for record in read_batch_records(data, position, header)  # type: ignore[arg-type]
        if record.offset >= fetch_offset
    ]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(STEP, max_size=20), st.integers(0, 30), st.booleans())
def test_readers_of_committed_data_see_what_was_committed(
    steps: list[tuple[str, int, int]], fetch_offset: int, committed: bool
) -> None:
    batches, aborted, everything, visible = log_of(steps)
    end = batches[-1][0] if batches else 0
    fetch_offset = min(fetch_offset, end)
    # What a broker sends: from the batch with the fetch offset on, and the transactions aborted behind it.
    named = [transaction for marker, transaction in aborted if marker >= fetch_offset]
    data = b"".join(batch for next_offset, batch in batches if next_offset > fetch_offset)
    result = deliverable(TP, data, fetch_offset, -1, aborted=named if committed else None, check_crcs=True)
    assert result.error is None
    assert result.end_offset == max(end, fetch_offset)
    seen = offsets_of(data, result.batches, fetch_offset)
    shown = visible if committed else everything
    assert seen == sorted(offset for offset in shown if offset >= fetch_offset)


def test_a_batch_that_is_cut_off_at_the_end_is_left_for_the_next_fetch() -> None:
    first = build_batch([Record(value=b"a")], base_offset=5)
    second = build_batch([Record(value=b"b")], base_offset=6)
    result = deliverable(TP, bytes(first + second[:-3]), 5, 0, aborted=None, check_crcs=True)
    assert (len(result.batches), result.end_offset, result.error) == (1, 6, None)
    alone = deliverable(TP, bytes(first[:-3]), 5, 0, aborted=None, check_crcs=True)
    assert isinstance(alone.error, RecordTooLargeError)
    assert alone.end_offset == 5


def test_batches_before_the_fetch_offset_are_left_out() -> None:
    first = build_batch([Record(value=b"a")], base_offset=5)
    second = build_batch([Record(value=b"b"), Record(value=b"c")], base_offset=6, leader_epoch=3)
    result = deliverable(TP, bytes(first + second), 7, 0, aborted=None, check_crcs=True)
    assert [header.base_offset for _, header in result.batches] == [6]
    assert (result.end_offset, result.end_epoch) == (8, 3)


def test_a_damaged_marker_is_an_error() -> None:
    marker = bytearray(
        end_transaction_marker(
            is_commit=False, producer_id=1, producer_epoch=0, coordinator_epoch=0, timestamp_ms=0, base_offset=3
        )
    )
    marker[-1] ^= 1
    aborted = [AbortedTransaction(producer_id=1, first_offset=0)]
    result = deliverable(TP, bytes(marker), 3, 0, aborted=aborted, check_crcs=True)
    assert isinstance(result.error, CorruptRecordsError)
    assert result.end_offset == 3
