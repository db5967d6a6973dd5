"""Each fault reaches a client as what it is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ottla
import ottla.aio
from ottla import TopicPartition, errors
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.testing import Cluster
from ottla.testing.injection import Fault
from tests.testing.raw_client import RawClient

pytestmark = pytest.mark.filterwarnings("error")
FAST: dict[str, Any] = {
    "delivery.timeout.ms": "1500",
    "request.timeout.ms": "1000",
    "retry.backoff.ms": "10",
    "linger.ms": "0",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with Cluster(topics={"orders": 2, "bills": 1}) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    shared.reset()
    return shared


@pytest.fixture
def producer(cluster: Cluster) -> Iterator[ottla.Producer]:
    with ottla.Producer(cluster.bootstrap_servers, **FAST) as producer:
        yield producer


def send(producer: ottla.Producer, value: bytes, topic: str = "bills", partition: int = 0) -> int:
    return producer.send(topic, value, partition=partition).result(5).offset


def values(cluster: Cluster, topic: str = "bills") -> list[bytes | None]:
    records: list[Any] = cluster.records(topic)
    return [record.value for record in records]


# Requests that fail


def test_a_retriable_error_is_retried_and_the_record_is_written_once(
    cluster: Cluster, producer: ottla.Producer
) -> None:
    fault = cluster.faults.fail("Produce", code="NOT_LEADER_OR_FOLLOWER", times=3)
    assert send(producer, b"1") == 0
    assert (fault.hits, fault.is_active) == (3, False)
    assert values(cluster) == [b"1"]


def test_a_fatal_error_is_the_clients_error_and_nothing_is_written(cluster: Cluster, producer: ottla.Producer) -> None:
    with cluster.faults.fail("produce", ErrorCode.MESSAGE_TOO_LARGE), pytest.raises(errors.RecordTooLargeError):
        send(producer, b"1")
    with cluster.faults.fail(0, 29), pytest.raises(errors.AuthorizationError):
        send(producer, b"2")
    assert values(cluster) == []
    assert send(producer, b"3") == 0


def test_a_filter_hits_only_its_partition_and_the_rest_of_the_request_is_served(cluster: Cluster) -> None:
    batch = record_batch(cluster)
    request = ProduceRequest(
        acks=-1,
        timeout_ms=1000,
        topic_data=[
            TopicProduceData(
                name="orders", partition_data=[PartitionProduceData(index=i, records=batch) for i in (0, 1)]
            ),
            TopicProduceData(name="bills", partition_data=[PartitionProduceData(index=0, records=batch)]),
        ],
    )
    before = len(values(cluster))
    with cluster.faults.fail("Produce", "NOT_ENOUGH_REPLICAS", topic="orders", partition=1) as fault:
        with RawClient(cluster.bootstrap_servers) as client:
            response = client.ask(request, 9)
        assert fault.hits == 1
    answers = {
        (topic.name, one.index): (one.error_code, one.base_offset)
        for topic in response.responses
        for one in topic.partition_responses
    }
    assert answers == {
        ("orders", 0): (0, 0),
        ("orders", 1): (ErrorCode.NOT_ENOUGH_REPLICAS, -1),
        ("bills", 0): (0, before),
    }
    assert len(response.responses) == 2
    assert len(values(cluster, "orders")) == 1


def record_batch(cluster: Cluster) -> bytes:
    """A batch as a client makes it, found in a log."""
    cluster.produce("bills", b"x")
    with RawClient(cluster.bootstrap_servers) as client:
        return bytes(client.ask(fetch("bills"), 4).responses[0].partitions[0].records)


def fetch(topic: str) -> FetchRequest:
    partitions = [FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1000)]
    return FetchRequest(
        max_wait_ms=0, min_bytes=0, max_bytes=10_000, topics=[FetchTopic(topic=topic, partitions=partitions)]
    )


def test_other_topics_groups_and_clients_are_left_alone(cluster: Cluster) -> None:
    metadata = MetadataRequest(topics=[MetadataRequestTopic(name="orders"), MetadataRequestTopic(name="bills")])
    with RawClient(cluster.bootstrap_servers, "shop") as client:
        with cluster.faults.fail("Metadata", "TOPIC_AUTHORIZATION_FAILED", topic="bills"):
            response = client.ask(metadata, 9)
        assert [(one.name, one.error_code) for one in response.topics] == [("orders", 0), ("bills", 29)]
        assert response.brokers
        assert not response.topics[1].partitions

        with cluster.faults.fail("Heartbeat", "COORDINATOR_LOAD_IN_PROGRESS", group="one", times=None) as fault:
            assert client.ask(HeartbeatRequest(group_id="one", generation_id=1, member_id="m"), 3).error_code == 14
            assert client.ask(HeartbeatRequest(group_id="two", generation_id=1, member_id="m"), 3).error_code == 16
            assert fault.hits == 1
        with cluster.faults.fail("FindCoordinator", "COORDINATOR_NOT_AVAILABLE", group="one"):
            response = client.ask(FindCoordinatorRequest(coordinator_keys=["one", "two"]), 4)
        assert [(one.key, one.error_code) for one in response.coordinators] == [("one", 15), ("two", 0)]

        with cluster.faults.fail("Metadata", "LEADER_NOT_AVAILABLE", client_id="till", times=None) as fault:
            assert client.ask(metadata, 9).topics[0].error_code == 0
            with RawClient(cluster.bootstrap_servers, "till") as other:
                assert other.ask(metadata, 9).topics[0].error_code == ErrorCode.LEADER_NOT_AVAILABLE
            assert fault.hits == 1


def test_the_first_requests_can_be_spared_and_several_apis_be_meant(cluster: Cluster) -> None:
    request = HeartbeatRequest(group_id="one", generation_id=1, member_id="m")
    with RawClient(cluster.bootstrap_servers) as client:
        fault = cluster.faults.fail(["Heartbeat", "ApiVersions"], "REQUEST_TIMED_OUT", after=1, times=2)
        codes = [client.ask(request, 3).error_code for _ in range(2)]
        codes += [client.ask(ApiVersionsRequest(), 0).error_code, client.ask(request, 3).error_code]
        assert codes == [16, 7, 7, 16]
        assert fault.hits == 2


def test_a_fetch_fails_for_a_consumer_in_its_session_and_goes_on(cluster: Cluster) -> None:
    cluster.produce("orders", b"1", partition=0)
    with ottla.Consumer(cluster.bootstrap_servers, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("orders", 0), TopicPartition("orders", 1)])
        assert [one.value for one in consumer.poll(5)] == [b"1"]
        fault = cluster.faults.fail("Fetch", "NOT_LEADER_OR_FOLLOWER", times=3)
        cluster.produce("orders", b"2", partition=0)
        cluster.produce("orders", b"3", partition=1)
        seen: list[bytes | None] = []
        deadline = time.monotonic() + 5
        while len(seen) < 2 and time.monotonic() < deadline:
            seen += [one.value for one in consumer.poll(0.5)]
        assert sorted(seen) == [b"2", b"3"]  # type: ignore[type-var]
        assert fault.hits == 3
        with cluster.faults.fail("Fetch", "TOPIC_AUTHORIZATION_FAILED", times=None) as fault:
            fault.wait_hit()
            with pytest.raises(errors.AuthorizationError):
                consumer.poll(5)


def test_a_group_meets_its_coordinators_errors(cluster: Cluster) -> None:
    cluster.produce("bills", b"1")
    faults = [
        cluster.faults.fail("FindCoordinator", "COORDINATOR_NOT_AVAILABLE", times=2),
        cluster.faults.fail("OffsetFetch", "NOT_COORDINATOR"),
    ]
    with ottla.Consumer(
        cluster.bootstrap_servers, group_id="g", topics=["bills"], auto_offset_reset="earliest", retry_backoff_ms=10
    ) as consumer:
        records = list(consumer.poll(10))
        assert [one.value for one in records] == [b"1"]
        with (
            cluster.faults.fail("OffsetCommit", "GROUP_AUTHORIZATION_FAILED"),
            pytest.raises(errors.AuthorizationError),
        ):
            consumer.commit()
        consumer.commit()
    assert [fault.hits for fault in faults] == [2, 1]


def test_a_queue_goes_on_after_errors_and_nothing_was_acquired_meanwhile(cluster: Cluster) -> None:
    settings: dict[str, Any] = {"group_id": "q", "topics": ["bills"], "retry_backoff_ms": 10}
    with ottla.ShareConsumer(cluster.bootstrap_servers, **settings) as consumer:
        while not consumer.poll(0.2):  # a group begins at the end of its topics
            cluster.produce("bills", "begin")
        fault = cluster.faults.fail("ShareFetch", "NOT_LEADER_OR_FOLLOWER", topic="bills", times=2)
        again = cluster.faults.fail("ShareFetch", "SHARE_SESSION_NOT_FOUND", after=3)
        cluster.produce("bills", "1")
        seen: list[tuple[bytes | None, int | None]] = []
        for _ in range(20):
            found = [(record.value, record.delivery_count) for record in consumer.poll(0.5)]
            seen += [one for one in found if one[0] != b"begin"]
            if not fault.is_active and len(seen) == 1:
                cluster.produce("bills", "2")
            if not fault.is_active and not again.is_active and len(seen) == 2:
                break
        assert seen == [(b"1", 1), (b"2", 1)]
        assert not again.is_active


def test_a_transaction_meets_its_coordinators_errors(cluster: Cluster) -> None:
    faults = [
        cluster.faults.fail("InitProducerId", "COORDINATOR_LOAD_IN_PROGRESS"),
        cluster.faults.fail("EndTxn", "CONCURRENT_TRANSACTIONS"),
    ]
    with ottla.Producer(cluster.bootstrap_servers, transactional_id="t", **FAST) as producer:
        with producer.transaction():
            producer.send("bills", b"1")
        assert [fault.hits for fault in faults] == [1, 1]
        assert values(cluster) == [b"1"]
        cluster.faults.fail("EndTxn", "PRODUCER_FENCED")
        with pytest.raises(errors.ProducerFencedError), producer.transaction():
            producer.send("bills", b"2")
    assert values(cluster) == [b"1"]


def test_a_message_goes_along_where_the_api_has_one(cluster: Cluster) -> None:
    with ottla.Admin(cluster.bootstrap_servers) as admin:
        cluster.faults.fail("CreateTopics", "POLICY_VIOLATION", message="not on Sundays")
        with pytest.raises(errors.KafkaError, match="not on Sundays"):
            admin.create_topics("news")
        assert "news" not in cluster.topics()


def test_what_is_done_goes_its_short_way_again_when_faults_are_over(cluster: Cluster) -> None:
    routes = cluster.thread().node.listeners[0].router.routes
    with RawClient(cluster.bootstrap_servers) as client:
        client.ask(MetadataRequest(topics=[]), 9)
        route = routes[3 << 16 | 9]
        usual = route.handle, route.quick
        fault = cluster.faults.delay("Metadata", 0)
        assert route.quick is None
        client.ask(MetadataRequest(topics=[]), 9)
        fault.clear()
        assert (route.handle, route.quick) == usual
        assert fault.hits == 1
        with cluster.faults.fail("Metadata", "LEADER_NOT_AVAILABLE"):
            client.ask(MetadataRequest(topics=[MetadataRequestTopic(name="bills")]), 9)
            assert (route.handle, route.quick) == usual  # it has struck as often as it was to


# Delays and dropped connections


def test_requests_and_responses_are_delayed(cluster: Cluster, producer: ottla.Producer) -> None:
    send(producer, b"0")
    started = time.monotonic()
    with cluster.faults.delay("Produce", 0.2, times=1) as fault:
        delivery = producer.send("bills", b"1", partition=0)
        fault.wait_hit()
        assert values(cluster) == [b"0"]
        assert delivery.result(5).offset == 1
    with cluster.faults.delay("Produce", 0.2, times=1, when="response") as fault:
        delivery = producer.send("bills", b"2", partition=0)
        cluster.wait_until(lambda: len(values(cluster)) == 3)
        assert not delivery.done()
        assert delivery.result(5).offset == 2
    assert time.monotonic() - started >= 0.4


def test_a_delay_belongs_to_the_clusters_clock(cluster: Cluster, producer: ottla.Producer) -> None:
    with cluster.faults.delay("Produce", 60, times=1) as fault:
        delivery = producer.send("bills", b"1", partition=0)
        fault.wait_hit()
        cluster.skip(61)
        assert delivery.result(5).offset == 0


def test_a_connection_is_dropped_before_or_after_the_request_is_handled(cluster: Cluster) -> None:
    batch = record_batch(cluster)
    data = [TopicProduceData(name="bills", partition_data=[PartitionProduceData(index=0, records=batch)])]
    request = ProduceRequest(acks=1, timeout_ms=1000, topic_data=data)
    for when, count in (("request", 1), ("response", 2)):
        cluster.faults.drop("Produce", when=when)
        with RawClient(cluster.bootstrap_servers) as client, pytest.raises(ConnectionError):
            client.ask(request, 9)
        assert len(values(cluster)) == count


def test_an_idempotent_producer_writes_once_though_it_never_heard(cluster: Cluster, producer: ottla.Producer) -> None:
    with cluster.faults.drop("Produce", times=2, when="response") as fault:
        assert send(producer, b"1") == 0
    assert fault.hits == 2
    assert values(cluster) == [b"1"]


def test_without_idempotence_it_is_written_again(cluster: Cluster) -> None:
    cluster.faults.drop("Produce", when="response")
    with ottla.Producer(cluster.bootstrap_servers, enable_idempotence=False, **FAST) as producer:
        send(producer, b"1")
    assert values(cluster) == [b"1", b"1"]


def test_acks_zero_has_its_connection_closed(cluster: Cluster) -> None:
    batch = record_batch(cluster)
    data = [TopicProduceData(name="bills", partition_data=[PartitionProduceData(index=0, records=batch)])]
    with cluster.faults.fail("Produce", "NOT_LEADER_OR_FOLLOWER"), RawClient(cluster.bootstrap_servers) as client:
        client.send(ProduceRequest(acks=0, timeout_ms=1000, topic_data=data), 9)
        with pytest.raises(ConnectionError):
            client.ask(MetadataRequest(topics=[]), 9)


# Lines


def test_a_stalled_broker_accepts_and_answers_nothing_until_it_resumes(
    cluster: Cluster, producer: ottla.Producer
) -> None:
    send(producer, b"0")
    with RawClient(cluster.bootstrap_servers) as before:
        before.ask(MetadataRequest(topics=[]), 9)
        fault = cluster.faults.stall()
        with RawClient(cluster.bootstrap_servers) as after:
            for client in (before, after):
                client.set_timeout(0.1)
                with pytest.raises(TimeoutError):
                    client.ask(MetadataRequest(topics=[]), 9)
            delivery = producer.send("bills", b"1", partition=0)
            assert values(cluster) == [b"0"]
            cluster.faults.resume()
            assert not fault.is_active
            for client in (before, after):
                client.set_timeout(10)
                assert client.receive(MetadataRequest(topics=[]), 9).brokers
        assert delivery.result(5).offset == 1
    assert fault.hits >= 2


def test_clients_time_out_at_a_stalled_broker_as_their_settings_say(cluster: Cluster) -> None:
    with ottla.Producer(
        cluster.bootstrap_servers, **{**FAST, "request.timeout.ms": "200", "delivery.timeout.ms": "500"}
    ) as producer:
        send(producer, b"0")
        with cluster.faults.stall():
            delivery = producer.send("bills", b"1", partition=0)
            with pytest.raises(errors.KafkaTimeoutError):
                delivery.result(5)


def test_a_stall_ends_with_its_time_on_the_clusters_clock(cluster: Cluster) -> None:
    fault = cluster.faults.stall(30)
    with RawClient(cluster.bootstrap_servers) as client:
        client.send(MetadataRequest(topics=[]), 9)
        cluster.skip(31)
        assert client.receive(MetadataRequest(topics=[]), 9).brokers
    assert not fault.is_active


def test_a_partition_cuts_off_those_it_names(cluster: Cluster) -> None:
    metadata = MetadataRequest(topics=[])
    with RawClient(cluster.bootstrap_servers, "shop") as shop, RawClient(cluster.bootstrap_servers, "till") as till:
        shop.ask(metadata, 9)
        fault = cluster.faults.partition(client_id="shop")
        shop.set_timeout(0.1)
        with pytest.raises(TimeoutError):
            shop.ask(metadata, 9)
        assert till.ask(metadata, 9).brokers
        with RawClient(cluster.bootstrap_servers, "shop", timeout_s=0.1) as late:
            with pytest.raises(TimeoutError):
                late.ask(metadata, 9)
            assert fault.hits == 2
            cluster.faults.heal()
            assert late.receive(metadata, 9).brokers
        assert shop.receive(metadata, 9).brokers
        with cluster.faults.partition(address="127.0.0.1"):
            till.set_timeout(0.1)
            with pytest.raises(TimeoutError):
                till.ask(metadata, 9)
        with cluster.faults.partition(address="10.0.0.1"):
            assert shop.ask(metadata, 9).brokers


def test_what_was_asked_before_a_partition_is_answered_after_it(cluster: Cluster) -> None:
    request = FetchRequest(
        max_wait_ms=5000,
        min_bytes=1,
        max_bytes=10_000,
        topics=[
            FetchTopic(
                topic="bills", partitions=[FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1000)]
            )
        ],
    )
    with RawClient(cluster.bootstrap_servers) as client:
        client.send(request, 4)
        time.sleep(0.05)
        with cluster.faults.partition(), cluster.faults.stall():
            cluster.produce("bills", b"1")
            client.set_timeout(0.1)
            with pytest.raises(TimeoutError):
                client.receive(request, 4)
        assert client.receive(request, 4).responses[0].partitions[0].records


def test_a_cut_off_client_that_goes_away_is_forgotten(cluster: Cluster) -> None:
    listener = cluster.thread().node.listeners[0]
    with cluster.faults.stall():
        with RawClient(cluster.bootstrap_servers) as client:
            client.send(MetadataRequest(topics=[]), 9)
        cluster.wait_until(lambda: True)
    cluster.wait_until(lambda: not listener.connections)


def test_refused_connections_are_refused_and_those_that_are_there_stay(cluster: Cluster) -> None:
    with RawClient(cluster.bootstrap_servers) as before:
        with cluster.faults.refuse_connections(), cluster.faults.refuse_connections():
            with pytest.raises(ConnectionRefusedError):
                RawClient(cluster.bootstrap_servers)
            assert before.ask(MetadataRequest(topics=[]), 9).brokers
            producer = ottla.Producer(cluster.bootstrap_servers, max_block_ms=200)
            with producer, pytest.raises(errors.BootstrapError, match="Connection refused"):
                producer.send("bills", b"1")
        with RawClient(cluster.bootstrap_servers) as after:
            assert after.ask(MetadataRequest(topics=[]), 9).brokers


# Brokers and disks


def test_a_killed_broker_breaks_connections_and_comes_back_with_what_was_written(
    cluster: Cluster, producer: ottla.Producer
) -> None:
    send(producer, b"1")
    with RawClient(cluster.bootstrap_servers) as client:
        cluster.kill()
        with pytest.raises(ConnectionError):
            client.ask(MetadataRequest(topics=[]), 9)
    with pytest.raises(ConnectionRefusedError):
        RawClient(cluster.bootstrap_servers)
    delivery = producer.send("bills", b"2", partition=0)
    cluster.restart()
    assert delivery.result(5).offset == 1
    assert values(cluster) == [b"1", b"2"]


def test_lost_power_loses_what_was_not_flushed() -> None:
    with Cluster(topics=["bills"]) as cluster:
        cluster.produce("bills", [str(number).encode() for number in range(500)])
        with cluster.faults.fail("Heartbeat", "NOT_COORDINATOR"):
            cluster.kill(power_loss=True)
            cluster.restart()
        kept = values(cluster)
        assert len(kept) < 500
        assert kept == [str(number).encode() for number in range(len(kept))]
        cluster.produce("bills", b"last")
        assert values(cluster)[-1] == b"last"


def test_power_is_not_lost_on_a_real_disk(tmp_path: Path) -> None:
    with Cluster(data=tmp_path) as cluster, pytest.raises(errors.ConfigError, match="in memory"):
        cluster.kill(power_loss=True)


def test_faults_outlive_a_restart(cluster: Cluster) -> None:
    fault = cluster.faults.fail("Heartbeat", "REBALANCE_IN_PROGRESS", times=None)
    cluster.kill()
    other = cluster.faults.fail("Heartbeat", "NOT_COORDINATOR", times=1, after=1)
    cluster.restart()
    request = HeartbeatRequest(group_id="one", generation_id=1, member_id="m")
    with RawClient(cluster.bootstrap_servers) as client:
        assert client.ask(request, 3).error_code == ErrorCode.REBALANCE_IN_PROGRESS
        fault.clear()
        assert client.ask(request, 3).error_code == ErrorCode.NOT_COORDINATOR
    assert not other.is_active


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_full_disk_refuses_writes_and_nothing_else_until_there_is_space(tmp_path: Path, on_disk: bool) -> None:
    with Cluster(topics=["bills"], data=tmp_path if on_disk else None) as cluster:
        cluster.produce("bills", b"1")
        with ottla.Producer(cluster.bootstrap_servers, retries=0, enable_idempotence=False) as producer:
            fault = cluster.faults.disk_full()
            with pytest.raises(errors.KafkaError, match=r"KAFKA_STORAGE_ERROR.*full"):
                send(producer, b"2")
            assert fault.hits
            assert values(cluster) == [b"1"]
            with ottla.Admin(cluster.bootstrap_servers) as admin, pytest.raises(errors.KafkaError):
                admin.create_topics("news")
            cluster.faults.disk_free()
            assert send(producer, b"3") == 1
        cluster.create_topic("news")
        cluster.restart()
        assert values(cluster) == [b"1", b"3"]


def test_a_broker_may_be_stopped_while_its_disk_is_full() -> None:
    with Cluster(topics=["bills"]) as cluster:
        cluster.produce("bills", b"1")
        cluster.faults.disk_full()


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_slow_disk_is_slow(tmp_path: Path, on_disk: bool) -> None:
    with Cluster(topics=["bills"], data=tmp_path if on_disk else None) as cluster:
        cluster.produce("bills", b"1")
        with cluster.faults.disk_slow(0.1, operations={"append"}) as fault:
            started = time.monotonic()
            cluster.produce("bills", b"2")
            assert time.monotonic() - started >= 0.1
            assert fault.hits == 1
        with cluster.faults.disk_slow(0.1, operations={"read"}):
            started = time.monotonic()
            assert values(cluster) == [b"1", b"2"]
            assert time.monotonic() - started >= 0.1


def test_a_failing_disk_takes_the_broker_down() -> None:
    with Cluster(topics=["bills"]) as cluster:
        with cluster.faults.disk_fail("EIO", operations={"append"}):
            producer = ottla.Producer(cluster.bootstrap_servers, retries=0, enable_idempotence=False, **FAST)
            with producer, pytest.raises(errors.KafkaError):
                send(producer, b"1")
            cluster.wait_until(lambda: not cluster.is_running, timeout_s=5)
        cluster.restart()
        cluster.produce("bills", b"2")


# What faults are to those who make them


def test_hits_are_waited_for(cluster: Cluster) -> None:
    fault = cluster.faults.fail("Heartbeat", "NOT_COORDINATOR", times=2)
    with pytest.raises(errors.KafkaTimeoutError, match=r"0 of 1 hits within 0.01 s: fail Heartbeat"):
        fault.wait_hit(0.01)
    request = HeartbeatRequest(group_id="one", generation_id=1, member_id="m")
    with RawClient(cluster.bootstrap_servers) as client:
        waiting = threading.Thread(target=fault.wait_hit, kwargs={"hits": 2})
        waiting.start()
        client.ask(request, 3)
        client.ask(request, 3)
        waiting.join(5)
        assert not waiting.is_alive()
    assert fault.describe() == {
        "id": fault.number,
        "fault": "fail Heartbeat with NOT_COORDINATOR, 2 times",
        "hits": 2,
        "active": False,
        "left": 0,
    }


def test_faults_are_cleared_one_by_one_and_all_at_once(cluster: Cluster) -> None:
    faults = cluster.faults
    one, two = faults.stall(), faults.delay(None, 1)
    assert faults.active == [one, two]
    one.clear()
    one.clear()
    assert list(faults) == [two]
    faults.disk_full()
    faults.refuse_connections()
    faults.clear()
    assert not faults.active
    with RawClient(cluster.bootstrap_servers) as client:
        assert client.ask(MetadataRequest(topics=[]), 9).brokers


def test_a_reset_clears_faults(cluster: Cluster) -> None:
    fault = cluster.faults.fail("Produce", "NOT_LEADER_OR_FOLLOWER", times=None)
    cluster.reset()
    assert not fault.is_active


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda faults: faults.fail("Prodce", 7), "no API of a broker: 'Prodce'. Did you mean Produce?"),
        (lambda faults: faults.fail(999, 7), "no API of a broker: 999."),
        (lambda faults: faults.fail("Produce", "NOT_LEADR_OR_FOLOWER"), "Did you mean NOT_LEADER_OR_FOLLOWER?"),
        (lambda faults: faults.fail("Produce", 0), "no error code of Kafka: 0."),
        (lambda faults: faults.fail("Produce", 7, times=0), "strikes once at least"),
        (lambda faults: faults.fail("Heartbeat", 7, topic="t"), "Heartbeat requests name no topic"),
        (lambda faults: faults.fail("Produce", 7, group="g"), "Produce requests name no group"),
        (lambda faults: faults.delay("Produce", -1), "not a number of seconds: -1"),
        (lambda faults: faults.drop("Produce", when="never"), '"request" or "response"'),
        (lambda faults: faults.stall(broker=3), "there is no broker 3"),
        (lambda faults: faults.partition(brokers=[[0], [1]]), "one broker"),
        (lambda faults: faults.disk_fail("EWHAT"), "Known are EIO"),
        (lambda faults: faults.disk_slow(1, operations={"sing"}), "no operation of a disk: sing"),
    ],
)
def test_mistakes_are_told_in_one_line(cluster: Cluster, make: object, message: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        make(cluster.faults)  # type: ignore[operator]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not cluster.faults.active


def test_faults_work_beside_asyncio_code() -> None:
    async def main() -> None:
        async with Cluster(topics=["bills"]) as cluster, ottla.aio.Producer(cluster.bootstrap_servers) as producer:
            fault: Fault = cluster.faults.fail("Produce", "NOT_LEADER_OR_FOLLOWER", times=1)
            sending = await producer.send("bills", b"1")
            await fault.wait_hit_async(5)
            await sending
            await cluster.skip(1)
            await cluster.kill()
            await cluster.restart()
            assert len(await cluster.records("bills")) == 1

    asyncio.run(main())
