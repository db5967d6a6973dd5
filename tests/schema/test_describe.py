import pytest

from ottla.schema.broker import BROKER_SETTINGS
from ottla.schema.config import BrokerConfig
from ottla.schema.describe import (
    DEFAULT,
    DYNAMIC_BROKER,
    DYNAMIC_DEFAULT_BROKER,
    GROUP,
    STATIC_BROKER,
    TOPIC,
    describe_broker,
    describe_client_metrics,
    describe_cluster_wide,
    describe_group,
    describe_topic,
)
from ottla.schema.descriptions import DESCRIPTIONS
from ottla.schema.topic import TOPIC_SETTINGS


def one(entries, name):
    [entry] = [entry for entry in entries if entry.name == name]
    return entry


def test_a_topic_setting_shows_every_place_that_has_a_value():
    config = BrokerConfig.of({"message.max.bytes": "40"}).with_dynamic(
        {"message.max.bytes": "30"}, {"message.max.bytes": "20"}
    )
    entry = one(describe_topic(config, {"max.message.bytes": " 10 "}), "max.message.bytes")
    assert (entry.value, entry.source, entry.type, entry.is_read_only) == ("10", TOPIC, 3, False)
    assert entry.synonyms == [
        ("max.message.bytes", "10", TOPIC),
        ("message.max.bytes", "20", DYNAMIC_BROKER),
        ("message.max.bytes", "30", DYNAMIC_DEFAULT_BROKER),
        ("message.max.bytes", "40", STATIC_BROKER),
        ("message.max.bytes", "1048588", DEFAULT),
    ]
    inherited = one(describe_topic(config, {}), "max.message.bytes")
    assert (inherited.value, inherited.source) == ("20", DYNAMIC_BROKER)
    assert not inherited.is_default


def test_a_topic_setting_by_hours_shows_where_it_comes_from():
    entry = one(describe_topic(BrokerConfig.of({"log.retention.hours": "24"}), {}), "retention.ms")
    assert (entry.value, entry.source) == ("86400000", STATIC_BROKER)
    assert entry.synonyms == [("log.retention.hours", "24", STATIC_BROKER), ("log.retention.hours", "168", DEFAULT)]


def test_all_documented_topic_settings_are_told():
    entries = describe_topic(BrokerConfig.of(), {})
    assert [entry.name for entry in entries] == sorted(
        name for name in TOPIC_SETTINGS if not TOPIC_SETTINGS[name].internal
    )
    assert all(entry.is_default for entry in entries)
    assert one(entries, "cleanup.policy").value == "delete"
    assert one(entries, "preallocate").value == "false"
    assert one(entries, "min.cleanable.dirty.ratio").value == "0.5"
    assert one(entries, "follower.replication.throttled.replicas").synonyms == []


def test_an_undocumented_topic_setting_is_told_once_it_is_set():
    entries = describe_topic(BrokerConfig.of(), {"internal.segment.bytes": "1000"})
    assert one(entries, "internal.segment.bytes").value == "1000"


def test_keys_limit_the_answer():
    entries = describe_topic(BrokerConfig.of(), {}, {"retention.ms", "no.such.setting"})
    assert [entry.name for entry in entries] == ["retention.ms"]
    assert describe_broker(BrokerConfig.of(), {"no.such.setting"}) == []


def test_a_broker_tells_all_documented_settings():
    config = BrokerConfig.of({"num.partitions": "3", "listeners": "PLAINTEXT://127.0.0.1:0"})
    entries = describe_broker(config)
    names = {entry.name for entry in entries}
    assert {name for name in BROKER_SETTINGS if not BROKER_SETTINGS[name].internal} <= names
    assert not {name for name in BROKER_SETTINGS if BROKER_SETTINGS[name].internal} & names
    partitions = one(entries, "num.partitions")
    assert (partitions.value, partitions.source, partitions.is_read_only) == ("3", STATIC_BROKER, True)
    assert partitions.synonyms == [("num.partitions", "3", STATIC_BROKER), ("num.partitions", "1", DEFAULT)]
    assert one(entries, "log.retention.ms").is_read_only is False
    assert one(entries, "log.retention.ms").value is None
    assert one(entries, "log.dirs").value == "./ottla-data"
    assert one(entries, "node.id").value == "1"


