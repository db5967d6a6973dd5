"""The JSON files that Kafka's tools read partitions from, and what they say of wrong ones."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from ottla.cli.kafka.common import ToolError
from ottla.client.model import TopicPartition

_MAPPING_ERROR = "com.fasterxml.jackson.databind.JsonMappingException"
OPERATION_ERROR = "org.apache.kafka.server.common.AdminOperationException"
COMMAND_ERROR = "org.apache.kafka.server.common.AdminCommandFailedException"


def read_text(path: str) -> str:
    """A file's text. Raises `ToolError`."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        raise ToolError(f"Unable to read file {path}", "java.io.IOException") from None


def parse_json(text: str) -> Any:
    """The value, or None for what is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _refuse(what: str, found: object) -> NoReturn:
    raise ToolError(f"Expected {what}, received {json.dumps(found, separators=(',', ':'))}", _MAPPING_ERROR)


def as_object(value: Any) -> dict[str, Any]:
    """The value as an object. Raises `ToolError`, as do those below."""
    return value if isinstance(value, dict) else _refuse("JSON object", value)


def as_array(value: Any) -> list[Any]:
    return value if isinstance(value, list) else _refuse("JSON array", value)


def field(value: dict[str, Any], name: str) -> Any:
    if name not in value:
        raise ToolError(f"No such field exists: `{name}`", _MAPPING_ERROR)
    return value[name]


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else _refuse("`String` value", value)


def as_whole(value: Any, bits: int = 32) -> int:
    name = "Integer" if bits == 32 else "Long"
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << bits - 1) <= value < 1 << bits - 1:
        _refuse(f"`{name}` value", value)
    return value


def partition_of(value: Any) -> TopicPartition:
    """`{"topic": "orders", "partition": 1}`."""
    entry = as_object(value)
    return TopicPartition(as_text(field(entry, "topic")), as_whole(field(entry, "partition")))


def dashed(partition: TopicPartition) -> str:
    """`orders-1`, as Java writes partitions."""
    return f"{partition.topic}-{partition.partition}"
