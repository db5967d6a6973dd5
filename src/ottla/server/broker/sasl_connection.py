"""A connection whose client has to say who it is: the shell around `ottla.server.security.sasl.exchange`.

Until that is done, what comes goes to the exchange; afterwards everything is as on any other connection, and the
session is in the context. What a session's end costs is one comparison per batch of requests; a session without end
costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from functools import cache
from typing import TYPE_CHECKING, Any

from ottla.protocol.apis import ApiKey
from ottla.protocol.connection import NEED_DATA
from ottla.protocol.errors import ProtocolError
from ottla.protocol.headers import encode_request_header
from ottla.server.broker.connection import Connection
from ottla.server.security.sasl.exchange import Close, Done, Evaluate, Exchange, Refuse, Send
from ottla.server.security.sasl.mechanism import AuthenticationError, BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest
    from ottla.server.broker.broker import RequestContext
    from ottla.server.broker.connection_memory import BoundedConnection
    from ottla.server.broker.listener import Listener
    from ottla.server.broker.sasl_listener import SaslListener
    from ottla.server.security.sasl.mechanism import Mechanism

logger = logging.getLogger(__name__)

_LONGEST_REASON = 500
SHORTEST_SESSION_S = 1.0
"""Between the beginnings of two re-authentications, as in Kafka."""


class Login:
    """How far a connection is with saying who its client is. Times are of the loop."""

    __slots__ = ("began_again_s", "ends_s", "exchange", "mechanism", "noted_delay_ms", "sasl")

    def __init__(self, sasl: SaslListener, exchange: Exchange) -> None:
        self.sasl = sasl
        self.exchange: Exchange | None = exchange
        """None while nothing is asked."""
        self.mechanism: Mechanism | None = None
        self.ends_s: float | None = None
        """When the session is over; None without end."""
        self.began_again_s: float | None = None
        """When the last re-authentication began."""
        self.noted_delay_ms: int | None = None
        """When the client knows that it is refused, and only has to say so: how long to keep it waiting then."""

    def longest_wait_ms(self, wanted_ms: int) -> int:
        """So long a request may wait for something to happen: what happens after the session is not the client's."""
        if self.ends_s is None:
            return wanted_ms
        left_ms = int((self.ends_s - asyncio.get_running_loop().time()) * 1000)
        return min(wanted_ms, max(left_ms, 0))


