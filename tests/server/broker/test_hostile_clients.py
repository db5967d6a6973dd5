"""Clients that mean harm, or might as well: they cost themselves their connection, and nobody else anything."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.schema.config import BrokerConfig
from ottla.server.broker.complaints import Complaints
from ottla.server.broker.connection_memory import RequestMemory
from ottla.server.broker.handlers import api_versions
from ottla.server.broker.listener import Listener
from ottla.server.broker.patience import Patience
from ottla.server.broker.response_memory import ResponseMemory
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.broker.support import Client, listening, make_broker, request_bytes, run
from tests.server.broker.test_muting import Quotas, metered

PING = ApiVersionsRequest(client_software_name="test", client_software_version="1")
VERSION = 4
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
MEBIBYTE = 1024 * 1024


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 (what is waited for is in the broker, which signals nobody)
        await asyncio.sleep(0.005)


def rude_client(port: int) -> socket.socket:
    """One that asks, and does not read what it is answered."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(request_bytes(PING, 0))
    return client


def large_frame(size: int) -> bytes:
    """A request that is answered although most of it is of no use: what stands behind a body is ignored."""
    request = request_bytes(PING, 0)
    return (len(request) - 4 + size).to_bytes(4, "big") + request[4:] + bytes(size)


# Slow ones


