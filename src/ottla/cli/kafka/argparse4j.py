"""Options and sub-commands in the manner of argparse4j 0.7, the library of the rest of Kafka's command line tools.

    parser = ArgumentParser("kafka-cluster", description="…")
    commands = parser.add_subparsers(dest="command")
    one = commands.add_parser("cluster-id", help="…")
    one.add_argument("--bootstrap-server", "-b", help="…")
    values = parser.parse(arguments)           # {"command": "cluster-id", "bootstrap_server": …}

`parse` raises `ArgumentError`; `error.parser.report(error)` prints usage, message and near misses on standard error,
as the library does. `--help` prints and raises `HelpShown`, an `ArgumentError` too: exit codes differ.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TextIO

from ottla.cli.kafka.argparse4j_text import WIDTH, help_row, near_misses, wrap

MANY = 1 << 31


class ArgumentError(Exception):
    """The command line cannot be read; the text is argparse4j's."""

    def __init__(self, message: str, parser: ArgumentParser, argument: Argument | None = None) -> None:
        super().__init__(f"argument {argument.textual_name}: {message}" if argument else message)
        self.parser = parser
        self.unknown_option: str | None = None
        self.unknown_command: str | None = None


class HelpShown(ArgumentError):  # noqa: N818 - asked for, not wrong
    """`--help` was asked for, and printed."""


class Type(NamedTuple):
    """How a value is read: the Java class as messages name it, a function that raises `ValueError`, whose text (if
    any) is the reason in the message, and the word that stands for the value in the help ("": from the option)."""

    name: str
    convert: Callable[[str], Any]
    metavar: str = ""


