"""The controller of this process as one that can be asked: its handlers, called without a connection.

What comes this way, and what an Envelope carries, takes the same routes as requests on a controller listener: they
count in the same metrics, and are refused in the same words.
"""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.apis import APIS
from ottla.server.broker.broker import RequestContext

if TYPE_CHECKING:
    from ottla.protocol.message import Request
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.dispatch import Route


class LocalController:
    """Asks the controller of `broker`'s node, which need not be active."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @property
    def is_active(self) -> bool:
        """Whether it may be asked."""
        return is_active(self._broker)

    async def answer(self, message: Request) -> Any:
        """The response to a request of this node's own. Raises ApiError NOT_CONTROLLER."""
        broker = self._broker
        version = APIS[message.API_KEY].latest_stable_version
        route = broker.controller_router.find(message.API_KEY, version)
        names = broker.config.controller_listener_names
        context = RequestContext(listener_name=names[0] if names else "", api_version=version)
        context.apis = broker.controller_router.apis
        context.is_internal = True
        return await handled(broker, route, message, context)


def is_active(broker: Broker) -> bool:
    """Whether this node has the active controller."""
    controller = broker.existing_controller
    return controller is not None and controller.is_active


async def handled(broker: Broker, route: Route, request: Any, context: RequestContext) -> Any:
    """What the route's handler answers, be it a refusal. Raises ApiError NOT_CONTROLLER, and what cannot be answered.

    That this node is not the active controller (any more) is no answer: somebody else has one.
    """
    route.requests += 1
    try:
        response = route.handle(broker, request, context)
        return await response if isawaitable(response) else response
    except ApiError as error:
        if error.code == ErrorCode.NOT_CONTROLLER:
            raise
        response = route.failure(request, context, error)
        if response is None:
            raise
        return response
    except Exception as error:
        response = route.failure(request, context, error)
        if response is None:
            raise
        return response
