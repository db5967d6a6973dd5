"""Serdes write the bytes that Java writes, and say in one line what they cannot do."""

import dataclasses
import json
import pickle
import struct
import uuid
from typing import TypedDict

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla import serde
from ottla.serde import SerdeError, resolve_deserializer, resolve_serializer

QUICK = settings(max_examples=50, derandomize=True, deadline=None)
UUID = uuid.UUID("123e4567-e89b-12d3-a456-426614174000")


class Order(msgspec.Struct):
    id: int
    note: str = ""


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Shape(TypedDict):
    sides: int


JAVA = [
    (serde.string(), "größer", "67 72 c3 b6 c3 9f 65 72"),
    (serde.string("utf-16-be"), "a", "00 61"),
    (serde.int16(), -2, "ff fe"),
    (serde.int32(), 1, "00 00 00 01"),
    (serde.int32(), -(2**31), "80 00 00 00"),
    (serde.int64(), 2**63 - 1, "7f ff ff ff ff ff ff ff"),
    (serde.float32(), 1.5, "3f c0 00 00"),
    (serde.float64(), -0.1, "bf b9 99 99 99 99 99 9a"),
    (serde.float64(), 2, "40 00 00 00 00 00 00 00"),
    (serde.boolean(), True, "01"),
    (serde.boolean(), False, "00"),
    (serde.uuid(), UUID, str(UUID).encode().hex(" ")),
    (serde.raw(), b"\x00\xff", "00 ff"),
    # Flag, number of missing items with their indexes, number of items, the items.
    (serde.list_of(serde.int32()), [1, None, 3], "00 00000001 00000001 00000003 00000001 00000003"),
    (serde.list_of(serde.int16()), [], "00 00000000 00000000"),
    # Flag, number of items, each with its size.
    (serde.list_of(serde.string()), ["ab", None, ""], "01 00000003 00000002 6162 ffffffff 00000000"),
    (serde.list_of(serde.boolean()), [True], "01 00000001 00000001 01"),
]


@pytest.mark.parametrize(("chosen", "value", "hexadecimal"), JAVA)
def test_bytes_are_javas(chosen, value, hexadecimal):
    data = bytes.fromhex(hexadecimal)
    assert chosen.serialize("t", value, []) == data
    assert chosen.deserialize("t", data, ()) == value


@pytest.mark.parametrize(
    "chosen",
    [serde.string(), serde.int64(), serde.json(), serde.struct(Order), serde.void(), serde.list_of(int), serde.raw()],
)
def test_none_stays_none(chosen):
    assert chosen.serialize("t", None, None) is None
    assert chosen.deserialize("t", None, None) is None


def test_only_what_changes_nothing_is_the_identity():
    assert serde.raw().is_identity
    assert resolve_deserializer(None).is_identity
    assert not resolve_serializer(None).is_identity
    assert not serde.string().is_identity


def test_a_producer_takes_bytes_and_text_when_nothing_is_said():
    chosen = resolve_serializer(None)
    assert [chosen.serialize("t", value, []) for value in (b"a", bytearray(b"b"), memoryview(b"c"), "ö", None)] == [
        b"a",
        b"b",
        b"c",
        b"\xc3\xb6",
        None,
    ]
    with pytest.raises(SerdeError, match=r"topic t: .* not dict; a serializer takes other types"):
        chosen.serialize("t", {}, [])


