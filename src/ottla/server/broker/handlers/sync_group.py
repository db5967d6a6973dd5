"""SyncGroup (key 14), versions 0-5: the leader hands in the assignment, every member takes its part.

Version notes.  1: throttle time.  3: group instance id (KIP-345).  4: flexible.  5: protocol type and name are
checked (KIP-559).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.group_answers import answer_plain

if TYPE_CHECKING:
    from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(broker: Broker, request: SyncGroupRequest, context: RequestContext) -> SyncGroupResponse | DelayedResponse:
    """Parked until the leader's assignment is stored."""
    return answer_plain(broker.groups.sync(request))
