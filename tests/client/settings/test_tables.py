"""The tables against what Apache Kafka says of its clients' settings; names and attributes against the tables."""

import json
import os
import typing
from pathlib import Path

import pytest

from ottla.client.settings import model, names, tables
from ottla.client.settings.descriptions import DESCRIPTIONS
from ottla.client.settings.librdkafka import ALIASES, LEVEL
from ottla.client.settings.reference import page
from ottla.client.settings.without_effect import (
    HARMLESS_VALUES,
    KAFKA_REFUSED,
    KAFKA_WITHOUT_EFFECT,
    REFUSED,
    SHARE_WITHOUT_EFFECT,
    WITHOUT_EFFECT,
)
from ottla.schema.definition import Password, SettingType

ROOT = Path(__file__).parents[3]
CLIENT = ROOT / "src/ottla/client"
TESTDATA = Path(__file__).parent / "testdata"
DELTA = json.loads((ROOT / "tests/schema/testdata/delta-4.4.0.json").read_text())

KINDS = {
    "producer": (tables.PRODUCER_SETTINGS, model.ProducerSettings, names.ProducerNames),
    "consumer": (tables.CONSUMER_SETTINGS, model.ConsumerSettings, names.ConsumerNames),
    "admin": (tables.ADMIN_SETTINGS, model.AdminSettings, names.AdminNames),
}
ALL = {name for table, _, _ in KINDS.values() for name in table}

TIGHTER = {
    "ssl.enabled.protocols": "[TLSv1.2, TLSv1.3]",
    "ssl.keystore.type": "(case insensitive) [JKS, PKCS12, PEM]",
    "ssl.protocol": "[TLS, TLSv1.2, TLSv1.3]",
    "ssl.truststore.type": "(case insensitive) [JKS, PKCS12, PEM]",
}
"""Where what is allowed is checked before a connection is made, and not by Java's TLS only."""


def facts(kind):
    entries = json.loads((TESTDATA / f"{kind}.json").read_text()) + DELTA[kind]
    return {entry["name"]: entry for entry in entries}


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_kafkas_and_ottlas_own(kind):
    assert set(KINDS[kind][0]) - tables.OWN_SETTINGS == set(facts(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_types_defaults_and_bounds_are_kafkas(kind):
    for name, fact in facts(kind).items():
        setting = KINDS[kind][0][name]
        assert setting.type.name.lower() == fact["type"], name
        assert setting.internal == fact.get("internal", False), name
        allowed = None if setting.validator is None else str(setting.validator)
        assert allowed == TIGHTER.get(name, fact.get("valid")), name
        if name not in tables.OWN_DEFAULTS:
            assert setting.required == fact.get("required", False), name
            assert setting.default == fact.get("default"), name


def test_a_default_that_differs_is_explained_and_really_differs():
    for name in tables.OWN_DEFAULTS:
        known = [(facts(kind)[name], table[name]) for kind, (table, _, _) in KINDS.items() if name in table]
        assert any(
            (fact.get("required", False), fact.get("default")) != (setting.required, setting.default)
            for fact, setting in known
        ), name


PYTHON_TYPES = {
    SettingType.BOOLEAN: bool,
    SettingType.STRING: str,
    SettingType.INT: int,
    SettingType.SHORT: int,
    SettingType.LONG: int,
    SettingType.DOUBLE: float,
    SettingType.LIST: list[str],
    SettingType.CLASS: object,
    SettingType.PASSWORD: Password,
}
SPECIAL_ATTRIBUTES = {
    "acks": int,
    "interceptor.classes": list[object],
    "metric.reporters": list[object],
    "partition.assignment.strategy": list[object],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_has_a_typed_attribute(kind):
    table, settings_class, _ = KINDS[kind]
    hints = typing.get_type_hints(settings_class)
    own = {"called", "kind", "table", "unsupported", "_given"}
    for name, setting in table.items():
        expected = SPECIAL_ATTRIBUTES.get(name, PYTHON_TYPES[setting.type])
        if setting.default is None and not setting.required:
            expected = expected | None
        assert hints.pop(name.replace(".", "_")) == expected, name
    assert set(hints) - own == set(), "an attribute without a setting"


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_a_keyword_argument(kind):
    table, _, keywords = KINDS[kind]
    # Serializers are parameters of their own: they say what a client is generic over.
    expected = {name.replace(".", "_") for name in table if not name.endswith("serializer")}
    assert set(typing.get_type_hints(keywords)) == expected


def test_a_share_consumer_has_no_keyword_for_what_it_refuses():
    refused = {name.replace(".", "_") for name in tables.UNSUPPORTED_BY_SHARE_GROUPS}
    share, consumer = (set(typing.get_type_hints(each)) for each in (names.ShareConsumerNames, names.ConsumerNames))
    assert consumer - share == refused


def test_every_setting_is_described_once():
    assert set(DESCRIPTIONS) == ALL
    assert len(set(DESCRIPTIONS.values())) > len(ALL) - 15  # what is for brokers only is not told apart


def test_lists_of_names_do_not_contradict_each_other():
    assert set(ALIASES.values()) <= ALL
    assert not set(ALIASES) & ALL
    assert {*KAFKA_REFUSED, *KAFKA_WITHOUT_EFFECT, *tables.OWN_DEFAULTS} <= ALL
    assert not {*REFUSED, *WITHOUT_EFFECT} & (ALL | set(ALIASES))
    assert not set(REFUSED) & set(WITHOUT_EFFECT)
    assert not set(KAFKA_REFUSED) & set(KAFKA_WITHOUT_EFFECT)
    assert set(HARMLESS_VALUES) <= set(REFUSED)


def test_every_setting_is_honoured_somewhere_or_said_to_have_no_effect():
    """Kinds of clients by the packages whose code may read their settings."""
    sources = {path.relative_to(CLIENT): path.read_text() for path in CLIENT.rglob("*.py")}
    common = ("network", "security", "instruments.py", "metrics")
    read_while_reading = "config.providers", "bootstrap.servers"
    for kind, package in (
        (model.ProducerSettings, "producer"),
        (model.ConsumerSettings, "consumer"),
        (model.ShareConsumerSettings, "share"),
        (model.AdminSettings, "admin"),
    ):
        text = "".join(text for path, text in sources.items() if path.parts[0] in (*common, package))
        excused = {*KAFKA_REFUSED, *KAFKA_WITHOUT_EFFECT, *kind.unsupported, *read_while_reading}
        if kind is model.ShareConsumerSettings:
            excused |= SHARE_WITHOUT_EFFECT.keys()
        elif kind is model.ConsumerSettings:
            excused |= {name for name in kind.table if name.startswith("share.")}  # refused
        unread = {
            name
            for name in kind.table
            if name not in excused and name.replace(".", "_") not in text and f'"{name}"' not in text
        }
        assert unread == set(), kind.__name__


def test_every_name_of_librdkafka_means_something():
    listed = (TESTDATA / "librdkafka.txt").read_text().split()
    known = {*ALL, *ALIASES, LEVEL, *REFUSED, *WITHOUT_EFFECT}
    assert [name for name in listed if name.replace("_", ".") not in known] == []


def test_the_reference_page_says_what_the_tables_say():
    path = ROOT / "docs/client-settings.md"
    if os.environ.get("OTTLA_REWRITE"):
        path.write_text(page())
    assert path.read_text() == page(), "docs/client-settings.md is out of date: OTTLA_REWRITE=1 pytest tests/client"
