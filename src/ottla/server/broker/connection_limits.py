"""How many connections a broker takes: in all, per listener, per client address, and per second (KIP-402, KIP-612).

Sans-I/O: time is an argument (milliseconds, steady). `ConnectionLimits` is what all listeners of a broker share,
`ListenerLimits` what one of them adds; together they decide on the connection that has waited longest, as Kafka's
acceptor thread does:

1. Faster than max.connection.creation.rate, of the listener or of the broker: it waits, for at most one sample.
2. More than max.connections, of the listener or of the broker: it waits until another one leaves.
3. Faster than the connection_creation_rate of its address: it is kept waiting, and then closed.
4. More than max.connections.per.ip from its address: it is closed.

The listener that brokers use among each other is not held up by what clients do on other listeners: on those, the
connection that was idle longest is closed when the broker has too many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from ottla.schema.checks import parse_connection_overrides

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.connection_memory import RequestMemory
    from ottla.server.broker.quotas.ledger import Ledger
    from ottla.server.broker.quotas.rate import Rate
    from ottla.server.broker.response_memory import ResponseMemory

_NO_LIMIT = 2**31 - 1


class Admission(Enum):
    """What to do with a new connection."""

    ACCEPT = "accept"
    HOLD = "hold"  # let it wait, as in a listen backlog
    REFUSE = "refuse"
    CLOSE_LATER = "close later"  # a client that comes too often must not come back at once


class Decision(NamedTuple):
    """`wait_ms`: after this time ask again (HOLD), or close (CLOSE_LATER). A HOLD without it waits for room."""

    admission: Admission
    wait_ms: int | None = None


class ConnectionLimits:
    """Shared by all listeners of a broker.

    `on_change` are called when there may be room for a waiting connection, or when there are too many connections.
    """

    __slots__ = (
        "_address_rates",
        "_answers",
        "_config",
        "_per_address",
        "_rate",
        "_rates",
        "closing",
        "max_connections",
        "max_per_address",
        "max_rate",
        "on_change",
        "overrides",
        "requests",
        "sample_ms",
        "samples",
        "total",
    )

    def __init__(self, config: BrokerConfig) -> None:
        self.total = 0
        # Counted, but on their way out to make room.
        self.closing = 0
        self.on_change: list[Callable[[], None]] = []
        self.samples: int = config["quota.window.num"]
        self.sample_ms: int = config["quota.window.size.seconds"] * 1000
        self._per_address: dict[str, int] = {}
        self._rate: Rate | None = None
        # Quotas of addresses (None: of all others), and what they have used of them.
        self._address_rates: Mapping[str | None, int] = {}
        self._rates: Ledger[str, Rate] | None = None
        self._answers: ResponseMemory | None = None
        self.requests: RequestMemory | None = None
        """What requests take of `queued.max.request.bytes`, when that is set."""
        if config["queued.max.request.bytes"] > 0:
            from ottla.server.broker.connection_memory import RequestMemory

            self.requests = RequestMemory(config["queued.max.request.bytes"])
        self._take(config)

    @classmethod
    def from_config(cls, config: BrokerConfig) -> ConnectionLimits:
        """The limits a broker's settings ask for."""
        return cls(config)

    def follow(self, config: BrokerConfig) -> bool:
        """Take over settings that were changed at run time; False, and free, when they were not."""
        if config is self._config:
            return False
        self._take(config)
        return True

    def _take(self, config: BrokerConfig) -> None:
        self._config = config
        self.max_connections: int = config["max.connections"]
        self.max_per_address: int = config["max.connections.per.ip"]
        self.overrides = parse_connection_overrides(config["max.connections.per.ip.overrides"])
        self.max_rate: int = config["max.connection.creation.rate"]

    @property
    def answers(self) -> ResponseMemory:
        """Answers that clients do not read; made when the first of them does not."""
        if self._answers is None:
            from ottla.server.broker.response_memory import ResponseMemory

            self._answers = ResponseMemory(self._config["queued.max.response.bytes"])
        return self._answers

    @property
    def config(self) -> BrokerConfig:
        """The settings that are in force."""
        return self._config

    @property
    def has_too_many(self) -> bool:
        """Whether a connection has to go: the limit was lowered, or brokers came that are not held up by it."""
        return self.total - self.closing > self.max_connections

    def set_address_rates(self, rates: Mapping[str | None, int]) -> None:
        """Connections per second by address, None for all others; what was used stays known."""
        self._address_rates = rates
        if rates and self._rates is None:
            from ottla.server.broker.quotas.ledger import Ledger
            from ottla.server.broker.quotas.rate import Rate

            self._rates = Ledger(lambda: Rate(self.samples, self.sample_ms))

    def changed(self) -> None:
        """Tell the listeners."""
        for listener in self.on_change:
            listener()

    def charge_rate(self, now_ms: int) -> int:
        """Count a new connection; how long it has to wait for the rate of the whole broker."""
        self._rate = self.rate(self._rate, self.max_rate)
        return self.throttle_ms(self._rate, self.max_rate, now_ms)

    def rate(self, rate: Rate | None, limit: int) -> Rate | None:
        """The counter that a limit needs, or None when it is none."""
        if limit >= _NO_LIMIT:
            return None
        if rate is None:
            from ottla.server.broker.quotas.rate import Rate

            rate = Rate(self.samples, self.sample_ms)
        return rate

    def throttle_ms(self, rate: Rate | None, limit: int, now_ms: int) -> int:
        """Count a new connection; how long it has to wait, which is one sample at most."""
        if rate is None:
            return 0
        rate.record(1, now_ms)
        return min(rate.throttle_ms(limit, now_ms), self.sample_ms)

    def take_back(self, now_ms: int) -> None:
        """A connection that was counted for the rate was not accepted."""
        if self._rate is not None:
            self._rate.record(-1, now_ms)

    def charge_address(self, address: str, now_ms: int) -> int:
        """Count a new connection of an address; the milliseconds after which to close it, 0 when it may stay."""
        limit = self._address_rates.get(address, self._address_rates.get(None))
        if limit is None or self._rates is None:
            return 0
        rate = self._rates.account(address, now_ms)
        wait_ms = self.throttle_ms(rate, limit, now_ms)
        if wait_ms:
            rate.record(-1, now_ms)
        return wait_ms

    def has_room_for(self, address: str) -> bool:
        """Whether the address may have one more."""
        return self._per_address.get(address, 0) < self.overrides.get(address, self.max_per_address)

    def add(self, address: str) -> None:
        """A connection was accepted."""
        self.total += 1
        self._per_address[address] = self._per_address.get(address, 0) + 1

    def remove(self, address: str) -> None:
        """An accepted connection is gone."""
        self.total -= 1
        left = self._per_address[address] - 1
        if left:
            self._per_address[address] = left
        else:
            del self._per_address[address]


