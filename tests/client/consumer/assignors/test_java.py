"""What Kafka's own assignors said in random groups (`testdata/JavaAssignments.java` asked them), and what ours say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ottla.client.consumer.assignors import resolve
from ottla.client.consumer.assignors.assignor import Assignments, MemberSubscription, Topics
from ottla.client.consumer.assignors.sticky import StickyAssignor, _previous
from ottla.client.consumer.group.embedded import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.core.ids import TopicPartition

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "testdata" / "java.jsonl").read_text().splitlines()
]


def cases(*names: str) -> list[dict[str, Any]]:
    return [case for case in CASES if case["assignor"] in names]


def read(case: dict[str, Any]) -> tuple[Topics, dict[str, MemberSubscription]]:
    topics = {topic: [frozenset(racks) for racks in partitions] for topic, partitions in case["topics"].items()}
    instances = case["instances"]
    members = {
        member_id: decode_subscription(bytes.fromhex(data), instances.get(member_id))
        for member_id, data in case["subscriptions"].items()
    }
    return topics, members


def ours(case: dict[str, Any]) -> Assignments:
    topics, members = read(case)
    return resolve([case["assignor"]])[0].assign(topics, members)


def javas(case: dict[str, Any]) -> dict[str, frozenset[TopicPartition]]:
    return {member_id: decode_assignment(bytes.fromhex(data)) for member_id, data in case["assignments"].items()}


def test_messages_are_byte_for_byte_what_java_writes() -> None:
    for case in CASES:
        for data in case["subscriptions"].values():
            assert encode_subscription(decode_subscription(bytes.fromhex(data))).hex() == data
    for case in cases("roundrobin"):
        for data in case["assignments"].values():
            assigned = decode_assignment(bytes.fromhex(data))
            assert len(encode_assignment(sorted(assigned))) == len(data) // 2
            assert decode_assignment(encode_assignment(assigned)) == assigned


def test_range_and_roundrobin_give_what_java_gives() -> None:
    for case in cases("range", "roundrobin"):
        assert {member_id: frozenset(given) for member_id, given in ours(case).items()} == javas(case), case
    for case in cases("roundrobin"):
        in_order = {member_id: encode_assignment(given).hex() for member_id, given in ours(case).items()}
        assert in_order == case["assignments"]


def test_sticky_user_data_is_read_as_java_writes_it() -> None:
    for case in cases("sticky"):
        for member in read(case)[1].values():
            assert member.user_data is not None
            places, generation = _previous(member.user_data)
            assert generation == 5
            written = StickyAssignor().user_data(places, generation)
            assert _previous(written) == (sorted(places), 5)
            assert written is not None
            assert len(written) == len(member.user_data)


def test_sticky_is_as_even_and_as_sticky_as_java() -> None:
    for case in cases("sticky"):
        members = read(case)[1]
        had = {member_id: frozenset(_previous(member.user_data)[0]) for member_id, member in members.items()}
        mine, his = {member_id: frozenset(given) for member_id, given in ours(case).items()}, javas(case)
        assert spread(mine) <= spread(his), case
        if spread(mine) == spread(his):
            kept = sum(len(mine[member_id] & had[member_id]) for member_id in members)
            assert kept >= sum(len(his[member_id] & had[member_id]) for member_id in members), case


def spread(assignments: dict[str, frozenset[TopicPartition]]) -> int:
    """The sum of squares of the loads: the less, the more even."""
    return sum(len(given) ** 2 for given in assignments.values())
