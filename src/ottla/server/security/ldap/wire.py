"""LDAP as bytes (RFC 4511): what is asked, in BER, and what is answered.

Lengths are definite, as RFC 4511 wants them. What cannot be read raises `WireError`, whatever it is.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# Tags: universal ones, and those of the operations.
_BOOLEAN, _INTEGER, _OCTETS, _ENUMERATED, _SEQUENCE, _SET = 0x01, 0x02, 0x04, 0x0A, 0x30, 0x31
_BIND, _BIND_ANSWER, _UNBIND, _SEARCH, _ENTRY, _DONE, _REFERENCE = 0x60, 0x61, 0x42, 0x63, 0x64, 0x65, 0x73
_EXTENDED, _EXTENDED_ANSWER = 0x77, 0x78

SUCCESS: Final = 0
SIZE_LIMIT_EXCEEDED: Final = 4
INVALID_CREDENTIALS: Final = 49
NOT_NOW: Final = frozenset((1, 2, 3, 11, 51, 52, 80))
"""Result codes that say nothing about a password: errors of the directory, limits, busy, unavailable."""

START_TLS: Final = "1.3.6.1.4.1.1466.20037"
LARGEST_MESSAGE: Final = 4 * 1024 * 1024
_NAMES: Final = {1: "operations error", 32: "no such object", 49: "invalid credentials", 50: "insufficient access"}
_NAMES.update({4: "size limit exceeded", 13: "TLS required", 51: "busy", 52: "unavailable", 53: "unwilling to perform"})

BASE, SUBTREE = 0, 2
"""Scopes of a search."""


class WireError(Exception):
    """The other side does not speak LDAP as we know it."""


class Result(NamedTuple):
    """How an operation ended."""

    code: int
    said: str
    """The directory's own words, for the log."""

    def __str__(self) -> str:
        name = _NAMES.get(self.code, "")
        details = ", ".join(filter(None, (name, self.said)))
        return f"result {self.code}" + (f" ({details})" if details else "")


class Entry(NamedTuple):
    """An entry that was found; attribute names are in lower case, values that are no text are left out."""

    dn: str
    attributes: dict[str, list[str]]


class Answer(NamedTuple):
    """One message of the directory. `result` ends the operation; an entry does not, nor does None of both."""

    message_id: int
    result: Result | None
    entry: Entry | None = None


# Requests


def bind(message_id: int, dn: str, password: str) -> bytes:
    """A simple bind. An empty password would be a bind as nobody in particular: it is not made."""
    if not password or not dn:
        raise ValueError("a bind needs a name and a password")
    return _message(message_id, _BIND, _integer(3), _octets(dn), _tagged(0x80, password.encode()))


def bind_nobody(message_id: int) -> bytes:
    """A bind as nobody in particular: it succeeds nearly everywhere, and proves nothing."""
    return _message(message_id, _BIND, _integer(3), _octets(""), _tagged(0x80, b""))


def unbind(message_id: int) -> bytes:
    """A farewell, which nobody answers."""
    return _message(message_id, _UNBIND)


def start_tls(message_id: int) -> bytes:
    """StartTLS."""
    return _message(message_id, _EXTENDED, _tagged(0x80, START_TLS.encode()))


def search(message_id: int, base: str, scope: int, filter_: bytes, attributes: list[str], limit: int) -> bytes:
    """A search that follows no aliases."""
    return _message(
        message_id,
        _SEARCH,
        _octets(base),
        _integer(scope, _ENUMERATED),
        _integer(0, _ENUMERATED),
        _integer(limit),
        _integer(0),
        _tagged(_BOOLEAN, b"\0"),
        filter_,
        _tagged(_SEQUENCE, *(_octets(name) for name in attributes)),
    )


# Answers


def frame_length(buffer: bytes | bytearray) -> int | None:
    """The length of the first message in the buffer, with its header; None when more is needed to know."""
    if len(buffer) < 2:
        return None
    if buffer[0] != _SEQUENCE:
        raise WireError("the answer is not LDAP")
    first = buffer[1]
    if first < 0x80:
        return 2 + first
    count = first & 0x7F
    if not 1 <= count <= 4:
        raise WireError("the answer has a length that cannot be")
    if len(buffer) < 2 + count:
        return None
    length = 2 + count + int.from_bytes(buffer[2 : 2 + count], "big")
    if length > LARGEST_MESSAGE:
        raise WireError("the answer is too large")
    return length


def parse_answer(frame: bytes) -> Answer:
    """One whole message. Raises `WireError`."""
    try:
        parts = _children(_only(frame, _SEQUENCE))
        message_id = int.from_bytes(_value(parts[0], _INTEGER), "big", signed=True)
        tag, content = parts[1]
        if tag in (_BIND_ANSWER, _DONE, _EXTENDED_ANSWER):
            return Answer(message_id, _result(content))
        if tag == _ENTRY:
            return Answer(message_id, None, _entry(content))
        if tag == _REFERENCE:  # To another server, which is not asked.
            return Answer(message_id, None)
    except (IndexError, ValueError):
        raise WireError("the answer cannot be read") from None
    raise WireError(f"the answer is of an unknown kind ({tag:#x})")


def _result(content: bytes) -> Result:
    parts = _children(content)
    said = _value(parts[2], _OCTETS).decode("utf-8", "replace")
    shown = "".join(character if character.isprintable() else " " for character in said[:200])
    return Result(int.from_bytes(_value(parts[0], _ENUMERATED), "big"), shown.strip())


