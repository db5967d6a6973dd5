"""Envelope (key 58), version 0 (KIP-590): a client's request that a broker hands on to the active controller.

On controller listeners only. The response carries the whole response to the client, header and body. Refusals of the
envelope itself: NOT_CONTROLLER (the broker looks for the active one), INVALID_REQUEST (an address or an API that
cannot be forwarded), PRINCIPAL_DESERIALIZATION_FAILURE, UNSUPPORTED_VERSION (the request inside cannot be read).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.apis import APIS
from ottla.protocol.codec import encode
from ottla.protocol.errors import ProtocolError
from ottla.protocol.headers import parse_request_header
from ottla.protocol.messages.envelope import EnvelopeRequest, EnvelopeResponse
from ottla.server.broker.broker import RequestContext
from ottla.server.broker.dispatch import Route, UnsupportedRequestError
from ottla.server.broker.local_controller import handled, is_active
from ottla.server.broker.principals import address_of, introduce

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker


async def handle(broker: Broker, request: EnvelopeRequest, context: RequestContext) -> EnvelopeResponse:
    """Answer in the client's name."""
    if not is_active(broker):
        raise ApiError(ErrorCode.NOT_CONTROLLER)
    host = address_of(request.client_host_address)
    data = bytes(request.request_data)
    route, inner, body_offset = _addressed(broker, data)
    inner.listener_name, inner.client_host = context.listener_name, host
    introduce(inner, request.request_principal)
    try:
        body, _ = route.decode(data, body_offset, len(data))
    except ProtocolError as error:
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"Failed to parse the forwarded request: {error}") from None
    response: Any = await handled(broker, route, body, inner)
    encoded = encode(response, inner.api_version)
    header = inner.correlation_id.to_bytes(4, "big", signed=True) + bytes(route.header_bytes - 4)
    return EnvelopeResponse(response_data=header + encoded)


def _addressed(broker: Broker, data: bytes) -> tuple[Route, RequestContext, int]:
    """The route of the request inside, its surroundings as far as its header tells, and where its body begins."""
    try:
        api_key, version, correlation_id, client_id, body_offset = parse_request_header(data, 0, len(data))
    except ProtocolError as error:
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"Failed to parse the forwarded header: {error}") from None
    api = APIS.get(api_key)
    if api is None or not api.forwardable:
        name = api_key if api is None else api.name
        raise ApiError(ErrorCode.INVALID_REQUEST, f"API {name} is not enabled or is not eligible for forwarding")
    try:
        route = broker.controller_router.find(api_key, version)
    except UnsupportedRequestError as error:
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, str(error)) from None
    context = RequestContext(api_version=version, correlation_id=correlation_id, client_id=client_id)
    context.apis = broker.controller_router.apis
    return route, context, body_offset
