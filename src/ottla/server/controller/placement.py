"""Where replicas go: spread over racks, then over brokers, leaders spread evenly (KIP-36's aims).

Brokers are put in one line that alternates between racks. Partition `p` starts at a random place plus `p`; the further
replicas follow in the line, each round of the line shifted by one more, so that the followers of one broker's
partitions are not all the same broker. A rack is used a second time only when every rack has a replica.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.metadata.image import UNASSIGNED_DIRECTORY, BrokerImage

MIGRATING_DIRECTORY: Final = bytes(16)
"""Directory id of a replica from before directories had ids; it counts as online, like one not reported yet."""


def place(
    brokers: Mapping[int, BrokerImage],
    first_partition: int,
    count: int,
    replication_factor: int,
    below: Callable[[int], int],
) -> list[list[int]]:
    """Replicas for `count` partitions; the first of each is active and will lead.

    Raises ApiError INVALID_REPLICATION_FACTOR when there are not enough brokers, or none is active. Fenced brokers get
    replicas only where the active ones do not suffice; brokers in controlled shutdown get none.
    """
    usable = [
        broker
        for broker in brokers.values()
        if (broker.fenced or not broker.in_controlled_shutdown)
        and (broker.cordoned_log_dirs is None or _has_open_directory(broker))
    ]
    if replication_factor > len(usable):
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"The target replication factor of {replication_factor} cannot be reached because only {len(usable)} "
            "broker(s) are registered or some brokers have all their log directories cordoned.",
        )
    active = [broker for broker in usable if broker.is_active]
    if not active:
        raise ApiError(ErrorCode.INVALID_REPLICATION_FACTOR, "All brokers are currently fenced.")
    if len(usable) == 1:
        return [[active[0].broker_id]] * count
    line = _alternating(active)
    spare = _alternating([broker for broker in usable if not broker.is_active])
    start = below(len(line))
    shift = below(len(line))
    racks = {broker.broker_id: broker.rack for broker in usable}
    placed = []
    for partition in range(first_partition, first_partition + count):
        replicas = _pick(line, racks, start + partition, shift + partition // len(line), replication_factor)
        if len(replicas) < replication_factor:
            replicas += _pick(spare, racks, partition, 0, replication_factor - len(replicas))
        placed.append(replicas)
    return placed


def _has_open_directory(broker: BrokerImage) -> bool:
    return not broker.log_dirs or any(
        directory not in (broker.cordoned_log_dirs or ()) for directory in broker.log_dirs
    )


def check_assignment(brokers: Mapping[int, BrokerImage], replicas: Sequence[int]) -> None:
    """Raise ApiError INVALID_REPLICA_ASSIGNMENT unless somebody may choose these replicas for a partition."""
    reason = None
    if not replicas:
        reason = "an empty replica list"
    for broker_id, times in sorted(Counter(replicas).items()):
        if broker_id not in brokers:
            reason = f"broker {broker_id}, but no such broker is registered"
        elif times > 1:
            reason = f"the broker {broker_id} more than once"
        if reason is not None:
            break
    if reason is not None:
        text = f"The manual partition assignment includes {reason}."
        raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, text)


def directory_of(broker: BrokerImage) -> bytes:
    """Where a new replica goes. With one log directory there is no choice; otherwise the broker chooses, and reports
    (KIP-858)."""
    if not broker.log_dirs:
        return MIGRATING_DIRECTORY
    return broker.log_dirs[0] if len(broker.log_dirs) == 1 else UNASSIGNED_DIRECTORY


def _alternating(brokers: list[BrokerImage]) -> list[int]:
    """Broker ids in a line that goes through the racks in turn."""
    by_rack: dict[str | None, list[int]] = {}
    for broker in sorted(brokers, key=lambda broker: broker.broker_id):
        by_rack.setdefault(broker.rack, []).append(broker.broker_id)
    queues = [by_rack[rack] for rack in sorted(by_rack, key=lambda rack: rack or "")]
    line: list[int] = []
    for turn in range(max((len(queue) for queue in queues), default=0)):
        line += [queue[turn] for queue in queues if turn < len(queue)]
    return line


def _pick(line: list[int], racks: Mapping[int, str | None], start: int, shift: int, count: int) -> list[int]:
    """Up to `count` brokers of the line: the one at `start`, then onwards, unused racks first."""
    if not line:
        return []
    size = len(line)
    leader = line[start % size]
    others = [line[(start + 1 + (shift + step) % (size - 1)) % size] for step in range(size - 1)] if size > 1 else []
    chosen = [leader]
    used = {racks[leader]}
    waiting: list[int] = []
    for broker in others:
        if len(chosen) == count:
            break
        if racks[broker] in used and racks[broker] is not None:
            waiting.append(broker)
        else:
            chosen.append(broker)
            used.add(racks[broker])
    return (chosen + waiting)[:count]
