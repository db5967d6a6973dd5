"""What a stranger reaches on a listener that asks who one is: every API there is, of brokers and of controllers."""

from __future__ import annotations

import asyncio

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.apis import APIS as ALL
from ottla.protocol.apis import ApiKey
from ottla.protocol.headers import encode_request_header
from ottla.schema.listeners import Listener as ListenerAddress
from ottla.server.broker.api_table import APIS, CONTROLLER_APIS
from ottla.server.broker.connection_limits import ConnectionLimits
from ottla.server.broker.dispatch import Router
from ottla.server.broker.listener import Listener
from tests.server.broker.support import make_broker, run
from tests.server.broker.test_sasl_connection import SETTINGS, Client

EARLY = (ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE)


async def ask(listener: Listener, first: bytes, key: int, version: int, more: bytes) -> tuple[bytes | None, bool]:
    """The answer to one request behind `first`, and whether the connection stays."""
    client = Client(*await asyncio.open_connection("127.0.0.1", listener.port))
    try:
        if first:
            client.writer.write(first)
            await client.frame()
        frame = encode_request_header(ApiKey(key), version, 7, "stranger") + more
        client.writer.write(len(frame).to_bytes(4, "big") + frame)
        answer = await asyncio.wait_for(client.frame(), 5)
        if answer is not None and await asyncio.wait_for(client.frame(), 5) is not None:
            return answer, True
        return answer, False
    finally:
        client.writer.close()


def handshake() -> bytes:
    body = b"\0\5PLAIN"
    frame = encode_request_header(ApiKey.SASL_HANDSHAKE, 1, 1, "stranger") + body
    return len(frame).to_bytes(4, "big") + frame


@pytest.mark.parametrize("is_controller", [False, True], ids=["broker", "controller"])
@pytest.mark.parametrize("is_begun", [False, True], ids=["at first", "in the middle"])
def test_no_handler_is_reached_without_a_login(is_controller: bool, is_begun: bool) -> None:
    async def main() -> None:
        broker = make_broker(SETTINGS | {"connection.failed.authentication.delay.ms": 0})
        reached = []

        def reach(route, handle, broker, request, context):  # type: ignore[no-untyped-def]
            reached.append(route.api.name)
            return route.response_class()

        router = Router(CONTROLLER_APIS if is_controller else APIS)
        router.intercept(reach)
        address = ListenerAddress("CLIENTS", "SASL_PLAINTEXT", "127.0.0.1", 0)
        listener = Listener(broker, address, router, ConnectionLimits.from_config(broker.config))
        await listener.start()
        try:
            for key, api in ALL.items():
                if key in EARLY:
                    continue
                first = handshake() if is_begun else b""
                answer, stays = await ask(listener, first, key, api.versions[1], b"\0" * 64)
                assert not stays, api.name
                if answer is not None:
                    assert is_begun, f"{api.name} is answered"
                    assert int(ErrorCode.ILLEGAL_SASL_STATE).to_bytes(2, "big") in answer or len(answer) < 16, api.name
            assert reached == []
            assert all(connection.context.session is None for connection in listener.connections)
            assert listener.requests == 0
        finally:
            await listener.close(0.1)

    run(main())


def test_what_only_controllers_are_asked_is_not_served_to_clients() -> None:
    """An Envelope says in whose name it comes: of a client it would be whoever the client wants to be."""
    only_controllers = {key for key in CONTROLLER_APIS if key not in APIS}
    assert ApiKey.ENVELOPE in only_controllers
    assert {ApiKey.BROKER_REGISTRATION, ApiKey.ALTER_PARTITION, ApiKey.VOTE, ApiKey.FETCH_SNAPSHOT} <= only_controllers

    async def main() -> None:
        broker = make_broker()
        listener = Listener(
            broker,
            ListenerAddress("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 0),
            Router(APIS),
            ConnectionLimits.from_config(broker.config),
        )
        await listener.start()
        try:
            for key in sorted(only_controllers):
                assert await ask(listener, b"", key, ALL[ApiKey(key)].versions[1], b"\0" * 64) == (None, False)
        finally:
            await listener.close(0.1)

    run(main())
