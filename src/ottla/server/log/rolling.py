"""When a segment takes no more records: worked out ahead, so that an append compares a few numbers."""

from __future__ import annotations

from typing import NamedTuple

from ottla.records.batch import HEADER_SIZE, parse_header
from ottla.server.log.config import MAXIMUM_INT64, LogConfig
from ottla.server.log.segment import MAXIMUM_RELATIVE_OFFSET, Segment

NEVER = MAXIMUM_INT64


class RollLimits(NamedTuple):
    """A batch goes to a new segment when its largest timestamp, the wall clock or its last offset is above these."""

    timestamp: int
    at_ms: int
    offset: int


def roll_limits(segment: Segment | None, config: LogConfig, partition: int) -> RollLimits:
    """The limits of the active segment (that of size is in the settings).

    Age is told by the records: from the first batch's timestamp on; the clock counts where it has none.
    """
    if segment is None:
        return RollLimits(NEVER, NEVER, NEVER)
    offset = segment.base_offset + MAXIMUM_RELATIVE_OFFSET
    if not segment.size:
        return RollLimits(NEVER, NEVER, offset)
    if segment.has_full_index(config.segment_index_bytes):
        offset = -1
    age_ms = config.maximum_segment_age_ms - _jitter_ms(segment, config, partition)
    first_timestamp = _first_timestamp(segment)
    if first_timestamp >= 0:
        return RollLimits(first_timestamp + age_ms, NEVER, offset)
    return RollLimits(NEVER, segment.created_ms + age_ms, offset)


def _jitter_ms(segment: Segment, config: LogConfig, partition: int) -> int:
    """Spreads the rolls of segments that were begun together; always the same for the same segment."""
    spread = min(config.segment_jitter_ms, config.segment_ms)
    return hash((partition, segment.base_offset, segment.created_ms)) % spread if spread else 0


def _first_timestamp(segment: Segment) -> int:
    if segment.first_timestamp < 0:
        segment.first_timestamp = parse_header(segment.file.read_at(0, HEADER_SIZE)).max_timestamp
    return segment.first_timestamp
