"""`ottla produce` with a broker: what is read, what is sent, what is told when it cannot be."""

import json
import time

import pytest

import ottla as client
from tests.compatibility.command_line import ottla as ottla

RECORD = "%p|%k|%v|%h"


def read(ottla, topic, *options, form=RECORD):
    return ottla("consume", topic, "-F", form, *options).lines


def test_arguments_lines_and_files_become_records(ottla, name, tmp_path):
    ottla.topic(name)
    assert ottla("produce", name, "a", "b").out == f"2 records to {name}: partition 0: 2 from offset 0\n"
    ottla("produce", name, stdin="c\nd e\n\nlast")
    (tmp_path / "one").write_text("f\n")
    (tmp_path / "two").write_text("g")
    ottla("produce", name, "-f", str(tmp_path / "one"), "-f", str(tmp_path / "two"))
    ottla("produce", name, "-f", str(tmp_path / "one"), "--input", "whole")
    assert read(ottla, name, form="%v;") == ["a;", "b;", "c;", "d e;", ";", "last;", "f;", "g;", "f", ";"]


def test_values_may_stand_behind_options(ottla, name):
    ottla.topic(name)
    ottla("produce", "-k", "k", name, "a", "-H", "n=v", "b")
    assert read(ottla, name) == ["0|k|a|n=v", "0|k|b|n=v"]


def test_keys_headers_and_nulls_in_lines(ottla, name):
    ottla.topic(name)
    ottla("produce", name, "-K", ":", "--null", "NIL", stdin="a:1\nb:x:y\nNIL:2\nc:NIL\n")
    ottla("produce", name, "-K", ":", "--header-separator", r"\t", stdin="h=1,i=\tk:v\n\tk:w\n")
    ottla("produce", name, "-k", "gone", "--tombstone")
    assert read(ottla, name, "--null", "(null)") == [
        "0|a|1|",
        "0|b|x:y|",
        "0|(null)|2|",
        "0|c|(null)|",
        "0|k|v|h=1,i=",
        "0|k|w|",
        "0|gone|(null)|",
    ]


def test_many_keyed_lines_go_where_single_ones_go(ottla, name):
    """`send_many` and `send` choose the same partitions, and the report counts each of them."""
    ottla.topic(name, 5)
    lines = "".join(f"key-{number % 17}:{number}\n" for number in range(500))
    report = ottla("produce", name, "-K", ":", "--json", stdin=lines).json
    assert report["records"] == 500
    assert sum(one["records"] for one in report["partitions"]) == 500
    assert all(one["end_offset"] - one["start_offset"] == one["records"] for one in report["partitions"])
    where = {line.split("|")[1]: line.split("|")[0] for line in read(ottla, name)}
    for number in range(17):
        placed = ottla("produce", name, "-k", f"key-{number}", "--json", "x").json["partitions"]
        assert [str(one["partition"]) for one in placed] == [where[f"key-{number}"]]


@pytest.mark.parametrize("document", ['[{"a": 1}, {"b": [2]}, 3]', '{"a": 1}\n{"b":\n [2]}\n\n3', '{"a":1}{"b":[2]}3'])
def test_json_documents(ottla, name, document):
    ottla.topic(name)
    ottla("produce", name, "--input", "json", stdin=document)
    assert [json.loads(line) for line in read(ottla, name, form="%v")] == [{"a": 1}, {"b": [2]}, 3]


def test_formats(ottla, name):
    ottla.topic(name)
    ottla("produce", name, "--value-format", "hex", "00ff")
    ottla("produce", name, "--value-format", "base64", "AP8=")
    ottla("produce", name, "--value-format", "int64", "--key-format", "int32", "-K", "=", stdin="7=258\n")
    rows = ottla("consume", name, "--json", "--value-format", "hex", "--key-format", "hex").rows
    assert [(row["key"], row["value"]) for row in rows] == [
        (None, "00ff"),
        (None, "00ff"),
        ("00000007", "0000000000000102"),
    ]


def test_partition_timestamp_compression_and_acks(ottla, name):
    ottla.topic(name, 3)
    ottla("produce", name, "-p", "2", "-T", "2026-01-31T00:00:00Z", "-z", "zstd", "a")
    ottla("produce", name, "-p", "1", "-a", "0", "b")
    ottla("produce", name, "-p", "0", "-a", "1", "-z", "gzip", "c")
    assert sorted(read(ottla, name)) == ["0|null|c|", "1|null|b|", "2|null|a|"]
    assert ottla("consume", name, "-p", "2", "--json").rows[0]["timestamp"] == 1769817600000


