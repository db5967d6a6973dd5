"""The clients as coroutines: the same classes as in `ottla`, with the same arguments."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

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


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ottla.aio' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value
