"""The cluster against scripted brokers, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from ottla.client.errors import (
    AuthorizationError,
    BootstrapError,
    ClientClosedError,
    ConnectionFailedError,
    IllegalStateError,
    InvalidTopicError,
    KafkaTimeoutError,
    UnknownTopicError,
    UnsupportedVersionError,
)
from ottla.client.model import Node, TopicPartition
from ottla.client.network.cluster import Cluster
from ottla.client.network.coordinators import broker_id
from ottla.client.network.retry import retrying
from ottla.client.settings import AdminSettings, ConsumerSettings, ProducerSettings
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.api_versions import ApiVersionsResponse
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.metadata import MetadataResponse
from ottla.protocol.messages.produce import ProduceRequest, ProduceResponse
from ottla.testing.sim.env import simulate
from tests.client.network.fake_broker import CLOSE, SILENCE, Cut, Delay, FakeCluster

BEAT = HeartbeatRequest(group_id="g", member_id="m")


def run(main: Callable[[], Awaitable[object]], seed: int = 1) -> None:
    simulate(lambda _: main(), seed=seed)


def settings(fake: FakeCluster, kind=ProducerSettings, **names):
    return kind.of(fake.bootstrap, None, names)


def cluster_of(fake: FakeCluster, kind=ProducerSettings, **names) -> Cluster:
    return Cluster(settings(fake, kind, **names), random=Random(3))


@asynccontextmanager
async def connected(size: int = 1, kind=ProducerSettings, **names):
    """A fake cluster with topic "t", and a client of it."""
    fake = FakeCluster(size)
    fake.add_topic("t", partitions=size)
    for broker in fake:
        broker.on(ApiKey.HEARTBEAT, HeartbeatResponse())
    async with fake:
        cluster = cluster_of(fake, kind, **names)
        try:
            yield fake, cluster
        finally:
            cluster.metadata_state.check_invariants()
            for link in cluster._links.values():
                link.check_invariants()
            await cluster.close()
            assert not [task for task in asyncio.all_tasks() if task.get_coro().__qualname__.startswith("Broker")]


class TestRequests:
    def test_the_constructor_does_no_io_and_needs_no_loop(self):
        cluster = Cluster(ProducerSettings.of("nowhere.invalid:1"))
        cluster.interest(["t"])
        assert cluster.now_ms() > 0
        assert not cluster.metadata.brokers

    def test_first_call_connects_and_names_the_client(self):
        async def main():
            async with connected(client_id="me") as (fake, cluster):
                assert cluster.api_versions(1) is None
                topic = await cluster.wait_for_topic("t", 1000)
                assert [partition.leader for partition in topic.partitions] == [1]
                assert not cluster.is_ready(1)
                await cluster.request(1, BEAT)
                assert cluster.is_ready(1)
                assert cluster.api_versions(1)[ApiKey.HEARTBEAT] == (0, 4)
                first = fake[1].requests[0]
                assert (first.api_key, first.version, first.client_id) == (ApiKey.API_VERSIONS, 4, "me")
                assert first.body.client_software_name == "ottla"
                # The next connection knows that the broker checks whom we mean (KIP-1242).
                second = fake[1].received(ApiKey.API_VERSIONS)[1]
                assert (second.cluster_id, second.node_id) == ("fake", 1)

        run(main)

    def test_requests_are_pipelined_and_keep_their_order(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                beats = [HeartbeatRequest(group_id="g", generation_id=number) for number in range(50)]
                futures = [cluster.send(1, beat) for beat in beats[:20]]
                await cluster.request(1, BEAT)
                futures += [cluster.send(1, beat) for beat in beats[20:]]
                await asyncio.gather(*futures)
                received = [beat.generation_id for beat in fake[1].received(ApiKey.HEARTBEAT) if beat != BEAT]
                assert received == list(range(50))

        run(main)

    def test_versions_are_the_highest_of_both_within_bounds(self):
        async def main():
            async with connected() as (fake, cluster):
                fake.versions[ApiKey.HEARTBEAT] = (0, 3)
                await cluster.start()
                await cluster.request(1, BEAT)
                await cluster.request(1, BEAT, max_version=1)
                assert [call.version for call in fake[1].requests if call.api_key == ApiKey.HEARTBEAT] == [3, 1]
                with pytest.raises(UnsupportedVersionError, match="Heartbeat versions 0 to 3, and this needs"):
                    await cluster.request(1, BEAT, min_version=4)
                with pytest.raises(UnsupportedVersionError, match="too old"):
                    await cluster.request(1, HeartbeatRequest(group_instance_id="static"), max_version=2)
                assert cluster.is_ready(1)

        run(main)

    def test_an_api_that_is_not_served(self):
        async def main():
            async with connected() as (fake, cluster):
                fake.versions[ApiKey.HEARTBEAT] = (0, -1)
                await cluster.start()
                with pytest.raises(UnsupportedVersionError, match="does not offer Heartbeat"):
                    await cluster.request(1, BEAT)

        run(main)

    @pytest.mark.parametrize(("served", "expected"), [((0, 3), [4, 3]), ((0, 0), [4, 0]), ((0, 2), [4, 2])])
    def test_old_brokers_are_asked_again_in_a_version_they_know(self, served, expected):
        async def main():
            async with connected() as (fake, cluster):
                fake.versions[ApiKey.API_VERSIONS] = served
                await cluster.start()
                await cluster.request(1, BEAT)
                asked = [call.version for call in fake[1].requests if call.api_key == ApiKey.API_VERSIONS]
                assert asked == [*expected, expected[-1]], "what was understood is where the next connection begins"

        run(main)

    def test_a_refusal_of_api_versions_is_told(self):
        async def main():
            async with connected(request_timeout_ms=1000) as (fake, cluster):
                fake[1].on(ApiKey.API_VERSIONS, ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST))
                with pytest.raises(Exception, match="INVALID_REQUEST"):
                    await cluster.start()

        run(main)

    def test_unknown_nodes_fail_at_once(self):
        async def main():
            async with connected() as (_, cluster):
                await cluster.start()
                with pytest.raises(ConnectionFailedError, match="broker 9 is not known"):
                    await cluster.request(9, BEAT)

        run(main)

    def test_a_request_without_response(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                request = ProduceRequest(acks=0)
                assert await cluster.send(1, request, expect_response=False) is None
                assert await cluster.request(1, BEAT) == HeartbeatResponse()
                assert fake[1].received(ApiKey.PRODUCE) == [request]

        run(main)

    def test_a_cancelled_caller_disturbs_nobody(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                fake[1].script(ApiKey.HEARTBEAT, Delay(1.0))
                first = asyncio.create_task(cluster.request(1, BEAT))
                second = asyncio.create_task(cluster.request(1, BEAT))
                await asyncio.sleep(0.5)
                first.cancel()
                assert await second == HeartbeatResponse()
                assert first.cancelled()

        run(main)


class TestFailures:
    def test_whatever_is_in_flight_or_waits_fails_when_the_connection_is_cut(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                await cluster.request(1, BEAT)
                fake[1].script(ApiKey.HEARTBEAT, Cut(5))
                futures = [cluster.send(1, BEAT) for _ in range(5)]
                results = await asyncio.gather(*futures, return_exceptions=True)
                assert all(isinstance(result, ConnectionFailedError) and result.retriable for result in results)
                assert await cluster.request(1, BEAT) == HeartbeatResponse()

        run(main)

    def test_a_silent_broker_is_given_up_after_request_timeout(self):
        async def main():
            async with connected(request_timeout_ms=2000) as (fake, cluster):
                await cluster.start()
                await cluster.request(1, BEAT)
                fake[1].script(ApiKey.HEARTBEAT, SILENCE)
                started = cluster.now_ms()
                with pytest.raises(ConnectionFailedError, match="did not answer for 2000 ms"):
                    await cluster.request(1, BEAT)
                assert 2000 <= cluster.now_ms() - started < 2100
                assert not cluster.is_ready(1)
                assert await cluster.request(1, BEAT) == HeartbeatResponse()

        run(main)

    def test_a_shorter_timeout_ends_the_call_but_not_the_connection(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                fake[1].script(ApiKey.HEARTBEAT, Delay(3.0))
                await cluster.request(1, DescribeClusterRequest())
                with pytest.raises(KafkaTimeoutError, match="was not answered within 500 ms"):
                    await cluster.request(1, BEAT, timeout_ms=500)
                assert await cluster.request(1, BEAT) == HeartbeatResponse()
                assert fake[1].connections_made == 2

        run(main)

    def test_a_longer_timeout_keeps_the_connection_beyond_request_timeout(self):
        async def main():
            async with connected(request_timeout_ms=1000) as (fake, cluster):
                await cluster.start()
                fake[1].script(ApiKey.HEARTBEAT, Delay(5.0))
                assert await cluster.request(1, BEAT, timeout_ms=8000) == HeartbeatResponse()

        run(main)

    def test_reconnects_wait_longer_and_longer(self):
        async def main():
            async with connected(reconnect_backoff_ms=100, reconnect_backoff_max_ms=1000) as (fake, cluster):
                await cluster.start()
                await cluster.request(1, BEAT)
                waits = []
                await fake[1].stop()
                cluster._refresh._task.cancel()
                for _ in range(8):
                    started = cluster.now_ms()
                    with pytest.raises(ConnectionFailedError):
                        await cluster.request(1, BEAT)
                    waits.append(cluster.now_ms() - started)
                assert all(80 * 2**n <= wait <= 125 * 2**n + 5 for n, wait in enumerate(waits[1:4])), waits
                assert all(790 <= wait <= 1005 for wait in waits[6:]), waits
                assert cluster.connect_delay_ms(1) > 0

        run(main)

    def test_a_request_that_waits_for_the_connection_too_long(self):
        async def main():
            async with connected(reconnect_backoff_ms=5000, reconnect_backoff_max_ms=5000) as (fake, cluster):
                await cluster.start()
                await cluster.request(1, BEAT)
                await fake[1].stop()
                with pytest.raises(ConnectionFailedError):
                    await cluster.request(1, BEAT)
                started = cluster.now_ms()
                with pytest.raises((KafkaTimeoutError, ConnectionFailedError)):
                    await cluster.request(1, BEAT, timeout_ms=300)
                assert cluster.now_ms() - started <= 310

        run(main)

    def test_close_fails_what_is_left_and_lets_written_bytes_out(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                await cluster.request(1, BEAT)
                fake[1].script(ApiKey.HEARTBEAT, SILENCE)
                waiting = asyncio.ensure_future(cluster.request(1, BEAT))
                topic = asyncio.ensure_future(cluster.wait_for_topic("never", 10_000))
                fake.creates_topics = False
                await asyncio.sleep(0)
                await cluster.close()
                with pytest.raises(ClientClosedError):
                    await waiting
                with pytest.raises(ClientClosedError):
                    await topic
                with pytest.raises(ClientClosedError):
                    await cluster.request(1, BEAT)
                with pytest.raises(ClientClosedError):
                    await cluster.coordinator(0, "g", 100)
                await asyncio.sleep(0.1)
                assert len(fake[1].received(ApiKey.HEARTBEAT)) == 2
                assert fake[1].open_connections == 0

        run(main)

    def test_not_kafka(self):
        class Web(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

            def data_received(self, data):
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        async def main():
            await asyncio.get_running_loop().create_server(Web, "127.0.0.1", 80)
            cluster = Cluster(ProducerSettings.of("127.0.0.1:80"), random=Random(1))
            with pytest.raises(BootstrapError, match="an HTTP server answers there"):
                await cluster.wait_for_topic("t", 300)
            await cluster.close()

        run(main)


class TestThrottling:
    def test_a_node_is_left_alone_for_the_throttle_time(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                fake[1].script(ApiKey.HEARTBEAT, HeartbeatResponse(throttle_time_ms=1500))
                await cluster.request(1, BEAT)
                assert not cluster.is_ready(1)
                assert 1490 <= cluster.connect_delay_ms(1) <= 1500
                started = cluster.now_ms()
                await asyncio.gather(*(cluster.request(1, BEAT) for _ in range(3)))
                assert 1490 <= cluster.now_ms() - started < 1600
                assert cluster.connect_delay_ms(1) == 0

        run(main)

    def test_older_versions_have_been_throttled_by_the_broker(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                fake[1].script(ApiKey.HEARTBEAT, HeartbeatResponse(throttle_time_ms=1500))
                await cluster.request(1, BEAT, max_version=1)
                assert cluster.connect_delay_ms(1) == 0

        run(main)


class TestBootstrap:
    def test_a_wrong_address_is_named(self):
        async def main():
            cluster = Cluster(ProducerSettings.of("127.0.0.1:1,127.0.0.1:2"), random=Random(1))
            started = cluster.now_ms()
            with pytest.raises(BootstrapError) as caught:
                await cluster.wait_for_topic("t", 700)
            assert cluster.now_ms() - started == 700
            text = str(caught.value)
            assert "127.0.0.1:1 cannot be reached: Connection refused." in text
            assert "127.0.0.1:2 cannot be reached" in text
            for call in (
                cluster.start(),
                cluster.any_node(200),
                cluster.controller(200),
                cluster.request_any(BEAT, timeout_ms=200),
            ):
                with pytest.raises(BootstrapError):
                    await call
            with pytest.raises(KafkaTimeoutError, match="coordinator of 'g'"):
                await cluster.coordinator(0, "g", 300)
            await cluster.close()

        run(main)

    def test_the_second_server_is_tried_when_the_first_is_not_there(self):
        async def main():
            async with connected(2) as (fake, cluster):
                await fake[1].stop()
                await cluster.start()
                assert list(cluster.metadata.brokers) == [2]
                assert await cluster.request_any(BEAT) == HeartbeatResponse()

        run(main)

    def test_a_broker_that_comes_late_is_found(self):
        async def main():
            async with connected() as (fake, cluster):
                await fake[1].stop()
                waiting = asyncio.ensure_future(cluster.wait_for_topic("t", 20_000))
                await asyncio.sleep(7)
                await fake[1].start()
                assert (await waiting).name == "t"

        run(main)

    def test_all_brokers_moved_and_the_bootstrap_servers_know_where(self):
        async def main():
            async with connected(2) as (fake, cluster):
                await cluster.start()
                await cluster.request(1, BEAT)
                await cluster.request(2, BEAT)
                old = cluster.metadata
                ports = [broker.port for broker in fake]
                await fake.stop()
                await asyncio.sleep(1)
                other = FakeCluster(2)
                other.cluster_id = "other"
                other.brokers = {7: other.brokers[1], 8: other.brokers[2]}
                for (node_id, broker), port in zip(other.brokers.items(), ports, strict=True):
                    broker.id, broker.port = node_id, port
                async with other:
                    found = await cluster.refresh_metadata(10_000)
                    assert sorted(found.brokers) == [7, 8]
                    assert found.version > old.version
                    assert found.cluster_id == "other"

        run(main)

    def test_a_broker_may_ask_for_a_new_start(self):
        async def main():
            async with connected(2) as (fake, cluster):
                await cluster.start()
                for broker in fake:
                    broker.script(ApiKey.METADATA, MetadataResponse(error_code=ErrorCode.REBOOTSTRAP_REQUIRED))
                before = cluster.metadata.version
                found = await cluster.refresh_metadata(10_000)
                assert sorted(found.brokers) == [1, 2]
                assert found.version >= before + 2, "the brokers were forgotten in between"

        run(main)

    def test_brokers_that_ask_for_new_starts_for_ever_are_not_asked_without_pause(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                fake[1].on(ApiKey.METADATA, MetadataResponse(error_code=ErrorCode.REBOOTSTRAP_REQUIRED))
                cluster.request_metadata_update()
                await asyncio.sleep(10)
                assert len(fake[1].received(ApiKey.METADATA)) < 30

        run(main)

    def test_without_recovery_the_known_brokers_are_all_there_is(self):
        async def main():
            async with connected(metadata_recovery_strategy="none", metadata_max_age_ms=500) as (fake, cluster):
                await cluster.start()
                await fake[1].stop()
                await asyncio.sleep(5)
                assert list(cluster.metadata.brokers) == [1]
                await fake[1].start()
                assert (await cluster.refresh_metadata(5000)).brokers

        run(main)

    def test_no_metadata_for_too_long_means_a_new_start(self):
        async def main():
            names = {"metadata_recovery_rebootstrap_trigger_ms": 3000, "metadata_max_age_ms": 1000}
            async with connected(2, **names) as (fake, cluster):
                await cluster.start()
                versions = []
                cluster.add_metadata_listener(lambda metadata: versions.append(len(metadata.brokers)))
                for broker in fake:
                    broker.on(ApiKey.METADATA, CLOSE)
                await asyncio.sleep(10)
                assert 0 in versions

        run(main)


class TestTopics:
    def test_a_new_topic_is_created_and_awaited(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                fake[1].script(ApiKey.METADATA, Delay(0.1), Delay(0.1))
                first, second = await asyncio.gather(
                    cluster.wait_for_topic("new", 5000), cluster.wait_for_topic("newer", 5000)
                )
                assert {first.name, second.name} == {"new", "newer"}
                asked = [{topic.name for topic in body.topics} for body in fake[1].received(ApiKey.METADATA)]
                assert {"new", "newer"} in asked, "both in one request, without the others"

        run(main)

    def test_errors_of_topics(self):
        async def main():
            async with connected(kind=ConsumerSettings, allow_auto_create_topics=False) as (fake, cluster):
                fake.add_topic("secret").error = ErrorCode.TOPIC_AUTHORIZATION_FAILED
                fake.add_topic("b@d").error = ErrorCode.INVALID_TOPIC_EXCEPTION
                with pytest.raises(UnknownTopicError, match="'none' does not exist"):
                    await cluster.wait_for_topic("none", 1000)
                started = cluster.now_ms()
                with pytest.raises(AuthorizationError, match="secret"):
                    await cluster.wait_for_topic("secret", 10_000)
                with pytest.raises(InvalidTopicError):
                    await cluster.wait_for_topic("b@d", 10_000)
                assert cluster.now_ms() - started < 1000
                fake.topics["secret"].error = 0
                assert (await cluster.wait_for_topic("secret", 1000)).partitions, "it may be allowed by now"
                assert "none" not in fake.topics

        run(main)

    def test_a_topic_that_comes_while_one_waits(self):
        async def main():
            async with connected(kind=ConsumerSettings, allow_auto_create_topics=False) as (fake, cluster):
                waiting = asyncio.ensure_future(cluster.wait_for_topic("late", 10_000))
                await asyncio.sleep(3)
                fake.add_topic("late", 5)
                assert len((await waiting).partitions) == 5
                asked = len(fake[1].received(ApiKey.METADATA))
                assert asked < 15, "the backoff grows while nothing changes"

        run(main)

    def test_metadata_is_refreshed_when_it_is_old_and_idle_topics_are_dropped(self):
        async def main():
            async with connected(metadata_max_age_ms=10_000, metadata_max_idle_ms=25_000) as (fake, cluster):
                fake.add_topic("u")
                await cluster.wait_for_topic("t", 1000)
                await cluster.wait_for_topic("u", 1000)
                fake.move("t", 0, 1)
                await asyncio.sleep(11)
                assert cluster.metadata.leader(TopicPartition("t", 0)) == (1, 1)
                for _ in range(3):
                    cluster.interest(["t"])
                    await asyncio.sleep(10)
                assert set(cluster.metadata.topics) == {"t"}

        run(main)

    def test_somebody_replaces_what_is_of_interest_while_one_waits(self):
        async def main():
            async with connected(kind=ConsumerSettings, allow_auto_create_topics=False) as (fake, cluster):
                waiting = asyncio.ensure_future(cluster.wait_for_topic("late", 10_000))
                await asyncio.sleep(1)
                cluster.interest(["t"], replace=True)
                fake.add_topic("late")
                assert (await waiting).name == "late"

        run(main)

    def test_a_topic_that_is_not_among_all_topics_does_not_exist(self):
        async def main():
            async with connected(kind=ConsumerSettings) as (_, cluster):
                cluster.all_topics = True
                with pytest.raises(UnknownTopicError):
                    await cluster.wait_for_topic("none", 1000)

        run(main)

    def test_all_topics(self):
        async def main():
            async with connected(kind=ConsumerSettings) as (fake, cluster):
                fake.add_topic("u")
                cluster.all_topics = True
                assert set((await cluster.refresh_metadata()).topics) == {"t", "u"}
                cluster.interest(["t"], replace=True)
                cluster.all_topics = False
                assert set((await cluster.refresh_metadata()).topics) == {"t"}

        run(main)

    def test_names_of_topic_ids(self):
        async def main():
            async with connected(2, kind=ConsumerSettings) as (fake, cluster):
                await cluster.start()
                topic_id = fake.topics["t"].id
                cluster.interest_in_ids([topic_id, b"x" * 16])
                for _ in range(20):
                    await asyncio.sleep(0.1)
                assert cluster.metadata.topic_names == {topic_id: "t"}
                await cluster.refresh_metadata()
                assert set(cluster.metadata.topics) == {"t"}, "it is kept fresh from now on"

        run(main)

    def test_leaders_are_learned_from_responses_and_never_forgotten_for_older_ones(self):
        async def main():
            async with connected(2) as (fake, cluster):
                await cluster.wait_for_topic("t", 1000)
                tp = TopicPartition("t", 0)
                seen = []
                cluster.add_metadata_listener(lambda metadata: seen.append(metadata.leader(tp)))
                cluster.learn_leaders([(tp, 2, 5)], [])
                cluster.learn_leaders([(tp, 1, 5), (tp, 9, 6), (TopicPartition("?", 0), 1, 9)], [])
                assert seen == [(2, 5)]
                await cluster.refresh_metadata()
                assert cluster.metadata.leader(tp) == (2, 5), "the broker has not heard of it yet"
                fake.topics["t"].partitions[0].leader_epoch = 6
                await cluster.refresh_metadata()
                assert cluster.metadata.leader(tp) == (1, 6)
                cluster.learn_leaders([(tp, 9, 7)], [Node(9, "127.0.0.1", fake[2].port)])
                assert cluster.metadata.leader(tp) == (9, 7)
                assert await cluster.request(9, BEAT) == HeartbeatResponse()
                assert cluster.note_leader_epoch(tp, 7) is False
                assert cluster.note_leader_epoch(tp, 8) is True
                assert cluster.metadata.leader(tp) is None

        run(main)

    def test_a_topic_made_anew_starts_with_new_epochs(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.wait_for_topic("t", 1000)
                fake.topics["t"].partitions[0].leader_epoch = 9
                await cluster.refresh_metadata()
                del fake.topics["t"]
                fake.add_topic("x")
                fake.add_topic("t")
                await cluster.refresh_metadata()
                assert cluster.metadata.leader(TopicPartition("t", 0)) == (1, 0)

        run(main)

    def test_a_lost_connection_makes_metadata_be_asked_for(self):
        async def main():
            async with connected(2) as (fake, cluster):
                await cluster.wait_for_topic("t", 1000)
                await cluster.request(1, BEAT)
                fake.move("t", 0, 2)
                await fake[1].stop()
                await asyncio.sleep(1)
                assert cluster.metadata.leader(TopicPartition("t", 0)) == (2, 1)
                infos = cluster.metadata.partition_infos("t")
                assert infos[0].leader.id == 2
                assert [node.id for node in infos[0].replicas] == [1, 2]

        run(main)


class TestCoordinators:
    def test_lookups_of_one_moment_share_a_request_and_results_are_kept(self):
        async def main():
            async with connected(2) as (fake, cluster):
                fake.coordinators = {(0, "a"): 1, (0, "b"): 2, (1, "t"): 2}
                found = await asyncio.gather(*(cluster.coordinator(0, key, 1000) for key in "abab"))
                assert [broker_id(node_id) for node_id in found] == [1, 2, 1, 2]
                assert cluster.node(found[1]).id == 2
                assert found[0] not in (1, 2), "a connection of its own"
                asked = [body.coordinator_keys for broker in fake for body in broker.received(ApiKey.FIND_COORDINATOR)]
                assert asked == [["a", "b"]]
                assert await cluster.request(found[1], BEAT) == HeartbeatResponse()
                assert await cluster.coordinator(1, "t", 1000) == 2
                await cluster.coordinator(0, "a", 1000)
                cluster.forget_coordinator(0, "a")
                fake.coordinators[0, "a"] = 2
                assert broker_id(await cluster.coordinator(0, "a", 1000)) == 2

        run(main)

    def test_old_brokers_are_asked_one_by_one(self):
        async def main():
            async with connected() as (fake, cluster):
                fake.versions[ApiKey.FIND_COORDINATOR] = (0, 3)
                found = await asyncio.gather(*(cluster.coordinator(0, key, 5000) for key in "abc"))
                assert {broker_id(node_id) for node_id in found} == {1}
                assert sorted(body.key for body in fake[1].received(ApiKey.FIND_COORDINATOR)) == ["a", "b", "c"]
                with pytest.raises(UnsupportedVersionError):
                    await cluster.coordinator(2, "s:x:1", 1000)

        run(main)

    def test_retried_until_there_is_one(self):
        async def main():
            async with connected() as (fake, cluster):
                fake.coordinators[0, "g"] = 0
                waiting = asyncio.ensure_future(cluster.coordinator(0, "g", 10_000))
                await asyncio.sleep(2)
                assert len(fake[1].received(ApiKey.FIND_COORDINATOR)) < 10
                fake.coordinators[0, "g"] = 1
                assert broker_id(await waiting) == 1
                fake.coordinators[0, "h"] = 0
                with pytest.raises(KafkaTimeoutError, match="'h' was not found within 500 ms: COORDINATOR_NOT_AVAIL"):
                    await cluster.coordinator(0, "h", 500)

        run(main)

    def test_a_failed_connection_forgets_its_coordinators(self):
        async def main():
            async with connected(2) as (fake, cluster):
                fake.coordinators[0, "g"] = 1
                node_id = await cluster.coordinator(0, "g", 1000)
                await cluster.request(node_id, BEAT)
                await fake[1].stop()
                fake.coordinators[0, "g"] = 2
                with pytest.raises(ConnectionFailedError):
                    await cluster.request(node_id, BEAT)
                moved = await cluster.coordinator(0, "g", 5000)
                assert broker_id(moved) == 2
                assert await cluster.request(moved, BEAT) == HeartbeatResponse()

        run(main)

    def test_a_refusal_is_raised(self):
        async def main():
            async with connected() as (fake, cluster):
                from ottla.protocol.messages.find_coordinator import Coordinator, FindCoordinatorResponse

                refusal = Coordinator(key="g", error_code=ErrorCode.GROUP_AUTHORIZATION_FAILED)
                fake[1].on(ApiKey.FIND_COORDINATOR, FindCoordinatorResponse(coordinators=[refusal]))
                with pytest.raises(AuthorizationError):
                    await cluster.coordinator(0, "g", 1000)

        run(main)


class TestNodes:
    def test_least_loaded_prefers_ready_then_connecting_then_untried(self):
        async def main():
            async with connected(3) as (fake, cluster):
                await cluster.start()
                await cluster.request(2, BEAT)
                assert {cluster.least_loaded_node() for _ in range(20)} == {2}
                await cluster.request(3, BEAT)
                fake[2].script(ApiKey.HEARTBEAT, Delay(1))
                busy = cluster.send(2, BEAT)
                assert cluster.in_flight(2) == 1
                assert {cluster.least_loaded_node() for _ in range(20)} == {3}
                await busy

        run(main)

    def test_controller(self):
        async def main():
            async with connected(3) as (fake, cluster):
                fake.controller_id = 2
                assert await cluster.controller(1000) == 2
                fake.controller_id = 3
                await cluster.refresh_metadata()
                assert await cluster.controller(1000) == 3
                fake.controller_id = -1
                await cluster.refresh_metadata()
                assert await cluster.controller(1000) in (1, 2, 3)

        run(main)

    def test_bootstrap_controllers(self):
        async def main():
            fake = await FakeCluster(2).start()
            fake.controller_id = 2
            settings = AdminSettings.of(None, {"bootstrap.controllers": fake[1].address}, None)
            cluster = Cluster(settings, random=Random(1))
            assert await cluster.controller(1000) == 2
            assert not any(broker.received(ApiKey.METADATA) for broker in fake)
            assert fake[1].received(ApiKey.DESCRIBE_CLUSTER)[0].endpoint_type == 2
            await cluster.close()
            await fake.stop()

        run(main)

    def test_idle_connections_are_closed_and_opened_again(self):
        async def main():
            async with connected(connections_max_idle_ms=5000) as (fake, cluster):
                await cluster.start()
                for _ in range(4):
                    await asyncio.sleep(3)
                    await cluster.request(1, BEAT)
                assert fake[1].open_connections == 1, "only the bootstrap connection has had nothing to do"
                await asyncio.sleep(6)
                assert fake[1].open_connections == 0
                assert await cluster.request(1, BEAT) == HeartbeatResponse()

        run(main)

    def test_features(self):
        async def main():
            async with connected() as (fake, cluster):
                fake.features = {"transaction.version": 2}
                assert cluster.finalized_feature("transaction.version") == 0
                await cluster.start()
                assert cluster.finalized_feature("transaction.version") == 2
                assert cluster.finalized_feature("other") == 0

        run(main)

    def test_a_misdirected_client_starts_again(self):
        """Somebody else answers at the broker's address (KIP-1242)."""

        async def main():
            async with connected(2) as (fake, cluster):
                await cluster.start()
                refusal = ApiVersionsResponse(error_code=ErrorCode.REBOOTSTRAP_REQUIRED)
                fake[2].script(ApiKey.API_VERSIONS, refusal)
                before = cluster.metadata.version
                with pytest.raises(ConnectionFailedError, match="not the one"):
                    await cluster.request(2, BEAT)
                await asyncio.sleep(2)
                assert cluster.metadata.version >= before + 2
                assert await cluster.request(2, BEAT) == HeartbeatResponse()

        run(main)


