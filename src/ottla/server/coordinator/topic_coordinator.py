"""What the services of all coordinators share: following the leadership of an internal topic's partitions.

A coordinator's keys hash to the partitions of one internal topic; who leads the partition coordinates the key. The
topic is created when the first client looks for a coordinator.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from ottla.server.coordinator.partitioner import coordinator_partition
from ottla.server.coordinator.partitions import CoordinatorRuntime
from ottla.server.coordinator.result import Instant, RecordCodec, Result
from ottla.server.coordinator.runtime import (
    CoordinatorPartition,
    CoordinatorShard,
    PartitionLog,
    RuntimeSettings,
)

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.runtime.env import Env
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage

S = TypeVar("S", bound=CoordinatorShard)


class TopicCoordinator(ABC, Generic[S]):
    """Base of the coordinator services. A subclass adds the commands, each of which asks `partition_of` its key.

    ``open_log(partition)`` gives the leader's side of a partition, or None when it is not hosted; ``create_topic()``
    creates the internal topic if need be and returns when it is in the image (or raises ApiError).
    ``partition_count`` is the number of partitions the topic will have, as long as it does not exist.
    """

    def __init__(
        self,
        topic: str,
        partition_count: int,
        env: Env,
        *,
        node_id: int,
        open_log: Callable[[int], PartitionLog | None],
        create_topic: Callable[[], Awaitable[None]],
        codec: RecordCodec,
        settings: RuntimeSettings,
    ) -> None:
        from ottla.server.metadata.image import EMPTY_IMAGE

        self.topic = topic
        self.node_id = node_id
        self.image: MetadataImage = EMPTY_IMAGE
        self._env = env
        self._create_topic = create_topic
        self._creating: asyncio.Future[None] | None = None
        self._topic_id: bytes | None = None
        self._partition_count = self._initial_partition_count = partition_count
        self._runtime: CoordinatorRuntime[S] = CoordinatorRuntime(
            open_log, self.new_shard, codec, settings, env.clock.now_ms
        )

    # -- what a subclass says

    @abstractmethod
    def new_shard(self, partition: int) -> S:
        """A fresh shard for a partition; `image` is the metadata as of now."""

    def changed(self, shard: S, delta: MetadataDelta, image: MetadataImage, now: Instant) -> Result[None] | None:
        """A loaded shard learns of a commit of metadata; what it decides is appended."""
        return None

    # -- finding

    def partition_for(self, key: str) -> int:
        """The partition of the internal topic whose leader coordinates the key."""
        return coordinator_partition(key, self._partition_count)

    def partition_of(self, key: str) -> CoordinatorPartition[S]:
        """The loaded partition that coordinates the key; ApiError NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS."""
        return self._runtime.active(coordinator_partition(key, self._partition_count))

    def partitions(self) -> list[CoordinatorPartition[S]]:
        """The partitions coordinated here, in whatever state."""
        return self._runtime.partitions()

    def active_partitions(self) -> list[CoordinatorPartition[S]]:
        """Those that are loaded."""
        return self._runtime.active_partitions()

    async def ensure_topic(self) -> None:
        """Have the topic created, once for everybody who asks meanwhile; ApiError when it cannot be."""
        if self._topic_id is not None:
            return
        if self._creating is None:
            self._creating = asyncio.ensure_future(self._create_topic())
            self._creating.add_done_callback(self._created)
        await asyncio.shield(self._creating)

    def _created(self, task: asyncio.Future[None]) -> None:
        self._creating = None

    # -- following the metadata

    def load(self, image: MetadataImage) -> None:
        """Take over a whole image, at start; the partitions must be open already."""
        self.image = image
        self._follow_topic(image)

    def on_metadata_change(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Take over one commit, after the replicas did: leaderships won and lost, then whatever the shards care for.

        A partition that is being loaded learns of the commit at the end of loading.
        """
        self.image = image
        if self._topic_id in delta.deleted_topics or any(
            topic.name == self.topic for topic in delta.changed_topics.values()
        ):
            self._follow_topic(image)
        for partition in self._runtime.partitions():
            partition.when_active(partial(self._tell, partition, delta, image))

    def _tell(self, partition: CoordinatorPartition[S], delta: MetadataDelta, image: MetadataImage) -> None:
        result = self.changed(partition.shard, delta, image, partition.now())
        if result is not None and result.records:
            partition.complete(result, ignore_refusal)

    def _follow_topic(self, image: MetadataImage) -> None:
        topic = image.topics.by_name.get(self.topic)
        topic_id = None if topic is None else topic.topic_id
        if topic_id != self._topic_id:
            self._runtime.stop()
            self._topic_id = topic_id
        partitions = {} if topic is None else topic.partitions
        self._partition_count = len(partitions) or self._initial_partition_count
        led = {index: placed for index, placed in partitions.items() if placed.leader == self.node_id}
        for index in self._runtime.led_partitions():
            if index not in led:
                self._runtime.resigned(index)
        for index, placed in led.items():
            self._runtime.elected(index, placed.leader_epoch)

    async def wait_until_loaded(self) -> None:
        """Return when every led partition is loaded."""
        await self._runtime.wait_until_loaded()

    def stop(self) -> None:
        """Refuse everything parked with NOT_COORDINATOR; state is in the log already."""
        self._runtime.stop()


def ignore_refusal(code: ErrorCode) -> None:
    """For commands nobody asked for, and those that settle their answer themselves."""
