"""`ottla top`: what two looks at a cluster amount to, and the screen in a pseudo-terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

import pytest

from ottla.cli.groups.kinds import Position
from ottla.cli.top.samples import GroupSample, Sample, compare
from ottla.cli.top.screen import Choices, rate_text, sorted_groups, sorted_topics, sparkline
from ottla.client.admin.topics import PartitionDescription, TopicDescription
from ottla.client.model import Node, TopicPartition

ONE, TWO = Node(1, "a", 9092), Node(2, "b", 9092)


def sample(seconds, ends, positions, *, in_sync=(ONE, TWO)):
    partitions = tuple(
        PartitionDescription(number, leader, 0, (ONE, TWO), in_sync) for number, leader in ((0, ONE), (1, TWO))
    )
    return Sample(
        seconds,
        "cluster",
        1,
        (ONE, TWO),
        {"t": TopicDescription("t", None, False, partitions)},
        {TopicPartition("t", number): 0 for number in range(2)},
        {TopicPartition("t", number): end for number, end in enumerate(ends)},
        {TopicPartition("t", 0): 100},
        {1: 100},
        {
            "g": GroupSample(
                "consumer",
                "Stable",
                1,
                {TopicPartition("t", number): Position(offset) for number, offset in enumerate(positions)},
            )
        },
    )


def test_rates_and_lags_come_from_differences():
    view = compare(sample(10.0, (100, 50), (90, 50)), sample(12.0, (300, 60), (110, 60)))
    assert view.records_per_second == 105
    assert [(row.broker, row.leaders, row.replicas, row.records_per_second) for row in view.brokers] == [
        (1, 1, 2, 100),
        (2, 1, 2, 5),
    ]
    [topic] = view.topics
    assert (topic.records, topic.records_per_second, topic.size_bytes, topic.problems) == (360, 105, 100, 0)
    [group] = view.groups
    assert (group.lag, group.lag_per_second, group.records_per_second) == (190, 90, 15)
    assert view.as_json()["groups"][0]["lag"] == 190


def test_the_first_look_has_no_rates_and_a_topic_made_anew_no_negative_one():
    assert compare(None, sample(1.0, (5, 5), (0, 0))).records_per_second == 0
    view = compare(sample(1.0, (100, 0), (90, 0)), sample(2.0, (3, 0), (1, 0), in_sync=(ONE,)))
    assert view.records_per_second == 0
    assert view.topics[0].problems == 2


def test_what_an_earlier_look_did_not_know_is_no_rate():
    before, now = sample(1.0, (0, 0), (0, 0)), sample(2.0, (5, 5), (5, 5))
    before.groups, before.end_offsets = {}, {}
    view = compare(before, now)
    assert view.records_per_second == 0
    assert view.groups[0].lag == 0


def test_keys_change_what_is_shown():
    choices = Choices()
    assert choices.press("s")
    assert choices.press("g")
    assert choices.press("i")
    assert choices.press(" ")
    assert not choices.press("x")
    assert (choices.topic_sort, choices.group_sort, choices.internal, choices.paused) == (1, 1, True, True)
    choices.press("q")
    assert choices.quits


def test_sorting():
    view = compare(None, sample(1.0, (5, 5), (1, 1)))
    rows = [view.topics[0]._replace(topic=name, records=records) for name, records in (("b", 1), ("a", 2), ("__c", 3))]
    assert [row.topic for row in sorted_topics(rows, "records", internal=False)] == ["a", "b"]
    assert [row.topic for row in sorted_topics(rows, "name", internal=True)] == ["__c", "a", "b"]
    groups = [view.groups[0]._replace(group_id=name, lag=lag) for name, lag in (("x", None), ("y", 9))]
    assert [row.group_id for row in sorted_groups(groups, "lag")] == ["y", "x"]


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0"), (1.25, "1.2"), (55.5, "56"), (1500, "1.5k"), (-2500, "-2.5k"), (3.2e6, "3.2M")]
)
def test_rates_are_short(rate, text):
    assert rate_text(rate) == text


def test_bars():
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([0, 5, 10]) == "▁▄█"
    assert len(sparkline([1.0] * 100)) == 30


def test_once(ottla, name):
    ottla("topics", "create", name)
    ottla("produce", name, "a", "b")
    ottla("groups", "reset", f"{name}-group", "--to", "earliest", "-t", name, "-y")
    lines = ottla("top", "--once", "-i", "0.05").lines
    assert any(line.split()[:3] == [name, "1", "2"] for line in lines)
    assert any(line.split()[:5] == [f"{name}-group", "consumer", "Empty", "0", "2"] for line in lines)
    view = ottla("top", "--once", "-i", "0.05", "--json").json
    assert [row["lag"] for row in view["groups"] if row["group_id"] == f"{name}-group"] == [2]
    assert ottla("top", "--json", "-n", "2", "-i", "0.05").out.count("\n") == 2
    assert "it takes a number of seconds above 0" in ottla("top", "-i", "0", code=2).err


def test_the_screen_in_a_terminal(bootstrap, ottla, name):
    ottla("topics", "create", name)
    ottla("produce", name, "a")
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="120", LINES="40")
        os.execv(sys.executable, [sys.executable, "-m", "ottla", "top", "-i", "0.2", "-b", bootstrap])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    try:
        screen = shown(terminal, "Topics (")
        assert "Brokers (1)" in screen
        assert "by rate" in screen
        os.write(terminal, b"ss")
        assert "by size" in shown(terminal, "by size")
        os.write(terminal, b"i")
        os.write(terminal, b"\x1b[A")  # an arrow means nothing
        os.write(terminal, b" ")
        assert "paused" in shown(terminal, "paused")
        os.write(terminal, b"q")
        shown(terminal, None)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    finally:
        os.close(terminal)


def shown(terminal, wanted):
    """What came on the terminal until `wanted` was in it (None: until it is closed), without control sequences."""
    data, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode(errors="replace"))
        if wanted is not None and wanted in text:
            return text
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                block = os.read(terminal, 65536)
            except OSError:  # how Linux tells that the other side is closed
                return text
            if not block:
                return text
            data += block
    raise AssertionError(f"{wanted} did not come: {data[-2000:]!r}")
