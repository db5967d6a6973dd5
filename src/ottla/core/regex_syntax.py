"""The syntax of RE2's regular expressions, read into a tree. Anything else is refused with a reason.

Read: literals, ``.``, classes with ranges, names (``[[:alpha:]]``), Perl (``\\d``) and Unicode (``\\pL``) classes,
groups of all kinds, flags ``imsU``, alternation, repetition, assertions, ``\\Q…\\E``. Greediness is read and forgotten:
it changes what a group holds, not whether a whole text matches.
"""

from __future__ import annotations

import string
from enum import Enum, auto
from typing import Final, NamedTuple
from unicodedata import category

MAX_REPETITIONS: Final = 1_000
MAX_DEPTH: Final = 200

#: All characters; bit 128 stands for whatever is not ASCII.
ANY: Final = (1 << 129) - 1


class RegexError(ValueError):
    """The expression is none of RE2's."""


class AssertionKind(Enum):
    """What has to hold between two characters."""

    BEGIN = auto()
    END = auto()
    WORD_BOUNDARY = auto()
    NO_WORD_BOUNDARY = auto()


class Characters(NamedTuple):
    """One of these characters, a bit per code."""

    characters: int


class Assertion(NamedTuple):
    """No character, but a place."""

    kind: AssertionKind


class Sequence(NamedTuple):
    """One after the other."""

    parts: tuple[Node, ...]


class Alternation(NamedTuple):
    """One of them."""

    choices: tuple[Node, ...]


class Repetition(NamedTuple):
    """The same between ``least`` and ``most`` times; any number from ``least`` on when there is no ``most``."""

    part: Node
    least: int
    most: int | None


Node = Characters | Assertion | Sequence | Alternation | Repetition


def parse(pattern: str) -> Node:
    """The tree of an expression; RegexError."""
    parser = _Parser(pattern)
    node = parser.alternation(_Flags(), 0)
    if parser.rest:
        raise RegexError("unexpected )")
    return node


def _set(characters: str) -> int:
    return sum(1 << ord(character) for character in set(characters))


_NEWLINE: Final = 1 << ord("\n")
_DIGITS: Final = _set(string.digits)
_SPACES: Final = _set("\t\n\f\r ")
_WORD: Final = _set(string.ascii_letters + string.digits + "_")
_PERL: Final[dict[str, int]] = {"d": _DIGITS, "s": _SPACES, "w": _WORD}
_NAMED: Final[dict[str, int]] = {
    "alnum": _set(string.ascii_letters + string.digits),
    "alpha": _set(string.ascii_letters),
    "ascii": (1 << 128) - 1,
    "blank": _set("\t "),
    "cntrl": sum(1 << code for code in (*range(32), 127)),
    "digit": _DIGITS,
    "graph": sum(1 << code for code in range(33, 127)),
    "lower": _set(string.ascii_lowercase),
    "print": sum(1 << code for code in range(32, 127)),
    "punct": _set(string.punctuation),
    "space": _set(string.whitespace),
    "upper": _set(string.ascii_uppercase),
    "word": _WORD,
    "xdigit": _set(string.hexdigits),
}
_CATEGORIES: Final = (
    " C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs "
)
#: Scripts by their Unicode names; in ASCII there are two.
_SCRIPTS: Final = (
    " Arabic Armenian Bengali Bopomofo Braille Canadian_Aboriginal Cherokee Common Coptic Cyrillic Devanagari Ethiopic "
    "Georgian Gothic Greek Gujarati Gurmukhi Han Hangul Hebrew Hiragana Inherited Kannada Katakana Khmer Lao Latin "
    "Malayalam Mongolian Myanmar Ogham Oriya Runic Sinhala Syriac Tamil Telugu Thaana Thai Tibetan Yi "
)
_ESCAPES: Final = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ASSERTIONS: Final = {
    "A": AssertionKind.BEGIN,
    "z": AssertionKind.END,
    "b": AssertionKind.WORD_BOUNDARY,
    "B": AssertionKind.NO_WORD_BOUNDARY,
}


class _Flags(NamedTuple):
    ignore_case: bool = False
    dot_takes_newline: bool = False