def test_later_synonyms_of_a_broker_setting_are_told_earlier_ones_are_not():
    config = BrokerConfig.of({"log.retention.ms": "1", "log.retention.minutes": "2"})
    entries = describe_broker(config)
    assert [synonym.name for synonym in one(entries, "log.retention.ms").synonyms] == [
        "log.retention.ms",
        "log.retention.minutes",
        "log.retention.hours",
    ]
    assert [synonym.name for synonym in one(entries, "log.retention.hours").synonyms] == ["log.retention.hours"]


def test_secrets_are_never_told():
    config = BrokerConfig.of(
        {"ssl.key.password": "hunter2", "listener.name.a.ssl.key.password": "hunter2", "rsm.config.key": "hunter2"}
    ).with_dynamic({}, {"ssl.keystore.password": "hunter2"})
    entries = describe_broker(config)
    assert "hunter2" not in repr(entries)
    for name in ("ssl.key.password", "listener.name.a.ssl.key.password", "rsm.config.key", "ssl.keystore.password"):
        entry = one(entries, name)
        assert entry.is_sensitive
        assert entry.value is None
    assert one(entries, "ssl.keystore.password").source == DYNAMIC_BROKER


def test_a_listeners_setting_falls_back_to_the_general_one():
    config = BrokerConfig.of({"listener.name.a.max.connections": "3", "max.connections": "7"})
    entry = one(describe_broker(config), "listener.name.a.max.connections")
    assert (entry.value, entry.source) == ("3", STATIC_BROKER)
    assert entry.synonyms == [
        ("listener.name.a.max.connections", "3", STATIC_BROKER),
        ("max.connections", "7", STATIC_BROKER),
        ("max.connections", "2147483647", DEFAULT),
    ]


def test_the_settings_of_all_brokers_are_only_those_that_are_set():
    config = BrokerConfig.of({"message.max.bytes": "1"}).with_dynamic(
        {"message.max.bytes": "2"}, {"message.max.bytes": "3"}
    )
    [entry] = describe_cluster_wide(config)
    assert (entry.name, entry.value, entry.source) == ("message.max.bytes", "2", DYNAMIC_DEFAULT_BROKER)
    assert entry.synonyms == [("message.max.bytes", "2", DYNAMIC_DEFAULT_BROKER)]
    assert describe_cluster_wide(BrokerConfig.of()) == []


def test_throttles_of_a_broker_are_told_once_they_are_set():
    config = BrokerConfig.of().with_dynamic({}, {"leader.replication.throttled.rate": "5"})
    entry = one(describe_broker(config), "leader.replication.throttled.rate")
    assert (entry.value, entry.source, entry.is_read_only) == ("5", DYNAMIC_BROKER, False)


def test_a_group_tells_its_own_and_the_brokers_values():
    config = BrokerConfig.of({"group.consumer.session.timeout.ms": "50000"})
    entries = describe_group(config, {"consumer.session.timeout.ms": "46000"})
    assert one(entries, "consumer.session.timeout.ms").synonyms == [
        ("consumer.session.timeout.ms", "46000", GROUP),
        ("group.consumer.session.timeout.ms", "50000", STATIC_BROKER),
        ("group.consumer.session.timeout.ms", "45000", DEFAULT),
    ]
    assert one(entries, "share.isolation.level").synonyms == [("share.isolation.level", "read_uncommitted", DEFAULT)]


def test_a_client_metrics_subscription_tells_its_values():
    entries = describe_client_metrics({"metrics": "a,b"})
    assert [(entry.name, entry.value, entry.source) for entry in entries] == [
        ("interval.ms", "300000", DEFAULT),
        ("match", "", DEFAULT),
        ("metrics", "a,b", 7),
    ]


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_descriptions_are_of_settings_and_one_sentence(name):
    from ottla.schema.ottla import OTTLA_SETTINGS
    from ottla.schema.quota import BROKER_THROTTLES

    assert name in {*BROKER_SETTINGS, *TOPIC_SETTINGS, *OTTLA_SETTINGS, *BROKER_THROTTLES}
    assert DESCRIPTIONS[name].endswith(".")
