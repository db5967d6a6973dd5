import time

import pytest

from ottla import Producer

OLD = 1_700_000_000_000


@pytest.fixture
def topic(ottla, name, bootstrap):
    ottla("topics", "create", name, "-p", "3")
    with Producer(bootstrap) as producer:
        for number in range(5):
            producer.send(name, b"old", partition=0, timestamp_ms=OLD + number)
        for _ in range(3):
            producer.send(name, b"new", partition=0)
        producer.send(name, b"old", partition=1, timestamp_ms=OLD)
    return name


def test_starts_and_ends(ottla, topic):
    said = ottla("offsets", "list", topic)
    assert [line.split() for line in said.lines] == [
        ["TOPIC", "PARTITION", "START", "END", "RECORDS"],
        [topic, "0", "0", "8", "8"],
        [topic, "1", "0", "1", "1"],
        [topic, "2", "0", "0", "0"],
    ]
    found = ottla("offsets", "list", f"{topic}:0,2", "--committed", "--json").json
    assert [(one["partition"], one["end_offset"]) for one in found] == [(0, 8), (2, 0)]
    assert ottla("offsets", "list", f"{topic[:-1]}?:1-1", "--json").json[0]["records"] == 1


@pytest.mark.parametrize(
    ("when", "offsets"),
    [
        ("10m", [5, None, None]),
        (str(OLD + 2), [2, None, None]),
        ("2023-11-14T22:13:20.003Z", [3, None, None]),
        ("earliest", [0, 0, 0]),
        ("latest", [8, 1, 0]),
        ("max_timestamp", [7, 0, None]),
    ],
)
def test_where_they_were_at_a_time(ottla, topic, when, offsets):
    found = ottla("offsets", "list", topic, "--at", when, "--json").json
    listed = [one["offset"] for one in found]
    if when == "max_timestamp":
        assert listed[0] in (5, 6, 7)
        assert listed[1:] == offsets[1:]
    else:
        assert listed == offsets


def test_deleting_what_is_older(ottla, topic):
    assert "Delete 6 records of " in ottla("offsets", "delete", topic, "--older-than", "1d", code=1).err
    dry = ottla("offsets", "delete", topic, "--older-than", "1d", "--dry-run", "--json").json
    assert [(one["start_offset"], one["records"]) for one in dry] == [(5, 5), (1, 1), (0, 0)]
    said = ottla("offsets", "delete", topic, "--older-than", "1d", "-y")
    assert said.lines[1].split() == [topic, "0", "0", "5", "5"]
    assert [one["start_offset"] for one in ottla("offsets", "list", topic, "--json").json] == [5, 1, 0]
    ottla("offsets", "delete", f"{topic}:0", "--before", "7", "-y")
    ottla("offsets", "delete", topic, "--all", "-y")
    assert [one["records"] for one in ottla("offsets", "list", topic, "--json").json] == [0, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "{}:7"], "{} has no partition 7: it has 3, from 0 on"),
        (["list", "{}:x"], "'{}:x': partitions are numbers and ranges, as in orders:0,2-4"),
        (["list", "{}:2-1"], "'{}:2-1': partitions are numbers and ranges"),
        (["list", "{}", "--at", "noon"], "'noon' is no point in time"),
        (["delete", "{}", "--before", "9", "-y"], "{}-0 ends at 8: there is nothing before 9 but that"),
        (["list", "{}-not"], "UNKNOWN_TOPIC_OR_PARTITION"),
    ],
)
def test_mistakes(ottla, topic, arguments, message):
    said = ottla("offsets", *(one.format(topic) for one in arguments), code=1)
    assert said.err.startswith(f"ottla: error: {message.format(topic)}")


def test_deleting_needs_to_be_told_what(ottla, topic):
    assert (
        "one of the arguments --before --older-than --all is required" in ottla("offsets", "delete", topic, code=2).err
    )


def test_times_are_of_now(ottla, topic):
    found = ottla("offsets", "list", f"{topic}:0", "--at", str(int(time.time() * 1000) - 600_000), "--json").json
    assert found[0]["offset"] == 5
    assert abs(found[0]["timestamp_ms"] - time.time() * 1000) < 600_000
