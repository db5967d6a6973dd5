"""What the quorum core wants done. The shell carries effects out in the order they come, one after the other.

Order is what keeps the quorum safe: a `Persist` must be durable before anything behind it happens, so that a vote is on
the device before it is sent. `Flush` may go on in the background; its end is told with `QuorumCore.on_flushed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ottla.core.binary import Buffer
from ottla.protocol.message import Request, Response
from ottla.server.raft.metadata_log import LeaderAndEpoch
from ottla.server.raft.quorum_state import QuorumState
from ottla.server.raft.snapshot import SnapshotId


class Destination(NamedTuple):
    """A node to send to. Bootstrap servers, whose ids are not known, have ids from -2 downwards."""

    node_id: int
    host: str
    port: int

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port


@dataclass(frozen=True, slots=True)
class Persist:
    """Write `quorum-state`; durable before any later effect is carried out."""

    state: QuorumState


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; `on_response(token, …)` or `on_send_failed(token, …)` follows, at most once.

    The core gives up by itself after `timeout_ms` and then ignores the token; the shell may cancel it.
    """

    destination: Destination
    request: Request
    token: int
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the request that came in with `token`."""

    token: object
    response: Response


@dataclass(frozen=True, slots=True)
class ReplySnapshot:
    """Answer a FetchSnapshot: put at most `max_bytes` of the snapshot from `position` into
    `response.topics[0].partitions[0].unaligned_records`, then reply. Size and position stand in the response already.
    """

    token: object
    response: Response
    snapshot_id: SnapshotId
    position: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Flush:
    """Bring everything appended so far to the device, then call `on_flushed`. Never asked for while one is under
    way; the log's `flushed_end_offset` says how far it got."""


@dataclass(frozen=True, slots=True)
class HighWatermark:
    """Records before `offset` are committed, and on this replica. Grows only, also beyond what was flushed here."""

    offset: int


@dataclass(frozen=True, slots=True)
class LeaderChange:
    """Another leader, or none, or another epoch.

    When this node leads, its listener is told only after everything before `epoch_start_offset` was handed to it, which
    is committed with the first record of the epoch (Kafka's rule). Otherwise the offset is 0.
    """

    leader: LeaderAndEpoch
    epoch_start_offset: int = 0


@dataclass(frozen=True, slots=True)
class StoreSnapshotPiece:
    """Append a piece to the file of a snapshot under download; position 0 begins the file anew."""

    snapshot_id: SnapshotId
    position: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class InstallSnapshot:
    """The download is complete: make the snapshot durable, let the log begin (empty) at its end, then call
    `on_snapshot_installed`, or `on_snapshot_failed` when the file is damaged. Nothing else changes the log meanwhile.
    """

    snapshot_id: SnapshotId


@dataclass(frozen=True, slots=True)
class Fail:
    """This replica cannot go on without losing what is committed; one line for the operator. The core is silent from
    now on."""

    reason: str


Effect = (
    Persist
    | Send
    | Reply
    | ReplySnapshot
    | Flush
    | HighWatermark
    | LeaderChange
    | StoreSnapshotPiece
    | InstallSnapshot
    | Fail
)
