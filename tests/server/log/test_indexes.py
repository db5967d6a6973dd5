import struct
from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.server.log.errors import CorruptIndexError
from ottla.server.log.indexes import IndexCache, OffsetIndex, TimeIndex, WouldBlockError
from ottla.server.log.transaction_index import AbortedTransaction, TransactionIndex
from tests.server.log.support import new_disk

BASE = 1000
PATH = "/data/x.index"


def new_offset_index(disk, *, restored=True, cache=None):
    return OffsetIndex(disk, cache or IndexCache(), PATH, BASE, restored=restored)


def test_offset_entries_are_eight_big_endian_bytes():
    disk = new_disk()
    index = new_offset_index(disk)
    index.append(BASE + 5, 400)
    index.append(BASE + 9, 70000)
    assert not disk.exists(PATH)
    assert index.write()
    assert disk.read(PATH) == struct.pack(">iiii", 5, 400, 9, 70000)
    assert not index.write()


def test_time_entries_are_twelve_big_endian_bytes_and_only_ascend():
    disk = new_disk()
    index = TimeIndex(disk, PATH, BASE, restored=True)
    for timestamp, offset in [(-1, BASE), (50, BASE + 1), (50, BASE + 2), (40, BASE + 3), (60, BASE + 4)]:
        index.maybe_append(timestamp, offset)
    index.write()
    assert disk.read(PATH) == struct.pack(">qiqi", 50, 1, 60, 4)


def test_writing_an_empty_index_makes_its_file():
    disk = new_disk()
    new_offset_index(disk).write()
    assert disk.read(PATH) == b""


def test_index_of_another_program_is_understood():
    disk = new_disk()
    disk.replace(PATH, struct.pack(">iiii", 5, 400, 9, 70000))
    index = new_offset_index(disk, restored=False)
    index.restore()
    assert (index.entries, index.last_offset, index.last_position) == (2, BASE + 9, 70000)
    index.append(BASE + 20, 80000)
    lookups = {4: 0, 5: 400, 8: 400, 9: 70000, 19: 70000, 20: 80000, 99: 80000}
    assert {n: index.lookup(BASE + n, cached=False) for n in lookups} == lookups
    index.write()
    assert len(disk.read(PATH)) == 24


@pytest.mark.parametrize("content", [b"123", struct.pack(">iiii", 5, 400, 0, 0), struct.pack(">ii", -3, 5)])
def test_impossible_index_is_refused(content):
    disk = new_disk()
    disk.replace(PATH, content)
    with pytest.raises(CorruptIndexError):
        new_offset_index(disk, restored=False).restore()


def test_lookup_that_would_wait_for_the_device_says_so():
    disk = new_disk()
    index = new_offset_index(disk)
    index.append(BASE + 5, 400)
    index.write()
    disk.is_cold = True
    with pytest.raises(WouldBlockError):
        index.lookup(BASE + 5, cached=True)
    assert index.searcher()(BASE + 5) == 400
    disk.is_cold = False
    assert index.lookup(BASE + 5, cached=True) == 400


