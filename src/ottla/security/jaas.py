"""`sasl.jaas.config`: `LoginModule required name="value" …;`, as Kafka's Java clients take it."""

from __future__ import annotations

from typing import Final, NamedTuple

from ottla.security.errors import SecurityConfigError

_FLAGS: Final = ("required", "requisite", "sufficient", "optional")


class JaasEntry(NamedTuple):
    """A login module, by the last part of its class name, and its options."""

    module: str
    options: dict[str, str]


def parse_jaas(text: str) -> JaasEntry:
    """The one entry of a JAAS configuration; `SecurityConfigError` (which shows no values) when it is none."""
    tokens = _tokens(text)
    if len(tokens) < 3 or tokens[1].lower() not in _FLAGS:
        raise _wrong("it must begin with a login module and 'required'")
    if tokens[-1] != ";":
        raise _wrong("it must end with a semicolon")
    if ";" in tokens[:-1]:
        raise _wrong("it must have one login module only")
    options: dict[str, str] = {}
    position = 2
    while position < len(tokens) - 1:
        name = tokens[position]
        if tokens[position + 1] != "=" or tokens[position + 2] in ("=", ";"):
            raise _wrong(f"after {name!r} must come = and a value" if name.isidentifier() else "an option is malformed")
        options[name] = tokens[position + 2].removeprefix(_QUOTED)
        position += 3
    return JaasEntry(tokens[0].rpartition(".")[2], options)


_QUOTED: Final = "\0"
"""Marks a quoted token, which is a value whatever it holds."""


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character.isspace():
            position += 1
        elif character in "=;":
            tokens.append(character)
            position += 1
        elif character in "\"'":
            value, position = _quoted(text, position)
            tokens.append(_QUOTED + value)
        elif text.startswith("//", position) or character == "#":
            position = _or_end(text.find("\n", position), text)
        elif text.startswith("/*", position):
            position = _or_end(text.find("*/", position), text) + 2
        else:
            start = position
            while position < len(text) and not text[position].isspace() and text[position] not in "=;\"'":
                position += 1
            tokens.append(text[start:position])
    return tokens


def _quoted(text: str, start: int) -> tuple[str, int]:
    characters: list[str] = []
    position = start + 1
    while position < len(text):
        character = text[position]
        if character == text[start]:
            return "".join(characters), position + 1
        if character == "\\" and position + 1 < len(text):
            position += 1
            character = {"n": "\n", "t": "\t", "r": "\r"}.get(text[position], text[position])
        characters.append(character)
        position += 1
    raise _wrong("a quote is not closed")


def _or_end(position: int, text: str) -> int:
    return len(text) if position < 0 else position


def _wrong(reason: str) -> SecurityConfigError:
    return SecurityConfigError(
        "sasl.jaas.config",
        f"sasl.jaas.config cannot be read: {reason}. "
        'It looks like: org.apache.kafka.common.security.plain.PlainLoginModule required username="…" password="…";',
    )
