"""A compacted log under a random workload, and an obvious model of what every consumer must see of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from ottla.core.ids import TopicPartition
from ottla.records.batch import BatchHeader, batches, crc_matches, parse_header
from ottla.records.compression import Codec
from ottla.records.control import end_transaction_marker, read_end_transaction_marker
from ottla.records.record import Record, build_batch, read_batch_records
from ottla.records.validation import AppendOrigin, LaboriousBatchError, open_batch
from ottla.runtime.memory_disk import MemoryDisk
from ottla.server.log.checkpoint import format_offsets, read_offsets
from ottla.server.log.compaction.cleaning import Cleaning, CleaningAbortedError
from ottla.server.log.compaction.plan import plan_cleaning
from ottla.server.log.config import LogConfig
from ottla.server.log.host import SimpleHost
from ottla.server.log.loader import LoadRequest, create_log, load_log
from ottla.server.log.log import Log
from ottla.server.log.producer_loading import replay_batch
from ottla.server.log.producer_state import ProducerState
from ottla.server.log.verification import UNVERIFIED

TOPIC_PARTITION = TopicPartition("t", 0)
ROOT = "/data"
DIRECTORY = f"{ROOT}/t-0"
RECOVERY_POINT, CLEANED = f"{ROOT}/recovery-point", f"{ROOT}/cleaned"
START_MS = 1_700_000_000_000
RETENTION_MS = 300
CODECS = [Codec.NONE, Codec.NONE, Codec.NONE, Codec.LZ4, Codec.ZSTD, Codec.GZIP]


class LazyHost(SimpleHost):
    """Renamed files stay until the world removes them; flushes are the world's business."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk, max_open_files=2)
        self.doomed: list[str] = []

    def delete_later(self, paths: list[str], delay_ms: int) -> None:
        self.doomed += paths

    def flush_later(self, log: Log) -> None:
        pass


@dataclass
class Producer:
    producer_id: int
    is_transactional: bool
    epoch: int = 0
    sequence: int = 0
    # Offsets written in the open transaction.
    open_offsets: list[int] = field(default_factory=list)
    in_transaction: bool = False


