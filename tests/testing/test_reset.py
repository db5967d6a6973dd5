"""After a reset a cluster is as new, as far as clients can tell, and those that stayed connected go on working."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import ottla
from ottla.admin import ClientQuotaEntity, ConfigResource, FeatureUpdate, UpgradeType
from ottla.server.node.node import Node
from ottla.testing import Cluster


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with Cluster(topics={"base": 2}) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    shared.reset()
    return shared


def topic_id(cluster: Cluster, topic: str) -> Any:
    with ottla.Admin(cluster.bootstrap_servers) as admin:
        return admin.describe_topics([topic])[topic].topic_id


def test_topics_are_gone_and_those_of_the_constructor_are_new(cluster: Cluster) -> None:
    cluster.produce("orders", "1")
    cluster.produce("base", "1")
    before = topic_id(cluster, "base")
    cluster.reset()
    assert cluster.topics() == ["base"]
    assert cluster.read("base") == []
    assert topic_id(cluster, "base") != before
    cluster.produce("orders", "2")
    assert cluster.read("orders", str) == ["2"]


def test_groups_and_their_offsets_are_gone(cluster: Cluster) -> None:
    cluster.produce("base", "1", "2")
    for _ in range(2):
        with ottla.Consumer(cluster.bootstrap_servers, group_id="shop", auto_offset_reset="earliest") as consumer:
            consumer.subscribe(["base"])
            got = 0
            while got < 2:
                got += len(consumer.poll(1))
        assert cluster.groups() == ["shop"]
        cluster.reset()
        assert cluster.groups() == []
        assert cluster.committed("shop") == {}
        cluster.produce("base", "1", "2")


def test_a_consumer_that_outlives_a_reset_joins_again_and_reads_the_new_topic(cluster: Cluster) -> None:
    with ottla.Consumer(
        cluster.bootstrap_servers,
        {"group.id": "shop", "auto.offset.reset": "earliest", "metadata.max.age.ms": 50, "heartbeat.interval.ms": 50},
    ) as consumer:
        consumer.subscribe(["base"])
        cluster.produce("base", "old")
        assert [record.value for record in consumer.poll(5)] == [b"old"]
        cluster.reset()
        cluster.produce("base", "new")
        found = cluster.wait_until(lambda: consumer.poll(0.1))
        assert [record.value for record in found] == [b"new"]
        cluster.assert_group_stable("shop", 1)


def test_a_producer_that_outlives_a_reset_goes_on(cluster: Cluster) -> None:
    with ottla.Producer(cluster.bootstrap_servers, enable_idempotence=True) as producer:
        for number in range(3):
            producer.send("orders", str(number)).result(10)
        cluster.reset()
        for number in range(3, 6):
            producer.send("orders", str(number)).result(10)
    assert cluster.read("orders", str) == ["3", "4", "5"]


def test_transactions_are_gone_open_ones_too(cluster: Cluster) -> None:
    with ottla.Producer(cluster.bootstrap_servers, transactional_id="till") as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send("orders", "never").result(10)
        cluster.reset()
        with ottla.Admin(cluster.bootstrap_servers) as admin:
            assert admin.list_transactions() == []
        with ottla.Producer(cluster.bootstrap_servers, transactional_id="till") as other:
            other.init_transactions()
            with other.transaction():
                other.send("orders", "now")
        producer.close(0)
    assert cluster.read("orders", str) == ["now"]


def test_share_groups_start_anew(cluster: Cluster) -> None:
    for _ in range(2):
        with ottla.ShareConsumer(cluster.bootstrap_servers, {"group.id": "queue"}) as consumer:
            consumer.subscribe(["base"])
            consumer.poll(0.05)
            cluster.assert_group_stable("queue", 1)
            while len(cluster.committed("queue")) < 2:
                consumer.poll(0.05)
            cluster.produce("base", "1")
            while not (found := consumer.poll(0.1)):
                pass
            assert [record.offset for record in found] == [0]
        cluster.reset()
        assert cluster.groups() == []


def test_dynamic_settings_and_quotas_are_gone(cluster: Cluster) -> None:
    with ottla.Admin(cluster.bootstrap_servers) as admin:
        for resource, setting in (
            (ConfigResource.broker(), "log.retention.ms"),
            (ConfigResource.broker(1), "log.cleaner.backoff.ms"),
            (ConfigResource.group("shop"), "consumer.session.timeout.ms"),
            (ConfigResource.client_metrics("all"), "interval.ms"),
        ):
            admin.set_config(resource, {setting: 50_000})
        admin.alter_client_quotas({ClientQuotaEntity(user="alice"): {"producer_byte_rate": 1000.0}})
        cluster.reset()
        image = cluster.thread().call(lambda: cluster.thread().node.broker.image)
        assert image.configs == {(4, ""): {"min.insync.replicas": "1"}}
        assert not image.client_quotas
        assert cluster.thread().node.broker.config["log.retention.ms"] is None


def test_features_take_a_new_broker_at_the_same_address(cluster: Cluster) -> None:
    address = cluster.bootstrap_servers
    with ottla.Admin(address) as admin:
        admin.update_features({"group.version": FeatureUpdate(0, UpgradeType.SAFE_DOWNGRADE)})
    cluster.reset()
    assert cluster.bootstrap_servers == address
    assert cluster.thread().node.broker.image.features["group.version"] == 1
    assert cluster.topics() == ["base"]


def test_a_killed_broker_runs_again_after_a_reset(cluster: Cluster) -> None:
    cluster.produce("orders", "1")
    cluster.kill()
    cluster.reset()
    assert cluster.topics() == ["base"]


def test_the_clock_shows_real_time_after_a_reset(cluster: Cluster) -> None:
    cluster.clock.skip(3600)
    cluster.reset()
    assert cluster.clock.offset_ms == 0
    cluster.produce("base", "1")
    assert cluster.read("base", str) == ["1"]


def test_many_topics_leave_nothing_on_the_disk(cluster: Cluster) -> None:
    for number in range(30):
        cluster.produce(f"orders-{number}", "x" * 1000)
    cluster.reset()
    disk = cluster.disks[0]
    cluster.wait_until(
        lambda: not [name for name in disk.list_directory("/broker-0") if name.startswith("orders-")], timeout_s=5
    )


def test_a_disk_that_failed_is_another_one(cluster: Cluster) -> None:
    cluster.faults.disk_fail()
    with pytest.raises(ottla.errors.KafkaError):
        cluster.produce("orders", "1")
    cluster.wait_until(lambda: not cluster.is_running)
    cluster.reset()
    cluster.produce("orders", "2")
    assert cluster.read("orders", str) == ["2"]


def test_a_broker_that_can_not_be_made_as_new_is_replaced(cluster: Cluster) -> None:
    cluster.produce("orders", "1")

    def break_down(node: Node) -> None:
        node.broker.metadata.failure = OSError("gone")

    cluster.thread().call(break_down, cluster.thread().node)
    cluster.reset()
    assert cluster.topics() == ["base"]
    cluster.produce("orders", "2")
    assert cluster.read("orders", str) == ["2"]


def test_topics_that_a_client_from_before_makes_first_are_made_anew(cluster: Cluster) -> None:
    cluster.delete_topic("base")
    cluster.produce("base", "left over")  # its partitions are as many as the broker thinks
    cluster.add_topics({"base": 2, "orders": 3})
    assert cluster.read("base") == []
    assert (len(cluster.end_offsets("base")), len(cluster.end_offsets("orders"))) == (2, 3)


def test_a_reset_under_clients_that_go_on(cluster: Cluster) -> None:
    is_over = threading.Event()

    def go_on() -> None:
        with ottla.Producer(cluster.bootstrap_servers) as producer:
            while not is_over.is_set():
                with suppress(ottla.errors.KafkaError):
                    producer.send("base", b"x").result(5)

    clients = [threading.Thread(target=go_on) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        for _ in range(30):
            cluster.reset()
            assert len(cluster.end_offsets("base")) == 2
    finally:
        is_over.set()
        for client in clients:
            client.join()
