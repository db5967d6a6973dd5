"""Requests on a plain socket, to see what really comes over the wire."""

from __future__ import annotations

import socket
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from ottla.protocol.codec import decode
from ottla.protocol.framing import SIZE, encode_request
from ottla.protocol.headers import response_header_version
from ottla.protocol.layout import Layout
from ottla.protocol.message import Field, Message, Request
from ottla.server.broker.api_table import APIS, Api


class RawClient:
    """One blocking connection; `ask` raises ConnectionError when it is closed, TimeoutError when nothing comes."""

    def __init__(self, bootstrap_servers: str, client_id: str = "raw", timeout_s: float = 10.0) -> None:
        host, _, port = bootstrap_servers.rpartition(":")
        self._client_id = client_id
        self._socket = socket.create_connection((host, int(port)), timeout_s)
        self._correlation_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, request: Request, version: int) -> None:
        self._correlation_id += 1
        self._socket.sendall(b"".join(encode_request(request, version, self._correlation_id, self._client_id)))

    def ask(self, request: Request, version: int) -> Any:
        self.send(request, version)
        return self.receive(request, version)

    def receive(self, request: Request, version: int) -> Any:
        (size,) = SIZE.unpack(self._read(4))
        frame = self._read(size)
        assert SIZE.unpack_from(frame)[0] == self._correlation_id
        start = 5 if response_header_version(request.API_KEY, version) else 4
        return decode(response_class(APIS[request.API_KEY]), version, frame[start:])

    def set_timeout(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def _read(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            part = self._socket.recv(size - len(parts))
            if not part:
                raise ConnectionError("closed by the broker")
            parts += part
        return parts


def request_class(api: Api) -> type[Request]:
    found: type[Request] = getattr(import_module(api.message_module), f"{api.name}Request")
    return found


def response_class(api: Api) -> type[Message]:
    found: type[Message] = getattr(import_module(api.message_module), f"{api.name}Response")
    return found


CODES = {"resource_type": 2, "resource_type_filter": 2, "operation": 2, "permission_type": 3}
"""A topic, everything, allowed: who asks with codes that stand for nothing is hung up on."""

RULE = {
    **dict.fromkeys(("principal", "principal_filter"), "User:nobody"),
    **dict.fromkeys(("host", "host_filter"), "*"),
    "resource_name_filter": "orders",
}


def sample(cls: type[Message], version: int, topic_id: bytes) -> Any:
    """A message with one element in every array, about partition 0 of a topic and a group."""
    layout = Layout(cls, version)
    return cls(**{one.name: _value(one, version, topic_id) for one in cls.FIELDS if layout.has(one.versions)})


def _value(field: Field, version: int, topic_id: bytes) -> Any:
    if field.type == "array":
        if field.struct is not None:
            return [sample(field.struct, version, topic_id)]
        if field.element == "string":
            return ["orders" if field.entity == "topicName" else "group"]
        return [0]
    if field.name == "topic_id":
        return topic_id
    if field.name in CODES:
        return CODES[field.name]
    if field.name == "acks":
        return 1
    if field.name in RULE:
        return RULE[field.name]
    if field.type == "string" and (field.entity == "topicName" or field.name in ("resource_name", "topic")):
        return "orders"
    if field.entity == "groupId" or field.name == "key":
        return "group"
    if field.type == "records":
        return None
    if field.type == "struct":
        assert field.struct is not None
        return sample(field.struct, version, topic_id) if field.nullable == "none" else None
    return field.default if field.default is not None or field.nullable != "none" else ""
