"""Moves of partitions: plans, throttles, what is told; and the quorum, and replicas that differ."""

from __future__ import annotations

import json
from random import Random

import pytest

from ottla.cli.kafka import reassignments as core
from ottla.cli.kafka.common import ToolError
from ottla.cli.kafka.metadata_quorum import TerseError, controller_endpoints, replication_table, status_text
from ottla.cli.kafka.replica_verification import Comparison, Fetched
from ottla.client.admin.clusters import QuorumInfo, QuorumReplica, RaftVoterEndpoint
from ottla.client.admin.log_dirs import ReplicaLogDirInfo, TopicPartitionReplica
from ottla.client.admin.partitions import PartitionReassignment
from ottla.client.model import TopicPartition
from ottla.records.record import Record, build_batch

A0, A1 = TopicPartition("a", 0), TopicPartition("a", 1)


def plan(*partitions: object, **more: object) -> str:
    return json.dumps({"version": 1, "partitions": partitions, **more})


def test_a_plan_is_read_and_written() -> None:
    found = core.read_plan(plan({"topic": "a", "partition": 0, "replicas": [1, 2], "log_dirs": ["any", "/d"]}))
    assert found.partitions == [(A0, (1, 2))]
    assert found.log_dirs == {TopicPartitionReplica("a", 0, 2): "/d"}
    written = core.plan_json(dict(found.partitions), found.log_dirs)
    assert written == (
        '{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[1,2],"log_dirs":["any","/d"]}]}'
    )
    assert core.read_plan(written) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Unrecognized token"),
        ("[]", "Expected JSON object"),
        (plan(version=2), "Not supported version field value 2"),
        (plan({"partition": 0, "replicas": []}), "No such field exists: `topic`"),
        (plan({"topic": "a", "partition": "0", "replicas": []}), "Expected `Integer` value"),
        (plan({"topic": "a", "partition": 0, "replicas": [1], "log_dirs": []}), "is different from size of log dirs"),
    ],
)
def test_what_is_no_plan(text: str, said: str) -> None:
    with pytest.raises(ToolError, match=said):
        core.read_plan(text)


@pytest.mark.parametrize(
    ("replicas", "said"),
    [
        ([], "cannot be empty"),
        ([(A0, (1,)), (A0, (2,))], "duplicate topic partitions: a-0"),
        ([(A0, (1, 1))], "entries for 1"),
    ],
)
def test_what_cannot_be_meant(replicas: list[tuple[TopicPartition, tuple[int, ...]]], said: str) -> None:
    with pytest.raises(ToolError, match=said):
        core.check_executable(core.Plan(replicas, {}))


def test_throttles_are_for_who_sends_and_who_receives() -> None:
    current = {A1: PartitionReassignment((1, 2, 3), (3,), (1,))}
    moves = core.planned_moves(current, {A0: (2, 3)}, {A0: (1, 2)})
    assert core.leader_throttles(moves) == {"a": "0:1,0:2,1:1,1:2"}
    assert core.follower_throttles(moves) == {"a": "0:3,1:3"}
    assert core.moving_brokers(moves) == [1, 2, 3]


def test_how_far_moves_are() -> None:
    assert core.states_text(
        {A0: core.PartitionState((1,), (1,), True), A1: core.PartitionState((1,), (2,), True)}
    ).splitlines() == [
        "Status of partition reassignment:",
        "Reassignment of partition a-0 is completed.",
        "There is no active reassignment of partition a-1, but replica set is 1 rather than 2.",
    ]
    replica = TopicPartitionReplica("a", 0, 1)
    texts = [
        core.MoveState("/d", info).text(replica)
        for info in (
            None,
            ReplicaLogDirInfo(),
            ReplicaLogDirInfo("/d"),
            ReplicaLogDirInfo("/c"),
            ReplicaLogDirInfo("/c", future_log_dir="/d"),
            ReplicaLogDirInfo("/c", future_log_dir="/e"),
        )
    ]
    assert [text.split()[-4:] for text in texts] == [
        ["directory", "on", "broker", "1."],
        ["directory", "on", "the", "broker."],
        ["replica", "a-0-1", "completed", "successfully."],
        ["dir", "/c", "to", "/d."],
        ["is", "still", "in", "progress."],
        ["/e", "instead", "of", "/d."],
    ]
    assert core.list_text({}) == "No partition reassignments found."
    listed = core.list_text({A0: PartitionReassignment((1, 2), (2,), (1,))})
    assert listed.endswith("a-0: replicas: 1,2. adding: 2. removing: 1.")