class TestRetrying:
    def test_until_it_works(self):
        async def main():
            async with connected() as (fake, cluster):
                await cluster.start()
                fake[1].script(ApiKey.HEARTBEAT, CLOSE, Cut(2))
                attempts = []

                async def attempt(number):
                    attempts.append(number)
                    return await cluster.request_any(BEAT)

                assert await retrying(cluster, attempt, 10_000) == HeartbeatResponse()
                assert attempts == [0, 1, 2]

        run(main)

    def test_until_time_is_up_or_it_makes_no_sense(self):
        async def main():
            async with connected() as (_, cluster):

                async def attempt(number):
                    raise ConnectionFailedError("again")

                with pytest.raises(KafkaTimeoutError, match=r"gave up after 1000 ms: .*again"):
                    await retrying(cluster, attempt, 1000)
                with pytest.raises(ConnectionFailedError):
                    await retrying(cluster, attempt, 1000, retriable=lambda _: False)

        run(main)


class FakeSecurity:
    def __init__(self, lifetime_ms=None, errors=()):
        self.lifetime_ms = lifetime_ms
        self.errors = list(errors)
        self.times = 0

    def ssl_context(self, host):
        return None

    async def authenticate(self, send_and_receive, host):
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)
        await send_and_receive(DescribeClusterRequest())
        return self.lifetime_ms


