"""FetchSnapshot (key 59), versions 0-1: a piece of a metadata snapshot, for a replica far behind (KIP-630).

On controller listeners only. Version notes. 1: directory ids of replicas, endpoints of the leader in the answer
(KIP-853). Refusals: INCONSISTENT_CLUSTER_ID, INVALID_REQUEST; of the partition UNKNOWN_TOPIC_OR_PARTITION,
FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER, SNAPSHOT_NOT_FOUND, POSITION_OUT_OF_RANGE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.fetch_snapshot import FetchSnapshotRequest, FetchSnapshotResponse
from ottla.server.broker.quorum_requests import ask_quorum

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext


def handle(broker: Broker, request: FetchSnapshotRequest, context: RequestContext) -> Awaitable[FetchSnapshotResponse]:
    """Ask this node's part of the quorum."""
    return ask_quorum(broker, request, context)
