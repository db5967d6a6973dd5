"""From lines to keys, values and headers.

Most input is a value, or a key and a value, a line: it stays two lists (`Columns`), which go through `send_many`. What
has headers, a partition or a timestamp of its own is one `Enveloped` a record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ottla.cli.envelope import Enveloped, read_envelope
from ottla.cli.formats import Format

Problem = Callable[[int, str], None]
"""Told of an item that cannot be sent: its index, and why."""


class Columns(NamedTuple):
    """Records without anything of their own but key and value. `rows` are the indexes of their items, None: all."""

    values: list[bytes | None]
    keys: list[bytes | None] | None
    rows: list[int] | None


class Singles(NamedTuple):
    """Records with more of their own."""

    records: list[Enveloped]
    rows: list[int]


class Syntax(NamedTuple):
    """How an item is written."""

    key_format: Format
    value_format: Format
    key_separator: bytes | None = None
    header_separator: bytes | None = None
    null: bytes | None = None
    """What stands for no key, no value; None: nothing does."""
    key: bytes | None = None
    """The key of all records, encoded."""
    has_key: bool = False
    envelopes: bool = False
    documents: bool = False
    """Items are JSON documents, not lines."""


class Parser:
    """Items of a piece to records."""

    def __init__(self, syntax: Syntax, now_ms: Callable[[], int]) -> None:
        self._syntax = syntax
        self._now_ms = now_ms
        self._skips_blank = syntax.envelopes or syntax.value_format.name in ("json", "pretty")

    def __call__(self, items: Sequence[Any], problem: Problem) -> Columns | Singles:
        """The records of a piece; `problem` is told of items that are none."""
        syntax = self._syntax
        if syntax.envelopes:
            return self._envelopes(items, problem)
        if syntax.header_separator is not None:
            return self._with_headers(items, problem)
        if syntax.documents:
            return self._columns(items, self._document, problem)
        if syntax.key_separator is None and syntax.value_format.takes_text_as_it_is and syntax.null is None:
            values: list[bytes | None] = list(items)
            return Columns(values, [syntax.key] * len(values) if syntax.has_key else None, None)
        return self._plain_pairs(items) or self._columns(items, self._line, problem)

    def _plain_pairs(self, items: Sequence[bytes]) -> Columns | None:
        """Keys and values that are taken as they are, many at once; None when it takes a closer look."""
        syntax = self._syntax
        separator = syntax.key_separator
        is_plain = syntax.key_format.takes_text_as_it_is and syntax.value_format.takes_text_as_it_is
        if separator is None or not is_plain or syntax.null is not None:
            return None
        pairs = [item.split(separator, 1) for item in items]
        try:
            keys, values = zip(*pairs, strict=True)
        except ValueError:
            return None  # there is one without a separator, or nothing at all
        return Columns(list(values), list(keys), None)

    def _columns(
        self, items: Sequence[Any], parse: Callable[[Any], tuple[bytes | None, bytes | None]], problem: Problem
    ) -> Columns:
        values: list[bytes | None] = []
        keys: list[bytes | None] = []
        rows: list[int] = []
        for index, item in enumerate(items):
            if self._skips_blank and isinstance(item, bytes) and not item.strip():
                continue
            try:
                key, value = parse(item)
            except ValueError as error:
                problem(index, str(error))
                continue
            keys.append(key)
            values.append(value)
            rows.append(index)
        has_keys = self._syntax.key_separator is not None or self._syntax.has_key
        return Columns(values, keys if has_keys else None, rows)

    def _document(self, item: object) -> tuple[bytes | None, bytes | None]:
        return self._syntax.key, self._syntax.value_format.encode_value(item)

    def _line(self, line: bytes) -> tuple[bytes | None, bytes | None]:
        syntax = self._syntax
        key, value = syntax.key, line
        if syntax.key_separator is not None:
            written, separator, value = line.partition(syntax.key_separator)
            if not separator:
                raise ValueError(f"there is no key separator {_shown(syntax.key_separator)}")
            try:
                key = None if written == syntax.null else syntax.key_format.encode(written)
            except ValueError as error:
                raise ValueError(f"key: {error}") from None
        return key, None if value == syntax.null else syntax.value_format.encode(value)

    def _with_headers(self, items: Sequence[bytes], problem: Problem) -> Singles:
        syntax = self._syntax
        assert syntax.header_separator is not None
        records: list[Enveloped] = []
        rows: list[int] = []
        for index, line in enumerate(items):
            try:
                written, separator, rest = line.partition(syntax.header_separator)
                if not separator:
                    raise ValueError(f"there is no header separator {_shown(syntax.header_separator)}")
                headers = tuple(parse_header(one, syntax.null) for one in written.split(b",") if one)
                key, value = self._line(rest)
            except ValueError as error:
                problem(index, str(error))
                continue
            records.append(Enveloped(value, key, headers=headers))
            rows.append(index)
        return Singles(records, rows)

    def _envelopes(self, items: Sequence[Any], problem: Problem) -> Singles:
        syntax, now_ms = self._syntax, self._now_ms()
        records: list[Enveloped] = []
        rows: list[int] = []
        for index, item in enumerate(items):
            if isinstance(item, bytes) and not item.strip():
                continue
            try:
                record = read_envelope(item, syntax.key_format, syntax.value_format, now_ms)
            except ValueError as error:
                problem(index, str(error))
                continue
            if syntax.has_key and record.key is None:
                record = record._replace(key=syntax.key)
            records.append(record)
            rows.append(index)
        return Singles(records, rows)


def parse_header(text: bytes, null: bytes | None = None) -> tuple[str, bytes | None]:
    """`name=value` as a header."""
    name, separator, value = text.partition(b"=")
    if not name or not separator:
        raise ValueError(f"'{text.decode(errors='replace')}' is no header; write name=value")
    try:
        return name.decode(), None if value == null else value
    except UnicodeDecodeError:
        raise ValueError("the name of a header is not UTF-8 text") from None


def _shown(separator: bytes) -> str:
    return repr(separator.decode(errors="replace"))
