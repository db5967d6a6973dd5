"""ConsumerGroupHeartbeat (key 68), versions 0-1: join, keep alive, acknowledge and leave a consumer group (KIP-848).

Version notes.  1: subscription by regular expression, member ids made by the member (KIP-1082).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.acl import AclOperation
from ottla.core.errors import ApiError
from ottla.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatResponse
from ottla.server.broker.group_answers import answer_plain
from ottla.server.broker.group_protocols import check_protocol
from ottla.server.coordinator.consumer import service as consumer_group_service

if TYPE_CHECKING:
    from ottla.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: ConsumerGroupHeartbeatRequest, context: RequestContext
) -> ConsumerGroupHeartbeatResponse | DelayedResponse:
    """Answered at once where this broker is alone in the ISR of the group's partition."""
    try:
        check_protocol(broker, "consumer")
    except ApiError as error:
        return ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.message)
    may_describe = None
    if broker.authorizer is not None:
        from ottla.server.broker.permissions.asking import asker

        may_describe = asker(broker, context, AclOperation.DESCRIBE)
    return answer_plain(
        consumer_group_service.heartbeat(
            broker.groups,
            request,
            context.api_version,
            context.client_id or "",
            "/" + context.client_host,
            may_describe,
        )
    )
