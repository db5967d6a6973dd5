"""Message declarations: a wire schema written once, as a typed class.

    class HeartbeatRequest(Request, api_key=12, versions="0-4", flexible="4+", listeners=("broker",)):
        group_id: str = string("0+", entity="groupId")
        generation_id: int = int32("0+")

Each field names its wire type and the versions it is part of; options follow Kafka's schemas: `nullable` (versions at
which it may be null), `default` (unset: zero, false, empty, zero uuid, a default struct), `ignorable` (silently dropped
when written at a version that lacks it), `tag` with `tagged` (versions at which it is a tagged field), `flexible`
(versions at which the field itself takes the compact form, when they differ from the message's), `key` (an array of
these structs is a set with this key), `entity` (what the value names) and `zero_copy`. Only the first four and
`flexible` change what goes over the wire.

Version ranges are written "3", "3-7", "3+" or "none". Names are Kafka's in snake_case. Names of Python builtins (`id`,
`type`) stay as they are, since an attribute hides nothing; a keyword would get a trailing underscore.

The metaclass turns the fields into `__slots__` and nothing else, so that a class costs a few microseconds to import.
The keyword constructor is compiled at its first call, the codecs by `ottla.protocol.codec`.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar, cast, dataclass_transform

from ottla.core.ids import ZERO_UUID

LAST_VERSION = 32767
"""Upper end of an open range: versions are int16."""

_RANGES: dict[str, tuple[int, int]] = {"none": (1, 0)}


def version_range(text: str) -> tuple[int, int]:
    """First and last version (inclusive) of a range; an empty range has its first version above its last."""
    parsed = _RANGES.get(text)
    if parsed is None:
        first, dash, last = text.partition("-")
        if dash:
            parsed = int(first), int(last)
        elif text.endswith("+"):
            parsed = int(text[:-1]), LAST_VERSION
        else:
            parsed = int(text), int(text)
        _RANGES[text] = parsed
    return parsed


class Field:
    """One field as declared. `type` is a wire type's name or "struct"; arrays carry their `element` type instead."""

    __slots__ = (
        "default",
        "element",
        "entity",
        "flexible",
        "has_default",
        "ignorable",
        "key",
        "name",
        "nullable",
        "struct",
        "tag",
        "tagged",
        "type",
        "versions",
        "zero_copy",
    )

    def __init__(
        self,
        wire_type: str,
        versions: str,
        element: str | None,
        struct: type[Message] | None,
        nullable: str = "none",
        default: Any = ...,
        ignorable: bool = False,
        tag: int | None = None,
        tagged: str = "none",
        flexible: str | None = None,
        key: bool = False,
        entity: str | None = None,
        zero_copy: bool = False,
    ) -> None:
        self.type = wire_type
        self.versions = versions
        self.element = element
        self.struct = struct
        self.nullable = nullable
        self.has_default = default is not ...
        self.default = _ZERO_VALUES.get(wire_type) if default is ... else default
        self.ignorable = ignorable
        self.tag = tag
        self.tagged = tagged
        self.flexible = flexible
        self.key = key
        self.entity = entity
        self.zero_copy = zero_copy
        self.name = ""

    def __repr__(self) -> str:
        of = self.struct.__name__ if self.struct is not None else self.element
        return f"<{self.name}: {self.type}{f' of {of}' if of else ''} {self.versions}>"


_ZERO_VALUES: dict[str, Any] = {
    "bool": False,
    "float64": 0.0,
    "string": "",
    "bytes": b"",
    "records": None,
    "uuid": ZERO_UUID,
    **dict.fromkeys(("int8", "int16", "uint16", "int32", "uint32", "int64"), 0),
}
"""Default of a field that declares none; for arrays and structs see `field_default`."""


# The declaring functions return Any, so that each reads as the default value of the annotated attribute.


def boolean(versions: str, **options: Any) -> Any:
    """One byte, 0 or 1."""
    return Field("bool", versions, None, None, **options)


def int8(versions: str, **options: Any) -> Any:
    """Signed, one byte."""
    return Field("int8", versions, None, None, **options)


def int16(versions: str, **options: Any) -> Any:
    """Signed, two bytes, big-endian like all numbers."""
    return Field("int16", versions, None, None, **options)


def uint16(versions: str, **options: Any) -> Any:
    """Unsigned, two bytes."""
    return Field("uint16", versions, None, None, **options)


def int32(versions: str, **options: Any) -> Any:
    """Signed, four bytes."""
    return Field("int32", versions, None, None, **options)


def uint32(versions: str, **options: Any) -> Any:
    """Unsigned, four bytes."""
    return Field("uint32", versions, None, None, **options)


