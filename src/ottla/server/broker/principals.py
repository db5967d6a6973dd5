"""Who asked, as an Envelope says it: the principal serialized as Kafka's default builder does, and an address.

The groups that a login told travel in a tagged field of our own behind it, which Apache Kafka passes over: a controller
decides with what the client's broker knows of it. Of the rest of a session only that it began with a delegation token.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.codec import decode, encode
from ottla.protocol.errors import ProtocolError
from ottla.protocol.messages.principal_data import DefaultPrincipalData

if TYPE_CHECKING:
    from ottla.server.broker.broker import RequestContext
    from ottla.server.security.session import Session

_VERSION = (0).to_bytes(2, "big")
UNKNOWN_TOKEN: Final = ""
"""The id of a delegation token that another node knows."""


def principal_bytes(principal: str, session: Session | None = None) -> bytes:
    """`Type:name`, behind the version of the format."""
    kind, _, name = principal.partition(":")
    data = DefaultPrincipalData(type=kind, name=name)
    if session is not None:
        data.token_authenticated = session.token_id is not None
        if session.groups:
            from ottla.server.security.groups import tags_of

            data.unknown_tags = tags_of(session.groups)
    return _VERSION + encode(data, 0)


def principal_of(data: bytes | None) -> str:
    """The principal. Raises ApiError PRINCIPAL_DESERIALIZATION_FAILURE."""
    read = _read(data)
    return f"{read.type}:{read.name}"


def introduce(context: RequestContext, data: bytes | None) -> None:
    """Let a request's surroundings say who asked. Raises ApiError PRINCIPAL_DESERIALIZATION_FAILURE."""
    read = _read(data)
    context.principal = f"{read.type}:{read.name}"
    if not read.unknown_tags and not read.token_authenticated:
        return
    from ottla.server.security.groups import groups_in
    from ottla.server.security.session import Session

    try:
        names = groups_in(read.unknown_tags)
    except ValueError:
        raise ApiError(ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE) from None
    context.session = Session(context.principal, names, token_id=UNKNOWN_TOKEN if read.token_authenticated else None)


def _read(data: bytes | None) -> DefaultPrincipalData:
    if data is None or bytes(data[:2]) != _VERSION:
        raise ApiError(ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE)
    try:
        return decode(DefaultPrincipalData, 0, bytes(data[2:]))
    except ProtocolError:
        raise ApiError(ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE) from None


def address_bytes(host: str) -> bytes:
    """An address of a client in 4 or 16 bytes; 0.0.0.0 where there is none, as on a simulated network."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, host.partition("%")[0])
        except OSError:
            continue
    return bytes(4)


def address_of(data: bytes) -> str:
    """The address. Raises ApiError INVALID_REQUEST."""
    if len(data) not in (4, 16):
        raise ApiError(ErrorCode.INVALID_REQUEST, "Failed to parse client address from envelope")
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, bytes(data))
