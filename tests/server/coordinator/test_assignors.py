"""The assignors: every partition once, to a subscriber; as even as can be; nothing moves without need."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from ottla.server.coordinator.assignors.assignor import MemberSpec, assignor_named
from ottla.server.coordinator.modern_group import Assignment

Counts = dict[bytes, int]


def _topic(index: int) -> bytes:
    return bytes([index]) * 16


def _check(members: dict[str, MemberSpec], counts: Counts, assigned: dict[str, Assignment]) -> None:
    """Each partition of a subscribed topic has one owner, which subscribes to it."""
    assert list(assigned) == list(members)
    owned = []
    for member_id, assignment in assigned.items():
        assert assignment.keys() <= members[member_id].topic_ids
        for topic_id, indexes in assignment.items():
            assert indexes
            assert list(indexes) == sorted(set(indexes))
            owned += [(topic_id, index) for index in indexes]
    subscribed = set().union(*(spec.topic_ids for spec in members.values()))
    assert sorted(owned) == sorted((topic_id, index) for topic_id in subscribed for index in range(counts[topic_id]))


def _loads(assigned: dict[str, Assignment]) -> list[int]:
    return [sum(map(len, assignment.values())) for assignment in assigned.values()]


def _moved(members: dict[str, MemberSpec], assigned: dict[str, Assignment]) -> int:
    """How many partitions have another owner than before."""
    before = {
        (topic_id, index): member_id
        for member_id, spec in members.items()
        for topic_id, indexes in spec.target.items()
        for index in indexes
    }
    return sum(
        before.get((topic_id, index), member_id) != member_id
        for member_id, assignment in assigned.items()
        for topic_id, indexes in assignment.items()
        for index in indexes
    )


def _with_targets(members: dict[str, MemberSpec], assigned: dict[str, Assignment]) -> dict[str, MemberSpec]:
    return {key: spec._replace(target=assigned.get(key, {})) for key, spec in members.items()}


def _random_group(random: Random, *, same: bool) -> tuple[dict[str, MemberSpec], Counts]:
    counts = {_topic(index): random.randrange(1, 7) for index in range(random.randrange(1, 5))}
    everything = frozenset(counts)
    members = {}
    for index in range(random.randrange(1, 7)):
        chosen = everything if same else frozenset(random.sample(sorted(counts), random.randrange(len(counts) + 1)))
        members[f"m{index}"] = MemberSpec(chosen, {}, f"i{index}" if random.random() < 0.3 else None)
    return members, counts


def _changed(random: Random, members: dict[str, MemberSpec], counts: Counts, *, same: bool) -> None:
    """Members come and go, change their minds; topics grow."""
    dice = random.random()
    if dice < 0.3 and len(members) > 1:
        del members[random.choice(list(members))]
    elif dice < 0.6:
        topic_ids = next(iter(members.values())).topic_ids
        members[f"n{random.randrange(1000)}"] = MemberSpec(topic_ids, {})
    elif dice < 0.8 and not same:
        member_id = random.choice(list(members))
        chosen = frozenset(random.sample(sorted(counts), random.randrange(len(counts) + 1)))
        members[member_id] = members[member_id]._replace(topic_ids=chosen)
    else:
        counts[random.choice(list(counts))] += random.randrange(1, 4)


@pytest.mark.parametrize("name", ["uniform", "range"])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_every_partition_has_one_owner_which_subscribes_to_it(name: str, same: bool, seed: int) -> None:
    random = Random(seed)
    members, counts = _random_group(random, same=same)
    for _ in range(12):
        assigned = assignor_named(name)(members, counts)
        _check(members, counts, assigned)
        members = _with_targets(members, assigned)
        _changed(random, members, counts, same=same)


@pytest.mark.parametrize("seed", range(15))
def test_uniform_is_even_and_moves_as_little_as_it_can_where_all_subscribe_to_the_same(seed: int) -> None:
    random = Random(seed)
    members, counts = _random_group(random, same=True)
    for _ in range(12):
        assigned = assignor_named("uniform")(members, counts)
        loads = _loads(assigned)
        assert max(loads) - min(loads) <= 1
        # Whoever had more than its share gives away the rest, nobody else anything.
        quota, extra = divmod(sum(counts.values()), len(members))
        had = sorted((sum(map(len, spec.target.values())) for spec in members.values()), reverse=True)
        share = [quota + (position < extra) for position in range(len(members))]
        assert _moved(members, assigned) == sum(max(0, load - most) for load, most in zip(had, share, strict=True))
        members = _with_targets(members, assigned)
        assert assignor_named("uniform")(members, counts) == assigned
        _changed(random, members, counts, same=True)


@pytest.mark.parametrize("seed", range(25))
def test_uniform_is_as_even_as_different_subscriptions_allow(seed: int) -> None:
    """Against all assignments there are: none has smaller squares."""
    random = Random(seed)
    counts = {_topic(index): random.randrange(1, 4) for index in range(3)}
    members = {
        f"m{index}": MemberSpec(frozenset(random.sample(sorted(counts), random.randrange(1, 4))), {})
        for index in range(4)
    }
    for _ in range(3):
        assigned = assignor_named("uniform")(members, counts)
        _check(members, counts, assigned)
        assert sum(load**2 for load in _loads(assigned)) == _least_squares(members, counts)
        members = _with_targets(members, assigned)
        assert assignor_named("uniform")(members, counts) == assigned
        counts[random.choice(list(counts))] += 1


def _least_squares(members: dict[str, MemberSpec], counts: Counts) -> int:
    """By trying everything. Partitions of one topic are alike, so numbers of them suffice."""
    names = list(members)
    splits = []
    for topic_id, count in counts.items():
        subscribers = [index for index, name in enumerate(names) if topic_id in members[name].topic_ids]
        if subscribers:
            splits.append([(subscribers, split) for split in _splits(count, len(subscribers))])
    best = None
    for choice in product(*splits):
        loads = [0] * len(names)
        for subscribers, split in choice:
            for index, load in zip(subscribers, split, strict=True):
                loads[index] += load
        squares = sum(load**2 for load in loads)
        best = squares if best is None else min(best, squares)
    return best or 0


def _splits(count: int, parts: int) -> list[tuple[int, ...]]:
    if parts == 1:
        return [(count,)]
    return [(first, *rest) for first in range(count + 1) for rest in _splits(count - first, parts - 1)]


def test_uniform_passes_partitions_along_a_chain() -> None:
    """A member gains though it shares no topic with the one that has too much."""
    first, second = _topic(1), _topic(2)
    members = {
        "a": MemberSpec(frozenset({first}), {first: (0, 1, 2)}),
        "b": MemberSpec(frozenset({first, second}), {second: (0, 1)}),
        "c": MemberSpec(frozenset({second}), {}),
    }
    assigned = assignor_named("uniform")(members, {first: 3, second: 2})
    assert sorted(_loads(assigned)) == [1, 2, 2]


def test_range_splits_topics_alike() -> None:
    first, second = _topic(1), _topic(2)
    both = frozenset({first, second})
    members = {"z": MemberSpec(both, {}, "i1"), "a": MemberSpec(both, {}), "b": MemberSpec(both, {}, "i0")}
    assigned = assignor_named("range")(members, {first: 7, second: 7})
    assert assigned == {
        "z": {first: (3, 4), second: (3, 4)},
        "a": {first: (5, 6), second: (5, 6)},
        "b": {first: (0, 1, 2), second: (0, 1, 2)},
    }


def test_large_groups_are_assigned_in_no_time() -> None:
    """A thousand members, ten thousand partitions; odd ones subscribe to half of the topics."""
    counts = {_topic(index): 500 for index in range(20)}
    topics = sorted(counts)
    members = {f"m{index:04}": MemberSpec(frozenset(topics[: 10 if index % 2 else 20]), {}) for index in range(1_000)}
    members = _with_targets(members, assignor_named("uniform")(members, counts))
    for index in range(5):
        members[f"n{index}"] = MemberSpec(frozenset(topics), {})
    assigned = assignor_named("uniform")(members, counts)
    _check(members, counts, assigned)
    assert max(_loads(assigned)) - min(_loads(assigned)) <= 1
    assert _moved(members, assigned) <= 60
