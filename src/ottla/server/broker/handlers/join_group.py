"""JoinGroup (key 11), versions 0-9: become a member of a classic group, wait for its next generation.

Version notes.  0: the session timeout serves as rebalance timeout.  1: rebalance timeout.  2: throttle time.  4: an
unknown member gets MEMBER_ID_REQUIRED and an id first (KIP-394).  5: group instance id (KIP-345).  6: flexible.  7:
protocol type in the answer (KIP-559). 8: reason (KIP-800).  9: skip_assignment (KIP-814).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.group_answers import answer_plain

if TYPE_CHECKING:
    from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(broker: Broker, request: JoinGroupRequest, context: RequestContext) -> JoinGroupResponse | DelayedResponse:
    """Parked until the generation is complete, unless it is refused.  The host gets Kafka's slash."""
    return answer_plain(
        broker.groups.join(request, context.api_version, context.client_id or "", "/" + context.client_host)
    )
