"""From what a user gives as a serializer or deserializer to what the clients call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ottla.client.errors import ConfigError
from ottla.serde.base import Deserializer, Serializer


def serializer_of(given: object, setting: object, field: str) -> Serializer[Any] | None:
    """The serializer to call, as `deserializer_of`."""
    spec = setting if given is None else given
    if spec is None:
        return None
    from ottla.serde.resolve import resolve_serializer

    found: Serializer[Any] | None = _resolved(resolve_serializer, spec, field, "serializer")
    return found


def deserializer_of(given: object, setting: object, field: str) -> Deserializer[Any] | None:
    """The deserializer to call, the one `given` rather than the setting's; None when bytes stay as they are.

    `field` is "key" or "value". `ConfigError` for what is none.
    """
    spec = setting if given is None else given
    if spec is None:
        return None
    from ottla.serde.resolve import resolve_deserializer

    found: Deserializer[Any] | None = _resolved(resolve_deserializer, spec, field, "deserializer")
    return found


def _resolved(resolve: Callable[[Any, str], Any], spec: object, field: str, kind: str) -> Any:
    try:
        found = resolve(spec, field)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{field}_{kind}: {error}") from None
    return None if getattr(found, "is_identity", False) else found