class TestSecurity:
    def test_authenticated_before_anything_else_and_again_before_the_session_ends(self):
        async def main():
            async with connected() as (fake, cluster):
                security = FakeSecurity(10_000)
                cluster.security = lambda: security
                await cluster.start()
                await cluster.request(1, BEAT)
                assert [call.api_key for call in fake[1].requests if call.connection == 2] == [
                    ApiKey.API_VERSIONS,
                    ApiKey.DESCRIBE_CLUSTER,
                    ApiKey.HEARTBEAT,
                ]
                assert security.times == 2
                await asyncio.sleep(8.6)
                await asyncio.gather(*(cluster.request(1, BEAT) for _ in range(3)))
                assert security.times == 3
                assert fake[1].connections_made == 2

        run(main)

    def test_a_refusal_ends_the_wait_at_once(self, caplog):
        from ottla.client.errors import AuthenticationError

        async def main():
            async with connected() as (_, cluster):
                security = FakeSecurity(None, [AuthenticationError("wrong password.")] * 3)
                cluster.security = lambda: security
                started = cluster.now_ms()
                with pytest.raises(AuthenticationError, match="wrong password"):
                    await cluster.wait_for_topic("t", 60_000)
                assert cluster.now_ms() - started < 1000
                await asyncio.sleep(5)
                assert (await cluster.wait_for_topic("t", 1000)).name == "t", "tried on in the background"

        with caplog.at_level(logging.INFO, "ottla.client"):
            run(main)
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


