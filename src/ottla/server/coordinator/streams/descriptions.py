"""Readable descriptions of topologies (KIP-1331, Kafka 4.4): which member is asked for one, and where it is kept.

Kafka hands descriptions to a plugin; this is the one it comes with, which keeps the newest of each group in memory.
When it is gone with a restart, a member is asked again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import streams_group_describe as described

if TYPE_CHECKING:
    from ottla.protocol.messages import streams_group_topology_description_update as pushed
    from ottla.server.coordinator.streams.group import StreamsGroup
    from ottla.server.coordinator.streams.member import Member

NOT_REQUESTED = 0
NOT_STORED = 1
AVAILABLE = 3

#: A group is asked again after this time, which doubles with every attempt that brought nothing.
_FIRST_DELAY_MS = 30_000
_LONGEST_DELAY_MS = 3_600_000

_SOURCE, _PROCESSOR, _SINK = 1, 2, 3


class _Asked(NamedTuple):
    topology_epoch: int
    attempts: int
    next_ms: int


class TopologyDescriptions:
    """The descriptions of the groups of one shard."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, described.TopologyDescription]] = {}
        self._asked: dict[str, _Asked] = {}

    def is_wanted(self, group: StreamsGroup, member: Member, now_ms: int) -> bool:
        """Whether this member shall send the description; the others are not asked meanwhile."""
        epoch = group.topology_epoch
        if epoch < 0 or member.profile.topology_epoch < epoch or epoch == group.failed_description_epoch:
            return False
        if self.of(group) is not None:
            return False
        asked = self._asked.get(group.group_id)
        if asked is not None and asked.topology_epoch == epoch:
            if now_ms < asked.next_ms:
                return False
            attempts = asked.attempts + 1
        else:
            attempts = 0
        delay_ms = min(_FIRST_DELAY_MS << min(attempts, 10), _LONGEST_DELAY_MS)
        self._asked[group.group_id] = _Asked(epoch, attempts, now_ms + delay_ms)
        return True

    def keep(self, group: StreamsGroup, description: described.TopologyDescription) -> None:
        """Take over what a member sent for the group's topology."""
        self._kept[group.group_id] = group.topology_epoch, description
        self._asked.pop(group.group_id, None)

    def of(self, group: StreamsGroup) -> described.TopologyDescription | None:
        """The description of the group's topology, None when there is none of this epoch."""
        epoch, description = self._kept.get(group.group_id, (None, None))
        return description if epoch == group.topology_epoch else None

    def forget(self, group_id: str) -> None:
        """The group is gone."""
        self._kept.pop(group_id, None)
        self._asked.pop(group_id, None)


def converted(description: pushed.TopologyDescription) -> described.TopologyDescription:
    """The description as it is shown; ApiError INVALID_REQUEST when it is none."""
    return described.TopologyDescription(
        subtopologies=[
            described.TopologyDescriptionSubtopology(
                subtopology_id=each.subtopology_id, nodes=[_node(node) for node in each.nodes]
            )
            for each in description.subtopologies
        ],
        global_stores=[_global_store(store) for store in description.global_stores],
    )


def _global_store(store: pushed.TopologyDescriptionGlobalStore) -> described.TopologyDescriptionGlobalStore:
    source, processor = _node(store.source), _node(store.processor)
    if (source.node_type, processor.node_type) != (_SOURCE, _PROCESSOR):
        raise ApiError(ErrorCode.INVALID_REQUEST, "Global store must be composed of a source and a processor node.")
    return described.TopologyDescriptionGlobalStore(source=source, processor=processor)


def _node(node: pushed.TopologyDescriptionNode) -> described.TopologyDescriptionNode:
    if node.node_type not in (_SOURCE, _PROCESSOR, _SINK):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown topology node type: {node.node_type}")
    return described.TopologyDescriptionNode(
        name=node.name,
        node_type=node.node_type,
        source_topics=list(dict.fromkeys(node.source_topics)) if node.node_type == _SOURCE else [],
        sink_topic=node.sink_topic if node.node_type == _SINK else None,
        stores=list(dict.fromkeys(node.stores)) if node.node_type == _PROCESSOR else [],
        successors=list(dict.fromkeys(node.successors)),
    )
