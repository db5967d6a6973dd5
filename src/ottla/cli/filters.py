"""Which records are shown: by key, header, text of the value, and by a path into a JSON value.

The path language of `--where`:

    .status                    there is something, neither null nor false
    .user.name == "Ada"        also != < <= > >=; text may stand without quotes
    .items[0].price >= 9.5     an element; [-1] is the last
    .items[*].sku == A-17      any element
    .["odd name"] =~ ^x        a regular expression, !~ when it must not match
    . > 10                     the value itself

A path that leads nowhere is null. Numbers are compared with numbers, text with text; others are never smaller or
larger. A value that is not JSON passes no `--where`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from ottla.cli.formats import load_json

ANY = object()
"""`[*]` in a path."""

_STEP = re.compile(r'\.?\[\s*(?:(-?\d+)|(\*)|"((?:[^"\\]|\\.)*)")\s*\]|\.([A-Za-z_$][\w$-]*)')
_COMPARISON = re.compile(r"\s*(==|!=|<=|>=|=~|!~|=|<|>)\s*(.*)", re.DOTALL)
_ORDER: dict[str, Callable[[object, object], bool]] = {
    "<": operator.lt,  # type: ignore[dict-item]  # both sides are numbers, or both text: see `_comparable`
    "<=": operator.le,  # type: ignore[dict-item]
    ">": operator.gt,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
}


class Filterable(Protocol):
    """What a filter looks at of a record."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


Predicate = Callable[[Filterable], bool]
Condition = Callable[[object], bool]


def key_is(key: bytes | None) -> Predicate:
    """Records with exactly this key."""
    return lambda record: record.key == key


def key_matches(pattern: str) -> Predicate:
    """Records whose key, as text, contains a match."""
    search = _regex(pattern).search
    return lambda record: record.key is not None and search(record.key.decode(errors="replace")) is not None


def value_matches(pattern: str) -> Predicate:
    """Records whose value, as text, contains a match."""
    search = _regex(pattern).search
    return lambda record: record.value is not None and search(record.value.decode(errors="replace")) is not None


def header_is(text: str) -> Predicate:
    """`NAME`: records with such a header; `NAME=VALUE`: with this value."""
    name, separator, value = text.partition("=")
    if not name:
        raise ValueError(f"'{text}' names no header; write NAME or NAME=VALUE")
    if not separator:
        return lambda record: any(one == name for one, _ in record.headers)
    wanted = (name, value.encode())
    return lambda record: wanted in record.headers


def value_fulfils(expressions: Sequence[str]) -> Predicate:
    """Records whose value is JSON that fulfils all of these conditions."""
    conditions = [parse_condition(expression) for expression in expressions]

    def fulfils(record: Filterable) -> bool:
        if record.value is None:
            return False
        try:
            document = load_json(record.value)
        except ValueError:
            return False
        return all(condition(document) for condition in conditions)

    return fulfils


def parse_condition(expression: str) -> Condition:
    """A condition of the path language as a function of the JSON document; ValueError where it is none."""
    path, rest = _parse_path(expression)
    if not rest:
        return lambda document: any(found is not None and found is not False for found in _follow(document, path))
    comparison = _COMPARISON.fullmatch(rest)
    if comparison is None:
        raise ValueError(f"'{expression}': a comparison (== != < <= > >= =~ !~) has to follow the path, not '{rest}'")
    sign, literal = comparison.groups()
    if not literal:
        raise ValueError(f"'{expression}': nothing stands behind {sign}")
    test = _test(sign, literal)
    return lambda document: any(test(found) for found in _follow(document, path))


def _parse_path(expression: str) -> tuple[list[object], str]:
    text = expression.strip()
    if not text.startswith((".", "[")):
        raise ValueError(f"'{expression}': a path begins with a dot, as in .user.name")
    steps: list[object] = []
    position = 0
    while step := _STEP.match(text, position):
        index, anything, quoted, name = step.groups()
        if index is not None:
            steps.append(int(index))
        elif anything is not None:
            steps.append(ANY)
        else:
            steps.append(name if quoted is None else load_json(f'"{quoted}"'))
        position = step.end()
    if not steps and text.startswith("."):
        position = 1  # the value itself
    return steps, text[position:].strip()


def _follow(document: object, path: Sequence[object]) -> Iterator[object]:
    """What the path leads to: one thing, which may be None, unless there is a `[*]` in it."""
    for number, step in enumerate(path):
        if step is ANY:
            for element in document if isinstance(document, list) else ():
                yield from _follow(element, path[number + 1 :])
            return
        if isinstance(step, int):
            inside = isinstance(document, list) and -len(document) <= step < len(document)
            document = document[step] if inside else None  # type: ignore[index]
        else:
            document = document.get(step) if isinstance(document, dict) else None
    yield document


def _test(sign: str, literal: str) -> Condition:
    if sign in ("=~", "!~"):
        search = _regex(_unquoted(literal)).search
        wanted = sign == "=~"
        return lambda found: (isinstance(found, str) and search(found) is not None) is wanted
    value = _literal(literal)
    if sign in ("=", "=="):
        return lambda found: _equal(found, value)
    if sign == "!=":
        return lambda found: not _equal(found, value)
    compare = _ORDER[sign]
    return lambda found: _comparable(found, value) and compare(found, value)


def _literal(text: str) -> object:
    try:
        return load_json(text)
    except ValueError:
        return _unquoted(text)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _equal(one: object, other: object) -> bool:
    """As in JSON, where true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _comparable(one: object, other: object) -> bool:
    return (isinstance(one, str) and isinstance(other, str)) or (_is_number(one) and _is_number(other))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _regex(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
