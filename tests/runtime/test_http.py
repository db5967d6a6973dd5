from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import MutableMapping
from typing import Any

import pytest

from ottla.runtime.http import App, HttpListenError, HttpServer, Receive, Send, deferred, serve


async def echo(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    body = json.dumps({"path": scope["path"], "method": scope["method"]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_an_application_is_served_on_a_free_port() -> None:
    async def main() -> None:
        server = await serve(echo, "127.0.0.1", 0)
        try:
            assert server.port
            answers = await asyncio.gather(*(get(server.port, f"/{n}") for n in range(5)))
            assert [json.loads(body)["path"] for _, body in answers] == [f"/{n}" for n in range(5)]
        finally:
            await server.close()
        await server.close()
        with pytest.raises(ConnectionRefusedError):
            await get(server.port, "/")

    asyncio.run(main())


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(HttpListenError) as caught:
                await serve(echo, "127.0.0.1", port)
        assert str(caught.value) == f"cannot listen on http://127.0.0.1:{port}: the port is already in use"
        assert caught.value.in_use

    asyncio.run(main())


def test_a_name_that_nobody_knows_is_said_in_one_line() -> None:
    async def main() -> None:
        with pytest.raises(HttpListenError, match=r"cannot listen on http://no\.such\.host\.invalid:1: ."):
            await serve(echo, "no.such.host.invalid", 1)

    asyncio.run(main())


def test_closing_lets_a_request_finish_and_idle_connections_go() -> None:
    async def main() -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slow(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
            asked.set()
            await go_on.wait()
            await echo(scope, receive, send)

        server: HttpServer = await serve(slow, "127.0.0.1", 0)
        idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", server.port)
        asking = asyncio.create_task(get(server.port, "/slow"))
        await asked.wait()
        closing = asyncio.create_task(server.close(grace_s=30))
        await asyncio.sleep(0.01)
        assert not closing.done()
        go_on.set()
        assert (await asking)[0] == 200
        await closing
        assert await idle_reader.read() == b""
        idle_writer.close()
        assert server.connection_count == 0

    asyncio.run(main())


def test_a_deferred_application_is_made_with_its_first_request() -> None:
    made = 0

    def make() -> App:
        nonlocal made
        made += 1
        return echo

    async def main() -> None:
        server = await serve(deferred(make), "127.0.0.1", 0)
        assert made == 0
        for path in ("/a", "/b"):
            assert (await get(server.port, path))[0] == 200
        await server.close()

    asyncio.run(main())
    assert made == 1


def test_serving_loads_nothing_before_somebody_connects() -> None:
    code = """
import asyncio, sys
from ottla.runtime.http import serve

async def main():
    server = await serve(None, "127.0.0.1", 0)
    await asyncio.sleep(0)
    await server.close()

asyncio.run(main())
print(*[name for name in ("uvicorn", "starlette", "h11", "httptools", "click") if name in sys.modules])
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert output.split() == []


def test_the_body_of_a_request_that_offers_an_upgrade_arrives() -> None:
    bodies = []

    async def take(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        bodies.append((await receive())["body"])
        await echo(scope, receive, send)

    async def main() -> None:
        server = await serve(take, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        # As Java's HttpClient sends it.
        writer.write(
            b"POST / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 2\r\nHost: x\r\n"
            b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\n\r\n{}"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await server.close()

    asyncio.run(main())
    assert bodies == [b"{}"]
