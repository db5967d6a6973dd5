"""Requests to a broker of this process, without a socket: the typed message in, the typed response out.

The helpers of the test kit speak Kafka's protocol to the broker's handlers, but not over the network. So what a test
looks at is what any client would see, and faults that are injected into connections never hit the test's own looking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.client.errors import error_for
from ottla.core.errors import ApiError
from ottla.server.broker.api_table import APIS
from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext
from ottla.server.broker.dispatch import at_controller

if TYPE_CHECKING:
    from ottla.server.node.node import Node

CLIENT_ID = "ottla-testing"

_HANDLERS: dict[int, _Handler] = {}


class _Handler(NamedTuple):
    handle: Callable[[Broker, Any, RequestContext], Any]
    newest_version: int


async def answer(node: Node, request: Any, version: int | None = None) -> Any:
    """The response of a node to a request, as of a version of its API (None: the newest). Raises `KafkaError` for a
    refusal of the whole request.
    """
    handler = _handler(type(request).API_KEY)
    context = RequestContext(
        listener_name=node.config.listeners[0].name,
        client_host="127.0.0.1",
        client_id=CLIENT_ID,
        api_version=handler.newest_version if version is None else version,
    )
    try:
        response = handler.handle(node.broker, request, context)
        if isinstance(response, DelayedResponse):
            response = await _delayed(response)
        elif isinstance(response, Awaitable):
            response = await response
    except ApiError as error:
        raise error_for(error.code, error.message) from None
    return response


def _handler(api_key: int) -> _Handler:
    handler = _HANDLERS.get(api_key)
    if handler is None:
        api = APIS[api_key]
        handle = import_module(api.handler_module).handle
        if api.forwarded:
            handle = partial(at_controller, handle)
        handler = _HANDLERS[api_key] = _Handler(handle, api.max_version)
    return handler


async def _delayed(delayed: DelayedResponse) -> Any:
    done = asyncio.get_running_loop().create_future()

    def settle(response: DelayedResponse) -> None:
        if done.done():
            return
        if response.error is not None:
            done.set_exception(response.error)
        else:
            done.set_result(response.response)

    if delayed.done:
        settle(delayed)
    delayed.on_done = settle
    try:
        return await done
    finally:
        if not delayed.done:
            delayed.cancel()
