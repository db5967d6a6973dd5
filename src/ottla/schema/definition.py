"""A setting: its name, type, default, validation, and how its text is read and written.

Kafka describes its settings with a `ConfigDef`; this is the same idea, kept small. A `SettingTable` is a text with
one setting a line (the source of truth, readable as a reference page) of which a line is parsed when its setting is
first looked up, so that importing a table of four hundred settings costs well under a millisecond.

Value types: boolean → `bool`; short, int, long → `int`; double → `float`; string, class → `str`; list → `list[str]`;
password → `Password`. `None` stands for Kafka's null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any, Literal

from ottla.schema.validators import Validator, validator_from_text

DynamicMode = Literal["read-only", "per-broker", "cluster-wide"]
"""How a broker setting may change at run time; a cluster-wide one may also be set for a single broker."""

Importance = Literal["high", "medium", "low"]

_WHITESPACE = "".join(map(chr, range(33)))
"""What Java's `String.trim` removes: everything up to and including the space."""


class SettingType(IntEnum):
    """The types, with the codes that DescribeConfigs (v3 and later, KIP-569) gives them."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9

    @property
    def is_integer(self) -> bool:
        return self in _INTEGER_BITS


_INTEGER_BITS = {SettingType.SHORT: 16, SettingType.INT: 32, SettingType.LONG: 64}


class Password:
    """A secret; its text never shows in a log, a traceback or an answer."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Password) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return "[hidden]"


Value = bool | int | float | str | list[str] | Password | None


class SettingError(Exception):
    """A setting that cannot be accepted; `str()` is one complete line.

    `reason` says what is wrong without naming the origin (what Kafka would answer to a client); `origin` names where
    the value came from: `server.properties:12`, `--set`, `KAFKA_LOG_DIRS`.
    """

    def __init__(self, name: str, reason: str, *, origin: str | None = None, suggestion: str | None = None) -> None:
        self.name = name
        self.reason = reason
        self.origin = origin
        self.suggestion = suggestion
        line = reason if origin is None else f"{origin}: {reason}"
        if suggestion is not None:
            line += f"; did you mean {suggestion}?"
        super().__init__(" ".join(line.split()))

    def at(self, origin: str) -> SettingError:
        """The same error, with the place it came from."""
        return SettingError(self.name, self.reason, origin=origin, suggestion=self.suggestion)