class TestLog:
    def test_one_line_for_each_change(self, caplog):
        async def main():
            async with connected(kind=ConsumerSettings, metadata_max_age_ms=1000) as (fake, cluster):
                await cluster.start()
                node_id = await cluster.coordinator(0, "g", 1000)
                for _ in range(2):
                    await cluster.request(1, BEAT)
                    await cluster.request(node_id, BEAT)
                    futures = [cluster.send(1, BEAT), cluster.send(node_id, BEAT)]
                    await fake[1].stop()
                    await asyncio.gather(*futures, return_exceptions=True)
                    for _ in range(20):
                        await asyncio.sleep(0.5)
                        await asyncio.gather(cluster.send(1, BEAT), return_exceptions=True)
                    await fake[1].start()
                    await cluster.refresh_metadata(10_000)
                    node_id = await cluster.coordinator(0, "g", 1000)

        with caplog.at_level(logging.DEBUG, "ottla.client"):
            run(main)
        lines = [record.getMessage() for record in caplog.records if "Starting again" not in record.getMessage()]
        assert len(lines) == 4, lines
        assert [record.levelname for record in caplog.records if "Starting" not in record.getMessage()] == [
            "WARNING",
            "INFO",
        ] * 2


def test_produce_and_fetch_messages_go_through_unchanged():
    async def main():
        async with connected() as (fake, cluster):
            await cluster.start()
            fake[1].on(ApiKey.PRODUCE, lambda request, call: ProduceResponse(throttle_time_ms=0))
            assert await cluster.request(1, ProduceRequest(acks=1)) == ProduceResponse()

    run(main)


