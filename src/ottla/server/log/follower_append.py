"""Appending what a leader has: offsets and epochs stay, nothing is decided, neighbours are written together.

Each batch is looked at (its header, its CRC) and counted as if it had been appended alone, so that a follower rolls and
indexes where its leader did. But as many as go to the same segment without any ado are one write.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import LENGTH_END, BatchHeader, CorruptRecordError, crc_matches, parse_header
from ottla.server.log.producer_state import read_marker

if TYPE_CHECKING:
    from ottla.core.binary import Buffer
    from ottla.server.log.log import Log

_INT32 = Struct(">i")
# Of a write with more batches, a failing disk would leave too much undone.
_LONGEST_RUN = 512


def append_batches(log: Log, records: Buffer, now_ms: int, leader_epoch: int | None) -> int:
    """Append the whole batches in `records`, up to the first one that is younger than `leader_epoch`; how many bytes
    they were.

    Raises `CorruptRecordError` for bytes that are no batches, `ApiError` OFFSET_OUT_OF_RANGE when they do not
    follow, and KAFKA_STORAGE_ERROR. What came before in `records` is appended then.
    """
    view = memoryview(records)
    end = len(view)
    position = start = 0
    run: list[BatchHeader] = []
    next_offset = log.log_end_offset
    try:
        while end - position >= LENGTH_END:
            size = LENGTH_END + _INT32.unpack_from(view, position + 8)[0]
            if size > end - position:
                break
            header = parse_header(view, position)
            if leader_epoch is not None and header.partition_leader_epoch > leader_epoch:
                break  # the leader was elected again after this follower had asked (KAFKA-18723)
            if not crc_matches(view, position, header):
                raise CorruptRecordError(f"the batch at offset {header.base_offset} has a wrong CRC")
            if header.base_offset < next_offset:
                raise ApiError(
                    ErrorCode.OFFSET_OUT_OF_RANGE,
                    f"a batch at offset {header.base_offset} can not follow {next_offset}",
                )
            if header.is_control and header.producer_id >= 0:
                _write_run(log, view[start:position], run, now_ms)
                batch = view[position : position + size]
                log.write_batch(header, batch, now_ms, read_marker(batch, 0, header))
                start = position + size
            elif not log.takes_without_ado(header, position - start, len(run), now_ms):
                _write_run(log, view[start:position], run, now_ms)
                start = position
                if log.takes_without_ado(header, 0, 0, now_ms):
                    run.append(header)
                else:
                    log.write_batch(header, view[position : position + size], now_ms, None)
                    start = position + size
            else:
                run.append(header)
                if len(run) == _LONGEST_RUN:
                    _write_run(log, view[start : position + size], run, now_ms)
                    start = position + size
            next_offset = header.next_offset
            position += size
    finally:
        _write_run(log, view[start:position], run, now_ms)
    return position


def _write_run(log: Log, data: memoryview, run: list[BatchHeader], now_ms: int) -> None:
    headers = run[:]
    run.clear()
    if len(headers) == 1:
        log.write_batch(headers[0], data, now_ms, None)
    elif headers:
        log.write_run(headers, data)
