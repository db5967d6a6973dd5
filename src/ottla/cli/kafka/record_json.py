"""Records of internal topics as the console consumers' formatters write them in JSON."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from ottla.cli.kafka.message_json import message_json
from ottla.protocol.codec import decode_prefix
from ottla.protocol.errors import ProtocolError, UnsupportedVersionError
from ottla.protocol.message import CoordinatorKey, CoordinatorValue, Message


class InternalTopic(NamedTuple):
    """Where its records are declared, and which record types are among them (all that are there, if None)."""

    modules: tuple[str, ...]
    types: tuple[int, ...] | None = None


CONSUMER_OFFSETS = InternalTopic(("group_records", "share_records", "streams_records"), (*range(9), *range(10, 24)))
TRANSACTION_STATE = InternalTopic(("transaction_records",))
SHARE_GROUP_STATE = InternalTopic(("share_records",), (0, 1))


class UnreadableRecordError(Exception):
    """The record is not what its type and version say; the text is that of Kafka's tools."""


def record_json(
    topic: InternalTopic, shown: tuple[int, ...] | None, key: bytes, value: bytes | None
) -> dict[str, Any] | None:
    """`{"key": {"type", "data"}, "value": {"version", "data"} or None}`; None for a record whose type is unknown or not
    among `shown`. Raises `UnreadableRecordError`.
    """
    kind = _number(key, "key")
    messages = messages_of(topic).get(kind)
    if messages is None:
        return None
    key_class, value_class = messages
    key_shown = {"type": kind, "data": message_json(_read(key_class, 0, key, kind, "key"), 0)}
    value_shown = None
    if value is not None:
        version = _number(value, "value")
        first, last = value_class.VALID_VERSIONS
        if not first <= version <= last:
            raise UnreadableRecordError(f"Found an unknown record version {version} for {kind} type")
        data = message_json(_read(value_class, version, value, version, "value"), version)
        value_shown = {"version": version, "data": data}
    return {"key": key_shown, "value": value_shown} if shown is None or kind in shown else None


def _number(data: bytes, name: str) -> int:
    if len(data) < 2:
        raise UnreadableRecordError(f"Could not read version from {name}'s buffer.")
    return int.from_bytes(data[:2], "big", signed=True)


def _read(cls: type[Message], version: int, data: bytes, told: int, name: str) -> Message:
    try:
        message, _ = decode_prefix(cls, version, data, 2)
    except (ProtocolError, UnsupportedVersionError) as error:
        raise UnreadableRecordError(
            f"Could not read record with version {told} from {name}'s buffer due to: {error}."
        ) from None
    return message


@cache
def messages_of(topic: InternalTopic) -> dict[int, tuple[type[Message], type[Message]]]:
    """Record type → messages of key and value. Where two modules have a type, the first one counts."""
    keys: dict[int, type[Message]] = {}
    values: dict[int, type[Message]] = {}
    for name in topic.modules:
        module = import_module(f"ottla.protocol.messages.{name}")
        for found in vars(module).values():
            if not isinstance(found, type) or found in (CoordinatorKey, CoordinatorValue):
                continue
            if issubclass(found, CoordinatorKey):
                keys.setdefault(found.API_KEY, found)
            elif issubclass(found, CoordinatorValue):
                values.setdefault(found.API_KEY, found)
    wanted = keys if topic.types is None else [kind for kind in topic.types if kind in keys]
    return {kind: (keys[kind], values[kind]) for kind in wanted}
