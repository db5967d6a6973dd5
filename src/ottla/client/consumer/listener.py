"""What applications may hook into a consumer: rebalances, and what is consumed and committed."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from ottla.client.consumer.records import Records
from ottla.client.errors import ConfigError
from ottla.client.model import OffsetAndMetadata, TopicPartition


class RebalanceListener:
    """Told when partitions come and go. Override what you need; any of them may be a coroutine function.

    They run inside `poll()`, `close()` or `unsubscribe()`, where the caller of these is; the group waits for them, and
    they may use the consumer (commit, seek, pause). What they raise is raised there, after the rebalance went on.
    """

    def on_assigned(self, partitions: list[TopicPartition]) -> Awaitable[None] | None:
        """These are new. Their positions may be set with `seek`; nothing of them was fetched before."""

    def on_revoked(self, partitions: list[TopicPartition]) -> Awaitable[None] | None:
        """These are about to go to somebody else, who begins at what is committed when this returns."""

    def on_lost(self, partitions: list[TopicPartition]) -> Awaitable[None] | None:
        """These are gone already: it is too late to commit for them. As `on_revoked` if not overridden."""
        return self.on_revoked(partitions)


class Callbacks:
    """A listener, or single functions, as one thing to ask."""

    def __init__(
        self, listener: Any = None, on_assigned: Any = None, on_revoked: Any = None, on_lost: Any = None
    ) -> None:
        given = {"assigned": on_assigned, "revoked": on_revoked, "lost": on_lost}
        for event, function in given.items():
            if function is not None and not callable(function):
                raise ConfigError(f"on_{event} is {function!r}, which can not be called.")
            if function is None and listener is not None:
                given[event] = _overridden(listener, f"on_{event}")
        if listener is not None and not any(given.values()):
            raise ConfigError(f"The listener {listener!r} has none of on_assigned, on_revoked, on_lost.")
        if given["lost"] is None:
            given["lost"] = given["revoked"]
        self._functions = given

    def has(self, event: str) -> bool:
        """Whether anybody wants to know."""
        return self._functions[event] is not None

    def call(self, event: str, partitions: frozenset[TopicPartition]) -> Any:
        """The callback's result; a coroutine's is still to be awaited."""
        return self._functions[event](sorted(partitions))


def _overridden(listener: Any, name: str) -> Any:
    if isinstance(listener, RebalanceListener) and getattr(type(listener), name) is getattr(RebalanceListener, name):
        return None
    return getattr(listener, name, None)


class ConsumerInterceptor(Protocol):
    """Sees what a consumer consumes and commits (`interceptors=`). What it raises is logged, and goes no further.

    Any of these methods may be missing.
    """

    def on_consume(self, records: Records[Any, Any]) -> Records[Any, Any]:
        """Before `poll` returns: the records to return instead."""
        ...

    def on_commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """After offsets were committed."""
        ...

    def close(self) -> None: ...