class _Parser:
    """A cursor over the pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._position = 0
        self._names: set[str] = set()

    @property
    def rest(self) -> str:
        return self._pattern[self._position :]

    def _peek(self, text: str) -> bool:
        return self._pattern.startswith(text, self._position)

    def _skip(self, text: str) -> bool:
        found = self._peek(text)
        self._position += len(text) * found
        return found

    def _take(self) -> str:
        if self._position >= len(self._pattern):
            raise RegexError("the expression ends too early")
        self._position += 1
        return self._pattern[self._position - 1]

    def _until(self, end: str, what: str) -> str:
        stop = self._pattern.find(end, self._position)
        if stop < 0:
            raise RegexError(f"{what} does not end")
        found = self._pattern[self._position : stop]
        self._position = stop + len(end)
        return found

    # -- structure

    def alternation(self, flags: _Flags, depth: int) -> Node:
        """Everything up to the end, or to the parenthesis that closes."""
        if depth > MAX_DEPTH:
            raise RegexError("too many parentheses within one another")
        choices: list[Node] = []
        parts: list[Node] = []
        may_repeat = False
        while self._position < len(self._pattern) and not self._peek(")"):
            if self._skip("|"):
                choices.append(Sequence(tuple(parts)))
                parts, may_repeat = [], False
            elif self._skip("\\Q"):
                end = self._pattern.find("\\E", self._position)
                literal = self.rest if end < 0 else self._until("\\E", "\\Q")
                self._position = len(self._pattern) if end < 0 else self._position
                parts += [_literal(character, flags) for character in literal]
                may_repeat = bool(parts)
            elif (bounds := self._repetition()) is not None:
                if not may_repeat:
                    raise RegexError("there is nothing to repeat")
                parts[-1] = Repetition(parts[-1], *bounds)
                if self._repetition() is not None:
                    raise RegexError("a repetition of a repetition")
            elif self._skip("("):
                node, flags = self._group(flags, depth)
                if node is not None:
                    parts.append(node)
                may_repeat = node is not None or may_repeat
            else:
                parts.append(self._atom(flags))
                may_repeat = True
        choices.append(Sequence(tuple(parts)))
        return choices[0] if len(choices) == 1 else Alternation(tuple(choices))

    def _repetition(self) -> tuple[int, int | None] | None:
        """``*``, ``+``, ``?`` or ``{n,m}`` with the question mark of the reluctant; None when there is none."""
        bounds: tuple[int, int | None] | None = None
        if self._skip("*"):
            bounds = 0, None
        elif self._skip("+"):
            bounds = 1, None
        elif self._skip("?"):
            bounds = 0, 1
        elif self._peek("{"):
            bounds = self._counts()
        if bounds is not None:
            self._skip("?")
        return bounds

    def _counts(self) -> tuple[int, int | None] | None:
        """``{n}``, ``{n,}`` or ``{n,m}``; anything else in braces is plain text."""
        end = self._pattern.find("}", self._position)
        least_text, comma, most_text = self._pattern[self._position + 1 : max(end, 0)].partition(",")
        if not _is_number(least_text) or (most_text and not _is_number(most_text)):
            return None
        least = int(least_text[:5])
        most = least if not comma else int(most_text[:5]) if most_text else None
        if least > MAX_REPETITIONS or (most is not None and (most > MAX_REPETITIONS or most < least)):
            raise RegexError(f"{self._pattern[self._position : end + 1]} is no number of repetitions")
        self._position = end + 1
        return least, most

    def _group(self, flags: _Flags, depth: int) -> tuple[Node | None, _Flags]:
        """What follows a parenthesis: a group, or (without a node) flags for the rest of the group around."""
        inner = flags
        if self._skip("?P<") or (self._peek("?<") and not self._peek("?<=") and not self._peek("?<!")):
            self._skip("?<")
            name = self._until(">", "the name of a group")
            if not name or not all(character in string.ascii_letters + string.digits + "_" for character in name):
                raise RegexError(f"{name!r} is no name of a group")
            if name in self._names:
                raise RegexError(f"two groups are named {name}")
            self._names.add(name)
        elif self._skip("?"):
            inner, closes = self._flags(flags)
            if closes:
                return None, inner
        node = self.alternation(inner, depth + 1)
        if not self._skip(")"):
            raise RegexError("missing )")
        return node, flags

    def _flags(self, flags: _Flags) -> tuple[_Flags, bool]:
        """``i-s:`` and the like; whether they end with a parenthesis."""
        value, seen = True, False
        while True:
            flag = self._take()
            if flag == "-" and value:
                value, seen = False, False
            elif flag == "i":
                flags, seen = flags._replace(ignore_case=value), True
            elif flag == "s":
                flags, seen = flags._replace(dot_takes_newline=value), True
            elif flag in "mU":
                # Lines: a name has one. Greediness: see above.
                seen = True
            elif flag in ":)" and (seen or value):
                return flags, flag == ")"
            else:
                raise RegexError(f"(?{flag} is not supported")

    # -- single characters

    def _atom(self, flags: _Flags) -> Node:
        character = self._take()
        if character == ".":
            return Characters(ANY if flags.dot_takes_newline else ANY & ~_NEWLINE)
        if character == "^":
            return Assertion(AssertionKind.BEGIN)
        if character == "$":
            return Assertion(AssertionKind.END)
        if character == "[":
            return Characters(self._class(flags))
        if character == "\\":
            if self.rest[:1] and self.rest[0] in _ASSERTIONS:
                return Assertion(_ASSERTIONS[self._take()])
            found = self._class_escape(flags)
            return Characters(found) if found is not None else _literal(self._escape(), flags)
        return _literal(character, flags)

    def _class_escape(self, flags: _Flags) -> int | None:
        """The set of ``\\d``, ``\\pL`` and their opposites; None when it is another escape. The backslash is read."""
        name = self.rest[:1]
        if name and name in "dswDSW":
            self._take()
            found = _PERL[name.lower()]
            return found if name.islower() else ANY & ~found
        if name and name in "pP":
            self._take()
            negated = name == "P"
            text = self._take()
            if text == "{":
                text = self._until("}", "the name of a class")
                if text.startswith("^"):
                    text, negated = text[1:], not negated
            found = _unicode_class(text)
            if flags.ignore_case:
                found = _any_case(found)
            return ANY & ~found if negated else found
        return None

    def _escape(self) -> str:
        """The character that an escape stands for; the backslash is read."""
        character = self._take()
        if character in _ESCAPES:
            return _ESCAPES[character]
        if character == "x":
            return self._hexadecimal()
        if character in "01234567":
            digits = character
            while len(digits) < 3 and self.rest[:1] and self.rest[0] in "01234567":
                digits += self._take()
            if digits == character and character != "0":
                raise RegexError(f"\\{character}: references are not supported")
            return chr(int(digits, 8))
        if character.isascii() and not character.isalnum():
            return character
        raise RegexError(f"\\{character} is no escape")

    def _hexadecimal(self) -> str:
        digits = self._until("}", "\\x{") if self._skip("{") else self._take() + self._take()
        if not digits or not all(digit in string.hexdigits for digit in digits) or int(digits, 16) > 0x10FFFF:
            raise RegexError(f"\\x{{{digits}}} is no character")
        return chr(int(digits, 16))

    def _class(self, flags: _Flags) -> int:
        negated = self._skip("^")
        found = 0
        is_first = True
        while is_first or not self._peek("]"):
            is_first = False
            if self._skip("[:"):
                name = self._until(":]", "the name of a class")
                known = _NAMED.get(name.removeprefix("^"))
                if known is None:
                    raise RegexError(f"[:{name}:] is no class")
                found |= ANY & ~known if name.startswith("^") else known
                continue
            if self._skip("\\"):
                escaped = self._class_escape(flags)
                if escaped is not None:
                    found |= escaped
                    continue
                low = self._escape()
            else:
                low = self._take()
            high = low
            if self._peek("-") and not self._peek("-]"):
                self._take()
                high = self._take()
                if high == "\\":
                    if self._class_escape(flags) is not None:
                        raise RegexError("a range ends with a class")
                    high = self._escape()
                if high < low:
                    raise RegexError(f"{low}-{high} is no range")
            found |= sum(1 << code for code in range(ord(low), min(ord(high), 127) + 1))
        self._take()
        if flags.ignore_case:
            found = _any_case(found)
        return ANY & ~found if negated else found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _literal(character: str, flags: _Flags) -> Characters:
    code = ord(character)
    found = 1 << code if code < 128 else 0
    return Characters(_any_case(found) if flags.ignore_case else found)


def _any_case(characters: int) -> int:
    """The set with both cases of its letters."""
    lower: int = _NAMED["lower"]
    upper: int = _NAMED["upper"]
    return characters | (characters & upper) << 32 | (characters & lower) >> 32


def _unicode_class(name: str) -> int:
    if " " in name:
        raise RegexError(f"\\p{{{name}}} is no class")
    if name == "Any":
        return ANY
    if f" {name} " in _CATEGORIES:
        return sum(1 << code for code in range(128) if category(chr(code)).startswith(name))
    if name == "Latin":
        return _NAMED["alpha"]
    if name == "Common":
        return ANY & ~_NAMED["alpha"]
    if f" {name} " in _SCRIPTS:
        return 0
    raise RegexError(f"\\p{{{name}}} is no class")
