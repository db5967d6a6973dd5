"""Which segments may go, and how they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.server.log.host import LogHost
from ottla.server.log.producer_snapshot import SnapshotFiles
from ottla.server.log.segment import Segment

if TYPE_CHECKING:
    from ottla.server.log.log import Log


def delete_old_segments(log: Log, now_ms: int) -> int:
    """Delete whole segments from the oldest on, below the high watermark; how many.

    Records below the log start offset go under any policy, the others only where `cleanup.policy` has "delete".
    """
    config = log.config
    deleted = _delete_while(log, now_ms, lambda _, end_offset: end_offset <= log.log_start_offset, spare_active=True)
    if not config.deletes_by_retention:
        return deleted
    if config.retention_bytes >= 0:
        excess = log.size_in_bytes - config.retention_bytes

        def is_beyond_size(segment: Segment, _: int) -> bool:
            nonlocal excess
            excess -= segment.size
            return excess >= 0

        deleted += _delete_while(log, now_ms, is_beyond_size)
    if config.retention_ms >= 0:
        # A segment with a timestamp in the future is kept until that time has come and gone, as Kafka does.
        deleted += _delete_while(
            log, now_ms, lambda segment, _: now_ms - segment.largest_timestamp_ms() > config.retention_ms
        )
    return deleted


def remove_segments(host: LogHost, snapshots: SnapshotFiles, segment: Segment, delay_ms: int) -> None:
    """Rename the files of a segment, and the snapshot taken at its beginning, to be removed after a while."""
    paths = segment.mark_deleted()
    paths += snapshots.mark_deleted(segment.base_offset)
    segment.close()
    host.delete_later(paths, delay_ms)


def _delete_while(
    log: Log, now_ms: int, is_deletable: Callable[[Segment, int], bool], *, spare_active: bool = False
) -> int:
    """`is_deletable` is asked with a segment and its end offset."""
    segments = log.segments
    doomed = []
    for number, segment in enumerate(segments):
        is_active = number + 1 == len(segments)
        end_offset = log.log_end_offset if is_active else segments[number + 1].base_offset
        if is_active and (spare_active or not segment.size):
            break
        if end_offset > log.high_watermark or not is_deletable(segment, end_offset):
            break
        doomed.append(segment)
    if not doomed:
        return 0
    if len(doomed) == len(segments):
        log.roll(now_ms)  # there is always a segment, whose name keeps the log end offset
    log.remove_segments(doomed)
    log.segments_removed_from_start()
    return len(doomed)
