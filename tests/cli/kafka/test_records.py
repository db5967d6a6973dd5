"""Between lines, bytes and records: readers, formatters, deserializers."""

from __future__ import annotations

import io
import struct

import pytest

from ottla.cli.kafka import record_json
from ottla.cli.kafka.common import ToolError
from ottla.cli.kafka.deserializers import deserializer
from ottla.cli.kafka.formatters import formatter
from ottla.cli.kafka.java_text import SimpleDateFormat, divide, double, fixed
from ottla.cli.kafka.line_reader import LineReader
from ottla.records.reader import ConsumerRecord
from tests.cli.kafka.samples import coordinator_records

DEFAULT = "org.apache.kafka.tools.consumer.DefaultMessageFormatter"
SERIALIZATION = "org.apache.kafka.common.serialization."
RECORD: ConsumerRecord[bytes | None, bytes | None] = ConsumerRecord(
    "orders", 3, 7, b"key", b"value", 1_700_000_000_000, 0, (("h", b"1"), ("n", None))
)


def written(record: ConsumerRecord[bytes | None, bytes | None], name: str = DEFAULT, **properties: str) -> str:
    output = io.BytesIO()
    formatter(name, {key.replace("_", "."): value for key, value in properties.items()}).write(record, output)
    return output.getvalue().decode()


def test_everything_of_a_record_is_printed_in_kafkas_order() -> None:
    names = ("timestamp", "partition", "offset", "delivery", "epoch", "headers", "key")
    shown = written(RECORD, **{f"print_{name}": "true" for name in names})
    assert shown == (
        "CreateTime:1700000000000\tPartition:3\tOffset:7\tDelivery:NOT_PRESENT\tEpoch:NOT_PRESENT\th:1,n:null\tkey\tvalue\n"
    )


def test_the_last_column_is_ended_by_the_line_separator() -> None:
    assert written(RECORD, print_key="true", print_value="false", line_separator=";") == "key;"
    assert written(RECORD, print_value="false") == ""


def test_null_is_what_one_wants_it_to_be_even_for_a_deserializer() -> None:
    nothing: ConsumerRecord[bytes | None, bytes | None] = ConsumerRecord("orders", 0, 0, None, None)
    assert written(nothing, null_literal="NONE") == "NONE\n"
    shown = written(nothing, value_deserializer=SERIALIZATION + "IntegerDeserializer")
    assert shown == f"{int.from_bytes(b'null', 'big')}\n"


def test_an_unknown_formatter_is_refused_and_one_in_python_is_loaded() -> None:
    with pytest.raises(LookupError, match=r"nobody\.Knows"):
        formatter("nobody.Knows", {})
    assert written(RECORD, "ottla.cli.kafka.formatters:NoOpFormatter") == ""


def test_an_unknown_deserializer_is_told_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert written(RECORD, value_deserializer="nobody.Reads") == "value\n"
    assert "Unable to instantiate a deserializer from nobody.Reads" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        ("Integer", b"\0\0\0\x2a", "42"),
        ("Long", b"\xff" * 8, "-1"),
        ("Short", b"\0\7", "7"),
        ("Double", struct.pack(">d", 1e10), "1.0E10"),
        ("Float", struct.pack(">f", 0.1), "0.1"),
        ("Boolean", b"\1", "true"),
        ("Bytes", b"a\\\xff", "a\\x5C\\xFF"),
        ("ByteBuffer", b"abc", "java.nio.HeapByteBuffer[pos=0 lim=3 cap=3]"),
        ("UUID", b"123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
        ("String", "grüße".encode(), "grüße"),
    ],
)
def test_deserializers_show_what_java_shows(kind: str, data: bytes, shown: str) -> None:
    assert deserializer(f"{SERIALIZATION}{kind}Deserializer", {}, is_key=False)(data).decode() == shown


@pytest.mark.parametrize("kind", ["Integer", "Long", "Short", "Double", "Float", "Boolean", "UUID", "Void"])
def test_bytes_of_another_type_are_refused(kind: str) -> None:
    with pytest.raises(ToolError):
        deserializer(f"{SERIALIZATION}{kind}Deserializer", {}, is_key=False)(b"12345")


def test_text_in_another_encoding() -> None:
    read = deserializer(SERIALIZATION + "StringDeserializer", {"deserializer.encoding": "UTF-16BE"}, is_key=True)
    assert read("ü".encode("utf-16-be")).decode() == "ü"


def test_lines_have_headers_key_and_value() -> None:
    reader = LineReader({"parse.key": "true", "parse.headers": "true", "null.marker": "NULL"})
    first, second = reader.records(["a:1,b:NULL\tkey\tvalue\twith tab", "NULL\tNULL\tNULL"])
    assert first == (b"key", b"value\twith tab", [("a", b"1"), ("b", None)])
    assert second == (None, None, [])


@pytest.mark.parametrize(
    ("properties", "line", "message"),
    [
        ({"parse.key": "true"}, "x", "No key separator found on line number 1: 'x'"),
        ({"parse.headers": "true"}, "x", "No headers delimiter found on line number 1: 'x'"),
        ({"parse.headers": "true"}, "a\tx", "No header key separator found in pair 'a' on line number 1"),
    ],
)
def test_lines_without_separators(properties: dict[str, str], line: str, message: str) -> None:
    with pytest.raises(ToolError, match=message.replace("(", r"\(")):
        list(LineReader(properties).records([line]))
    list(LineReader({**properties, "ignore.error": "true"}).records([line]))


def test_separators_that_are_the_same_are_refused() -> None:
    with pytest.raises(ToolError, match=r"headers\.delimiter and headers\.separator may not be equal"):
        LineReader({"headers.delimiter": ","})


@pytest.mark.parametrize("topic", [record_json.CONSUMER_OFFSETS, record_json.TRANSACTION_STATE])
def test_every_record_of_internal_topics_becomes_json(topic: record_json.InternalTopic) -> None:
    for key, value in coordinator_records(topic):
        shown = record_json.record_json(topic, None, key, value)
        assert shown is not None
        assert (shown["value"] is None) == (value is None)
    assert record_json.record_json(topic, None, b"\x7f\0", b"") is None
    with pytest.raises(record_json.UnreadableRecordError, match="Could not read version from key's buffer"):
        record_json.record_json(topic, None, b"\0", None)


def test_numbers_and_times_as_java_writes_them() -> None:
    assert [double(each) for each in (0.0, 1.0, 0.001, 1e-4, 1234567.0, 1.5e7)] == [
        "0.0", "1.0", "0.001", "1.0E-4", "1234567.0", "1.5E7",
    ]  # fmt: skip
    assert fixed(0.125, 2) == "0.13"  # half up, not half even
    assert fixed(divide(1, 0), 2) == "Infinity"
    assert fixed(divide(0, 0), 2) == "NaN"
    assert SimpleDateFormat("'at' yyyy ''SSS").format(1_700_000_000_007).endswith("2023 '007")
    with pytest.raises(ValueError, match="Illegal pattern character"):
        SimpleDateFormat("b")
