"""Every topic setting of Apache Kafka 4.4, with the broker settings that give its default.

One line a setting: name, type, importance, default, validator, and after `<-` the broker settings that stand in for
it; the first of them that has a value counts.
"""

# ruff: noqa: E501 (a table: one setting a line)

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ottla.schema.definition import SettingError, SettingTable, nearest

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig

TOPIC_SETTINGS = SettingTable("""
cleanup.policy                          list     medium delete [compact, delete] <- log.cleanup.policy
compression.gzip.level                  int      medium -1 [1,...,9] or -1 <- compression.gzip.level
compression.lz4.level                   int      medium 9 [1,...,17] <- compression.lz4.level
compression.type                        string   medium producer [uncompressed, zstd, lz4, snappy, gzip, producer] <- compression.type
compression.zstd.level                  int      medium 3 [-131072,...,22] <- compression.zstd.level
delete.retention.ms                     long     medium 86400000 [0,...] <- log.cleaner.delete.retention.ms
errors.deadletterqueue.group.enable     boolean  medium false
file.delete.delay.ms                    long     medium 60000 [0,...] <- log.segment.delete.delay.ms
flush.messages                          long     medium 9223372036854775807 [1,...] <- log.flush.interval.messages
flush.ms                                long     medium 9223372036854775807 [0,...] <- log.flush.interval.ms, log.flush.scheduler.interval.ms
follower.replication.throttled.replicas list     medium [] [partitionId]:[brokerId],[partitionId]:[brokerId],...
index.interval.bytes                    int      medium 4096 [0,...] <- log.index.interval.bytes
internal.segment.bytes                  int      medium,internal null
leader.replication.throttled.replicas   list     medium [] [partitionId]:[brokerId],[partitionId]:[brokerId],...
local.retention.bytes                   long     medium -2 [-2,...] <- log.local.retention.bytes
local.retention.ms                      long     medium -2 [-2,...] <- log.local.retention.ms
max.compaction.lag.ms                   long     medium 9223372036854775807 [1,...] <- log.cleaner.max.compaction.lag.ms
max.decompressed.message.bytes          int      medium 2147483639 [1,...,2147483639] <- max.decompressed.message.bytes
max.message.bytes                       int      medium 1048588 [0,...] <- message.max.bytes
message.timestamp.after.max.ms          long     medium 3600000 [0,...] <- log.message.timestamp.after.max.ms
message.timestamp.before.max.ms         long     medium 9223372036854775807 [0,...] <- log.message.timestamp.before.max.ms
message.timestamp.type                  string   medium CreateTime [CreateTime, LogAppendTime] <- log.message.timestamp.type
min.cleanable.dirty.ratio               double   medium 0.5 [0,...,1] <- log.cleaner.min.cleanable.ratio
min.compaction.lag.ms                   long     medium 0 [0,...] <- log.cleaner.min.compaction.lag.ms
min.insync.replicas                     int      medium 1 [1,...] <- min.insync.replicas
preallocate                             boolean  medium false <- log.preallocate
remote.copy.lag.bytes                   long     medium -1 [-1,...] <- log.remote.copy.lag.bytes
remote.copy.lag.ms                      long     medium 0 [-1,...] <- log.remote.copy.lag.ms
remote.log.copy.disable                 boolean  medium false
remote.log.delete.on.disable            boolean  medium false
remote.storage.enable                   boolean  medium false
retention.bytes                         long     medium -1 <- log.retention.bytes
retention.ms                            long     medium 604800000 [-1,...] <- log.retention.ms, log.retention.minutes, log.retention.hours
segment.bytes                           int      medium 1073741824 [1048576,...] <- log.segment.bytes
segment.index.bytes                     int      medium 10485760 [4,...] <- log.index.size.max.bytes
segment.jitter.ms                       long     medium 0 [0,...] <- log.roll.jitter.ms, log.roll.jitter.hours
segment.ms                              long     medium 604800000 [1,...] <- log.roll.ms, log.roll.hours
unclean.leader.election.enable          boolean  medium false <- unclean.leader.election.enable
""")

_MILLISECONDS = {"minutes": 60_000, "hours": 3_600_000}


def topic_settings(config: BrokerConfig, overrides: Mapping[str, str]) -> dict[str, Any]:
    """Every topic setting of a topic, typed: its own override, or what the broker settings say, or the default.

    A topic's `internal.segment.bytes` stands in the place of `segment.bytes`. Overrides that no longer parse (written by
    another version) are left out rather than making the topic unusable.
    """
    settings = dict(_defaults(config))
    for name, text in overrides.items():
        if name in TOPIC_SETTINGS:
            try:
                settings[name] = TOPIC_SETTINGS[name].parse(text)
            except SettingError:
                continue
    if settings["internal.segment.bytes"] is not None:
        settings["segment.bytes"] = settings["internal.segment.bytes"]
    return settings


def _defaults(config: BrokerConfig) -> Mapping[str, Any]:
    """What a topic without settings of its own has; worked out once per configuration."""
    defaults = config.topic_defaults
    if not defaults:
        defaults.update({name: default_value(config, name) for name in TOPIC_SETTINGS})
    return defaults


def default_value(config: BrokerConfig, name: str) -> Any:
    """The value of a topic setting that the topic does not have: its first broker synonym with a value, in milliseconds."""
    setting = TOPIC_SETTINGS[name]
    for synonym in setting.synonyms:
        value = config[synonym]
        if value is not None:
            scaled = value * _MILLISECONDS.get(synonym.rpartition(".")[2], 1) if setting.type.is_integer else value
            return -1 if name == "retention.ms" and scaled < 0 else scaled
    return setting.default


def validate_topic_overrides(overrides: Mapping[str, str | None], config: BrokerConfig | None = None) -> None:
    """Raise `ApiError` INVALID_CONFIG, in Kafka's words, unless a topic may have these settings.

    With `config`, they are also checked together with the defaults that the broker gives.
    """
    from ottla.core.errors import ApiError, ErrorCode

    try:
        _check(overrides, config)
    except SettingError as error:
        raise ApiError(ErrorCode.INVALID_CONFIG, error.reason) from None


def _check(overrides: Mapping[str, str | None], config: BrokerConfig | None) -> None:
    nulls = sorted(name for name, text in overrides.items() if text is None)
    if nulls:
        raise SettingError(nulls[0], f"Null value not supported for topic configs: {','.join(nulls)}")
    settings = dict(_defaults(config)) if config is not None else {n: TOPIC_SETTINGS[n].default for n in TOPIC_SETTINGS}
    for name, text in overrides.items():
        if name not in TOPIC_SETTINGS:
            suggestion = nearest(name, TOPIC_SETTINGS)
            hint = "" if suggestion is None else f" (did you mean {suggestion}?)"
            raise SettingError(name, f"Unknown topic config name: {name}{hint}")
        assert text is not None
        settings[name] = TOPIC_SETTINGS[name].parse(text)
    _check_together(settings)


def _check_together(settings: Mapping[str, Any]) -> None:
    minimum, maximum = settings["min.compaction.lag.ms"], settings["max.compaction.lag.ms"]
    if minimum > maximum:
        raise SettingError(
            "min.compaction.lag.ms",
            f"conflict topic config setting min.compaction.lag.ms ({minimum}) > max.compaction.lag.ms ({maximum})",
        )
    if settings["remote.storage.enable"]:
        raise SettingError(
            "remote.storage.enable",
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.",
        )
