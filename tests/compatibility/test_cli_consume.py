"""`ottla consume` with a broker: which records, how they are shown, when it ends."""

import re
import signal
import time

import pytest

import ottla as client
from tests.compatibility.command_line import ottla as ottla

NOON = 1769860800000


@pytest.fixture
def numbers(ottla, name):
    """A topic with 0 … 9 in each of two partitions, a minute apart, every third with a key."""
    ottla.topic(name, 2)
    with client.Producer(ottla.bootstrap) as producer:
        for number in range(10):
            for partition in range(2):
                producer.send(
                    name,
                    f'{{"n": {number}, "p": {partition}}}',
                    f"key-{number}" if number % 3 == 0 else None,
                    partition=partition,
                    timestamp_ms=NOON + number * 60_000 + partition,
                    headers=[("even", b"yes")] if number % 2 == 0 else None,
                )
    return name


def read(ottla, topic, *options, **more):
    """Partitions and offsets, sorted."""
    lines = ottla("consume", topic, "-F", "%p:%o", *options, **more).lines
    return sorted((int(line.split(":")[0]), int(line.split(":")[1])) for line in lines)


def test_everything_there_is_and_then_it_ends(ottla, numbers):
    assert read(ottla, numbers) == [(partition, offset) for partition in range(2) for offset in range(10)]
    assert read(ottla, numbers, "-p", "1") == [(1, offset) for offset in range(10)]


@pytest.mark.parametrize(
    ("options", "offsets"),
    [
        (["-o", "beginning"], range(10)),
        (["-o", "end"], []),
        (["-o", "7"], range(7, 10)),
        (["-o", "-2"], range(8, 10)),
        (["-o", "-100"], range(10)),
        (["-o", "100"], []),
        (["-o", "0:4"], range(4, 10)),
        (["-o", "end", "-o", "0:9"], [9]),
        (["--since", str(NOON + 5 * 60_000)], range(5, 10)),
        (["--until", str(NOON + 5 * 60_000)], range(5)),
        (["--since", "2026-01-31T12:03:00Z", "--until", "2026-01-31T12:05:00Z"], range(3, 5)),
        (["--since", "2040-01-01"], []),
        (["-o", "8", "--until", "2026-01-31T12:03:00Z"], []),
    ],
)
def test_where_it_starts_and_ends(ottla, numbers, options, offsets):
    assert read(ottla, numbers, "-p", "0", *options) == [(0, offset) for offset in offsets]


def test_offsets_of_partitions_name_the_partitions(ottla, numbers):
    assert read(ottla, numbers, "-o", "1:8") == [(1, 8), (1, 9)]


def test_exactly_as_many_as_asked(ottla, numbers):
    assert len(read(ottla, numbers, "-n", "7")) == 7
    assert len(read(ottla, numbers, "-n", "100")) == 20
    assert read(ottla, numbers, "-n", "0") == []
    assert len(read(ottla, numbers, "-n", "3", "-k", "key-3")) == 2
    assert len(read(ottla, numbers, "-n", "1", "-k", "key-3")) == 1
    assert len(read(ottla, numbers, "-n", "5", "-f")) == 5


def test_the_last_of_all_partitions_by_time(ottla, numbers):
    lines = ottla("consume", numbers, "--tail", "3", "-F", "%p:%o").lines
    assert lines == ["1:8", "0:9", "1:9"]


def test_the_tail_finds_records_before_gaps(ottla, name):
    ottla.topic(name)
    ottla("produce", name, *"abc")
    for _ in range(5):
        ottla("produce", name, "--transaction", "--value-format", "int8", "5", "six", code=1)
        ottla("produce", name, "--transaction", "x")
    committed = ["--isolation-level", "read_committed"]
    deadline = time.monotonic() + 10
    while ottla("consume", name, "--count", *committed).out != "8\n" and time.monotonic() < deadline:
        pass  # the last markers are still on their way
    assert ottla("consume", name, "--tail", "7", *committed).lines == ["b", "c", *"xxxxx"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["-k", "key-6"], [6]),
        (["--key-regex", "[36]$"], [3, 6]),
        (["-H", "even"], [0, 2, 4, 6, 8]),
        (["-H", "even=yes", "-k", "key-6"], [6]),
        (["-H", "even=no"], []),
        (["-w", ".n > 7"], [8, 9]),
        (["-w", ".n > 7", "-w", ".n != 9"], [8]),
        (["--grep", '"n": [45]'], [4, 5]),
    ],
)
def test_filters(ottla, numbers, options, found):
    assert read(ottla, numbers, "-p", "1", *options) == [(1, offset) for offset in found]


def test_count(ottla, numbers):
    assert ottla("consume", numbers, "--count").out == "20\n"
    assert ottla("consume", numbers, "--count", "-w", ".n < 3").out == "6\n"
    assert ottla("consume", numbers, "--count", "--json").json["records"] == 20


