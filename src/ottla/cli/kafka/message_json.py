"""Messages as the JSON that Kafka's own tools show: field names in camelCase, bytes as Base64, uuids as text.

A field that a version does not have is left out, and so is a tagged field with its default value.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

from ottla.cli.kafka.java_text import double
from ottla.core.ids import uuid_to_text
from ottla.protocol.layout import Layout
from ottla.protocol.message import Field, Message, field_default

_IRREGULAR = {"kraft_version": "kRaftVersion", "kraft_version_feature": "kRaftVersionFeature"}
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TO_ESCAPE = re.compile('["\\\\\x00-\x1f]')


def message_json(message: Message, version: int) -> dict[str, Any]:
    """A message, or a part of one, as plain Python objects."""
    layout = Layout(message.STRUCT, version)
    found = {}
    for field in message.FIELDS:
        if layout.is_absent(field):
            continue
        value = getattr(message, field.name)
        if layout.is_tagged(field) and _is_default(field, value):
            continue
        found[camel_case(field.name)] = _value(field, value, version)
    return found


def camel_case(name: str) -> str:
    """A field's name as Kafka's JSON has it."""
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    first, *others = name.rstrip("_").split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in others)


def compact_json(value: object) -> str:
    """JSON without spaces, written as Jackson does: Java's numbers, no escapes but those that must be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = double(value)
        return text if text[-1].isdigit() else f'"{text}"'
    if isinstance(value, dict):
        return "{" + ",".join(f"{compact_json(key)}:{compact_json(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(compact_json, value)) + "]"
    return '"' + _TO_ESCAPE.sub(_escaped, str(value)) + '"'


def _escaped(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04X}"


def _value(field: Field, value: Any, version: int) -> Any:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        if field.struct is not None:
            return [message_json(element, version) for element in value]
        return [_simple(field.element or "", element) for element in value]
    if isinstance(value, Message):
        return message_json(value, version)
    return _simple(field.type, value)


def _simple(kind: str, value: Any) -> Any:
    if kind == "uuid":
        return uuid_to_text(value)
    if kind in ("bytes", "records"):
        return b64encode(value).decode()
    return value


def _is_default(field: Field, value: Any) -> bool:
    return bool(value == field_default(field))
