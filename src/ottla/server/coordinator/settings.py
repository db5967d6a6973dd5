"""The broker settings that group coordination uses, taken out once so that cores depend on plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ottla.schema.checks import ASSIGNORS


class SettingSource(Protocol):
    """What settings are read from: ``config["group.max.size"]`` gives the typed value."""

    def __getitem__(self, name: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Kafka's ``group.*`` and ``offsets.*`` settings with their defaults; times in milliseconds."""

    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    max_size: int = 2_147_483_647
    initial_rebalance_delay_ms: int = 3_000
    #: Kafka's fixed limit for a new member parked in a join: its client may be gone and nothing else would tell.
    new_member_join_timeout_ms: int = 300_000
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_ms: int = 10_080 * 60_000
    offsets_retention_check_interval_ms: int = 600_000
    offsets_commit_timeout_ms: int = 5_000
    offsets_load_buffer_bytes: int = 5_242_880
    offsets_topic_compression_codec: int = 0
    offsets_topic_partition_count: int = 50
    consumer_max_size: int = 2_147_483_647
    #: Names of the assignors that members may ask for, the default one first.
    consumer_assignors: tuple[str, ...] = ("uniform", "range")
    #: disabled, upgrade, downgrade or bidirectional.
    consumer_migration_policy: str = "bidirectional"
    consumer_regex_refresh_interval_ms: int = 600_000
    share_max_size: int = 200
    share_initialize_retry_interval_ms: int = 30_000
    streams_max_size: int = 2_147_483_647
    #: Whether members are asked for a description of their topology, kept in memory (KIP-1331).
    streams_keep_descriptions: bool = False

    @classmethod
    def from_config(cls, config: SettingSource) -> GroupSettings:
        """Read every setting by its Kafka name."""
        return cls(
            min_session_timeout_ms=config["group.min.session.timeout.ms"],
            max_session_timeout_ms=config["group.max.session.timeout.ms"],
            max_size=config["group.max.size"],
            initial_rebalance_delay_ms=config["group.initial.rebalance.delay.ms"],
            offset_metadata_max_bytes=config["offset.metadata.max.bytes"],
            offsets_retention_ms=config["offsets.retention.minutes"] * 60_000,
            offsets_retention_check_interval_ms=config["offsets.retention.check.interval.ms"],
            offsets_commit_timeout_ms=config["offsets.commit.timeout.ms"],
            offsets_load_buffer_bytes=config["offsets.load.buffer.size"],
            offsets_topic_compression_codec=config["offsets.topic.compression.codec"],
            offsets_topic_partition_count=config["offsets.topic.num.partitions"],
            consumer_max_size=config["group.consumer.max.size"],
            consumer_assignors=_assignors(config["group.consumer.assignors"]),
            consumer_migration_policy=config["group.consumer.migration.policy"].lower(),
            consumer_regex_refresh_interval_ms=config["group.consumer.regex.refresh.interval.ms"],
            share_max_size=config["group.share.max.size"],
            share_initialize_retry_interval_ms=config["group.share.initialize.retry.interval.ms"],
            streams_max_size=config["group.streams.max.size"],
            streams_keep_descriptions=config["group.streams.topology.description.plugin.class"] is not None,
        )


def _assignors(names: list[str]) -> tuple[str, ...]:
    """Names as members give them, from names or Kafka's own classes; the start refuses all others."""
    known = ASSIGNORS["group.consumer.assignors"]
    return tuple(dict.fromkeys(known[name.rpartition(".")[2]] for name in names))
