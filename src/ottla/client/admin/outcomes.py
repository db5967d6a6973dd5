"""What became of the items of a call, and the one error that tells of those that failed."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from enum import Enum
from typing import TypeVar

from ottla.client.errors import KafkaError, error_for
from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID, uuid_to_text

E = TypeVar("E", bound=Enum)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_OUR_OWN = (None, ErrorCode.NETWORK_EXCEPTION)
"""Codes of what happens on this side of the wire."""

_NAMED_FAILURES = 3
"""As many failures as the message of an error names; all of them are in its `errors`."""


def outcome(error_code: int, error_message: str | None, result: V) -> V | KafkaError:
    """The result of an item, or the error that its part of a response tells of."""
    return error_for(error_code, error_message) if error_code else result


def combine(results: Mapping[K, V], errors: Mapping[K, KafkaError]) -> KafkaError:
    """One error for a call of which these items failed (at least one) and those did not."""
    first, *others = errors.values()
    if not others and None in errors:
        return first  # of a call that is not about items
    alike = all(type(error) is type(first) and error.number == first.number for error in others)
    asked = len(errors) + len(results)
    named = [f"{item}: {error.message.rstrip('.')}" for item, error in errors.items()]
    if len(named) > _NAMED_FAILURES:
        named[_NAMED_FAILURES:] = ["and more"]
    message = "; ".join(named).rstrip(".") + "."
    same = not results and all(error.message == first.message for error in others)
    if same and (others or first.code in _OUR_OWN):
        message = first.message  # it is not about the items
    elif asked > 1:
        message = f"{len(errors)} of {asked} failed: {message}"
    if alike:
        combined = type(first)(message, code=first.number, retriable=first.retriable, hint=first.hint)
    else:
        combined = KafkaError(message, retriable=all(error.retriable for error in errors.values()))
    combined.errors, combined.results = dict(errors), dict(results)
    combined.__cause__ = first.__cause__
    return combined


def settle(outcomes: Mapping[K, V | KafkaError]) -> dict[K, V]:
    """All results, or the one error for those that failed."""
    results: dict[K, V] = {}
    errors: dict[K, KafkaError] = {}
    for item, found in outcomes.items():
        if isinstance(found, KafkaError):
            errors[item] = found
        else:
            results[item] = found
    if errors:
        raise combine(results, errors)
    return results


def names(given: str | Iterable[str]) -> list[str]:
    """One name or several, each once, in the order given."""
    return [given] if isinstance(given, str) else list(dict.fromkeys(given))


def by_topic(partitions: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """Partitions grouped by topic, as requests have them."""
    grouped: dict[str, list[int]] = {}
    for topic, partition in partitions:
        grouped.setdefault(topic, []).append(partition)
    return grouped


def uuid_text(uuid: bytes) -> str | None:
    """An id as people see it; None where a response has none."""
    return None if uuid == ZERO_UUID else uuid_to_text(uuid)


def at_least_zero(value: int) -> int | None:
    """Kafka's -1 for "there is none" as None."""
    return None if value < 0 else value


def known(kind: type[E], value: int | str) -> E:
    """The member of an enumeration that has an UNKNOWN, also for what only newer brokers know."""
    try:
        return kind(value)
    except ValueError:
        return kind["UNKNOWN"]
