"""Requests about delegation tokens (KIP-48): who may make them, and where they are answered.

A token is a secret, so it is told on listeners only where clients say who they are; and who logged in with a token gets
no further ones, or a token would never end. Kafka's controllers refuse what was forwarded to a plain listener of theirs
for the same reason. Here a broker refuses at once where a token would have to travel like that, whichever node happens
to be the active controller.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ottla.server.broker.dispatch import at_controller

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.dispatch import Handle

ERROR_TIMESTAMP = -1
ANONYMOUS = "User:ANONYMOUS"


def are_allowed(broker: Broker, context: RequestContext) -> bool:
    """Whether the client may ask about tokens at all (else DELEGATION_TOKEN_REQUEST_NOT_ALLOWED)."""
    session = context.session
    if session is not None and session.token_id is not None:
        return False
    protocols = {listener.name: listener.protocol for listener in broker.config.all_listeners}
    protocol = protocols.get(context.listener_name, "PLAINTEXT")
    if protocol == "PLAINTEXT" or (protocol == "SSL" and context.principal == ANONYMOUS):
        return False
    return broker.channel is None or context.is_for_controller or broker.config.controller_protocol() != "PLAINTEXT"


def where_it_belongs(own: Handle, broker: Broker, request: Any, context: RequestContext) -> Awaitable[Any] | Any:
    """Here, when this node was asked as a controller; else where the active one is."""
    return (own if context.is_for_controller else partial(at_controller, own))(broker, request, context)
