"""Records as lines: values, keys and values, a template, envelopes, or only how many there were."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Protocol

from ottla.cli.formats import Format

if TYPE_CHECKING:
    from ottla.records.reader import ConsumerRecord

    Record = ConsumerRecord[bytes | None, bytes | None]
    Batch = Sequence[Record]

_TOKEN = re.compile(r"%(.)|\\(x[0-9a-fA-F]{2}|.)|([^%\\]+)", re.DOTALL)
_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}
MOST_NOTES = 20
"""How many records that cannot be shown are told of one by one."""


class Sink:
    """Where the lines go: standard output or a file. Every write is complete when it returns."""

    def __init__(self, path: str | None = None) -> None:
        self._file: IO[bytes] = sys.stdout.buffer if path in (None, "-") else open(str(path), "wb")  # noqa: SIM115
        self._is_own = path not in (None, "-")

    def write(self, data: bytes) -> None:
        """Raises `BrokenPipeError` when nobody reads any more."""
        if data:
            self._file.write(data)
            self._file.flush()

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._is_own:
            self._file.close()


class Printer(Protocol):
    """Turns records into what is written."""

    def __call__(self, records: Batch) -> bytes:
        """The records as bytes that end with a newline."""


class Notes:
    """One line for each record that cannot be shown, the first `MOST_NOTES` of them, and how many there were."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.count = 0
        self._note = note

    def __call__(self, record: Record, what: str, error: Exception) -> None:
        self.count += 1
        if self.count <= MOST_NOTES:
            self._note(f"{record.topic}-{record.partition} offset {record.offset}: the {what} is {_because(error)}")
        elif self.count == MOST_NOTES + 1:
            self._note("more records cannot be shown; only their number is told at the end")


def _because(error: Exception) -> str:
    text = str(error)
    return text if text.startswith("not ") else f"not in this format: {text}"


class Lines:
    """A line for each record: its value, or the key, a separator and the value."""

    def __init__(
        self, key_format: Format, value_format: Format, separator: bytes | None, null: bytes, notes: Notes
    ) -> None:
        self._show_key = key_format.show
        self._show_value = value_format.show
        self._is_plain = value_format.name in ("string", "raw")
        self._is_text = value_format.name == "string"
        self._separator = separator
        self._null = null
        self._notes = notes

    def __call__(self, records: Batch) -> bytes:
        if self._is_plain and self._separator is None:
            # Nearly always all of it is text, and then it need not be looked at value by value.
            data = b"\n".join([self._null if (value := record.value) is None else value for record in records]) + b"\n"
            if not self._is_text or data.isascii():
                return data
            with suppress(UnicodeDecodeError):
                data.decode()
                return data
        return b"".join([self._line(record) for record in records])

    def _line(self, record: Record) -> bytes:
        key, what = b"", "value"
        try:
            value = self._null if record.value is None else self._show_value(record.value)
            if self._separator is not None:
                what = "key"
                key = (self._null if record.key is None else self._show_key(record.key)) + self._separator
        except ValueError as error:
            self._notes(record, what, error)
            return b""
        return key + value + b"\n"


class Envelopes:
    """A JSON object for each record."""

    def __init__(self, key_format: Format, value_format: Format) -> None:
        self._formats = key_format, value_format

    def __call__(self, records: Batch) -> bytes:
        from ottla.cli.envelope import write_envelope

        return b"".join([write_envelope(record, *self._formats) + b"\n" for record in records])


class Template:
    """`%k %v %t %p %o %h …` filled in for each record, and a newline unless there is one.

    %v or %s value, %k key, %t topic, %p partition, %o offset, %T timestamp in milliseconds, %d local time, %h headers
    as name=value with commas, %S and %K sizes of value and key (-1 for none), %% a percent sign; \\n \\t \\r \\0 \\xHH.
    """

    def __init__(self, text: str, key_format: Format, value_format: Format, null: bytes, notes: Notes) -> None:
        self._null = null
        self._notes = notes
        self._key_format = key_format
        self._value_format = value_format
        self._parts = self._compile(text)
        last = self._parts[-1] if self._parts else b""
        if not (isinstance(last, bytes) and last.endswith(b"\n")):
            self._parts.append(b"\n")

    def __call__(self, records: Batch) -> bytes:
        return b"".join([self._filled(record) for record in records])

    def _compile(self, text: str) -> list[bytes | Callable[[Record], bytes]]:
        null, show_key, show_value = self._null, self._key_format.show, self._value_format.show

        def value(record: Record) -> bytes:
            return null if record.value is None else show_value(record.value)

        def headers(record: Record) -> bytes:
            return b",".join([name.encode() + b"=" + (null if data is None else data) for name, data in record.headers])

        fields: dict[str, Callable[[Record], bytes]] = {
            "v": value,
            "s": value,
            "k": lambda record: null if record.key is None else show_key(record.key),
            "t": lambda record: record.topic.encode(),
            "p": lambda record: b"%d" % record.partition,
            "o": lambda record: b"%d" % record.offset,
            "T": lambda record: b"%d" % record.timestamp_ms,
            "d": lambda record: iso_time(record.timestamp_ms).encode(),
            "h": headers,
            "S": lambda record: b"%d" % (-1 if record.value is None else len(record.value)),
            "K": lambda record: b"%d" % (-1 if record.key is None else len(record.key)),
        }
        parts: list[bytes | Callable[[Record], bytes]] = []
        for token in _TOKEN.finditer(text):
            field, escape, literal = token.groups()
            if literal is not None:
                parts.append(literal.encode())
            elif escape is not None:
                parts.append(unescaped("\\" + escape))
            elif field == "%":
                parts.append(b"%")
            elif field in fields:
                parts.append(fields[field])
            else:
                raise ValueError(
                    f"%{field} means nothing in a template; there are {' '.join('%' + one for one in fields)}"
                )
        return parts

    def _filled(self, record: Record) -> bytes:
        try:
            return b"".join([part if isinstance(part, bytes) else part(record) for part in self._parts])
        except ValueError as error:
            self._notes(record, "key or value", error)
            return b""


class Counter:
    """Writes nothing, only counts."""

    def __init__(self) -> None:
        self.by_partition: dict[tuple[str, int], int] = {}

    def __call__(self, records: Batch) -> bytes:
        counts = self.by_partition
        for record in records:
            tp = record.topic, record.partition
            counts[tp] = counts.get(tp, 0) + 1
        return b""


def iso_time(timestamp_ms: int) -> str:
    """A timestamp in local time, as ISO 8601 has it; `-` when there is none."""
    if timestamp_ms < 0:
        return "-"
    from datetime import datetime

    try:
        return datetime.fromtimestamp(timestamp_ms / 1000).astimezone().isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(timestamp_ms)


def unescaped(text: str) -> bytes:
    r"""Text with `\n`, `\t`, `\r`, `\0`, `\\` and `\xHH` as the bytes they stand for."""

    def replaced(found: re.Match[str]) -> bytes:
        _, escape, literal = found.groups()
        if escape is None:
            return found.group().encode() if literal is None else literal.encode()
        if len(escape) == 3:
            return bytes([int(escape[1:], 16)])
        return _ESCAPES.get(escape, b"\\" + escape.encode())

    return b"".join([replaced(found) for found in _TOKEN.finditer(text)])