def int64(versions: str, **options: Any) -> Any:
    """Signed, eight bytes."""
    return Field("int64", versions, None, None, **options)


def float64(versions: str, **options: Any) -> Any:
    """IEEE 754 double."""
    return Field("float64", versions, None, None, **options)


def uuid(versions: str, **options: Any) -> Any:
    """Sixteen raw bytes."""
    return Field("uuid", versions, None, None, **options)


def string(versions: str, **options: Any) -> Any:
    """UTF-8 behind its length: int16, or compact at flexible versions."""
    return Field("string", versions, None, None, **options)


def binary(versions: str, **options: Any) -> Any:
    """Bytes behind their length: int32, or compact. Decodes to `bytes`."""
    return Field("bytes", versions, None, None, **options)


def record_set(versions: str, **options: Any) -> Any:
    """Record batches, on the wire like `binary`. Decodes to a `memoryview` into the frame, never copied."""
    return Field("records", versions, None, None, **options)


def array(element: str | type[Message], versions: str, **options: Any) -> Any:
    """Elements behind their count. `element` is a struct class or the name of a wire type ("int32", "string")."""
    if isinstance(element, str):
        return Field("array", versions, element, None, **options)
    return Field("array", versions, None, element, **options)


def struct(cls: type[Message], versions: str, **options: Any) -> Any:
    """Another struct in place; a nullable one follows a presence byte."""
    return Field("struct", versions, None, cls, **options)


@dataclass_transform(kw_only_default=True, eq_default=True)
class MessageType(type):
    """Makes a class with `__slots__` of the fields declared in its body."""

    STRUCT: MessageType

    def __new__(
        mcs,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        api_key: int = -1,
        versions: str = "0+",
        flexible: str = "none",
        listeners: tuple[str, ...] = (),
        latest_unstable: bool = False,
    ) -> MessageType:
        fields = []
        for key, value in namespace.items():
            if value.__class__ is Field:
                value.name = key
                fields.append(value)
        for field in fields:
            del namespace[field.name]
        namespace.pop("unknown_tags", None)
        declared = "__slots__" not in namespace
        if declared:
            namespace["FIELDS"] = tuple(fields)
            namespace["__slots__"] = tuple([field.name for field in fields])
            namespace["API_KEY"] = api_key
            first, last = namespace["VALID_VERSIONS"] = version_range(versions)
            if first > last:
                namespace["VALID_VERSIONS"] = (0, -1)
            namespace["FLEXIBLE_SINCE"] = LAST_VERSION + 1 if flexible == "none" else version_range(flexible)[0]
            namespace["LISTENERS"] = listeners
            namespace["LATEST_VERSION_UNSTABLE"] = latest_unstable
        cls = super().__new__(mcs, name, bases, namespace)
        if declared:
            cls.STRUCT = cls
        return cls


class Message(metaclass=MessageType):
    """What all messages and their structs share: keyword constructor, equality, repr, and the class constants.

    `unknown_tags` holds the tagged fields that this declaration does not know, as (tag, bytes) pairs in ascending
    order, or None; they are written again where they stood, so that a newer peer's data survives.
    """

    __slots__ = ("unknown_tags",)

    KIND: ClassVar[str] = "struct"
    API_KEY: ClassVar[int]
    """Number of the API, of the metadata record type, or of the coordinator record type; -1 when there is none."""
    VALID_VERSIONS: ClassVar[tuple[int, int]]
    """First and last version, inclusive; (0, -1) for a message that Kafka removed."""
    FLEXIBLE_SINCE: ClassVar[int]
    """First version with compact forms and tagged fields; above every version when there is none."""
    LISTENERS: ClassVar[tuple[str, ...]]
    LATEST_VERSION_UNSTABLE: ClassVar[bool]
    FIELDS: ClassVar[tuple[Field, ...]]
    STRUCT: ClassVar[type[Message]]
    """The declared class itself, also for the class of a shared default."""

    unknown_tags: tuple[tuple[int, bytes], ...] | None = None
    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __init__(self, **values: Any) -> None:
        compile_constructor(type(self))
        self.__init__(**values)  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Message) or self.STRUCT is not other.STRUCT:
            return NotImplemented
        values = _values_of(self.STRUCT)
        return bool(values(self) == values(other))

    def __repr__(self) -> str:
        parts = [f"{field.name}={_brief(getattr(self, field.name))}" for field in self.FIELDS]
        if self.unknown_tags is not None:
            parts.append(f"unknown_tags={self.unknown_tags!r}")
        return f"{self.STRUCT.__name__}({', '.join(parts)})"


class Request(Message):
    """Body of a request."""

    __slots__ = ()
    KIND = "request"


