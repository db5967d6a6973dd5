"""Which records pass: keys, headers, text, and the path language."""

import re
from types import SimpleNamespace

import pytest

from ottla.cli import filters

DOCUMENT = {
    "status": "paid",
    "total": 12.5,
    "open": False,
    "nothing": None,
    "user": {"name": "Ada", "age": 36},
    "items": [{"sku": "A-17", "price": 9}, {"sku": "B-1", "price": 12}],
    "odd name": "x y",
    "true": True,
}


@pytest.mark.parametrize(
    ("condition", "passes"),
    [
        (".status", True),
        (".missing", False),
        (".open", False),
        (".nothing", False),
        (".user.name == Ada", True),
        ('.user.name == "Ada"', True),
        (".user.name = 'Ada'", True),
        (".user.name != Ada", False),
        (".user.age>=36", True),
        (".user.age < 36", False),
        (".user.name > 5", False),
        (".user.name > 'Aaa'", True),
        (".total > 12", True),
        (".items[0].sku == A-17", True),
        (".items[-1].sku == B-1", True),
        (".items[2].sku == B-1", False),
        (".items[*].price > 10", True),
        (".items[*].price > 12", False),
        (".items[*].price == 9", True),
        ('.["odd name"] == "x y"', True),
        ('["odd name"] =~ ^x', True),
        (".status =~ ^pa", True),
        (".status !~ ^pa", False),
        (".total =~ 12", False),
        (".missing == null", True),
        (".missing != 3", True),
        (".missing < 3", False),
        (".true == 1", False),
        (".true == true", True),
        (".open == false", True),
        (". == 5", False),
    ],
)
def test_conditions(condition, passes):
    assert filters.parse_condition(condition)(DOCUMENT) is passes


def test_the_value_itself():
    assert filters.parse_condition(". > 3")(5)
    assert filters.parse_condition(".[1] == b")(["a", "b"])


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("status == paid", "a path begins with a dot"),
        (".status paid", "a comparison (== != < <= > >= =~ !~) has to follow the path, not 'paid'"),
        (".status ==", "nothing stands behind =="),
        (".status =~ (", "is no regular expression"),
    ],
)
def test_mistakes_are_explained(condition, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        filters.parse_condition(condition)


def record(key=None, value=None, headers=()):
    return SimpleNamespace(key=key, value=value, headers=headers)


def test_keys_headers_and_text():
    one = record(b"customer-7", b'{"a": 1}', (("source", b"web"), ("empty", None)))
    assert filters.key_is(b"customer-7")(one)
    assert not filters.key_is(b"customer")(one)
    assert filters.key_matches("-[0-9]$")(one)
    assert not filters.key_matches("x")(record())
    assert filters.header_is("source")(one)
    assert filters.header_is("source=web")(one)
    assert not filters.header_is("source=app")(one)
    assert filters.value_matches('"a"')(one)
    assert not filters.value_matches("a")(record())
    with pytest.raises(ValueError, match="names no header"):
        filters.header_is("=x")


def test_all_conditions_have_to_hold_and_what_is_no_json_passes_none():
    both = filters.value_fulfils([".a > 0", ".a < 2"])
    assert both(record(value=b'{"a": 1}'))
    assert not both(record(value=b'{"a": 2}'))
    assert not both(record(value=b"text"))
    assert not both(record(value=None))
