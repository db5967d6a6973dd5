"""The quotas of users and client ids: which requests are metered, and how long their clients have to wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ottla.protocol.apis import ApiKey
from ottla.server.broker.quotas.ledger import Ledger
from ottla.server.broker.quotas.limits import CLIENT_ID, IP, USER, LimitTable, SharedBy
from ottla.server.broker.quotas.mutations import MutationQuota
from ottla.server.broker.quotas.rate import Rate, TokenBucket
from ottla.server.broker.quotas.usage import FETCHES, MUTATIONS, PRODUCE, Usage

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.broker import RequestContext
    from ottla.server.metadata.image import QuotaEntity

EXEMPT: Final = frozenset((int(ApiKey.WRITE_TXN_MARKERS),))
"""What brokers ask of each other: never throttled, whoever else would suffer for it."""

_LARGEST_INT32: Final = 2**31 - 1


class RateQuota:
    """One kind of quota that limits a rate: `producer_byte_rate`, `consumer_byte_rate` or `request_percentage`."""

    __slots__ = ("ledger", "longest_throttle_ms", "table")

    def __init__(self, samples: int, sample_ms: int, longest_throttle_ms: int | None = None) -> None:
        self.table = LimitTable(())
        self.longest_throttle_ms = longest_throttle_ms
        self.ledger: Ledger[SharedBy, Rate] = Ledger(lambda: Rate(samples, sample_ms))

    def charge(self, user: str, client_id: str, amount: float, now_ms: int) -> int:
        """Count an amount; the milliseconds to wait for it."""
        limit = self.table.find(user, client_id)
        if limit is None:
            return 0
        rate = self.ledger.account(limit.shared_by, now_ms)
        rate.record(amount, now_ms)
        throttle_ms = rate.throttle_ms(limit.value, now_ms)
        longest_ms = self.longest_throttle_ms
        if longest_ms is not None:
            throttle_ms = min(throttle_ms, longest_ms)
        rate.last_throttle_ms = throttle_ms
        return throttle_ms

    def record(self, user: str, client_id: str, amount: float, now_ms: int) -> None:
        """Count an amount that is charged for with the next request, or (negative) was counted in vain."""
        limit = self.table.find(user, client_id)
        if limit is not None:
            self.ledger.account(limit.shared_by, now_ms).record(amount, now_ms)


class ClientQuotas:
    """All quotas of users and client ids, with what was used of them.

    `now_ms` is a steady clock for rates, `now_ns` a fine one for the time that requests take on the event loop.
    """

    __slots__ = (
        "_metered",
        "_mutation_table",
        "_mutations",
        "_samples",
        "fetch",
        "now_ms",
        "now_ns",
        "produce",
        "request",
    )

    def __init__(self, config: BrokerConfig, now_ms: Callable[[], int], now_ns: Callable[[], int]) -> None:
        samples, sample_ms = config["quota.window.num"], config["quota.window.size.seconds"] * 1000
        burst_s = config["controller.quota.window.num"] * config["controller.quota.window.size.seconds"]
        self.now_ms = now_ms
        self.now_ns = now_ns
        self.produce = RateQuota(samples, sample_ms)
        self.fetch = RateQuota(samples, sample_ms)
        # A request that took long once would silence its client for minutes.
        self.request = RateQuota(samples, sample_ms, longest_throttle_ms=sample_ms)
        self._samples = (samples, sample_ms)
        self._mutation_table = LimitTable(())
        self._mutations: Ledger[SharedBy, TokenBucket] = Ledger(lambda: TokenBucket(burst_s))
        self._metered: frozenset[int] | None = frozenset()

    def update(self, quotas: Mapping[QuotaEntity, Mapping[str, float]]) -> None:
        """Take over the image's quotas; what was used of them stays known."""
        for key, quota in (
            ("producer_byte_rate", self.produce),
            ("consumer_byte_rate", self.fetch),
            ("request_percentage", self.request),
        ):
            quota.table = _table(quotas, key)
        self._mutation_table = _table(quotas, "controller_mutation_rate")
        if self.request.table:
            self._metered = None
            return
        metered: set[int] = set()
        if self.produce.table:
            metered.add(PRODUCE)
        if self.fetch.table:
            metered |= FETCHES
        if self._mutation_table:
            metered |= MUTATIONS
        self._metered = frozenset(metered)

    def begin(self, api_key: int, request_bytes: int, context: RequestContext) -> Usage | None:
        """Meter a request that is about to be handled; None when no quota is about requests of its kind."""
        metered = self._metered
        if (metered is not None and api_key not in metered) or api_key in EXEMPT:
            return None
        return Usage(self, api_key, request_bytes, user_of(context), context.client_id or "")

    def fetch_limit(self, user: str, client_id: str) -> int:
        """Most bytes a fetch may ask for: more than a window's worth would be throttled each time it is tried."""
        limit = self.fetch.table.find(user, client_id)
        if limit is None:
            return _LARGEST_INT32
        samples, sample_ms = self._samples
        return min(int(limit.value * (samples - 1) * sample_ms / 1000), _LARGEST_INT32)

    def mutations(self, context: RequestContext, *, strict: bool) -> MutationQuota | None:
        """The client's quota of partitions to create and delete, for one request; None when it has none."""
        limit = self._mutation_table.find(user_of(context), context.client_id or "")
        if limit is None:
            return None
        now_ms = self.now_ms
        bucket = self._mutations.account(limit.shared_by, now_ms())
        return MutationQuota(bucket, limit.value, now_ms, strict=strict)


def user_of(context: RequestContext) -> str:
    """The name of the principal, which is `User:name`."""
    return context.principal.partition(":")[2]


def has_client_quotas(quotas: Mapping[QuotaEntity, Mapping[str, float]]) -> bool:
    """Whether there is any quota but those of addresses."""
    return any(part[0] in (USER, CLIENT_ID) for entity in quotas for part in entity)


def connection_rates(quotas: Mapping[QuotaEntity, Mapping[str, float]]) -> dict[str | None, int]:
    """Connections per second by address or host name; None stands for all others."""
    rates: dict[str | None, int] = {}
    for entity, values in quotas.items():
        if len(entity) == 1 and entity[0][0] == IP and "connection_creation_rate" in values:
            rates[entity[0][1]] = int(values["connection_creation_rate"])
    return rates


def _table(quotas: Mapping[QuotaEntity, Mapping[str, float]], key: str) -> LimitTable:
    return LimitTable(
        (entity, values[key])
        for entity, values in quotas.items()
        if key in values and all(part[0] != IP for part in entity)
    )
