"""BeginQuorumEpoch (key 53), versions 0-1: the leader of a new epoch makes itself known (KIP-595).

On controller listeners only. Version notes. 1: where the leader is reached, and the directory id of the voter it means
(KIP-853). Refusals of the whole: INCONSISTENT_CLUSTER_ID, INVALID_REQUEST. Of the partition: FENCED_LEADER_EPOCH,
INVALID_REQUEST, INVALID_VOTER_KEY.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.begin_quorum_epoch import BeginQuorumEpochRequest, BeginQuorumEpochResponse
from ottla.server.broker.quorum_requests import ask_quorum

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: BeginQuorumEpochRequest, context: RequestContext
) -> Awaitable[BeginQuorumEpochResponse]:
    """Ask this node's part of the quorum."""
    return ask_quorum(broker, request, context)
