"""Share groups under Apache Kafka's tools for administrators: describing, moving, deleting offsets and groups."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.brokers import ApacheKafka, OttlaOnProperties
from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest
from tests.compatibility.differential.world import World
from tests.compatibility.drivers import ClientError, Java, Message, wait_until
from tests.compatibility.topics import create_topic
from tests.conftest import SETTINGS

pytestmark = pytest.mark.xdist_group("tools")

SHARE_GROUPS = "org.apache.kafka.tools.consumer.group.ShareGroupCommand"
GROUPS = "org.apache.kafka.tools.GroupsCommand"
CONFIGS = "kafka.admin.ConfigCommand"
CONSOLE_SHARE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"


@contextmanager
def member(bootstrap: str, name: str) -> Iterator[None]:
    """A member of the group that consumes the topic, by heartbeats alone."""
    world = World("ottla", bootstrap)

    def heartbeat(epoch: int, topics: list[str] | None = None) -> Any:
        request = ShareGroupHeartbeatRequest(
            group_id=name, member_id="one", member_epoch=epoch, subscribed_topic_names=topics
        )
        return world.ask_quietly(request, 1)

    epoch = 0

    def joined() -> bool:
        nonlocal epoch
        answer = heartbeat(epoch, [name])
        epoch = answer.member_epoch
        return answer.error_code == 0 and bool(answer.assignment.topic_partitions)

    wait_until(joined, "an assignment")
    yield
    heartbeat(-1)
    world.close()


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
    assert "is not a share group" in groups("--group", f"{name}-none", "--delete")
    assert re.search(name, groups("--group", name, "--delete-offsets", "--topic", name))
    assert "Deletion of requested share groups" in groups("--group", name, "--delete")
    assert name not in groups("--list").split()


def test_a_group_with_members(java: Java, bootstrap: str, name: str) -> None:
    """Who consumes is shown with what it has, and is in the way of moving offsets and of deleting the group."""
    create_topic(bootstrap, name, 2)
    server = ("--bootstrap-server", bootstrap)

    def groups(*arguments: object) -> str:
        return java.tool(SHARE_GROUPS, *server, *arguments)

    with member(bootstrap, name):
        wait_until(lambda: re.search(rf"{name} .*Stable", groups("--describe", "--group", name, "--state")), "a member")
        described = groups("--describe", "--group", name, "--members", "--verbose")
        assert re.search(rf"{name}:0,1", described), described
        with pytest.raises(ClientError, match=r"(?i)empty|active"):
            groups("--group", name, "--reset-offsets", "--to-earliest", "--topic", name, "--execute")
        assert "is not EMPTY" in groups("--group", name, "--delete")
    wait_until(lambda: re.search(rf"{name} .*Empty", groups("--describe", "--group", name, "--state")), "nobody")
    assert "Deletion of requested share groups" in groups("--group", name, "--delete")


def test_kafka_and_this_broker_go_on_where_the_other_stopped(java: Java, tmp_path: Path, name: str) -> None:
    """One data directory, opened by Apache Kafka, by Ottla, and by Apache Kafka again."""
    heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
    kafka = ApacheKafka(tmp_path / "node", settings=SETTINGS, heap=heap)
    ottla = OttlaOnProperties(tmp_path / "node" / "ottla", kafka.properties, kafka.log_directory, port=kafka.port)
    seen: list[str] = []

    def consume(bootstrap: str, count: int) -> None:
        seen.extend(
            java.tool(
                CONSOLE_SHARE_CONSUMER,
                *("--bootstrap-server", bootstrap, "--topic", name, "--group", name),
                *("--max-messages", count, "--timeout-ms", 30000),
            ).splitlines()
        )

    def start_offsets(bootstrap: str) -> list[str]:
        described = java.tool(SHARE_GROUPS, "--bootstrap-server", bootstrap, "--describe", "--group", name)
        return re.findall(rf"{name} +{name} +[01] +(\d+ +\d+)", described)

    try:
        bootstrap = kafka.start().bootstrap
        create_topic(bootstrap, name, 2)
        settings = ("--entity-type", "groups", "--entity-name", name)
        earliest = ("--add-config", "share.auto.offset.reset=earliest")
        java.tool(CONFIGS, "--bootstrap-server", bootstrap, "--alter", *settings, *earliest)
        java.produce(bootstrap, name, [Message(number % 2, None, b"%d" % number) for number in range(20)])
        consume(bootstrap, 5)
        offsets = start_offsets(bootstrap)
        kafka.stop()
        bootstrap = ottla.start().bootstrap
        assert start_offsets(bootstrap) == offsets
        consume(bootstrap, 10)
        offsets = start_offsets(bootstrap)
        ottla.stop()
        bootstrap = kafka.start().bootstrap
        assert start_offsets(bootstrap) == offsets
        consume(bootstrap, 5)
        assert sorted(seen) == sorted(str(number) for number in range(20))
        assert "Deletion of requested share groups" in java.tool(
            SHARE_GROUPS, "--bootstrap-server", bootstrap, "--group", name, "--delete"
        )
    finally:
        kafka.stop()
        ottla.stop()
