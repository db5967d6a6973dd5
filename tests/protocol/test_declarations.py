"""Every declaration, field by field, against Apache Kafka's schemas."""

import gzip
import json
import re
from pathlib import Path

import pytest

from ottla.protocol.catalog import all_messages
from ottla.protocol.message import LAST_VERSION, field_default, version_range

SCHEMAS = json.loads(gzip.decompress((Path(__file__).parent / "testdata" / "schemas.json.gz").read_bytes()))

PYTHON_TYPES = {
    "bool": "bool",
    "float64": "float",
    "string": "str",
    "bytes": "bytes",
    "records": "Buffer",
    "uuid": "bytes",
}
ZEROS = {"bool": False, "float64": 0.0, "string": "", "bytes": b"", "uuid": bytes(16)}


def snake_case(name: str) -> str:
    """Kafka's name as an attribute; two of its words are one word to us."""
    name = name.replace("KRaft", "Kraft").replace("2Pc", "_2pc")
    return re.sub("([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def test_every_schema_is_declared_and_nothing_else():
    assert set(all_messages()) == set(SCHEMAS)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_declaration_is_the_schema(name):
    schema = SCHEMAS[name]
    cls = all_messages()[name]
    assert schema["type"] == cls.KIND
    assert schema.get("apiKey", -1) == cls.API_KEY
    assert tuple(schema.get("listeners", ())) == cls.LISTENERS
    assert schema.get("latestVersionUnstable", False) == cls.LATEST_VERSION_UNSTABLE
    if schema["validVersions"] == "none":
        assert cls.VALID_VERSIONS == (0, -1)
        assert cls.FIELDS == ()
        return
    assert version_range(schema["validVersions"]) == cls.VALID_VERSIONS
    flexible = schema["flexibleVersions"]
    assert (LAST_VERSION + 1 if flexible == "none" else version_range(flexible)[0]) == cls.FLEXIBLE_SINCE
    assert flexible == "none" or flexible.endswith("+")
    assert cls.__doc__
    assert cls.__doc__.rstrip().endswith(".")
    common = {struct["name"]: struct for struct in schema.get("commonStructs", [])}
    check_fields(name, cls, schema.get("fields", []), common)


def check_fields(name, cls, expected, common):
    assert [field.name for field in cls.FIELDS] == [snake_case(fact["name"]) for fact in expected]
    for field, fact in zip(cls.FIELDS, expected, strict=True):
        check_field(name, cls, field, fact, common)


def check_field(name, cls, field, fact, common):
    is_array = fact["type"].startswith("[]")
    inner = fact["type"].removeprefix("[]")
    is_struct = inner[0].isupper()
    assert field.type == ("array" if is_array else "struct" if is_struct else inner)
    assert field.element == (inner if is_array and not is_struct else None)
    assert field.versions == fact.get("versions", fact.get("taggedVersions"))
    assert field.nullable == fact.get("nullableVersions", "none")
    assert field.ignorable == (fact.get("ignorable") in (True, "true"))
    assert field.tag == fact.get("tag")
    assert field.tagged == fact.get("taggedVersions", "none")
    assert field.flexible == fact.get("flexibleVersions")
    assert field.key == fact.get("mapKey", False)
    assert field.entity == fact.get("entityType")
    assert field.zero_copy == fact.get("zeroCopy", False)
    # A default of JSON's null is none to Kafka's generator where structs are concerned.
    has_default = "default" in fact and not (is_struct and not is_array and fact["default"] is None)
    assert field.has_default == has_default
    check_default(field, fact, inner, is_array, is_struct)
    check_annotation(cls, field, inner, is_array)
    if is_struct:
        assert field.struct.__name__ in (inner, name + inner)
        struct_fact = fact if "fields" in fact else common[inner]
        assert version_range("0+" if "fields" in fact else struct_fact["versions"]) == field.struct.VALID_VERSIONS
        check_fields(name, field.struct, struct_fact["fields"], common)
    else:
        assert field.struct is None


def check_default(field, fact, inner, is_array, is_struct):
    default = field_default(field)
    if field.has_default:
        text = fact["default"]
        if text is None or text == "null":
            assert default is None
        elif inner == "bool":
            assert default is (text in (True, "true"))
        elif inner == "string":
            assert default == text
        else:
            assert default == (int(text, 0) if isinstance(text, str) else text)
    elif is_array:
        assert default == []
    elif is_struct:
        assert default == field.struct()
    elif inner == "records":
        assert default == (None if fact.get("nullableVersions", "").endswith("+") else b"")
    else:
        assert default == ZEROS.get(inner, 0)


def check_annotation(cls, field, inner, is_array):
    python_type = field.struct.__name__ if field.struct else PYTHON_TYPES.get(inner, "int")
    expected = f"list[{python_type}]" if is_array else python_type
    if field.nullable != "none" or inner == "records":
        expected += " | None"
    assert cls.__annotations__[field.name] == expected