def _whole(bits: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if re.fullmatch(r"[+-]?\d+", text):
            value = int(text)
            if -(1 << bits - 1) <= value < 1 << bits - 1:
                return value
            if bits == 32:
                raise ValueError(f'For input string: "{text}"')
        raise ValueError(f'For input string: "{text}"')

    return convert


def _real(text: str) -> float:
    try:
        return float(text.strip())
    except ValueError:
        raise ValueError(f'For input string: "{text}"' if text.strip() else "empty String") from None


STRING = Type("String", str)
INTEGER = Type("Integer", _whole(32))
LONG = Type("Long", _whole(64))
DOUBLE = Type("Double", _real)
BOOLEAN = Type("Boolean", lambda text: text.lower() == "true", "{true,false}")


@dataclass(eq=False)
class Argument:
    """An option (`flags`) or a positional argument (`name`)."""

    flags: tuple[str, ...]
    name: str
    dest: str
    help: str = ""
    action: str | Callable[[], None] = "store"
    """store, append, store_true, store_false, help, or a function that is called without arguments."""
    type: Type = STRING
    nargs: int | str | None = None
    default: Any = None
    const: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    metavar: tuple[str, ...] = ()
    hidden: bool = False
    group: Group | None = None

    @property
    def textual_name(self) -> str:
        return self.name or "/".join(self.flags)

    @property
    def consumes(self) -> bool:
        return self.action in ("store", "append")

    @property
    def least(self) -> int:
        """How many values it takes at least; -1: exactly one, which is no list."""
        return -1 if self.nargs is None else {"*": 0, "+": 1, "?": 0}.get(str(self.nargs), _number(self.nargs))

    @property
    def most(self) -> int:
        return -1 if self.nargs is None else {"*": MANY, "+": MANY, "?": 1}.get(str(self.nargs), _number(self.nargs))

    @property
    def single(self) -> bool:
        return self.least == -1 or (self.least, self.most) == (0, 1)

    def metavars(self) -> tuple[str, ...]:
        if self.metavar:
            return self.metavar
        if self.choices:
            return (f"{{{','.join(map(str, self.choices))}}}",)
        return (self.type.metavar or (self.dest if self.name else self.dest.upper()),)

    def value_syntax(self) -> str:
        if not self.consumes:
            return ""
        first, last = self.metavars()[0], self.metavars()[-1]
        second = self.metavars()[min(1, len(self.metavars()) - 1)]
        if (self.least, self.most) == (0, 1):
            return f"[{first}]"
        if self.most == MANY:
            return f"[{first} [{second} ...]]" if self.least == 0 else f"{first} [{second} ...]"
        if self.least == -1:
            return first
        return " ".join([*self.metavars(), *[last] * self.least][: self.least])

    def syntax(self, *, brackets: bool = True) -> str:
        if self.name:
            return self.value_syntax()
        text = f"{self.flags[0]} {self.value_syntax()}".rstrip()
        return f"[{text}]" if brackets and not self.required else text

    def help_title(self) -> str:
        if self.name:
            return self.metavars()[0]
        return ", ".join(f"{flag} {self.value_syntax()}".rstrip() for flag in self.flags)

    def convert(self, text: str, parser: ArgumentParser) -> Any:
        try:
            value = self.type.convert(text)
        except ValueError as error:
            reason = f" ({error})" if str(error) else ""
            raise ArgumentError(f"could not convert '{text}' to {self.type.name}{reason}", parser, self) from None
        if self.choices and value not in self.choices:
            raise ArgumentError(f"invalid choice: '{text}' (choose from {self.metavars_of_choices()})", parser, self)
        return value

    def metavars_of_choices(self) -> str:
        return f"{{{','.join(map(str, self.choices))}}}"


def _number(nargs: int | str | None) -> int:
    return int(nargs or 0) if isinstance(nargs, int) else 0


@dataclass(eq=False)
class Group:
    """Options with a heading of their own in the help, or options of which only one may be given (`exclusive`)."""

    parser: ArgumentParser
    title: str = ""
    description: str = ""
    exclusive: bool = False
    required: bool = False
    arguments: list[Argument] = field(default_factory=list)

    def add_argument(self, *flags: str, **named: Any) -> Argument:
        argument = self.parser.add_argument(*flags, group=self, **named)
        self.arguments.append(argument)
        return argument

    @property
    def shown_apart(self) -> bool:
        return not self.exclusive or bool(self.title) or bool(self.description)

    @property
    def shown(self) -> list[Argument]:
        return [argument for argument in self.arguments if not argument.hidden]

    def usage(self) -> list[str]:
        """The words of an exclusive group in the usage line."""
        if len(self.shown) == 1:
            return [self.shown[0].syntax(brackets=not self.required)]
        words = [word for argument in self.shown for word in ("|", argument.syntax(brackets=False))][1:]
        if words:
            opening, closing = "()" if self.required else "[]"
            words[0] = opening + words[0]
            words[-1] += closing
        return words


class Subparsers:
    """The sub-commands of a parser."""

    def __init__(self, main: ArgumentParser, dest: str, title: str, description: str, metavar: str, help: str) -> None:  # noqa: A002
        self._main = main
        self.dest, self.title, self.description, self._metavar, self._help = dest, title, description, metavar, help
        self.parsers: dict[str, ArgumentParser] = {}

    def add_parser(self, command: str, *, help: str = "", add_help: bool = True) -> ArgumentParser:  # noqa: A002
        parser = ArgumentParser(self._main.prog, add_help=add_help, command=command, main=self._main)
        parser.help = help
        self.parsers[command] = parser
        return parser

    @property
    def titled(self) -> bool:
        return bool(self.title or self.description)

    def syntax(self) -> str:
        return self._metavar or f"{{{','.join(self.parsers)}}}"

    def find(self, command: str) -> ArgumentParser:
        if command in self.parsers:
            return self.parsers[command]
        matches = sorted(known for known in self.parsers if command and known.startswith(command))
        if len(matches) == 1:
            return self.parsers[matches[0]]
        if matches:
            raise ArgumentError(f"ambiguous command: {command} could match {', '.join(matches)}", self._main)
        choices = ", ".join(f"'{known}'" for known in self.parsers)
        error = ArgumentError(f"invalid choice: '{command}' (choose from {choices})", self._main)
        error.unknown_command = command
        raise error

    def help_lines(self) -> Iterator[str]:
        yield help_row(self.syntax(), self._help)
        for command, parser in self.parsers.items():
            if parser.help:
                yield help_row(f"  {command}", parser.help)


class ArgumentParser:
    """A tool, or one of its sub-commands."""

    def __init__(
        self,
        prog: str,
        *,
        description: str = "",
        default_help: bool = False,
        add_help: bool = True,
        command: str = "",
        main: ArgumentParser | None = None,
    ) -> None:
        self.prog, self.description, self.command, self.main = prog, description, command, main
        self.default_help = default_help
        self.help = ""
        self.options: list[Argument] = []
        self.positionals: list[Argument] = []
        self.groups: list[Group] = []
        self.subparsers: Subparsers | None = None
        self.by_flag: dict[str, Argument] = {}
        self._defaults: dict[str, Any] = {}
        if add_help:
            self.add_argument("-h", "--help", action="help", help="show this help message and exit")

    def add_argument(
        self,
        *flags: str,
        help: str = "",  # noqa: A002
        action: str | Callable[[], None] = "store",
        type: Type = STRING,  # noqa: A002
        nargs: int | str | None = None,
        default: Any = None,
        const: Any = None,
        required: bool = False,
        choices: Sequence[Any] = (),
        metavar: str | Sequence[str] = (),
        dest: str = "",
        hidden: bool = False,
        group: Group | None = None,
    ) -> Argument:
        """Declare an option (`"-t", "--topic"`) or a positional argument (`"command"`)."""
        positional = not flags[0].startswith("-")
        first_long = next((flag for flag in flags if flag.startswith("--")), flags[0])
        if action in ("store_true", "store_false") and default is None:
            default = action == "store_false"
        argument = Argument(
            () if positional else flags,
            flags[0] if positional else "",
            dest or first_long.lstrip("-").replace("-", "_"),
            help, action, type, nargs, default, const, required, tuple(choices),
            (metavar,) if isinstance(metavar, str) else tuple(metavar), hidden, group,
        )  # fmt: skip
        if positional:
            self.positionals.append(argument)
        else:
            self.options.append(argument)
            self.by_flag.update(dict.fromkeys(flags, argument))
        return argument

    def add_argument_group(self, title: str = "", description: str = "") -> Group:
        self.groups.append(Group(self, title, description))
        return self.groups[-1]

    def add_mutually_exclusive_group(self, title: str = "", description: str = "", *, required: bool = False) -> Group:
        self.groups.append(Group(self, title, description, exclusive=True, required=required))
        return self.groups[-1]

    def add_subparsers(
        self,
        *,
        dest: str = "",
        title: str = "",
        description: str = "",
        metavar: str = "",
        help: str = "",  # noqa: A002
    ) -> Subparsers:
        self.subparsers = Subparsers(self, dest, title, description, metavar, help)
        return self.subparsers

    def set_defaults(self, **values: Any) -> None:
        self._defaults.update(values)

    def parse(self, arguments: Sequence[str]) -> dict[str, Any]:
        """The values by destination. Raises `ArgumentError`."""
        values: dict[str, Any] = {}
        from ottla.cli.kafka.argparse4j_parse import Parse

        deferred = Parse(self, list(arguments), 0, values).run()
        if deferred is not None:
            raise deferred
        return values

    def defaults(self) -> dict[str, Any]:
        values = {one.dest: one.default for one in (*self.positionals, *self.options) if one.action != "help"}
        return values | self._defaults

    def find_flag(self, flag: str) -> Argument | None:
        """The option of a flag or of the beginning of one. Raises `ArgumentError` when several begin so."""
        if flag in self.by_flag:
            return self.by_flag[flag]
        matches = sorted(known for known in self.by_flag if known.startswith(flag))
        if not matches:
            return None
        if self._is_cluster(flag):
            matches = sorted([*matches, flag[:2]])
        elif len(matches) == 1:
            return self.by_flag[matches[0]]
        raise ArgumentError(f"ambiguous option: {flag} could match {', '.join(matches)}", self)

    def _is_cluster(self, word: str) -> bool:
        if word.startswith("--"):
            return False
        for letter in word[1:]:
            argument = self.by_flag.get(f"-{letter}")
            if argument is None:
                return False
            if argument.consumes:
                return True
        return True

    # Help

    def format_usage(self) -> str:
        head = f"usage: {self.prog}"
        words = [*self._words_above(self.main), *([self.command] if self.command else [])]
        words += [
            one.syntax()
            for one in self.options
            if not one.hidden and not (one.group is not None and one.group.exclusive)
        ]
        words += [word for group in self.groups if group.exclusive for word in group.usage()]
        words += [one.syntax() for one in self.positionals if not one.hidden]
        if self.subparsers is not None and self.subparsers.parsers:
            words += [self.subparsers.syntax(), "..."]
        if len(head) > 30:
            text, indent, width, first = head + "\n" + " " * 6, " " * 6, 12, True
        else:
            text, indent, width, first = head, " " * len(head), len(head), True
        for word in words:
            if not first and width + len(word) + 1 > WIDTH:
                text += f"\n{indent} {word}"
                width = len(indent) + 1 + len(word)
            else:
                text += f" {word}"
                width += 1 + len(word)
                first = False
        return text + "\n"

    def _words_above(self, parser: ArgumentParser | None) -> list[str]:
        """What has to stand before a sub-command: the commands above it with what they require."""
        if parser is None:
            return []
        words = [*self._words_above(parser.main), *([parser.command] if parser.command else [])]
        words += [
            one.syntax()
            for one in parser.options
            if not one.hidden and one.required and not (one.group is not None and one.group.exclusive)
        ]
        words += [word for group in parser.groups if group.exclusive and group.required for word in group.usage()]
        return words + [one.syntax() for one in parser.positionals if not one.hidden]

    def format_help(self) -> str:
        blocks = [self.format_usage()]
        if self.description:
            blocks.append(wrap(self.description, WIDTH) + "\n")
        commands = self.subparsers if self.subparsers is not None and self.subparsers.parsers else None
        positionals = self._rows(self.positionals)
        if positionals or (commands is not None and not commands.titled):
            rows = [*positionals, *(commands.help_lines() if commands is not None and not commands.titled else ())]
            blocks.append("positional arguments:\n" + "".join(rows))
        if options := self._rows(self.options):
            blocks.append("optional arguments:\n" + "".join(options))
        if commands is not None and commands.titled:
            text = f"{commands.title or 'subcommands'}:\n"
            if commands.description:
                text += "  " + wrap(commands.description, WIDTH, 2, "  ") + "\n\n"
            blocks.append(text + "".join(commands.help_lines()))
        for group in self.groups:
            if group.shown_apart:
                text = f"{group.title}:\n" if group.title else ""
                if group.description:
                    text += "  " + wrap(group.description, WIDTH, 2, "  ") + "\n\n"
                blocks.append(text + "".join(self._rows(group.arguments, grouped=True)))
        return "\n".join(blocks)

    def _rows(self, arguments: Sequence[Argument], *, grouped: bool = False) -> list[str]:
        rows = []
        for argument in arguments:
            if argument.hidden or (not grouped and argument.group is not None and argument.group.shown_apart):
                continue
            text = argument.help
            if self.default_help and argument.default is not None:
                default = str(argument.default).lower() if isinstance(argument.default, bool) else argument.default
                text = f"{text} (default: {default})".lstrip()
            rows.append(help_row(argument.help_title(), text))
        return rows

    def print_help(self, file: TextIO | None = None) -> None:
        print(self.format_help(), end="", file=file or sys.stdout)

    def report(self, error: ArgumentError) -> None:
        """Print what is wrong on standard error, as the library does; nothing after `--help`."""
        parser = error.parser
        if isinstance(error, HelpShown):
            return
        text = parser.format_usage() + wrap(f"{parser.prog}: error: {error}\n", WIDTH)
        if error.unknown_option is not None and len(body := error.unknown_option.lstrip("-")) >= 2:
            names = [(flag, flag.lstrip("-")) for one in parser.options for flag in one.flags]
            text += near_misses(body, [(flag, name) for flag, name in names if len(name) > 1])
        elif error.unknown_command is not None and parser.subparsers is not None:
            text += near_misses(error.unknown_command, [(name, name) for name in parser.subparsers.parsers])
        print(text, end="", file=sys.stderr)
