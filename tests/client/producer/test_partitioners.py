"""Who goes where: vectors made with librdkafka 2.16 (and Java's murmur2, which agrees) on seven partitions."""

from __future__ import annotations

from random import Random

import pytest

from ottla.client.errors import ConfigError
from ottla.client.producer.appending import STICKY
from ottla.client.producer.batches import TopicQueue
from ottla.client.producer.partitioners import Partitions, resolve_partitioner

KEYS = [
    b"",
    b"a",
    b"12",
    b"kafka",
    b"giberish123456789",
    b"\x80\xff\x00",
    "žluťoučký".encode(),
    b"order-123456",
    b"x" * 31,
]
VECTORS = {
    "consistent": [0, 4, 1, 6, 2, 0, 4, 2, 4],
    "consistent_random": [STICKY, 4, 1, 6, 2, 0, 4, 2, 4],
    "murmur2": [2, 5, 4, 3, 5, 1, 0, 2, 5],
    "fnv1a": [2, 6, 1, 4, 5, 3, 4, 5, 2],
    "fnv1a_random": [2, 6, 1, 4, 5, 3, 4, 5, 2],
}
WITHOUT_KEY = {"consistent": 0, "consistent_random": STICKY, "murmur2": 2, "fnv1a": 2, "fnv1a_random": STICKY}


def topic(count: int = 7, available: tuple[int, ...] | None = None) -> TopicQueue:
    made = TopicQueue(None, "t", 1000)  # type: ignore[arg-type]
    made.update(count, tuple(range(count)) if available is None else available)
    return made


@pytest.mark.parametrize("name", VECTORS)
def test_keys_go_where_librdkafka_sends_them(name: str) -> None:
    choose = resolve_partitioner(name, Random(1).random)
    assert choose is not None
    assert [choose(topic(), key, None) for key in KEYS] == VECTORS[name]
    assert choose(topic(), None, None) == WITHOUT_KEY[name]


def test_kafkas_own_is_made_where_records_are_appended() -> None:
    assert resolve_partitioner(None, Random(1).random) is None
    assert resolve_partitioner("murmur2_random", Random(1).random) is None


def test_round_robin_takes_turns_among_those_with_a_leader() -> None:
    choose = resolve_partitioner("round_robin", Random(1).random)
    assert choose is not None
    some = topic(7, (1, 4, 6))
    found = [choose(some, b"same", None) for _ in range(6)]
    assert sorted(found[:3]) == [1, 4, 6]
    assert found[3:] == found[:3]
    assert {choose(topic(7, ()), None, None) for _ in range(7)} == set(range(7))


def test_random_hits_all_that_are_available() -> None:
    choose = resolve_partitioner("random", Random(1).random)
    assert choose is not None
    assert {choose(topic(7, (1, 4)), b"k", None) for _ in range(40)} == {1, 4}


def test_a_function_chooses() -> None:
    seen = []

    def mine(name: str, key: bytes | None, value: bytes | None, partitions: Partitions) -> int:
        seen.append((name, key, value, partitions))
        return partitions.count - 1

    choose = resolve_partitioner(mine, Random(1).random)
    assert choose is not None
    assert choose(topic(3, (0,)), b"k", b"v") == 2
    assert seen == [("t", b"k", b"v", Partitions(3, (0,)))]


def test_nonsense_is_refused() -> None:
    for spec in ("murmur3", 7):
        with pytest.raises(ConfigError):
            resolve_partitioner(spec, Random(1).random)
