"""One client's connection: the thin shell between an asyncio transport and the sans-I/O `ServerConnection`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from struct import Struct
from typing import TYPE_CHECKING, Any, cast

from ottla.protocol.apis import ApiKey
from ottla.protocol.codec import decode, encode
from ottla.protocol.connection import NEED_DATA, ServerConnection
from ottla.protocol.errors import ProtocolError
from ottla.protocol.headers import parse_request_header
from ottla.runtime.file_range import FileRange, FileSender
from ottla.server.broker.broker import CloseConnectionError, DelayedResponse, RequestContext
from ottla.server.broker.dispatch import Route, UnsupportedRequestError
from ottla.server.broker.patience import NONE_YET, Progress
from ottla.server.broker.request_metrics import Timing

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ottla.core.binary import Buffer
    from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest
    from ottla.server.broker.listener import Listener
    from ottla.server.broker.owed import OwedAnswers
    from ottla.server.broker.quotas.usage import Usage
    from ottla.server.broker.sasl_connection import Login

logger = logging.getLogger(__name__)

_HEADER = Struct(">ii").pack
# Pieces of responses to pipelined requests that are gathered for one write; a fetch can have two for each partition.
_MOST_PARTS = 64
# Up to this size the pieces of a response are joined into one buffer; copying less than this costs less than another
# iovec.
JOIN_BYTES = 16_384
# So many answers may be owed while requests behind them are handled.
_MOST_OWED = 32
# Why a connection is stopped, as bits.
_BLOCKED, _HELD, _MUTED, _IN_ORDER = 1, 2, 4, 8


class Connection(asyncio.BufferedProtocol):
    """Reads requests, hands them to their handlers one at a time, writes responses in request order.

    A connection is *busy* while a handler's response is awaited. It is stopped while it is *held* because the broker
    has no room for it, *blocked* because the client does not read what was written, or *muted* because its client is
    above a quota. In all of these no further request is handled; what still arrives is kept, and once something has
    arrived, reading stops. (Stopping only then spares two system calls per long poll, and shows a client that goes
    away.)

    Produces that wait for other brokers let those behind them in (`owed`); any other request has to wait until they
    are answered.
    """

    __slots__ = (
        "_arrived_ns",
        "_awaited",
        "_broker",
        "_can_send_files",
        "_clock",
        "_closing",
        "_listener",
        "_muted",
        "_owed",
        "_reading_paused",
        "_request",
        "_route",
        "_router",
        "_sender",
        "_settling",
        "_stopped",
        "_timing",
        "_transport",
        "_usage",
        "_wire",
        "active",
        "bytes_in",
        "bytes_out",
        "context",
        "idle_since",
        "login",
        "progress",
        "was_accepted",
    )

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._broker = listener.broker
        self._router = listener.router
        self._wire = ServerConnection(listener.max_request_bytes)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens
        self._awaited: DelayedResponse | asyncio.Future[Any] | None = None
        self._route: Route | None = None
        self._request: Any = None
        # Answers to come, in the order of their requests, while others are handled; None when there was never any.
        self._owed: OwedAnswers | None = None
        self._settling: asyncio.Handle | None = None
        self._stopped = 0
        self.bytes_in = self.bytes_out = 0
        self._clock = listener.clock_ns
        # When the bytes that wait came, 0 when none do; the request that is awaited, when it is timed.
        self._arrived_ns = 0
        self._timing: Timing | None = None
        self._muted: asyncio.TimerHandle | None = None
        self._usage: Usage | None = None
        self._closing = False
        self._reading_paused = False
        self._can_send_files: bool | None = None
        self._sender: FileSender | None = None
        self.context = RequestContext(self, listener_name=listener.name)
        self.context.apis = listener.router.apis
        self.context.correlation_id = NONE_YET
        # Of clients that have to say who they are; None where nobody is asked.
        self.login: Login | None = None
        # Of requests that come slowly.
        self.progress = Progress()
        # For the sweep of idle connections: set by traffic, cleared by each sweep.
        self.active = True
        self.idle_since = 0.0
        # Whether it counts towards the limits of connections.
        self.was_accepted = False

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.context.client_host, self.context.client_port = peer[:2]
        else:
            self.context.client_host = str(peer or "")
        self._listener.connection_made(self)

    def get_buffer(self, sizehint: int) -> Buffer:
        return self._wire.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.active = True
        self.bytes_in += nbytes
        self._wire.bytes_received(nbytes)
        if self._awaited is not None or self._stopped:
            if not self._arrived_ns:
                self._arrived_ns = self._clock()
            self._pause_reading()
        else:
            self._handle_requests()

    def eof_received(self) -> bool:
        """The client will send no more; Kafka's clients never half-close, so that is the end."""
        return False

    def pause_writing(self) -> None:
        self._stopped |= _BLOCKED
        self._listener.answers.blocked(self, self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        if self._stopped & _BLOCKED:
            self._listener.answers.taken(self)
        self._stopped &= ~_BLOCKED
        self.active = True
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.cancel()
        if self._owed:
            self._forget_owed()
        if self._sender is not None:
            self._sender.close()
        if self._muted is not None:
            self._muted.cancel()
        if self._stopped & _BLOCKED:
            self._listener.answers.taken(self)
        self._listener.connection_lost(self)
        callbacks, self.context.on_close = self.context.on_close, None
        for name, callback in (callbacks or {}).items():
            try:
                callback()
            except Exception:
                logger.exception("%s of the connection of %s cannot be ended", name, self.client)

    def reauthenticate(
        self, request: SaslHandshakeRequest, context: RequestContext
    ) -> Coroutine[Any, Any, None] | None:
        """Begin to authenticate again; None where that is not possible."""
        return None

    # What the listener calls

    @property
    def client(self) -> str:
        """Who is at the other end, for log lines."""
        return f"{self.context.client_host} on {self._listener.name}"

    @property
    def is_busy(self) -> bool:
        """True while a response is owed."""
        return self._awaited is not None or bool(self._owed)

    @property
    def is_held(self) -> bool:
        """True while the broker has no room for this connection."""
        return bool(self._stopped & _HELD)

    @property
    def is_muted(self) -> bool:
        """True while its client has to wait because of a quota."""
        return bool(self._stopped & _MUTED)

    @property
    def is_waiting(self) -> bool:
        """True while it is held or muted: that nothing comes from its client says nothing."""
        return bool(self._stopped & (_HELD | _MUTED))

    @property
    def awaited_api(self) -> str | None:
        """The API of the request whose answer is awaited; None when none is."""
        if self._owed:
            return self._owed[0].route.api.name
        return self._route.api.name if self._awaited is not None and self._route is not None else None

    @property
    def has_requests_waiting(self) -> bool:
        """True while something arrived that is not handled before an earlier answer has gone."""
        return bool(self._arrived_ns)

    @property
    def is_blocked(self) -> bool:
        """True while its client does not read what was written."""
        return bool(self._stopped & _BLOCKED)

    @property
    def is_receiving(self) -> bool:
        """True while a part of a request has come and the rest is waited for."""
        return bool(self._wire.buffered_bytes) and not self._stopped and not self.is_busy and not self._reading_paused

    @property
    def is_closing(self) -> bool:
        """True when nothing more is handled: what is left is to send what was written."""
        return self._closing

    @property
    def transport(self) -> asyncio.Transport:
        """The asyncio transport."""
        return self._transport

    def send_through(self, transport: asyncio.Transport) -> None:
        """Use another transport from here on, which wraps the one before: for lines that are cut in tests."""
        self._transport = transport

    def hold(self) -> None:
        """Handle nothing until `release`."""
        self._stopped |= _HELD
        if self._listener.handshakes is not None:
            self._pause_reading()  # a handshake costs more than most requests

    def release(self) -> None:
        """There is room now."""
        self._stopped &= ~_HELD
        self.active = True
        self._go_on()

    def shut_down(self) -> None:
        """Handle no further request; close as soon as the response that is owed has gone out."""
        self._closing = True
        self._close_if_done()

    def abort(self) -> None:
        """Close at once, dropping what was not written."""
        self._closing = True
        self._transport.abort()

    # Requests

    def _go_on(self) -> None:
        """Something that stopped this connection is over."""
        if self._awaited is not None or self._stopped or self._closing:
            return
        arrived_ns, self._arrived_ns = self._arrived_ns, 0
        if self._wire.has_unread():
            self._handle_requests(arrived_ns)
        if self._reading_paused and self._awaited is None and not self._stopped and not self._closing:
            self._reading_paused = False
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._closing:
            self._reading_paused = True
            self._transport.pause_reading()

    def _handle_requests(self, arrived_ns: int = 0) -> None:
        """Handle every complete request that has arrived, and write their responses in one go.

        `arrived_ns` is when they came, for those that had to wait.
        """
        parts: list[Buffer] = []
        next_frame = self._wire.next_frame
        routes = self._router.routes
        quotas = self._broker.quotas
        usage = None
        context = self.context
        timings: list[Timing] | None = None
        clock = self._clock
        try:
            while not self._closing and not self._stopped and (frame := next_frame()) is not NEED_DATA:
                if parts and not arrived_ns:
                    arrived_ns = clock()  # whatever follows the first has waited since about now
                buffer, offset, end = frame
                if self._owed and self._has_to_wait(buffer, offset):
                    arrived_ns = arrived_ns or clock()
                    break
                api_key, version, context.correlation_id, context.client_id, offset = parse_request_header(
                    buffer, offset, end
                )
                context.api_version = version
                route = routes.get(api_key << 16 | version)
                if route is None and (route := self._find_route(api_key, version, parts)) is None:
                    continue
                route.requests = count = route.requests + 1
                request = timing = None
                if not count & route.mask:
                    started_ns = clock()
                    timing = Timing(route, context, arrived_ns or started_ns, started_ns, end - frame[1])
                    timings = [timing] if timings is None else [*timings, timing]
                if quotas is not None:
                    usage = self._usage = quotas.begin(api_key, end - frame[1], context)
                try:
                    quick = route.quick
                    response = None if quick is None else quick(self._broker, buffer, offset, end, context)
                    if response.__class__ is bytes:
                        if usage is not None:
                            response = self._settle_encoded(usage, route, response)
                        size = len(response) + route.header_bytes
                        header = route.pack_header(size, context.correlation_id)
                        if self._owed:
                            self._owe(route, None, None, [header, response], None)
                        else:
                            parts += (header, response)
                        if timing is not None:
                            timing.end(clock())
                        continue
                    if response is None:
                        # What is left of the frame is ignored, as Kafka does: librdkafka sends three bytes too many
                        # with some versions of Metadata.
                        request, _ = route.decode(buffer, offset, end)
                        if usage is not None:
                            usage.prepare(request)
                        response = route.handle(self._broker, request, context)
                except (ProtocolError, CloseConnectionError):
                    raise
                except Exception as error:
                    response = self._failure(route, request, error)
                if response.__class__ is route.response_class:
                    if self._owed:
                        later: list[Buffer] = []
                        self._encode(route, request, response, later)
                        self._owe(route, request, None, later, None)
                    else:
                        self._encode(route, request, response, parts)
                elif response is None:
                    if usage is not None:
                        self._settle(usage, None, 0)
                elif usage is None and isinstance(response, DelayedResponse) and response.lets_next_in:
                    if timing is not None and timings is not None:
                        timing.pause(clock())
                        timings.pop()
                    self._owe(route, request, response, [], timing)
                    continue
                elif self._owed:
                    # A produce that waits for more than other brokers: what is behind it waits as well.
                    assert isinstance(response, Awaitable)
                    delayed = DelayedResponse()
                    delayed.continue_with(_awaited(response))
                    self._owe(route, request, delayed, [], None)
                    self._stopped |= _IN_ORDER
                    break
                elif not self._settled_at_once(route, request, response, parts):
                    if timing is not None and timings is not None:
                        timing.pause(clock())
                        self._timing = timings.pop()
                    break
                if timing is not None:
                    timing.end(clock())
                if len(parts) > _MOST_PARTS:
                    self._write(parts)
                    parts = []
        except (ProtocolError, UnsupportedRequestError, CloseConnectionError) as error:
            self._refuse(error)
        if timings:
            self._write_timed(parts, timings)
        elif parts:
            self._write(parts)
        self._close_if_done()  # what was answered before goes out first

    def _write_timed(self, parts: list[Buffer], timings: list[Timing]) -> None:
        """Write responses of which some are timed."""
        clock = self._clock
        sending_ns = clock()
        if parts:
            self._write(parts)
        now_ns = clock()
        log = self._router.log
        for timing in timings:
            timing.sent(sending_ns, now_ns)
            timing.route.metrics.record(timing)
            if log is not None:
                log.completed(timing, self.context)

    def _find_route(self, api_key: int, version: int, parts: list[Buffer]) -> Route | None:
        try:
            return self._router.find(api_key, version)
        except UnsupportedRequestError:
            if api_key != ApiKey.API_VERSIONS:
                raise
        from ottla.server.broker.handlers.api_versions import unsupported_version_response

        body = encode(unsupported_version_response(), 0)
        parts += (_HEADER(len(body) + 4, self.context.correlation_id), body)
        return None

    def _failure(self, route: Route, request: Any, error: BaseException) -> Any | None:
        response = route.failure(request, self.context, error)
        if response is None:
            self._closing = True
        return response

    def _settled_at_once(self, route: Route, request: Any, response: Any, parts: list[Buffer]) -> bool:
        """Take what is not a response yet; False when it has to be waited for."""
        self._route = route
        self._request = request
        if isinstance(response, DelayedResponse):
            if response.done:
                self._encode_outcome(response.response, response.error, parts)
                return True
            response.on_done = self._delayed_done
            self._awaited = response
            if self._usage is not None:
                response.usage = self._usage
                self._usage.pause()
            return False
        assert isinstance(response, Awaitable), f"{route.api.name} answered {response!r}"
        if self._usage is not None:
            self._usage.pause()
            response = self._usage.timed(response)
        future = asyncio.ensure_future(response)
        future.add_done_callback(self._future_done)
        self._awaited = future
        return False

    # Answers that are owed

    def _has_to_wait(self, buffer: bytearray, offset: int) -> bool:
        """Whether the next request has to wait for what is owed; it is put back then."""
        assert self._owed is not None
        if int.from_bytes(buffer[offset : offset + 2], "big") == ApiKey.PRODUCE and len(self._owed) < _MOST_OWED:
            return False
        self._wire.put_back(offset)
        self._stopped |= _IN_ORDER
        self._pause_reading()
        return True

    def _owe(
        self, route: Route, request: Any, delayed: DelayedResponse | None, parts: list[Buffer], timing: Timing | None
    ) -> None:
        from ottla.server.broker.owed import Owed

        if self._owed is None:
            self._owed = deque()
        context = self.context
        self._owed.append(Owed(route, request, context.correlation_id, context.api_version, delayed, parts, timing))
        if delayed is not None:
            if delayed.done:
                self._answer_soon(delayed)
            else:
                delayed.on_done = self._answer_soon
                delayed.is_owed = True

    def _answer_soon(self, _: DelayedResponse) -> None:
        """In a later turn of the loop: what is committed together is answered together."""
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_soon(self._answer_owed)

    def _answer_owed(self) -> None:
        self._settling = None
        owed = self._owed
        if not owed:
            return
        self.active = True
        parts: list[Buffer] = []
        context = self.context
        timings = []
        before = context.correlation_id, context.api_version
        while owed and owed[0].is_ready:
            answer = owed.popleft()
            if answer.delayed is None:
                parts += answer.parts
                continue
            timing = answer.timing
            if timing is not None:
                timing.resume(self._clock())
            context.correlation_id, context.api_version = answer.correlation_id, answer.api_version
            self._route, self._request = answer.route, answer.request
            self._encode_outcome(answer.delayed.response, answer.delayed.error, parts)
            if timing is not None:
                timing.end(self._clock())
                timings.append(timing)
        context.correlation_id, context.api_version = before
        if timings:
            self._write_timed(parts, timings)
        elif parts:
            self._write(parts)
        self._stopped &= ~_IN_ORDER
        if self._closing:
            self._close_if_done()
        else:
            self._go_on()

    def _forget_owed(self) -> None:
        owed, self._owed = self._owed, None
        for answer in owed or ():
            if answer.delayed is not None:
                answer.delayed.cancel()
        if self._settling is not None:
            self._settling.cancel()

    def _delayed_done(self, delayed: DelayedResponse) -> None:
        self._finish_awaited(delayed.response, delayed.error)

    def _future_done(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            error: BaseException | None = asyncio.CancelledError()
        else:
            error = future.exception()
        self._finish_awaited(None if error is not None else future.result(), error)

    def _finish_awaited(self, response: Any, error: BaseException | None) -> None:
        if self._awaited is None:
            return  # the connection is gone
        self._awaited = None
        self.active = True
        if self._usage is not None:
            self._usage.resume()
        timing, self._timing = self._timing, None
        if timing is not None:
            timing.resume(self._clock())
        parts: list[Buffer] = []
        self._encode_outcome(response, error, parts)
        if timing is not None:
            timing.end(self._clock())
            self._write_timed(parts, [timing])
        elif parts:
            self._write(parts)
        if self._closing:
            self._close_if_done()
        else:
            self._go_on()

    def _encode_outcome(self, response: Any, error: BaseException | None, parts: list[Buffer]) -> None:
        route, request = self._route, self._request
        assert route is not None
        self._route = self._request = None
        if isinstance(error, CloseConnectionError | asyncio.CancelledError):
            self._refuse(error)
            return
        if error is not None:
            response = self._failure(route, request, error)
        if response.__class__ is bytes:
            if self._usage is not None:
                response = self._settle_encoded(self._usage, route, response)
            parts += (route.pack_header(len(response) + route.header_bytes, self.context.correlation_id), response)
        elif response is not None:
            self._encode(route, request, response, parts)
        elif self._usage is not None:
            self._settle(self._usage, None, 0)

    def _encode(self, route: Route, request: Any, response: Any, parts: list[Buffer]) -> None:
        """Append a response with its frame to `parts`."""
        start = len(parts)
        parts.append(b"")
        usage = self._usage
        if (count_errors := route.count_errors) is not None and count_errors(response, route.metrics.errors):
            route.metrics.failed += 1
        try:
            route.encode(response, parts)
            if len(parts) == start + 2:
                size = len(parts[-1])
            else:
                size = _size(parts, start + 1)
            if usage is not None and (throttle_ms := self._settle(usage, response, size)):
                route.metrics.throttle.record(throttle_ms)
                self._encode_throttled(route, request, response, parts, start + 1, throttle_ms)
                size = _size(parts, start + 1)
            parts[start] = route.pack_header(size + route.header_bytes, self.context.correlation_id)
        except Exception as error:
            # Half a response must not leave: what stands before it does, then the connection ends.
            del parts[start:]
            route.failure(request, self.context, error)
            self._closing = True
        if usage is not None and usage.is_timed:
            usage.resume()
            self._write(parts)
            parts.clear()
            usage.sent()

    def _encode_throttled(
        self, route: Route, request: Any, response: Any, parts: list[Buffer], start: int, throttle_ms: int
    ) -> None:
        """Put the response at `start` again, now with the time for which its client has to wait."""
        if route.throttled_response is not None:
            response = route.throttled_response(self._broker, request, response)
        if hasattr(response, "throttle_time_ms"):
            del parts[start:]
            # Some handlers answer with an object that they keep.
            before, response.throttle_time_ms = response.throttle_time_ms, throttle_ms
            route.encode(response, parts)
            response.throttle_time_ms = before

    def _settle_encoded(self, usage: Usage, route: Route, body: bytes) -> bytes:
        """Charge for a response that is encoded already; the body to send, with the time to wait if there is one."""
        throttle_ms = self._settle(usage, body, len(body))
        if not throttle_ms:
            return body
        route.metrics.throttle.record(throttle_ms)
        response = decode(route.response_class, route.version, body)
        response.throttle_time_ms = throttle_ms
        return encode(response, route.version)

    def _settle(self, usage: Usage, response: Any, size: int) -> int:
        """Charge for what was just answered, and mute where that is called for; for how many milliseconds."""
        self._usage = None
        throttle_ms = usage.settle(response, size)
        if throttle_ms and not self._closing:
            self._stopped |= _MUTED
            self._muted = asyncio.get_running_loop().call_later(throttle_ms / 1000, self._unmute)
        return throttle_ms

    def _unmute(self) -> None:
        self._muted = None
        self._stopped &= ~_MUTED
        self.active = True
        self._go_on()

    def _write(self, parts: list[Any]) -> None:
        """Hand the pieces to the transport: small neighbours joined, large ones as they are."""
        transport = self._transport
        if transport.is_closing():
            return
        if len(parts) == 2 and len(parts[1]) <= JOIN_BYTES:
            data = parts[0] + parts[1]
            self.bytes_out += len(data)
            transport.write(data)
            return
        size = sum(map(len, parts))
        self.bytes_out += size
        if size <= JOIN_BYTES:
            transport.write(b"".join(parts))
            return
        if self._is_tls:
            transport.writelines(parts)
            return
        if any(part.__class__ is FileRange for part in parts):
            self._send_files(parts)
            return
        small: list[Buffer] = []
        for part in parts:
            if len(part) < JOIN_BYTES:
                small.append(part)
                continue
            if small:
                transport.write(b"".join(small))
                small.clear()
            transport.write(part)
        if small:
            transport.write(b"".join(small))

    @property
    def can_send_files(self) -> bool:
        """Whether file ranges may be sent here: on a plain socket of the operating system, or by our own TLS."""
        if self._can_send_files is None:
            info = self._transport.get_extra_info
            found = info("socket") if info("sslcontext") is None else None
            self._can_send_files = (found is not None and found.fileno() >= 0) or self._is_tls
        return self._can_send_files

    @property
    def _is_tls(self) -> bool:
        """Whether the transport encrypts, and nothing stands between it and us."""
        handshakes = self._listener.handshakes
        return handshakes is not None and handshakes.is_own(self._transport)

    def _send_files(self, parts: list[Any]) -> None:
        """Send pieces of which some are file ranges, past the transport, which must have nothing left to write."""
        transport = self._transport
        try:
            if transport.get_write_buffer_size():
                for part in parts:
                    transport.write(part.read() if part.__class__ is FileRange else part)
                return
            if self._sender is None:
                number = transport.get_extra_info("socket").fileno()
                self._sender = FileSender(number, asyncio.get_running_loop())
            if not self._sender.send(parts, self._files_sent):
                self._stopped |= _BLOCKED
        except OSError as error:
            self._files_sent(error)

    def _files_sent(self, error: OSError | None) -> None:
        if error is not None:
            logger.debug("sending to %s: %s", self.client, error)
            self.abort()
            return
        self.resume_writing()
        self._close_if_done()

    def _close_if_done(self) -> None:
        """When closing: close once the response that is owed, and what is being sent, have gone out."""
        is_sending = self._sender is not None and self._sender.is_busy
        if self._closing and not self.is_busy and not is_sending and not self._transport.is_closing():
            self._transport.close()

    def _refuse(self, error: BaseException) -> None:
        """Close because of what the client sent, with one line that says so."""
        self._closing = True
        if not isinstance(error, asyncio.CancelledError):
            self._listener.complaints.log(
                asyncio.get_running_loop().time(),
                logging.WARNING,
                "closing the connection of %s (client id %r): %s",
                self.client,
                self.context.client_id,
                error,
            )


async def _awaited(response: Awaitable[Any]) -> Any:
    return await response


def _size(parts: list[Buffer], start: int) -> int:
    return sum(len(parts[position]) for position in range(start, len(parts)))
