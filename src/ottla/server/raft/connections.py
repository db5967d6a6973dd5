"""Whom the quorum core may ask now: one request at a time to each node, and a pause after a failure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ottla.protocol.message import Request
from ottla.server.raft.effects import Destination


@dataclass(frozen=True, slots=True)
class Asked:
    """A request under way, and when it is given up."""

    destination: Destination
    request: Request
    deadline_ms: int


@dataclass(slots=True)
class Connections:
    """`retry_backoff_ms` is the pause after a failure, `request_timeout_ms` how long an answer may take."""

    retry_backoff_ms: int
    request_timeout_ms: int
    _asked: dict[int, Asked] = field(default_factory=dict)
    _busy: dict[Destination, int] = field(default_factory=dict)
    _paused_until_ms: dict[Destination, int] = field(default_factory=dict)
    _last_token: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._asked

    @property
    def deadline_ms(self) -> int | None:
        """When the first request is given up."""
        return min((asked.deadline_ms for asked in self._asked.values()), default=None)

    def is_busy(self, destination: Destination) -> bool:
        """Whether an answer of this node is awaited."""
        return destination in self._busy

    def is_paused(self, destination: Destination, now_ms: int) -> bool:
        """Whether the last attempt failed a moment ago."""
        return self._paused_until_ms.get(destination, now_ms) > now_ms

    def is_ready(self, destination: Destination, now_ms: int) -> bool:
        """Whether this node may be asked now."""
        return not self.is_busy(destination) and not self.is_paused(destination, now_ms)

    def paused_until_ms(self, destination: Destination, now_ms: int) -> int | None:
        """When the pause of this node ends; None without one."""
        until_ms = self._paused_until_ms.get(destination, now_ms)
        return until_ms if until_ms > now_ms else None

    def ask(self, destination: Destination, request: Request, now_ms: int) -> int:
        """Take note of a request; its token."""
        assert destination not in self._busy, "one request at a time"
        self._last_token += 1
        token = self._last_token
        self._asked[token] = Asked(destination, request, now_ms + self.request_timeout_ms)
        self._busy[destination] = token
        self._paused_until_ms.pop(destination, None)
        return token

    def answered(self, token: int) -> Asked | None:
        """The request that a token stands for, which is over now; None when nobody waits for it any more."""
        asked = self._asked.pop(token, None)
        if asked is not None:
            del self._busy[asked.destination]
        return asked

    def pause(self, destination: Destination, now_ms: int) -> None:
        """Leave a node alone for a while."""
        self._paused_until_ms[destination] = now_ms + self.retry_backoff_ms

    def expired(self, now_ms: int) -> list[int]:
        """Tokens of the requests whose time is over; oldest first."""
        return [token for token, asked in self._asked.items() if asked.deadline_ms <= now_ms]

    def reset(self) -> None:
        """Wait for nothing any more, and ask whom you like: what was asked was asked in another role."""
        self._asked.clear()
        self._busy.clear()
        self._paused_until_ms.clear()