def _entry(content: bytes) -> Entry:
    parts = _children(content)
    attributes: dict[str, list[str]] = {}
    for pair in _children(_value(parts[1], _SEQUENCE)):
        name, values = _children(_value(pair, _SEQUENCE))
        texts = attributes.setdefault(_value(name, _OCTETS).decode().lower(), [])
        for value in _children(_value(values, _SET)):
            try:
                texts.append(_value(value, _OCTETS).decode())
            except UnicodeDecodeError:
                continue
    return Entry(_value(parts[0], _OCTETS).decode(), attributes)


# Filters (RFC 4515)

_ITEM: Final = re.compile(r"([A-Za-z0-9.;-]+)(=|>=|<=|~=)([^()]*)")
_EXTENSIBLE: Final = re.compile(r"([A-Za-z0-9.;-]*)(:dn)?(?::([A-Za-z0-9.-]+))?:=([^()*]*)", re.IGNORECASE)
_ESCAPE: Final = re.compile(rb"\\([0-9A-Fa-f]{2})")
_COMPARISONS: Final = {"=": 0xA3, ">=": 0xA5, "<=": 0xA6, "~=": 0xA8}
_GROUPS: Final = {"&": 0xA0, "|": 0xA1, "!": 0xA2}
_DEEPEST: Final = 20


def parse_filter(text: str) -> bytes:
    """A filter as it is sent. Raises ValueError (one line) for what is none."""
    encoded, position = _filter(text.strip(), 0, 0)
    if position != len(text.strip()):
        raise ValueError("there is something after the last parenthesis")
    return encoded


def _filter(text: str, position: int, depth: int) -> tuple[bytes, int]:
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    if text[position : position + 1] != "(":
        raise ValueError("a ( is missing")
    position += 1
    group = _GROUPS.get(text[position : position + 1])
    if group is not None:
        position += 1
        parts = []
        while text[position : position + 1] == "(":
            part, position = _filter(text, position, depth + 1)
            parts.append(part)
        if not parts or (group == 0xA2 and len(parts) != 1):
            raise ValueError("&, | and ! need filters behind them, ! exactly one")
        encoded = _tagged(group, *parts)
    else:
        end = text.find(")", position)
        encoded = _item(text[position : end if end >= 0 else len(text)])
        position = end if end >= 0 else len(text)
    if text[position : position + 1] != ")":
        raise ValueError("a ) is missing")
    return encoded, position + 1


def _item(text: str) -> bytes:
    extensible = _EXTENSIBLE.fullmatch(text)
    if extensible is not None and (extensible[1] or extensible[3]):
        name, with_dn, rule, value = extensible.groups()
        parts = [_tagged(0x81, rule.encode())] if rule else []
        parts += [_tagged(0x82, name.encode())] if name else []
        parts.append(_tagged(0x83, _unescaped(value)))
        parts += [_tagged(0x84, b"\xff")] if with_dn else []
        return _tagged(0xA9, *parts)
    item = _ITEM.fullmatch(text)
    if item is None:
        raise ValueError(f"{text!r} is no comparison")
    name, comparison, value = item.groups()
    if comparison != "=" or "*" not in value:
        return _tagged(_COMPARISONS[comparison], _octets(name), _tagged(_OCTETS, _unescaped(value)))
    if value == "*":
        return _tagged(0x87, name.encode())
    pieces = [_unescaped(piece) for piece in value.split("*")]
    substrings = [_tagged(0x80, pieces[0])] if pieces[0] else []
    substrings += [_tagged(0x81, piece) for piece in pieces[1:-1] if piece]
    substrings += [_tagged(0x82, pieces[-1])] if pieces[-1] else []
    return _tagged(0xA4, _octets(name), _tagged(_SEQUENCE, *substrings))


def _unescaped(value: str) -> bytes:
    data = value.encode()
    if data.count(b"\\") != len(_ESCAPE.findall(data)):
        raise ValueError("a backslash must be followed by two hexadecimal digits")
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), data)


# BER


def _tagged(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    encoded = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(encoded))) + encoded + content


def _message(message_id: int, tag: int, *parts: bytes) -> bytes:
    return _tagged(_SEQUENCE, _integer(message_id), _tagged(tag, *parts))


def _integer(value: int, tag: int = _INTEGER) -> bytes:
    return _tagged(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _octets(text: str) -> bytes:
    return _tagged(_OCTETS, text.encode())


def _children(content: bytes) -> list[tuple[int, bytes]]:
    """The elements one after the other: tag and content. Raises IndexError or ValueError."""
    found = []
    position = 0
    while position < len(content):
        tag, length = content[position], content[position + 1]
        position += 2
        if length >= 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4:
                raise ValueError("a length that cannot be")
            length = int.from_bytes(content[position : position + count], "big")
            position += count
        if position + length > len(content):
            raise ValueError("an element goes beyond its end")
        found.append((tag, content[position : position + length]))
        position += length
    return found


def _only(frame: bytes, tag: int) -> bytes:
    (element,) = _children(frame)
    return _value(element, tag)


def _value(element: tuple[int, bytes], tag: int) -> bytes:
    if element[0] != tag:
        raise ValueError("an element of another kind")
    return element[1]
