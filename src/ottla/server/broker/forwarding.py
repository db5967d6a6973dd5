"""What is for the controller is carried out by the active one, whichever broker was asked (KIP-590).

A request whose API is forwarded is handled here when this node has the active controller. Otherwise, and when this
node turns out not to be the active one any more, it travels in an Envelope: as the client sent it, with the client's
principal and address. The controller decides, in the client's name; its response goes to the client as it came, with
the time the client has to wait for its quotas.

When there is no answer in time the client hears REQUEST_TIMED_OUT. When the Envelope itself is refused it hears
UNKNOWN_SERVER_ERROR: it can do nothing about how brokers and controllers trust each other. When the controller does
not know the version (it is older than this broker), the connection is closed: the client asks for versions again.
"""

from __future__ import annotations

import logging
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.protocol.codec import decoder, encode
from ottla.protocol.errors import ProtocolError
from ottla.protocol.headers import encode_request_header, response_header_version
from ottla.server.broker.broker import CloseConnectionError
from ottla.server.broker.controller_channel import ControllerUnavailableError
from ottla.server.broker.local_controller import is_active

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ottla.protocol.message import Request
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.controller_channel import ControllerChannel
    from ottla.server.broker.dispatch import Handle

logger = logging.getLogger(__name__)


def at_controller(
    own: Handle, channel: ControllerChannel, broker: Broker, request: Any, context: RequestContext
) -> Coroutine[Any, Any, Any]:
    """The response: by `own` when this node has the active controller, else from elsewhere.

    `own` raises ApiError NOT_CONTROLLER when leadership moves meanwhile.
    """
    if is_active(broker):
        return _here_or_there(own, channel, broker, request, context)
    return forward(channel, broker, request, context)


async def _here_or_there(
    own: Handle, channel: ControllerChannel, broker: Broker, request: Any, context: RequestContext
) -> Any:
    try:
        response = own(broker, request, context)
        return await response if isawaitable(response) else response
    except ApiError as error:
        if error.code != ErrorCode.NOT_CONTROLLER:
            raise
    return await forward(channel, broker, request, context)


async def forward(channel: ControllerChannel, broker: Broker, request: Request, context: RequestContext) -> Any:
    """The active controller's response to a client's request.

    Raises ApiError REQUEST_TIMED_OUT or UNKNOWN_SERVER_ERROR, and CloseConnectionError.
    """
    # Imported here: a node that is a cluster of its own forwards nothing.
    from ottla.protocol.messages.envelope import EnvelopeRequest
    from ottla.server.broker.principals import address_bytes, principal_bytes
    from ottla.server.peers.errors import UnsupportedPeerVersionError

    version = context.api_version
    header = encode_request_header(request.API_KEY, version, context.correlation_id, context.client_id)
    envelope = EnvelopeRequest(
        request_data=header + encode(request, version),
        request_principal=principal_bytes(context.principal, context.session),
        client_host_address=address_bytes(context.client_host),
    )
    name = type(request).__name__
    try:
        response = await channel.request(envelope, timeout_ms=broker.config["request.timeout.ms"])
    except ControllerUnavailableError as error:
        logger.warning("%s of client %r was not forwarded: %s", name, context.client_id, error)
        raise ApiError(ErrorCode.REQUEST_TIMED_OUT) from None
    except UnsupportedPeerVersionError as error:
        logger.error("%s of client %r was not forwarded: %s", name, context.client_id, error)
        raise ApiError(ErrorCode.UNKNOWN_SERVER_ERROR) from None
    if response.error_code == ErrorCode.UNSUPPORTED_VERSION:
        raise CloseConnectionError(f"the active controller does not serve version {version} of {name}")
    if response.error_code or response.response_data is None:
        code = ERRORS.get(response.error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
        logger.error("%s of client %r: the active controller refuses it: %s", name, context.client_id, code.name)
        raise ApiError(ErrorCode.UNKNOWN_SERVER_ERROR)
    try:
        return _unwrapped(request, version, context.correlation_id, response.response_data)
    except ProtocolError as error:
        logger.error("%s: the active controller's answer cannot be read: %s", name, error)
        raise ApiError(ErrorCode.UNKNOWN_SERVER_ERROR) from None


def _unwrapped(request: Request, version: int, correlation_id: int, data: bytes) -> Any:
    """The response in an Envelope's: a header, then the body in the request's version."""
    from ottla.protocol.apis import APIS

    start = 5 if response_header_version(request.API_KEY, version) else 4
    if len(data) < start or int.from_bytes(data[:4], "big", signed=True) != correlation_id:
        raise ProtocolError("it belongs to another request")
    if start == 5 and data[4]:
        raise ProtocolError("unexpected tagged fields in its header")
    response, end = decoder(APIS[request.API_KEY].response_class(), version)(data, start, len(data))
    if end != len(data):
        raise ProtocolError(f"{len(data) - end} bytes too many")
    return response
