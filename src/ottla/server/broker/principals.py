"""Who asked, as an Envelope says it: the principal serialized as Kafka's default builder does, and an address."""

from __future__ import annotations

import socket

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.codec import decode, encode
from ottla.protocol.errors import ProtocolError
from ottla.protocol.messages.principal_data import DefaultPrincipalData

_VERSION = (0).to_bytes(2, "big")


def principal_bytes(principal: str) -> bytes:
    """`Type:name`, behind the version of the format."""
    kind, _, name = principal.partition(":")
    return _VERSION + encode(DefaultPrincipalData(type=kind, name=name), 0)


def principal_of(data: bytes | None) -> str:
    """The principal. Raises ApiError PRINCIPAL_DESERIALIZATION_FAILURE."""
    if data is None or bytes(data[:2]) != _VERSION:
        raise ApiError(ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE)
    try:
        read = decode(DefaultPrincipalData, 0, bytes(data[2:]))
    except ProtocolError:
        raise ApiError(ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE) from None
    return f"{read.type}:{read.name}"


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
