"""Rebuilding a shard from its log: every record is replayed, in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.records.batch import CorruptRecordError, batches, crc_matches
from ottla.records.record import Record, read_batch_records

if TYPE_CHECKING:
    from ottla.server.coordinator.result import RecordCodec
    from ottla.server.coordinator.runtime import CoordinatorShard, PartitionLog

#: While loading, the event loop gets its turn after this many records.
LOAD_RECORDS_PER_TURN = 500


async def replay_log(log: PartitionLog, shard: CoordinatorShard, codec: RecordCodec, chunk_bytes: int) -> int:
    """Replay the whole log into the shard; how many records.

    Raises `CorruptRecordError`, `ProtocolError`, `UnsupportedVersionError`, `OSError`, `ApiError`.
    """
    next_offset = log.log_start_offset
    count = since_turn = 0
    while next_offset < log.log_end_offset:
        data = await log.read(next_offset, chunk_bytes)
        before = next_offset
        for position, header in batches(data):
            if header.last_offset < next_offset:
                continue
            if not crc_matches(data, position, header):
                raise CorruptRecordError(f"wrong CRC in the batch at offset {header.base_offset}")
            producer_id = header.producer_id if header.is_transactional else -1
            for record in read_batch_records(data, position, header):
                if record.offset < next_offset:
                    continue
                _replay(shard, codec, record, producer_id, header.is_control)
                count += 1
                since_turn += 1
                if since_turn >= LOAD_RECORDS_PER_TURN:
                    since_turn = 0
                    await asyncio.sleep(0)
            next_offset = header.last_offset + 1
        if next_offset == before:
            raise CorruptRecordError(f"no batch at offset {next_offset}, below the end {log.log_end_offset}")
    return count


def _replay(shard: CoordinatorShard, codec: RecordCodec, record: Record, producer_id: int, is_control: bool) -> None:
    if is_control:
        # Imported here: it brings the messages of the metadata quorum, and only transactions need it.
        from ottla.records.control import read_end_transaction_marker

        marker = read_end_transaction_marker(record)
        if marker is not None:
            shard.replay_end_of_transaction(producer_id, committed=marker.is_commit)
        return
    if record.key is None:
        return
    decoded = codec.decode(record.key, record.value)
    if decoded is not None:
        shard.replay(decoded, record.offset, producer_id)
