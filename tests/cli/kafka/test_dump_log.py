"""kafka-dump-log: what is printed of a log's files. Byte for byte it is compared with Kafka's own tool elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ottla.cli.kafka import run
from ottla.cli.kafka.message_json import camel_case, compact_json
from tests.compatibility.tool_scenarios.log_samples import BASE_NAME, TIME_MS, write_all

Dump = Callable[..., list[str]]


@pytest.fixture
def dump(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Dump:
    """The lines that the tool prints of a sample."""
    write_all(tmp_path)

    def call(sample: str, *options: str, name: str = f"{BASE_NAME}.log", code: int = 0) -> list[str]:
        capsys.readouterr()
        assert run("kafka-dump-log", ["--files", f"{tmp_path}/{sample}/{name}", *options]) == code
        return capsys.readouterr().out.replace(str(tmp_path), "").splitlines()

    return call


def test_batches_alone_and_with_their_records(dump: Dump) -> None:
    lines = dump("plain")
    assert lines[:2] == [f"Dumping /plain/{BASE_NAME}.log", "Log starting offset: 0"]
    assert len(lines) == 2 + 9
    assert lines[2].startswith("baseOffset: 0 lastOffset: 3 count: 4 baseSequence: -1 ")
    assert lines[2].endswith("isvalid: true")
    assert "baseSequence: 2147483646 lastSequence: 1 producerId: 7 producerEpoch: 2" in lines[8]
    deep = dump("plain", "--deep-iteration")
    assert f"| offset: 1 CreateTime: {TIME_MS + 1} keySize: -1 valueSize: 7 sequence: -1 headerKeys: [a,b]" in deep
    assert [line.rpartition(" endTxnMarker: ")[2] for line in deep if "endTxnMarker" in line] == [
        "COMMIT coordinatorEpoch: 5",
        "ABORT coordinatorEpoch: 5",
    ]


def test_contents_with_and_without_what_is_around_them(dump: Dump) -> None:
    assert any(line.endswith("headerKeys: [] key: k payload: v") for line in dump("plain", "--print-data-log"))
    assert "| key: k payload: v" in dump("plain", "--print-data-log", "--skip-record-metadata")
    assert len(dump("plain", "--max-bytes", "130")) == 3


def test_damage_is_told_of(dump: Dump) -> None:
    assert "isvalid: false" in dump("wrong-crc")[2]
    assert dump("torn")[-1].startswith("Found ")
    assert dump("torn")[-1].endswith(f" invalid bytes at the end of {BASE_NAME}.log")


def test_old_formats(dump: Dump) -> None:
    lines = dump("legacy", "--deep-iteration")
    assert any("NoTimestampType: -1" in line and "magic: 0 compresscodec: gzip" in line for line in lines)
    assert all(" isValid: true crc: " in line for line in lines if line.startswith("|"))


@pytest.mark.parametrize(
    ("sample", "option"),
    [
        ("groups", "--offsets-decoder"),
        ("transactions", "--transaction-log-decoder"),
        ("share", "--share-group-state-decoder"),
        ("metadata", "--cluster-metadata-decoder"),
    ],
)
def test_every_record_of_internal_topics_is_json(dump: Dump, sample: str, option: str) -> None:
    read = 0
    for line in dump(sample, option, "--skip-record-metadata")[3:]:
        text = line.partition(" payload: ")[2]
        if text.startswith("{"):
            assert set(json.loads(text)) <= {"type", "version", "data"}
            read += 1
        else:
            assert text == "<DELETE>" or "skipping." in line
    assert read > 3


def test_what_consumers_subscribe_is_shown(dump: Dump) -> None:
    (line,) = [line for line in dump("groups", "--offsets-decoder") if '"protocolType":"consumer"' in line]
    shown = json.loads(line.partition(" payload: ")[2])["data"]["members"]
    assert shown[0]["subscription"]["topics"] == [
        'text with "quotes", \\ and grüße\n1',
        'text with "quotes", \\ and grüße\n2',
    ]
    assert shown[1]["subscription"] == "AA=="  # no subscription at all stays bytes


def test_records_of_the_quorum(dump: Dump) -> None:
    kinds = ("LeaderChange: {", "SnapshotHeader {", "SnapshotFooter {", "KRaftVersion {", "KRaftVoters {")
    lines = dump("raft", "--deep-iteration")
    assert all(any(f" {kind}" in line for line in lines) for kind in kinds)
    snapshot = dump("raft", name="00000000000000000042-0000000003.checkpoint")
    assert snapshot[1] == "Snapshot end offset: 42, epoch: 3"


def test_indexes_are_compared_with_the_log(dump: Dump, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert len(dump("plain", name=f"{BASE_NAME}.index")) == 9
    assert dump("plain", "--verify-index-only", name=f"{BASE_NAME}.index") == [f"Dumping /plain/{BASE_NAME}.index"]
    assert dump("plain", "--index-sanity-check", name=f"{BASE_NAME}.timeindex")[1].endswith("passed sanity check.")
    run("kafka-dump-log", ["--files", f"{tmp_path}/index-wrong/{BASE_NAME}.index"])
    assert "Mismatches in :" in capsys.readouterr().err
    run("kafka-dump-log", ["--files", f"{tmp_path}/index-wrong/{BASE_NAME}.timeindex"])
    told = capsys.readouterr().err
    assert "Found timestamp mismatch in :" in told
    assert "Found out of order timestamp in :" in told
    assert "Indexed offset: 14, found log offset: 18" in told
    assert run("kafka-dump-log", ["--files", f"{tmp_path}/index-down/{BASE_NAME}.index", "--index-sanity-check"]) == 1
    assert "CorruptIndexException: Corrupt index found" in capsys.readouterr().err


def test_producers_and_aborted_transactions(dump: Dump) -> None:
    producers = dump("plain", name=f"{BASE_NAME}.snapshot")
    assert producers[1].endswith(
        "firstSequence: 2 lastSequence: 5 lastOffset: 30 offsetDelta: 3 timestamp: 1700000000000"
    )
    assert "currentTxnFirstOffset: OptionalLong[12]" in producers[2]
    assert len(dump("plain", name=f"{BASE_NAME}.txnindex")) == 3


def test_what_cannot_be_read_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("kafka-dump-log", ["--files", f"{tmp_path}/{BASE_NAME}.log"]) == 1
    assert capsys.readouterr().err == (
        f'Exception in thread "main" java.nio.file.NoSuchFileException: {tmp_path}/{BASE_NAME}.log\n'
    )
    write_all(tmp_path)
    arguments = ["--files", f"{tmp_path}/no-keys/{BASE_NAME}.log", "--offsets-decoder"]
    assert run("kafka-dump-log", arguments) == 1
    assert "message had a missing key" in capsys.readouterr().err


def test_decoders_in_python(dump: Dump) -> None:
    lines = dump("plain", "--value-decoder-class", "builtins:len", "--skip-record-metadata")
    assert "| payload: 7" in lines
    dump("plain", "--value-decoder-class", "com.example.Decoder", code=1)


def test_json_is_written_as_java_writes_it() -> None:
    assert camel_case("kraft_version") == "kRaftVersion"
    assert camel_case("end_points") == "endPoints"
    assert compact_json({"a": [1, None, True], "b": 10485760.0, "c": '"\x01\n'}) == (
        '{"a":[1,null,true],"b":1.048576E7,"c":"\\"\\u0001\\n"}'
    )