@pytest.mark.parametrize(
    ("chosen", "value", "reason"),
    [
        (serde.int32(), 2**31, "it does not fit into 32 bits"),
        (serde.int32(), True, "int is needed, not bool"),
        (serde.int64(), "1", "int is needed, not str"),
        (serde.float32(), 1e39, "float too large"),
        (serde.float64(), "1", "float is needed, not str"),
        (serde.string(), 1, "str is needed, not int"),
        (serde.string(), "\ud800", "surrogates not allowed"),
        (serde.boolean(), 1, "bool is needed, not int"),
        (serde.uuid(), str(UUID), "uuid.UUID is needed, not str"),
        (serde.void(), 1, "None is needed, not int"),
        (serde.raw(), "a", "bytes is needed, not str"),
        (serde.list_of(int), 5, "a list is needed, not int"),
        (serde.list_of(int), ["x"], "int is needed, not str"),
        (serde.json(), object(), "object"),
        (serde.struct(Order), Point(1, 2), "Order is needed, not Point"),
    ],
)
def test_what_cannot_be_written_names_topic_and_reason(chosen, value, reason):
    with pytest.raises(SerdeError) as caught:
        chosen.serialize("orders", value, [])
    assert str(caught.value).startswith("topic orders: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "data", "reason"),
    [
        (serde.int32(), b"123", "4 bytes are needed"),
        (serde.int64(), b"", "8 bytes are needed"),
        (serde.float32(), b"12345", "4 bytes are needed"),
        (serde.boolean(), b"\x02", "0 or 1"),
        (serde.uuid(), b"x" * 36, "badly formed"),
        (serde.uuid(), UUID.bytes, "36 characters"),
        (serde.string(), b"\xff", "can't decode"),
        (serde.void(), b"", "there must be none"),
        (serde.json(), b"{", "truncated"),
        (serde.struct(Order), b'{"id":"x"}', "Expected `int`, got `str`"),
        (serde.list_of(int), b"", "index out of range"),
        (serde.list_of(int), b"\x07", "begin with 7"),
        (serde.list_of(str), bytes.fromhex("00 00000000 00000000"), "fixed size, which text has not"),
        (serde.list_of(str), bytes.fromhex("01 00000001 00000009 61"), "end within an item"),
        (serde.list_of(str), bytes.fromhex("01 7fffffff"), "cannot be 2147483647 items"),
        (serde.list_of(str), bytes.fromhex("01 00000001 fffffffe"), "end within an item"),
        (serde.list_of(str), bytes.fromhex("01 00000000 00"), "1 bytes are left over"),
        (serde.list_of(int), bytes.fromhex("00 00000001"), "unpack_from requires"),
    ],
)
def test_what_cannot_be_read_names_topic_and_reason(chosen, data, reason):
    with pytest.raises(SerdeError) as caught:
        chosen.deserialize("orders", data, ())
    assert str(caught.value).startswith("topic orders: ")
    assert reason in str(caught.value)


def test_an_error_can_be_sent_to_another_process():
    error = pickle.loads(pickle.dumps(SerdeError("t", "why")))
    assert (str(error), error.topic) == ("topic t: why", "t")


@QUICK
@given(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)), st.lists(st.none() | st.text(st.characters(codec="utf-8")))
)
def test_lists_come_back(numbers, texts):
    for chosen, values in ((serde.list_of(int), numbers), (serde.list_of(str), texts)):
        assert chosen.deserialize("t", chosen.serialize("t", values, []), ()) == values


@QUICK
@given(st.binary(max_size=40), st.sampled_from([int, str, uuid.UUID]))
def test_any_bytes_are_a_list_or_an_error(data, inner):
    try:
        value = serde.list_of(inner).deserialize("t", data, ())
    except SerdeError:
        return
    assert serde.list_of(inner).serialize("t", value, []) is not None


def test_structs_and_json():
    order = Order(7, "ö")
    for chosen in (serde.struct(Order), serde.struct(Order, "msgpack"), serde.json(Order)):
        assert chosen.deserialize("t", chosen.serialize("t", order, []), ()) == order
    assert json.loads(serde.json().serialize("t", {"a": [1, None, order]}, [])) == {
        "a": [1, None, {"id": 7, "note": "ö"}]
    }
    assert serde.json(list[int]).deserialize("t", b"[1]", ()) == [1]
    with pytest.raises(TypeError, match=r"subclass of msgspec\.Struct"):
        serde.struct(dict)
    with pytest.raises(ValueError, match="json or msgpack"):
        serde.struct(Order, "xml")