@LOOPS
def test_who_never_asks_is_closed_and_who_asks_is_not(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with listening(make_broker({"connections.first.request.timeout.ms": 400})) as listener:
            honest = await Client.connect(listener.port)
            await honest.call(PING, VERSION)
            silent = [await Client.connect(listener.port) for _ in range(20)]
            halfway = await Client.connect(listener.port)
            halfway.writer.write(request_bytes(PING, 0)[:7])
            for client in (*silent, halfway):
                assert await client.is_closed()
                await client.close()
            await until(lambda: listener.slow_closed_count == 21)
            assert len(listener.connections) == 1
            await honest.call(PING, VERSION)
            await honest.close()

    with caplog.at_level(logging.INFO):
        run(main(), loop=loop)
    lines = [record for record in caplog.records if "no whole request" in record.getMessage()]
    assert 1 <= len(lines) <= 8, "a line for each look, not for each connection"


def test_a_byte_at_a_time_is_closed_and_a_slow_link_is_not() -> None:
    """In virtual time: a modem that takes three minutes for a request of 100 KB, and a byte a second."""

    async def trickle(client: Client, data: bytes, step: int) -> int:
        """How much could be sent, `step` bytes a second."""
        for start in range(0, len(data), step):
            client.writer.write(data[start : start + step])
            await asyncio.sleep(1)
            if client.reader.at_eof() or client.writer.transport.is_closing():
                return start
        return len(data)

    async def main(env: SimulatedEnv) -> None:
        async with listening(make_broker(env=env)) as listener:
            slow_link, loris = await Client.connect(listener.port), await Client.connect(listener.port)
            for client in (slow_link, loris):
                await client.call(PING, VERSION)
            frame = large_frame(100_000)
            through, caught = await asyncio.gather(trickle(slow_link, frame, 560), trickle(loris, frame, 1))
            assert through == len(frame)
            assert 60 <= caught <= 90
            slow_link.connection.expect(1, 18, 0)
            assert (await slow_link.receive()).error_code == 0
            assert listener.slow_closed_count == 1
            await slow_link.close()
            await loris.close()

    simulate(main, seed=0)


class Seen:
    """A connection as `Patience` looks at one."""

    def __init__(self) -> None:
        from ottla.server.broker.broker import RequestContext
        from ottla.server.broker.patience import NONE_YET, Progress

        self.progress = Progress()
        self.context = RequestContext(correlation_id=NONE_YET)
        self.bytes_in = 0
        self.is_waiting = False
        self.is_receiving = False


def exhausted(patience: Patience, connection: Seen, now: float) -> bool:
    seen: Any = connection
    return patience.is_exhausted(seen, now)


def test_who_has_to_log_in_has_as_long_as_for_the_first_request() -> None:
    patience = Patience(BrokerConfig.of({}), must_log_in=True)
    connection = Seen()
    connection.context.correlation_id = 1
    assert not exhausted(patience, connection, 59)
    assert exhausted(patience, connection, 60)
    from ottla.server.security.session import Session

    connection.context.session = Session("User:alice")
    assert not exhausted(patience, connection, 60)


def test_slowness_is_measured_only_while_we_read() -> None:
    patience = Patience(BrokerConfig.of({}), must_log_in=False)
    connection = Seen()
    connection.context.correlation_id = 1
    connection.is_receiving = True
    assert not exhausted(patience, connection, 0)
    connection.is_waiting = True
    assert not exhausted(patience, connection, 1000)
    connection.is_waiting = False
    assert not exhausted(patience, connection, 1059)
    assert exhausted(patience, connection, 1060)
    connection.bytes_in += 60 * 512
    assert not exhausted(patience, connection, 1060)
    connection.bytes_in += 60 * 512 - 1
    assert not exhausted(patience, connection, 1119)
    assert exhausted(patience, connection, 1120)
    connection.context.correlation_id = 2  # it was complete, and this is another one
    assert not exhausted(patience, connection, 1120)


def test_no_limit_no_look() -> None:
    settings = {"connections.first.request.timeout.ms": 0, "request.receive.timeout.ms": 0}
    patience = Patience(BrokerConfig.of(settings), must_log_in=False)
    assert patience.interval_s is None
    assert not exhausted(patience, Seen(), 1e9)


# Memory


@LOOPS
def test_requests_of_many_clients_share_a_limit_and_all_are_answered(loop: str) -> None:
    """24 clients with 1 MiB each, 4 MiB for all: at most one request above the limit, and nobody waits for ever."""
    settings = {"queued.max.request.bytes": 4 * MEBIBYTE, "socket.request.max.bytes": 2 * MEBIBYTE}

    async def main() -> None:
        async with listening(make_broker(settings)) as listener:
            memory = listener.limits.shared.requests
            assert memory is not None
            clients = [await Client.connect(listener.port) for _ in range(24)]
            frame = large_frame(MEBIBYTE)
            for client in clients:  # all begin, none ends
                client.writer.write(frame[:20_000])
            await until(lambda: memory.waiting == 24 - 4)
            assert memory.limit_bytes <= memory.used_bytes <= memory.limit_bytes + len(frame)
            small = await Client.connect(listener.port)
            assert (await small.call(PING, VERSION)).error_code == 0, "small requests need no room"
            clients[-1].writer.close()  # it waits, and gives up
            clients[0].writer.close()  # it has room, and gives up
            most = 0
            for client in clients[1:-1]:
                client.writer.write(frame[20_000:])
                client.connection.expect(1, 18, 0)
            for client in clients[1:-1]:
                assert (await client.receive()).error_code == 0
                most = max(most, memory.used_bytes)
            assert most <= memory.limit_bytes + len(frame)
            await until(lambda: memory.used_bytes == memory.waiting == 0)
            assert memory.depleted_count == 20
            held = [len(connection._wire._buffer) for connection in listener.connections]
            assert max(held) <= 16 * 1024, "what a large request needed is given back at once"
            for client in (*clients, small):
                await client.close()

    run(main(), loop=loop)


def test_a_large_request_that_waits_is_not_called_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "queued.max.request.bytes": MEBIBYTE,
        "socket.request.max.bytes": MEBIBYTE,
        "request.receive.timeout.ms": 200,
        "connections.first.request.timeout.ms": 200,
    }

    async def main() -> None:
        release = asyncio.Event()
        handle = api_versions.handle

        async def late(broker: Any, request: Any, context: Any) -> Any:
            await release.wait()
            return handle(broker, request, context)

        monkeypatch.setattr(api_versions, "handle", late)
        async with listening(make_broker(settings)) as listener:
            memory = listener.limits.shared.requests
            assert memory is not None
            frame = large_frame(MEBIBYTE - 100)
            first, second = await Client.connect(listener.port), await Client.connect(listener.port)
            for client in (first, second):
                client.writer.write(frame)
                client.connection.expect(1, 18, 0)
                await until(lambda: memory.used_bytes)
            await until(lambda: listener.requests == 2 or memory.waiting == 1)
            await asyncio.sleep(0.6)
            assert listener.slow_closed_count == 0
            release.set()
            assert (await first.receive()).error_code == (await second.receive()).error_code == 0
            await until(lambda: memory.used_bytes == 0)
            await first.close()
            await second.close()

    run(main())


