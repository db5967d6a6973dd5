"""What is sent, piece by piece: arguments, files, standard input; cut into lines, JSON documents, or whole files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple

from ottla.cli.errors import CommandError
from ottla.cli.formats import load_json

BLOCK_BYTES = 1 << 20
PIECE_LINES = 8192


class Piece(NamedTuple):
    """Some records, not looked at yet: lines of bytes, or JSON documents, the first of them number `first`."""

    name: str
    first: int
    items: Sequence[Any]

    def place(self, index: int) -> str:
        """Where an item was found, for people."""
        return f"{self.name} {self.first + index}" if self.first else self.name


Advance = Callable[[int], None]


def from_arguments(values: Sequence[str]) -> Iterator[Piece]:
    """Every argument is a record."""
    yield Piece("argument", 1, [os.fsencode(value) for value in values])


def from_file(path: str, how: str, delimiter: bytes, advance: Advance) -> Iterator[Piece]:
    """The records of a file, `-` for standard input; `how`: lines, json or whole. `advance` is told of bytes read."""
    if path == "-":
        yield from _from_stream(sys.stdin.buffer, "line" if how == "lines" else "record", how, delimiter, advance)
        return
    try:
        with open(path, "rb") as file:
            what = f"{path}, line" if how == "lines" else f"{path}, record"
            yield from _from_stream(file, path if how == "whole" else what, how, delimiter, advance)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None


def file_bytes(path: str) -> int | None:
    """The size of a file; None for what has none, as a pipe."""
    try:
        return os.path.getsize(path) if os.path.isfile(path) else None
    except OSError:
        return None


def _from_stream(stream: IO[bytes], name: str, how: str, delimiter: bytes, advance: Advance) -> Iterator[Piece]:
    if how == "lines":
        yield from _lines(stream, name, delimiter, advance)
        return
    data = stream.read()
    advance(len(data))
    if how == "whole":
        yield Piece(name, 0, [data])
        return
    yield from _documents(data, name)


def _lines(stream: Any, name: str, delimiter: bytes, advance: Advance) -> Iterator[Piece]:
    """Lines as soon as they are there: who types, or writes to a pipe now and then, does not wait for a full block."""
    number = 1
    parts: list[bytes] = []
    read = stream.read1
    while block := read(BLOCK_BYTES):
        advance(len(block))
        lines = block.split(delimiter)
        if len(lines) == 1 and len(delimiter) == 1:
            parts.append(block)  # a long line
            continue
        if parts:
            lines = b"".join([*parts, block]).split(delimiter)
        parts = [lines.pop()]
        for start in range(0, len(lines), PIECE_LINES):
            piece = lines[start : start + PIECE_LINES]
            yield Piece(name, number, piece)
            number += len(piece)
    if rest := b"".join(parts):
        yield Piece(name, number, [rest])


def _documents(data: bytes, name: str) -> Iterator[Piece]:
    """The elements of an array, or JSON documents one after the other with anything blank between them."""
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as error:
        raise CommandError(f"{name}s: not UTF-8 text (byte {error.start})") from None
    if text.startswith("["):
        try:
            documents = load_json(text)
        except ValueError:
            pass  # several arrays, or something broken: the other way tells where
        else:
            assert isinstance(documents, list)
            yield Piece(name, 1, documents)
            return
    import json

    decoder = json.JSONDecoder()
    found: list[object] = []
    position = 0
    while position < len(text):
        try:
            document, position = decoder.raw_decode(text, position)
        except ValueError as error:
            yield Piece(name, 1, found)
            raise CommandError(f"{name} {len(found) + 1}: not JSON: {error}") from None
        found.append(document)
        while position < len(text) and text[position].isspace():
            position += 1
    yield Piece(name, 1, found)