class Response(Message):
    """Body of a response."""

    __slots__ = ()
    KIND = "response"


class Header(Message):
    """Header of a request or response."""

    __slots__ = ()
    KIND = "header"


class Data(Message):
    """Schema of data that is neither request nor response: control records, consumer protocol, raft data, files."""

    __slots__ = ()
    KIND = "data"


class MetadataRecord(Message):
    """Record of a metadata log; API_KEY is the record type."""

    __slots__ = ()
    KIND = "metadata"


class CoordinatorKey(Message):
    """Key of a coordinator's record; API_KEY is the int16 in front of it."""

    __slots__ = ()
    KIND = "coordinator-key"


class CoordinatorValue(Message):
    """Value of a coordinator's record, behind its int16 version; API_KEY is that of the key it belongs to."""

    __slots__ = ()
    KIND = "coordinator-value"


class Struct(Message):
    """Part of a message. `versions`, where declared, are those at which the struct may occur."""

    __slots__ = ()


def field_default(field: Field) -> Any:
    """A field's default: shared when immutable, a fresh list for an array."""
    if field.type == "array":
        return None if field.has_default else []
    if field.type == "struct" and not field.has_default:
        assert field.struct is not None
        return shared_default(field.struct) if is_flat(field.struct) else field.struct()
    if field.type == "records" and version_range(field.nullable)[1] < LAST_VERSION:
        return b""
    return field.default


def is_flat(cls: type[Message]) -> bool:
    """Whether the struct holds only immutable values, so that one default instance can serve everybody."""
    return all(field.type not in ("array", "struct") for field in cls.FIELDS)


_SHARED_DEFAULTS: dict[type[Message], Message] = {}


def shared_default(cls: type[Message]) -> Message:
    """The one default instance of a flat struct. It refuses changes: assign a new struct instead.

    Messages are full of optional structs that are almost never set (three in each partition of a fetch response);
    sharing them keeps constructing and comparing cheap.
    """
    default = _SHARED_DEFAULTS.get(cls)
    if default is None:
        namespace = {
            "__slots__": (),
            "__module__": cls.__module__,
            "__setattr__": _refuse_change,
            "__reduce__": _reduce_default,
        }
        frozen: Any = MessageType("Default" + cls.__name__, (cls,), namespace)
        default = cast(Message, object.__new__(frozen))
        object.__setattr__(default, "unknown_tags", None)
        for field in cls.FIELDS:
            object.__setattr__(default, field.name, field_default(field))
        _SHARED_DEFAULTS[cls] = default
    return default


def _refuse_change(self: Message, name: str, value: object) -> None:
    raise AttributeError(f"a default {self.STRUCT.__name__} is shared: assign a new one to change {name!r}")


def _reduce_default(self: Message) -> tuple[Any, ...]:
    return shared_default, (self.STRUCT,)


def compile_constructor(cls: type[Message]) -> None:
    """Give the class a constructor of its own, written for its fields."""
    names: dict[str, Any] = {}
    parameters = []
    body = []
    for position, field in enumerate(cls.FIELDS):
        name = field.name
        if field.type == "array" and not field.has_default:
            parameters.append(f"{name}=None")
            nullable = field.nullable != "none"
            if nullable:
                # None is a value of its own here, so "not given" needs another mark.
                parameters[-1] = f"{name}=..."
            body.append(f"self.{name} = [] if {name} is {'...' if nullable else 'None'} else {name}")
        elif (
            field.type == "struct" and not field.has_default and field.struct is not None and not is_flat(field.struct)
        ):
            names[f"d{position}"] = field.struct
            parameters.append(f"{name}=...")
            body.append(f"self.{name} = d{position}() if {name} is ... else {name}")
        else:
            names[f"d{position}"] = field_default(field)
            parameters.append(f"{name}=d{position}")
            body.append(f"self.{name} = {name}")
    body.append("self.unknown_tags = unknown_tags")
    signature = ", ".join(["self, *", *parameters, "unknown_tags=None"])
    source = f"def __init__({signature}):\n    " + "\n    ".join(body)
    exec(compile(source, f"<constructor of {cls.__name__}>", "exec"), names)
    cls.__init__ = names["__init__"]  # type: ignore[method-assign]


_GETTERS: dict[type[Message], Callable[[Message], Any]] = {}


def _values_of(struct: type[Message]) -> Callable[[Message], Any]:
    """What gives all that messages of a class are compared by."""
    found = _GETTERS.get(struct)
    if found is None:
        found = _GETTERS[struct] = attrgetter("unknown_tags", *(field.name for field in struct.FIELDS))
    return found


def _brief(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return repr(bytes(value)) if len(value) <= 64 else f"<{len(value)} bytes>"
    return repr(value)
