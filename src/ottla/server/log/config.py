"""The settings of one partition's log, resolved: what a topic overrides, else what the broker says, else Kafka's
default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ottla.records.compression import DEFAULT_LIMIT_BYTES, Codec
from ottla.records.validation import AppendRules

MAXIMUM_INT64 = 2**63 - 1
MAXIMUM_INT32 = 2**31 - 1
UNLIMITED_BYTES = MAXIMUM_INT32 - 8
"""`max.decompressed.message.bytes` of who has not thought about it: then what nobody's batches are as large as."""

CLEANUP_COMPACT = "compact"
CLEANUP_DELETE = "delete"

_CODECS = {
    "uncompressed": Codec.NONE,
    "gzip": Codec.GZIP,
    "snappy": Codec.SNAPPY,
    "lz4": Codec.LZ4,
    "zstd": Codec.ZSTD,
}
_LEVELS = {"gzip": "compression_gzip_level", "lz4": "compression_lz4_level", "zstd": "compression_zstd_level"}


@dataclass(frozen=True, slots=True)
class LogConfig:
    """One field per topic setting of Kafka, dots written as underscores; units are in the names.

    Limits that are "none" in Kafka keep its number: -1 for `retention_*`, the largest int64 for flushes and timestamps.
    """

    cleanup_policy: tuple[str, ...] = (CLEANUP_DELETE,)
    compression_gzip_level: int = -1
    compression_lz4_level: int = 9
    compression_type: str = "producer"
    compression_zstd_level: int = 3
    delete_retention_ms: int = 86_400_000
    file_delete_delay_ms: int = 60_000
    flush_messages: int = MAXIMUM_INT64
    flush_ms: int = MAXIMUM_INT64
    index_interval_bytes: int = 4096
    local_retention_bytes: int = -2
    local_retention_ms: int = -2
    max_compaction_lag_ms: int = MAXIMUM_INT64
    max_decompressed_message_bytes: int = UNLIMITED_BYTES
    max_message_bytes: int = 1_048_588
    message_timestamp_after_max_ms: int = 3_600_000
    message_timestamp_before_max_ms: int = MAXIMUM_INT64
    message_timestamp_type: str = "CreateTime"
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    min_insync_replicas: int = 1
    preallocate: bool = False
    remote_storage_enable: bool = False
    retention_bytes: int = -1
    retention_ms: int = 604_800_000
    segment_bytes: int = 1_073_741_824
    segment_index_bytes: int = 10_485_760
    segment_jitter_ms: int = 0
    segment_ms: int = 604_800_000
    unclean_leader_election_enable: bool = False
    rules: AppendRules = field(init=False, compare=False)

    def __post_init__(self) -> None:
        level = getattr(self, _LEVELS[self.compression_type]) if self.compression_type in _LEVELS else None
        rules = AppendRules(
            max_message_bytes=self.max_message_bytes,
            compression=_CODECS.get(self.compression_type),
            compression_level=level,
            log_append_time=self.message_timestamp_type == "LogAppendTime",
            before_max_ms=self.message_timestamp_before_max_ms,
            after_max_ms=self.message_timestamp_after_max_ms,
            compacted=CLEANUP_COMPACT in self.cleanup_policy,
            max_decompressed_bytes=self.decompressed_limit_bytes,
        )
        object.__setattr__(self, "rules", rules)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> LogConfig:
        """Make one from typed values by Kafka's topic setting names; what is missing keeps Kafka's default."""
        values: dict[str, Any] = {}
        for name, key in _SETTING_NAMES.items():
            if key in settings:
                value = settings[key]
                values[name] = tuple(value) if name == "cleanup_policy" else value
        # The setting tests use to get segments smaller than the documented minimum.
        if settings.get("internal.segment.bytes") is not None:
            values["segment_bytes"] = settings["internal.segment.bytes"]
        return cls(**values)

    @property
    def is_compacted(self) -> bool:
        """Whether the cleaner may remove records whose key was written again."""
        return CLEANUP_COMPACT in self.cleanup_policy

    @property
    def decompressed_limit_bytes(self) -> int:
        """How long the records of a batch may be uncompressed, where somebody here has to look at them."""
        limit = self.max_decompressed_message_bytes
        return DEFAULT_LIMIT_BYTES if limit >= UNLIMITED_BYTES else limit

    @property
    def compactable_bytes(self) -> int:
        """The same for the cleaner: what was taken before a limit was lowered is compacted as well."""
        return max(self.decompressed_limit_bytes, DEFAULT_LIMIT_BYTES)

    @property
    def deletes_by_retention(self) -> bool:
        """Whether whole segments may go because of age or size."""
        return CLEANUP_DELETE in self.cleanup_policy

    @property
    def maximum_segment_age_ms(self) -> int:
        """How old a segment may grow before it is rolled; compaction wants closed segments within its maximum lag."""
        if self.is_compacted:
            return min(self.segment_ms, self.max_compaction_lag_ms)
        return self.segment_ms


_SETTING_NAMES = {item.name: item.name.replace("_", ".") for item in fields(LogConfig) if item.init}