def test_forms_of_output(ottla, name, tmp_path):
    ottla.topic(name)
    with client.Producer(ottla.bootstrap) as producer:
        producer.send(name, '{"b": 1, "a": [1,2]}', "k", headers={"h": "1", "n": None}, timestamp_ms=NOON)
    assert ottla("consume", name).out == '{"b": 1, "a": [1,2]}\n'
    assert ottla("consume", name, "--value-format", "json").out == '{"b":1,"a":[1,2]}\n'
    assert ottla("consume", name, "--value-format", "pretty").out.count("\n") == 7
    assert ottla("consume", name, "-K", r"\t").out == 'k\t{"b": 1, "a": [1,2]}\n'
    assert ottla("consume", name, "-F", r"%t %p/%o %k %T %h %K %S 100%%\x21\n").out == (
        f"{name} 0/0 k {NOON} h=1,n=null 1 20 100%!\n"
    )
    assert re.match(r"2026-01-31T\d\d:00:00\.000[+-]", ottla("consume", name, "-F", "%d").out)
    assert ottla("consume", name, "-O", str(tmp_path / "out")).out == ""
    assert (tmp_path / "out").read_text() == '{"b": 1, "a": [1,2]}\n'


def test_what_cannot_be_shown_is_noted_and_the_rest_goes_on(ottla, name):
    ottla.topic(name)
    ottla("produce", name, "--value-format", "hex", "ff", "61")
    said = ottla("consume", name, code=1)
    assert said.out == "a\n"
    assert said.err.splitlines()[0] == f"ottla: {name}-0 offset 0: the value is not UTF-8 text (byte 0)"
    said = ottla("consume", name, "--value-format", "int32", code=1)
    assert said.out == ""
    assert "2 of the records could not be shown" in said.err
    assert ottla("consume", name, "--value-format", "hex").out == "ff\n61\n"
    assert [row.get("value", row.get("value_base64")) for row in ottla("consume", name, "--json").rows] == ["/w==", "a"]


def test_a_group_goes_on_where_it_was(ottla, numbers, name):
    group = f"{name}-group"
    settings = ["-g", group, "-X", "group.protocol=consumer"]
    first = ottla("consume", numbers, *settings, "-n", "6", "--json").rows
    second = ottla("consume", numbers, *settings, "--json").rows
    assert len(first) == 6
    assert sorted((row["partition"], row["offset"]) for row in first + second) == [
        (partition, offset) for partition in range(2) for offset in range(10)
    ]
    assert ottla("consume", numbers, *settings).out == ""
    ottla("produce", numbers, "-p", "0", "new")
    assert ottla("consume", numbers, *settings, "--no-commit").out == "new\n"
    assert ottla("consume", numbers, *settings).out == "new\n"


def test_filtered_records_count_as_consumed_up_to_the_last_one_shown(ottla, numbers, name):
    settings = ["-g", f"{name}-group", "-X", "group.protocol=consumer", "-w", ".p == 1", "--json"]
    assert [row["offset"] for row in ottla("consume", numbers, *settings, "-n", "4").rows] == [0, 1, 2, 3]
    assert [row["offset"] for row in ottla("consume", numbers, *settings).rows] == [4, 5, 6, 7, 8, 9]


def test_following_shows_what_comes_and_ends_with_ctrl_c(ottla, name):
    ottla.topic(name)
    process = ottla.spawn("consume", name, "-f", "-o", "end")
    try:
        for number in range(200):
            ottla("produce", name, str(number))
            if number > 5 and process.poll() is None and number % 5 == 0:
                break
            time.sleep(0.1)
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, b"")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_group_member_that_is_interrupted_commits_what_it_showed(ottla, numbers, name, number):
    group = f"{name}-group"
    process = ottla.spawn("consume", numbers, "-f", "-g", group, "-X", "group.protocol=consumer")
    try:
        for _ in range(20):
            assert process.stdout.readline()
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, b"")
    finally:
        process.kill()
        process.communicate()
    [described] = ottla("groups", "describe", group, "--json").json
    assert described["lag"] == 0
    assert described["members"] == []


def test_a_reader_that_goes_away_is_no_failure(ottla, name):
    ottla.topic(name)
    ottla("produce", name, "--repeat", "20000", stdin="a line that is long enough to fill pipes\n" * 5)
    process = ottla.spawn("consume", name)
    try:
        assert process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert (process.wait(20), err) == (0, b"")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
        process.stdin.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-p", "7"], "has no partition 7, only 0 to 0"),
        (["-o", "middle"], "'middle' is no place to start"),
        (["--since", "soon"], "'soon' is no point in time"),
        (["-w", "a == 1"], "a path begins with a dot"),
        (["--grep", "("], "no regular expression"),
        (["-F", "%q"], "%q means nothing in a template"),
        (["-f", "--until", "now"], "--follow never ends"),
        (["--tail", "1", "-n", "1"], "both say how many"),
        (["-g", "g", "--since", "1h"], "--since has no meaning in a group"),
        (["--json", "-F", "%v"], "three ways to print"),
        (["-O", "/nowhere/x"], "cannot write to /nowhere/x"),
        (["-f", "--count"], "--count needs an end"),
    ],
)
def test_mistakes_are_one_line(ottla, name, arguments, reason):
    ottla.topic(name)
    said = ottla("consume", name, *arguments, code=1)
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("ottla: error: ")
    assert reason in line


def test_a_topic_that_does_not_exist(ottla, name):
    said = ottla("consume", name, code=1)
    assert f"topic '{name}' does not exist" in said.err
