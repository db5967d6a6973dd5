"""A partition in memory with the high watermark in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import assign_offsets, batches
from ottla.records.record import Record, read_records


class FakeLog:
    """``runtime.PartitionLog`` over a byte string; commits at once unless ``commits`` is off."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.start_offset = 0
        self.end_offset = 0
        self.high_watermark_offset = 0
        self.commits = True
        self.refusal: ErrorCode | None = None
        self.appends = 0
        self.reads = 0
        self.read_delay = 0.001
        self.read_error: OSError | None = None
        self.listener: Callable[[], None] | None = None

    @property
    def log_start_offset(self) -> int:
        return self.start_offset

    @property
    def log_end_offset(self) -> int:
        return self.end_offset

    @property
    def high_watermark(self) -> int:
        return self.high_watermark_offset

    def append(
        self, records: bytearray, now_ms: int, *, verification: object | None = None, transaction_version: int = 0
    ) -> int:
        if self.refusal is not None:
            raise ApiError(self.refusal)
        self.appends += 1
        for position, header in list(batches(records)):
            assign_offsets(records, position, self.end_offset, 0)
            self.end_offset += header.last_offset_delta + 1
        self.data += records
        if self.commits:
            self.high_watermark_offset = self.end_offset
        return self.end_offset - 1

    def commit(self, offset: int | None = None) -> None:
        """Move the high watermark."""
        self.high_watermark_offset = self.end_offset if offset is None else offset
        if self.listener is not None:
            self.listener()

    async def read(self, offset: int, max_bytes: int) -> bytes:
        self.reads += 1
        await asyncio.sleep(self.read_delay)
        if self.read_error is not None:
            raise self.read_error
        found = bytearray()
        for position, header in batches(self.data):
            if header.last_offset < offset:
                continue
            if found and len(found) + header.size_in_bytes > max_bytes:
                break
            found += self.data[position : position + header.size_in_bytes]
        return bytes(found)

    def set_listener(self, listener: Callable[[], None] | None) -> None:
        self.listener = listener

    def records(self) -> list[Record]:
        return list(read_records(self.data))
