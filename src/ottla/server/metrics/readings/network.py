"""Requests, connections, the event loop, and who waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ERRORS
from ottla.server.metrics.exposition import Labels, labels

if TYPE_CHECKING:
    from ottla.server.broker.listener import Listener
    from ottla.server.broker.request_metrics import RequestMetrics
    from ottla.server.metrics.scrape import Scrape

Rows = Iterator[tuple[Labels, Any]]

MOST_SOFTWARE: Final = 50
"""Names and versions of clients are what clients say: so many are told, the others are one."""

_ALWAYS: Final = ("Produce", "Fetch")

_WAITING_IN: Final = {
    "Produce": ("Produce",),
    "Fetch": ("Fetch",),
    "ShareFetch": ("ShareFetch",),
    "Rebalance": ("JoinGroup", "SyncGroup"),
    "DeleteRecords": ("DeleteRecords",),
    "ElectLeader": ("ElectLeaders",),
    "Heartbeat": (),
    "AlterAcls": (),
    "RemoteFetch": (),
    "RemoteListOffsets": (),
    "topic": ("CreateTopics", "DeleteTopics", "CreatePartitions"),
}


def requests(scrape: Scrape) -> Rows:
    """Requests by API and version. Only consumers fetch from a broker that is alone."""
    counts: dict[tuple[str, int], int] = {}
    for route in scrape.routes:
        key = (route.api.name, route.version)
        counts[key] = counts.get(key, 0) + route.requests
    for name in _ALWAYS:
        if all(known != name for known, _ in counts):
            counts[name, 0] = 0
    for (name, version), count in counts.items():
        for shown in _names(name):
            yield labels(("request", shown), ("version", str(version))), count
    yield labels(("request", "FetchFollower"), ("version", "0")), 0


def errors(scrape: Scrape) -> Rows:
    """Errors in answers, by API and error; NONE counts the answers without any."""
    answered: dict[int, int] = {}
    for route in scrape.routes:
        answered[route.api.key] = answered.get(route.api.key, 0) + route.requests
    for key, metrics in list(scrape.request_metrics.items()):
        for name in _names(metrics.name):
            yield labels(("request", name), ("error", "NONE")), max(answered.get(key, 0) - metrics.failed, 0)
            for code, count in list(metrics.errors.items()):
                error = ERRORS.get(code)
                yield labels(("request", name), ("error", error.name if error is not None else str(code))), count
    for name in _ALWAYS:
        if all(metrics.name != name for metrics in scrape.request_metrics.values()):
            for shown in _names(name):
                yield labels(("request", shown), ("error", "NONE")), 0


def times(histogram: str) -> Callable[[Scrape], Rows]:
    """A distribution of every API that was asked for."""

    def read(scrape: Scrape) -> Rows:
        counts: dict[int, int] = {}
        for route in scrape.routes:
            counts[route.api.key] = counts.get(route.api.key, 0) + route.requests
        present: dict[str, tuple[RequestMetrics, int]] = {
            metrics.name: (metrics, counts.get(key, 0)) for key, metrics in list(scrape.request_metrics.items())
        }
        from ottla.server.broker.request_metrics import RequestMetrics as Empty

        for name in _ALWAYS:
            present.setdefault(name, (Empty(name), 0))
        for name, (metrics, count) in present.items():
            snapshot = getattr(metrics, histogram).snapshot(count)
            for shown in _names(name):
                yield labels(("request", shown)), snapshot

    return read


def _names(name: str) -> tuple[str, ...]:
    return ("Fetch", "FetchConsumer") if name == "Fetch" else (name,)


def waiting(scrape: Scrape) -> Rows:
    """Requests whose answer is waited for, by what they wait for."""
    for operation, apis in _WAITING_IN.items():
        yield labels(("delayedoperation", operation)), sum(scrape.waiting[api] for api in apis)


def of_listener(
    read_one: Callable[[Scrape, Listener], Any], *, with_processor: bool = True
) -> Callable[[Scrape], Rows]:
    """A value of every listener. There is one event loop, which is network processor 0."""

    def read(scrape: Scrape) -> Rows:
        for listener in scrape.listeners:
            pairs = [("listener", listener.name)]
            if with_processor:
                pairs.append(("networkprocessor", "0"))
            yield labels(*pairs), read_one(scrape, listener)

    return read


def listener_rate(name: str, read_one: Callable[[Listener], int]) -> Callable[[Scrape], Rows]:
    """The rate of a counter of listeners."""
    return of_listener(
        lambda scrape, listener: scrape.rates.record(f"{name} {listener.name}", read_one(listener), scrape.now_ms)
    )


def closed(listener: Listener) -> int:
    """Connections that are gone, of those that were let in."""
    return max(listener.accepted_count - sum(one.was_accepted for one in listener.connections), 0)


def software(scrape: Scrape) -> Rows:
    """Connections by client software."""
    for listener, counts in scrape.software.items():
        others = sum(counts.values())
        if not others:
            yield _software_labels(listener, "unknown", "unknown"), 0
        for (name, version), count in counts.most_common(MOST_SOFTWARE):
            others -= count
            yield _software_labels(listener, name, version), count
        if others:
            yield _software_labels(listener, "other", "other"), others


def _software_labels(listener: str, name: str, version: str) -> Labels:
    return labels(
        ("listener", listener),
        ("client_software_name", name),
        ("client_software_version", version),
        ("networkprocessor", "0"),
    )


def idle_by_processor(scrape: Scrape) -> Rows:
    """The event loop's idle share."""
    yield labels(("networkprocessor", "0")), scrape.idle


def disk_bytes(field: str) -> Callable[[Scrape], int | None]:
    """Bytes that this process has read from, or written to, the device; None where the system does not tell."""

    def read(scrape: Scrape) -> int | None:
        try:
            with open(f"/proc/{os.getpid()}/io", encoding="ascii") as file:
                for line in file:
                    if line.startswith(f"{field}:"):
                        return int(line.split()[1])
        except OSError:
            pass
        return None

    return read