class Setting:
    """One setting of one table. `default` is typed; `required` ones have no default."""

    __slots__ = ("default", "dynamic", "importance", "internal", "name", "required", "synonyms", "type", "validator")

    def __init__(
        self,
        name: str,
        type: SettingType,  # noqa: A002 (Kafka's word)
        default: Value,
        validator: Validator | None = None,
        *,
        importance: Importance = "medium",
        required: bool = False,
        internal: bool = False,
        dynamic: DynamicMode = "read-only",
        synonyms: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.type = type
        self.default = default
        self.validator = validator
        self.importance = importance
        self.required = required
        self.internal = internal
        self.dynamic = dynamic
        self.synonyms = synonyms

    @property
    def is_sensitive(self) -> bool:
        """Whether DescribeConfigs must never give the value away."""
        return self.type is SettingType.PASSWORD

    @property
    def documentation(self) -> str | None:
        """What it does, in a sentence, where we have one."""
        from ottla.schema.descriptions import DESCRIPTIONS

        return DESCRIPTIONS.get(self.name)

    def parse(self, text: str) -> Value:
        """The typed, validated value of a text; raises `SettingError`."""
        return parse_value(self, text)

    def __repr__(self) -> str:
        return f"Setting({self.name!r}, {self.type.name})"


class SettingTable(Mapping[str, Setting]):
    """Settings by name, from a text of lines `name type importance[,internal] dynamic default [validator]`.

    Tables other than the broker's have no `dynamic` column. Defaults: `null`, `required`, `""` for the empty string,
    `[]` for the empty list; lists are comma-separated. A trailing `<- a, b` names the broker settings that stand in
    for it, first one first.
    """

    __slots__ = ("_has_dynamic", "_lines", "_settings")

    def __init__(self, text: str, *, has_dynamic: bool = False) -> None:
        self._has_dynamic = has_dynamic
        self._lines = {line.split(None, 1)[0]: line for line in text.split("\n") if line}
        self._settings: dict[str, Setting] = {}

    def __getitem__(self, name: str) -> Setting:
        setting = self._settings.get(name)
        if setting is None:
            setting = self._settings[name] = _parse_line(self._lines[name], self._has_dynamic)
        return setting

    def __contains__(self, name: object) -> bool:
        return name in self._lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def _parse_line(line: str, has_dynamic: bool) -> Setting:
    line, _, synonyms = line.partition(" <- ")
    name, type_name, importance, *rest = line.split(None, 3 + has_dynamic)
    dynamic = "cluster-wide"
    if has_dynamic:
        dynamic, *rest = rest
    default_text, *rest = rest[0].split(None, 1)
    importance, _, internal = importance.partition(",")
    setting_type = SettingType[type_name.upper()]
    validator = validator_from_text(rest[0].rstrip()) if rest else None
    setting = Setting(
        name,
        setting_type,
        None,
        validator,
        importance=importance,  # type: ignore[arg-type]
        required=default_text == "required",
        internal=bool(internal),
        dynamic=dynamic,  # type: ignore[arg-type]
        synonyms=tuple(synonyms.split(", ")) if synonyms else (),
    )
    if default_text == '""':
        setting.default = ""
    elif default_text == "[]":
        setting.default = []
    elif default_text not in ("null", "required"):
        setting.default = convert(setting_type, default_text)
    return setting


def parse_value(setting: Setting, text: str) -> Value:
    """Read `text` as Kafka does (trimmed, then by type) and validate it.

    Raises `SettingError` with Kafka's wording, e.g. `Invalid value x for configuration num.partitions: Not a number
    of type INT`.
    """
    try:
        value = convert(setting.type, text)
    except ValueError as error:
        raise invalid_value(setting, text, str(error)) from None
    if setting.type is SettingType.LIST:
        if "" in value:
            raise SettingError(setting.name, f"Configuration '{setting.name}' values must not be empty.")
        value = list(dict.fromkeys(value))
    if setting.validator is not None:
        reason = setting.validator.check(value)
        if reason is not None:
            raise invalid_value(setting, format_value(setting.type, value), reason)
    return value  # type: ignore[no-any-return]


def invalid_value(setting: Setting, text: str | None, reason: str) -> SettingError:
    """The error for a value of `setting`, in Kafka's words, without the value when it is a secret."""
    shown = "[hidden]" if setting.is_sensitive else text
    return SettingError(setting.name, f"Invalid value {shown} for configuration {setting.name}: {reason}")


def convert(setting_type: SettingType, text: str) -> Any:
    """The typed value of a text, unvalidated; raises `ValueError` with Kafka's reason."""
    trimmed = text.strip(_WHITESPACE)
    if setting_type in (SettingType.STRING, SettingType.CLASS):
        return trimmed
    bits = _INTEGER_BITS.get(setting_type)
    if bits is not None:
        digits = trimmed[1:] if trimmed[:1] in ("+", "-") else trimmed
        if not digits.isdecimal() or len(digits) > 40 or not -(1 << bits - 1) <= int(trimmed) < 1 << bits - 1:
            raise ValueError(f"Not a number of type {setting_type.name}")
        return int(trimmed)
    if setting_type is SettingType.BOOLEAN:
        lower = trimmed.lower()
        if lower not in ("true", "false"):
            raise ValueError("Expected value to be either true or false")
        return lower == "true"
    if setting_type is SettingType.LIST:
        return [item.strip() for item in trimmed.split(",")] if trimmed else []
    if setting_type is SettingType.DOUBLE:
        return _parse_double(trimmed)
    return Password(trimmed)


def _parse_double(trimmed: str) -> float:
    digits = trimmed[:-1] if trimmed[-1:] in tuple("dDfF") else trimmed
    special = {"NaN": "nan", "Infinity": "inf", "+Infinity": "inf", "-Infinity": "-inf"}.get(trimmed)
    if special is not None:
        return float(special)
    try:
        if not digits or set(digits) - set("0123456789+-.eE"):
            raise ValueError
        return float(digits)
    except ValueError:
        raise ValueError("Not a number of type DOUBLE") from None


def format_value(setting_type: SettingType, value: Value) -> str | None:
    """A typed value as the text that Kafka gives (DescribeConfigs, metadata records)."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(value)
    if setting_type is SettingType.DOUBLE and isinstance(value, (int, float)):
        return _java_double(float(value))
    return str(value)


def _java_double(value: float) -> str:
    """A double as Java writes it: `0.5`, `2.147483647E9`, `1.0E-4`."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    magnitude = abs(value)
    if magnitude == 0 or 1e-3 <= magnitude < 1e7:
        return repr(value)
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    power = int(exponent or 0) + len(whole) - 1
    digits = whole + (fraction if fraction != "0" else "")
    stripped = digits.lstrip("0")
    power -= len(digits) - len(stripped)
    stripped = stripped.rstrip("0")
    return f"{sign}{stripped[0]}.{stripped[1:] or '0'}E{power}"


def nearest(name: str, candidates: Mapping[str, object] | set[str] | list[str]) -> str | None:
    """The candidate that `name` was most probably meant to be, if one is near."""
    # difflib costs some milliseconds to import, and only a mistake needs it.
    from difflib import get_close_matches

    lower = name.lower().replace("_", ".")
    found = get_close_matches(lower, list(candidates), n=1, cutoff=0.75)
    return found[0] if found else None