class CompactionWorld:
    """The disk, the log on it, and the model.

    `records`: every record that was appended, by offset; `owners`: who wrote it. `aborted`: offsets of aborted data.
    `ranges`: last offset of every batch by its base offset. `cleaned_ms`: when an offset was first part of a cleaning.
    """

    def __init__(self, seed: object, *, disk: MemoryDisk | None = None) -> None:
        random = self.random = Random(f"compaction {seed}")
        self.disk = disk or MemoryDisk()
        self.config = LogConfig(
            cleanup_policy=("compact",),
            segment_bytes=random.choice((1500, 4000, 60_000)),
            index_interval_bytes=random.choice((1, 300, 4096)),
            delete_retention_ms=RETENTION_MS,
            min_cleanable_dirty_ratio=0.0,
            message_timestamp_type=random.choice(("CreateTime", "CreateTime", "LogAppendTime")),
        )
        self.budget_bytes = random.choice((1, 3000, 1 << 20))
        self.io_bytes = random.choice((70, 500, 1 << 16))
        self.same_sizes = random.random() < 0.4
        self.now_ms = START_MS
        self.records: dict[int, Record] = {}
        self.aborted: set[int] = set()
        self.owners: dict[int, int] = {}
        self.ranges: dict[int, int] = {}
        self.cleaned_ms: dict[int, int] = {}
        self.producers = [Producer(1, False), Producer(2, False), Producer(3, True), Producer(4, True)]
        self.flushed_end = 0
        self.cleanings = 0
        self.host: LazyHost
        self.log: Log
        self.under_way: Iterator[None] | None = None

    # Lives

    def create(self) -> None:
        self.disk.make_directories(ROOT)
        self.disk.sync_directory("/")
        self.host = LazyHost(self.disk)
        self.log = create_log(self.host, TOPIC_PARTITION, DIRECTORY, bytes(16), self.config)

    def open(self) -> None:
        self.under_way = None
        self.host = LazyHost(self.disk)
        if not self.disk.is_directory(DIRECTORY):
            assert not self.flushed_end
            self.create()
            self._forget_lost()
            return
        recovery_point = read_offsets(self.disk, RECOVERY_POINT).get(TOPIC_PARTITION, 0)
        cleaned = read_offsets(self.disk, CLEANED).get(TOPIC_PARTITION, -1)
        request = LoadRequest(recovery_point, 0, recovery_point, False, cleaned)
        self.log = load_log(self.host, TOPIC_PARTITION, DIRECTORY, self.config, request, self.now_ms)
        assert self.log.log_end_offset >= self.flushed_end
        self._forget_lost()
        self.log.advance_high_watermark(self.log.log_end_offset)

    def _forget_lost(self) -> None:
        """What was never flushed may be gone, the end of a transaction with it."""
        end = self.log.log_end_offset
        self.records = {offset: record for offset, record in self.records.items() if offset < end}
        self.ranges = {base: last for base, last in self.ranges.items() if last < end}
        self.cleaned_ms = {offset: when for offset, when in self.cleaned_ms.items() if offset < end}
        self.aborted = {offset for offset in self.aborted if offset < end}
        entries = {entry.producer_id: entry for entry in self.log.producers()}
        for producer in self.producers:
            entry = entries.get(producer.producer_id)
            producer.sequence = 0 if entry is None else entry.last_sequence + 1
            producer.epoch = producer.epoch if entry is None else entry.producer_epoch
            producer.in_transaction = entry is not None and entry.current_transaction_first_offset >= 0
            producer.open_offsets = []
            if entry is not None and producer.in_transaction:
                # The end of a transaction may have been lost with what came last.
                first = entry.current_transaction_first_offset
                own = (offset for offset in self.records if self.owners[offset] == producer.producer_id)
                producer.open_offsets = sorted(offset for offset in own if offset >= first)
                self.aborted -= set(producer.open_offsets)

    # The workload

    def step(self) -> None:
        self.now_ms += self.random.randint(0, 30)
        actions = [
            (50, self.append),
            (10, self.end_transaction),
            (3, self.bump_epoch),
            (3, self.append_legacy),
            (4, self.roll),
            (6, self.flush),
            (25, self.advance_cleaning),
            (3, self.delete_files),
            (2, self.read_somewhere),
            (1, self.wait),
        ]
        self.random.choices([action for _, action in actions], [weight for weight, _ in actions])[0]()
        if not self.disk.has_crashed:
            self.log.check_invariants()

    def append(self) -> None:
        random = self.random
        has_room = self.config.segment_bytes > 50_000
        many = self.same_sizes and has_room and random.random() < 0.5
        size = random.randint(0, 60)
        records = []
        for _ in range(random.randint(9, 90) if many else random.randint(1, 5)):
            key: bytes | None = b"%02d" % random.randrange(12)
            if not many and random.random() < 0.2:
                key = random.choice((b"", b"k" * 70, b"long" * 2100 if has_room else b"long"))
            value: bytes | None = bytes((random.randrange(256),)) * (size if many else random.choice((0, 5, 70, 200)))
            if random.random() < (0.02 if many else 0.25):
                value = None
            headers = (("h", b"1"),) if not many and random.random() < 0.2 else ()
            records.append(Record(0, self.now_ms - random.choice((0, 0, 1, 70, 9000)), key, value, headers))
        producer = random.choice([None, None, *self.producers])
        codec = random.choice(CODECS)
        if producer is None:
            self._write(build_batch(records, compression=codec), records)
            return
        batch = build_batch(
            records,
            compression=codec,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            base_sequence=producer.sequence,
            transactional=producer.is_transactional,
        )
        first = self._write(batch, records, producer.producer_id)
        producer.sequence += len(records)
        if producer.is_transactional:
            producer.in_transaction = True
            producer.open_offsets += range(first, first + len(records))

    def _write(self, batch: bytearray, records: list[Record], producer_id: int = -1) -> int:
        base_offset = self.log.log_end_offset
        fixed = self.now_ms if self.config.message_timestamp_type == "LogAppendTime" else None
        for index, record in enumerate(records):
            timestamp = record.timestamp_ms if fixed is None else fixed
            self.records[base_offset + index] = record._replace(offset=base_offset + index, timestamp_ms=timestamp)
            self.owners[base_offset + index] = producer_id
        self.ranges[base_offset] = base_offset + max(len(records), 1) - 1
        try:
            self.log.append_as_leader(batch, 0, self.now_ms, verification=UNVERIFIED)
        except LaboriousBatchError:
            opened = open_batch(batch, self.now_ms, self.config.rules)
            self.log.append_as_leader(opened, 0, self.now_ms, verification=UNVERIFIED)
        self.log.advance_high_watermark(self.log.log_end_offset)
        return base_offset

    def append_legacy(self) -> None:
        """A message of format 0 or 1, as it may lie in the log of an older broker."""
        offset = self.log.log_end_offset
        key = self.random.choice((b"%02d" % self.random.randrange(12), None))
        value = self.random.choice((b"old", None))
        magic = self.random.randrange(2)
        body = struct.pack(">bb", magic, 0) + (struct.pack(">q", self.now_ms) if magic else b"")
        for field_value in (key, value):
            body += struct.pack(">i", -1) if field_value is None else struct.pack(">i", len(field_value)) + field_value
        message = struct.pack(">qiI", offset, len(body) + 4, zlib.crc32(body)) + body
        self.records[offset] = Record(offset, self.now_ms if magic else -1, key, value)
        self.owners[offset] = -1
        self.ranges[offset] = offset
        self.log.append_as_follower(message, self.now_ms)
        self.log.advance_high_watermark(self.log.log_end_offset)

    def end_transaction(self) -> None:
        opened = [producer for producer in self.producers if producer.in_transaction]
        if opened:
            self._end(self.random.choice(opened), is_commit=self.random.random() < 0.5)

    def _end(self, producer: Producer, *, is_commit: bool) -> None:
        marker = end_transaction_marker(
            is_commit=is_commit,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            coordinator_epoch=0,
            timestamp_ms=self.now_ms,
        )
        offset = self.log.log_end_offset
        self.ranges[offset] = offset
        if not is_commit:
            self.aborted.update(producer.open_offsets)
        self.log.append_as_leader(marker, 0, self.now_ms, origin=AppendOrigin.COORDINATOR)
        self.log.advance_high_watermark(self.log.log_end_offset)
        producer.open_offsets = []
        producer.in_transaction = False

    def bump_epoch(self) -> None:
        """As a transaction of version 2 ends: the marker has the next epoch, which has no data yet."""
        opened = [producer for producer in self.producers if producer.in_transaction]
        if opened:
            producer = self.random.choice(opened)
            producer.epoch += 1
            self._end(producer, is_commit=self.random.random() < 0.5)
            producer.sequence = 0

    def roll(self) -> None:
        self.log.roll(self.now_ms)

    def flush(self) -> None:
        self.log.flush()
        self.flushed_end = self.log.log_end_offset

    def wait(self) -> None:
        self.now_ms += RETENTION_MS

    def delete_files(self) -> None:
        doomed, self.host.doomed = self.host.doomed, []
        for path in doomed:
            if self.disk.exists(path):
                self.disk.remove(path)

    def read_somewhere(self) -> None:
        """A read that is located before, and read after, whatever the cleaner does next."""
        self.disk.is_cold = True
        offset = self.random.randint(0, self.log.log_end_offset)
        found = self.log.read(offset, 1 << 20, upper_bound=self.log.log_end_offset, min_one_batch=True)
        self.advance_cleaning()
        self.advance_cleaning()
        data = found.read()
        self.disk.is_cold = False
        for position, header in batches(data):
            assert crc_matches(data, position, header)
            assert header.last_offset >= offset
        if offset < self.log.log_end_offset:
            assert data

    # Cleaning, as the shell does it

    def advance_cleaning(self) -> None:
        if self.under_way is None:
            self.under_way = self._clean()
        for _ in range(self.random.choice((1, 3, 1000))):
            if next(self.under_way, True):
                self.under_way = None
                return

    def clean(self) -> None:
        """A whole round (after the one that is under way)."""
        for _ in self.under_way or ():
            pass
        self.under_way = None
        for _ in self._clean():
            pass

    def _clean(self) -> Iterator[None]:
        log = self.log
        self.flush()
        self.disk.replace(RECOVERY_POINT, format_offsets({TOPIC_PARTITION: log.recovery_point}))
        plan = plan_cleaning(log, self.now_ms)
        if plan is None or not plan.is_worthwhile:
            return
        now_ms = self.now_ms
        cleaning = Cleaning(plan, self.budget_bytes, self.io_bytes, now_ms)
        for _ in cleaning.learn_keys():
            yield
        for offset in range(cleaning.cleaned_offset):
            self.cleaned_ms.setdefault(offset, now_ms)
        for group in cleaning.groups():
            for _ in cleaning.write_group(group):
                yield
            if cleaning.output is None:
                continue
            try:
                cleaning.check_still_valid(group)
            except CleaningAbortedError:
                cleaning.output.discard()
                return
            cleaning.swap(group)
            self.disk.sync_directory(DIRECTORY)
        assert cleaning.cleaned_offset > plan.first_dirty_offset or plan.first_dirty_offset == plan.end_offset
        log.cleaned_offset = max(cleaning.cleaned_offset, log.cleaned_offset)
        self.disk.replace(CLEANED, format_offsets({TOPIC_PARTITION: log.cleaned_offset}))
        self.cleanings += 1

    # What must hold

    def stored(self) -> list[tuple[BatchHeader, list[Record]]]:
        """Every batch in the log, read as a consumer reads."""
        found = []
        offset = 0
        while offset < self.log.log_end_offset:
            data = self.log.read(offset, 2000, upper_bound=self.log.log_end_offset, min_one_batch=True).read()
            assert data, f"nothing to read at {offset}, although the log ends at {self.log.log_end_offset}"
            for position, header in batches(data):
                assert crc_matches(data, position, header)
                assert header.base_offset >= offset or header.base_offset <= offset <= header.last_offset
                found.append((header, read_batch_records(data, position, header)))
                offset = header.next_offset
        return found

    def check(self) -> None:
        """All that consumers, producers and the next start may rely on."""
        log = self.log
        stored = self.stored()
        present: dict[int, Record] = {}
        for header, records in stored:
            # No batch is given another last offset, and none begins before it did.
            bases = [base for base, last in self.ranges.items() if last == header.last_offset]
            assert bases == [header.base_offset] or (header.records_count <= 1 and bases), header
            if header.is_control:
                continue
            for record in records:
                assert record == self.records[record.offset]
                present[record.offset] = record
        if log.segments:
            last = stored[-1][0].last_offset if stored else -1
            assert last + 1 == log.log_end_offset
        self._check_keys(present)
        self._check_aborted(stored, present)
        self._check_producers(stored)

    def _check_keys(self, present: dict[int, Record]) -> None:
        decided = {offset: record for offset, record in self.records.items() if offset not in self.aborted}
        latest: dict[bytes, Record] = {}
        for offset in sorted(decided):
            record = decided[offset]
            if record.key is not None:
                latest[record.key] = record
        visible = {offset: record for offset, record in present.items() if offset not in self.aborted}
        for key, record in latest.items():
            own = [offset for offset in visible if visible[offset].key == key]
            if record.value is None and record.offset not in visible:
                assert not own, f"a tombstone is gone, and what it deletes is back: {key!r}"
                assert self.now_ms >= self.cleaned_ms[record.offset] + RETENTION_MS
            else:
                assert max(own) == record.offset, key
            cleaned = [offset for offset in own if offset < self.log.cleaned_offset]
            assert len(cleaned) <= 1, f"{key!r} is in the clean part at {cleaned}"
        for offset, record in visible.items():
            assert record.key is not None or offset >= self.log.cleaned_offset
        for offset in decided:
            if offset >= self.log.segments[-1].base_offset:
                assert offset in visible

    def _check_aborted(self, stored: list[tuple[BatchHeader, list[Record]]], present: dict[int, Record]) -> None:
        """A read_committed consumer with the list of aborted transactions drops those, and no others."""
        stable = self.log.last_stable_offset
        coming = self.log.aborted_transactions(0, stable)[::-1]
        aborted_ids: set[int] = set()
        seen: set[int] = set()
        for header, records in stored:
            if header.base_offset >= stable:
                break
            while coming and coming[-1].first_offset <= header.last_offset:
                aborted_ids.add(coming.pop().producer_id)
            if header.is_control:
                marker = read_end_transaction_marker(records[0]) if records else None
                if marker is not None and not marker.is_commit:
                    aborted_ids.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in aborted_ids):
                seen.update(record.offset for record in records)
        assert seen == {offset for offset in present if offset not in self.aborted and offset < stable}
        assert not [offset for offset in self.aborted & set(present) if offset < self.log.cleaned_offset]

    def _check_producers(self, stored: list[tuple[BatchHeader, list[Record]]]) -> None:
        """The log alone, without any snapshot, tells what is known of the producers."""
        state = ProducerState()
        for header, _ in stored:
            if header.producer_id >= 0:
                data = b""
                if header.is_control:
                    data = self.log.read(
                        header.base_offset, 1, upper_bound=self.log.log_end_offset, min_one_batch=True
                    ).read()
                replay_batch(state, parse_header(data) if data else header, data)
        told = {entry.producer_id: entry for entry in state.producers.values()}
        for entry in self.log.producers():
            other = told[entry.producer_id]
            assert (other.producer_epoch, other.last_sequence) == (entry.producer_epoch, entry.last_sequence)
            assert other.current_transaction_first_offset == entry.current_transaction_first_offset
        assert state.ongoing == self.log.producers_state.ongoing