@pytest.mark.parametrize(
    ("spec", "value", "data"),
    [
        (int, 1, struct.pack(">q", 1)),
        ("int", 1, struct.pack(">q", 1)),
        ("integer", 1, struct.pack(">i", 1)),
        ("org.apache.kafka.common.serialization.IntegerSerializer", 1, struct.pack(">i", 1)),
        ("LongDeserializer", 1, struct.pack(">q", 1)),
        ("org.apache.kafka.common.serialization.Serdes$ShortSerde", 1, struct.pack(">h", 1)),
        (float, 0.5, struct.pack(">d", 0.5)),
        ("FloatSerializer", 0.5, struct.pack(">f", 0.5)),
        (str, "a", b"a"),
        ("String", "a", b"a"),
        (bool, True, b"\x01"),
        (uuid.UUID, UUID, str(UUID).encode()),
        (dict, {"a": 1}, b'{"a":1}'),
        (list, [1], b"[1]"),
        ("json", [1], b"[1]"),
        (dict[str, int], {"a": 1}, b'{"a":1}'),
        (int | None, 5, b"5"),
        (Order, Order(1), b'{"id":1,"note":""}'),
        (Point, Point(1, 2), b'{"x":1,"y":2}'),
        (Shape, {"sides": 3}, b'{"sides":3}'),
        (bytes, b"a", b"a"),
        ("bytes", b"a", b"a"),
        ("ByteArraySerializer", b"a", b"a"),
        (serde.int32(), 1, struct.pack(">i", 1)),
    ],
)
def test_what_stands_for_a_serde(spec, value, data):
    assert resolve_serializer(spec).serialize("t", value, []) == data
    assert resolve_deserializer(spec).deserialize("t", data, ()) == value


class KafkaPythonStyle:
    def serialize(self, topic, value):
        return f"{topic}:{value}".encode()

    def deserialize(self, topic, data):
        return f"{topic}:{data.decode()}"


class WithHeaders:
    def serialize(self, topic, value, headers):
        return f"{topic}:{value}:{headers}".encode()


def test_functions_and_objects_stand_for_serdes():
    assert resolve_serializer(lambda value: value.encode()).serialize("t", "a", []) == b"a"
    assert resolve_serializer(lambda value: None).serialize("t", "a", []) is None
    assert resolve_serializer(lambda value: bytearray(value)).serialize("t", b"a", []) == b"a"
    assert resolve_deserializer(json.loads).deserialize("t", b'{"a":1}', ()) == {"a": 1}
    assert resolve_deserializer(json.loads).deserialize("t", None, ()) is None
    assert resolve_serializer(KafkaPythonStyle()).serialize("t", 1, []) == b"t:1"
    assert resolve_deserializer(KafkaPythonStyle).deserialize("t", b"1", ()) == "t:1"
    assert resolve_serializer(WithHeaders()).serialize("t", 1, [("h", b"")]) == b"t:1:[('h', b'')]"


def test_functions_in_confluents_style_see_topic_and_field():
    seen = []

    def serializer(value, ctx):
        seen.append((ctx.topic, ctx.field, ctx.headers))
        return value

    assert resolve_serializer(serializer, "key").serialize("t", b"a", [("h", b"1")]) == b"a"
    assert resolve_deserializer(serializer).deserialize("t", None, ()) is None
    assert seen == [("t", "key", [("h", b"1")]), ("t", "value", ())]


def test_a_function_that_returns_something_else_is_told_so():
    with pytest.raises(SerdeError, match="topic t: the serializer returned str, not bytes or None"):
        resolve_serializer(lambda value: "a").serialize("t", 1, [])


@pytest.mark.parametrize(
    ("spec", "error", "hint"),
    [
        ("jsn", ValueError, "known are bool, boolean, bytes"),
        ("io.confluent.kafka.serializers.KafkaAvroSerializer", ValueError, "schema registry"),
        (5, TypeError, "is no serializer"),
        ({"a": 1}, TypeError, "is no serializer"),
    ],
)
def test_what_is_no_serializer(spec, error, hint):
    with pytest.raises(error, match=hint):
        resolve_serializer(spec)


def test_what_is_no_deserializer():
    with pytest.raises(TypeError, match="is no deserializer"):
        resolve_deserializer(5)
    with pytest.raises(TypeError, match="is no serde"):
        serde.list_of(lambda value: value)
    with pytest.raises(LookupError, match="unknown encoding"):
        serde.string("utf-99")


def test_every_public_name_is_there():
    assert {name for name in serde.__all__ if getattr(serde, name, None) is None} == set()
    assert set(serde.__all__) <= set(dir(serde))
