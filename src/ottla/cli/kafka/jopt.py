"""Options in the manner of jopt-simple, the library of most of Kafka's command line tools.

`--option value`, `--option=value` and `-option value` are the same; an option may be given several times; what is no
option is kept apart. Values are converted when they are asked for, as there: who never looks at a wrong number never
hears of it. Messages of errors are the library's own, because scripts look for them; the help has its layout.

    parser = OptionParser()
    topic = parser.accepts("topic", "The topic.", described_as="topic")
    partitions = parser.accepts("partitions", "How many.", type=INTEGER, described_as="# of partitions")
    options = parser.parse(["--topic", "orders"])
    options.value(topic), options.has(partitions)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ottla.cli.kafka.layout import pieces

WIDTH = 80
_SEPARATION = 2
_INDENT = 2


class OptionError(Exception):
    """The command line cannot be read; the text is jopt-simple's, and `kind` the name of its exception."""

    def __init__(self, message: str, kind: str = "OptionArgumentConversionException") -> None:
        super().__init__(message)
        self.kind = kind


class Type(NamedTuple):
    """How an argument is read: the name of its Java class, as the help has it, and a function that raises
    `ValueError`."""

    name: str
    convert: Callable[[str], Any]
    number: bool = False


def _whole(bits: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text) or not -(1 << bits - 1) <= (value := int(text)) < 1 << bits - 1:
            raise ValueError(text)
        return value

    return convert


def _real(text: str) -> float:
    if "_" in text:
        raise ValueError(text)
    return float(text)


STRING = Type("String", str)
INTEGER = Type("Integer", _whole(32), number=True)
LONG = Type("Long", _whole(64), number=True)
DOUBLE = Type("Double", _real, number=True)
BOOLEAN = Type("Boolean", lambda text: text.lower() == "true")


def one_of(*names: str) -> Type:
    """A type of an enumeration: its names in any case, converted to the name as it is given here."""

    def convert(text: str) -> str:
        for name in names:
            if name.lower() == text.lower():
                return name
        raise ValueError(text)

    return Type(f"[{','.join(names)}]", convert)


