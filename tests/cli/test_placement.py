from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.cli.placement import PlacementError, plan
from ottla.core.ids import TopicPartition


def partitions(*replicas):
    return {TopicPartition("t", number): brokers for number, brokers in enumerate(replicas)}


def loads(found, brokers):
    counted = Counter(broker for replicas in found.values() for broker in replicas)
    return [counted[broker] for broker in brokers]


def leaders(found, brokers):
    counted = Counter(replicas[0] for replicas in found.values())
    return [counted[broker] for broker in brokers]


def test_what_is_balanced_stays_as_it_is():
    current = partitions((1, 2), (2, 3), (3, 1))
    assert plan(current, dict.fromkeys([1, 2, 3])) == current


def test_a_new_broker_gets_its_share_and_no_more_is_moved():
    current = partitions((1, 2), (2, 1), (1, 2), (2, 1))
    found = plan(current, dict.fromkeys([1, 2, 3, 4]))
    assert loads(found, [1, 2, 3, 4]) == [2, 2, 2, 2]
    moved = sum(len(set(found[one]) - set(current[one])) for one in current)
    assert moved == 4


def test_a_broker_is_emptied():
    found = plan(partitions((1, 2), (2, 3), (3, 1)), dict.fromkeys([1, 2]))
    assert loads(found, [1, 2, 3]) == [3, 3, 0]


def test_more_and_fewer_replicas():
    current = partitions((1,), (1,), (1,))
    assert loads(plan(current, dict.fromkeys([1, 2, 3]), replicas=2), [1, 2, 3]) == [2, 2, 2]
    fewer = plan(partitions((1, 2, 3), (2, 3, 1), (3, 1, 2)), dict.fromkeys([1, 2, 3]), replicas=1)
    assert fewer == {TopicPartition("t", 0): (1,), TopicPartition("t", 1): (2,), TopicPartition("t", 2): (3,)}
    with pytest.raises(PlacementError, match="t-0 shall have 4 replicas, and there are 3 brokers"):
        plan(current, dict.fromkeys([1, 2, 3]), replicas=4)


def test_replicas_are_in_different_racks():
    racks = {1: "a", 2: "a", 3: "b", 4: "b"}
    found = plan(partitions((1, 2), (1, 2), (3, 4), (3, 4)), racks)
    assert all({racks[one] for one in replicas} == {"a", "b"} for replicas in found.values())
    assert loads(found, racks) == [2, 2, 2, 2]


def test_nothing_to_place():
    assert plan({}, {1: None}) == {}


@st.composite
def clusters(draw):
    brokers = draw(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True))
    known = sorted({*brokers, *draw(st.lists(st.integers(0, 12), max_size=4))})
    count = draw(st.integers(1, len(brokers)))
    replicas = st.lists(st.sampled_from(known), min_size=1, max_size=min(count, len(known)), unique=True)
    current = draw(st.lists(replicas, max_size=20))
    return partitions(*map(tuple, current)), brokers


@settings(max_examples=150, deadline=None, derandomize=True)
@given(clusters(), st.booleans())
def test_plans_are_whole_balanced_and_stable(cluster, with_racks):
    current, brokers = cluster
    racks = {broker: f"rack-{broker % 2}" if with_racks else None for broker in brokers}
    found = plan(current, racks)
    assert found.keys() == current.keys()
    for partition, replicas in found.items():
        assert len(replicas) == len(set(replicas)) == len(current[partition])
        assert set(replicas) <= set(brokers)
        spread = len({racks[one] if with_racks else one for one in replicas})
        assert spread == min(len(replicas), len(set(racks.values())) if with_racks else len(brokers))
    if not with_racks:
        assert not current or max(loads(found, brokers)) - min(loads(found, brokers)) <= 1
        assert plan(found, racks) == found, "a plan that was carried out needs no other"
