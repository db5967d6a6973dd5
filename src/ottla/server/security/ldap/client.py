"""One connection to a directory, one question at a time, on the event loop. The caller sets the time limit."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import cast

from ottla.server.security.ldap import wire
from ottla.server.security.ldap.settings import Address


class DirectoryError(Exception):
    """The directory cannot be reached, or does not answer as one; one line for the log."""


class Connection(asyncio.Protocol):
    """Made by `connect`. Every operation raises `DirectoryError` when the connection does not carry it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._answers: list[wire.Answer] = []
        self._waiting: asyncio.Future[None] | None = None
        self._problem: str | None = None
        self._message_id = 0

    @classmethod
    async def connect(cls, address: Address, context: ssl.SSLContext | None, *, uses_start_tls: bool) -> Connection:
        """A connection that is safe to send passwords over, if a context is given and wanted."""
        loop = asyncio.get_running_loop()
        connection = cls(address)
        try:
            await loop.create_connection(
                lambda: connection, address.host, address.port, ssl=context if address.is_tls else None
            )
            if uses_start_tls:
                assert context is not None
                await connection._start_tls(context)
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise DirectoryError(f"{address}: its certificate is not trusted: {error.verify_message}") from None
        except OSError as error:  # ssl.SSLError is one
            connection.close()
            raise DirectoryError(f"{address} cannot be reached: {error.strerror or error}") from None
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be asked."""
        return self._problem is not None

    async def bind(self, dn: str, password: str) -> wire.Result:
        """Who asks from now on, when the result is a success; nobody in particular otherwise."""
        return await self._finish(wire.bind(self._next_id(), dn, password))

    async def bind_nobody(self) -> wire.Result:
        """Nobody in particular asks from now on."""
        return await self._finish(wire.bind_nobody(self._next_id()))

    async def search(
        self, base: str, scope: int, filter_: bytes, attributes: list[str], limit: int
    ) -> tuple[list[wire.Entry], wire.Result]:
        """Entries, at most `limit`; there are more when the result is SIZE_LIMIT_EXCEEDED."""
        entries: list[wire.Entry] = []
        result = await self._finish(
            wire.search(self._next_id(), base, scope, filter_, attributes, limit), entries, limit
        )
        return entries, result

    def close(self) -> None:
        """Say farewell and go."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            with contextlib.suppress(RuntimeError):
                transport.write(wire.unbind(self._next_id()))
            transport.close()
        self._fail("the connection is closed")

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take answers apart."""
        self._buffer += data
        try:
            while (length := wire.frame_length(self._buffer)) is not None and len(self._buffer) >= length:
                answer = wire.parse_answer(bytes(self._buffer[:length]))
                del self._buffer[:length]
                if answer.message_id == 0 and answer.result is not None:
                    return self._fail(f"the directory ends the connection: {answer.result}")
                self._answers.append(answer)
        except wire.WireError as error:
            return self._fail(str(error))
        self._wake()
        return None

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more comes."""
        self._fail(f"the connection is lost: {error}" if error else "the connection was closed by the directory")

    # Inside

    def _next_id(self) -> int:
        self._message_id += 1
        return self._message_id

    async def _finish(self, request: bytes, entries: list[wire.Entry] | None = None, limit: int = 0) -> wire.Result:
        """Send a request and take its answers until the last; each must be to this request."""
        self._check()
        assert self._transport is not None
        if self._answers or self._buffer:
            self._fail("there is an answer that nobody has asked for")
            self._check()
        message_id = self._message_id
        self._transport.write(request)
        while True:
            answer = await self._next_answer()
            if answer.message_id != message_id:
                self._fail("there is an answer to another question")
                self._check()
            if answer.result is not None:
                return answer.result
            if answer.entry is not None and entries is not None:
                if len(entries) >= limit:
                    self._fail("there are more entries than were asked for")
                    self._check()
                entries.append(answer.entry)

    async def _next_answer(self) -> wire.Answer:
        while not self._answers:
            self._check()
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            except asyncio.CancelledError:
                # The answer may still come: nobody else must get it.
                self.close()
                raise
        return self._answers.pop(0)

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        result = await self._finish(wire.start_tls(self._next_id()))
        if result.code != wire.SUCCESS:
            raise DirectoryError(f"{self.address} has no StartTLS: {result}")
        assert self._transport is not None
        self._transport = await asyncio.get_running_loop().start_tls(
            self._transport, self, context, server_hostname=self.address.host
        )
        if self._buffer or self._answers:
            # Somebody on the way has put an answer before the encrypted ones.
            self._fail("there are answers from before TLS began")
            self._check()

    def _check(self) -> None:
        if self._problem is not None:
            raise DirectoryError(f"{self.address}: {self._problem}")

    def _fail(self, problem: str) -> None:
        if self._problem is None:
            self._problem = problem
            if self._transport is not None:
                self._transport.close()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
