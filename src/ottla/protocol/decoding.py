"""The decoder compiler: Python source that reads one message class at one version.

The source is straight-line code for exactly that version: adjacent fixed-width fields, together with the length prefix
that follows them, are one `Struct.unpack_from`; nested structs and arrays are in line; absent fields get defaults.
Every length and count is checked against the bytes that remain before anything of that size is made. Messages of many
megabytes go to a second function, compiled when the first of them comes, that also counts what it makes.
The decoder reads `buffer[offset:end]`; a fixed-width read may look past `end` into the same buffer, which the check at
the end then reports, so that the common case pays one comparison.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from ottla.core.binary import Buffer, read_uvarint, read_uvarint_rest
from ottla.protocol.errors import ProtocolError
from ottla.protocol.layout import (
    COUNTED_BYTES,
    FIXED,
    LARGEST_COUNT,
    LARGEST_TAG_SECTION,
    LONGEST_STRING,
    WIDTH,
    ZERO_WIDTH_ELEMENTS,
    Layout,
    Writer,
)
from ottla.protocol.message import Field, Message, field_default, is_flat

SHORT = tuple([struct.Struct(f"{size}s").unpack_from for size in range(128)])
"""Readers of short byte strings: from a bytearray or memoryview they take fewer steps than slice and copy."""


Decode = Callable[[Buffer, int, int], tuple[Any, int]]


def compile_decoder(cls: type[Message], version: int, counted: bool = False) -> Decode:
    """`decode(buffer, offset, end) -> (message, next_offset)`; raises ProtocolError and nothing else."""
    source, names = decoder_source(cls, version, counted)
    exec(compile(source, f"<decoder of {cls.__name__} v{version}>", "exec"), names)
    decode: Decode = names["decode"]
    return decode


def decoder_source(cls: type[Message], version: int, counted: bool = False) -> tuple[str, dict[str, Any]]:
    """The source of a decoder and the global names it uses."""
    layout = Layout(cls, version)
    writer = DecoderWriter(layout, counted)
    writer.names.update(
        new=object.__new__,
        uvarint=read_uvarint,
        uvarint_rest=read_uvarint_rest,
        unpack_from=struct.unpack_from,
        unknown_tags=read_unknown_tags,
        short=SHORT,
        bad=ProtocolError,
        errors=(struct.error, IndexError, ValueError),
        counting=cache(lambda: compile_decoder(cls, version, counted=True)),
    )
    writer.line("def decode(buffer, o, end):")
    writer.depth = 1
    if counted:
        writer.line(f"left = {LARGEST_COUNT}")
    else:
        writer.line(f"if end - o > {COUNTED_BYTES}:")
        writer.line("    return counting()(buffer, o, end)")
    writer.line("try:")
    writer.depth = 2
    if layout.has_records(cls):
        writer.line("view = memoryview(buffer)")
    message = writer.read_struct(cls)
    writer.flush()
    writer.line("if o > end:")
    writer.line(f"    raise bad('{cls.__name__} v{version} is cut off')")
    writer.line(f"return {message}, o")
    writer.depth = 1
    writer.line("except errors as error:")
    writer.line(f"    raise bad(f'{cls.__name__} v{version}: {{error}}') from error")
    return writer.source(), writer.names


class DecoderWriter(Writer):
    """Writes the body of a decoder. `o` is the offset, `n` the length or count just read."""

    __slots__ = ("counted", "layout", "pending")

    names: dict[str, Any]

    def __init__(self, layout: Layout, counted: bool) -> None:
        super().__init__()
        self.layout = layout
        self.counted = counted
        self.pending: list[tuple[str, str]] = []
        """Fixed-width values (format, target) to be read by the next flush."""

    def flush(self) -> None:
        """Read all pending fixed-width values with one call."""
        if not self.pending:
            return
        formats = [fmt for fmt, _ in self.pending]
        targets = ", ".join(target for _, target in self.pending)
        if formats == ["B"]:
            self.line(f"{targets} = buffer[o]")
        else:
            name = "u_" + "".join(formats).replace("?", "t")
            self.names.setdefault(name, struct.Struct(">" + "".join(formats)).unpack_from)
            self.line(f"{targets}{',' if len(formats) == 1 else ''} = {name}(buffer, o)")
        self.line(f"o += {sum(WIDTH[fmt] for fmt in formats)}")
        self.pending.clear()

    def read_struct(self, cls: type[Message]) -> str:
        """Read a struct into a new local; the local's name."""
        message = self.fresh("m")
        self.line(f"{message} = new({self.bind('Class', cls)})")
        for field in cls.FIELDS:
            if self.layout.is_in_line(field):
                self.read_field(field, f"{message}.{field.name}", f"{cls.__name__}.{field.name}")
            else:
                self.line(f"{message}.{field.name} = {self.default(field)}")
        if self.layout.flexible:
            self.read_tags(cls, message)
        else:
            self.line(f"{message}.unknown_tags = None")
        return message

    def default(self, field: Field) -> str:
        """An expression for the default of a field that is not in the bytes."""
        if field.type == "array" and not field.has_default:
            return "[]"
        if field.type == "struct" and not field.has_default:
            assert field.struct is not None
            if not is_flat(field.struct):
                return f"{self.bind('Class', field.struct)}()"
        value = field_default(field)
        if value is None or isinstance(value, bool | int | str) or value in (b"", 0.0):
            return repr(value)
        return self.bind("default", value)

    def read_field(self, field: Field, target: str, label: str) -> None:
        """Read one value, in line or inside a tag."""
        if field.type in FIXED:
            self.pending.append((FIXED[field.type], target))
        elif field.type == "struct":
            self.read_nested(field, target, label)
        else:
            compact = self.layout.is_compact(field)
            self.read_length("string" if field.type == "string" else "other", compact)
            self.line("if n >= 0:")
            self.depth += 1
            if field.type == "array":
                self.read_array(field, target, label, compact)
            else:
                self.read_bytes(field.type, target, label)
            self.depth -= 1
            if self.layout.is_nullable(field):
                self.line("elif n == -1:")
                self.line(f"    {target} = None")
            self.line("else:")
            self.line(f"    raise bad('{label}: length {{}}'.format(n))")

    def read_nested(self, field: Field, target: str, label: str) -> None:
        assert field.struct is not None
        if not self.layout.is_nullable(field):
            nested = self.read_struct(field.struct)
            self.line(f"{target} = {nested}")
            return
        self.pending.append(("b", "n"))
        self.flush()
        self.line("if n == 1:")
        self.depth += 1
        nested = self.read_struct(field.struct)
        self.flush()
        self.line(f"{target} = {nested}")
        self.depth -= 1
        self.line(f"elif n == {self.layout.null_struct(field)}:")
        self.line(f"    {target} = None")
        self.line("else:")
        self.line(f"    raise bad('{label}: presence byte {{}}'.format(n))")

    def read_length(self, kind: str, compact: bool) -> None:
        """Read a length or count into `n`; -1 for null."""
        if compact:
            self.pending.append(("B", "n"))
            self.flush()
            self.line("if n > 127:")
            self.line("    n, o = uvarint_rest(buffer, o, n)")
            if kind == "string":
                # The compact form could hold more, but Kafka's strings end where the int16 of the older form did.
                self.line(f"    if n > {LONGEST_STRING + 1}:")
                self.line("        raise bad('a string of {} bytes'.format(n - 1))")
            self.line("n -= 1")
        else:
            self.pending.append(("h" if kind == "string" else "i", "n"))
            self.flush()

    def read_bytes(self, kind: str, target: str, label: str) -> None:
        """Read `n` bytes as string, bytes or records."""
        self.line("e = o + n")
        self.line("if e > end:")
        self.line(f"    raise bad('{label} is cut off')")
        if kind == "string":
            self.line(f"{target} = (short[n](buffer, o)[0] if n < 128 else bytes(buffer[o:e])).decode()")
        elif kind == "records":
            self.line(f"{target} = view[o:e]")
        else:
            self.line(f"{target} = bytes(buffer[o:e])")
        self.line("o = e")

    def read_array(self, field: Field, target: str, label: str, compact: bool) -> None:
        """Read `n` elements."""
        smallest = self.layout.smallest_element(field)
        if smallest == 0:
            self.line(f"if n > {ZERO_WIDTH_ELEMENTS}:")
        else:
            self.line(f"if {'n' if smallest == 1 else f'n * {smallest}'} > end - o:")
        self.line(f"    raise bad('{label}: more elements than bytes')")
        if field.element not in FIXED:
            self.count("n", label)
        items = self.fresh("items")
        if field.struct is not None:
            self.line(f"{target} = {items} = []")
            self.line("for _ in range(n):")
            self.depth += 1
            element = self.read_struct(field.struct)
            self.flush()
            self.line(f"{items}.append({element})")
            self.depth -= 1
            return
        assert field.element is not None
        if field.element in FIXED:
            width = WIDTH[FIXED[field.element]]
            if field.element == "uuid":
                self.line(f"{target} = [bytes(buffer[i:i + 16]) for i in range(o, o + 16 * n, 16)]")
            else:
                self.line(f"{target} = list(unpack_from('>%d{FIXED[field.element]}' % n, buffer, o))")
            self.line(f"o += {'n' if width == 1 else f'n * {width}'}")
            return
        self.line(f"{target} = {items} = []")
        self.line("for _ in range(n):")
        self.depth += 1
        self.read_length(field.element, compact)
        self.line("if n < 0:")
        self.line(f"    raise bad('{label}: length {{}} of an element'.format(n))")
        item = self.fresh("item")
        self.read_bytes(field.element, item, label)
        self.line(f"{items}.append({item})")
        self.depth -= 1

    def count(self, made: str, label: str) -> None:
        """Where elements are counted: take what is about to be made from what is left."""
        if self.counted:
            self.line(f"left -= {made}")
            self.line("if left < 0:")
            self.line(f"    raise bad('{label}: more than {LARGEST_COUNT} elements in one message')")

    def read_tags(self, cls: type[Message], message: str) -> None:
        """Read the tag section of a struct; its fields have their defaults already."""
        self.pending.append(("B", "n"))
        self.flush()
        self.line(f"{message}.unknown_tags = None")
        self.line("if n:")
        self.depth += 1
        known = self.layout.tagged_fields(cls)
        if known:
            self.read_known_tags(known, cls, message)
        else:
            self.line(f"{message}.unknown_tags, o = unknown_tags(buffer, o, n, end)")
            self.count(f"len({message}.unknown_tags)", cls.__name__)
        self.depth -= 1

    def read_known_tags(self, known: list[Field], cls: type[Message], message: str) -> None:
        tag, size, stop, previous, unknown = (
            self.fresh(name) for name in ("tag", "size", "stop", "previous", "unknown")
        )
        self.line("if n > 127:")
        self.line("    n, o = uvarint_rest(buffer, o, n)")
        self.line(f"if n * 2 > end - o or n > {LARGEST_TAG_SECTION}:")
        self.line(f"    raise bad('{cls.__name__}: too many tagged fields')")
        self.count("n", cls.__name__)
        self.line(f"{previous} = -1")
        self.line(f"{unknown} = []")
        self.line("for _ in range(n):")
        self.depth += 1
        self.line(f"{tag}, o = uvarint(buffer, o)")
        self.line(f"{size}, o = uvarint(buffer, o)")
        self.line(f"{stop} = o + {size}")
        self.line(f"if {tag} <= {previous} or {stop} > end:")
        self.line(f"    raise bad('{cls.__name__}: tagged fields out of order or cut off')")
        self.line(f"{previous} = {tag}")
        for position, field in enumerate(known):
            self.line(f"{'el' if position else ''}if {tag} == {field.tag}:")
            self.depth += 1
            self.read_field(field, f"{message}.{field.name}", f"{cls.__name__}.{field.name}")
            self.flush()
            self.depth -= 1
        self.line("else:")
        self.line(f"    {unknown}.append(({tag}, bytes(buffer[o:{stop}])))")
        self.line(f"    o = {stop}")
        self.line(f"if o != {stop}:")
        self.line(f"    raise bad('{cls.__name__}: a tagged field has the wrong size')")
        self.depth -= 1
        self.line(f"if {unknown}:")
        self.line(f"    {message}.unknown_tags = tuple({unknown})")


def read_unknown_tags(buffer: Buffer, offset: int, count: int, end: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """A tag section of which no tag is known, behind the first byte of its `count`."""
    if count > 127:
        count, offset = read_uvarint_rest(buffer, offset, count)
    if count * 2 > end - offset or count > LARGEST_TAG_SECTION:
        raise ProtocolError("too many tagged fields")
    tags = []
    previous = -1
    for _ in range(count):
        tag, offset = read_uvarint(buffer, offset)
        size, offset = read_uvarint(buffer, offset)
        stop = offset + size
        if tag <= previous or stop > end:
            raise ProtocolError("tagged fields out of order or cut off")
        previous = tag
        tags.append((tag, bytes(buffer[offset:stop])))
        offset = stop
    return tuple(tags), offset
