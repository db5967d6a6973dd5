"""Where a line of help may be broken: as in Java's line `BreakIterator`, which both of Kafka's option libraries use.

A piece is a word with what sticks to it: opening punctuation before it, closing punctuation or hyphens behind it, and
the white space that follows. So `a.b` and `a-b` may be broken behind the dot and the hyphen, `1.5` and `-3` may not.
"""

from __future__ import annotations

import re

_OPENING = r"""[$(\[{"]"""
_CLOSING = r"""(?:-+|[")\]}!%.,:;?]+)?"""
_LETTERS = r"""[^\s\-$(\[{")\]}!%.,:;?]*"""
_NUMBER = r"""[$(\[{"\-]*[0-9]+(?:[.,][0-9]+)*"""
_WITH_WORD = re.compile(rf"{_OPENING}*{_LETTERS}{_CLOSING}[^\S\t\n]*[\t\n]?")
_WITH_NUMBER = re.compile(rf"{_OPENING}*{_NUMBER}{_CLOSING}[^\S\t\n]*[\t\n]?")


def pieces(text: str) -> list[str]:
    """The text cut at every place where a line may end; joined they are the text."""
    found = []
    position = 0
    while position < len(text):
        ends = [match.end() for pattern in (_WITH_WORD, _WITH_NUMBER) if (match := pattern.match(text, position))]
        end = max(*ends, position + 1)
        found.append(text[position:end])
        position = end
    return found
