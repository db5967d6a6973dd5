"""Every table against what Apache Kafka itself says of its settings."""

import json
from pathlib import Path

import pytest

from ottla.schema.broker import BROKER_SETTINGS
from ottla.schema.client_metrics import CLIENT_METRICS_SETTINGS
from ottla.schema.definition import Setting, SettingTable
from ottla.schema.group import GROUP_SETTINGS
from ottla.schema.ottla import OTTLA_DEFAULTS, OTTLA_SETTINGS
from ottla.schema.quota import BROKER_THROTTLES, CLIENT_QUOTAS, IP_QUOTAS
from ottla.schema.removed import removal_of
from ottla.schema.topic import TOPIC_SETTINGS

TESTDATA = Path(__file__).parent / "testdata"


def facts(name):
    return json.loads((TESTDATA / f"{name}.json").read_text())


def with_delta(entries, kind):
    merged = {entry["name"]: entry for entry in entries}
    merged.update({entry["name"]: entry for entry in facts("delta-4.4.0")[kind]})
    return list(merged.values())


QUOTAS = facts("quota")

TABLES = {
    "broker": (BROKER_SETTINGS, with_delta(facts("broker"), "broker")),
    "topic": (TOPIC_SETTINGS, with_delta(facts("topic"), "topic")),
    "group": (GROUP_SETTINGS, with_delta(facts("group"), "group")),
    "client-metrics": (CLIENT_METRICS_SETTINGS, facts("client-metrics")),
    "client quotas": (CLIENT_QUOTAS, QUOTAS["user/client-id"]),
    "ip quotas": (IP_QUOTAS, QUOTAS["ip"]),
    "broker throttles": (BROKER_THROTTLES, QUOTAS["broker-throttle (entity broker, dynamic only)"]),
}


def described(setting: Setting, fact) -> dict[str, object]:
    """A setting in the form of the facts."""
    entry: dict[str, object] = {"name": setting.name, "type": setting.type.name.lower()}
    if setting.required:
        entry["required"] = True
    else:
        entry["default"] = setting.default
    if setting.validator is not None:
        entry["valid"] = str(setting.validator)
    entry["importance"] = setting.importance
    if setting.internal:
        entry["internal"] = True
    if "dynamic" in fact:
        entry["dynamic"] = setting.dynamic
    if "brokerSynonyms" in fact:
        entry["brokerSynonyms"] = list(setting.synonyms)
    return entry


@pytest.mark.parametrize("kind", TABLES)
def test_table_says_what_kafka_says(kind):
    table, entries = TABLES[kind]
    assert sorted(table) == sorted(entry["name"] for entry in entries)
    for fact in entries:
        assert described(table[fact["name"]], fact) == fact


def test_defaults_of_kafka_have_the_type_of_their_setting():
    python_types = {"boolean": bool, "int": int, "short": int, "long": int, "double": float, "list": list}
    for table, _ in TABLES.values():
        for setting in table.values():
            if setting.default is not None:
                assert type(setting.default) is python_types.get(setting.type.name.lower(), str), setting


def test_every_default_passes_its_own_validator():
    for table, _ in TABLES.values():
        for setting in table.values():
            if setting.default is not None and setting.validator is not None:
                assert setting.validator.check(setting.default) is None, setting


def test_broker_synonyms_of_topic_settings_are_broker_settings():
    for setting in TOPIC_SETTINGS.values():
        assert all(synonym in BROKER_SETTINGS for synonym in setting.synonyms), setting


def test_no_living_setting_is_called_removed():
    assert [name for name in BROKER_SETTINGS if removal_of(name) is not None] == []


def test_own_settings_do_not_shadow_kafkas():
    assert not set(OTTLA_SETTINGS) & set(BROKER_SETTINGS)
    assert set(OTTLA_DEFAULTS) <= set(BROKER_SETTINGS)


def test_settings_are_parsed_only_when_looked_up():
    table = SettingTable("a   int   low   1\nb   nonsense   low   1\n")
    assert list(table) == ["a", "b"]
    assert table["a"].default == 1
    with pytest.raises(KeyError):
        table["c"]