def test_proposals_have_as_many_replicas_as_before() -> None:
    proposed = core.propose({A0: (1, 2), A1: (2, 1)}, {3: None, 4: None, 5: None}, Random(7))
    assert set(proposed) == {A0, A1}
    assert all(len(set(replicas)) == 2 and set(replicas) <= {3, 4, 5} for replicas in proposed.values())
    with pytest.raises(ToolError, match="only 1 broker"):
        core.propose({A0: (1, 2)}, {3: None}, Random(7))
    with pytest.raises(ToolError, match="currently fenced"):
        core.propose({A0: (1, 2)}, {}, Random(7))


# The quorum

VOTERS = (
    QuorumReplica(1, "AAAAAAAAAAAAAAAAAAAAAQ", 100, 50_000, 50_000),
    QuorumReplica(2, None, 90, 40_000, 30_000),
)
OBSERVERS = (QuorumReplica(3, None, 80, None, None),)
QUORUM = QuorumInfo(1, 5, 99, VOTERS, OBSERVERS, {1: (RaftVoterEndpoint("C", "::1", 9093),)})


def test_the_quorum_in_short() -> None:
    lines = status_text("id", QUORUM).splitlines()
    assert lines[4:6] == ["MaxFollowerLag:         10", "MaxFollowerLagTimeMs:   20000"]
    assert lines[6].endswith(
        '[{"id": 1, "directoryId": "AAAAAAAAAAAAAAAAAAAAAQ", "endpoints": ["C://[::1]:9093"]}, {"id": 2}]'
    )


def test_how_far_each_replica_of_the_quorum_is() -> None:
    rows = [line.split("\t") for line in replication_table(QUORUM, 60_000).splitlines()[1:]]
    assert [(row[0].strip(), row[3].strip(), row[5].strip(), row[6].strip()) for row in rows] == [
        ("1", "0", "10000 ms ago", "Leader"),
        ("2", "10", "30000 ms ago", "Follower"),
        ("3", "20", "-1", "Observer"),
    ]
    with pytest.raises(TerseError, match="drift in system clock"):
        replication_table(QUORUM, 10_000)


def test_where_a_controller_listens() -> None:
    settings = {
        "listeners": "C://:9093,P://x:9092",
        "advertised.listeners": "P://y:1",
        "controller.listener.names": "c,p",
    }
    assert controller_endpoints(settings) == [RaftVoterEndpoint("C", "localhost", 9093), RaftVoterEndpoint("P", "y", 1)]
    with pytest.raises(TerseError, match=r"controller\.listener\.names was not found"):
        controller_endpoints({})


# Replicas


def batches(*values: bytes, base_offset: int = 0) -> bytes:
    return b"".join(
        bytes(build_batch([Record(value=value)], base_offset=base_offset + number))
        for number, value in enumerate(values)
    )


def test_replicas_are_compared_as_far_as_all_have_what_is_committed() -> None:
    comparison = Comparison({A0: 0}, 10, 0)
    same = {1: Fetched(batches(b"a", b"b", b"c"), 2), 2: Fetched(batches(b"a", b"b"), 2)}
    assert list(comparison.compare({A0: same}, 5)) == []
    assert comparison.offsets == {A0: 2}
    (line,) = comparison.compare({}, 20)
    assert line.endswith(": max lag is -1 for partition null at offset -1 among 1 partitions")


def test_replicas_that_differ_are_told_of() -> None:
    comparison = Comparison({A0: 0}, 10, 0)
    (line,) = comparison.compare({A0: {1: Fetched(batches(b"a"), 1), 2: Fetched(batches(b"x"), 1)}}, 5)
    assert "partition a-0 has unmatched checksum at offset 0; replica 1's checksum" in line
    other = Fetched(batches(b"a", base_offset=5), 9)
    lines = list(comparison.compare({A0: {1: Fetched(batches(b"a", base_offset=1), 9), 2: other}}, 6))
    assert comparison.failed
    assert lines[0].endswith("replica 1's offset 1 doesn't match replica 2's offset 5")
