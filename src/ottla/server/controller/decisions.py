"""One command's decisions on partitions: the rules of `partitions` under the cluster's settings, and their records.

Fencing a broker of a large cluster decides a hundred thousand partitions, most of which are in one of a few states:
equal states under equal settings get the same answer, which is decided once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ottla.protocol.messages.metadata_records import PartitionChangeRecord
from ottla.schema.config import BrokerConfig
from ottla.server.controller.partition_index import PartitionKey
from ottla.server.controller.partitions import NOTHING_WANTED, Election, Rules, Wanted, changed
from ottla.server.metadata.features import ELR_VERSION
from ottla.server.metadata.image import ConfigResourceType, MetadataImage, PartitionImage, TopicImage

MIN_ISR: Final = "min.insync.replicas"
UNCLEAN: Final = "unclean.leader.election.enable"

_TOPIC: Final = int(ConfigResourceType.TOPIC)


class Decisions:
    """Changes of partitions as the cluster is, or is about to be: `joining` counts as active although its unfencing is
    only decided now, `leaving` as not active any more. `records` is what was decided so far."""

    __slots__ = ("_answers", "_config", "_image", "_of_topic", "_rules", "joining", "leaving", "records")

    def __init__(
        self, image: MetadataImage, config: BrokerConfig, *, joining: int | None = None, leaving: int | None = None
    ) -> None:
        self.records: list[Any] = []
        self.joining = joining
        self.leaving = leaving
        self._image = image
        self._config = config
        has_elr = image.features.get(ELR_VERSION, 0) > 0
        self._rules = Rules(image.brokers, self.is_active, 1, has_elr, image.metadata_version)
        self._of_topic: dict[str, tuple[int, bool]] = {}
        self._answers: dict[tuple[Any, ...], dict[str, Any]] = {}

    def is_active(self, broker_id: int) -> bool:
        """The broker may lead, after the change that is being decided."""
        if broker_id == self.leaving:
            return False
        broker = self._image.brokers.get(broker_id)
        return broker is not None and (broker_id == self.joining or broker.is_active)

    def allows_unclean(self, topic: TopicImage) -> bool:
        """Whether the topic would rather lose records than have no leader."""
        return self._settings(topic)[1]

    def default_election(self, topic: TopicImage) -> Election:
        """How a leader is found when the last one goes."""
        return Election.UNCLEAN if self._settings(topic)[1] else Election.ONLINE

    def change(
        self,
        topic: TopicImage,
        index: int,
        partition: PartitionImage,
        wanted: Wanted = NOTHING_WANTED,
        election: Election | None = None,
    ) -> dict[str, Any]:
        """Decide one partition; the fields that change, which stand in a new record unless there are none."""
        min_isr, unclean = self._settings(topic)
        if election is None:
            election = Election.UNCLEAN if unclean else Election.ONLINE
        question = (partition, min_isr, election, wanted)
        changes = self._answers.get(question)
        if changes is None:
            changes = changed(partition, self._rules._replace(min_isr=min_isr), wanted, election)
            self._answers[question] = changes
        if changes:
            self.records.append(PartitionChangeRecord(partition_id=index, topic_id=topic.topic_id, **changes))
        return changes

    def remove_from_isr(self, broker_id: int, partitions: Iterable[PartitionKey]) -> None:
        """The broker leaves the ISR and the leadership of these partitions."""
        for topic, index, partition in self._found(partitions):
            isr = tuple(replica for replica in partition.isr if replica != broker_id)
            self.change(topic, index, partition, Wanted(isr=isr))

    def remove_after_unclean_shutdown(self, broker_id: int, partitions: Iterable[PartitionKey]) -> None:
        """The broker may have lost records: it is neither in sync nor eligible (KIP-966)."""
        for topic, index, partition in self._found(partitions):
            isr = tuple(replica for replica in partition.isr if replica != broker_id)
            self.change(topic, index, partition, Wanted(isr=isr, unclean_shutdown=(broker_id,)))

    def elect(self, partitions: Iterable[PartitionKey]) -> None:
        """Leaders for those of the partitions that can have one now."""
        for topic, index, partition in self._found(partitions):
            self.change(topic, index, partition)

    def _found(self, partitions: Iterable[PartitionKey]) -> Iterable[tuple[TopicImage, int, PartitionImage]]:
        by_id = self._image.topics.by_id
        for topic_id, index in partitions:
            topic = by_id[topic_id]
            yield topic, index, topic.partitions[index]

    def _settings(self, topic: TopicImage) -> tuple[int, bool]:
        """The effective minimum of replicas in sync, and whether unclean elections are allowed."""
        found = self._of_topic.get(topic.name)
        if found is None:
            settings = self._image.config_of(_TOPIC, topic.name)
            min_isr = int(settings.get(MIN_ISR, self._config[MIN_ISR]))
            replicas = len(next(iter(topic.partitions.values())).replicas)
            unclean = settings.get(UNCLEAN)
            allowed = bool(self._config[UNCLEAN]) if unclean is None else unclean.strip().lower() == "true"
            found = self._of_topic[topic.name] = (min(min_isr, replicas), allowed)
        return found
