"""The state of one node's connection, and who could be reached: cores, time is an argument.

A node is disconnected, connecting (from the name lookup to the end of TLS), checking (ApiVersions, then SASL) or ready.
Failures in a row make the pauses between attempts longer (reconnect.backoff.ms … .max.ms) and give each attempt more
time (socket.connection.setup.timeout.ms … .max.ms); being ready resets both.
"""

from __future__ import annotations

from enum import Enum

from ottla.client.network.backoff import ExponentialBackoff


class Phase(Enum):
    """Where a connection is."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CHECKING = "checking"
    READY = "ready"


class NodeState:
    """When to connect to a node, and when to send to it."""

    __slots__ = ("_reconnect", "_setup", "failures", "last_attempt_ms", "muted_until_ms", "phase", "retry_at_ms")

    def __init__(self, reconnect: ExponentialBackoff, setup: ExponentialBackoff) -> None:
        self._reconnect = reconnect
        self._setup = setup
        self.phase = Phase.DISCONNECTED
        self.failures = 0
        """Attempts in a row that did not end in a ready connection."""
        self.retry_at_ms = 0
        self.muted_until_ms = 0
        """The broker asked for a pause until then (KIP-219)."""
        self.last_attempt_ms = -1

    @property
    def is_ready(self) -> bool:
        return self.phase is Phase.READY

    def may_connect(self, now_ms: int) -> bool:
        return self.phase is Phase.DISCONNECTED and now_ms >= self.retry_at_ms

    def delay_ms(self, now_ms: int) -> int:
        """How long nothing can be sent, nor a connection be attempted. 0 while one is being made."""
        until_ms = self.retry_at_ms if self.phase is Phase.DISCONNECTED else self.muted_until_ms
        return max(0, until_ms - now_ms)

    def setup_timeout_ms(self) -> int:
        """How long this attempt may take to get a connection."""
        return self._setup.delay_ms(self.failures)

    def connecting(self, now_ms: int) -> None:
        assert self.phase is Phase.DISCONNECTED, self.phase
        self.phase = Phase.CONNECTING
        self.last_attempt_ms = now_ms
        self.muted_until_ms = 0

    def connected(self) -> None:
        assert self.phase is Phase.CONNECTING, self.phase
        self.phase = Phase.CHECKING

    def ready(self) -> None:
        assert self.phase is Phase.CHECKING, self.phase
        self.phase = Phase.READY
        self.failures = 0

    def failed(self, now_ms: int) -> None:
        """The attempt failed, or the connection was lost."""
        self.retry_at_ms = now_ms + self._reconnect.delay_ms(self.failures)
        self.failures += 1
        self.phase = Phase.DISCONNECTED

    def closed(self) -> None:
        """We closed it: nothing is wrong with the node."""
        self.phase = Phase.DISCONNECTED
        self.retry_at_ms = 0

    def throttle(self, now_ms: int, throttle_time_ms: int) -> None:
        self.muted_until_ms = max(self.muted_until_ms, now_ms + throttle_time_ms)

    def check_invariants(self) -> None:
        assert self.failures >= 0
        assert not (self.is_ready and self.failures)


class Reachability:
    """Which addresses are known not to answer, so that each change is told once.

    Several nodes may share an address: a bootstrap server, the broker that it is, and the coordinator on it.
    """

    __slots__ = ("_reasons",)

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def lost(self, address: str, reason: str) -> bool:
        """It could not be reached, or went away with requests unanswered. True when that is news."""
        is_news = address not in self._reasons
        self._reasons[address] = reason
        return is_news

    def reached(self, address: str) -> bool:
        """It answers. True when it had been lost."""
        return self._reasons.pop(address, None) is not None

    def reason(self, address: str) -> str | None:
        """Why it was lost, while it is."""
        return self._reasons.get(address)
