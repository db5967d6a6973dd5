"""What users and client ids use of their quotas: as in Kafka only where there is a quota."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ottla.server.metrics.exposition import Labels, labels

if TYPE_CHECKING:
    from ottla.server.metrics.scrape import Scrape

Rows = Iterator[tuple[Labels, Any]]

MOST_ENTITIES: Final = 500
"""Client ids are what clients say: those seen last are told."""


def used(kind: str) -> Callable[[Scrape], Rows]:
    """Rate per second: bytes (`produce`, `fetch`) or percent of the event loop's time (`request`)."""

    def read(scrape: Scrape) -> Rows:
        quotas = scrape.broker.quotas
        if quotas is not None:
            for key, account in getattr(quotas, kind).ledger.latest(MOST_ENTITIES):
                yield _labels(key), account.value(quotas.now_ms())

    return read


def throttled(kind: str) -> Callable[[Scrape], Rows]:
    """Milliseconds for which each was told to wait last; 0 when its last request was within the quota."""

    def read(scrape: Scrape) -> Rows:
        quotas = scrape.broker.quotas
        if quotas is not None:
            for key, account in getattr(quotas, kind).ledger.latest(MOST_ENTITIES):
                yield _labels(key), account.last_throttle_ms

    return read


def delayed(scrape: Scrape) -> int:
    """Connections that are silent because of a quota."""
    return sum(connection.is_muted for listener in scrape.listeners for connection in listener.connections)


def _labels(key: Any) -> Labels:
    user, client_id = key
    return labels(("user", user or ""), ("client_id", client_id or ""))
