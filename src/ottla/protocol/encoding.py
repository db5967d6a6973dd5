"""The encoder compiler: Python source that writes one message class at one version.

The source collects pieces in a list and joins them once: a run of adjacent fixed-width fields, together with the length
prefix that follows them, is one `Struct.pack`. The first byte of a compact length is always part of such a run; the
further bytes of a length above 127 go in front of what the length counts. A tag section that holds only defaults is one
zero byte; otherwise a second generated function writes it. Large record sets are never copied: they become parts of
their own between the joined pieces.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from ottla.core.binary import Buffer, write_uvarint
from ottla.protocol.errors import EncodeError, UnsupportedVersionError
from ottla.protocol.layout import FIXED, LONGEST_STRING, Layout, Writer
from ottla.protocol.message import Field, Message, field_default

LARGE_RECORDS = 4096
"""Record sets above this size (bytes) are handed on instead of copied."""


def compile_encoder(cls: type[Message], version: int) -> Callable[[Any, list[Buffer]], None]:
    """`encode(message, parts)` appends one or more buffers; raises UnsupportedVersionError and EncodeError."""
    source, names = encoder_source(cls, version)
    exec(compile(source, f"<encoder of {cls.__name__} v{version}>", "exec"), names)
    encode: Callable[[Any, list[Buffer]], None] = names["encode"]
    return encode


def encoder_source(cls: type[Message], version: int) -> tuple[str, dict[str, Any]]:
    """The source of an encoder and the global names it uses."""
    writer = EncoderWriter(Layout(cls, version))
    writer.names.update(
        uvarint=write_uvarint,
        pack=struct.pack,
        join=b"".join,
        write_tags=write_tags,
        write_section=write_section,
        unsupported=UnsupportedVersionError,
        bad=EncodeError,
        errors=(struct.error, AttributeError, TypeError, UnicodeError, OverflowError),
    )
    writer.line("def encode(m, parts):")
    writer.depth = 1
    writer.line("try:")
    writer.depth = 2
    writer.line("out = []")
    writer.write_struct(cls, "m")
    writer.end_group()
    writer.line("parts.append(join(out))")
    writer.depth = 1
    writer.line("except errors as error:")
    writer.line(f"    raise bad(f'{cls.__name__} v{version}: {{error}}') from error")
    writer.depth = 0
    while writer.tag_functions:
        writer.write_tag_function(*writer.tag_functions.pop())
    return writer.source(), writer.names


class EncoderWriter(Writer):
    """Writes the body of an encoder, which appends its pieces to `out`."""

    __slots__ = ("group", "layout", "pending", "tag_functions", "written_tags")

    names: dict[str, Any]

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.pending: list[tuple[str, str]] = []
        """Fixed-width values (format, expression) that the next flush packs."""
        self.group: list[str] = []
        """Expressions of the pieces since the last branch or loop."""
        self.tag_functions: list[tuple[str, type[Message]]] = []
        """Tag sections whose functions are still to be written."""
        self.written_tags: dict[type[Message], str] = {}

    def flush(self) -> None:
        """Pack all pending fixed-width values into one piece."""
        if self.pending:
            formats = "".join(fmt for fmt, _ in self.pending)
            name = "p_" + formats.replace("?", "t")
            self.names.setdefault(name, struct.Struct(">" + formats).pack)
            self.group.append(f"{name}({', '.join(value for _, value in self.pending)})")
            self.pending.clear()

    def end_group(self) -> None:
        """Append what is collected; needed before every branch and loop and at their ends."""
        self.flush()
        if len(self.group) == 1:
            self.line(f"out.append({self.group[0]})")
        elif self.group:
            self.line(f"out += ({', '.join(self.group)})")
        self.group.clear()

    def write_struct(self, cls: type[Message], message: str) -> None:
        """Write the struct that the local `message` holds."""
        for field in cls.FIELDS:
            value = f"{message}.{field.name}"
            if self.layout.is_in_line(field):
                self.write_field(field, value, f"{cls.__name__}.{field.name}")
            elif self.layout.is_absent(field) and not field.ignorable:
                self.line(f"if {self.differs(field, value)}:")
                text = f"{cls.__name__}.{field.name} cannot be written at version {self.layout.version}"
                self.line(f"    raise unsupported('{text}')")
        if self.layout.flexible:
            self.write_tag_section(cls, message)

    def differs(self, field: Field, value: str) -> str:
        """A condition: the field does not have its default."""
        return f"not ({self.equals(field, value)})"

    def equals(self, field: Field, value: str) -> str:
        """A condition: the field has its default."""
        if field.type == "array":
            if field.has_default:
                return f"{value} is None"
            return f"not {value}" if field.nullable == "none" else f"{value} is not None and not {value}"
        default = field_default(field)
        if default is None:
            return f"{value} is None"
        if field.type == "bool":
            return value if default else f"not {value}"
        if isinstance(default, int | str | bytes) and default in (0, "", b""):
            return f"{value} == {default!r}"
        name = self.bind("default", default)
        return f"({value} is {name} or {value} == {name})" if field.type == "struct" else f"{value} == {name}"

    def write_field(self, field: Field, value: str, label: str) -> None:
        """Write one value, in line or inside a tag."""
        nullable = self.layout.is_nullable(field)
        if not nullable and field.nullable != "none":
            self.line(f"if {value} is None:")
            self.line(f"    raise unsupported('{label} cannot be null at version {self.layout.version}')")
        if field.type in FIXED:
            self.pending.append((FIXED[field.type], value))
        elif field.type == "struct":
            self.write_nested(field, value, nullable)
        elif field.type == "array":
            self.write_array(field, value, nullable)
        elif field.type == "string":
            self.write_string(value, nullable, self.layout.is_compact(field))
        elif field.type == "records":
            self.write_records(value, nullable, self.layout.is_compact(field))
        else:
            self.write_bytes(value, nullable, self.layout.is_compact(field))

    def write_nested(self, field: Field, value: str, nullable: bool) -> None:
        assert field.struct is not None
        nested = self.fresh("m")
        self.line(f"{nested} = {value}")
        if not nullable:
            self.write_struct(field.struct, nested)
            return
        self.end_group()
        self.line(f"if {nested} is None:")
        self.line(f"    out.append({self.layout.null_struct(field).to_bytes(1, 'big', signed=True)!r})")
        self.line("else:")
        self.depth += 1
        self.pending.append(("b", "1"))
        self.write_struct(field.struct, nested)
        self.end_group()
        self.depth -= 1

    def write_string(self, value: str, nullable: bool, compact: bool) -> None:
        text, size = self.fresh("s"), self.fresh("n")
        if nullable:
            self.line(f"if {value} is None:")
            self.line(f"    {text} = b''")
            self.line(f"    {size} = {0 if compact else -1}")
            self.line("else:")
            self.depth += 1
        self.line(f"{text} = {value}.encode()")
        self.line(f"{size} = len({text}){' + 1' if compact else ''}")
        if nullable:
            self.depth -= 1
        if compact:
            self.line(f"if {size} > 127:")
            self.line(f"    if {size} > {LONGEST_STRING + 1}:")
            self.line(f"        raise bad('a string of {{}} bytes'.format({size} - 1))")
            self.line(f"    {text} = uvarint({size} >> 7) + {text}")
            self.line(f"    {size} = {size} & 127 | 128")
        self.pending.append(("B" if compact else "h", size))
        self.flush()
        self.group.append(text)

    def write_bytes(self, value: str, nullable: bool, compact: bool) -> None:
        data, _ = self.write_sized(value, nullable, compact)
        self.group.append(data)

    def write_sized(self, value: str, nullable: bool, compact: bool) -> tuple[str, str]:
        """Write the length of bytes, records or an array; the locals that hold the value and its length."""
        data, size = self.fresh("v"), self.fresh("n")
        self.line(f"{data} = {value}")
        if nullable:
            self.line(f"if {data} is None:")
            self.line(f"    {data} = b''")
            self.line(f"    {size} = {0 if compact else -1}")
            self.line("else:")
            self.line(f"    {size} = len({data}){' + 1' if compact else ''}")
        else:
            self.line(f"{size} = len({data}){' + 1' if compact else ''}")
        if compact:
            self.pending.append(("B", f"{size} if {size} < 128 else {size} & 127 | 128"))
            self.flush()
            self.group.append(f"b'' if {size} < 128 else uvarint({size} >> 7)")
        else:
            self.pending.append(("i", size))
            self.flush()
        return data, size

    def write_records(self, value: str, nullable: bool, compact: bool) -> None:
        data, size = self.write_sized(value, nullable, compact)
        self.end_group()
        self.line(f"if {size} <= {LARGE_RECORDS}:")
        self.line(f"    out.append({data})")
        self.line("else:")
        self.line("    parts.append(join(out))")
        self.line(f"    parts.append({data})")
        self.line("    out.clear()")

    def write_array(self, field: Field, value: str, nullable: bool) -> None:
        compact = self.layout.is_compact(field)
        items, _ = self.write_sized(value, nullable, compact)
        if field.element in FIXED:
            if field.element == "uuid":
                self.group.append(f"pack('16s' * len({items}), *{items})")
            else:
                self.group.append(f"pack('>%d{FIXED[field.element]}' % len({items}), *{items})")
            return
        self.end_group()
        if field.struct is not None:
            nested = self.fresh("m")
            self.line(f"for {nested} in {items}:")
            self.depth += 1
            before = len(self.lines)
            self.write_struct(field.struct, nested)
        else:
            nested = self.fresh("item")
            self.line(f"for {nested} in {items}:")
            self.depth += 1
            before = len(self.lines)
            if field.element == "string":
                self.write_string(nested, False, compact)
            else:
                self.write_bytes(nested, False, compact)
        self.end_group()
        if len(self.lines) == before:
            self.line("pass")
        self.depth -= 1

    def write_tag_section(self, cls: type[Message], message: str) -> None:
        known = self.layout.tagged_fields(cls)
        self.flush()
        if not known:
            self.group.append(f"b'\\0' if {message}.unknown_tags is None else write_tags({message}.unknown_tags)")
            return
        function = self.written_tags.get(cls)
        if function is None:
            function = self.written_tags[cls] = self.fresh(f"tags_of_{cls.__name__}_")
            self.tag_functions.append((function, cls))
        conditions = [self.equals(field, f"{message}.{field.name}") for field in known]
        conditions.append(f"{message}.unknown_tags is None")
        self.group.append(f"b'\\0' if {' and '.join(conditions)} else {function}({message})")

    def write_tag_function(self, function: str, cls: type[Message]) -> None:
        """Write the function for a tag section that is not empty."""
        self.line("")
        self.line(f"def {function}(m):")
        self.depth += 1
        self.line("tags = [] if m.unknown_tags is None else list(m.unknown_tags)")
        for field in self.layout.tagged_fields(cls):
            value = f"m.{field.name}"
            self.line(f"if {self.differs(field, value)}:")
            self.depth += 1
            self.line("out = []")
            self.write_field(field, value, f"{cls.__name__}.{field.name}")
            self.end_group()
            self.line(f"tags.append(({field.tag}, join(out)))")
            self.depth -= 1
        self.line("return write_section(tags)")
        self.depth -= 1


def write_tags(tags: tuple[tuple[int, bytes], ...]) -> bytes:
    """A tag section of unknown tags only."""
    return write_section(list(tags))


def write_section(tags: list[tuple[int, bytes]]) -> bytes:
    """A tag section, in ascending order of tags."""
    tags.sort(key=lambda item: item[0])
    pieces = [write_uvarint(len(tags))]
    previous = -1
    for tag, data in tags:
        if tag <= previous:
            raise EncodeError(f"tag {tag} is there twice")
        previous = tag
        pieces += (write_uvarint(tag), write_uvarint(len(data)), data)
    return b"".join(pieces)
