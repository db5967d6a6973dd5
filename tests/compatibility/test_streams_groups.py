"""Kafka Streams with `group.protocol=streams` (KIP-1071): instances as processes of their own, killed and restarted."""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.brokers import Broker, java
from tests.compatibility.drivers import TOOLS, DriverProcess, Java, Message, wait_until
from tests.compatibility.topics import create_topic
from tests.conftest import MakeBroker, require

pytestmark = pytest.mark.xdist_group("tools")

STREAMS_GROUPS = "org.apache.kafka.tools.streams.StreamsGroupCommand"
PARTITIONS = 3
SETTINGS = {
    "group.streams.initial.rebalance.delay.ms": "500",
    "group.streams.assignment.interval.ms": "100",
    "group.streams.min.heartbeat.interval.ms": "100",
    "group.streams.heartbeat.interval.ms": "250",
    "group.streams.min.session.timeout.ms": "1000",
    "group.streams.session.timeout.ms": "3000",
    "group.streams.num.standby.replicas": "1",
    "transaction.state.log.num.partitions": "4",
}
LINES = ["to be or not to be", "that is the question", "to sleep no more", "to die to sleep"]


class Application(DriverProcess):
    """One instance of the word count (WordCount.java)."""

    def __init__(self, directory: Path, bootstrap: str, group: str, *settings: str) -> None:
        streams = TOOLS / "streams"
        command = java("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", log_level="ERROR")
        command[-1] = f"{streams / 'classes'}:{streams / 'libs' / '*'}:{command[-1]}"
        command += ["WordCount", bootstrap, group, str(directory), f"{group}-text", f"{group}-counts"]
        command += ["commit.interval.ms=200", "metadata.max.age.ms=2000", "reconnect.backoff.max.ms=200", *settings]
        super().__init__(lambda: command)

    def describe(self) -> dict[str, Any]:
        """State, active and standby tasks; asserts that nothing went wrong."""
        found = self.call(do="describe")
        assert found["problem"] == "", found["problem"]
        return found

    def close(self) -> None:
        """Leave the group."""
        assert self.call(do="close") == {"state": "NOT_RUNNING"}
        super().close()

    def kill(self) -> None:
        """SIGKILL: the group learns of it when the session is over."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        super().close()


MakeApplication = Callable[..., Application]


@pytest.fixture
def make_application(tmp_path: Path) -> Iterator[MakeApplication]:
    jars = TOOLS / "streams" / "classes" / "WordCount.class"
    require(None if shutil.which("java") and jars.exists() else "Kafka Streams (scripts/install-tools streams)")
    made: list[Application] = []

    def make(bootstrap: str, group: str, *settings: str) -> Application:
        made.append(Application(tmp_path / f"state-{len(made)}", bootstrap, group, *settings))
        made[-1].describe()
        return made[-1]

    yield make
    for application in made:
        DriverProcess.close(application)


def write(java: Java, bootstrap: str, group: str, lines: list[str]) -> None:
    messages = [Message(index % PARTITIONS, None, line.encode()) for index, line in enumerate(lines)]
    java.produce(bootstrap, f"{group}-text", messages)


def counts(bootstrap: str, group: str) -> dict[str, int]:
    """The newest committed count of each word."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "-",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(f"{group}-counts", index, 0) for index in range(PARTITIONS)])
    found: dict[str, int] = {}
    ends = 0
    while ends < PARTITIONS:
        message = consumer.poll(5)
        assert message is not None
        if message.error() is None:
            found[message.key().decode()] = int(message.value())
        else:
            ends += 1
    consumer.close()
    return found


def wait_for_counts(bootstrap: str, group: str, lines: list[str]) -> None:
    expected = Counter(word for line in lines for word in line.split())
    wait_until(lambda: counts(bootstrap, group) == expected, f"{dict(expected)}")


def balanced(*applications: Application) -> bool:
    """Every task is active once, and each stateful one has a copy elsewhere if there is a second instance."""
    found = [application.describe() for application in applications]
    active = sorted(task for each in found for task in each["active"])
    standby = sorted(task for each in found for task in each["standby"])
    everything = sorted(f"{part}_{partition}" for part in (0, 1) for partition in range(PARTITIONS))
    copies = [task for task in everything if task.startswith("1_")] if len(applications) > 1 else []
    return (
        active == everything
        and standby == copies
        and all(not set(each["active"]) & set(each["standby"]) for each in found)
        and all(each["state"] == "RUNNING" and each["active"] for each in found)
    )