def test_what_consume_prints_produce_takes(ottla, name):
    ottla.topic(name, 3)
    ottla.topic(f"{name}-copy", 3)
    with client.Producer(ottla.bootstrap) as producer:
        producer.send(name, b"\xff\x00", b"\xfe", partition=1, headers=[("a", b"\xff"), ("a", None)])
        producer.send(name, "text", "k", partition=2, timestamp_ms=1700000000000)
        producer.send(name, None, "gone", partition=0)
    envelopes = ottla("consume", name, "--json")
    assert ottla("produce", f"{name}-copy", "-E", stdin=envelopes.out).out.startswith("3 records")
    copied = ottla("consume", f"{name}-copy", "--json").rows

    def plain(rows):
        return sorted(({**row, "topic": ""} for row in rows), key=lambda row: row["partition"])

    assert plain(copied) == plain(envelopes.rows)


def test_bad_lines_are_told_and_the_others_are_sent(ottla, name):
    ottla.topic(name)
    said = ottla("produce", name, "--value-format", "json", stdin='{"a":1}\n{oops\n\n3\n', code=1)
    assert said.out == f"2 records to {name}: partition 0: 2 from offset 0; 1 could not be sent\n"
    assert said.err.startswith("ottla: line 2: not JSON: ")
    said = ottla("produce", name, "-K", ":", stdin="a:1\nb\n", code=1)
    assert said.err == "ottla: line 2: there is no key separator ':'\n"
    said = ottla("produce", name, "-E", stdin='{"value": 1, "partition": 7}\n{"value": 2}\n', code=1)
    assert said.err == "ottla: line 1: the topic has no partition 7\n"
    assert said.out.startswith("1 record to ")


def test_a_record_that_is_too_large_is_named(ottla, name):
    ottla.topic(name, max_message_bytes="2000")
    lines = [str(number) for number in range(200)]
    lines[150] = "x" * 5000
    said = ottla("produce", name, "-X", "batch.size=1", stdin="\n".join(lines), code=1)
    assert "ottla: line 151: " in said.err
    assert "MESSAGE_TOO_LARGE" in said.err
    assert said.out == f"199 records to {name}: partition 0: 199 from offset 0; 1 could not be sent\n"
    said = ottla("produce", name, "-X", "max.request.size=3000", stdin="\n".join(lines), code=1)
    assert "ottla: line 151: " in said.err
    assert len(read(ottla, name)) == 398


def test_a_transaction_is_all_or_nothing(ottla, name):
    ottla.topic(name)
    said = ottla("produce", name, "--transaction", "--value-format", "json", stdin="1\n2\nthree\n", code=1)
    assert "ottla: line 3: not JSON" in said.err
    assert "nothing was sent" in said.err
    assert said.out == ""
    committed = ["--isolation-level", "read_committed"]
    assert read(ottla, name, *committed) == []
    ottla("produce", name, "--transaction", "a", "b")
    # A commit is answered before its markers are in the partitions: until then it is not yet read.
    deadline = time.monotonic() + 10
    while not (found := read(ottla, name, *committed, form="%v")) and time.monotonic() < deadline:
        pass
    assert found == ["a", "b"]


def test_repeat_and_rate(ottla, name):
    ottla.topic(name)
    began = time.monotonic()
    ottla("produce", name, "--repeat", "3", "--rate", "20", stdin="a\nb\n")
    assert time.monotonic() - began > 0.2
    assert read(ottla, name, form="%v") == ["a", "b"] * 3


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-f", "/nowhere/file"], "cannot read /nowhere/file: no such file or directory"),
        (["--value-format", "avro", "x"], "there is no format 'avro'"),
        (["-k", "a", "-K", ":"], "--key is the key of all records"),
        (["-p", "9", "x"], "has no partition 9, only 0 to 0"),
        (["-H", "x", "y"], "'x' is no header; write name=value"),
        (["--tombstone"], "--tombstone sends null for the key of -k"),
        (["--transaction", "-a", "1", "x"], "a transaction needs --acks all"),
        (["-z", "zip", "x"], "compression.type"),
        (["-T", "soon", "x"], "'soon' is no point in time"),
    ],
)
def test_mistakes_are_one_line(ottla, name, arguments, reason):
    ottla.topic(name)
    said = ottla("produce", name, *arguments, code=1)
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("ottla: error: ")
    assert reason in line
