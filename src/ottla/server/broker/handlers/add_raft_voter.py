"""AddRaftVoter (key 80), versions 0-1: an observer becomes a voter of the metadata quorum (KIP-853).

Served by controllers, forwarded to the active one by brokers. Version notes. 1: whether to answer when the change is in
the leader's log, or committed. Refusals: INCONSISTENT_CLUSTER_ID, NOT_LEADER_OR_FOLLOWER, UNSUPPORTED_VERSION (a static
quorum), DUPLICATE_VOTER, INVALID_REQUEST, REQUEST_TIMED_OUT.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterResponse
from ottla.server.broker.quorum_requests import ask_quorum

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext


def handle(broker: Broker, request: AddRaftVoterRequest, context: RequestContext) -> Awaitable[AddRaftVoterResponse]:
    """Ask this node's part of the quorum."""
    return ask_quorum(broker, request, context)