def start(broker: Broker, make_application: MakeApplication, group: str, *settings: str) -> list[Application]:
    """Two instances that have their tasks."""
    for suffix in ("text", "counts"):
        create_topic(broker.bootstrap, f"{group}-{suffix}", partitions=PARTITIONS)
    applications = [make_application(broker.bootstrap, group, *settings) for _ in range(2)]
    wait_until(lambda: balanced(*applications), "tasks on both instances")
    return applications


def test_word_count(java: Java, make_broker: MakeBroker, make_application: MakeApplication, name: str) -> None:
    broker = make_broker(SETTINGS)
    first, second = start(broker, make_application, name)
    lines = LINES * 3
    write(java, broker.bootstrap, name, lines)
    wait_for_counts(broker.bootstrap, name, lines)
    look_with_tools(java, broker, name)

    broker.stop()
    broker.start()
    write(java, broker.bootstrap, name, LINES)
    lines += LINES
    wait_for_counts(broker.bootstrap, name, lines)
    assert balanced(first, second)

    second.kill()
    write(java, broker.bootstrap, name, LINES)
    lines += LINES
    wait_until(lambda: balanced(first), "all tasks on the instance that is left")
    wait_for_counts(broker.bootstrap, name, lines)
    first.close()
    administrate_with_tools(java, broker, name)


def test_word_count_exactly_once(
    java: Java, make_broker: MakeBroker, make_application: MakeApplication, name: str
) -> None:
    broker = make_broker(SETTINGS)
    settings = ("processing.guarantee=exactly_once_v2", "transaction.timeout.ms=5000")
    first, second = start(broker, make_application, name, *settings)
    lines: list[str] = []
    for step in range(4):
        lines += LINES * 50
        write(java, broker.bootstrap, name, LINES * 50)
        if step == 1:
            second.kill()
        if step == 2:
            broker.kill()
            broker.start()
    wait_until(lambda: balanced(first), "all tasks on the instance that is left")
    wait_for_counts(broker.bootstrap, name, lines)
    first.close()


def tool(java: Java, broker: Broker, *arguments: object) -> str:
    return java.tool(STREAMS_GROUPS, "--bootstrap-server", broker.bootstrap, *arguments)


def look_with_tools(java: Java, broker: Broker, group: str) -> None:
    """The group while it runs."""
    assert group in tool(java, broker, "--list").split()
    assert re.search(rf"{group}\s+Stable", tool(java, broker, "--list", "--state"))
    state = tool(java, broker, "--describe", "--group", group, "--state", "--verbose")
    assert re.search(rf"{group}.*Stable\s+(\d+)\s+\1\s+2", state)
    members = tool(java, broker, "--describe", "--group", group, "--members", "--verbose")
    assigned = re.findall(r"ACTIVE: (.*?); STANDBY: (.*?); TARGET-ACTIVE: \1; TARGET-STANDBY: \2;", members)
    assert len(assigned) == 2, members
    offsets = tool(java, broker, "--describe", "--group", group)
    for topic in ("text", "words-repartition"):
        lags = re.findall(rf"{group}-{topic}\s+\d+\s+(\d+)", offsets)
        assert lags == ["0"] * PARTITIONS, offsets
    assert "is not EMPTY" in tool(java, broker, "--delete", "--group", group)


def administrate_with_tools(java: Java, broker: Broker, group: str) -> None:
    """The group once everybody left."""
    reset = ("--reset-offsets", "--group", group, "--input-topic", f"{group}-text", "--to-earliest", "--execute")
    assert re.findall(rf"{group}-text\s+\d\s+(\d+)", tool(java, broker, *reset)) == ["0"] * PARTITIONS
    delete = ("--delete-offsets", "--group", group, "--input-topic", f"{group}-text")
    assert "Successful" in tool(java, broker, *delete)
    assert "was successful" in tool(java, broker, "--delete", "--group", group)
    assert group not in tool(java, broker, "--list").split()
