"""Random operations on a log and on a plain list of batches must agree."""

from __future__ import annotations

from random import Random

import pytest

from ottla.core.errors import ApiError
from ottla.records.batch import batches, parse_header
from tests.server.log.support import EPOCH, NOW, KeepingHost, batch, new_disk, new_log, reopen


class ModelBatch:
    def __init__(self, base_offset: int, last_offset: int, timestamp: int, size: int, epoch: int) -> None:
        self.base_offset = base_offset
        self.last_offset = last_offset
        self.timestamp = timestamp
        self.size = size
        self.epoch = epoch


class World:
    """A log, the batches it should hold, and everything that may happen to both."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.host = KeepingHost(new_disk())
        self.log = new_log(
            self.host,
            segment_bytes=self.random.choice([300, 800, 3000]),
            index_interval_bytes=self.random.choice([1, 150, 4096]),
            retention_bytes=self.random.choice([-1, 1500, 4000]),
            retention_ms=self.random.choice([-1, 40]),
        )
        self.batches: list[ModelBatch] = []
        self.now = NOW
        self.epoch = EPOCH
        self.end = 0

    def step(self) -> None:
        choice = self.random.random()
        self.now += self.random.randrange(5)
        if choice < 0.55:
            self.append()
        elif choice < 0.62:
            self.epoch += 1
        elif choice < 0.68:
            self.host.to_flush.clear()
            self.log.flush()
        elif choice < 0.72:
            self.log.roll(self.now)
        elif choice < 0.76:
            self.retention()
        elif choice < 0.80:
            self.delete_records()
        elif choice < 0.84:
            self.truncate()
        elif choice < 0.90:
            self.host.doomed.clear()  # loading removes them
            self.log = reopen(self.log, clean=self.random.random() < 0.5, now_ms=self.now)
        else:
            self.read()
        self.check()

    def append(self) -> None:
        count, size = self.random.randrange(1, 4), self.random.randrange(40)
        timestamp = self.now - self.random.randrange(10)
        records = batch(count, size=size, timestamp=timestamp)
        length = len(records)
        try:
            result = self.log.append_as_leader(records, self.epoch, self.now)
        except ApiError:
            assert length > self.log.config.segment_bytes
            return
        assert result.base_offset == self.end
        self.batches.append(ModelBatch(self.end, self.end + count - 1, timestamp, length, self.epoch))
        self.end += count
        if self.random.random() < 0.9:
            self.log.advance_high_watermark(self.end)

    def retention(self) -> None:
        start, size = self.log.log_start_offset, self.log.size_in_bytes
        deleted = self.log.delete_old_segments(self.now)
        self.host.delete_now()
        assert (self.log.size_in_bytes < size) == (deleted > 0)
        if self.log.config.retention_bytes >= 0 and self.log.config.retention_ms < 0 and deleted:
            assert self.log.size_in_bytes >= min(self.log.config.retention_bytes, size) or start > 0
        first = self.log.segments[0].base_offset if self.log.segments else 0
        self.batches = [item for item in self.batches if item.base_offset >= first]

    def delete_records(self) -> None:
        if self.log.high_watermark > self.log.log_start_offset:
            offset = self.random.randrange(self.log.log_start_offset, self.log.high_watermark + 1)
            self.log.delete_records_before(offset)
            assert self.log.log_start_offset == offset

    def truncate(self) -> None:
        if self.end == self.log.log_start_offset:
            return
        item = self.random.choice([item for item in self.batches if item.last_offset >= self.log.log_start_offset])
        if item.base_offset < self.log.log_start_offset:
            return
        self.log.truncate_to(item.base_offset, self.now)
        self.end = item.base_offset
        self.batches = [other for other in self.batches if other.base_offset < self.end]

    def read(self) -> None:
        log = self.log
        offset = self.random.randrange(log.log_start_offset, self.end + 1)
        bound = self.random.choice([self.end, log.high_watermark])
        max_bytes = self.random.choice([1, 150, 700, 1 << 20])
        self.host.disk.is_cold = self.random.random() < 0.3
        found = log.read(offset, max_bytes, upper_bound=bound, min_one_batch=True)
        data = found.read_cached()
        if data is None:
            data = found.read()
        self.host.disk.is_cold = False
        wanted = [item for item in self.batches if item.last_offset >= offset and item.base_offset < bound]
        if offset >= bound or not wanted:
            assert len(data) == 0
            return
        headers = [header for _, header in batches(data)]
        assert headers, "the first batch is whole"
        assert len(data) <= max(max_bytes, wanted[0].size)
        assert [header.base_offset for header in headers] == [item.base_offset for item in wanted[: len(headers)]]
        assert all(header.base_offset < bound for header in headers)

    def check(self) -> None:
        log = self.log
        log.check_invariants()
        assert log.log_end_offset == self.end
        stored = b"".join(bytes(segment.file.read_at(0, segment.size)) for segment in log.segments)
        found = [parse_header(stored, at) for at, _ in batches(stored)]
        assert [header.base_offset for header in found] == [item.base_offset for item in self.batches]
        visible = [item for item in self.batches if item.last_offset >= log.log_start_offset]
        if visible:
            target = self.random.choice(visible).timestamp
            first = next(item for item in visible if item.timestamp >= target)
            answer = log.offset_for_timestamp(target)
            assert answer is not None
            assert answer.offset == max(first.base_offset, log.log_start_offset)
            last = max(item.timestamp for item in self.batches)
            newest = log.offset_of_max_timestamp()
            assert newest is not None
            assert newest.timestamp_ms == last
        for epoch in {item.epoch for item in visible}:
            after = [item.base_offset for item in self.batches if item.epoch > epoch]
            assert log.end_offset_for_epoch(epoch)[1] == min(after, default=self.end)


@pytest.mark.parametrize("seed", range(40))
def test_random_operations_agree_with_a_list(seed):
    world = World(seed)
    for _ in range(60):
        world.step()
