"""What the tools for groups decide and lay out, without a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from ottla.cli.kafka.common import ToolError
from ottla.cli.kafka.consumer_group_output import Row, print_members, print_offsets, print_state
from ottla.cli.kafka.error_words import regex_words
from ottla.cli.kafka.group_offsets import chosen
from ottla.cli.kafka.hash_order import hash_ordered, node_hash, string_hash
from ottla.cli.kafka.offset_resets import (
    PlanRow,
    parse_datetime,
    parse_duration_ms,
    partitions_of,
    plan_csv,
    print_resets,
    read_plan,
)
from ottla.cli.kafka.streams_topics import is_internal
from ottla.cli.kafka.tables import assignment_text, columns, tabbed_table
from ottla.client.admin.groups import ConsumerGroupDescription, GroupState, GroupType, MemberDescription
from ottla.client.model import Node, OffsetAndMetadata, TopicPartition

A0, A1, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)


def test_javas_hash_codes_and_the_order_that_follows() -> None:
    assert string_hash("hello") == 99162322
    assert string_hash("😀") == (31 * 0xD83D + 0xDE00) & 0xFFFFFFFF
    assert hash_ordered(TopicPartition("tools-a", one) for one in range(3)) == [
        ("tools-a", 1),
        ("tools-a", 2),
        ("tools-a", 0),
    ]
    assert hash_ordered([7, 1, 33, 17, 1]) == [1, 33, 17, 7]
    assert hash_ordered(range(13)) == list(range(13))
    nodes = [Node(number, f"127.0.1.{number}", 9092, f"zone-{number}") for number in (1, 2, 3)]
    assert [node.id for node in hash_ordered(nodes, node_hash)] == [2, 1, 3]
    with pytest.raises(TypeError):
        hash_ordered([object()])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01.500", 1500),
        ("1970-01-01T00:00:01.5Z", 1005),
        ("1970-01-01T01:00:00.000+01:00", 0),
        ("1970-01-01T01:00:00.000+01", 0),
        ("1969-12-31T23:00:00.000-01:00", 0),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_datetime(text) == expected


@pytest.mark.parametrize("text", ["1970-01-01", "yesterday", "1970-13-01T00:00:00.000", "1970-01-01T00:00:00", "T"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"Unparseable date|does not contain a 'T'"):
        parse_datetime(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PT1M", 60_000),
        ("P1DT1H", 90_000_000),
        ("-PT1.5S", -1500),
        ("PT-1S", -1000),
        ("pt0.25s", 250),
        ("P-1D", -86_400_000),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "P", "PT", "1H", "PT1", "P1H"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ToolError, match="Text cannot be parsed to a Duration"):
        parse_duration_ms(text)


def test_partitions_on_the_command_line() -> None:
    assert partitions_of("a:0,1") == [A0, A1]
    for wrong in ("a:", "a:0:1", "a:x", "a:99999999999"):
        with pytest.raises(ToolError):
            partitions_of(wrong)


def test_plans_in_csv_and_back(tmp_path: Path) -> None:
    long = TopicPartition("a-topic-with-quite-a-long-name", 0)
    text = plan_csv({"g": {A0: 5, long: 7}}, with_group=False)
    assert text == 'a,0,5\n"a-topic-with-quite-a-long-name",0,7\n'
    (tmp_path / "plan").write_text(text)
    assert read_plan(str(tmp_path / "plan"), ["g"]) == [PlanRow("g", A0, 5), PlanRow("g", long, 7)]
    (tmp_path / "plan").write_text(plan_csv({"g": {A0: 5}, "h,": {B0: 1}}, with_group=True))
    assert read_plan(str(tmp_path / "plan"), ["g", "h,"]) == [PlanRow("g", A0, 5), PlanRow("h,", B0, 1)]
    (tmp_path / "plan").write_text("a,b,c\n")
    with pytest.raises(ToolError):
        read_plan(str(tmp_path / "plan"), ["g"])


def test_new_offsets_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_resets({"g": {A0: 5}})
    assert capsys.readouterr().out == (
        "\nGROUP           TOPIC           PARTITION  NEW-OFFSET\ng               a               0          5\n"
    )


def test_lists_of_names() -> None:
    assert chosen("stable, EMPTY", ("Stable", "Empty"), "state") == ["Stable", "Empty"]
    with pytest.raises(ToolError, match=r"Invalid state list 'x'\. Valid states are: Stable"):
        chosen("x", ("Stable",), "state")


def test_tables() -> None:
    assert columns([3, 2], ["a", "b", "c"]) == "a   b  c"
    assert assignment_text([B0, A1, A0]) == "a:0,1;b:0"
    assert tabbed_table(["Id", "N"], [("abc", 1)]) == "Id \tN\t\nabc\t1\t"


def test_topics_of_a_streams_application() -> None:
    assert is_internal("app-counts-changelog", "app")
    assert is_internal("app-KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE-0000000007-topic", "app")
    assert not is_internal("app2-counts-changelog", "app")
    assert not is_internal("app-output", "app")


def test_words_of_re2() -> None:
    assert regex_words("missing )", "(") == "missing closing )"
    assert regex_words("the expression ends too early", "[a") == "missing closing ]"
    assert regex_words("the expression ends too early", "a\\") == "trailing backslash at end of expression"


def group(*members: MemberDescription, state: GroupState = GroupState.STABLE) -> ConsumerGroupDescription:
    return ConsumerGroupDescription(
        "g", GroupType.CONSUMER, state, Node(1, "host", 9092), "range", members, False, 4, 4
    )


def member(name: str, *, upgraded: bool = True) -> MemberDescription:
    return MemberDescription(name, None, None, "client", "/1.2.3.4", frozenset([A0]), frozenset([A0, A1]), 3, upgraded)


def test_members_of_a_group_that_is_being_upgraded(capsys: pytest.CaptureFixture[str]) -> None:
    print_members(group(member("m"), member("n", upgraded=False)), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[-2:] == ["TARGET-ASSIGNMENT", "UPGRADED"]
    assert [line.split()[-1] for line in lines[2:]] == ["true", "false"]
    print_members(group(state=GroupState.EMPTY), verbose=False)
    shown = capsys.readouterr()
    assert "has no active members" in shown.err
    assert shown.out.startswith("\nGROUP           CONSUMER-ID     HOST")


def test_what_is_known_of_partitions(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        Row("g", A0, OffsetAndMetadata(5, "", 2), 9, "m", "/h", "c"),
        Row("g", A1, None, None, "-", "-", "-"),
    ]
    print_offsets(group(member("m")), rows, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["g", "a", "0", "2", "5", "9", "4", "m", "/h", "c"]
    assert lines[3].split() == ["g", "a", "1", *"-------"]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (GroupState.DEAD, "does not exist"),
        (GroupState.RECONCILING, "is rebalancing"),
        (GroupState.EMPTY, "has no active"),
    ],
)
def test_what_is_special_about_a_group_is_said(
    state: GroupState, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_state(group(state=state), verbose=False)
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
