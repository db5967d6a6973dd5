"""One partition's log under a random workload, and an obvious model of what must be in it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.records.batch import BatchHeader, batches, crc_matches, parse_header
from ottla.records.compression import Codec
from ottla.records.control import end_transaction_marker, read_end_transaction_marker
from ottla.records.record import Record, build_batch, read_records
from ottla.records.validation import AppendOrigin
from ottla.runtime.disk import DiskError
from ottla.runtime.memory_disk import MemoryDisk
from ottla.server.log.checkpoint import format_offsets, read_offsets
from ottla.server.log.config import LogConfig
from ottla.server.log.flush import FlushTask
from ottla.server.log.host import SimpleHost
from ottla.server.log.loader import LoadRequest, create_log, load_log
from ottla.server.log.log import Log
from ottla.server.log.verification import UNVERIFIED

TOPIC_PARTITION = TopicPartition("t", 0)
TOPIC_ID = bytes(range(16))
ROOT = "/data"
DIRECTORY = f"{ROOT}/t-0"
CLEAN_MARKER = f"{ROOT}/.kafka_cleanshutdown"
CHECKPOINTS = {name: f"{ROOT}/{name}" for name in ("recovery-point", "log-start", "high-watermark")}
START_MS = 1_700_000_000_000
CODECS = [Codec.NONE, Codec.NONE, Codec.LZ4, Codec.ZSTD]


class LazyHost(SimpleHost):
    """A host whose background work happens when the workload says so."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk, max_open_files=2)
        self.doomed: list[str] = []
        self.wants_flush = False

    def delete_later(self, paths: list[str], delay_ms: int) -> None:
        self.doomed += paths

    def flush_later(self, log: Log) -> None:
        self.wants_flush = True


class Producer:
    """An idempotent or transactional producer and what it has to send next."""

    def __init__(self, producer_id: int, is_transactional: bool) -> None:
        self.producer_id = producer_id
        self.is_transactional = is_transactional
        self.epoch = 0
        self.sequence = 0
        self.in_transaction = False
        self.coordinator_epoch = 0


