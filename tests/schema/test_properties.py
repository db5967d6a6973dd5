import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.schema.definition import SettingError
from ottla.schema.properties import parse_properties


def pairs(text):
    return [(entry.name, entry.value) for entry in parse_properties(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", [("a", "b")]),
        ("a = b ", [("a", "b ")]),
        ("a:b", [("a", "b")]),
        ("a b", [("a", "b")]),
        ("a\t:\tb", [("a", "b")]),
        ("a", [("a", "")]),
        ("a=", [("a", "")]),
        ("=b", [("", "b")]),
        ("a==b", [("a", "=b")]),
        ("a = = b", [("a", "= b")]),
        ("  a=b", [("a", "b")]),
        ("# comment\n! another\n\n \t\na=b", [("a", "b")]),
        ("a=b # no comment", [("a", "b # no comment")]),
        ("a=1\na=2", [("a", "1"), ("a", "2")]),
        ("a=b,\\\n   c,\\\n\td", [("a", "b,c,d")]),
        ("a=b\\\n# not a comment", [("a", "b# not a comment")]),
        ("# comment \\\na=b", [("a", "b")]),
        ("a=b\\\\\nc=d", [("a", "b\\"), ("c", "d")]),
        ("a=b\\", [("a", "b")]),
        ("a=b\\\n", [("a", "b")]),
        ("a\\=b\\:c\\ d=e", [("a=b:c d", "e")]),
        ("a=\\t\\n\\r\\f\\q", [("a", "\t\n\r\fq")]),
        ("a=\\u00e9\\u20AC", [("a", "é€")]),
        ("a=b\r\nc=d\re=f", [("a", "b"), ("c", "d"), ("e", "f")]),
        ("a=${env:HOME}", [("a", "${env:HOME}")]),
        ("", []),
    ],
)
def test_files_are_read_as_java_reads_them(text, expected):
    assert pairs(text) == expected


def test_entries_know_the_line_where_they_begin():
    entries = parse_properties("# one\na=1\\\n2\n\nb=3\n")
    assert [(entry.name, entry.line) for entry in entries] == [("a", 2), ("b", 5)]


@pytest.mark.parametrize("text", ["a=\\u12", "a=\\uzzzz", "a=\\u+123"])
def test_a_malformed_escape_names_its_line(text):
    with pytest.raises(SettingError, match=r"^my\.properties:2: Malformed"):
        parse_properties("\n" + text, "my.properties")


def escaped(text, *, name):
    """How `java.util.Properties.store` would write it."""
    out = []
    for position, character in enumerate(text):
        if character == " " and (name or position == 0):
            out.append("\\ ")
        elif character in "\t\n\r\f":
            out.append({"\t": "\\t", "\n": "\\n", "\r": "\\r", "\f": "\\f"}[character])
        elif character in "=:#!\\":
            out.append("\\" + character)
        elif not " " <= character <= "~":
            out.append("".join(f"\\u{unit:04X}" for unit in utf16_units(character)))
        else:
            out.append(character)
    return "".join(out)


def utf16_units(character):
    raw = character.encode("utf-16-be")
    return [int.from_bytes(raw[index : index + 2], "big") for index in range(0, len(raw), 2)]


basic_text = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]))


@given(st.lists(st.tuples(basic_text, basic_text)))
def test_what_java_stores_is_read_back(entries):
    text = "".join(f"{escaped(name, name=True)}={escaped(value, name=False)}\n" for name, value in entries)
    assert pairs(text) == entries


@given(st.text("ab=: \t\f\\\n\r#!u0041"))
def test_any_text_gives_entries_or_a_setting_error(text):
    try:
        for entry in parse_properties(text):
            assert 1 <= entry.line <= text.count("\n") + text.count("\r") + 1
    except SettingError:
        assert "\\u" in text.replace("\r", "\n").replace("\\\n", "") or "u" in text
