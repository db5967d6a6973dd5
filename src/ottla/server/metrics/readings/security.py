"""Who is kept out, what requests and answers hold in memory, what the audit log tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ottla.server.metrics.exposition import Labels, labels

if TYPE_CHECKING:
    from ottla.server.broker.listener import Listener
    from ottla.server.metrics.scrape import Scrape
    from ottla.server.security.audit import Audit
    from ottla.server.security.authorizer import Authorizer

Rows = Iterator[tuple[Labels, Any]]

_UNLIMITED: Final = 2**63 - 1
"""What Kafka's memory pool tells where there is no limit."""


# Memory: shared by all listeners


def request_memory_used(scrape: Scrape) -> int:
    """Bytes that requests hold of `queued.max.request.bytes`; 0 without a limit, since nobody counts then."""
    return sum(memory.used_bytes for memory in _pools(scrape))


def request_memory_available(scrape: Scrape) -> int:
    """What is left of it."""
    return sum(max(memory.limit_bytes - memory.used_bytes, 0) for memory in _pools(scrape)) or (
        0 if any(_pools(scrape)) else _UNLIMITED
    )


def request_memory_depleted(scrape: Scrape) -> int:
    """How often a request had to wait for memory."""
    return sum(memory.depleted_count for memory in _pools(scrape))


def _pools(scrape: Scrape) -> list[Any]:
    found = {id(one.limits.shared): one.limits.shared.requests for one in scrape.listeners}
    return [memory for memory in found.values() if memory is not None]


def of_answers(field: str) -> Callable[[Scrape], int]:
    """Of answers that clients do not read: `used_bytes`, `limit_bytes` (-1: none), `closed_count`."""

    def read(scrape: Scrape) -> int:
        found = {id(one.limits.shared): one.limits.shared.answers for one in scrape.listeners}
        return sum(getattr(answers, field) for answers in found.values())

    return read


# Connections


def refused(scrape: Scrape) -> Rows:
    """Connections that were refused or closed, by listener and limit."""
    for listener in scrape.listeners:
        for limit, count in _refusals(listener).items():
            yield labels(("listener", listener.name), ("limit", limit)), count


def _refusals(listener: Listener) -> dict[str, int]:
    return {
        "max.connections": listener.refused_count - listener.refused_addresses - listener.refused_rates,
        "max.connections.per.ip": listener.refused_addresses,
        "connection_creation_rate": listener.refused_rates,
        "connections.max.idle.ms": listener.idle_closed_count,
        "request.receive.timeout.ms": listener.slow_closed_count,
    }


def handshakes(field: str) -> Callable[[Scrape], Rows]:
    """Of TLS handshakes, on listeners that have them: `failed_count`, `pending_count`."""

    def read(scrape: Scrape) -> Rows:
        for listener in scrape.listeners:
            if listener.handshakes is not None:
                yield labels(("listener", listener.name)), getattr(listener.handshakes, field)

    return read


# The authorizer


def decisions(name: str, count: Callable[[Authorizer], int]) -> Callable[[Scrape], Rows]:
    """Decisions a minute, where there is an authorizer. What is remembered is not decided again, nor counted."""

    def read(scrape: Scrape) -> Rows:
        authorizer = scrape.broker.authorizer
        if authorizer is not None:
            per_second = scrape.rates.record(f"authorizer {name}", count(authorizer), scrape.now_ms)
            yield _authorizer_labels(authorizer), 60 * per_second

    return read


def acls(scrape: Scrape) -> Rows:
    """ACLs that are in force."""
    authorizer = scrape.broker.authorizer
    if authorizer is not None:
        yield _authorizer_labels(authorizer), len(scrape.image.acls)


def _authorizer_labels(authorizer: Authorizer) -> Labels:
    return labels(("config", "authorizer.class.name"), ("class", type(authorizer).__name__))


# The audit log


def audited(count: Callable[[Audit], int]) -> Callable[[Scrape], Rows]:
    """A counter of the audit log, where there is one."""

    def read(scrape: Scrape) -> Rows:
        audit = scrape.broker.audit
        if audit is not None:
            yield labels(), count(audit)

    return read
