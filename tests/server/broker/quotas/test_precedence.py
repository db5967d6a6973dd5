"""Which quota applies: Kafka's order, for every combination of those that there are."""

from __future__ import annotations

from itertools import combinations

import pytest

from ottla.server.broker.quotas.limits import LimitTable
from ottla.server.metadata.image import QuotaEntity

# Most specific first, as Kafka documents it: the entity, and who shares its quota.
ORDER: list[tuple[QuotaEntity, tuple[str, str]]] = [
    ((("client-id", "app"), ("user", "alice")), ("alice", "app")),
    ((("client-id", None), ("user", "alice")), ("alice", "app")),
    ((("user", "alice"),), ("alice", "")),
    ((("client-id", "app"), ("user", None)), ("alice", "app")),
    ((("client-id", None), ("user", None)), ("alice", "app")),
    ((("user", None),), ("alice", "")),
    ((("client-id", "app"),), ("", "app")),
    ((("client-id", None),), ("", "app")),
]
OF_OTHERS: list[QuotaEntity] = [
    (("client-id", "other"), ("user", "alice")),
    (("client-id", "app"), ("user", "bob")),
    (("user", "bob"),),
    (("client-id", "other"),),
]


def test_the_most_specific_quota_applies() -> None:
    """All 256 combinations: the first of the order that is there."""
    for size in range(len(ORDER) + 1):
        for chosen in combinations(range(len(ORDER)), size):
            table = LimitTable([(ORDER[level][0], float(level + 1)) for level in reversed(chosen)])
            limit = table.find("alice", "app")
            if not chosen:
                assert limit is None
                assert not table
            else:
                assert limit == (ORDER[chosen[0]][1], chosen[0] + 1)


def test_quotas_of_others_do_not_apply() -> None:
    table = LimitTable((entity, 1.0) for entity in OF_OTHERS)
    assert table.find("alice", "app") is None
    assert table.find("bob", "app") == (("bob", "app"), 1.0)
    assert table.find("bob", "app2") == (("bob", ""), 1.0)
    assert table.find("carol", "other") == (("", "other"), 1.0)


@pytest.mark.parametrize("level", range(len(ORDER)))
def test_without_a_client_id_only_users_have_quotas(level: int) -> None:
    table = LimitTable([(ORDER[level][0], 1.0)])
    entity = dict(ORDER[level][0])
    expected = None if "client-id" in entity else (("alice", ""), 1.0)
    assert table.find("alice", "") == expected


def test_each_client_id_has_the_default_to_itself() -> None:
    table = LimitTable([((("client-id", None),), 5.0)])
    assert table.find("alice", "one") == (("", "one"), 5.0)
    assert table.find("bob", "two") == (("", "two"), 5.0)