@pytest.mark.parametrize("lookup", ["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"])
def test_a_name_that_cannot_be_one_is_told_in_one_line(lookup, caplog):
    async def main():
        cluster = Cluster(AdminSettings.of("a..b:9092", None, {"client_dns_lookup": lookup}))
        with pytest.raises(BootstrapError, match=r"'a\.\.b' cannot be the name of a host"):
            await cluster.any_node(300)
        await cluster.close()

    asyncio.run(main())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_metadata_of_no_age_at_all_is_still_asked_for_at_a_moderate_rate():
    async def main():
        async with connected(metadata_max_age_ms=0) as (fake, _):
            await asyncio.sleep(10)
            assert len(fake[1].received(ApiKey.METADATA)) < 150

    run(main)


def test_a_client_says_so_in_another_event_loop():
    cluster = Cluster(AdminSettings.of("localhost:1", None, {}))

    async def use():
        await cluster.any_node(100)

    with pytest.raises(BootstrapError):
        asyncio.run(use())
    with pytest.raises(IllegalStateError, match="another event loop"):
        asyncio.run(use())
    asyncio.run(cluster.close())


def test_a_broker_that_takes_connections_but_no_requests_is_told_of_once(caplog):
    async def main():
        fake = FakeCluster(1)
        async with fake:
            fake[1].on(ApiKey.METADATA, CLOSE)
            cluster = cluster_of(fake)
            with pytest.raises(BootstrapError):
                await cluster.any_node(20_000)
            fake[1].on(ApiKey.METADATA, fake.metadata)
            await cluster.any_node(20_000)
            await cluster.close()

    with caplog.at_level(logging.INFO, "ottla.client"):
        run(main)
    lost, found = [record.getMessage() for record in caplog.records]
    assert lost.endswith("Trying again.")
    assert "answers again" in found


