"""What one write tells the share coordinator: the start offset, and what changed behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.share.delivery import (
    ACKNOWLEDGED,
    ACQUIRED,
    ARCHIVED,
    InFlight,
    StateBatch,
    StateChange,
    StateWrite,
)
from ottla.server.broker.share.window import first_offset_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def state_write(
    ranges: Sequence[InFlight], end_offset: int, sent: Sequence[StateChange], *, is_unsure: bool
) -> StateWrite:
    """The write that makes the changes in `sent` hold; `is_unsure` when the one before may or may not have succeeded.

    The start offset is the one after this write, so that what it passes needs no line of its own.
    """
    start_offset = end_offset
    complete = 0
    is_leading = True
    for found in ranges:
        is_complete = _next_state(found) in (ACKNOWLEDGED, ARCHIVED)
        if is_leading and not is_complete:
            is_leading = False
            start_offset = found.first_offset
        if is_complete and not is_leading:
            complete += found.end_offset - found.first_offset
    if is_unsure:
        # The write before may have passed records with its start offset that were not settled: say everything.
        written = [found for found in ranges if found.state != ACQUIRED or _is_sent(found)]
    else:
        written = [
            found
            for change in sent
            for found in change.ranges
            # One that was acquired again, or has changed once more, is not what this change says any more.
            if found.change is change and (change.is_reversible or found.state != ACQUIRED)
        ]
    written = [found for found in written if found.first_offset >= start_offset]
    written.sort(key=first_offset_of)
    return StateWrite(start_offset, complete, _batches(written))


def _batches(written: Sequence[InFlight]) -> list[StateBatch]:
    """One line for neighbours of the same state."""
    batches: list[StateBatch] = []
    for found in written:
        if batches:
            last = batches[-1]
            if (
                last.last_offset + 1 == found.first_offset
                and last.delivery_state == _next_state(found)
                and last.delivery_count == found.delivery_count
            ):
                batches[-1] = last._replace(last_offset=found.end_offset - 1)
                continue
        batches.append(StateBatch(found.first_offset, found.end_offset - 1, _next_state(found), found.delivery_count))
    return batches


def _is_sent(found: InFlight) -> bool:
    return found.change is not None and found.change.is_reversible and found.change.is_sent


def _next_state(found: InFlight) -> int:
    """The state once the write under way has succeeded."""
    return found.target if _is_sent(found) else found.state
