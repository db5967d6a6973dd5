"""A principal's groups where Kafka's messages have no field for them: in a tagged field of our own.

Groups are found out by a login (LDAP, token claims). What acts for somebody later, or elsewhere, has to be in them as
well: not only for what they allow, but for what is denied to them. Apache Kafka passes over tags that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

Tags = tuple[tuple[int, bytes], ...]
"""The tagged fields of a message that it has no names for."""

GROUPS_TAG: Final = 10_000
"""Far above the tags that Kafka may give out."""


def tags_of(groups: tuple[str, ...]) -> Tags | None:
    """The tagged fields of a message that carries them; None for no groups."""
    return ((GROUPS_TAG, json.dumps(groups).encode()),) if groups else None


def groups_in(tags: Iterable[tuple[int, bytes]] | None) -> tuple[str, ...]:
    """The groups that a message carries. Raises ValueError when they cannot be read."""
    data = dict(tags or ()).get(GROUPS_TAG)
    if not data:
        return ()
    try:
        groups = json.loads(bytes(data))
    except RecursionError:
        groups = None
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise ValueError("this is no list of groups")
    return tuple(groups)
