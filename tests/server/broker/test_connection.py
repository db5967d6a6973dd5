"""Connections on a real loopback socket: framing, order, refusals, limits, back-pressure, closing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest
from ottla.server.broker.api_table import APIS
from ottla.server.broker.broker import DelayedResponse, RequestContext
from ottla.server.broker.listener import Listener, ListenError
from tests.server.broker.support import Client, listening, make_broker, request_bytes, run

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
PING = ApiVersionsRequest(client_software_name="test", client_software_version="1.0")
VERSION = 3


def answer_with(listener: Listener, handle: Any, version: int = VERSION) -> None:
    """Let this function handle ApiVersions, as a stand-in for any handler."""
    listener.router.find(ApiKey.API_VERSIONS, version).handle = handle


async def until(condition: Any) -> None:
    """Wait for something that other callbacks bring about."""
    while not condition():  # noqa: ASYNC110 (what is waited for has no event)
        await asyncio.sleep(0.001)


@LOOPS
def test_requests_split_at_every_byte_and_pipelined_are_answered_in_order(loop: str) -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            client = await Client.connect(listener.port)
            for version in range(6):
                client.send(PING, version)
            for version in range(6):
                body = await client.receive()
                assert [api.api_key for api in body.api_keys] == list(APIS), version
            for byte in request_bytes(PING, VERSION, 6):
                client.writer.write(bytes([byte]))
                await client.writer.drain()
                await asyncio.sleep(0)
            assert await client.reader.readexactly(8)
            await client.close()

    run(main(), loop=loop)


def test_pipelined_responses_leave_in_one_write() -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            writes: list[int] = []
            client = await Client.connect(listener.port)
            await client.call(PING, VERSION)
            connection = next(iter(listener.connections))
            transport = connection.transport

            class Counting:
                def write(self, data: bytes) -> None:
                    writes.append(len(data))
                    transport.write(data)

                def __getattr__(self, name: str) -> Any:
                    return getattr(transport, name)

            connection._transport = Counting()  # type: ignore[assignment]
            client.writer.write(b"".join(request_bytes(PING, 0, number) for number in range(1, 6)))
            for number in range(1, 6):
                client.connection.expect(number, 18, 0)
            for _ in range(5):
                await client.receive()
            assert len(writes) == 1
            await client.close()

    run(main())


@LOOPS
def test_an_unknown_version_of_api_versions_gets_the_answer_every_client_can_read(loop: str) -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            client = await Client.connect(listener.port)
            frame = bytearray(request_bytes(PING, VERSION, 7))
            frame[6:8] = (99).to_bytes(2, "big")
            client.writer.write(frame)
            answer = await client.reader.readexactly(20)
            assert answer.hex(" ", 4) == "00000010 00000007 00230000 00010012 00000005"
            client.connection._next_correlation_id = 8
            assert (await client.call(PING, 0)).error_code == 0
            await client.close()

    run(main(), loop=loop)


BAD_FRAMES = {
    "unknown API key": request_bytes(PING, VERSION)[:4] + b"\x03\xe7" + request_bytes(PING, VERSION)[6:],
    "unsupported version": request_bytes(DescribeClusterRequest(), 0)[:6]
    + b"\x00\x63"
    + request_bytes(DescribeClusterRequest(), 0)[8:],
    "an API that is not served": (12).to_bytes(4, "big")
    + b"\x00\x34\x00\x00"
    + b"\x00\x00\x00\x01"
    + b"\xff\xff\x00\x00",
    "a produce version that is only advertised": (10).to_bytes(4, "big") + b"\x00\x00\x00\x02" + bytes(4) + b"\xff\xff",
    "a body that is cut off": (10).to_bytes(4, "big") + b"\x00\x03\x00\x01" + bytes(4) + b"\xff\xff",
    "a header that is cut off": (3).to_bytes(4, "big") + b"\x00\x12\x00",
    "a negative size": b"\xff\xff\xff\xff",
    "a frame above socket.request.max.bytes": (100_000_000).to_bytes(4, "big"),
}


@LOOPS
@pytest.mark.parametrize("reason", BAD_FRAMES)
def test_bad_bytes_cost_one_connection_and_one_log_line(
    reason: str, loop: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with listening(make_broker({"socket.request.max.bytes": 1_000_000})) as listener:
            good, bad = await Client.connect(listener.port), await Client.connect(listener.port)
            bad.writer.write(BAD_FRAMES[reason])
            assert await bad.is_closed()
            assert (await good.call(PING, 0)).error_code == 0
            await until(lambda: len(listener.connections) == 1)
            await good.close()
            await bad.close()

    with caplog.at_level(logging.INFO):
        run(main(), loop=loop)
    assert len([record for record in caplog.records if record.name.startswith("ottla")]) == 1


def test_bytes_behind_a_request_are_ignored_as_librdkafka_sends_some() -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            client = await Client.connect(listener.port)
            frame = request_bytes(PING, VERSION, 0)
            client.writer.write((len(frame) - 4 + 3).to_bytes(4, "big") + frame[4:] + b"xyz")
            client.connection.expect(0, 18, VERSION)
            assert (await client.receive()).error_code == 0
            await client.close()

    run(main())


@LOOPS
def test_a_request_waits_for_the_response_before_it(loop: str) -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            order: list[str] = []

            async def slow(broker: object, request: object, context: RequestContext) -> ApiVersionsResponse:
                number = context.correlation_id
                order.append(f"start {number}")
                await asyncio.sleep(0.01 if number == 0 else 0)
                order.append(f"end {number}")
                return ApiVersionsResponse(throttle_time_ms=number)

            answer_with(listener, slow)
            client = await Client.connect(listener.port)
            for _ in range(3):
                client.send(PING, VERSION)
                await asyncio.sleep(0.002)
            assert [(await client.receive()).throttle_time_ms for _ in range(3)] == [0, 1, 2]
            assert order == ["start 0", "end 0", "start 1", "end 1", "start 2", "end 2"]
            await client.close()

    run(main(), loop=loop)


def test_an_unexpected_exception_is_answered_logged_once_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:

            def broken(broker: object, request: object, context: RequestContext) -> ApiVersionsResponse:
                raise ZeroDivisionError("a mistake of ours")

            async def broken_later(broker: object, request: object, context: RequestContext) -> ApiVersionsResponse:
                raise ZeroDivisionError("another one")

            def refusing(broker: object, request: object, context: RequestContext) -> ApiVersionsResponse:
                raise ApiError(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)

            answer_with(listener, broken, 0)
            answer_with(listener, broken_later, 1)
            answer_with(listener, refusing, 2)
            client = await Client.connect(listener.port)
            assert (await client.call(PING, 0)).error_code == ErrorCode.UNKNOWN_SERVER_ERROR
            assert (await client.call(PING, 1)).error_code == ErrorCode.UNKNOWN_SERVER_ERROR
            assert (await client.call(PING, 2)).error_code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED
            assert (await client.call(PING, 3)).error_code == 0
            await client.close()

    run(main())
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert all("ApiVersions" in record.getMessage() and "'test'" in record.getMessage() for record in caplog.records)


@LOOPS
def test_a_response_nobody_waits_for_is_cancelled(loop: str) -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            cancelled: list[bool] = []
            waiting: list[DelayedResponse] = []

            def wait(broker: object, request: object, context: RequestContext) -> DelayedResponse:
                waiting.append(DelayedResponse(on_cancel=lambda: cancelled.append(True)))
                return waiting[0]

            answer_with(listener, wait)
            client = await Client.connect(listener.port)
            client.send(PING, VERSION)
            await until(lambda: waiting)
            await client.close()
            await until(lambda: cancelled)
            await until(lambda: not listener.connections)
            waiting[0].respond(ApiVersionsResponse())
            assert cancelled == [True]

    run(main(), loop=loop)


@LOOPS
def test_a_connection_is_forgotten_whatever_fails_at_its_end(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    def broken() -> None:
        raise RuntimeError("nobody expected this")

    async def main() -> None:
        async with listening(make_broker()) as listener:
            client = await Client.connect(listener.port)
            await client.call(PING, VERSION)
            [connection] = listener.connections
            connection.context.when_closed("something", broken)
            connection.context.when_closed("all else", lambda: ended.append("all else"))
            await client.close()
            await until(lambda: ended)
            assert not listener.connections
            assert listener.limits.count == 0

    run(main(), loop=loop)
    assert "something of the connection of 127.0.0.1" in caplog.text


@LOOPS
def test_a_client_that_does_not_read_is_not_served_further(loop: str) -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            handled = 0
            big = ApiVersionsResponse(api_keys=[])
            big.unknown_tags = ((1000, bytes(500_000)),)

            def handle(broker: object, request: object, context: RequestContext) -> ApiVersionsResponse:
                nonlocal handled
                handled += 1
                return big

            answer_with(listener, handle)
            client = await Client.connect(listener.port)
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            total = 100
            for _ in range(total):
                client.send(PING, VERSION)
                await asyncio.sleep(0)
            before = -1
            while handled != before:
                before = handled
                await asyncio.sleep(0.05)
            assert handled < total, "50 MB would have been buffered"
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            for _ in range(total):
                await client.receive()
            assert handled == total
            await client.close()

    run(main(), loop=loop)


@LOOPS
def test_idle_connections_are_closed_and_waiting_ones_are_not(loop: str) -> None:
    async def main() -> None:
        async with listening(
            make_broker({"connections.max.idle.ms": 120, "connection.failed.authentication.delay.ms": 100})
        ) as listener:

            async def slow(broker: object, request: object, context: RequestContext) -> ApiVersionsResponse:
                await asyncio.sleep(0.4)
                return ApiVersionsResponse()

            answer_with(listener, slow)
            idle, busy = await Client.connect(listener.port), await Client.connect(listener.port)
            busy.send(PING, VERSION)
            assert await idle.is_closed()
            assert listener.idle_closed_count == 1
            assert (await busy.receive()).error_code == 0
            await idle.close()
            await busy.close()

    run(main(), loop=loop)


@LOOPS
def test_connections_above_max_connections_wait_for_a_place(loop: str) -> None:
    async def main() -> None:
        async with listening(make_broker({"max.connections": 1})) as listener:
            first, second = await Client.connect(listener.port), await Client.connect(listener.port)
            await first.call(PING, 0)
            second.send(PING, 0)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(second.receive(), 0.1)
            await first.close()
            assert (await second.receive()).error_code == 0
            await second.close()

    run(main(), loop=loop)


def test_connections_above_the_address_limit_are_closed() -> None:
    async def main() -> None:
        async with listening(make_broker({"max.connections.per.ip": 1})) as listener:
            first, second = await Client.connect(listener.port), await Client.connect(listener.port)
            assert await second.is_closed()
            assert (await first.call(PING, 0)).error_code == 0
            await first.close()
            await second.close()
            await until(lambda: not listener.connections)
            third = await Client.connect(listener.port)
            assert (await third.call(PING, 0)).error_code == 0
            await third.close()

    run(main())


@LOOPS
def test_closing_the_listener_lets_a_request_in_flight_finish(loop: str) -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:

            async def slow(broker: object, request: object, context: RequestContext) -> ApiVersionsResponse:
                await asyncio.sleep(0.05)
                return ApiVersionsResponse(throttle_time_ms=5)

            answer_with(listener, slow)
            busy, idle = await Client.connect(listener.port), await Client.connect(listener.port)
            busy.send(PING, VERSION)
            busy.send(PING, VERSION)
            await until(lambda: any(connection.is_busy for connection in listener.connections))
            closing = asyncio.ensure_future(listener.close())
            assert (await busy.receive()).throttle_time_ms == 5
            assert await busy.is_closed(), "what was pipelined behind it is not started any more"
            assert await idle.is_closed()
            await closing
            with pytest.raises(OSError, match=r"[Cc]onnect"):
                await Client.connect(listener.port)
            await busy.close()
            await idle.close()

    run(main(), loop=loop)


def test_a_request_that_never_ends_is_cut_off_after_the_grace_time() -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            answer_with(listener, lambda broker, request, context: asyncio.get_running_loop().create_future())
            client = await Client.connect(listener.port)
            client.send(PING, VERSION)
            await until(lambda: any(connection.is_busy for connection in listener.connections))
            await listener.close(grace_s=0.02)
            assert await client.is_closed()
            await client.close()

    run(main())


def test_a_listener_that_gets_no_socket_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def no_server(*arguments: object, **options: object) -> asyncio.Server:
            return asyncio.Server(asyncio.get_running_loop(), [], lambda: asyncio.Protocol(), None, 1, None)

        async with listening(make_broker()) as listener:
            monkeypatch.setattr(asyncio.get_running_loop(), "create_server", no_server)
            second = Listener(listener.broker, listener.address, listener.router, listener.limits.shared)
            with pytest.raises(ListenError, match=r"cannot listen on 127\.0\.0\.1:0"):
                await second.start()

    run(main())


@LOOPS
def test_a_taken_port_is_named_in_the_error(loop: str) -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            address = listener.address._replace(port=listener.port)
            second = Listener(listener.broker, address, listener.router, listener.limits.shared)
            with pytest.raises(ListenError) as failure:
                await second.start()
            assert (
                str(failure.value)
                == f"cannot listen on 127.0.0.1:{listener.port} (PLAINTEXT): the port is already in use"
            )

    run(main(), loop=loop)
