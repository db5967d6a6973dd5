"""What of a log can be cleaned now, how dirty it is, and which segments become one."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from ottla.records.batch import HEADER_SIZE, parse_header
from ottla.server.log.config import MAXIMUM_INT64, LogConfig
from ottla.server.log.indexes import TIME_ENTRY_SIZE
from ottla.server.log.log import Log
from ottla.server.log.segment import MAXIMUM_RELATIVE_OFFSET, Segment


class CleaningPlan(NamedTuple):
    """One log and its dirty part `[first_dirty_offset, end_offset)`; both ends lie between batches, the second at the
    beginning of a segment. `is_overdue`: something in it is older than `max.compaction.lag.ms`.
    """

    log: Log
    first_dirty_offset: int
    end_offset: int
    clean_bytes: int
    dirty_bytes: int
    is_overdue: bool

    @property
    def dirty_ratio(self) -> float:
        """Dirty bytes in relation to all that can be cleaned."""
        return self.dirty_bytes / (self.clean_bytes + self.dirty_bytes)

    @property
    def is_worthwhile(self) -> bool:
        """Whether the log is to be cleaned now."""
        if self.is_overdue and self.dirty_bytes:
            return True
        return self.dirty_ratio > self.log.config.min_cleanable_dirty_ratio


def plan_cleaning(log: Log, now_ms: int) -> CleaningPlan | None:
    """The plan for a compacted log; None when there is nothing in it that could be cleaned."""
    segments = log.segments
    if len(segments) < 2:
        return None
    first_dirty_offset = log.cleaned_offset
    if not log.log_start_offset <= first_dirty_offset <= log.log_end_offset:
        # Never cleaned; or records before the start were deleted; or the end was lost in a crash.
        first_dirty_offset = log.log_start_offset
    bases = [segment.base_offset for segment in segments]
    limit = min(log.last_stable_offset, bases[-1])
    first_dirty = max(bisect_right(bases, first_dirty_offset) - 1, 0)
    dirty = segments[first_dirty:-1]
    if log.config.min_compaction_lag_ms > 0:
        newest_ms = now_ms - log.config.min_compaction_lag_ms
        young = (segment.base_offset for segment in dirty if segment.largest_timestamp_ms() > newest_ms)
        limit = min(limit, next(young, limit))
    # Nothing of the segment that holds the limit is touched.
    end = max(bisect_right(bases, limit) - 1, 0)
    end_offset = bases[end]
    if not end:
        return None
    clean_bytes = sum(segment.size for segment in segments[:end] if segment.base_offset < first_dirty_offset)
    dirty_bytes = 0
    if first_dirty_offset < end_offset:
        dirty_bytes = sum(segment.size for segment in segments[first_dirty:end])
    if not clean_bytes + dirty_bytes:
        return None
    return CleaningPlan(
        log,
        min(first_dirty_offset, end_offset),
        end_offset,
        clean_bytes,
        dirty_bytes,
        _is_overdue(dirty, log.config, now_ms),
    )


def _is_overdue(segments: list[Segment], config: LogConfig, now_ms: int) -> bool:
    if config.max_compaction_lag_ms == MAXIMUM_INT64:
        return False
    oldest_ms = now_ms - config.max_compaction_lag_ms
    for segment in segments:
        if segment.first_timestamp < 0 and segment.size:
            segment.first_timestamp = parse_header(segment.file.read_at(0, HEADER_SIZE)).max_timestamp
        if 0 < segment.first_timestamp < oldest_ms:
            return True
    return False


def group_segments(segments: list[Segment], end_offset: int, config: LogConfig) -> list[list[Segment]]:
    """Neighbours that together make no more than one segment: in bytes, in index bytes, and in offsets."""
    groups: list[list[Segment]] = []
    size = 0
    # An index gets an entry after so many bytes at the soonest, so the sizes say how large indexes can become.
    bytes_between_entries = max(config.index_interval_bytes, HEADER_SIZE)
    size_limit = min(config.segment_bytes, config.segment_index_bytes // TIME_ENTRY_SIZE * bytes_between_entries)
    for number, segment in enumerate(segments):
        next_offset = segments[number + 1].base_offset if number + 1 < len(segments) else end_offset
        if (
            groups
            and size + segment.size <= size_limit
            and (next_offset - 1 - groups[-1][0].base_offset <= MAXIMUM_RELATIVE_OFFSET or not segment.size)
        ):
            groups[-1].append(segment)
        else:
            groups.append([segment])
            size = 0
        size += segment.size
    return groups
