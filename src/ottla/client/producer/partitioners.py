"""Which partition a record goes to when the caller does not say.

    None              Kafka's default: murmur2 of the key; without a key whichever partition is being filled (KIP-794)
    "murmur2_random"  the same for keys; without a key sticky too
    "murmur2"         murmur2; no key counts as an empty one
    "consistent_random"  librdkafka's default: crc32 of the key; without a key, or with an empty one, sticky
    "consistent"      crc32; no key counts as an empty one
    "fnv1a_random"    FNV-1a of the key; without a key sticky
    "fnv1a"           FNV-1a; no key counts as an empty one
    "random"          any available partition for each record
    "round_robin"     one available partition after the other, whatever the key

What librdkafka does at random for records without key is sticky here, as in librdkafka itself by default
(`sticky.partitioning.linger.ms`): a batch's worth of records goes to one partition, then another is chosen at random.

Or a function `partitioner(topic, key, value, partitions) -> int`, where key and value are serialized and `partitions`
has `count` and `available` (those with a leader). Returning -1 asks for the sticky one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count as counting

from ottla.client.errors import ConfigError
from ottla.client.producer.appending import STICKY
from ottla.client.producer.batches import TopicQueue
from ottla.records.hashing import crc32_partition, fnv1a_partition, murmur2_partition


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions of a topic that a record may go to."""

    count: int
    available: tuple[int, ...]
    """Those that have a leader at the moment; may be empty."""


Partitioner = Callable[[str, bytes | None, bytes | None, Partitions], int]
"""A partitioner of the user's: topic, serialized key and value, partitions → partition."""

Choice = Callable[[TopicQueue, bytes | None, bytes | None], int]
"""How `Appender` asks."""


def resolve_partitioner(spec: object, random: Callable[[], float]) -> Choice | None:
    """The choice for a name or function; None for Kafka's default, which `Appender` makes itself."""
    if spec is None or spec in ("murmur2_random", "default"):
        return None
    if spec == "random":
        return _random(random)
    if spec == "round_robin":
        return _round_robin(random)
    if isinstance(spec, str):
        named = _NAMED.get(spec)
        if named is None:
            raise ConfigError(
                f"there is no partitioner {spec!r}: take a function, or one of {', '.join(sorted(NAMES))}."
            )
        return named
    method = getattr(spec, "partition", spec)
    if not callable(method):
        raise ConfigError(f"a partitioner is a name or a function, not {type(spec).__name__}.")
    return _custom(method)


def _consistent(topic: TopicQueue, key: bytes | None, value: bytes | None) -> int:
    return crc32_partition(key or b"", topic.count)


def _consistent_random(topic: TopicQueue, key: bytes | None, value: bytes | None) -> int:
    return crc32_partition(key, topic.count) if key else STICKY


def _murmur2(topic: TopicQueue, key: bytes | None, value: bytes | None) -> int:
    return murmur2_partition(key or b"", topic.count)


def _fnv1a(topic: TopicQueue, key: bytes | None, value: bytes | None) -> int:
    return fnv1a_partition(key or b"", topic.count)


def _fnv1a_random(topic: TopicQueue, key: bytes | None, value: bytes | None) -> int:
    return STICKY if key is None else fnv1a_partition(key, topic.count)


def _random(random: Callable[[], float]) -> Choice:
    def choose(topic: TopicQueue, key: bytes | None, value: bytes | None) -> int:
        available = topic.available
        return available[int(random() * len(available))] if available else int(random() * topic.count)

    return choose


def _round_robin(random: Callable[[], float]) -> Choice:
    """Each topic is counted by itself, from anywhere, so that many producers do not begin at the same partition."""
    counters: dict[str, counting[int]] = {}

    def choose(topic: TopicQueue, key: bytes | None, value: bytes | None) -> int:
        counter = counters.get(topic.name)
        if counter is None:
            counter = counters.setdefault(topic.name, counting(int(random() * 1_000_000)))
        number = next(counter)
        available = topic.available
        return available[number % len(available)] if available else number % topic.count

    return choose


def _custom(partitioner: Partitioner) -> Choice:
    def choose(topic: TopicQueue, key: bytes | None, value: bytes | None) -> int:
        return partitioner(topic.name, key, value, Partitions(topic.count, topic.available))

    return choose


_NAMED: dict[str, Choice] = {
    "consistent": _consistent,
    "consistent_random": _consistent_random,
    "fnv1a": _fnv1a,
    "fnv1a_random": _fnv1a_random,
    "murmur2": _murmur2,
}
NAMES = frozenset((*_NAMED, "murmur2_random", "random", "round_robin"))
