"""The assignor of share groups: everybody has something, everything is consumed, and little changes hands."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.server.coordinator.assignors.assignor import MemberSpec
from ottla.server.coordinator.assignors.simple import assign
from ottla.server.coordinator.modern_group import NO_ASSIGNMENT, Assignment

TOPICS = [bytes([number]) * 16 for number in range(3)]

_GROUPS = st.lists(st.sets(st.sampled_from(TOPICS), min_size=1), min_size=1, max_size=7)
_ASSIGNABLE = st.dictionaries(st.sampled_from(TOPICS), st.sets(st.integers(0, 5), min_size=1))


def specs(subscriptions: list[set[bytes]], targets: dict[str, Assignment] | None = None) -> dict[str, MemberSpec]:
    return {
        f"m{number}": MemberSpec(frozenset(topics), (targets or {}).get(f"m{number}", NO_ASSIGNMENT))
        for number, topics in enumerate(subscriptions)
    }


def holders(assignments: dict[str, Assignment]) -> Counter[tuple[bytes, int]]:
    return Counter(
        (topic_id, partition)
        for assignment in assignments.values()
        for topic_id, partitions in assignment.items()
        for partition in partitions
    )


def check(members: dict[str, MemberSpec], assignable: dict[bytes, set[int]], result: dict[str, Assignment]) -> None:
    assert list(result) == list(members)
    for member_id, assignment in result.items():
        for topic_id, partitions in assignment.items():
            assert topic_id in members[member_id].topic_ids
            assert list(partitions) == sorted(set(partitions))
            assert set(partitions) <= assignable[topic_id]
    count = holders(result)
    subscribed = frozenset[bytes]().union(*(spec.topic_ids for spec in members.values()))
    for topic_id in subscribed & assignable.keys():
        assert all(count[topic_id, partition] for partition in assignable[topic_id])
    for member_id, spec in members.items():
        assert bool(result[member_id]) == bool(spec.topic_ids & assignable.keys())


@settings(max_examples=200, derandomize=True, deadline=None)
@given(_GROUPS, _GROUPS, _ASSIGNABLE, _ASSIGNABLE)
def test_every_member_and_every_partition_has_its_due(
    before: list[set[bytes]], after: list[set[bytes]], assignable: dict[bytes, set[int]], later: dict[bytes, set[int]]
) -> None:
    members = specs(before)
    result = assign(members, assignable)
    check(members, assignable, result)
    assert assign(specs(before, result), assignable) == result, "nothing moves without a reason"
    members = specs(after, result)
    check(members, later, assign(members, later))


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9))
def test_members_of_one_mind_share_evenly(member_count: int, partition_count: int) -> None:
    members = specs([{TOPICS[0]}] * member_count)
    result = assign(members, {TOPICS[0]: set(range(partition_count))})
    shares = [len(assignment[TOPICS[0]]) for assignment in result.values()]
    assert max(shares) - min(shares) <= 1
    counts = holders(result).values()
    assert max(counts) <= -(-member_count // partition_count)


def test_a_new_member_takes_only_its_due() -> None:
    topic_id = TOPICS[0]
    first = assign(specs([{topic_id}] * 2), {topic_id: set(range(6))})
    second = assign(specs([{topic_id}] * 3, first), {topic_id: set(range(6))})
    for member_id, assignment in first.items():
        assert len(second[member_id][topic_id]) == 2
        assert set(second[member_id][topic_id]) <= set(assignment[topic_id])


def test_members_with_different_topics_share_each_topic_for_itself() -> None:
    one, two = TOPICS[:2]
    result = assign(specs([{one}, {one, two}, {two}]), {one: {0, 1}, two: {0}})
    assert result == {"m0": {one: (0,)}, "m1": {one: (1,), two: (0,)}, "m2": {two: (0,)}}


def test_without_topics_or_partitions_there_is_nothing() -> None:
    assert assign(specs([{TOPICS[0]}, {TOPICS[1]}]), {}) == {"m0": {}, "m1": {}}
    assert assign({}, {TOPICS[0]: {0}}) == {}
