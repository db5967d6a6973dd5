"""What values a setting may take: small objects that judge a typed value and print as Kafka documents them.

A validator's text is its declaration: `[1,...,9]` is a range, `[a, b]` a choice, and a few names stand for checks of
their own.
"""

from __future__ import annotations

from typing import Any, Protocol


class Validator(Protocol):
    """Judges a typed value; `str()` is Kafka's own text."""

    def check(self, value: Any) -> str | None:
        """Why the value is refused, in Kafka's words, or None."""
        ...


class Range:
    """A number within bounds, both included; either may be missing."""

    __slots__ = ("maximum", "minimum", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        low, _, high = text.strip("[]").partition("...")
        self.minimum = _number(low.rstrip(","))
        self.maximum = _number(high.lstrip(","))

    def check(self, value: Any) -> str | None:
        if value is None:
            return "Value must be non-null"
        if self.minimum is not None and not value >= self.minimum:
            return f"Value must be at least {self.minimum}"
        if self.maximum is not None and not value <= self.maximum:
            return f"Value must be no more than {self.maximum}"
        return None

    def __str__(self) -> str:
        return self.text


class OneOf:
    """A string, or each item of a list, out of a few; optionally in any case."""

    __slots__ = ("any_case", "choices", "text")

    def __init__(self, text: str, *, any_case: bool = False) -> None:
        self.text = text
        self.any_case = any_case
        self.choices = tuple(text[text.index("[") :].strip("[]").split(", "))

    def check(self, value: Any) -> str | None:
        items = value if isinstance(value, list) else [value]
        for item in items:
            if item is None or (item.upper() if self.any_case else item) not in self.choices:
                case = " (case insensitive)" if self.any_case else ""
                return f"String must be one of{case}: {', '.join(self.choices)}"
        return None

    def __str__(self) -> str:
        return self.text


class NonEmpty:
    """A string with something in it. Null passes: it means that the setting is not used."""

    text = "non-empty string"

    def check(self, value: Any) -> str | None:
        return "String must be non-empty" if value == "" else None

    def __str__(self) -> str:
        return self.text


class NonNull:
    """Any string but null; a text cannot be null."""

    text = "non-null string"

    def check(self, value: Any) -> str | None:
        return "String must be non-null" if value is None else None

    def __str__(self) -> str:
        return self.text


class GzipLevel:
    """1 to 9, or -1 for the library's own default."""

    text = "[1,...,9] or -1"

    def check(self, value: Any) -> str | None:
        return None if value == -1 or 1 <= value <= 9 else "Value must be between 1 and 9 or equal to -1"

    def __str__(self) -> str:
        return self.text


class ThrottledReplicas:
    """`*`, `none`, or `partition:broker` pairs."""

    text = "[partitionId]:[brokerId],[partitionId]:[brokerId],..."

    def check(self, value: Any) -> str | None:
        if value in (["*"], ["none"]) or all(map(self._is_pair, value)):
            return None
        return f"must be the literal '*' or a list of replicas in the following format: {self.text}"

    @staticmethod
    def _is_pair(item: str) -> bool:
        partition, _, broker = item.partition(":")
        return partition.isdecimal() and broker.isdecimal()

    def __str__(self) -> str:
        return self.text


class ResetStrategy:
    """Where a group starts: `latest`, `earliest`, or a duration back from now (`by_duration:PT1H`).

    A consumer may also ask for an error instead (`none`).
    """

    __slots__ = ("choices", "text")

    def __init__(self, *choices: str) -> None:
        self.choices = choices
        self.text = f"[{', '.join(choices)}, by_duration:PnDTnHnMn.nS]"

    def check(self, value: Any) -> str | None:
        if value in self.choices or (value.startswith("by_duration:") and self._is_duration(value[12:])):
            return None
        words = f"{', '.join(self.choices)} or by_duration:PnDTnHnMn.nS"
        return f"Invalid value for auto.offset.reset; must be {words}, not negative"

    @staticmethod
    def _is_duration(text: str) -> bool:
        import re

        pattern = r"P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d{1,9})?S)?)?"
        return re.fullmatch(pattern, text, re.IGNORECASE | re.ASCII) is not None

    def __str__(self) -> str:
        return self.text


class Endpoints:
    """A list of `host:port`, or with `ids` of `id@host:port`. Empty means that there are none."""

    text = "non-empty list"

    def check(self, value: Any) -> str | None:
        for item in value:
            node_id, at, address = item.rpartition("@")
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal() or int(port) > 65535 or (at and not node_id.lstrip("-").isdecimal()):
                return f"'{item}' must look like host:port, or id@host:port in controller.quorum.voters"
        return None

    def __str__(self) -> str:
        return self.text


_NAMED: dict[str, Validator] = {
    validator.text: validator
    for validator in (
        NonEmpty(),
        NonNull(),
        GzipLevel(),
        ThrottledReplicas(),
        ResetStrategy("latest", "earliest"),
        ResetStrategy("latest", "earliest", "none"),
        Endpoints(),
    )
}
_PARSED: dict[str, Validator] = {}


def validator_from_text(text: str) -> Validator:
    """The validator that prints as `text`."""
    validator = _NAMED.get(text) or _PARSED.get(text)
    if validator is None:
        if text.startswith("(case insensitive)"):
            validator = OneOf(text, any_case=True)
        elif "..." in text:
            validator = Range(text)
        else:
            validator = OneOf(text)
        _PARSED[text] = validator
    return validator


def _number(text: str) -> int | float | None:
    if not text:
        return None
    return float(text) if "." in text else int(text)
