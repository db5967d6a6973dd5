"""EndQuorumEpoch (key 54), versions 0-1: a leader resigns and names who should stand for election (KIP-595).

On controller listeners only. Version notes. 1: successors with their directory ids, where the leader is reached
(KIP-853). Refusals of the whole: INCONSISTENT_CLUSTER_ID, INVALID_REQUEST. Of the partition: FENCED_LEADER_EPOCH,
INVALID_REQUEST.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.end_quorum_epoch import EndQuorumEpochRequest, EndQuorumEpochResponse
from ottla.server.broker.quorum_requests import ask_quorum

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: EndQuorumEpochRequest, context: RequestContext
) -> Awaitable[EndQuorumEpochResponse]:
    """Ask this node's part of the quorum."""
    return ask_quorum(broker, request, context)
