"""UpdateRaftVoter (key 82), version 0: a voter tells the leader where it is reached, and what it supports (KIP-853).

On controller listeners only. Refusals: INCONSISTENT_CLUSTER_ID, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH,
NOT_LEADER_OR_FOLLOWER, INVALID_REQUEST, VOTER_NOT_FOUND, REQUEST_TIMED_OUT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.update_raft_voter import UpdateRaftVoterRequest, UpdateRaftVoterResponse
from ottla.server.broker.quorum_requests import ask_quorum

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: UpdateRaftVoterRequest, context: RequestContext
) -> Awaitable[UpdateRaftVoterResponse]:
    """Ask this node's part of the quorum."""
    return ask_quorum(broker, request, context)
