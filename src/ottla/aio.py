"""The clients as coroutines: the same classes as in `ottla`, with the same arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.lazy import load

if TYPE_CHECKING:
    from ottla.client.admin.client import Admin as Admin
    from ottla.client.consumer.client import Consumer as Consumer
    from ottla.client.producer.client import Producer as Producer
    from ottla.client.share.client import ShareConsumer as ShareConsumer

_HOMES = {
    "Admin": "ottla.client.admin.client",
    "Consumer": "ottla.client.consumer.client",
    "Producer": "ottla.client.producer.client",
    "ShareConsumer": "ottla.client.share.client",
}
"""Where each public name lives; loaded on first use."""

__all__ = [*_HOMES]  # noqa: PLE0604 (the names are those of the table)


def __getattr__(name: str) -> object:
    return load(name, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
