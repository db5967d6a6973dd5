"""How a message lies on the wire at one version: what encoder and decoder compilers both need to know."""

from __future__ import annotations

from collections.abc import Iterator

from ottla.protocol.message import Field, Message, version_range

FIXED = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float64": "d",
    "uuid": "16s",
}
"""`struct` format of each fixed-width type."""

WIDTH = {"?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "d": 8, "16s": 16}
"""Bytes that each format takes."""

LONGEST_STRING = 32767
"""Bytes of the longest string, in both forms."""

ZERO_WIDTH_ELEMENTS = 1024
"""Limit on the count of an array whose elements may take no bytes at all, so that the frame's size cannot bound it."""

LARGEST_TAG_SECTION = 10_000
"""Tagged fields in one section."""

COUNTED_BYTES = 4 * 1024 * 1024
"""Messages above this size have their elements counted: a struct of three bytes becomes an object of a hundred."""

LARGEST_COUNT = 1_000_000
"""Structs, strings and unknown tags in such a message. Numbers and record sets, which make it large, are free."""


class Layout:
    """A message class at a version, with the questions a compiler asks about its fields."""

    __slots__ = ("flexible", "version")

    def __init__(self, cls: type[Message], version: int) -> None:
        self.version = version
        self.flexible = version >= cls.FLEXIBLE_SINCE

    def has(self, text: str) -> bool:
        first, last = version_range(text)
        return first <= self.version <= last

    def is_tagged(self, field: Field) -> bool:
        return field.tag is not None and self.flexible and self.has(field.tagged)

    def is_in_line(self, field: Field) -> bool:
        return self.has(field.versions) and not self.is_tagged(field)

    def is_absent(self, field: Field) -> bool:
        return not self.has(field.versions) and not self.is_tagged(field)

    def is_nullable(self, field: Field) -> bool:
        return self.has(field.nullable)

    def null_struct(self, field: Field) -> int:
        """The byte of a struct that is null; one that is there follows a 1. In a tag Kafka writes an unsigned 0."""
        return 0 if self.is_tagged(field) else -1

    def is_compact(self, field: Field) -> bool:
        """Whether the field's length takes the compact form (a field may opt out of its message's)."""
        return self.flexible and (field.flexible is None or self.has(field.flexible))

    def tagged_fields(self, cls: type[Message]) -> list[Field]:
        """Known tagged fields in ascending order of their tags."""
        return sorted((field for field in cls.FIELDS if self.is_tagged(field)), key=lambda field: field.tag or 0)

    def structs(self, cls: type[Message]) -> Iterator[type[Message]]:
        """The class and every struct in it that may occur at this version."""
        yield cls
        for field in cls.FIELDS:
            if field.struct is not None and not self.is_absent(field):
                yield from self.structs(field.struct)

    def has_records(self, cls: type[Message]) -> bool:
        return any(field.type == "records" for struct in self.structs(cls) for field in struct.FIELDS)

    def smallest_field(self, field: Field) -> int:
        """Fewest bytes an in-line field takes."""
        if field.type in FIXED:
            return WIDTH[FIXED[field.type]]
        if field.type == "struct":
            assert field.struct is not None
            return 1 if self.is_nullable(field) else self.smallest_struct(field.struct)
        if self.is_compact(field):
            return 1
        return 2 if field.type == "string" else 4

    def smallest_struct(self, cls: type[Message]) -> int:
        """Fewest bytes a struct takes."""
        fields = sum(self.smallest_field(field) for field in cls.FIELDS if self.is_in_line(field))
        return fields + 1 if self.flexible else fields

    def smallest_element(self, field: Field) -> int:
        """Fewest bytes an element of this array takes."""
        if field.struct is not None:
            return self.smallest_struct(field.struct)
        assert field.element is not None
        if field.element in FIXED:
            return WIDTH[FIXED[field.element]]
        return 1 if self.is_compact(field) else 2 if field.element == "string" else 4


class Writer:
    """Source text under construction: indented lines, and the objects that they name."""

    __slots__ = ("_count", "depth", "lines", "names")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, object] = {}
        self.depth = 0
        self._count = 0

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def fresh(self, prefix: str) -> str:
        """A name that nothing else has."""
        self._count += 1
        return f"{prefix}{self._count}"

    def bind(self, prefix: str, value: object) -> str:
        """A global name for an object, the same one each time."""
        for name, bound in self.names.items():
            if bound is value and name.startswith(prefix):
                return name
        name = self.fresh(prefix + "_")
        self.names[name] = value
        return name

    def source(self) -> str:
        return "\n".join(self.lines) + "\n"
