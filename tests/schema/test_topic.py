import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.schema.config import BrokerConfig
from ottla.schema.topic import TOPIC_SETTINGS, topic_settings, validate_topic_overrides


def value_of(name, broker_settings, overrides=None):
    return topic_settings(BrokerConfig.of(broker_settings), overrides or {})[name]


def test_a_stock_broker_gives_kafkas_defaults():
    assert topic_settings(BrokerConfig.of(), {}) == {name: TOPIC_SETTINGS[name].default for name in TOPIC_SETTINGS}


@pytest.mark.parametrize(
    ("name", "broker_settings", "value"),
    [
        ("retention.ms", {"log.retention.hours": "2"}, 7_200_000),
        ("retention.ms", {"log.retention.hours": "2", "log.retention.minutes": "3"}, 180_000),
        ("retention.ms", {"log.retention.hours": "2", "log.retention.minutes": "3", "log.retention.ms": "4"}, 4),
        ("retention.ms", {"log.retention.hours": "-1"}, -1),
        ("retention.ms", {"log.retention.minutes": "-1"}, -1),
        ("retention.ms", {"log.retention.hours": "2147483647"}, 2147483647 * 3_600_000),
        ("segment.ms", {"log.roll.hours": "1"}, 3_600_000),
        ("segment.ms", {"log.roll.hours": "1", "log.roll.ms": "5"}, 5),
        ("segment.jitter.ms", {"log.roll.jitter.hours": "1"}, 3_600_000),
        ("flush.ms", {"log.flush.scheduler.interval.ms": "5"}, 5),
        ("flush.ms", {"log.flush.scheduler.interval.ms": "5", "log.flush.interval.ms": "6"}, 6),
        ("max.message.bytes", {"message.max.bytes": "77"}, 77),
        ("cleanup.policy", {"log.cleanup.policy": "compact"}, ["compact"]),
        ("min.cleanable.dirty.ratio", {"log.cleaner.min.cleanable.ratio": "0.25"}, 0.25),
        ("segment.bytes", {"log.segment.bytes": "2000000"}, 2_000_000),
    ],
)
def test_broker_settings_stand_in_for_topic_settings(name, broker_settings, value):
    assert value_of(name, broker_settings) == value


def test_a_topics_own_setting_wins_over_everything():
    assert value_of("retention.ms", {"log.retention.ms": "4"}, {"retention.ms": "5"}) == 5


def test_dynamic_broker_settings_reach_topics():
    config = BrokerConfig.of({"log.retention.ms": "1"})
    assert topic_settings(config, {})["retention.ms"] == 1
    config = config.with_dynamic({"log.retention.ms": "2"}, {})
    assert topic_settings(config, {})["retention.ms"] == 2
    assert topic_settings(config.with_dynamic({}, {}), {})["retention.ms"] == 1


def test_one_topics_settings_do_not_leak_into_anothers():
    config = BrokerConfig.of()
    topic_settings(config, {"retention.ms": "5"})["segment.ms"] = 7
    assert topic_settings(config, {})["retention.ms"] == 604_800_000
    assert topic_settings(config, {})["segment.ms"] == 604_800_000


def test_the_internal_segment_size_goes_below_the_public_minimum():
    settings = topic_settings(BrokerConfig.of(), {"internal.segment.bytes": "1000", "segment.bytes": "2000000"})
    assert settings["segment.bytes"] == 1000


def test_overrides_of_another_version_do_not_make_a_topic_unusable():
    settings = topic_settings(BrokerConfig.of(), {"retention.ms": "soon", "message.format.version": "2.0"})
    assert settings["retention.ms"] == 604_800_000


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"retention.ms": "x"}, "Invalid value x for configuration retention.ms: Not a number of type LONG"),
        ({"retention.ms": "-2"}, "Invalid value -2 for configuration retention.ms: Value must be at least -1"),
        ({"cleanup.policy": "shred"}, "Invalid value shred for configuration cleanup.policy: String must be one of: "),
        ({"retention.millis": "1"}, "Unknown topic config name: retention.millis (did you mean retention.ms?)"),
        ({"a": None, "retention.ms": None}, "Null value not supported for topic configs: a,retention.ms"),
        ({"min.compaction.lag.ms": "2", "max.compaction.lag.ms": "1"}, "conflict topic config setting"),
        ({"remote.storage.enable": "true"}, "Tiered Storage functionality is disabled in the broker."),
        ({"leader.replication.throttled.replicas": "0"}, "must be the literal '*'"),
    ],
)
def test_impossible_topic_settings_are_refused_in_kafkas_words(overrides, message):
    with pytest.raises(ApiError) as error:
        validate_topic_overrides(overrides)
    assert error.value.code is ErrorCode.INVALID_CONFIG
    assert message in error.value.message


def test_topic_settings_are_checked_together_with_the_brokers():
    overrides = {"min.compaction.lag.ms": "10"}
    validate_topic_overrides(overrides)
    validate_topic_overrides(overrides, BrokerConfig.of())
    with pytest.raises(ApiError, match="conflict"):
        validate_topic_overrides(overrides, BrokerConfig.of({"log.cleaner.max.compaction.lag.ms": "5"}))


def test_possible_topic_settings_pass():
    validate_topic_overrides({})
    validate_topic_overrides({"cleanup.policy": "compact,delete", "compression.type": "zstd", "segment.ms": "1"})
    validate_topic_overrides({"cleanup.policy": ""})
