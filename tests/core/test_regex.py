"""RE2's syntax: what it takes and refuses, what matches, and that no expression takes long."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.regex import Regex, RegexError


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a", ["a"], ["", "b", "aa"]),
        ("topic-.*", ["topic-", "topic-1", "topic-é"], ["topic", "a-topic-1"]),
        ("a|bc|", ["a", "bc", ""], ["b", "abc"]),
        ("(a|b)*c+d?", ["c", "ababccd"], ["abd", "d"]),
        ("a{2}b{1,}c{0,2}", ["aab", "aabbcc"], ["ab", "aabccc"]),
        ("a{,2}", ["a{,2}"], ["a", "aa"]),
        ("x*?y+?z??", ["y", "xxyyz"], ["x"]),
        ("[a-c]_[^a-c]", ["a_d", "c__"], ["d_d", "a_a"]),
        ("[]a]", ["]", "a"], ["[]a]"]),
        ("[-a]", ["-", "a"], ["b"]),
        (r"[\d_]\D\w\W\s\S", ["1ab. x", "_xy- -"], ["aab. x"]),
        ("[[:upper:]][[:^upper:]]", ["Aa", "A1"], ["AA"]),
        (r"\pL\p{Lu}\PL\p{^Ll}\p{Latin}", ["aA1Ab"], ["aa1Ab"]),
        (r"\Qa.b*\E+", ["a.b*", "a.b***"], ["aab*"]),
        (r"a\.b\-c\x2e\x{2F}\101\012", ["a.b-c./A\n"], ["axb-c./A\n"]),
        ("^a$", ["a"], ["ab"]),
        (r"\Aa\z", ["a"], ["ba"]),
        (r"a\b.*", ["a", "a-b"], ["ab"]),
        (r"a\B.*", ["ab", "a_"], ["a", "a-b"]),
        ("(?i)aB(?-i)c", ["abc", "ABc"], ["ABC"]),
        ("(?i:a)b", ["ab", "Ab"], ["aB"]),
        ("(?P<one>a)(?<two>b)(?:c)", ["abc"], ["ab"]),
        (".", ["a"], ["\n", ""]),
        ("(?s).", ["\n"], [""]),
    ],
)
def test_matches_whole_texts(pattern: str, matching: list[str], others: list[str]) -> None:
    regex = Regex(pattern)
    assert [text for text in (*matching, *others) if regex.matches(text)] == matching


@pytest.mark.parametrize(
    "pattern",
    [
        "(a",
        "a)",
        "*a",
        "a**",
        "a{2}{3}",
        "(|*)",
        "a{2,1}",
        "a{1001}",
        "[a",
        "[b-a]",
        "[[:nothing:]]",
        r"[a-\d]",
        "a\\",
        r"\1",
        r"\8",
        r"\y",
        r"\pX",
        r"\p{Klingon}",
        r"\x{110000}",
        r"\xg1",
        "(?=a)",
        "(?!a)",
        "(?<=a)",
        "(?<!a)",
        "(?x)a",
        "(?P<a>x)(?P<a>y)",
        "(?P<a-b>x)",
        "(?i",
        "(" * 300 + ")" * 300,
        "((a{200}){200}){200}",
    ],
)
def test_refuses_what_re2_refuses(pattern: str) -> None:
    with pytest.raises(RegexError):
        Regex(pattern)


def test_takes_linear_time() -> None:
    """What keeps a backtracking matcher busy for ages."""
    assert not Regex("(a*)*b").matches("a" * 5_000)
    assert not Regex("(a|aa)+c").matches("a" * 5_000)
    assert Regex("a?" * 100 + "a" * 100).matches("a" * 100)


@pytest.mark.parametrize(
    "pattern",
    [
        "(" * 199 + "a" + "|b)*" * 199,
        "\\." * 50_000,
        "(?:a{1000}){1000}",
    ],
)
def test_an_expression_that_is_too_much_is_refused_at_once(pattern: str) -> None:
    with pytest.raises(RegexError):
        Regex(pattern)


def test_nothing_is_not_counted_out() -> None:
    regex = Regex("a" + "(" * 6 + "){1000}" * 6 + "b")
    assert regex.matches("ab")
    assert not regex.matches("a")


def test_characters_that_mean_the_same_are_stepped_once() -> None:
    regex = Regex("(?:.?){50}[0-9]")
    assert regex.matches("abcdefghijklmnopqrstuvwxyz9")
    steps = len(regex._next)
    assert regex.matches("zyxwvutsrqponmlkjihgfedcba1")
    assert len(regex._next) == steps


_PARTS = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\b", "^", "$", "-"]),
    lambda parts: (
        st.lists(parts, min_size=1, max_size=3).map("".join)
        | st.lists(parts, min_size=2, max_size=3).map(lambda choices: f"(?:{'|'.join(choices)})")
        | st.tuples(parts, st.sampled_from(["*", "+", "?", "{2}", "{1,2}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}")
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(_PARTS, st.lists(st.text("ab1-_", max_size=5), max_size=10))
def test_agrees_with_python_where_the_syntax_is_the_same(pattern: str, texts: list[str]) -> None:
    regex = Regex(pattern)
    for text in texts:
        assert regex.matches(text) == (re.fullmatch(pattern, text) is not None), (pattern, text)


@pytest.mark.parametrize("pattern", ["(a|b|c)*a(a|b|c){500}", "(.*a.{9}){40}"])
def test_an_expression_that_takes_too_long_is_given_up(pattern):
    regex = Regex(pattern)
    random = Random(1)
    names = ["".join(random.choices("abc", k=249)) for _ in range(1000)]
    with pytest.raises(RegexError, match="too long to match"):
        sum(map(regex.matches, names))


def test_sane_expressions_never_take_too_long():
    names = [f"team-{number % 40}.service-{number % 7}.events-v{number}" for number in range(5000)]
    for pattern in ("team-[0-9]+\\..*", "(team-1|team-2)\\.service-[135]\\.events-v.*", "|".join(names[:300])):
        regex = Regex(pattern)
        assert sum(map(regex.matches, names)) >= 100