def test_quotas_and_the_limit_of_memory_go_together() -> None:
    """Both look at a request when it is done; a client that is muted holds no memory."""
    quotas = Quotas(50, 50)

    async def main() -> None:
        settings = {"queued.max.request.bytes": MEBIBYTE, "socket.request.max.bytes": MEBIBYTE}
        async with listening(metered(quotas, settings)) as listener:
            memory = listener.limits.shared.requests
            assert memory is not None
            client = await Client.connect(listener.port)
            for number in range(3):
                client.writer.write(large_frame(MEBIBYTE // 2))
                client.connection.expect(1, 18, 0)
                assert (await client.receive()).error_code == 0
                await until(lambda: memory.used_bytes == 0)
                assert len(quotas.settled) == number + 1
            await client.close()

    run(main())


class Blocked:
    def __init__(self, name: str) -> None:
        self.client = name
        self.is_gone = False

    def abort(self) -> None:
        self.is_gone = True


def test_answers_that_nobody_reads_go_when_there_are_too_many() -> None:
    memory = ResponseMemory(1000)
    connections: list[Any] = [Blocked(str(number)) for number in range(4)]
    for connection in connections[:3]:
        memory.blocked(connection, 400)
    assert [connection.is_gone for connection in connections] == [True, False, False, False]
    memory.taken(connections[1])
    memory.blocked(connections[3], 400)
    assert [connection.is_gone for connection in connections] == [True, False, False, False]
    memory.blocked(connections[3], 900)
    assert [connection.is_gone for connection in connections] == [True, False, True, False]
    memory.blocked(connections[3], 5000)
    assert not connections[3].is_gone, "one answer alone may be as large as it is"
    memory.taken(connections[3])
    assert (memory.used_bytes, memory.closed_count) == (0, 2)


@pytest.mark.parametrize(("setting", "limited"), [(-1, False), (0, True), (1, True)])
def test_the_limit_of_answers_may_be_none_or_a_part_of_the_memory(setting: int, limited: bool) -> None:
    memory = ResponseMemory(setting)
    connections: list[Any] = [Blocked(str(number)) for number in range(2)]
    for connection in connections:
        memory.blocked(connection, 2**60)
    assert connections[0].is_gone is limited


@LOOPS
def test_clients_that_do_not_read_are_closed_and_others_are_served(loop: str) -> None:
    settings = {"queued.max.response.bytes": 3 * MEBIBYTE, "socket.send.buffer.bytes": 16_384}

    async def main() -> None:
        async with listening(make_broker(settings)) as listener:

            async def large(route: Any, handle: Any, broker: Any, request: Any, context: Any) -> Any:
                return bytes(MEBIBYTE) if context.api_version == 0 else handle(broker, request, context)

            listener.router.intercept(large)
            rude = []
            for _ in range(8):
                rude.append(rude_client(listener.port))
                await asyncio.sleep(0.01)
            answers = listener.answers
            await until(lambda: answers.closed_count >= 3)
            assert answers.used_bytes <= answers.limit_bytes
            honest = await Client.connect(listener.port)
            assert (await honest.call(PING, VERSION)).error_code == 0
            for client in rude:
                client.close()
            await until(lambda: answers.used_bytes == 0)
            await honest.close()

    run(main(), loop=loop)


def test_who_does_not_take_the_last_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ottla.server.broker.listener._CLOSING_S", 0.3)

    async def main() -> None:
        async with listening(make_broker({"connections.max.idle.ms": 400})) as listener:

            async def large(route: Any, handle: Any, broker: Any, request: Any, context: Any) -> Any:
                return bytes(8 * MEBIBYTE)

            listener.router.intercept(large)
            client = rude_client(listener.port)
            await until(lambda: listener.connections)
            await until(lambda: listener.idle_closed_count == 1)
            await until(lambda: not listener.connections)
            client.close()

    run(main())


def test_memory_without_a_limit_costs_nothing() -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            assert listener.limits.shared.requests is None
            assert RequestMemory(1).take(2), "a request may begin while there is room"
            client = await Client.connect(listener.port)
            await client.call(PING, VERSION)
            (connection,) = listener.connections
            assert type(connection).__name__ == "Connection"
            await client.close()

    run(main())


async def floods(listener: Listener, count: int) -> None:
    """Connections that are opened and dropped, in every way there is, a hundred at a time."""

    async def one(number: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        if number % 4 == 1:
            writer.write(b"\x00\x00\x00")
        elif number % 4 == 2:
            writer.write(request_bytes(PING, 0))
        elif number % 4 == 3:
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
        if number % 2:
            writer.transport.abort()
        else:
            writer.close()

    for start in range(0, count, 100):
        await asyncio.gather(*(one(number) for number in range(start, min(start + 100, count))))


@LOOPS
def test_hundreds_of_connections_come_and_go(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with listening(make_broker()) as listener:
            honest = await Client.connect(listener.port)
            flood = asyncio.ensure_future(floods(listener, 300))
            answered = 0
            while not flood.done():
                assert (await honest.call(PING, VERSION)).error_code == 0
                answered += 1
                await asyncio.sleep(0)
            await flood
            await until(lambda: len(listener.connections) == 1)
            assert answered > 5
            assert listener.limits.shared.total == 1
            await honest.close()

    run(main(), loop=loop)
    assert len(caplog.records) <= 100, "many mistakes of clients are few lines in the log"


def test_complaints_are_few_and_tell_how_many_there_were(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("test"))
    for number in range(500):
        complaints.log(1.0 + number / 100, logging.WARNING, "number %d", number)
    assert len(caplog.records) == 20
    complaints.log(11.0, logging.WARNING, "again")
    assert [record.getMessage() for record in caplog.records[20:]] == [
        "480 lines as those before were left out",
        "again",
    ]
