"""Random messages, from a `random.Random` or drawn by Hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from ottla.protocol.layout import Layout
from ottla.protocol.message import Field, Message, field_default

INTEGERS = {"int8": (True, 8), "int16": (True, 16), "uint16": (False, 16), "int32": (True, 32), "uint32": (False, 32)}
INTEGERS["int64"] = (True, 64)
LENGTHS = (0, 1, 2, 3, 126, 127, 128, 300)


def random_message(cls: type[Message], version: int, random: Random) -> Any:
    """A message that is the same after a round trip at `version`: fields that are not on the wire have defaults."""
    return _random_struct(Layout(cls, version), cls, random, depth=0)


def _random_struct(layout: Layout, cls: type[Message], random: Random, depth: int) -> Any:
    values = {}
    for field in cls.FIELDS:
        tagged = layout.is_tagged(field)
        if layout.is_absent(field) or (tagged and random.random() < 0.5):
            values[field.name] = field_default(field)
        else:
            values[field.name] = _random_value(layout, field, random, depth)
    message = cls(**values)
    if layout.flexible and random.random() < 0.2:
        tags = sorted(random.sample(range(100, 100_000), random.randrange(1, 4)))
        message.unknown_tags = tuple((tag, random.randbytes(random.choice(LENGTHS))) for tag in tags)
    return message


def _random_value(layout: Layout, field: Field, random: Random, depth: int) -> Any:
    if layout.is_nullable(field) and random.random() < 0.3:
        return None
    if field.type == "array":
        count = random.choice((0, 1, 2, 3)) if depth < 3 else random.choice((0, 1))
        if field.struct is not None:
            return [_random_struct(layout, field.struct, random, depth + 1) for _ in range(count)]
        if random.random() < 0.1:
            count = 130
        return [_random_scalar(field.element, random) for _ in range(count)]
    if field.struct is not None:
        return _random_struct(layout, field.struct, random, depth + 1)
    return _random_scalar(field.type, random)


def _random_scalar(wire_type: str | None, random: Random) -> Any:
    if wire_type in INTEGERS:
        signed, bits = INTEGERS[wire_type]
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        return random.choice((low, high, random.randint(low, high), random.randint(0, 100)))
    if wire_type == "bool":
        return random.random() < 0.5
    if wire_type == "float64":
        return random.uniform(-1e300, 1e300)
    if wire_type == "uuid":
        return random.randbytes(16)
    length = random.choice(LENGTHS)
    if wire_type == "string":
        return "".join(random.choices("aZ0-._é€𝄞\0", k=length))
    return random.randbytes(length)


@pytest.fixture(scope="session")
def make_message() -> Callable[[type[Message], int, Random], Any]:
    """`make_message(cls, version, random)`."""
    return random_message
