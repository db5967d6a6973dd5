"""Java's properties files: the format of `server.properties`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ottla.schema.definition import SettingError

_BLANK = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


class Property(NamedTuple):
    """One entry of a properties file; `line` is where it starts, counted from 1."""

    name: str
    value: str
    line: int


def parse_properties(text: str, file_name: str = "server.properties") -> list[Property]:
    """The entries of a properties file in their order; a name may come more than once, the last one counts.

    Comments (`#`, `!`), continuation lines, the separators `=`, `:` and white space, and escapes are as in
    `java.util.Properties.load`. Raises `SettingError` for a malformed `\\uXXXX`.
    """
    entries = []
    for line_number, line in _logical_lines(text):
        end = _end_of_name(line)
        value_start = end
        while value_start < len(line) and line[value_start] in _BLANK:
            value_start += 1
        if value_start < len(line) and line[value_start] in "=:":
            value_start += 1
            while value_start < len(line) and line[value_start] in _BLANK:
                value_start += 1
        try:
            entries.append(Property(_unescape(line[:end]), _unescape(line[value_start:]), line_number))
        except ValueError:
            raise SettingError(
                line[:end], f"Malformed \\uxxxx encoding in {line[:end]}", origin=f"{file_name}:{line_number}"
            ) from None
    return entries


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with comments and blank ones left out and continuations joined, each with the number of its first line."""
    pending: str | None = None
    pending_number = 0
    natural_lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, natural_line in enumerate(natural_lines, 1):
        line = natural_line.lstrip(_BLANK)
        if pending is None:
            if not line or line[0] in "#!":
                continue
            pending, pending_number = "", number
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            pending += line[:-1]
            continue
        yield pending_number, pending + line
        pending = None
    if pending:
        yield pending_number, pending


def _end_of_name(line: str) -> int:
    position = 0
    while position < len(line):
        character = line[position]
        if character in "=:" or character in _BLANK:
            return position
        position += 2 if character == "\\" else 1
    return len(line)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    pieces = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character != "\\":
            pieces.append(character)
            continue
        escaped = text[position : position + 1]
        position += 1
        if escaped == "u":
            digits = text[position : position + 4]
            if len(digits) != 4 or not digits.isalnum():
                raise ValueError(digits)
            pieces.append(chr(int(digits, 16)))
            position += 4
        else:
            pieces.append(_ESCAPES.get(escaped, escaped))
    return "".join(pieces)
