"""From what a user gives as a deserializer to what the clients call."""

from __future__ import annotations

from typing import Any

from ottla.client.errors import ConfigError
from ottla.serde.base import Deserializer


def deserializer_of(given: object, setting: object, field: str) -> Deserializer[Any] | None:
    """The deserializer to call, the one `given` rather than the setting's; None when bytes stay as they are.

    `field` is "key" or "value". `ConfigError` for what is none.
    """
    spec = setting if given is None else given
    if spec is None:
        return None
    from ottla.serde.resolve import resolve_deserializer

    try:
        found = resolve_deserializer(spec, field)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{field}_deserializer: {error}") from None
    return None if getattr(found, "is_identity", False) else found
