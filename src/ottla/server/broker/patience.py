"""How long a broker waits for clients that say nothing, or one byte at a time. Time is an argument (seconds, steady).

A connection has `connections.first.request.timeout.ms` from its beginning until its first request is complete, and, on
a listener with SASL, until it is authenticated. Later a request that has begun to come must go on coming: within each
`request.receive.timeout.ms` at least `request.receive.min.bytes.per.second` on average. A slow link is slow and goes
on; who sends a byte a second holds memory and a file, and is closed. Time in which we do not read (quotas, no memory,
an answer that is awaited) does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.connection import Connection

NONE_YET: Final = -(1 << 40)
"""Correlation id of a connection without a request; none that is on the wire."""


class Progress:
    """What a connection has done so far, as it was seen last: a slot of it."""

    __slots__ = ("bytes_in", "correlation_id", "since")

    def __init__(self) -> None:
        self.since = 0.0
        self.bytes_in = 0
        self.correlation_id = NONE_YET


class Patience:
    """The limits of one listener. 0 for a time: without limit."""

    __slots__ = ("_first_s", "_least_bytes", "_must_log_in", "_receive_s", "interval_s")

    def __init__(self, config: BrokerConfig, *, must_log_in: bool) -> None:
        self._first_s: float = config["connections.first.request.timeout.ms"] / 1000
        self._receive_s: float = config["request.receive.timeout.ms"] / 1000
        self._least_bytes: int = config["request.receive.min.bytes.per.second"]
        self._must_log_in = must_log_in
        times = [time for time in (self._first_s, self._receive_s) if time > 0]
        self.interval_s: float | None = min(times) / 4 if times else None
        """How often connections have to be looked at; None: not for this."""

    def is_exhausted(self, connection: Connection, now: float) -> bool:
        """Whether a connection has to be closed. To be asked of each, every `interval_s`."""
        progress = connection.progress
        context = connection.context
        if context.correlation_id == NONE_YET or (self._must_log_in and context.session is None):
            if connection.is_waiting:
                progress.since = now
            return 0 < self._first_s <= now - progress.since
        if not connection.is_receiving or connection.is_waiting or progress.correlation_id != context.correlation_id:
            progress.since = now
            progress.bytes_in = connection.bytes_in
            progress.correlation_id = context.correlation_id
            return False
        elapsed = now - progress.since
        if not 0 < self._receive_s <= elapsed:
            return False
        if connection.bytes_in - progress.bytes_in < self._least_bytes * elapsed:
            return True
        progress.since = now
        progress.bytes_in = connection.bytes_in
        return False
