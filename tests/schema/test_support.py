"""The list of settings that have an effect against the code that gives them one."""

import ast
import os
from functools import cache
from pathlib import Path

import ottla
from ottla.schema.broker import BROKER_SETTINGS
from ottla.schema.group import GROUP_SETTINGS
from ottla.schema.ottla import OTTLA_SETTINGS
from ottla.schema.reference import page
from ottla.schema.support import ACTED_ON, TOPIC_SETTINGS_WITHOUT_EFFECT, has_effect
from ottla.schema.topic import TOPIC_SETTINGS

SOURCE = Path(ottla.__file__).parent
PAGE = SOURCE.parents[1] / "docs" / "settings.md"

BY_ATTRIBUTE = {
    "advertised.listeners",
    "broker.id",
    "cluster.id",
    "config.providers",
    "controller.listener.names",
    "controller.quorum.auto.join.enable",
    "controller.quorum.election.backoff.max.ms",
    "controller.quorum.fetch.max.bytes",
    "controller.quorum.fetch.snapshot.max.bytes",
    "controller.quorum.request.timeout.ms",
    "controller.quorum.retry.backoff.ms",
    "controller.quorum.voters",
    "group.streams.max.standby.replicas",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "listeners",
    "log.dir",
    "log.dirs",
    "metadata.log.dir",
    "node.id",
    "offsets.topic.replication.factor",
    "offsets.topic.segment.bytes",
    "process.roles",
    "security.inter.broker.protocol",
    "share.coordinator.state.topic.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "share.coordinator.state.topic.segment.bytes",
    "transaction.state.log.min.isr",
    "transaction.state.log.replication.factor",
    "transaction.state.log.segment.bytes",
}
"""Read through an attribute or method of `BrokerConfig`, or under a name put together at run time."""

GROUP_KINDS = ("consumer", "share", "streams")
"""Groups whose defaults and bounds `schema.group` reads, under names put together at run time."""


def read_for_groups():
    return {
        f"group.{kind}.{bound}{rest}"
        for kind, _, rest in (name.partition(".") for name in GROUP_SETTINGS)
        for bound in ("", "min.", "max.")
        if kind in GROUP_KINDS and f"group.{kind}.{bound}{rest}" in BROKER_SETTINGS
    } - {f"group.{kind}.assignor.offload.enable" for kind in GROUP_KINDS}


@cache
def literals():
    """Every string in the code above the schema that is the name of a setting; Kafka's tools are no node."""
    names = {*BROKER_SETTINGS, *OTTLA_SETTINGS}
    found = set()
    for package in ("cli", "runtime", "server"):
        for path in (SOURCE / package).rglob("*.py"):
            if path.parent == SOURCE / "cli" / "kafka":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and node.value in names:
                    found.add(node.value)
    return found


def test_settings_that_the_code_reads_are_listed_as_acted_on():
    assert sorted(literals() - ACTED_ON) == [], "add them to schema/support.py"


def test_settings_listed_as_acted_on_are_read_by_the_code():
    topic_defaults = {
        synonym
        for name, setting in TOPIC_SETTINGS.items()
        if name not in TOPIC_SETTINGS_WITHOUT_EFFECT
        for synonym in setting.synonyms
    }
    assert topic_defaults <= ACTED_ON
    assert sorted(ACTED_ON - literals() - BY_ATTRIBUTE - topic_defaults - read_for_groups()) == [], "nothing reads them"


def test_lists_hold_settings():
    assert {*BROKER_SETTINGS, *OTTLA_SETTINGS} >= ACTED_ON
    assert set(TOPIC_SETTINGS) >= set(TOPIC_SETTINGS_WITHOUT_EFFECT)


def test_providers_are_no_reason_for_a_warning():
    assert has_effect("config.providers.env.class")
    assert has_effect("controller.quorum.bootstrap.servers")
    assert not has_effect("num.io.threads")
    assert has_effect("listener.name.clients.plain.sasl.jaas.config")
    assert not has_effect("listener.name.clients.num.io.threads")


def test_every_setting_that_is_acted_on_has_a_description():
    assert [
        name for name in sorted(ACTED_ON - set(OTTLA_SETTINGS)) if BROKER_SETTINGS[name].documentation is None
    ] == []
    without = set(TOPIC_SETTINGS_WITHOUT_EFFECT)
    silent = [name for name, setting in TOPIC_SETTINGS.items() if not setting.internal and not setting.documentation]
    assert sorted(set(silent) - without) == []


def test_the_reference_page_says_what_the_code_says():
    if os.environ.get("OTTLA_REWRITE"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page(), "docs/settings.md is out of date: OTTLA_REWRITE=1 pytest tests/schema"
