"""Keys and values between bytes and what people read and write: `string`, `json`, `hex`, `base64`, integers, ...

A `Format` goes four ways: what was typed to the bytes that are sent (`encode`), a JSON value of an envelope to those
bytes (`encode_value`), received bytes to a JSON value (`decode`) and to what is printed (`show`). All raise
`ValueError` with a reason that stands in one line. Numbers are big-endian, as Java's serializers write them.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

ALIASES = {
    "str": "string",
    "text": "string",
    "bytes": "raw",
    "byte": "int8",
    "short": "int16",
    "int": "int32",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
}
"""Other names of formats: Java's, mostly."""

FORMAT_NAMES = (
    "string",
    "json",
    "pretty",
    "hex",
    "base64",
    "raw",
    "int8",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
)


@dataclass(frozen=True, slots=True)
class Format:
    """How a key or a value is written down."""

    name: str
    encode: Callable[[bytes], bytes]
    encode_value: Callable[[object], bytes]
    decode: Callable[[bytes], object]
    show: Callable[[bytes], bytes]

    @property
    def takes_text_as_it_is(self) -> bool:
        """Whether `encode` changes and checks nothing."""
        return self.encode is _as_it_is


def format_of(name: str) -> Format:
    """The format of a name; ValueError for one that nobody knows."""
    name = ALIASES.get(name.lower(), name.lower())
    if name in _INTEGERS:
        return _integer(name)
    if name in _FLOATS:
        return _float(name)
    if name not in _FORMATS:
        raise ValueError(f"there is no format '{name}'; there are {', '.join(FORMAT_NAMES)}")
    return _FORMATS[name]


def dump_json(value: object) -> bytes:
    """Compact JSON in UTF-8."""
    return msgspec.json.encode(value)


def load_json(data: bytes | str) -> object:
    """A JSON document; ValueError says where it is none."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ")


def _as_it_is(data: bytes) -> bytes:
    return data


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"it has to be a string, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _string_of(value: object) -> bytes:
    return value.encode() if isinstance(value, str) else dump_json(value)


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start})") from None


def _checked_utf8(data: bytes) -> bytes:
    if not data.isascii():
        _utf8(data)
    return data


def _checked_json(data: bytes) -> bytes:
    load_json(data)
    return data.strip()


def _compact(data: bytes) -> bytes:
    return dump_json(load_json(data))


def _pretty(data: bytes) -> bytes:
    load_json(data)
    return msgspec.json.format(data, indent=2)


def _from_hex(text: str | bytes) -> bytes:
    written = text if isinstance(text, str) else _utf8(text)
    try:
        return bytes.fromhex(written.strip().removeprefix("0x"))
    except ValueError:
        raise ValueError(f"'{_short(written)}' is not hexadecimal") from None


def _from_base64(text: str | bytes) -> bytes:
    written = (text if isinstance(text, str) else _utf8(text)).strip()
    try:
        return base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"'{_short(written)}' is not base64") from None


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


_FORMATS = {
    "string": Format("string", _as_it_is, _string_of, _utf8, _checked_utf8),
    "raw": Format("raw", _as_it_is, _string_of, _utf8, _as_it_is),
    "json": Format("json", _checked_json, dump_json, load_json, _compact),
    "pretty": Format("pretty", _checked_json, dump_json, load_json, _pretty),
    "hex": Format("hex", _from_hex, lambda value: _from_hex(_text(value)), bytes.hex, lambda data: data.hex().encode()),
    "base64": Format(
        "base64",
        _from_base64,
        lambda value: _from_base64(_text(value)),
        lambda data: base64.b64encode(data).decode(),
        base64.b64encode,
    ),
}

_INTEGERS = {"int8": 1, "int16": 2, "int32": 4, "int64": 8}
_FLOATS = {"float32": ">f", "float64": ">d"}


def _integer(name: str) -> Format:
    size = _INTEGERS[name]

    def encode_value(value: object) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"it has to be an integer, not {_kind(value)}")
        try:
            return value.to_bytes(size, "big", signed=True)
        except OverflowError:
            raise ValueError(f"{value} does not fit into {size * 8} bits") from None

    def encode(data: bytes) -> bytes:
        try:
            number = int(data)
        except ValueError:
            raise ValueError(f"'{_short(data.decode(errors='replace'))}' is not an integer") from None
        return encode_value(number)

    def decode(data: bytes) -> int:
        if len(data) != size:
            raise ValueError(f"an {name} has {size} bytes, not {len(data)}")
        return int.from_bytes(data, "big", signed=True)

    return Format(name, encode, encode_value, decode, lambda data: b"%d" % decode(data))


def _float(name: str) -> Format:
    layout = struct.Struct(_FLOATS[name])

    def encode_value(value: object) -> bytes:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"it has to be a number, not {_kind(value)}")
        try:
            return layout.pack(value)
        except (OverflowError, struct.error):
            raise ValueError(f"{value} does not fit into a {name}") from None

    def encode(data: bytes) -> bytes:
        try:
            number = float(data)
        except ValueError:
            raise ValueError(f"'{_short(data.decode(errors='replace'))}' is not a number") from None
        return encode_value(number)

    def decode(data: bytes) -> float:
        if len(data) != layout.size:
            raise ValueError(f"a {name} has {layout.size} bytes, not {len(data)}")
        number: float = layout.unpack(data)[0]
        return number

    return Format(name, encode, encode_value, decode, lambda data: repr(decode(data)).encode())
