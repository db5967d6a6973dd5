"""Which quota applies to a user and a client id.

A quota belongs to a user, a client id, or both, each by name or as the default of all that are not named. The most
specific one applies, a user's before a client id's; this order is Kafka's:

    user + client id, user + default client id, user, default user + client id, default user + default client id,
    default user, client id, default client id

The quota's level also says who shares it: all clients of a user share the user's, but each client id has the whole of
the default client id's to itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ottla.server.metadata.image import QuotaEntity

USER: Final = "user"
CLIENT_ID: Final = "client-id"
IP: Final = "ip"

SharedBy = tuple[str, str]
"""(user, client id) whose requests count together; "" where it does not matter."""


class Part(Enum):
    """How a level of quotas names one part of its entities."""

    NAMED = "by its name"
    DEFAULT = "as the default"
    ABSENT = "not at all"


_LEVELS: Final = (
    (Part.NAMED, Part.NAMED),
    (Part.NAMED, Part.DEFAULT),
    (Part.NAMED, Part.ABSENT),
    (Part.DEFAULT, Part.NAMED),
    (Part.DEFAULT, Part.DEFAULT),
    (Part.DEFAULT, Part.ABSENT),
    (Part.ABSENT, Part.NAMED),
    (Part.ABSENT, Part.DEFAULT),
)
"""(user, client id), most specific first."""


class Limit(NamedTuple):
    """What applies: `value` is per second, for all that `shared_by` names."""

    shared_by: SharedBy
    value: float


class LimitTable:
    """The quotas of one kind, for all users and client ids."""

    __slots__ = ("_levels",)

    def __init__(self, quotas: Iterable[tuple[QuotaEntity, float]]) -> None:
        tables: dict[tuple[Part, Part], dict[tuple[str | None, str | None], float]] = {}
        for entity, value in quotas:
            parts = dict(entity)
            level = (_part(parts, USER), _part(parts, CLIENT_ID))
            tables.setdefault(level, {})[parts.get(USER), parts.get(CLIENT_ID)] = value
        # Most clusters use one level or two; only those are looked through.
        self._levels = [(*level, tables[level]) for level in _LEVELS if level in tables]

    def __bool__(self) -> bool:
        return bool(self._levels)

    def find(self, user: str, client_id: str) -> Limit | None:
        """The quota of that client; None when there is none. An empty client id is nobody's: only user quotas apply."""
        for user_part, client_part, table in self._levels:
            if client_part is not Part.ABSENT and not client_id:
                continue
            value = table.get(
                (user if user_part is Part.NAMED else None, client_id if client_part is Part.NAMED else None)
            )
            if value is not None:
                shared_by = (
                    "" if user_part is Part.ABSENT else user,
                    "" if client_part is Part.ABSENT else client_id,
                )
                return Limit(shared_by, value)
        return None


def _part(parts: dict[str, str | None], entity_type: str) -> Part:
    if entity_type not in parts:
        return Part.ABSENT
    return Part.DEFAULT if parts[entity_type] is None else Part.NAMED
