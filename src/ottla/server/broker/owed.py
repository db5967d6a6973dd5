"""Answers that a connection owes while it already handles what came behind them.

A produce with acks=all waits for other brokers. The requests behind it on the same connection, if they are produces
too, need not wait with it: they are appended in order, and answered in order, so that a client with five requests in
flight has all five replicated in one go. (Kafka handles one request of a connection at a time.)
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ottla.core.binary import Buffer
    from ottla.server.broker.broker import DelayedResponse
    from ottla.server.broker.dispatch import Route
    from ottla.server.broker.request_metrics import Timing


class Owed:
    """One answer: still to come (`delayed`), or there (`parts`, encoded) and behind one that is not."""

    __slots__ = ("api_version", "correlation_id", "delayed", "parts", "request", "route", "timing")

    def __init__(
        self,
        route: Route,
        request: Any,
        correlation_id: int,
        api_version: int,
        delayed: DelayedResponse | None,
        parts: list[Buffer],
        timing: Timing | None,
    ) -> None:
        self.route = route
        self.request = request
        self.correlation_id = correlation_id
        self.api_version = api_version
        self.delayed = delayed
        self.parts = parts
        self.timing = timing

    @property
    def is_ready(self) -> bool:
        """Whether it may leave, once those before it have."""
        return self.delayed is None or self.delayed.done


OwedAnswers = deque[Owed]
