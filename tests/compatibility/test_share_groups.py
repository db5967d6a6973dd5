"""Share groups with Apache Kafka's own tools: consuming, describing, moving and deleting offsets, deleting groups."""

from __future__ import annotations

import re

import pytest

from tests.compatibility.drivers import Java, Message, wait_until
from tests.compatibility.topics import create_topic

pytestmark = pytest.mark.xdist_group("tools")

SHARE_GROUPS = "org.apache.kafka.tools.consumer.group.ShareGroupCommand"
GROUPS = "org.apache.kafka.tools.GroupsCommand"
CONFIGS = "kafka.admin.ConfigCommand"
CONSOLE_SHARE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"


def test_kafka_share_groups(java: Java, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, 2)
    java.produce(bootstrap, name, [Message(number % 2, None, b"%d" % number) for number in range(10)])
    server = ("--bootstrap-server", bootstrap)

    def groups(*arguments: object) -> str:
        return java.tool(SHARE_GROUPS, *server, *arguments)

    def consume(count: int) -> list[str]:
        return java.tool(
            CONSOLE_SHARE_CONSUMER,
            *(*server, "--topic", name, "--group", name, "--max-messages", count, "--timeout-ms", 20000),
        ).splitlines()

    settings = ("--entity-type", "groups", "--entity-name", name)
    java.tool(CONFIGS, *server, "--alter", *settings, "--add-config", "share.auto.offset.reset=earliest")
    assert "share.auto.offset.reset=earliest" in java.tool(CONFIGS, *server, "--describe", *settings)
    assert sorted(consume(10)) == sorted(str(number) for number in range(10))
    assert re.search(rf"{name} +Share +share", java.tool(GROUPS, *server, "--list"))
    assert name in groups("--list").split()
    wait_until(lambda: re.search(rf"{name} .*Empty", groups("--describe", "--group", name, "--state")), "nobody")
    described = groups("--describe", "--group", name)
    assert len(re.findall(rf"{name} +{name} +[01] +5 +0", described)) == 2, described
    reset = groups("--group", name, "--reset-offsets", "--to-earliest", "--topic", f"{name}:1", "--execute")
    assert re.search(rf"{name} +{name} +1 +0", reset), reset
    assert sorted(consume(5)) == ["1", "3", "5", "7", "9"]
    assert re.search(name, groups("--group", name, "--delete-offsets", "--topic", name))
    assert "Deletion of requested share groups" in groups("--group", name, "--delete")
    assert name not in groups("--list").split()
