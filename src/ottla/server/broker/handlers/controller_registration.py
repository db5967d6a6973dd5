"""ControllerRegistration (key 70), version 0: a controller tells where it listens and what it can do (KIP-919).

On controller listeners only. Refusals: UNSUPPORTED_VERSION below metadata.version 3.7-IV0, NOT_CONTROLLER.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.controller_registration import (
    ControllerRegistrationRequest,
    ControllerRegistrationResponse,
)

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(
    broker: Broker, request: ControllerRegistrationRequest, context: RequestContext
) -> ControllerRegistrationResponse:
    """Have the active controller note it."""
    return await broker.controller.register_controller(request)
