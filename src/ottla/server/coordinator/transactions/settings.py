"""The broker settings that transaction coordination uses; times in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

from ottla.server.coordinator.settings import SettingSource


@dataclass(frozen=True, slots=True)
class TransactionSettings:
    """Kafka's ``transaction.*`` and ``transactional.id.*`` settings with their defaults."""

    max_timeout_ms: int = 900_000
    id_expiration_ms: int = 604_800_000
    abort_interval_ms: int = 10_000
    expiration_interval_ms: int = 3_600_000
    two_phase_commit: bool = False
    topic_partition_count: int = 50
    load_buffer_bytes: int = 5_242_880
    commit_timeout_ms: int = 30_000

    @classmethod
    def from_config(cls, config: SettingSource) -> TransactionSettings:
        """Read every setting by its Kafka name."""
        return cls(
            max_timeout_ms=config["transaction.max.timeout.ms"],
            id_expiration_ms=config["transactional.id.expiration.ms"],
            abort_interval_ms=config["transaction.abort.timed.out.transaction.cleanup.interval.ms"],
            expiration_interval_ms=config["transaction.remove.expired.transaction.cleanup.interval.ms"],
            two_phase_commit=config["transaction.two.phase.commit.enable"],
            topic_partition_count=config["transaction.state.log.num.partitions"],
            load_buffer_bytes=config["transaction.state.log.load.buffer.size"],
            commit_timeout_ms=config["request.timeout.ms"],
        )
