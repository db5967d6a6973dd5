"""The partitions placed on this broker, kept in step with the metadata image."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID, TopicPartition
from ottla.core.topics import INTERNAL_TOPICS
from ottla.schema.topic import topic_settings
from ottla.server.log.config import LogConfig
from ottla.server.metadata.image import ConfigResourceType
from ottla.server.replication.cluster_view import ClusterView
from ottla.server.replication.partition import COUNTERS, Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ottla.schema.config import BrokerConfig
    from ottla.server.log.directories import LogDirectories
    from ottla.server.log.log import Log
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import ConfigResource, MetadataImage, PartitionImage, TopicImage
    from ottla.server.replication.throttle import ReplicationThrottle

logger = logging.getLogger(__name__)


class Following(Protocol):
    """What metrics want to know of fetching from leaders (`ottla.server.replication.replication`)."""

    @property
    def bytes_fetched(self) -> int: ...

    @property
    def max_lag(self) -> int: ...

    @property
    def failed_count(self) -> int: ...


class HostedTopic:
    """One topic with partitions on this broker."""

    __slots__ = ("name", "partitions", "topic_id")

    def __init__(self, name: str, topic_id: bytes) -> None:
        self.name = name
        self.topic_id = topic_id
        self.partitions: dict[int, Partition] = {}


class Replicas:
    """Topic and partition registry of one broker.

    `by_name` and `by_id` hold the same `HostedTopic`s; request handlers read them directly, only `apply` and `load`
    change them. `config` is the broker's current configuration: whoever changes it at run time sets it here before
    `apply`.
    """

    def __init__(self, node_id: int, config: BrokerConfig, log_directories: LogDirectories) -> None:
        self.node_id = node_id
        self.by_name: dict[str, HostedTopic] = {}
        self.by_id: dict[bytes, HostedTopic] = {}
        self.config = config
        self.cluster = ClusterView(config["replica.lag.time.max.ms"])
        self.monotonic_ms: Callable[[], int] = _no_time
        """The clock that followers are measured by."""
        self.on_placed: Callable[[Sequence[Partition]], None] | None = None
        """Called after a commit, or an image, with the partitions whose place or leadership may be another one now; of
        one that has left, `replicas` is empty.
        """
        self.leader_throttle: ReplicationThrottle | None = None
        """What holds back those who follow this broker (KIP-73)."""
        self.on_replicated: Callable[[], None] | None = None
        """Called before the first partition that has replicas elsewhere is taken over: time to set `on_placed`."""
        self.replication_bytes_out = 0
        """What leaders here have sent to followers."""
        self.following: Following | None = None
        """What fetches the partitions that others lead; None while there are none."""
        self._log_directories = log_directories
        self._offline: set[TopicPartition] = set()
        self._placed: list[Partition] = []
        # What partitions that are gone have counted, so that the totals of the broker never go back.
        self.departed: dict[str, int] = dict.fromkeys(COUNTERS, 0)

    # Looking up

    def get(self, topic: str, partition: int) -> Partition | None:
        """The hosted partition, or None."""
        hosted = self.by_name.get(topic)
        return None if hosted is None else hosted.partitions.get(partition)

    def get_by_id(self, topic_id: bytes, partition: int) -> Partition | None:
        """The hosted partition of the topic with this id, or None."""
        hosted = self.by_id.get(topic_id)
        return None if hosted is None else hosted.partitions.get(partition)

    def __iter__(self) -> Iterator[Partition]:
        for hosted in self.by_name.values():
            yield from hosted.partitions.values()

    @property
    def replication_bytes_in(self) -> int:
        """What was fetched from leaders."""
        return 0 if self.following is None else self.following.bytes_fetched

    def max_lag(self) -> int:
        """How many offsets the furthest follower here is behind its leader."""
        return 0 if self.following is None else self.following.max_lag

    def failed_count(self) -> int:
        """Followed partitions that are not fetched any more until something changes."""
        return 0 if self.following is None else self.following.failed_count

    @property
    def offline_count(self) -> int:
        """Partitions that should be here, and whose directory failed."""
        return len(self._offline)

    def is_internal(self, topic: str) -> bool:
        """True for the topics that coordinators keep their state in."""
        return topic in INTERNAL_TOPICS

    def missing_partition_error(self, topic: str, partition: int, image: MetadataImage) -> ErrorCode:
        """Why `get` found nothing: the topic or partition does not exist, lives elsewhere, or its directory failed."""
        if image.topics.partition(topic, partition) is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        if TopicPartition(topic, partition) in self._offline:
            return ErrorCode.KAFKA_STORAGE_ERROR
        return ErrorCode.NOT_LEADER_OR_FOLLOWER

    # Following the metadata

    def apply(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Take over one commit: create, change and delete partitions, hand changed settings to their logs."""
        self._use(image)
        for deleted in delta.deleted_topics.values():
            self._remove_topic(deleted.topic_id)
        for topic_id, changed in delta.changed_topics.items():
            topic = image.topics.by_id.get(topic_id)
            if topic is not None:
                self._apply_partitions(topic, changed.changes, image)
        if delta.changed_configs:
            self._apply_settings(delta.changed_configs, image)
        self._tell_placed()

    def load(self, image: MetadataImage) -> None:
        """Take over a whole image, at start: every partition placed here, and nothing else."""
        self._use(image)
        for hosted in list(self.by_id.values()):
            if hosted.topic_id not in image.topics.by_id:
                self._remove_topic(hosted.topic_id)
        for topic in image.topics.by_name.values():
            self._apply_partitions(topic, topic.partitions, image, is_new=False)
        self._tell_placed()

    def _use(self, image: MetadataImage) -> None:
        self.cluster.image = image
        self.cluster.lag_time_max_ms = self.config["replica.lag.time.max.ms"]

    def _tell_placed(self) -> None:
        placed, self._placed = self._placed, []
        if placed and self.on_placed is not None:
            self.on_placed(placed)

    def _apply_partitions(
        self,
        topic: TopicImage,
        partitions: Mapping[int, PartitionImage],
        image: MetadataImage,
        *,
        is_new: bool = True,
    ) -> None:
        config: LogConfig | None = None
        for index, placement in partitions.items():
            partition = self.get_by_id(topic.topic_id, index)
            if self.node_id not in placement.replicas:
                if partition is not None:
                    self._remove_partition(partition)
                continue
            if partition is None:
                if config is None:
                    config = self._log_config(topic.name, image)
                partition = self._open(topic, index, placement, config, is_new)
            if partition is not None:
                if len(placement.replicas) > 1 and self.on_placed is None and self.on_replicated is not None:
                    self.on_replicated()
                partition.update_leadership(
                    placement.leader,
                    placement.leader_epoch,
                    placement.replicas,
                    placement.isr,
                    placement.partition_epoch,
                    self.monotonic_ms(),
                )
                if self.on_placed is not None:
                    self._placed.append(partition)

    def _open(
        self, topic: TopicImage, index: int, placement: PartitionImage, config: LogConfig, is_new: bool
    ) -> Partition | None:
        key = TopicPartition(topic.name, index)
        directory_id = ZERO_UUID
        if placement.directories:
            directory_id = placement.directories[placement.replicas.index(self.node_id)]
        try:
            log = self._log_directories.get_or_create(
                key, topic.topic_id, config, directory_id=directory_id, is_new=is_new
            )
        except OSError as error:
            # Said and counted by the directory; another commit, or a restart with a good disk, tries again.
            logger.error("%s is offline: %s", key, error)
            self._offline.add(key)
            return None
        self._offline.discard(key)
        hosted = self.by_id.get(topic.topic_id)
        if hosted is None:
            hosted = HostedTopic(topic.name, topic.topic_id)
            self.by_id[topic.topic_id] = hosted
            self.by_name[topic.name] = hosted
        partition = Partition(self.node_id, key, topic.topic_id, log, self.cluster)
        partition.update_min_isr(config.min_insync_replicas)
        hosted.partitions[index] = partition
        return partition

    def _remove_topic(self, topic_id: bytes) -> None:
        hosted = self.by_id.get(topic_id)
        if hosted is None:
            return
        for partition in list(hosted.partitions.values()):
            self._remove_partition(partition)

    def _remove_partition(self, partition: Partition) -> None:
        for name in self.departed:
            self.departed[name] += getattr(partition, name)
        hosted = self.by_id[partition.topic_id]
        del hosted.partitions[partition.partition]
        if not hosted.partitions:
            del self.by_id[hosted.topic_id]
            # A topic of that name may have been created again in the same commit.
            if self.by_name.get(hosted.name) is hosted:
                del self.by_name[hosted.name]
        key = TopicPartition(partition.topic, partition.partition)
        # Those who wait for it look again and find it gone.
        partition.update_leadership(-1, partition.leader_epoch, (), ())
        if self.on_placed is not None:
            self._placed.append(partition)
        try:
            self._log_directories.delete(key)
        except OSError as error:
            logger.error("the log of %s stays on disk until the next start: %s", key, error)

    def replace_log(self, old: Log, new: Log) -> None:
        """A replica was moved to another directory: its partition goes on with the log there."""
        partition = self.get(*old.topic_partition)
        if partition is not None and partition.log is old:
            partition.replace_log(new)

    # Settings

    def _apply_settings(self, changed: Iterable[ConfigResource], image: MetadataImage) -> None:
        names: set[str] = set()
        for resource_type, name in changed:
            if resource_type == ConfigResourceType.TOPIC:
                names.add(name)
            elif resource_type == ConfigResourceType.BROKER and name in ("", str(self.node_id)):
                # A broker's setting is the default of every topic that does not override it.
                names.update(self.by_name)
        for name in names:
            hosted = self.by_name.get(name)
            if hosted is None:
                continue
            config = self._log_config(name, image)
            for partition in hosted.partitions.values():
                partition.update_min_isr(config.min_insync_replicas)
                partition.log.update_config(config)

    def _log_config(self, topic: str, image: MetadataImage) -> LogConfig:
        overrides = image.config_of(ConfigResourceType.TOPIC, topic)
        return LogConfig.from_settings(topic_settings(self.config, overrides))


def _no_time() -> int:
    """On a broker on its own nobody is late."""
    return 0
