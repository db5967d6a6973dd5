"""What the controller's commands are decided on, all in one place; only replay changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.schema.config import BrokerConfig
from ottla.server.controller.heartbeats import Heartbeats
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import UNASSIGNED_DIRECTORY, BrokerImage, MetadataImage

if TYPE_CHECKING:
    from ottla.server.controller.partition_index import PartitionIndex, PartitionKey


class ClusterState:
    """The newest image (committed or not), what is derived from it, and who was heard of when.

    `config` is the configuration of this node with the image's dynamic settings. `cluster_id` is None where nobody
    needs to be kept out. `voters` are the ids of the metadata log's voters.
    """

    __slots__ = ("_index", "cluster_id", "config", "heartbeats", "image", "kraft_version", "node_id", "voters")

    def __init__(
        self,
        image: MetadataImage,
        config: BrokerConfig,
        node_id: int,
        *,
        cluster_id: str | None = None,
        kraft_version: int = 0,
        voters: tuple[int, ...] = (),
        now_ms: int = 0,
    ) -> None:
        self.image = image
        self.config = config
        self.node_id = node_id
        self.cluster_id = cluster_id
        self.kraft_version = kraft_version
        self.voters = voters
        self._index: PartitionIndex | None = None
        self.heartbeats = Heartbeats(config["broker.session.timeout.ms"])
        self.heartbeats.claim(image.brokers.values(), image.offset, now_ms)

    @property
    def index(self) -> PartitionIndex:
        """Partitions by broker; made when it is asked for first."""
        if self._index is None:
            from ottla.server.controller.partition_index import PartitionIndex

            self._index = PartitionIndex(self.image.topics)
        return self._index

    def follow(self, delta: MetadataDelta, image: MetadataImage, config: BrokerConfig) -> None:
        """The records of `delta` are in the log, `image` is the state with them."""
        self.image = image
        self.config = config
        if self._index is not None:
            self._index.track(delta)
        for broker_id in delta.changed_brokers:
            before, after = delta.image.brokers.get(broker_id), image.brokers.get(broker_id)
            if after is None:
                self.heartbeats.unregistered(broker_id)
                continue
            if before is None or before.broker_epoch != after.broker_epoch:
                self.heartbeats.registered(after, image.offset)
            if after.in_controlled_shutdown:
                self.heartbeats.shuts_down(broker_id, image.offset)

    def registered(self, broker_id: int, broker_epoch: int) -> BrokerImage:
        """The broker. Raises ApiError STALE_BROKER_EPOCH unless it is registered under that epoch."""
        broker = self.image.brokers.get(broker_id)
        if broker is None:
            text = f"No broker registration found for broker id {broker_id}"
            raise ApiError(ErrorCode.STALE_BROKER_EPOCH, text)
        if broker.broker_epoch != broker_epoch:
            text = f"Expected broker epoch {broker.broker_epoch}, but got broker epoch {broker_epoch}"
            raise ApiError(ErrorCode.STALE_BROKER_EPOCH, text)
        return broker

    def unfenced(self) -> list[int]:
        """Ids of the brokers that must be heard of."""
        return [broker.broker_id for broker in self.image.brokers.values() if not broker.fenced]

    def directory_of(self, key: PartitionKey, broker_id: int) -> bytes:
        """The log directory of the broker's replica, as far as it is known."""
        partition = self.image.topics.by_id[key.topic_id].partitions[key.partition]
        if not partition.directories:
            return UNASSIGNED_DIRECTORY
        return partition.directories[partition.replicas.index(broker_id)]
