"""What is shown of groups, and which transactions hang, from descriptions as the Admin client gives them."""

import io
import json
from argparse import Namespace

import pytest

from ottla.cli.errors import CommandError
from ottla.cli.groups.describing import GroupDetails, show
from ottla.cli.groups.kinds import Kind, Position, ShareKind, StreamsKind, lag_of
from ottla.cli.groups.resetting import read_offsets
from ottla.cli.output import Output
from ottla.cli.transactions import hanging
from ottla.client.admin.groups import ConsumerGroupDescription, GroupState, GroupType, MemberDescription
from ottla.client.admin.modern_groups import (
    StreamsAssignment,
    StreamsGroupDescription,
    StreamsMemberDescription,
    StreamsSubtopologyDescription,
    StreamsTask,
    StreamsTopicInfo,
)
from ottla.client.admin.transactions import (
    ProducerState,
    TransactionDescription,
    TransactionListing,
    TransactionState,
)
from ottla.client.model import Node, TopicPartition

NODE = Node(1, "broker", 9092)
TASK = StreamsTask("0", 3)
NO_TASKS = frozenset()
T0, T1 = TopicPartition("orders", 0), TopicPartition("orders", 1)


def shown(kind, details, *, members=False, offsets=False, **options):
    out = io.StringIO()
    output = Output(Namespace(**options), stdout=out, stderr=io.StringIO())
    show(output, kind, details, members=members, offsets=offsets)
    return out.getvalue()


@pytest.fixture
def streams():
    assignment = StreamsAssignment(frozenset({TASK}), frozenset({StreamsTask("1", 0)}), NO_TASKS)
    member = StreamsMemberDescription(
        "m-1", 4, None, None, "app", "/10.0.0.1", 0, "p", None, {}, {TASK: 5}, {TASK: 9}, assignment, assignment, False
    )
    subtopology = StreamsSubtopologyDescription(
        "0", ("orders",), ("sums-repartition",), (StreamsTopicInfo("sums-changelog", 1, 1, {}),), ()
    )
    described = StreamsGroupDescription("app", GroupState.STABLE, NODE, (member,), 7, 7, 0, (subtopology,))
    return GroupDetails(described, {T0: Position(5)}, {T0: 9})


def test_a_streams_group(streams):
    text = shown(StreamsKind(), [streams])
    assert "app: Stable, streams group, 1 member, lag 4, epoch 7, coordinator broker:9092 (id 1)" in text
    assert "active 0_3; standby 1_0" in text
    assert "sums-changelog" in text
    [told] = json.loads(shown(StreamsKind(), [streams], json=True))
    assert told["state"] == "Stable"
    assert told["members"][0]["task_offsets"] == [{"subtopology_id": "0", "partition": 3, "offset": 5}]
    assert told["members"][0]["assignment"]["active_tasks"] == [{"subtopology_id": "0", "partition": 3}]


def test_partitions_that_a_member_has_and_nobody_committed():
    member = MemberDescription("m", "i-1", None, "c", "/h", frozenset({T0, T1}))
    described = ConsumerGroupDescription("g", GroupType.CLASSIC, GroupState.STABLE, NODE, "range", (member,))
    details = GroupDetails(described, {T1: Position(3)}, {T0: 5, T1: None})
    assert details.lag is None  # the end of what is committed is not known
    lines = shown(Kind(), [details]).splitlines()
    assert [line.split() for line in lines[2:4]] == [
        ["orders", "0", "-", "5", "-", "c"],
        ["orders", "1", "3", "-", "-", "c"],
    ]
    assert lines[-1].split() == ["m", "i-1", "c", "/h", "orders:0,1"]
    assert "orders" not in shown(Kind(), [details], quiet=True)


def test_lag():
    assert lag_of(None, 5) is None
    assert lag_of(Position(3), 5) == 2
    assert lag_of(Position(7), 5) == 0
    assert lag_of(Position(3), None) is None
    assert lag_of(Position(3, 1), 5) == 1
    assert ShareKind().types == (GroupType.SHARE,)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("orders,0,5\n\norders,1,6\n", {T0: 5, T1: 6}),
        ("topic,partition,offset\norders,0,5\n", {T0: 5}),
        ("a-group,orders,0,5\n", {T0: 5}),
        ('"orders",0,5', {T0: 5}),
        ('[{"topic": "orders", "partition": 1, "before": 1, "after": 2}]', {T1: 2}),
        ('{"partitions": [{"topic": "orders", "partition": 1, "offset": 2}]}', {T1: 2}),
    ],
)
def test_offsets_in_files(tmp_path, text, found):
    (tmp_path / "file").write_text(text)
    assert read_offsets(str(tmp_path / "file")) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [("orders,0,5\norders;1;6\n", "line 2: write topic,partition,offset"), ('[{"topic": 1}]', "write an array of")],
)
def test_offsets_that_are_none(tmp_path, text, reason):
    (tmp_path / "file").write_text(text)
    with pytest.raises(CommandError, match=reason):
        read_offsets(str(tmp_path / "file"))


def test_a_transaction_hangs_when_its_coordinator_will_not_end_it():
    def described(producer_id, epoch, partitions):
        return TransactionDescription(1, TransactionState.ONGOING, producer_id, epoch, 60_000, 1, frozenset(partitions))

    def producer(producer_id, epoch=0):
        return ProducerState(producer_id, epoch, 5, 1, 0, 10)

    listed = [TransactionListing(f"id-{number}", number, TransactionState.ONGOING, 1) for number in (1, 2, 3)]
    known = {"id-1": described(1, 0, [T0]), "id-2": described(2, 0, [T1]), "id-3": described(3, 4, [T0])}
    open_ones = {T0: [producer(1), producer(2), producer(3, 5), producer(4)]}
    assert [(one.producer.producer_id, one.transactional_id) for one in hanging(open_ones, listed, known)] == [
        (2, "id-2"),  # open elsewhere, not here
        (3, "id-3"),  # of a later epoch than the coordinator knows
        (4, None),  # unknown
    ]
