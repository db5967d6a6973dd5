"""Where a line of help may be broken: as in Java's line `BreakIterator`, which both of Kafka's option libraries use.

A piece is a word with what sticks to it: opening punctuation before it, closing punctuation or hyphens behind it, and
the white space that follows. So `a.b` and `a-b` may be broken behind the dot and the hyphen, `1.5` and `-3` may not;
apostrophes and dollar signs hold together what they stand between.
"""

from __future__ import annotations

import re

_OPENING = r"""[(\[{"]"""
_CLOSING = r"""(?:-+|[")\]}!%.,:;?]+)?"""
_LETTERS = r"""[^\s\-(\[{")\]}!%.,:;?'$]*"""
_NUMBER = r"""[(\[{"\-]*[0-9]+(?:[.,][0-9]+)*"""
_WORDS = (re.compile(rf"{_OPENING}*{_LETTERS}{_CLOSING}"), re.compile(rf"{_OPENING}*{_NUMBER}{_CLOSING}"))
_GLUE = re.compile(r"['$\u00a0]+")
_CALL = re.compile(r"""\(\)[")\]}!%.,:;?]*""")
_SPACE = re.compile(r"[^\S\t\n]*[\t\n]?")


def pieces(text: str) -> list[str]:
    """The text cut at every place where a line may end; joined they are the text."""
    found = []
    position = 0
    while position < len(text):
        end = _end_of_word(text, position)
        while glue := _GLUE.match(text, end):
            end = _end_of_word(text, glue.end())
        # A call's empty parentheses stay with its name, and the space behind them does not.
        match = _CALL.match(text, end) if end > position else None
        match = match or _SPACE.match(text, end)
        end = max(match.end() if match else end, position + 1)
        found.append(text[position:end])
        position = end
    return found


def _end_of_word(text: str, position: int) -> int:
    return max(match.end() for pattern in _WORDS if (match := pattern.match(text, position)))
