"""Where replicas go."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.controller.placement import place
from ottla.server.metadata.image import BrokerImage


def brokers(*racks: str | None, fenced: frozenset[int] = frozenset()) -> dict[int, BrokerImage]:
    return {
        number: BrokerImage(number, 1, bytes(16), {}, {}, rack=rack, fenced=number in fenced)
        for number, rack in enumerate(racks, 1)
    }


@settings(max_examples=100, deadline=None)
@given(
    racks=st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=1, max_size=9),
    partitions=st.integers(1, 40),
    factor=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_replicas_are_distinct_and_spread(racks: list[str | None], partitions: int, factor: int, seed: int) -> None:
    all_brokers = brokers(*racks)
    factor = min(factor, len(racks))
    placed = place(all_brokers, 0, partitions, factor, Random(seed).randrange)
    assert len(placed) == partitions
    leaders = Counter(replicas[0] for replicas in placed)
    assert max(leaders.values()) - min(leaders[broker] for broker in all_brokers) <= 1
    known = {rack for rack in racks if rack is not None}
    for replicas in placed:
        assert len(replicas) == factor
        assert len(set(replicas)) == factor
        assert set(replicas) <= set(all_brokers)
        if None not in racks:
            # As many racks as there can be.
            assert len({all_brokers[replica].rack for replica in replicas}) == min(factor, len(known))


def test_followers_of_one_leader_differ() -> None:
    placed = place(brokers(None, None, None, None), 0, 12, 2, Random(1).randrange)
    followers = {replicas[1] for replicas in placed if replicas[0] == 1}
    assert followers == {2, 3, 4}


def test_fenced_brokers_come_last_and_never_lead() -> None:
    for replicas in place(brokers(None, None, None, fenced=frozenset({2})), 0, 10, 3, Random(1).randrange):
        assert replicas[2] == 2
    for replicas in place(brokers(None, None, None, fenced=frozenset({2})), 0, 10, 2, Random(1).randrange):
        assert 2 not in replicas


def test_too_few_brokers() -> None:
    with pytest.raises(ApiError, match="only 2 broker") as caught:
        place(brokers(None, None), 0, 1, 3, Random(1).randrange)
    assert caught.value.code == ErrorCode.INVALID_REPLICATION_FACTOR
    with pytest.raises(ApiError, match="fenced"):
        place(brokers(None, fenced=frozenset({1})), 0, 1, 1, Random(1).randrange)


def test_cordoned_brokers_take_nothing() -> None:
    directory = bytes([1] * 16)
    cordoned = BrokerImage(1, 1, bytes(16), {}, {}, fenced=False, log_dirs=(directory,), cordoned_log_dirs=(directory,))
    with pytest.raises(ApiError, match="cordoned"):
        place({1: cordoned}, 0, 1, 1, Random(1).randrange)
