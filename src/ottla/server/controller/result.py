"""What a command comes to, and small things that all commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ottla.core.errors import ApiError, ErrorCode

MAX_PARTITIONS_PER_REQUEST: Final = 10_000
"""Kafka's bound for one request: larger ones are refused rather than left to fill memory."""

_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_LONGEST_NAME: Final = 249


class Result(NamedTuple):
    """Records to append (none for a refusal or a validation) and the response to give once they are committed.

    Atomic records all happen or none of them, however many there are; others may be cut into batches after a crash.
    """

    records: list[Any]
    response: Any
    atomic: bool = True


Charge = Callable[[int], None]
"""Takes the partitions that a change creates or deletes from the client's quota, before the change is decided. Raises
ApiError THROTTLING_QUOTA_EXCEEDED when the client has to wait."""


class Randomness(NamedTuple):
    """Handed in, so that a core decides the same way every time it is given the same."""

    uuid: Callable[[], bytes]
    below: Callable[[int], int]
    """An integer from 0 up to, not including, the argument."""


def check_topic_name(name: str) -> None:
    """Raise ApiError INVALID_TOPIC_EXCEPTION unless Kafka would take the name."""
    if not name:
        reason = "the empty string is not allowed"
    elif name in (".", ".."):
        reason = f"'{name}' is not allowed"
    elif len(name) > _LONGEST_NAME:
        reason = f"the length of '{name}' is longer than the max allowed length {_LONGEST_NAME}"
    elif not _NAME_CHARACTERS.issuperset(name):
        reason = f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    else:
        return
    raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {reason}")


def is_valid_topic_name(name: str) -> bool:
    """Whether Kafka would take the name."""
    return bool(name) and len(name) <= _LONGEST_NAME and name not in (".", "..") and _NAME_CHARACTERS.issuperset(name)