def test_memory_of_indexes_is_bounded():
    disk, cache = new_disk(), IndexCache(limit_bytes=100)
    indexes = []
    for number in range(5):
        index = OffsetIndex(disk, cache, f"/data/{number}.index", BASE, restored=True)
        for entry in range(1, 6):
            index.append(BASE + entry, entry * 100)
        index.write()
        assert index.lookup(BASE + 3, cached=True) == 300
        indexes.append(index)
    assert [index._loaded is not None for index in indexes] == [False, False, False, True, True]
    assert indexes[0].lookup(BASE + 3, cached=True) == 300


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 9), st.integers(0, 3)),
        st.tuples(st.just("truncate"), st.integers(0, 60), st.just(0)),
        st.tuples(st.sampled_from(["write", "release", "restore"]), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(OPERATIONS)
def test_both_indexes_agree_with_plain_lists(operations):
    disk, cache = new_disk(), IndexCache()
    offset_index = new_offset_index(disk, cache=cache)
    time_index = TimeIndex(disk, "/data/x.timeindex", BASE, restored=True)
    offsets: list[tuple[int, int]] = []
    times: list[tuple[int, int]] = []
    position, offset, timestamp = 0, BASE, 0
    for operation, a, b in operations:
        match operation:
            case "append":
                offset, position, timestamp = offset + a, position + 10 * a, timestamp + b
                offset_index.append(offset, position)
                offsets.append((offset, position))
                time_index.maybe_append(timestamp, offset)
                if timestamp > (times[-1][0] if times else -1):
                    times.append((timestamp, offset))
            case "truncate":
                offset_index.truncate_to(BASE + a)
                time_index.truncate_to(BASE + a)
                offsets = [entry for entry in offsets if entry[0] < BASE + a]
                times = [entry for entry in times if entry[1] < BASE + a]
                offset, position = offsets[-1] if offsets else (BASE, 0)
                timestamp = times[-1][0] if times else timestamp
            case "write":
                offset_index.write()
                time_index.write()
            case "release":
                offset_index.release()
            case _:
                offset_index.write()
                time_index.write()
                offset_index = new_offset_index(disk, restored=False, cache=cache)
                time_index = TimeIndex(disk, "/data/x.timeindex", BASE, restored=False)
                offset_index.restore()
                time_index.restore()
        assert offset_index.entries == len(offsets)
        assert (offset_index.last_offset, offset_index.last_position) == (offsets[-1] if offsets else (BASE, 0))
        assert time_index.entries == len(times)
        assert time_index.last_timestamp == (times[-1][0] if times else -1)
    search_offset, search_time = offset_index.searcher(), time_index.searcher()
    for target in range(BASE - 1, offset + 3):
        found = bisect_right(offsets, target, key=lambda entry: entry[0]) - 1
        expected = offsets[found][1] if found >= 0 else 0
        assert offset_index.lookup(target, cached=False) == search_offset(target) == expected
    for target in range(-1, timestamp + 2):
        found = bisect_right(times, target, key=lambda entry: entry[0]) - 1
        assert search_time(target) == (times[found] if found >= 0 else (-1, BASE))


def test_aborted_transactions_are_34_byte_entries():
    disk = new_disk()
    index = TransactionIndex(disk, "/data/x.txnindex", restored=True)
    assert not disk.exists(index.path)
    index.append(AbortedTransaction(7, 10, 20, 21))
    assert disk.read(index.path) == struct.pack(">hqqqq", 0, 7, 10, 20, 21)
    again = TransactionIndex(disk, index.path, restored=False)
    assert again.entries() == [AbortedTransaction(7, 10, 20, 21)]


def test_collecting_aborted_transactions_stops_where_no_more_can_come():
    index = TransactionIndex(new_disk(), "/data/x.txnindex", restored=True)
    entries = [AbortedTransaction(1, 5, 10, 8), AbortedTransaction(2, 8, 20, 21), AbortedTransaction(3, 25, 30, 31)]
    for entry in entries:
        index.append(entry)
    found: list[AbortedTransaction] = []
    assert index.collect(0, 15, found)
    assert found == entries[:2]
    found.clear()
    assert not index.collect(11, 100, found)
    assert found == entries[1:]


def test_transaction_index_is_cut_by_the_marker():
    disk = new_disk()
    index = TransactionIndex(disk, "/data/x.txnindex", restored=True)
    index.append(AbortedTransaction(1, 5, 10, 8))
    index.append(AbortedTransaction(2, 8, 20, 21))
    index.truncate_to(20)
    assert len(disk.read(index.path)) == 34
    assert [entry.producer_id for entry in index.entries()] == [1]


def test_corrupt_transaction_index_is_refused():
    disk = new_disk()
    disk.replace("/data/x.txnindex", b"abc")
    with pytest.raises(CorruptIndexError):
        TransactionIndex(disk, "/data/x.txnindex", restored=False).entries()
