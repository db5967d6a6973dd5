"""How the console consumers write records: Kafka's formatters, by the names of their classes.

A formatter takes the properties of `--formatter-property`, and writes one record after the other to a binary stream.
Own ones are given as `package.module:Class`, with the same two methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, BinaryIO, Protocol

from ottla.cli.kafka import deserializers
from ottla.cli.kafka.common import ToolError
from ottla.cli.kafka.tool_log import log_error
from ottla.records.reader import ConsumerRecord

_TOOLS = "org.apache.kafka.tools.consumer."
_TIMESTAMP_TYPES = {0: "CreateTime", 1: "LogAppendTime"}

Record = ConsumerRecord[Any, Any]


class Formatter(Protocol):
    """What writes records."""

    def configure(self, properties: Mapping[str, str]) -> None: ...

    def write(self, record: Record, output: BinaryIO) -> None: ...


def formatter(name: str, properties: Mapping[str, str]) -> Formatter:
    """The formatter of a class name, ready for use. Raises `LookupError` with Kafka's message for an unknown one."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found: Formatter = getattr(import_module(module), attribute)()
        except (ImportError, AttributeError):
            raise LookupError(name) from None
    elif name in _FORMATTERS:
        found = _FORMATTERS[name]()
    else:
        raise LookupError(name)
    found.configure(properties)
    return found


class DefaultFormatter:
    """Columns of what is asked for, the value if nothing is."""

    def __init__(self) -> None:
        self._columns: list[Callable[[Record, BinaryIO], None]] = []
        self._separators: list[bytes] = []
        self._null = b"null"
        self._headers_separator = b","
        self._topic = ""
        self._key: deserializers.Deserialize = deserializers.AS_IT_IS
        self._value: deserializers.Deserialize = deserializers.AS_IT_IS
        self._headers: deserializers.Deserialize = deserializers.AS_IT_IS

    def configure(self, properties: Mapping[str, str]) -> None:
        def separator(name: str, default: str) -> bytes:
            return properties.get(name, default).encode()

        def is_on(name: str, default: str = "false") -> bool:
            return properties.get(f"print.{name}", default).strip().lower() == "true"

        self._null = separator("null.literal", "null")
        self._headers_separator = separator("headers.separator", ",")
        self._key = _deserializer(properties, "key.deserializer", is_key=True)
        self._value = _deserializer(properties, "value.deserializer")
        self._headers = _deserializer(properties, "headers.deserializer")
        columns = [
            ("timestamp", self._write_timestamp),
            ("partition", lambda record, output: _text(output, f"Partition:{record.partition}")),
            ("offset", lambda record, output: _text(output, f"Offset:{record.offset}")),
            ("delivery", _write_delivery),
            # Kafka's tools make a new record of each, without its epoch.
            ("epoch", lambda record, output: _text(output, "Epoch:NOT_PRESENT")),
            ("headers", self._write_headers),
            ("key", lambda record, output: self._write(output, self._key, record, record.key)),
        ]
        self._columns = [write for name, write in columns if is_on(name)]
        key_separator, line_separator = separator("key.separator", "\t"), separator("line.separator", "\n")
        self._separators = [key_separator] * len(self._columns)
        if is_on("value", "true"):
            self._columns.append(lambda record, output: self._write(output, self._value, record, record.value))
            self._separators.append(line_separator)
        elif self._separators:
            self._separators[-1] = line_separator

    def write(self, record: Record, output: BinaryIO) -> None:
        for column, separator in zip(self._columns, self._separators, strict=True):
            column(record, output)
            output.write(separator)

    def _write(
        self, output: BinaryIO, deserialize: deserializers.Deserialize, record: Record, data: bytes | None
    ) -> None:
        output.write(deserialize(self._null if data is None else data))

    def _write_timestamp(self, record: Record, output: BinaryIO) -> None:
        kind = _TIMESTAMP_TYPES.get(record.timestamp_type)
        _text(output, f"{kind}:{record.timestamp_ms}" if kind else "NO_TIMESTAMP")

    def _write_headers(self, record: Record, output: BinaryIO) -> None:
        if not record.headers:
            _text(output, "NO_HEADERS")
        for number, (key, value) in enumerate(record.headers):
            if number:
                output.write(self._headers_separator)
            _text(output, f"{key}:")
            self._write(output, self._headers, record, value)


class LoggingFormatter(DefaultFormatter):
    """As the default one. Kafka's also logs each record, at a level that its tools do not show."""


class NoOpFormatter:
    """Writes nothing."""

    def configure(self, properties: Mapping[str, str]) -> None:
        pass

    def write(self, record: Record, output: BinaryIO) -> None:
        pass


class RecordsFormatter:
    """Records of an internal topic as JSON, one behind the other without a line feed, as Kafka's formatters do."""

    def __init__(self, topic: str, types: tuple[int, ...] | None = None) -> None:
        from ottla.cli.kafka import record_json

        self._topic: record_json.InternalTopic = getattr(record_json, topic)
        self._types = types

    def configure(self, properties: Mapping[str, str]) -> None:
        pass

    def write(self, record: Record, output: BinaryIO) -> None:
        from ottla.cli.kafka.message_json import compact_json
        from ottla.cli.kafka.record_json import UnreadableRecordError, record_json

        if record.key is None:
            return
        try:
            shown = record_json(self._topic, self._types, record.key, record.value)
        except UnreadableRecordError as error:
            message = f"Could not read record at offset {record.offset} due to: {error}"
            raise ToolError(message, "RuntimeException") from None
        if shown is not None:
            output.write(compact_json(shown).encode())


def _write_delivery(record: Record, output: BinaryIO) -> None:
    count = record.delivery_count
    _text(output, f"Delivery:{'NOT_PRESENT' if count is None else count}")


def _text(output: BinaryIO, text: str) -> None:
    output.write(text.encode())


def _deserializer(properties: Mapping[str, str], name: str, *, is_key: bool = False) -> deserializers.Deserialize:
    if name not in properties:
        return deserializers.AS_IT_IS
    prefix = f"{name}."
    given = {key[len(prefix) :]: value for key, value in properties.items() if key.startswith(prefix) and key != prefix}
    try:
        return deserializers.deserializer(properties[name], given, is_key=is_key)
    except ToolError as error:
        log_error(
            f"{_TOOLS}DefaultMessageFormatter",
            f"Unable to instantiate a deserializer from {properties[name]}: ",
            error,
        )
        return deserializers.AS_IT_IS


_SHARE_TYPES = tuple(range(10, 16))

_FORMATTERS: dict[str, Callable[[], Formatter]] = {
    f"{_TOOLS}DefaultMessageFormatter": DefaultFormatter,
    f"{_TOOLS}LoggingMessageFormatter": LoggingFormatter,
    f"{_TOOLS}NoOpMessageFormatter": NoOpFormatter,
    f"{_TOOLS}OffsetsMessageFormatter": lambda: RecordsFormatter("CONSUMER_OFFSETS", (0, 1)),
    f"{_TOOLS}GroupMetadataMessageFormatter": lambda: RecordsFormatter("CONSUMER_OFFSETS", (2,)),
    f"{_TOOLS}ShareGroupMessageFormatter": lambda: RecordsFormatter("CONSUMER_OFFSETS", _SHARE_TYPES),
    f"{_TOOLS}TransactionLogMessageFormatter": lambda: RecordsFormatter("TRANSACTION_STATE"),
    f"{_TOOLS}group.share.ShareGroupStateMessageFormatter": lambda: RecordsFormatter("SHARE_GROUP_STATE"),
}
