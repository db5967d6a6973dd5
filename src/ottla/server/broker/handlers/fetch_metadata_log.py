"""Fetch (key 1) on controller listeners: replicas follow the metadata log (KIP-595).

The one partition must be `__cluster_metadata`-0; anything else is INVALID_REQUEST. The answer says who leads, where a
log that has diverged agrees with the leader's (v12), or which snapshot to fetch instead. Fetching acknowledges. Version
notes. 13: topics by id. 15: the replica in a field of its own. 16: endpoints of the leader. 17: directory ids of
replicas (KIP-853). 18: how far the replica knows it to be committed (KIP-1166).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.fetch import FetchRequest, FetchResponse
from ottla.server.broker.quorum_requests import ask_quorum

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext


def handle(broker: Broker, request: FetchRequest, context: RequestContext) -> Awaitable[FetchResponse]:
    """Ask this node's part of the quorum."""
    return ask_quorum(broker, request, context)
