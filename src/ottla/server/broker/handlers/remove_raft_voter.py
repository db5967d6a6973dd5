"""RemoveRaftVoter (key 81), version 0: a voter of the metadata quorum becomes an observer (KIP-853).

Served by controllers, forwarded to the active one by brokers. Refusals: INCONSISTENT_CLUSTER_ID,
NOT_LEADER_OR_FOLLOWER, UNSUPPORTED_VERSION (a static quorum), VOTER_NOT_FOUND, REQUEST_TIMED_OUT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest, RemoveRaftVoterResponse
from ottla.server.broker.quorum_requests import ask_quorum

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: RemoveRaftVoterRequest, context: RequestContext
) -> Awaitable[RemoveRaftVoterResponse]:
    """Ask this node's part of the quorum."""
    return ask_quorum(broker, request, context)