class World:
    """The disk, the log on it, and the model.

    `appended`: every batch that is, or may be, in the log, by base offset, as it was written. `flushed_end`: what was
    promised to survive. `highest_start`: the log start offset may be anything from where it was to here.
    """

    def __init__(self, seed: object, disk: MemoryDisk | None = None) -> None:
        self.random = Random(f"world {seed}")
        self.disk = MemoryDisk() if disk is None else disk
        self.config = LogConfig(
            segment_bytes=8000,
            index_interval_bytes=self.random.choice((1, 500, 4096)),
            retention_bytes=self.random.choice((-1, 30_000)),
            retention_ms=-1,
        )
        self.now_ms = START_MS
        self.leader_epoch = 0
        self.appended: dict[int, bytes] = {}
        self.flushed_end = 0
        self.highest_start = 0
        self.producers = [Producer(1, False), Producer(2, False), Producer(3, True), Producer(4, True)]
        self.host: LazyHost
        self.log: Log
        self.flush_under_way: FlushTask | None = None

    # Lives

    def create(self) -> None:
        self.disk.make_directories(ROOT)
        self.disk.sync_directory("/")
        self.host = LazyHost(self.disk)
        self.log = create_log(self.host, TOPIC_PARTITION, DIRECTORY, TOPIC_ID, self.config)

    def open(self) -> None:
        """Start again with what the disk has."""
        self.flush_under_way = None
        self.host = LazyHost(self.disk)
        if not self.disk.is_directory(DIRECTORY):
            assert not self.flushed_end
            self.create()
            return
        points = {name: read_offsets(self.disk, path).get(TOPIC_PARTITION, 0) for name, path in CHECKPOINTS.items()}
        was_clean = self.disk.exists(CLEAN_MARKER)
        request = LoadRequest(points["recovery-point"], points["log-start"], points["high-watermark"], was_clean)
        self.log = load_log(self.host, TOPIC_PARTITION, DIRECTORY, self.config, request, self.now_ms)
        if was_clean:
            self.disk.remove(CLEAN_MARKER)
            self.disk.sync_directory(ROOT)

    def stop(self) -> None:
        """An orderly stop."""
        if self.flush_under_way is not None:
            self.advance_flush()
        task = self.log.prepare_close()
        if task is not None:
            task.run()
            self.log.complete_flush(task)
            self.flushed_end = self.log.log_end_offset
        self.log.close()
        self.write_checkpoints()
        self.disk.replace(CLEAN_MARKER, b'{"version":0,"brokerEpoch":1}')

    # The workload

    def step(self) -> None:
        """Do one thing."""
        self.now_ms += self.random.randint(0, 50)
        actions: list[tuple[int, Callable[[], None]]] = [
            (40, self.append),
            (3, self.append_duplicate),
            (8, self.end_transaction),
            (6, self.flush),
            (6, self.advance_flush),
            (2, lambda: self.log.roll(self.now_ms) and None),
            (4, self.write_checkpoints),
            (4, self.advance_high_watermark),
            (3, self.apply_retention),
            (1, self.delete_records),
            (3, self.delete_files),
            (4, self.read_somewhere),
            (1, self.change_leader),
        ]
        weights = [weight for weight, _ in actions]
        self.random.choices([action for _, action in actions], weights)[0]()
        if not self.disk.has_crashed:
            self.log.check_invariants()

    def append(self) -> None:
        random = self.random
        records = [
            Record(
                timestamp_ms=self.now_ms - random.randint(0, 20), key=b"%d" % index, value=bytes(random.randint(0, 400))
            )
            for index in range(random.randint(1, 4))
        ]
        codec = random.choice(CODECS)
        producer = random.choice([None, *self.producers])
        if producer is None:
            self.write(build_batch(records, compression=codec), AppendOrigin.CLIENT)
            return
        batch = build_batch(
            records,
            compression=codec,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            base_sequence=producer.sequence,
            transactional=producer.is_transactional,
        )
        self.write(batch, AppendOrigin.CLIENT)
        producer.sequence += len(records)
        producer.in_transaction = producer.is_transactional

    def append_duplicate(self) -> None:
        """A client sends its last batch again: the answer is that of the first time."""
        producer = self.random.choice(self.producers)
        last = self.last_batch(producer.producer_id, producer.epoch)
        if last is None or last.is_control:
            return
        entry = {entry.producer_id: entry for entry in self.log.producers()}.get(producer.producer_id)
        if entry is None:
            assert last.base_offset < self.log.log_start_offset
            return
        data = bytearray(self.appended[last.base_offset])
        data[:8] = bytes(8)
        result = self.log.append_as_leader(data, self.leader_epoch, self.now_ms, verification=UNVERIFIED)
        assert result.duplicate
        assert (result.base_offset, result.last_offset) == (last.base_offset, last.last_offset)

    def end_transaction(self) -> None:
        open_producers = [producer for producer in self.producers if producer.in_transaction]
        if not open_producers:
            return
        producer = self.random.choice(open_producers)
        marker = end_transaction_marker(
            is_commit=self.random.random() < 0.5,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            coordinator_epoch=producer.coordinator_epoch,
            timestamp_ms=self.now_ms,
        )
        self.write(marker, AppendOrigin.COORDINATOR)
        producer.in_transaction = False

    def write(self, batch: bytearray, origin: AppendOrigin) -> None:
        base_offset = self.log.log_end_offset
        written = bytearray(batch)
        written[:8] = base_offset.to_bytes(8, "big")
        written[12:16] = self.leader_epoch.to_bytes(4, "big")
        # From here on it may be found after a crash, whether or not the append returns.
        self.appended[base_offset] = bytes(written)
        try:
            result = self.log.append_as_leader(
                batch, self.leader_epoch, self.now_ms, origin=origin, verification=UNVERIFIED
            )
        except ApiError as error:
            # Refused: nothing of it may be seen, nor found after a restart of the process.
            if error.code is ErrorCode.KAFKA_STORAGE_ERROR and self.log.log_end_offset == base_offset:
                del self.appended[base_offset]
            raise
        header = parse_header(written)
        assert (result.base_offset, result.last_offset) == (base_offset, header.last_offset)
        assert not result.duplicate
        assert self.log.log_end_offset == header.next_offset

    def flush(self) -> None:
        if self.flush_under_way is not None:
            self.advance_flush()  # there is one at a time
        end_offset = self.log.log_end_offset
        self.log.flush()
        self.flushed_end = max(self.flushed_end, end_offset)

    def advance_flush(self) -> None:
        """A flush as the background does it: begun, then (other things happen) carried out and completed."""
        task, self.flush_under_way = self.flush_under_way, None
        if task is None:
            self.flush_under_way = self.log.begin_flush()
            return
        try:
            task.run()
        except DiskError as error:
            self.host.disk_failed(error)
            raise
        self.log.complete_flush(task)
        self.flushed_end = max(self.flushed_end, task.end_offset)

    def write_checkpoints(self) -> None:
        log = self.log
        values = {
            "recovery-point": log.recovery_point,
            "log-start": log.log_start_offset,
            "high-watermark": log.high_watermark,
        }
        for name, value in values.items():
            self.disk.replace(CHECKPOINTS[name], format_offsets({TOPIC_PARTITION: value}))

    def advance_high_watermark(self) -> None:
        self.log.advance_high_watermark(self.random.randint(self.log.high_watermark, self.log.log_end_offset))

    def apply_retention(self) -> None:
        self.highest_start = self.log.high_watermark
        self.log.delete_old_segments(self.now_ms)
        self.highest_start = self.log.log_start_offset

    def delete_records(self) -> None:
        offset = self.random.randint(self.log.log_start_offset, self.log.high_watermark)
        self.highest_start = max(self.highest_start, offset)
        self.log.delete_records_before(offset)

    def delete_files(self) -> None:
        while self.host.doomed:
            path = self.host.doomed.pop()
            if self.disk.exists(path):
                self.disk.remove(path)

    def read_somewhere(self) -> None:
        log = self.log
        offset = self.random.randint(log.log_start_offset, log.log_end_offset)
        self.disk.is_cold = self.random.random() < 0.3
        self.check_read(offset, self.random.choice((1, 1000, 100_000)))
        self.disk.is_cold = False

    def change_leader(self) -> None:
        self.leader_epoch += 1

    # What must hold

    def last_batch(self, producer_id: int, epoch: int) -> BatchHeader | None:
        """The last batch of a producer that the model has."""
        headers = [parse_header(data) for data in self.appended.values()]
        own = [header for header in headers if header.producer_id == producer_id and header.producer_epoch == epoch]
        return own[-1] if own else None

    def check_read(self, offset: int, max_bytes: int) -> int:
        """Read once; what comes is what was appended, from the batch that holds `offset` on. Gives the next offset."""
        log = self.log
        found = log.read(offset, max_bytes, upper_bound=log.log_end_offset, min_one_batch=True)
        data = found.read_cached()
        if data is None:
            data = found.read()
        next_offset = offset
        if offset < log.log_end_offset:
            assert data, f"nothing to read at {offset}, although the log ends at {log.log_end_offset}"
        first = True
        for position, header in batches(data):
            assert crc_matches(data, position, header), f"corrupt batch served at {header.base_offset}"
            if first:
                assert header.base_offset <= offset <= header.last_offset
                first = False
            else:
                assert header.base_offset == next_offset, f"a gap from {next_offset} to {header.base_offset}"
            content = bytes(data[position : position + header.size_in_bytes])
            assert content == self.appended.get(header.base_offset), f"other content at {header.base_offset}"
            next_offset = header.next_offset
        return next_offset

    def check_log(self) -> None:
        """The whole log against the model, after a start; the model forgets what was lost."""
        log = self.log
        log.check_invariants()
        ends = {parse_header(data).next_offset for data in self.appended.values()}
        assert log.log_end_offset >= self.flushed_end
        assert log.log_end_offset in ends | {0, log.log_start_offset}
        assert log.log_start_offset <= self.highest_start
        offset = log.log_start_offset
        while offset < log.log_end_offset:
            offset = self.check_read(offset, 3000)
        assert offset == log.log_end_offset
        end = log.log_end_offset
        self.appended = {base: data for base, data in self.appended.items() if parse_header(data).next_offset <= end}
        self.flushed_end = min(self.flushed_end, log.log_end_offset)
        self.check_producers()
        self.check_timestamps()
        self.check_epochs()
        self.check_aborted()
        self.check_producers_can_go_on()

    def check_producers(self) -> None:
        log = self.log
        known = {entry.producer_id: entry for entry in log.producers()}
        for producer in self.producers:
            own = [header for header in self.headers() if header.producer_id == producer.producer_id]
            data = [header for header in own if not header.is_control]
            entry = known.pop(producer.producer_id, None)
            if entry is None:
                assert not [header for header in own if header.base_offset >= log.log_start_offset]
                continue
            if data and data[-1].base_offset >= log.log_start_offset:
                assert entry.last_sequence == data[-1].last_sequence
                assert entry.producer_epoch == own[-1].producer_epoch
            first = self.open_transaction(own)
            if first is None or first >= log.log_start_offset:
                assert entry.current_transaction_first_offset == (-1 if first is None else first)
        assert not known

    def open_transaction(self, headers: list[BatchHeader]) -> int | None:
        """Where the open transaction of one producer starts."""
        first = None
        for header in headers:
            if header.is_control:
                first = None
            elif header.is_transactional and first is None:
                first = header.base_offset
        return first

    def headers(self) -> list[BatchHeader]:
        """All batches of the model, in order."""
        return [parse_header(self.appended[base]) for base in sorted(self.appended)]

    def check_timestamps(self) -> None:
        log = self.log
        records = [record for base in sorted(self.appended) for record in read_records(self.appended[base])]
        visible = [record for record in records if record.offset >= log.log_start_offset]
        for wanted in visible[:: max(1, len(visible) // 5)]:
            found = log.offset_for_timestamp(wanted.timestamp_ms)
            first = next(record for record in visible if record.timestamp_ms >= wanted.timestamp_ms)
            assert found is not None
            assert (found.offset, found.timestamp_ms) == (first.offset, first.timestamp_ms)

    def check_epochs(self) -> None:
        log = self.log
        # Deleted records can come back with the crash of their deletion, without the epochs they were written in.
        known_from = max([log.log_start_offset, *(start for _, start in log.leader_epochs.entries()[:1])])
        for header in self.headers():
            if header.base_offset >= known_from:
                assert log.epoch_for_offset(header.base_offset) == header.partition_leader_epoch

    def check_aborted(self) -> None:
        """Aborted transactions are known; of one that began before the log start, the beginning may be forgotten."""
        log = self.log
        begun: dict[int, int] = {}
        expected: dict[tuple[int, int], int] = {}
        for header in self.headers():
            if not header.is_control:
                if header.is_transactional:
                    begun.setdefault(header.producer_id, header.base_offset)
                continue
            [record] = read_records(self.appended[header.base_offset])
            marker = read_end_transaction_marker(record)
            assert marker is not None
            first = begun.pop(header.producer_id, None)
            if not marker.is_commit and first is not None:
                expected[header.producer_id, header.base_offset] = first
        found = {
            (transaction.producer_id, transaction.last_offset): transaction.first_offset
            for transaction in log.aborted_transactions(log.log_start_offset, log.log_end_offset)
        }
        for key, first in found.items():
            assert expected[key] == first or expected[key] < log.log_start_offset
        assert {key for key, first in expected.items() if first >= log.log_start_offset} <= found.keys()

    def check_producers_can_go_on(self) -> None:
        """Clients find out what was lost and go on from there."""
        known = {entry.producer_id: entry for entry in self.log.producers()}
        for producer in self.producers:
            entry = known.get(producer.producer_id)
            producer.sequence = 0 if entry is None else entry.last_sequence + 1
            producer.in_transaction = entry is not None and entry.current_transaction_first_offset >= 0
        for _ in range(3):
            self.append()
