"""Which records are in the application's hands, and which acknowledgements are to be sent.

A record is *held* from its delivery until it is acknowledged. Renewing its lock leaves it held. What was acknowledged
waits until a request to the node that delivered the record takes it along; only that node has its lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import NamedTuple

from ottla.client.errors import IllegalStateError
from ottla.core.ids import TopicPartition

GAP = 0
"""Acknowledges an offset that was acquired but has no record: it was compacted away, or is a control record."""


class AcknowledgeType(IntEnum):
    """What became of a record."""

    ACCEPT = 1
    """It was processed."""
    RELEASE = 2
    """It was not processed: somebody may try again."""
    REJECT = 3
    """It cannot be processed, by nobody."""
    RENEW = 4
    """It is still being processed: its lock starts anew (KIP-1222)."""


class SharedPartition(NamedTuple):
    """A partition by the id of its topic, as share requests name it, and its name."""

    topic_id: bytes
    topic: str
    partition: int

    @property
    def topic_partition(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)


class OffsetRange(NamedTuple):
    """Offsets from `first_offset` to `last_offset`, both inclusive, with one type for all or one for each."""

    first_offset: int
    last_offset: int
    types: tuple[int, ...]


Acknowledgements = dict[SharedPartition, list[OffsetRange]]


class _Lease:
    """What one node delivered of one partition."""

    __slots__ = ("held", "pending")

    def __init__(self) -> None:
        self.held: dict[int, bool] = {}
        """Offsets in the application's hands; whether the lock was renewed."""
        self.pending: dict[int, int] = {}
        """Offsets and types that no request has taken along yet."""


class Deliveries:
    """All that was delivered and is not settled. `lock` guards it where the application has threads of its own."""

    def __init__(self, lock: AbstractContextManager[object] | None = None) -> None:
        self._lock = lock or nullcontext()
        self._leases: dict[tuple[int, SharedPartition], _Lease] = {}
        self._holders: dict[TopicPartition, list[tuple[int, SharedPartition]]] = {}

    @property
    def has_pending(self) -> bool:
        """Whether acknowledgements wait to be sent."""
        with self._lock:
            return any(lease.pending for lease in self._leases.values())

    @property
    def unacknowledged(self) -> int:
        """Records that were handed out, and neither acknowledged nor renewed."""
        with self._lock:
            return sum(not renewed for lease in self._leases.values() for renewed in lease.held.values())

    def deliver(
        self,
        node_id: int,
        partition: SharedPartition,
        offsets: Iterable[int],
        verdicts: Mapping[int, int] | None = None,
    ) -> None:
        """Records go to the application; `verdicts` are the types of acquired offsets that do not (`GAP`, …)."""
        with self._lock:
            lease = self._lease(node_id, partition)
            lease.held.update(dict.fromkeys(offsets, False))
            lease.pending.update(verdicts or {})

    def acknowledge(self, partition: TopicPartition, offset: int, how: AcknowledgeType) -> None:
        """The application says what became of a record. IllegalStateError when it does not hold it."""
        with self._lock:
            for key in self._holders.get(partition, ()):
                lease = self._leases[key]
                if offset in lease.held:
                    if how == AcknowledgeType.RENEW:
                        lease.held[offset] = True
                    else:
                        del lease.held[offset]
                    lease.pending[offset] = int(how)
                    return
        raise IllegalStateError(
            f"the record at offset {offset} of {partition} cannot be acknowledged: it is acknowledged already, its "
            "lock was lost with the connection to the broker, or this consumer never had it."
        )

    def acknowledge_rest(self, how: AcknowledgeType) -> None:
        """Acknowledge every record that is held and whose lock was not renewed."""
        with self._lock:
            for lease in self._leases.values():
                for offset in [offset for offset, renewed in lease.held.items() if not renewed]:
                    del lease.held[offset]
                    lease.pending[offset] = int(how)

    def take(self, node_id: int) -> Acknowledgements:
        """What a request to the node shall take along; it waits no longer afterwards."""
        with self._lock:
            return self._take(node_id)

    def nodes_with_pending(self) -> set[int]:
        with self._lock:
            return {node_id for (node_id, _), lease in self._leases.items() if lease.pending}

    def lose(self, node_id: int) -> Acknowledgements:
        """The session with a node is gone, and with it all locks: what waited to be acknowledged there."""
        with self._lock:
            lost = self._take(node_id)
            for holder, partition in [key for key in self._leases if key[0] == node_id]:
                self._forget(holder, partition)
            return lost

    def check_invariants(self) -> None:
        for node_id, partition in self._leases:
            assert (node_id, partition) in self._holders[partition.topic_partition]
        assert sum(map(len, self._holders.values())) == len(self._leases)

    def _take(self, node_id: int) -> Acknowledgements:
        taken: Acknowledgements = {}
        for (holder, partition), lease in list(self._leases.items()):
            if holder == node_id and lease.pending:
                taken[partition] = ranges(lease.pending)
                lease.pending = {}
                if not lease.held:
                    self._forget(holder, partition)
        return taken

    def _lease(self, node_id: int, partition: SharedPartition) -> _Lease:
        key = node_id, partition
        lease = self._leases.get(key)
        if lease is None:
            lease = self._leases[key] = _Lease()
            # The newest holder first: a record that came again is acknowledged where it came from last.
            self._holders.setdefault(partition.topic_partition, []).insert(0, key)
        return lease

    def _forget(self, node_id: int, partition: SharedPartition) -> None:
        del self._leases[node_id, partition]
        holders = self._holders[partition.topic_partition]
        holders.remove((node_id, partition))
        if not holders:
            del self._holders[partition.topic_partition]


def ranges(pending: Mapping[int, int]) -> list[OffsetRange]:
    """Offsets and their types as runs without holes, in order."""
    found: list[OffsetRange] = []
    types: list[int] = []
    first = previous = -1
    for offset in sorted(pending):
        if types and offset != previous + 1:
            found.append(_range(first, previous, types))
            types = []
        if not types:
            first = offset
        types.append(pending[offset])
        previous = offset
    if types:
        found.append(_range(first, previous, types))
    return found


def _range(first: int, last: int, types: list[int]) -> OffsetRange:
    return OffsetRange(first, last, (types[0],) if len(set(types)) == 1 else tuple(types))


def records_in(acknowledgements: Acknowledgements) -> int:
    """How many records are acknowledged; gaps do not count."""
    total = 0
    for batches in acknowledgements.values():
        for first, last, types in batches:
            if len(types) == 1:
                total += last - first + 1 if types[0] != GAP else 0
            else:
                total += sum(kind != GAP for kind in types)
    return total
