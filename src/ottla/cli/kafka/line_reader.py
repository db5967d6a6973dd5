"""How kafka-console-producer reads records from lines: `headers<tab>key<tab>value`, with the separators one wants."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ottla.cli.kafka.common import ToolError

Headers = list[tuple[str, "bytes | None"]]
_KAFKA_EXCEPTION = "org.apache.kafka.common.KafkaException"


class LineRecord(NamedTuple):
    """What a line says."""

    key: bytes | None
    value: bytes | None
    headers: Headers


class LineReader:
    """Kafka's LineMessageReader. Properties: parse.key, key.separator, parse.headers, headers.delimiter (between
    headers and key), headers.separator (between headers; a regular expression), headers.key.separator, ignore.error,
    null.marker. Raises `ToolError` for separators that are the same, and while reading for a line without them.
    """

    def __init__(self, properties: Mapping[str, str]) -> None:
        def is_on(name: str) -> bool:
            return properties.get(name, "false").strip().lower() == "true"

        self._has_key = is_on("parse.key")
        self._has_headers = is_on("parse.headers")
        self._ignores_errors = is_on("ignore.error")
        self._key_separator = properties.get("key.separator", "\t")
        self._headers_delimiter = properties.get("headers.delimiter", "\t")
        self._headers_separator = properties.get("headers.separator", ",")
        self._headers_key_separator = properties.get("headers.key.separator", ":")
        self._null = properties.get("null.marker")
        self._split_headers = re.compile(self._headers_separator)
        self._check()

    def _check(self) -> None:
        names = {
            "headers.delimiter": self._headers_delimiter,
            "headers.separator": self._headers_separator,
            "headers.key.separator": self._headers_key_separator,
            "key.separator": self._key_separator,
        }
        pairs = [
            ("headers.delimiter", "headers.separator"),
            ("headers.delimiter", "headers.key.separator"),
            ("headers.separator", "headers.key.separator"),
        ]
        for one, other in pairs:
            if names[one] == names[other]:
                raise ToolError(f"{one} and {other} may not be equal", _KAFKA_EXCEPTION)
        for name in ("key.separator", "headers.separator", "headers.delimiter", "headers.key.separator"):
            if names[name] == self._null:
                raise ToolError(f"null.marker and {name} may not be equal", _KAFKA_EXCEPTION)

    def records(self, lines: Iterable[str]) -> Iterator[LineRecord]:
        """A record for each line; line ends are already removed."""
        for number, line in enumerate(lines, 1):
            yield self._record(line, number)

    def _record(self, line: str, number: int) -> LineRecord:
        headers = key = None
        rest = line
        if self._has_headers:
            headers, rest = self._cut(rest, line, self._headers_delimiter, "headers delimiter", number)
        if self._has_key:
            key, rest = self._cut(rest, line, self._key_separator, "key separator", number)
        found: Headers = []
        if headers is not None and headers != self._null:
            found = [self._header(pair, number) for pair in self._pairs(headers)]
        return LineRecord(self._bytes(key), self._bytes(rest), found)

    def _cut(self, text: str, line: str, separator: str, called: str, number: int) -> tuple[str | None, str]:
        before, found, after = text.partition(separator) if separator else ("", "", text)
        if found or not separator:
            return before, after
        if self._ignores_errors:
            return None, text
        raise ToolError(f"No {called} found on line number {number}: '{line}'", _KAFKA_EXCEPTION)

    def _pairs(self, headers: str) -> list[str]:
        """As Java splits: nothing empty at the end, and the whole text when there is no separator."""
        pairs = self._split_headers.split(headers)
        if len(pairs) > 1:
            while pairs and not pairs[-1]:
                pairs.pop()
        return pairs

    def _header(self, pair: str, number: int) -> tuple[str, bytes | None]:
        key, separator, value = pair.partition(self._headers_key_separator)
        if not separator:
            if self._ignores_errors:
                return pair, None
            raise ToolError(f"No header key separator found in pair '{pair}' on line number {number}", _KAFKA_EXCEPTION)
        if key == self._null:
            raise ToolError(
                f"Header keys should not be equal to the null marker '{self._null}' as they can't be null",
                _KAFKA_EXCEPTION,
            )
        return key, self._bytes(value)

    def _bytes(self, text: str | None) -> bytes | None:
        return None if text is None or text == self._null else text.encode("utf-8", "replace")
