"""How many connections a broker takes: in all, per client address, and per second (KIP-402, KIP-612).

Sans-I/O: time is an argument (seconds, steady).
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from ottla.schema.checks import parse_connection_overrides

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig

_NO_RATE = 2**31 - 1


class Admission(Enum):
    """What to do with a new connection."""

    ACCEPT = "accept"
    HOLD = "hold"  # let it wait, as in a listen backlog
    REFUSE = "refuse"


class ConnectionLimits:
    """Shared by all listeners of a broker.

    Too many connections from one address are refused. Above the total, or faster than the rate, connections are held
    until there is room; at most `hold_limit` of them, like a listen backlog.
    """

    __slots__ = (
        "_config",
        "_creation_times",
        "_per_address",
        "held",
        "hold_limit",
        "max_connections",
        "max_per_address",
        "max_rate",
        "overrides",
        "total",
    )

    def __init__(self, config: BrokerConfig) -> None:
        self.total = 0
        self.held = 0
        self._per_address: dict[str, int] = {}
        self._creation_times: deque[float] = deque()
        self._take(config)

    @classmethod
    def from_config(cls, config: BrokerConfig) -> ConnectionLimits:
        """The limits a broker's settings ask for."""
        return cls(config)

    def follow(self, config: BrokerConfig) -> None:
        """Take over settings that were changed at run time; free when they were not."""
        if config is not self._config:
            self._take(config)

    def _take(self, config: BrokerConfig) -> None:
        self._config = config
        self.max_connections: int = config["max.connections"]
        self.max_per_address: int = config["max.connections.per.ip"]
        self.overrides = parse_connection_overrides(config["max.connections.per.ip.overrides"])
        self.max_rate: int = max(config["max.connection.creation.rate"], 1)
        self.hold_limit: int = config["socket.listen.backlog.size"]

    def admit(self, address: str, now: float) -> Admission:
        """Decide on a new connection from `address`; an accepted or held one counts until `release`."""
        limit = self.overrides.get(address, self.max_per_address)
        count = self._per_address.get(address, 0)
        if count >= limit:
            return Admission.REFUSE
        admission = Admission.ACCEPT if self._has_room(now) else Admission.HOLD
        if admission is Admission.HOLD:
            if self.held >= self.hold_limit:
                return Admission.REFUSE
            self.held += 1
        else:
            self._count_creation(now)
            self.total += 1
        self._per_address[address] = count + 1
        return admission

    def promote(self, now: float) -> bool:
        """Turn one held connection into an accepted one, if there is room now."""
        if not self._has_room(now):
            return False
        self.held -= 1
        self.total += 1
        self._count_creation(now)
        return True

    def release(self, address: str, *, held: bool) -> None:
        """A connection that `admit` counted is gone."""
        if held:
            self.held -= 1
        else:
            self.total -= 1
        left = self._per_address[address] - 1
        if left:
            self._per_address[address] = left
        else:
            del self._per_address[address]

    def next_slot_at(self, now: float) -> float | None:
        """When the rate alone allows another connection; None when it already does."""
        self._forget_old(now)
        if len(self._creation_times) < self.max_rate:
            return None
        return self._creation_times[0] + 1.0

    def _has_room(self, now: float) -> bool:
        return self.total < self.max_connections and self.next_slot_at(now) is None

    def _count_creation(self, now: float) -> None:
        # Without a limit there is nothing to remember.
        if self.max_rate < _NO_RATE:
            self._creation_times.append(now)

    def _forget_old(self, now: float) -> None:
        times = self._creation_times
        while times and times[0] <= now - 1.0:
            times.popleft()
