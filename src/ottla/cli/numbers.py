"""Numbers as arguments: what `type=` of an option is, with an error that says which numbers it takes."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable


def whole(least: int = 0) -> Callable[[str], int]:
    """A whole number that is not below `least`."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise ArgumentTypeError(f"it takes a whole number, {least} or more, not '{text}'")
        return number

    return parse


def positive(most: float = 1e9, unit: str = "") -> Callable[[str], float]:
    """A number above 0 and not above `most`; `unit` is what it counts."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 < number <= most:
            counted = f" of {unit}" if unit else ""
            raise ArgumentTypeError(f"it takes a number{counted} above 0, at most {most:,.0f}, not '{text}'")
        return number

    return parse
