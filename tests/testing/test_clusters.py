"""Several brokers in the test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ottla
from ottla.client.errors import ConfigError
from ottla.testing import Cluster


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    """Three brokers, for tests that leave them as they were."""
    with Cluster(brokers=3, topics={"orders": 3}) as cluster:
        yield cluster


def send(cluster: Cluster, topic: str, values: list[str]) -> list[tuple[int, int]]:
    with ottla.Producer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        sent = [producer.send(topic, value.encode()) for value in values]
        producer.flush()
    return [(one.result().partition, one.result().offset) for one in sent]


def image_of(cluster: Cluster, broker: int = 0):
    return cluster.thread(broker).node.broker.image


def in_sync(cluster: Cluster, topic: str, count: int) -> bool:
    running = next(index for index, one in enumerate(cluster.threads) if one is not None and one.is_running)
    partitions = image_of(cluster, running).topics.by_name[topic].partitions.values()
    return all(len(partition.isr) == count for partition in partitions)


def test_topics_have_replicas_on_all_brokers(three: Cluster) -> None:
    topic = image_of(three).topics.by_name["orders"]
    assert all(sorted(partition.replicas) == [1, 2, 3] for partition in topic.partitions.values())
    assert len(three.bootstrap_servers.split(",")) == 3


def test_clients_find_their_leaders(three: Cluster) -> None:
    three.create_topic("found", 3)
    assert len(send(three, "found", [str(number) for number in range(30)])) == 30
    assert sorted(map(int, three.read("found", str, count=30))) == list(range(30))
    with ottla.Consumer(
        three.bootstrap_servers, group_id="finders", topics=["found"], auto_offset_reset="earliest"
    ) as consumer:
        found: list[object] = []
        while len(found) < 30:
            found += consumer.poll(10)
    assert "finders" in three.groups()


def test_a_broker_that_is_killed_is_done_without_and_comes_back() -> None:
    with Cluster(brokers=3, settings={"min.insync.replicas": 2}) as cluster:
        cluster.create_topic("safe", 2)
        send(cluster, "safe", ["a", "b"])
        for broker in (1, 0):  # 0 may be the active controller
            cluster.kill(broker)
            send(cluster, "safe", ["c", "d"])
            cluster.restart(broker)
            cluster.wait_until(lambda: in_sync(cluster, "safe", 3), timeout_s=20)
        assert sorted(cluster.read("safe", str, count=6)) == ["a", "b", "c", "c", "d", "d"]


def test_all_brokers_can_be_killed_and_start_together() -> None:
    with Cluster(brokers=3, topics=["kept"]) as cluster:
        send(cluster, "kept", ["a"])
        for broker in range(3):
            cluster.kill(broker)
        cluster.restart(0, 1, 2)
        assert cluster.read("kept", str, count=1) == ["a"]


def test_a_broker_that_is_cut_off_leaves_the_isr_and_returns() -> None:
    with Cluster(brokers=3, topics=["torn"]) as cluster:
        cluster.wait_until(lambda: in_sync(cluster, "torn", 3))
        leader = image_of(cluster).topics.by_name["torn"].partitions[0].leader
        with cluster.faults.partition(brokers=[[leader - 1], [one for one in range(3) if one != leader - 1]]):
            others = next(one for one in range(3) if one != leader - 1)
            cluster.wait_until(
                lambda: image_of(cluster, others).topics.by_name["torn"].partitions[0].leader not in (leader, -1),
                timeout_s=20,
            )
        cluster.wait_until(lambda: in_sync(cluster, "torn", 3), timeout_s=20)
        send(cluster, "torn", ["a"])
        assert cluster.read("torn", str, count=1) == ["a"]


def test_reset_makes_all_brokers_as_new(three: Cluster) -> None:
    three.create_topic("gone")
    three.reset()
    assert three.topics() == ["orders"]
    for broker in range(3):
        assert "gone" not in image_of(three, broker).topics.by_name


def test_data_is_found_again(tmp_path) -> None:
    for _ in range(2):
        with Cluster(brokers=2, data=tmp_path, topics="again" if not tmp_path.glob("*/again-0") else ()) as cluster:
            if "again" not in cluster.topics():
                cluster.create_topic("again")
            send(cluster, "again", ["x"])
            count = len(cluster.read("again", str))
    assert count == 2


def test_what_cannot_be_is_refused_in_one_line(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"every broker of several has a listeners of its own"):
        Cluster(brokers=3, settings={"listeners": "PLAINTEXT://127.0.0.1:1"})
    with pytest.raises(ConfigError, match="not 3 ports from 65534 on"):
        Cluster(brokers=3, port=65534)
    with Cluster() as one, pytest.raises(ConfigError, match="this cluster has one broker"):
        one.faults.partition(brokers=[[0]])


def test_partitions_between_brokers_are_checked(three: Cluster) -> None:
    for groups in ([[0]], [[0], [0, 1]], [[0], [3]]):
        with pytest.raises(ConfigError, match="two or more groups of different brokers"):
            three.faults.partition(brokers=groups)
    with pytest.raises(ConfigError, match="between brokers or from clients"):
        three.faults.partition(brokers=[[0], [1]], client_id="shop")
