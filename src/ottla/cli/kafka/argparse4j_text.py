"""How argparse4j lays out what it prints: two columns, lines justified on both sides, near misses of wrong words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ottla.cli.kafka.layout import pieces

WIDTH = 75
_HELP_COLUMN = 25


def help_row(title: str, text: str) -> str:
    if not text:
        return f"  {title}\n"
    wrapped = wrap(text, WIDTH, _HELP_COLUMN, " " * _HELP_COLUMN)
    if len(title) <= 21:
        return f"  {title:<{_HELP_COLUMN - 2}}{wrapped}\n"
    return f"  {title}\n{' ' * _HELP_COLUMN}{wrapped}\n"


def wrap(text: str, width: int, offset: int = 0, indent: str = "") -> str:
    """Break into lines of `width`, justified on both sides, as the library does."""
    done, line, length = "", "", offset
    for piece in pieces(text):
        length += len(piece)
        if length > width:
            done += _justified(line, width, length - len(piece)) + "\n" + indent
            line, length = "", len(indent) + len(piece)
        line += piece
        if piece.endswith("\n"):
            done += line + indent
            line, length = "", len(indent)
    return done + line


def _justified(line: str, width: int, length: int) -> str:
    stripped = line.strip(" ")
    length -= len(line) - len(stripped)
    words = re.split(r"( +)", stripped)
    gaps = len(words) // 2
    if not gaps:
        return stripped
    each, rest = divmod(width - length, gaps)
    start = (gaps - rest + 1) // 2
    for number in range(gaps):
        words[2 * number + 1] += " " * (each + (start <= number < start + rest))
    return "".join(words)


def near_misses(body: str, known: Sequence[tuple[str, str]]) -> str:
    scored = sorted((0 if name.startswith(body) else _distance(body, name), subject) for subject, name in known)
    if not scored or scored[0][0] >= 7:
        return ""
    best = scored[0][0]
    return "\nDid you mean:\n" + "".join(f"\t{subject}\n" for score, subject in scored if score == best)


def _distance(a: str, b: str) -> int:
    """Damerau-Levenshtein with argparse4j's costs: exchange 0, replace 2, add 1, remove 4."""
    before, last = [0] * (len(b) + 1), list(range(len(b) + 1))
    for i in range(1, len(a) + 1):
        row = [i] + [0] * len(b)
        for j in range(1, len(b) + 1):
            row[j] = last[j - 1] + (0 if a[i - 1] == b[j - 1] else 2)
            if i >= 2 and j >= 2 and a[i - 1] != b[j - 1] and a[i - 2] == b[j - 1] and a[i - 1] == b[j - 2]:
                row[j] = min(row[j], before[j - 2])
            row[j] = min(row[j], last[j] + 4, row[j - 1] + 1)
        before, last = last, row
    return last[len(b)]
