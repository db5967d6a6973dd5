"""Request and response headers, written out by hand: every request passes here.

Which header version goes with an API version: request header v2 and response header v1 from the API's first flexible
version, v1 and v0 before it. ApiVersions responses keep header v0 at every version, since a client that asks cannot
know yet what the broker understands; for the same reason a request with a version of ApiVersions that we do not know
still parses here, so that it can be answered (KIP-511). The client id is never compact.
"""

from __future__ import annotations

from struct import Struct, error

from ottla.core.binary import Buffer
from ottla.protocol.apis import FLEXIBLE_SINCE, NEVER_FLEXIBLE, ApiKey
from ottla.protocol.decoding import SHORT, read_unknown_tags
from ottla.protocol.errors import EncodeError, ProtocolError

RequestFacts = tuple[int, int, int, "str | None", int]
"""(api_key, api_version, correlation_id, client_id, body_offset)"""

_REQUEST = Struct(">hhih")
_unpack_request = _REQUEST.unpack_from
_pack_request = _REQUEST.pack


def is_flexible(api_key: int, api_version: int) -> bool:
    """Whether requests of this API version have header v2; False for an unknown API."""
    return api_version >= FLEXIBLE_SINCE.get(api_key, NEVER_FLEXIBLE)


def request_header_version(api_key: int, api_version: int) -> int:
    """1 or 2."""
    return 2 if is_flexible(api_key, api_version) else 1


def response_header_version(api_key: int, api_version: int) -> int:
    """0 or 1."""
    return 1 if api_key != ApiKey.API_VERSIONS and is_flexible(api_key, api_version) else 0


def parse_request_header(buffer: Buffer, offset: int, end: int) -> RequestFacts:
    """Facts of the header that starts at `offset` of a frame that ends at `end`, and where the body starts.

    Unknown APIs parse as header v1. Tagged fields of the header are skipped: none is defined.
    """
    try:
        api_key, api_version, correlation_id, size = _unpack_request(buffer, offset)
        offset += 10
        if size < 0:
            if size != -1:
                raise ProtocolError(f"client id of length {size}")
            client_id = None
        else:
            stop = offset + size
            if stop > end:
                raise ProtocolError("the client id is cut off")
            client_id = (SHORT[size](buffer, offset)[0] if size < 128 else bytes(buffer[offset:stop])).decode()
            offset = stop
        if api_version >= FLEXIBLE_SINCE.get(api_key, 32768):
            tags = buffer[offset]
            offset += 1
            if tags:
                offset = read_unknown_tags(buffer, offset, tags, end)[1]
    except (error, IndexError, ValueError) as problem:
        raise ProtocolError(f"request header: {problem}") from problem
    if offset > end:
        raise ProtocolError("the request header is cut off")
    return api_key, api_version, correlation_id, client_id, offset


def encode_request_header(api_key: int, api_version: int, correlation_id: int, client_id: str | None) -> bytes:
    """Header v1 or v2, whichever the API version takes."""
    encoded = b"" if client_id is None else client_id.encode()
    size = -1 if client_id is None else len(encoded)
    try:
        header = _pack_request(api_key, api_version, correlation_id, size) + encoded
    except error as problem:
        raise EncodeError(f"request header: {problem}") from problem
    return header + b"\0" if is_flexible(api_key, api_version) else header
