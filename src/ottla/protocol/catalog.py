"""Every declared message by name: for tools that print, dump or check, not for the hot path (it imports everything)."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from ottla.protocol import messages
from ottla.protocol.message import Message


@cache
def all_messages() -> dict[str, type[Message]]:
    """Message classes (not their structs) by Kafka's name."""
    found: dict[str, type[Message]] = {}
    for module_info in iter_modules(messages.__path__):
        module = import_module(f"{messages.__name__}.{module_info.name}")
        declared = [cls for cls in vars(module).values() if isinstance(cls, type) and issubclass(cls, Message)]
        found.update(
            (cls.__name__, cls) for cls in declared if cls.KIND != "struct" and cls.__module__ == module.__name__
        )
    return found


def messages_and_versions() -> list[tuple[type[Message], int]]:
    """Every message class with each of its versions."""
    return [
        (cls, version)
        for cls in all_messages().values()
        for version in range(cls.VALID_VERSIONS[0], cls.VALID_VERSIONS[1] + 1)
    ]
