"""Connections above a quota: answered at once, then muted; what they sent meanwhile waits in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.server.broker.broker import DelayedResponse, RequestContext
from ottla.server.broker.listener import Listener
from tests.server.broker.support import Client, listening, make_broker, run

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
PING = ApiVersionsRequest(client_software_name="test", client_software_version="1.0")
VERSION = 3


class Quotas:
    """Has every request wait for `throttle_ms`, and takes note of what it is asked."""

    is_timed = False

    def __init__(self, *throttle_ms: int) -> None:
        self.throttle_ms = list(throttle_ms)
        self.settled: list[tuple[bool, int]] = []
        self.steps: list[str] = []

    def begin(self, api_key: int, request_bytes: int, context: RequestContext) -> Quotas:
        assert request_bytes > 10
        self.steps.append("begin")
        return self

    def prepare(self, request: Any) -> None:
        assert isinstance(request, ApiVersionsRequest)

    def pause(self) -> None:
        self.steps.append("pause")

    def resume(self) -> None:
        self.steps.append("resume")

    async def timed(self, awaitable: Any) -> Any:
        self.steps.append("timed")
        return await awaitable

    def settle(self, response: Any, size: int) -> int:
        self.steps.append("settle")
        self.settled.append((response is not None, size))
        return self.throttle_ms.pop(0) if self.throttle_ms else 0

    def sent(self) -> None:
        self.steps.append("sent")


def metered(quotas: Quotas, settings: dict[str, object] | None = None) -> Any:
    broker = make_broker(settings)
    broker.quotas = quotas  # type: ignore[assignment]
    return broker


def answer_with(listener: Listener, handle: Any) -> None:
    listener.router.find(ApiKey.API_VERSIONS, VERSION).handle = handle


@LOOPS
def test_the_answer_leaves_at_once_and_what_follows_waits_in_order(loop: str) -> None:
    async def main() -> None:
        quotas = Quotas(400, 0, 100)
        async with listening(metered(quotas)) as listener:
            kept = ApiVersionsResponse(error_code=7)
            handled: list[int] = []

            def handle(broker: object, request: object, context: RequestContext) -> ApiVersionsResponse:
                handled.append(context.correlation_id)
                return kept

            answer_with(listener, handle)
            client = await Client.connect(listener.port)
            clock = asyncio.get_running_loop()
            started = clock.time()
            for _ in range(4):
                client.send(PING, VERSION)
            assert (await client.receive()).throttle_time_ms == 400
            [connection] = listener.connections
            assert connection.is_muted
            await asyncio.sleep(0.02)
            client.send(PING, VERSION)
            await asyncio.sleep(0.02)
            assert handled == [0]
            assert (await client.receive()).throttle_time_ms == 0
            assert clock.time() - started > 0.399  # a loop counts in whole milliseconds
            assert (await client.receive()).throttle_time_ms == 100
            assert handled == [0, 1, 2]
            assert [(await client.receive()).throttle_time_ms for _ in range(2)] == [0, 0]
            assert clock.time() - started > 0.499
            assert handled == [0, 1, 2, 3, 4]
            assert kept.throttle_time_ms == 0, "the handler's object is its own"
            assert all(size == quotas.settled[0][1] for _, size in quotas.settled)
            await client.close()

    run(main(), loop=loop)


@LOOPS
def test_responses_that_come_later_are_metered_too(loop: str) -> None:
    async def main() -> None:
        quotas = Quotas(20, 20, 20)
        async with listening(metered(quotas)) as listener:
            delayed: list[DelayedResponse] = []

            async def later(broker: object, request: object, context: RequestContext) -> ApiVersionsResponse:
                await asyncio.sleep(0)
                return ApiVersionsResponse()

            def wait(broker: object, request: object, context: RequestContext) -> DelayedResponse:
                delayed.append(DelayedResponse())
                asyncio.get_running_loop().call_later(0.01, delayed[-1].respond, ApiVersionsResponse())
                return delayed[-1]

            client = await Client.connect(listener.port)
            answer_with(listener, later)
            assert (await client.call(PING, VERSION)).throttle_time_ms == 20
            assert quotas.steps == ["begin", "pause", "timed", "resume", "settle"]
            answer_with(listener, wait)
            quotas.steps.clear()
            assert (await client.call(PING, VERSION)).throttle_time_ms == 20
            assert quotas.steps == ["begin", "pause", "resume", "settle"]
            quotas.steps.clear()
            answer_with(listener, lambda broker, request, context: None)
            client.send(PING, VERSION, expect_response=False)
            await client.call(PING, 0)
            assert quotas.steps == ["begin", "settle"] * 2
            assert quotas.settled[-2] == (False, 0), "there was no response to it"
            await client.close()

    run(main(), loop=loop)


@LOOPS
def test_a_client_that_goes_away_while_muted_is_noticed(loop: str) -> None:
    async def main() -> None:
        async with listening(metered(Quotas(60_000))) as listener:
            client = await Client.connect(listener.port)
            await client.call(PING, VERSION)
            await client.close()
            while listener.connections:  # noqa: ASYNC110 (what is waited for has no event)
                await asyncio.sleep(0.001)

    run(main(), loop=loop)


@LOOPS
def test_closing_the_listener_does_not_wait_for_muted_connections(loop: str) -> None:
    async def main() -> None:
        async with listening(metered(Quotas(60_000, 60_000))) as listener:
            quiet, eager = await Client.connect(listener.port), await Client.connect(listener.port)
            for client in (quiet, eager):
                await client.call(PING, VERSION)
            eager.send(PING, VERSION)
            await asyncio.sleep(0.01)
            started = asyncio.get_running_loop().time()
            await listener.close()
            assert asyncio.get_running_loop().time() - started < 2
            assert await quiet.is_closed()
            assert await eager.is_closed(), "what it sent while it was muted is not served any more"
            await quiet.close()
            await eager.close()

    run(main(), loop=loop)


def test_a_muted_connection_is_not_idle() -> None:
    async def main() -> None:
        settings: dict[str, object] = {
            "connections.max.idle.ms": 120,
            "connection.failed.authentication.delay.ms": 100,
        }
        async with listening(metered(Quotas(400), settings)) as listener:
            client = await Client.connect(listener.port)
            await client.call(PING, VERSION)
            client.send(PING, VERSION)
            assert (await client.receive()).throttle_time_ms == 0
            assert listener.idle_closed_count == 0
            await client.close()

    run(main())


def test_a_quota_that_goes_while_a_request_is_handled_does_no_harm() -> None:
    async def main() -> None:
        broker = metered(Quotas(10, 10))
        async with listening(broker) as listener:

            async def later(*_: object) -> ApiVersionsResponse:
                await asyncio.sleep(0.01)
                return ApiVersionsResponse()

            answer_with(listener, later)
            client = await Client.connect(listener.port)
            client.send(PING, VERSION)
            client.send(PING, VERSION)
            await asyncio.sleep(0.005)
            broker.quotas = None
            assert (await client.receive()).throttle_time_ms == 10, "it was begun"
            assert (await client.receive()).throttle_time_ms == 0
            await client.close()

    run(main())
