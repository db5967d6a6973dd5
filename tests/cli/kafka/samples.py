"""Records of internal topics, made from their declarations: every field has a value that is not its default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ottla.cli.kafka.record_json import InternalTopic, messages_of
from ottla.protocol.codec import encode
from ottla.protocol.layout import Layout
from ottla.protocol.message import Field, Message

_NUMBERS = {"int8": 7, "int16": 300, "uint16": 40_000, "int32": 70_000, "uint32": 70_000, "int64": 5_000_000_000}
_SIMPLE: dict[str, Any] = {
    **_NUMBERS,
    "bool": True,
    "float64": 2.5,
    "string": 'grüße "x"\n',
    "bytes": b"\x00\xff",
    "uuid": bytes(range(16)),
}


def coordinator_records(topic: InternalTopic) -> Iterator[tuple[bytes, bytes | None]]:
    """Key and value of every record type, in every version, and a tombstone of each; also values of defaults only."""
    for kind, (key_class, value_class) in messages_of(topic).items():
        key = kind.to_bytes(2, "big") + encode(sample(key_class, 0), 0)
        first, last = value_class.VALID_VERSIONS
        for version in range(first, last + 1):
            for value in (sample(value_class, version), value_class()):
                yield key, version.to_bytes(2, "big") + encode(value, version)
        yield key, None


def sample(cls: type[Message], version: int) -> Message:
    """A message with something in every field that the version has."""
    layout = Layout(cls, version)
    return cls(**{field.name: _value(field, version) for field in cls.FIELDS if not layout.is_absent(field)})


def _value(field: Field, version: int) -> Any:
    if field.type == "array":
        if field.struct is not None:
            return [sample(field.struct, version)]
        return [_SIMPLE[field.element or ""]]
    if field.type == "struct":
        assert field.struct is not None
        return sample(field.struct, version)
    return _SIMPLE[field.type]
