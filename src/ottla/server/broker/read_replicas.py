"""Where a consumer had better read from: a replica in its own rack (KIP-392)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.replication.partition import Partition

NO_REPLICA = -1


def preferred_replica(
    partition: Partition, image: MetadataImage, listener_name: str, rack: str, fetch_offset: int
) -> int:
    """The id of the in-sync replica in `rack` that has the wanted offset and most beyond; -1 for the leader itself.

    Only replicas that clients of the listener can reach count.
    """
    followers = partition.followers
    if followers is None:
        return NO_REPLICA
    leader = image.brokers.get(partition.node_id)
    if leader is not None and leader.rack == rack:
        return NO_REPLICA
    best = NO_REPLICA
    best_value = (-1, 0, 0)
    for replica_id, progress in followers.progress.items():
        broker = image.brokers.get(replica_id)
        if (
            broker is None
            or broker.rack != rack
            or broker.fenced
            or listener_name not in broker.endpoints
            or replica_id not in followers.isr
            or not progress.start_offset <= fetch_offset <= progress.end_offset
        ):
            continue
        value = (progress.end_offset, progress.last_caught_up_ms, -replica_id)
        if best < 0 or value > best_value:
            best, best_value = replica_id, value
    return best
