"""A share group as the data path sees it: its settings and the partitions it consumes here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.schema.group import group_settings
from ottla.server.broker.share.delivery import ShareSettings
from ottla.server.metadata.image import ConfigResourceType
from ottla.server.replication.partition import READ_COMMITTED, READ_UNCOMMITTED

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.share.hosted import HostedSharePartition
    from ottla.server.broker.share.sessions import PartitionKey
    from ottla.server.metadata.image import MetadataImage


class ShareGroup:
    """`auto_offset_reset` is `latest`, `earliest` or `by_duration:PT…`; `dead_letter_topic` is "" without a queue."""

    __slots__ = (
        "acknowledged",
        "auto_offset_reset",
        "copies_dead_letters",
        "dead_letter_topic",
        "group_id",
        "isolation_level",
        "partitions",
        "session_count",
        "settings",
    )

    settings: ShareSettings

    def __init__(self, group_id: str, config: BrokerConfig, image: MetadataImage) -> None:
        self.group_id = group_id
        self.partitions: dict[PartitionKey, HostedSharePartition] = {}
        self.session_count = 0
        self.acknowledged = [0] * 5  # records, by type; those who make groups share one
        self.update(config, image)

    def update(self, config: BrokerConfig, image: MetadataImage) -> None:
        """Take over changed settings; locks that are held keep their deadlines."""
        values = group_settings(config, image.config_of(ConfigResourceType.GROUP, self.group_id))
        self.auto_offset_reset: str = values["share.auto.offset.reset"]
        is_committed = values["share.isolation.level"] == "read_committed"
        self.isolation_level = READ_COMMITTED if is_committed else READ_UNCOMMITTED
        self.dead_letter_topic: str = values["errors.deadletterqueue.topic.name"]
        self.copies_dead_letters: bool = values["errors.deadletterqueue.copy.record.enable"]
        self.settings = ShareSettings(
            record_lock_duration_ms=values["share.record.lock.duration.ms"],
            delivery_count_limit=values["share.delivery.count.limit"],
            max_record_locks=values["share.partition.max.record.locks"],
            renew_enabled=values["share.renew.acknowledge.enable"],
            has_dead_letter_queue=bool(self.dead_letter_topic),
        )
        for hosted in self.partitions.values():
            hosted.settings_changed()
