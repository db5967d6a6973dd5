"""What the metadata log hands to those who follow it, and what it reports when it cannot go on."""

from __future__ import annotations

from typing import Any, NamedTuple


class MetadataLogError(Exception):
    """The metadata log cannot be used as it is; the text is one line for the person who starts the node."""


class LeaderAndEpoch(NamedTuple):
    """Who leads the metadata log in which epoch; `leader_id` is -1 while nobody is known to."""

    leader_id: int
    epoch: int


class CommittedBatch(NamedTuple):
    """Framed records of one committed batch; none for a control batch.

    `prepared` is what the local leader gave to `append` with it, and None for batches of others.
    """

    frames: list[bytes]
    last_offset: int
    epoch: int
    timestamp_ms: int
    prepared: Any = None