class ListenerLimits:
    """What one listener adds to the limits of its broker, and the decision on the connection next in line.

    `is_protected` is for the listener that brokers use, when clients have others.
    """

    __slots__ = (
        "_config",
        "_rate",
        "_ready_ms",
        "count",
        "is_protected",
        "max_connections",
        "max_rate",
        "name",
        "shared",
    )

    def __init__(self, shared: ConnectionLimits, name: str) -> None:
        self.shared = shared
        self.name = name
        self.count = 0
        self._rate: Rate | None = None
        # When the connection next in line has waited long enough for the rates; None before it was counted for them.
        self._ready_ms: int | None = None
        self._take(shared.config)

    def _take(self, config: BrokerConfig) -> None:
        self._config = config
        self.max_connections: int = config.listener_setting(self.name, "max.connections")
        self.max_rate: int = config.listener_setting(self.name, "max.connection.creation.rate")
        self.is_protected = len(config.listeners) > 1 and self.name == config.inter_broker_listener_name

    def decide(self, address: str, now_ms: int) -> Decision:
        """Decide on the connection next in line. An accepted one counts until `release`."""
        shared = self.shared
        if shared.config is not self._config:
            self._take(shared.config)
        if self._ready_ms is None:
            self._ready_ms = now_ms + self._charge_rates(now_ms)
        if now_ms < self._ready_ms:
            return Decision(Admission.HOLD, self._ready_ms - now_ms)
        if not self._has_slot:
            return Decision(Admission.HOLD)
        self._ready_ms = None
        wait_ms = shared.charge_address(address, now_ms)
        if wait_ms:
            self._take_back(now_ms)
            return Decision(Admission.CLOSE_LATER, wait_ms)
        if not shared.has_room_for(address):
            return Decision(Admission.REFUSE)
        self.count += 1
        shared.add(address)
        return Decision(Admission.ACCEPT)

    def give_up(self) -> None:
        """The connection next in line has gone by itself."""
        self._ready_ms = None

    def release(self, address: str) -> None:
        """An accepted connection is gone."""
        self.count -= 1
        self.shared.remove(address)

    @property
    def _has_slot(self) -> bool:
        shared = self.shared
        return self.count < self.max_connections and (self.is_protected or shared.total < shared.max_connections)

    def _charge_rates(self, now_ms: int) -> int:
        shared = self.shared
        self._rate = shared.rate(self._rate, self.max_rate)
        wait_ms = shared.throttle_ms(self._rate, self.max_rate, now_ms)
        return wait_ms if self.is_protected else max(wait_ms, shared.charge_rate(now_ms))

    def _take_back(self, now_ms: int) -> None:
        if self._rate is not None:
            self._rate.record(-1, now_ms)
        if not self.is_protected:
            self.shared.take_back(now_ms)
