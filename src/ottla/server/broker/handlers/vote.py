"""Vote (key 52), versions 0-2: a controller stands for election, or asks whether it would win (KIP-595).

On controller listeners only. Version notes. 1: directory ids of candidate and voter, endpoints of the leader in the
answer (KIP-853). 2: pre-votes (KIP-996). Refusals of the whole: INCONSISTENT_CLUSTER_ID, INVALID_REQUEST. Of the
partition: FENCED_LEADER_EPOCH, INVALID_REQUEST, INVALID_VOTER_KEY.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.vote import VoteRequest, VoteResponse
from ottla.server.broker.quorum_requests import ask_quorum

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext


def handle(broker: Broker, request: VoteRequest, context: RequestContext) -> Awaitable[VoteResponse]:
    """Ask this node's part of the quorum."""
    return ask_quorum(broker, request, context)
