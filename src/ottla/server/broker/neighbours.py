"""The other brokers as this one speaks to them: who coordinates a key, and requests by broker id.

Requests go to the listener that brokers use among each other. Nothing is tried again here: an answer that does not come
is a `PeerError`, and who asked finds the leader anew before the next attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.server.coordinator.partitioner import coordinator_partition
from ottla.server.peers.errors import PeerError

if TYPE_CHECKING:
    from ottla.protocol.message import Request
    from ottla.server.broker.broker import Broker

NOBODY = -1
_CHANNEL_PREFIX = "coordinators: "


class Neighbours:
    """Requests to other brokers, by their ids."""

    __slots__ = ("_broker", "_listener_name")

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._listener_name = broker.config.inter_broker_listener_name

    async def ask(
        self,
        node_id: int,
        message: Request,
        *,
        channel: str,
        timeout_ms: int | None = None,
        version: int | None = None,
    ) -> Any:
        """The broker's response; requests of one channel are answered in order. Raises PeerError.

        Without a timeout it is request.timeout.ms, without a version the highest that both sides know.
        """
        broker = self._broker
        found = broker.image.brokers.get(node_id)
        endpoint = None if found is None or found.fenced else found.endpoints.get(self._listener_name)
        if endpoint is None:
            raise PeerError(f"broker {node_id} is not there.")
        if timeout_ms is None:
            timeout_ms = broker.config["request.timeout.ms"]
        return await broker.peers.send(
            (endpoint.host, endpoint.port),
            message,
            timeout_ms=timeout_ms,
            channel=_CHANNEL_PREFIX + channel,
            version=version,
        )


def give_up_fenced(broker: Broker) -> None:
    """Wait no longer for brokers that are fenced by now: others lead what they led."""
    listener_name = broker.config.inter_broker_listener_name
    for found in broker.image.brokers.values():
        endpoint = found.endpoints.get(listener_name) if found.fenced else None
        if endpoint is not None:
            reason = f"broker {found.broker_id} is fenced."
            broker.peers.disconnect((endpoint.host, endpoint.port), reason, channel_prefix=_CHANNEL_PREFIX)


def leader_of(broker: Broker, topic: str, partition: int) -> int:
    """The id of the partition's leader, `NOBODY` where there is none or no such partition."""
    placed = broker.image.topics.partition(topic, partition)
    return NOBODY if placed is None else placed.leader


def coordinator_of(broker: Broker, topic: str, key: str) -> int:
    """The id of the broker that coordinates the key, by the internal topic's leaders; `NOBODY` where there is none."""
    found = broker.image.topics.by_name.get(topic)
    if found is None or not found.partitions:
        return NOBODY
    placed = found.partitions.get(coordinator_partition(key, len(found.partitions)))
    return NOBODY if placed is None else placed.leader
