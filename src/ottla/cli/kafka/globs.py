"""Globs as kafka-metadata-shell has them: `*`, `?`, `{a,b}`, and `\\` before what is meant as it is."""

from __future__ import annotations

import re
from collections.abc import Callable


def matcher(glob: str) -> Callable[[str], bool] | None:
    """Whether a name is meant by the glob; None when the glob is an ordinary name (or none that makes sense)."""
    pieces: list[str] = []
    literal, in_group = True, False
    position = 0
    while position < len(glob):
        character = glob[position]
        position += 1
        if character == "\\" and position < len(glob):
            pieces.append(re.escape(glob[position]))
            position += 1
        elif character in "?*":
            literal = False
            pieces.append("." if character == "?" else ".*")
        elif character == "{":
            if in_group:
                return None
            literal, in_group = False, True
            pieces.append("(?:(?:")
        elif character == "," and in_group:
            pieces.append(")|(?:")
        elif character == "}" and in_group:
            in_group = False
            pieces.append("))")
        else:
            pieces.append(re.escape(character))
    if literal or in_group:
        return None
    pattern = re.compile("".join(pieces))
    return lambda name: pattern.fullmatch(name) is not None