class SaslConnection(Connection):
    """Handles no request before its client is authenticated."""

    __slots__ = ()  # so that other kinds of connections can be this as well

    login: Login

    def __init__(self, listener: Listener, *more: Any) -> None:
        super().__init__(listener, *more)
        sasl = listener.sasl
        assert sasl is not None
        self.login = Login(sasl, sasl.exchange(self.context))
        self._wire.max_frame_bytes = sasl.max_receive_bytes

    def reauthenticate(
        self, request: SaslHandshakeRequest, context: RequestContext
    ) -> Coroutine[Any, Any, None] | None:
        """Begin to authenticate again; None when that is not possible: the session has no end, or is too young."""
        now_s = asyncio.get_running_loop().time()
        if not self._may_begin_again(now_s):
            return None
        self.login.began_again_s = now_s
        header = encode_request_header(
            ApiKey.SASL_HANDSHAKE, context.api_version, context.correlation_id, context.client_id
        )
        return self._begin_again(header + _encoded(request, context.api_version))

    def _may_begin_again(self, now_s: float) -> bool:
        last_s = self.login.began_again_s
        return self.login.ends_s is not None and (last_s is None or now_s - last_s >= SHORTEST_SESSION_S)

    async def _begin_again(self, frame: bytes) -> None:
        # In a task, so that earlier answers are written before this one.
        exchange = self.login.exchange = self.login.sasl.exchange(self.context, self.context.session)
        self.login.mechanism = self.login.noted_delay_ms = None
        self._wire.max_frame_bytes = self.login.sasl.max_receive_bytes
        effect = exchange.receive(frame)
        if isinstance(effect, Refuse):
            await self._refuse_slowly(effect)
        else:
            self._carry_out(effect)

    # Instead of requests

    def _handle_requests(self, arrived_ns: int = 0) -> None:
        if self.login.exchange is None and not self._is_over():
            super()._handle_requests(arrived_ns)
        elif self.login.exchange is not None:
            self._converse()

    def _converse(self) -> None:
        next_frame = self._wire.next_frame
        try:
            while (
                (exchange := self.login.exchange) is not None
                and self._awaited is None
                and not self._closing
                and not self._stopped
                and (frame := next_frame()) is not NEED_DATA
            ):
                buffer, offset, end = frame
                self._carry_out(exchange.receive(bytes(buffer[offset:end])))
        except ProtocolError as error:
            assert self.login.exchange is not None
            self._carry_out(self.login.exchange.too_large(str(error)))
        if self.login.exchange is None and self._awaited is None and not self._closing and self._wire.has_unread():
            self._handle_requests()

    def _carry_out(self, effect: Send | Evaluate | Done | Refuse | Close) -> None:
        match effect:
            case Send(data):
                self._write([data])
            case Evaluate():
                self._wait_for(self._evaluate(effect))
            case Done():
                self._let_in(effect)
            case Refuse():
                self._wait_for(self._refuse_slowly(effect))
            case Close(reason):
                self._refuse(ProtocolError(reason))
                self._close_if_done()

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._awaited = task
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Future[None]) -> None:
        if self._awaited is None:
            if not task.cancelled():
                task.exception()
            return  # the connection is gone
        self._awaited = None
        self.active = True
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the login of %s failed", self.client, exc_info=error)
            self._closing = True
        if self._closing:
            self._close_if_done()
        else:
            self._go_on()

    async def _evaluate(self, effect: Evaluate) -> None:
        exchange, sasl, context = self.login.exchange, self.login.sasl, self.context
        assert exchange is not None
        if effect.begins:
            hold_ms = sasl.failures.hold_ms(context.client_host, _now_ms())
            if hold_ms:
                await asyncio.sleep(hold_ms / 1000)
            self.login.mechanism = sasl.begin(effect.mechanism, context.client_host)
        assert self.login.mechanism is not None
        try:
            step = await self.login.mechanism.respond(effect.message)
        except AuthenticationError as error:
            await self._refuse_slowly(exchange.refuse(error))
            return
        except BackendUnavailableError as error:
            logger.warning("nobody knows whether to let %s in: %s", self.client, error)
            self._closing = True
            return
        if step.refusal is not None:
            self.login.noted_delay_ms = self._note_refusal(effect.mechanism, step.refusal.user, step.refusal.reason)
        after = exchange.proceed(step, self._broker.env.clock.now_ms())
        if isinstance(after, Refuse):
            await self._refuse_slowly(after)
        else:
            self._carry_out(after)

    def _let_in(self, effect: Done) -> None:
        context, session = self.context, effect.session
        is_first = context.session is None
        context.session, context.principal = session, session.principal
        context.correlation_id = 0
        self.login.exchange = self.login.mechanism = None
        self._wire.max_frame_bytes = self._listener.max_request_bytes
        lifetime_ms = effect.lifetime_ms
        self.login.ends_s = None if lifetime_ms is None else asyncio.get_running_loop().time() + lifetime_ms / 1000
        self.login.sasl.failures.succeeded(context.client_host, session.principal.partition(":")[2], _now_ms())
        counts = self._listener.logins
        if is_first:
            counts.succeeded += 1
        else:
            counts.reauthenticated += 1
        self._tell(session.mechanism, session.principal, True, "")
        self._write([effect.data])

    async def _refuse_slowly(self, effect: Refuse) -> None:
        """Keep the client waiting, tell it, and close."""
        delay_ms = self.login.noted_delay_ms
        if delay_ms is None:
            delay_ms = self._note_refusal(effect.mechanism, effect.user, effect.reason)
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000)
        if effect.data is not None:
            self._write([effect.data])
        self._closing = True

    def _note_refusal(self, mechanism: str, user: str | None, reason: str) -> int:
        """Count it, and tell who has to know; how long to hold it back."""
        context, counts = self.context, self._listener.logins
        if context.session is None:
            counts.failed += 1
        else:
            counts.failed_again += 1
        reason = _printable(reason)
        self._listener.complaints.log(
            asyncio.get_running_loop().time(),
            logging.INFO,
            "refusing %s (client id %r), user %r by %s: %s",
            self.client,
            context.client_id,
            user,
            mechanism or "no mechanism",
            reason,
        )
        self._tell(mechanism, None if user is None else f"User:{user}", False, reason)
        return self.login.sasl.failures.failed(context.client_host, user, _now_ms())

    def _tell(self, mechanism: str, principal: str | None, ok: bool, reason: str) -> None:
        audit = self._broker.audit
        if audit is not None:
            context = self.context
            audit.authentication(
                context.client_host, self._listener.name, mechanism, principal, ok, reason, context.client_id
            )

    def _is_over(self) -> bool:
        """Whether the session has ended; only another login goes on then, anything else closes the connection.

        Answers that are owed still go out: what they are about came in time.
        """
        now_s = asyncio.get_running_loop().time()
        if self.login.ends_s is None or now_s <= self.login.ends_s:
            return False
        try:
            frame = self._wire.next_frame()
        except ProtocolError as error:
            self._refuse(error)
            self._close_if_done()
            return True
        if frame is NEED_DATA:
            return True
        buffer, offset, _ = frame
        is_login = int.from_bytes(buffer[offset : offset + 2], "big") == ApiKey.SASL_HANDSHAKE
        if is_login and self._may_begin_again(now_s):
            self._wire.put_back(offset)
            return False
        self._listener.logins.expired += 1
        logger.debug("closing the connection of %s: its session is over", self.client)
        self._closing = True
        self._close_if_done()
        return True


def _encoded(request: SaslHandshakeRequest, version: int) -> bytes:
    from ottla.protocol.codec import encode

    return encode(request, version)


def _printable(text: str) -> str:
    """In one line, and no longer than one: back ends may quote what clients have sent."""
    return "".join(each if each.isprintable() else " " for each in text[:_LONGEST_REASON])


def _now_ms() -> float:
    return asyncio.get_running_loop().time() * 1000


@cache
def bounded_connection() -> type[BoundedConnection]:
    """The class of such connections where the memory of requests is limited."""
    from ottla.server.broker.connection_memory import BoundedConnection

    class BoundedSaslConnection(SaslConnection, BoundedConnection):
        """Both."""

        __slots__ = ()

    return BoundedSaslConnection
