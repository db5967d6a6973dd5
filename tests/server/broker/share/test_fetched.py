"""Reading the headers of batches for a share fetch."""

from __future__ import annotations

import pytest

from ottla.records.batch import CorruptRecordError
from ottla.records.control import end_transaction_marker
from ottla.records.record import Record, build_batch
from ottla.server.broker.share.fetched import scan
from ottla.server.broker.share.hosted import duration_ms
from ottla.server.log.transaction_index import AbortedTransaction


def batch(base_offset: int, count: int, **more: object) -> bytes:
    records = [Record(timestamp_ms=1, value=b"v")] * count
    return bytes(build_batch(records, base_offset=base_offset, **more))  # type: ignore[arg-type]


def test_batches_gaps_and_the_batch_that_is_cut_off() -> None:
    first, second, third = batch(10, 3), batch(15, 1), batch(16, 4)
    found = scan(first + second + third[:-1], 11, 1000)
    assert (found.bases, found.ends) == ([10, 15], [13, 16])
    assert found.positions == [len(first), len(first) + len(second)]
    assert found.skipped == [(13, 15)]
    assert found.bytes_of(12, 12) == first
    assert found.bytes_of(15, 15) == second
    assert found.bytes_of(11, 15) == first + second
    assert scan(first + second, 11, 12).ends == [13], "no further than wanted"
    assert scan(first, 5, 1000).skipped == [(5, 10)], "a gap before the first batch"
    assert scan(b"", 5, 1000).end_offset == 5
    assert scan(first[:40], 10, 1000).ends == []


def test_a_part_is_what_a_read_there_would_give() -> None:
    content = batch(0, 2) + batch(2, 1) + batch(5, 3) + batch(8, 1)
    whole = scan(content, 0, 1000)
    for offset in range(9):
        for wanted in range(offset + 1, 10):
            part = whole.part(offset, wanted, 1 << 20)
            assert part is not None
            start = next(i for i, end in enumerate(whole.ends) if end > offset)
            read = scan(content[whole.positions[start - 1] if start else 0 :], offset, wanted)
            assert (part.bases, part.ends, part.skipped) == (read.bases, read.ends, read.skipped)
            first, last = max(offset, part.bases[0]), part.ends[-1] - 1
            assert bytes(part.bytes_of(first, last)) == bytes(read.bytes_of(first, last))
    assert whole.part(0, 10, 1 << 20) is None
    limited = whole.part(0, 9, 100)
    assert limited is not None
    assert limited.ends == [2]


def test_control_batches_and_aborted_ones_are_skipped() -> None:
    transaction = {"producer_id": 7, "producer_epoch": 0, "base_sequence": 0, "transactional": True}
    marker = end_transaction_marker(
        is_commit=False, producer_id=7, producer_epoch=0, coordinator_epoch=0, timestamp_ms=1, base_offset=6
    )
    content = batch(0, 2, **transaction) + batch(2, 2) + batch(4, 2, **transaction) + bytes(marker)
    assert scan(content, 0, 1000).skipped == [(6, 7)]
    aborted = [AbortedTransaction(producer_id=7, first_offset=4, last_offset=6, last_stable_offset=7)]
    assert scan(content, 0, 1000, aborted).skipped == [(4, 7)]
    assert scan(content, 1, 1000, [*aborted, AbortedTransaction(7, 0, 3, 4)]).skipped == [(1, 2), (4, 7)]


def test_batches_that_go_backwards_are_corrupt() -> None:
    with pytest.raises(CorruptRecordError):
        scan(batch(5, 2) + batch(0, 1), 5, 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("PT1H", 3_600_000), ("P1D", 86_400_000), ("P1DT2H3M4.5S", 93_784_500), ("pt0.001s", 1), ("PT0S", 0)],
)
def test_durations(text: str, expected: int) -> None:
    assert duration_ms(text) == expected