@pytest.mark.parametrize("turns", range(4))
def test_a_close_that_is_cancelled_ends_everything_all_the_same(turns):
    async def main():
        async with connected(2) as (fake, cluster):
            waiting = asyncio.ensure_future(cluster.request(1, BEAT))
            fake[1].script(ApiKey.HEARTBEAT, SILENCE)
            await asyncio.sleep(1)
            closing = asyncio.ensure_future(cluster.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait([closing])
            if turns:
                await asyncio.sleep(0.5)
                assert waiting.done()
                assert fake[1].open_connections == fake[2].open_connections == 0
                assert asyncio.all_tasks() == {asyncio.current_task()}
            else:  # it was cancelled before it began
                await cluster.close()
            await asyncio.wait([waiting])

    run(main)


def test_time_may_run_out_at_the_very_moment_an_attempt_ends():
    async def main():
        async with connected() as (fake, cluster):
            fake[1].on(ApiKey.METADATA, SILENCE)
            loop = asyncio.get_running_loop()
            waiting = asyncio.ensure_future(cluster.refresh_metadata(1000))
            await asyncio.sleep(0)
            loop.call_at(loop.time() + 1.0, cluster._refresh._notify)  # behind the timeout, before who waits goes on
            with pytest.raises(BootstrapError):
                await waiting
            assert not cluster._refresh._waiters

    run(main)