def matching(pattern: str) -> Type:
    """A text that a regular expression matches as a whole."""

    def convert(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return Type(pattern, convert)


Takes = Literal["nothing", "required", "optional"]


@dataclass(eq=False)
class Option:
    """One option; `str()` of it is how Kafka's messages name it, e.g. `[topic]`."""

    names: tuple[str, ...]
    description: str = ""
    takes: Takes = "nothing"
    type: Type = STRING
    described_as: str = ""
    separator: str = ""
    defaults: tuple[Any, ...] = ()
    required: bool = False
    for_help: bool = False
    required_if: list[Option] = field(default_factory=list)
    """It has to be given when one of these is."""
    required_unless: list[Option] = field(default_factory=list)
    available_if: list[Option] = field(default_factory=list)
    """It may only be given when one of these is."""
    available_unless: list[Option] = field(default_factory=list)

    def __str__(self) -> str:
        return f"[{', '.join(self.names)}]"

    @property
    def slashed(self) -> str:
        return "/".join(self.names)

    def split(self, text: str) -> list[str]:
        if not self.separator:
            return [text]
        return [part for part in re.split(f"[{re.escape(self.separator)}]", text) if part] or [text]

    def convert(self, text: str) -> Any:
        try:
            return self.type.convert(text)
        except ValueError:
            raise OptionError(f"Cannot parse argument '{text}' of option {self.slashed}") from None

    def can_convert(self, text: str) -> bool:
        try:
            for part in self.split(text):
                self.type.convert(part)
        except ValueError:
            return False
        return True


class OptionSet:
    """What was on the command line. `arguments` are the words that belong to no option."""

    def __init__(self) -> None:
        self._given: dict[Option, list[str]] = {}
        self.arguments: list[str] = []
        self.occurrences: list[Option] = []
        """An option for each of its values, in the order in which they were given."""

    @property
    def given(self) -> list[Option]:
        """The options that were given, in this order."""
        return list(self._given)

    def has(self, option: Option) -> bool:
        return option in self._given

    def has_any(self, options: Iterable[Option]) -> bool:
        return any(option in self._given for option in options)

    def has_argument(self, option: Option) -> bool:
        return bool(self._given.get(option))

    def values(self, option: Option) -> list[Any]:
        """All values, or the defaults. Raises `OptionError` for one that cannot be converted."""
        given = self._given.get(option)
        return [option.convert(text) for text in given] if given else list(option.defaults)

    def value(self, option: Option) -> Any:
        """The only value, or the default, or None. Raises `OptionError` for several values."""
        values = self.values(option)
        if len(values) > 1:
            raise OptionError(
                f"Found multiple arguments for option {option.slashed}, but you asked for only one",
                "MultipleArgumentsForOptionException",
            )
        return values[0] if values else None

    def add(self, option: Option, text: str | None = None) -> None:
        values = self._given.setdefault(option, [])
        parts = [] if text is None else option.split(text)
        values.extend(parts)
        self.occurrences += [option] * (len(parts) or 1)


class OptionParser:
    """Knows the options of a tool. `abbreviations`: whether an unambiguous beginning of a long option will do."""

    def __init__(self, *, abbreviations: bool = False) -> None:
        self._abbreviations = abbreviations
        self._options: dict[str, Option] = {}

    def accepts(
        self,
        names: str | Sequence[str],
        description: str = "",
        *,
        takes: Takes | None = None,
        type: Type = STRING,  # noqa: A002
        described_as: str = "",
        separator: str = "",
        defaults: Sequence[Any] = (),
        required: bool = False,
        for_help: bool = False,
    ) -> Option:
        """Declare an option. `takes` is "required" when a type, a description of the argument or defaults are given.

        `separator`: the characters that separate several values in one argument. `for_help`: with it on the command
        line, required options may be missing.
        """
        listed = (names,) if isinstance(names, str) else tuple(sorted(names, key=lambda name: (len(name) > 1, name)))
        if takes is None:
            takes = "required" if described_as or defaults or separator or type is not STRING else "nothing"
        option = Option(listed, description, takes, type, described_as, separator, tuple(defaults), required, for_help)
        self._options.update(dict.fromkeys(listed, option))
        return option

    @property
    def options(self) -> list[Option]:
        """Each option once, sorted by its first name."""
        return sorted(dict.fromkeys(self._options.values()), key=lambda option: option.names[0])

    # Parsing

    def parse(self, arguments: Sequence[str]) -> OptionSet:
        """Raises `OptionError`."""
        found = OptionSet()
        rest = list(arguments)[::-1]
        while rest:
            word = rest.pop()
            if word == "--":
                found.arguments.extend(reversed(rest))
                break
            if word.startswith("--"):
                self._long(word[2:], rest, found)
            elif word.startswith("-") and word != "-":
                self._short(word[1:], rest, found)
            else:
                found.arguments.append(word)
        self._check(found)
        return found

    def _find(self, name: str) -> Option | None:
        option = self._options.get(name)
        if option is None and self._abbreviations and name:
            matches = {one for known, one in self._options.items() if known.startswith(name)}
            names = [known for known in self._options if known.startswith(name)]
            option = matches.pop() if len(names) == 1 else None
        return option

    def _long(self, word: str, rest: list[str], found: OptionSet) -> None:
        name, equals, value = word.partition("=")
        option = self._find(name)
        if option is None:
            raise OptionError(f"{name} is not a recognized option", "UnrecognizedOptionException")
        self._take(option, value if equals else None, rest, found)

    def _short(self, word: str, rest: list[str], found: OptionSet) -> None:
        name, equals, value = word.partition("=")
        option = self._find(name)
        if option is not None:
            self._take(option, value if equals else None, rest, found)
            return
        cluster = []
        for position, letter in enumerate(word):
            option = self._find(letter)
            if option is None:
                raise OptionError(f"{letter} is not a recognized option", "UnrecognizedOptionException")
            attached = word[position + 1 :] if option.takes != "nothing" else ""
            cluster.append((option, attached or None))
            if option.takes != "nothing":
                break
        for option, argument in cluster:
            self._take(option, argument, rest, found)

    def _take(self, option: Option, argument: str | None, rest: list[str], found: OptionSet) -> None:
        if option.takes == "nothing":
            found.add(option)
        elif argument is not None:
            found.add(option, argument)
        elif option.takes == "required":
            if not rest:
                raise OptionError(
                    f"Option {option.slashed} requires an argument", "OptionMissingRequiredArgumentException"
                )
            found.add(option, rest.pop())
        else:
            follows = rest[-1] if rest else "--"
            looks_like_option = follows.startswith("-") and follows not in ("-", "--")
            wanted = option.type.number if looks_like_option else bool(rest)
            found.add(option, rest.pop() if wanted and option.can_convert(follows) else None)

    def _check(self, found: OptionSet) -> None:
        if any(option.for_help and found.has(option) for option in self.options):
            return
        missing = [option for option in self.options if not found.has(option) and _needed(option, found)]
        if missing:
            raise OptionError(f"Missing required option(s) {_slashed(missing)}", "MissingRequiredOptionsException")
        forbidden = [option for option in self.options if found.has(option) and _forbidden(option, found)]
        if forbidden:
            raise OptionError(
                f"Option(s) {_slashed(forbidden)} are unavailable given other options on the command line",
                "UnavailableOptionException",
            )

    # Help

    def format_help(self) -> str:
        """The table of all options, as `printHelpOn` writes it."""
        star = any(option.required for option in self.options)
        rows = [("Option (* = required)", "Description") if star else ("Option", "Description")]
        rows.append(("-" * len(rows[0][0]), "-----------"))
        rows += [(_left(option), _right(option)) for option in self.options]
        left_width = min((WIDTH - _SEPARATION) // 2, max(len(left) for left, _ in rows))
        right_width = min(WIDTH - left_width - _SEPARATION, max(len(right) for _, right in rows))
        fitted = [line for row in rows for line in _fit(row, left_width, right_width)]
        left_width = min((WIDTH - _SEPARATION) // 2, max(len(left) for left, _ in fitted))
        right_width = min(WIDTH - left_width - _SEPARATION, max(len(right) for _, right in fitted))
        return "".join(f"{left:<{left_width}}  {right:<{right_width}}\n" for left, right in fitted)


def _slashed(options: Iterable[Option]) -> str:
    return f"[{', '.join(dict.fromkeys(option.slashed for option in options))}]"


def _needed(option: Option, found: OptionSet) -> bool:
    return (
        option.required
        or found.has_any(option.required_if)
        or (bool(option.required_unless) and not found.has_any(option.required_unless))
    )


def _forbidden(option: Option, found: OptionSet) -> bool:
    return (bool(option.available_if) and not found.has_any(option.available_if)) or found.has_any(
        option.available_unless
    )


def _left(option: Option) -> str:
    names = ", ".join(f"-{name}" if len(name) == 1 else f"--{name}" for name in option.names)
    text = f"* {names}" if option.required else names
    if option.takes == "nothing":
        return text
    inner = f"{option.type.name}: {option.described_as}" if option.described_as else option.type.name
    return f"{text} <{inner}>" if option.takes == "required" else f"{text} [{inner}]"


def _right(option: Option) -> str:
    if not option.defaults:
        return option.description
    shown = [_java_text(value) for value in option.defaults]
    default = shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
    return f"{option.description} (default: {default})".strip()


def _java_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _fit(row: tuple[str, str], left_width: int, right_width: int) -> Iterator[tuple[str, str]]:
    left, right = list(_wrapped(row[0], left_width)), list(_wrapped(row[1], right_width))
    for number in range(max(len(left), len(right))):
        yield left[number] if number < len(left) else "", right[number] if number < len(right) else ""


def _wrapped(text: str, width: int) -> Iterator[str]:
    for line in text.strip().split("\n"):
        current = ""
        for piece in pieces(line):
            if len(current) + len(piece) > width:
                yield current.rstrip()
                current = " " * _INDENT + piece
            else:
                current += piece
        if current:
            yield current
