"""A cluster of three against one of Apache Kafka: the same requests and failures, the answers compared field by field.

Both clusters run at once, for as long as the scenarios take; what differs and is not in the table `INTENDED` fails.
"""

from __future__ import annotations

import threading
import time
from fnmatch import fnmatchcase
from typing import NamedTuple

import pytest

from benchmarks.brokers import BrokerError, free_port, require_kafka
from benchmarks.clusters import KAFKA, OTTLA, Cluster, Place
from tests.compatibility.differential.cluster_scenarios import SCENARIOS
from tests.compatibility.differential.cluster_world import ClusterWorld
from tests.compatibility.differential.comparison import Difference, differences
from tests.compatibility.differential.intended import NEWER_TOPIC_SETTINGS
from tests.compatibility.differential.world import Step, served_by_both
from tests.conftest import require

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(300)]

HEAP = "-Xmx256m -Xms64m -XX:TieredStopAtLevel=1"
SETTINGS = {
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    "replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector",
    "auto.leader.rebalance.enable": "false",
    "default.replication.factor": "3",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "1",
    # A broker that stands still is not waited for, and does not make others wait, longer than necessary.
    "replica.socket.timeout.ms": "3000",
    "controller.socket.timeout.ms": "3000",
}
SHOWN_DIFFERENCES = 60


class Intended(NamedTuple):
    """Differences of these scenarios, steps and fields (shell patterns), with the reason."""

    scenario: str
    step: str
    field: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        return all(map(fnmatchcase, (difference.scenario, difference.step, difference.field), self[:3]))


INTENDED: tuple[Intended, ...] = (
    *(Intended("*", "*", f"*.configs.{name}.*", "a setting of Kafka 4.4") for name in NEWER_TOPIC_SETTINGS),
    Intended("*", "*", "*.configs.count", "settings of Kafka 4.4"),
    Intended("*", "*", "responses.*.aborted_transactions", "null and empty both say none"),
    Intended("*", "*", "*error_message", "a text where Kafka has none"),
)


class Recorded(NamedTuple):
    """What one cluster answered, by scenario."""

    world: ClusterWorld
    steps: dict[str, list[Step]]


def _members(kind: str) -> list[Place]:
    roles = (("controller", "broker"), ("broker",), ("broker",))
    return [Place(kind, number + 1, roles[number], free_port(), free_port(), rack="abc"[number]) for number in range(3)]


def _run(world: ClusterWorld, steps: dict[str, list[Step]], failures: list[BaseException]) -> None:
    try:
        for scenario in SCENARIOS:
            world.steps = steps[scenario.__name__] = []
            scenario(world)
    except BaseException as error:  # told by the thread that waits
        failures.append(error)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> list[Recorded]:
    try:
        require_kafka()
    except BrokerError as error:
        require(str(error))
    directory = tmp_path_factory.mktemp("clusters")
    clusters = [Cluster(directory / kind, _members(kind), SETTINGS, heap=HEAP) for kind in (OTTLA, KAFKA)]
    failures: list[BaseException] = []
    try:
        base_ms = int(time.time() * 1000) - 600_000
        for cluster in clusters:
            for node in cluster.nodes.values():
                node.spawn()
        for cluster in clusters:
            cluster.wait_until_whole()
        worlds = [ClusterWorld(kind, one, base_ms) for kind, one in zip((OTTLA, KAFKA), clusters, strict=True)]
        recorded = [Recorded(world, {}) for world in worlds]
        common = served_by_both(*worlds)  # type: ignore[arg-type]
        for world in worlds:
            world.common = common
        threads = [threading.Thread(target=_run, args=(*one, failures)) for one in recorded]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for world in worlds:
            world.close()
    finally:
        for cluster in clusters:
            cluster.wipe()
    if failures:
        raise failures[0]
    return recorded


@pytest.mark.parametrize("name", [scenario.__name__ for scenario in SCENARIOS])
def test_answers_like_a_cluster_of_apache_kafka(sides: list[Recorded], name: str) -> None:
    ottla, kafka = sides
    for world, steps in sides:
        world.steps = steps[name]
    found = differences(name, ottla.world, kafka.world)  # type: ignore[arg-type]
    unintended = [str(one) for one in found if not any(entry.covers(one) for entry in INTENDED)]
    assert not unintended, "\n".join([f"{len(unintended)} differences", *unintended[:SHOWN_DIFFERENCES]])
