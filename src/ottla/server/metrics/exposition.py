"""Families of samples as Prometheus text (version 0.0.4), in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple
from zlib import crc32

from ottla.core.histogram import QUANTILES, Snapshot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
LINES_PER_PIECE: Final = 500
"""About half a millisecond of the event loop."""
LONGEST_VALUE: Final = 256
"""Characters of a label's value: names of topics have at most 249, but client ids may have thousands."""
_MOST_LABELS: Final = 100_000

_QUANTILES: Final = tuple(['quantile="' + f"{quantile:.3f}".removesuffix("0") + '"' for quantile in QUANTILES])


class Labels:
    """Names and values of labels; `text` is how they are written."""

    __slots__ = ("pairs", "text")

    def __init__(self, pairs: tuple[tuple[str, str], ...]) -> None:
        self.pairs = pairs
        inner = ",".join([f'{name}="{_escaped(value)}"' for name, value in pairs])
        self.text = f"{{{inner}}}" if pairs else ""

    def with_part(self, part: str) -> str:
        """The text with one more label, written already."""
        return f"{self.text[:-1]},{part}}}" if self.text else f"{{{part}}}"


NO_LABELS: Final = Labels(())
_known: dict[tuple[tuple[str, str], ...], Labels] = {}


def labels(*pairs: tuple[str, str]) -> Labels:
    """The labels of these pairs, made once."""
    found = _known.get(pairs)
    if found is None:
        if any(len(value) > LONGEST_VALUE for _, value in pairs):
            return labels(*((name, _cut(value)) for name, value in pairs))
        if len(_known) >= _MOST_LABELS:
            _known.clear()
        found = _known[pairs] = Labels(pairs)
    return found


def _cut(value: str) -> str:
    """What is too long ends in a checksum instead: two that begin alike stay two."""
    if len(value) <= LONGEST_VALUE:
        return value
    return f"{value[: LONGEST_VALUE - 10]}…{crc32(value.encode('utf-8', 'surrogatepass')):08x}"


class Family(NamedTuple):
    """Samples of one name: `rows` are (labels, value), where a value is a number, a `Snapshot` or a text.

    `part` tells what of a `Snapshot` is shown: "value", "count", "quantiles" or "count and quantiles"; "state" shows a
    text as the label `state_label` of a 1.
    """

    name: str
    type: str
    help: str
    rows: Iterable[tuple[Labels, Any]]
    part: str = "value"
    state_label: str = ""


def pieces(families: Iterable[Family | None]) -> Iterator[str]:
    """The text of all families; None in between lets others have a turn."""
    lines: list[str] = []
    seen: set[str] = set()
    for family in families:
        if family is None:
            yield "".join(lines)
            lines.clear()
            continue
        if family.name in seen:
            continue
        begun = False
        for row in _lines(family):
            if not begun:
                begun = True
                seen.add(family.name)
                lines.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {_type(family)}\n")
            lines.append(row)
            if len(lines) >= LINES_PER_PIECE:
                yield "".join(lines)
                lines.clear()
    if lines:
        yield "".join(lines)


def _type(family: Family) -> str:
    """Counters without `_total` are older than that rule, and some readers would give them another name."""
    return "untyped" if family.type == "counter" and not family.name.endswith("_total") else family.type


def _lines(family: Family) -> Iterator[str]:
    name, part = family.name, family.part
    if part == "value":
        for label, value in family.rows:
            # Integers are by far the most.
            yield f"{name}{label.text} {value}\n" if value.__class__ is int else f"{name}{label.text} {number(value)}\n"
        return
    for label, value in family.rows:
        if part == "state":
            yield _state(name, label, family.state_label, str(value))
            continue
        assert isinstance(value, Snapshot)
        if part != "quantiles":
            yield f"{name}{label.text} {value.recorded}\n"
        if part != "count":
            for quantile, found in zip(_QUANTILES, value.quantiles, strict=True):
                yield f"{name}{label.with_part(quantile)} {number(found)}\n"


def _state(name: str, label: Labels, state_label: str, value: str) -> str:
    part = f'{state_label}="{_escaped(value)}"'
    return f"{name}{label.with_part(part)} 1\n"


def number(value: float) -> str:
    """A number as Prometheus reads it."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if isinstance(value, bool):
        return "1" if value else "0"
    return repr(int(value)) if isinstance(value, int) else f"{value:.10g}"


def _escaped(text: str) -> str:
    if "\\" in text or '"' in text or "\n" in text:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return text
