"""A record as one JSON object a line: what `consume --json` prints and `produce --envelope` takes, without a loss.

    {"topic": "orders", "partition": 0, "offset": 7, "timestamp": 1767168000000,
     "headers": [["source", "web"]], "key": "a", "value": "..."}

Key and value are written in their formats; what cannot be written in its format stands as `key_base64`, `value_base64`
instead. A header's value that is no text is `{"base64": "..."}`. To produce, every field may be left out but the value;
`headers` may be an object, `timestamp` an ISO time; `topic` and `offset` are not looked at.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple, Protocol

from ottla.cli.errors import CommandError
from ottla.cli.formats import Format, dump_json, load_json
from ottla.cli.units import parse_time_ms

FIELDS = ("partition", "timestamp", "headers", "key", "key_base64", "value", "value_base64")
"""What `produce` looks at."""
_IGNORED = frozenset(("topic", "offset", "timestamp_type", "leader_epoch", "delivery_count"))


class Consumed(Protocol):
    """What an envelope is made of."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    headers: tuple[tuple[str, bytes | None], ...]
    key: bytes | None
    value: bytes | None


class Enveloped(NamedTuple):
    """What an envelope says about a record to be sent."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    timestamp_ms: int | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def write_envelope(record: Consumed, key_format: Format, value_format: Format) -> bytes:
    """The record as a JSON object, without a newline."""
    envelope: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms if record.timestamp_ms >= 0 else None,
        "headers": [(name, _header(value)) for name, value in record.headers],
    }
    for name, data, form in (("key", record.key, key_format), ("value", record.value, value_format)):
        if data is None:
            envelope[name] = None
            continue
        try:
            envelope[name] = form.decode(data)
        except ValueError:
            envelope[f"{name}_base64"] = base64.b64encode(data).decode()
    return dump_json(envelope)


def read_envelope(document: object, key_format: Format, value_format: Format, now_ms: int) -> Enveloped:
    """What a JSON object (or its text) says; ValueError tells what is wrong with it."""
    if isinstance(document, bytes):
        document = load_json(document)
    if not isinstance(document, dict):
        raise ValueError("an envelope is a JSON object with a value")
    unknown = [name for name in document if name not in FIELDS and name not in _IGNORED]
    if unknown:
        raise ValueError(f"an envelope has no field '{unknown[0]}'; it has {', '.join(FIELDS)}")
    if "value" not in document and "value_base64" not in document:
        raise ValueError('the envelope has no value; "value": null says that there is none')
    return Enveloped(
        _content(document, "value", value_format),
        _content(document, "key", key_format),
        _partition(document.get("partition")),
        _timestamp(document.get("timestamp"), now_ms),
        _headers(document.get("headers")),
    )


def _header(value: bytes | None) -> object:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _content(document: dict[str, Any], name: str, form: Format) -> bytes | None:
    encoded = document.get(f"{name}_base64")
    try:
        if encoded is not None:
            return base64.b64decode(encoded, validate=True)
        value = document.get(name)
        # In JSON null is a document too, but a record without a value is what it means nearly always.
        return None if value is None else form.encode_value(value)
    except (ValueError, TypeError, binascii.Error) as error:
        raise ValueError(f"{name}: {error}") from None


def _partition(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"partition: it has to be a number from 0 on, not {value!r}")
    return value


def _timestamp(value: object, now_ms: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return parse_time_ms(value, now_ms)
        except CommandError as error:
            raise ValueError(f"timestamp: {error}") from None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"timestamp: it has to be milliseconds since 1970 or an ISO time, not {value!r}")
    return value


def _headers(value: object) -> tuple[tuple[str, bytes | None], ...]:
    if value is None:
        return ()
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list):
        raise ValueError("headers: an object, or an array of [name, value]")
    return tuple(_header_pair(pair) for pair in pairs)


def _header_pair(pair: object) -> tuple[str, bytes | None]:
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
        raise ValueError("headers: an object, or an array of [name, value]")
    name, value = pair
    if value is None:
        return name, None
    if isinstance(value, dict) and set(value) == {"base64"}:
        try:
            return name, base64.b64decode(value["base64"], validate=True)
        except (ValueError, TypeError, binascii.Error):
            raise ValueError(f"headers: the value of {name} is not base64") from None
    if isinstance(value, str):
        return name, value.encode()
    return name, dump_json(value)
