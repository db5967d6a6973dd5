"""Options as jopt-simple reads them."""

from __future__ import annotations

import pytest

from ottla.cli.kafka.jopt import BOOLEAN, INTEGER, LONG, OptionError, OptionParser, matching, one_of


class Parser(OptionParser):
    def __init__(self) -> None:
        super().__init__()
        self.topic = self.accepts("topic", "The topic.", described_as="topic")
        self.count = self.accepts("count", "How many.", type=INTEGER, defaults=[5])
        self.list = self.accepts("list", "List them.")
        self.names = self.accepts("names", "Names.", separator=",", described_as="a,b")
        self.state = self.accepts("state", "States.", takes="optional")


def parser() -> Parser:
    return Parser()


@pytest.mark.parametrize(
    "words",
    [["--topic", "a"], ["--topic=a"], ["-topic", "a"], ["-topic=a"], ["--list", "--topic", "a"]],
)
def test_ways_to_write_an_option(words: list[str]) -> None:
    made = parser()
    assert made.parse(words).value(made.topic) == "a"


def test_values_are_converted_when_they_are_asked_for() -> None:
    made = parser()
    options = made.parse(["--count", "many"])
    assert options.has(made.count)
    with pytest.raises(OptionError, match="Cannot parse argument 'many' of option count"):
        options.value(made.count)
    assert made.parse([]).value(made.count) == 5


def test_several_values_need_values() -> None:
    made = parser()
    options = made.parse(["--topic", "a", "--topic", "b"])
    assert options.values(made.topic) == ["a", "b"]
    with pytest.raises(OptionError, match="Found multiple arguments for option topic, but you asked for only one"):
        options.value(made.topic)


def test_separated_values_and_words_without_an_option() -> None:
    made = parser()
    options = made.parse(["--names", "a,,b", "more", "--", "--topic"])
    assert options.values(made.names) == ["a", "b"]
    assert options.arguments == ["more", "--topic"]
    assert made.parse(["--names", ""]).values(made.names) == [""]


def test_an_optional_argument_is_taken_when_no_option_follows() -> None:
    made = parser()
    assert made.parse(["--state", "Stable"]).value(made.state) == "Stable"
    options = made.parse(["--state", "--list"])
    assert options.value(made.state) is None
    assert options.has(made.state)
    assert options.has(made.list)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nonsense"], "nonsense is not a recognized option"),
        (["--nonsense=1"], "nonsense is not a recognized option"),
        (["-xy"], "x is not a recognized option"),
        (["--topic"], "Option topic requires an argument"),
        (["--top", "a"], "top is not a recognized option"),
    ],
)
def test_errors(words: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=f"^{message}$"):
        parser().parse(words)


def test_abbreviations_where_they_are_allowed() -> None:
    made = OptionParser(abbreviations=True)
    topic = made.accepts("topic", takes="required")
    made.accepts("time", takes="required")
    assert made.parse(["--to", "a"]).value(topic) == "a"
    with pytest.raises(OptionError, match="t is not a recognized option"):
        made.parse(["--t", "a"])


def test_what_needs_and_excludes_what() -> None:
    made = OptionParser()
    needed = made.accepts("needed", takes="required", required=True)
    first, second = made.accepts("first"), made.accepts("second")
    second.available_unless.append(first)
    made.accepts("help", for_help=True)
    with pytest.raises(OptionError, match=r"Missing required option\(s\) \[needed\]"):
        made.parse([])
    assert not made.parse(["--help"]).has(needed)
    with pytest.raises(OptionError, match=r"Option\(s\) \[second\] are unavailable given other options"):
        made.parse(["--needed", "a", "--first", "--second"])


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(INTEGER, "+7", 7), (LONG, "-9223372036854775808", -(1 << 63)), (BOOLEAN, "TRUE", True), (BOOLEAN, "x", False)],
)
def test_types(kind, text: str, value: object) -> None:  # type: ignore[no-untyped-def]
    assert kind.convert(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (INTEGER, "2147483648"),
        (INTEGER, "1_0"),
        (INTEGER, " 1"),
        (LONG, ""),
        (one_of("A", "B"), "c"),
        (matching("a+"), "b"),
    ],
)
def test_what_no_type_takes(kind, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"^"):
        kind.convert(text)


def test_help_has_two_columns() -> None:
    lines = [line.rstrip() for line in parser().format_help().split("\n")]
    assert lines[:4] == [
        "Option                   Description",
        "------                   -----------",
        "--count <Integer>        How many. (default: 5)",
        "--list                   List them.",
    ]
    assert lines[5] == "--state [String]         States."


def test_help_breaks_long_texts() -> None:
    made = OptionParser()
    made.accepts("a-rather-long-option", "word " * 12, described_as="what it takes in its own words", required=True)
    lines = made.format_help().split("\n")
    assert lines[0].startswith("Option (* = required)")
    assert lines[2].startswith("* --a-rather-long-option <String: what ")
    assert lines[3].startswith("  it takes in its own words>")
    assert lines[3].endswith("  word word word word word        ")
