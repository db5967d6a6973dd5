"""The byte form that the records of groups and of share state have in common.

A key is its type as int16 and the body in version 0; a value is its version as int16 and the body in that version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ottla.protocol.codec import decode, encode
from ottla.protocol.errors import ProtocolError
from ottla.server.coordinator.result import CoordinatorRecord

#: Key type → message classes of key and value; None for a type that a newer broker may have written.
RecordTypes = Callable[[int], tuple[Any, Any] | None]


class TypedRecordCodec:
    """`result.RecordCodec` over message classes."""

    def __init__(self, types_of: RecordTypes) -> None:
        self._types_of = types_of

    def encode(self, record: CoordinatorRecord) -> tuple[bytes, bytes | None]:
        """Key and value bytes (value None for a tombstone)."""
        key = record.key_type.to_bytes(2, "big") + encode(record.key, 0)
        if record.value is None:
            return key, None
        version = record.value_version
        return key, version.to_bytes(2, "big") + encode(record.value, version)

    def decode(self, key: bytes, value: bytes | None) -> CoordinatorRecord | None:
        """None for an unknown key type; ProtocolError for broken bytes."""
        if len(key) < 2:
            raise ProtocolError("a record key of less than two bytes")
        key_type = int.from_bytes(key[:2], "big", signed=True)
        types = self._types_of(key_type)
        if types is None:
            return None
        key_message = decode(types[0], 0, key, 2)
        if value is None:
            return CoordinatorRecord(key_type, key_message, None)
        if len(value) < 2:
            raise ProtocolError("a record value of less than two bytes")
        version = int.from_bytes(value[:2], "big", signed=True)
        return CoordinatorRecord(key_type, key_message, decode(types[1], version, value, 2), version)
