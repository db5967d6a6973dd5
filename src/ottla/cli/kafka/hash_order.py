"""The order in which Java's `HashMap` and `HashSet` give their elements back.

Kafka's tools print many maps as they come. Their order looks random and is not: it follows from the hash codes, and
scripts were written against it. So the same elements are brought into the same order here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ottla.client.model import Node

T = TypeVar("T")
V = TypeVar("V")
_SMALLEST_TABLE = 16


def string_hash(text: str) -> int:
    """`String.hashCode`, as an unsigned number."""
    value = 0
    units = text.encode("utf-16-be", "surrogatepass")
    for position in range(0, len(units), 2):
        value = (31 * value + (units[position] << 8 | units[position + 1])) & 0xFFFFFFFF
    return value


def node_hash(node: Node) -> int:
    """`Node.hashCode`."""
    code = 31 + string_hash(node.host)
    for part in (node.id, node.port, 0 if node.rack is None else string_hash(node.rack)):
        code = 31 * code + part
    return 31 * code + (1231 if node.fenced else 1237) & 0xFFFFFFFF


def _hash(element: object) -> int:
    match element:
        case str():
            return string_hash(element)
        case int():
            return element ^ element >> 32
        case (str(topic), int(partition)):
            return 31 * (31 + partition) + string_hash(topic)
        case (str(topic), int(partition), int(broker_id)):
            return 31 * (31 * (31 + string_hash(topic)) + partition) + broker_id
    raise TypeError(f"Java has no hash code here for {element!r}")


def hash_ordered(
    elements: Iterable[T], hash_code: Callable[[T], int] = _hash, *, capacity: int = _SMALLEST_TABLE
) -> list[T]:
    """Distinct elements as a hash table gives them that they were put into one after the other.

    `capacity`: what the table was made for, as in `new HashMap<>(capacity)`.
    Elements: texts, integers, `TopicPartition` and `TopicPartitionReplica` (any tuples of theirs); anything else needs
    its own `hash_code`.
    """
    distinct = list(dict.fromkeys(elements))
    size = 1 << max(0, capacity - 1).bit_length()
    while len(distinct) * 4 > size * 3:  # a table grows when more than three quarters of it are taken
        size *= 2

    def bucket(element: T) -> int:
        code = hash_code(element) & 0xFFFFFFFF
        return (code ^ code >> 16) & (size - 1)

    return sorted(distinct, key=bucket)  # a stable sort: what falls into one bucket stays as it came


def hash_ordered_items(mapping: Mapping[T, V]) -> list[tuple[T, V]]:
    """The items of a mapping in that order."""
    return [(key, mapping[key]) for key in hash_ordered(mapping)]
