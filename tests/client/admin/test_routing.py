"""Who is asked, and what happens when they cannot answer: moves, loading, throttling, dead nodes, no time left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.admin import ConfigResource, NewTopic, OffsetSpec
from ottla.client.admin.client import Admin
from ottla.client.errors import (
    BootstrapError,
    ClientClosedError,
    ConnectionFailedError,
    KafkaError,
    KafkaTimeoutError,
    UnknownTopicError,
    UnsupportedVersionError,
)
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.create_topics import CreatableTopicResult, CreateTopicsResponse
from ottla.protocol.messages.delete_groups import DeletableGroupResult, DeleteGroupsResponse
from ottla.protocol.messages.describe_configs import DescribeConfigsResponse, DescribeConfigsResult
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.protocol.messages.list_transactions import ListTransactionsResponse, TransactionState
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.client.admin.scenes import play, virtual_now_ms
from tests.client.network.fake_broker import CLOSE, SILENCE, Delay, FakeCluster

ORDERS = TopicPartition("orders", 0)


def created(request: Any, *, code: ErrorCode = ErrorCode.NONE, throttle_ms: int = 0) -> CreateTopicsResponse:
    return CreateTopicsResponse(
        throttle_time_ms=throttle_ms,
        topics=[
            CreatableTopicResult(name=topic.name, error_code=code, num_partitions=1, replication_factor=1, configs=[])
            for topic in request.topics
        ],
    )


def listed(request: Any, code: ErrorCode = ErrorCode.NONE) -> ListOffsetsResponse:
    return ListOffsetsResponse(
        topics=[
            ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[
                    ListOffsetsPartitionResponse(
                        partition_index=one.partition_index, error_code=code, offset=7, timestamp=-1, leader_epoch=0
                    )
                    for one in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def deleted(request: Any, code: ErrorCode = ErrorCode.NONE) -> DeleteGroupsResponse:
    return DeleteGroupsResponse(
        results=[DeletableGroupResult(group_id=group, error_code=code) for group in request.groups_names]
    )


def test_a_controller_that_moved_is_looked_up_again() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def not_here(request: Any, call: Any) -> CreateTopicsResponse:
            fake.controller_id = 2
            return created(request, code=ErrorCode.NOT_CONTROLLER)

        fake[1].on(ApiKey.CREATE_TOPICS, not_here)
        fake[2].on(ApiKey.CREATE_TOPICS, lambda request, call: created(request))
        assert list(await admin.create_topics([NewTopic("a", 1, 1), NewTopic("b", 1, 1)])) == ["a", "b"]
        assert len(fake[2].received(ApiKey.CREATE_TOPICS)) == 1

    play(scene, brokers=2)


def test_throttled_items_are_asked_again_alone_and_after_the_pause() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def half(request: Any, call: Any) -> CreateTopicsResponse:
            response = created(request, throttle_ms=700)
            response.topics[1].error_code = ErrorCode.THROTTLING_QUOTA_EXCEEDED
            return response

        fake[1].script(ApiKey.CREATE_TOPICS, half, lambda request, call: created(request))
        started_ms = virtual_now_ms()
        await admin.create_topics([NewTopic("a", 1, 1), NewTopic("b", 1, 1)])
        assert virtual_now_ms() - started_ms >= 700
        assert [[one.name for one in body.topics] for body in fake[1].received(ApiKey.CREATE_TOPICS)] == [
            ["a", "b"],
            ["b"],
        ]

    play(scene)


def test_throttling_is_an_error_where_it_shall_not_be_waited_for() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        throttled = ErrorCode.THROTTLING_QUOTA_EXCEEDED
        fake[1].on(ApiKey.CREATE_TOPICS, lambda request, call: created(request, code=throttled, throttle_ms=500))
        with pytest.raises(KafkaError) as at_once:
            await admin.create_topics(NewTopic("a", 1, 1), retry_on_quota_violation=False)
        assert at_once.value.code is throttled
        with pytest.raises(KafkaError) as in_the_end:
            await admin.create_topics(NewTopic("a", 1, 1), timeout_s=3)
        assert in_the_end.value.code is throttled
        assert len(fake[1].received(ApiKey.CREATE_TOPICS)) > 3

    play(scene)


def test_each_leader_is_asked_once_about_all_of_its_partitions() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.add_topic("orders", partitions=6)
        for broker in fake:
            broker.on(ApiKey.LIST_OFFSETS, lambda request, call: listed(request))
        wanted = {TopicPartition("orders", number): OffsetSpec.LATEST for number in range(6)}
        found = await admin.list_offsets(wanted)
        assert list(found) == list(wanted)
        for broker in fake:
            (body,) = broker.received(ApiKey.LIST_OFFSETS)
            assert len(body.topics[0].partitions) == 2
        before = sum(len(broker.received(ApiKey.METADATA)) for broker in fake)
        await admin.list_offsets(wanted)
        assert sum(len(broker.received(ApiKey.METADATA)) for broker in fake) == before, "leaders are remembered"

    play(scene, brokers=3)


def test_a_leader_that_moved_is_followed() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.add_topic("orders")

        def moved(request: Any, call: Any) -> ListOffsetsResponse:
            fake.move("orders", 0, 2)
            return listed(request, ErrorCode.NOT_LEADER_OR_FOLLOWER)

        fake[1].on(ApiKey.LIST_OFFSETS, moved)
        fake[2].on(ApiKey.LIST_OFFSETS, lambda request, call: listed(request))
        assert (await admin.list_offsets({ORDERS: OffsetSpec.LATEST}))[ORDERS].offset == 7

    play(scene, brokers=2)


def test_a_leader_that_died_is_replaced_by_the_new_one() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.add_topic("orders")
        fake[1].on(ApiKey.LIST_OFFSETS, lambda request, call: listed(request))
        fake[2].on(ApiKey.LIST_OFFSETS, lambda request, call: listed(request))
        await admin.list_offsets({ORDERS: OffsetSpec.LATEST})
        await fake[1].stop()
        fake.move("orders", 0, 2)
        assert (await admin.list_offsets({ORDERS: OffsetSpec.LATEST}))[ORDERS].offset == 7

    play(scene, brokers=2)


def test_a_topic_that_is_only_just_known_is_waited_for() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].on(ApiKey.LIST_OFFSETS, lambda request, call: listed(request))
        asyncio.get_running_loop().call_later(1.0, fake.add_topic, "orders")
        assert (await admin.list_offsets({ORDERS: OffsetSpec.LATEST}))[ORDERS].offset == 7

    play(scene)


def test_a_topic_that_is_not_there_is_not_waited_for_to_the_end() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.add_topic("orders")
        fake[1].on(ApiKey.LIST_OFFSETS, lambda request, call: listed(request))
        started_ms = virtual_now_ms()
        with pytest.raises(UnknownTopicError) as raised:
            await admin.list_offsets({ORDERS: OffsetSpec.LATEST, TopicPartition("gone", 0): OffsetSpec.LATEST})
        assert 2_000 <= virtual_now_ms() - started_ms < 10_000
        assert list(raised.value.results) == [ORDERS]
        with pytest.raises(UnknownTopicError, match=r"1 partitions, counted from 0"):
            await admin.list_offsets({TopicPartition("orders", 5): OffsetSpec.LATEST})

    play(scene)


def test_a_coordinator_that_loads_is_waited_for_and_one_that_moved_looked_up() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def moved(request: Any, call: Any) -> DeleteGroupsResponse:
            fake.coordinators[0, "g"] = 2
            return deleted(request, ErrorCode.NOT_COORDINATOR)

        loading = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        fake[1].script(ApiKey.DELETE_GROUPS, lambda request, call: deleted(request, loading), moved)
        fake[2].on(ApiKey.DELETE_GROUPS, lambda request, call: deleted(request))
        await admin.delete_consumer_groups("g")
        assert len(fake[1].received(ApiKey.FIND_COORDINATOR) + fake[2].received(ApiKey.FIND_COORDINATOR)) == 2

    play(scene, brokers=2)


def test_groups_are_asked_for_at_their_coordinators_in_one_request_each() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.coordinators.update({(0, "a"): 1, (0, "b"): 2, (0, "c"): 1})
        for broker in fake:
            broker.on(ApiKey.DELETE_GROUPS, lambda request, call: deleted(request))
        await admin.delete_consumer_groups(["a", "b", "c"])
        assert [body.groups_names for body in fake[1].received(ApiKey.DELETE_GROUPS)] == [["a", "c"]]
        assert [body.groups_names for body in fake[2].received(ApiKey.DELETE_GROUPS)] == [["b"]]

    play(scene, brokers=2)


def test_a_final_error_of_one_item_does_not_keep_others_from_being_retried() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def mixed(request: Any, call: Any) -> DeleteGroupsResponse:
            response = deleted(request)
            response.results[0].error_code = ErrorCode.NON_EMPTY_GROUP
            response.results[1].error_code = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
            return response

        fake[1].script(ApiKey.DELETE_GROUPS, mixed, lambda request, call: deleted(request))
        with pytest.raises(KafkaError) as raised:
            await admin.delete_consumer_groups(["a", "b", "c"])
        assert raised.value.code is ErrorCode.NON_EMPTY_GROUP
        assert set(raised.value.results) == {"b", "c"}
        assert fake[1].received(ApiKey.DELETE_GROUPS)[1].groups_names == ["b"]

    play(scene)


def test_a_broken_connection_is_tried_again() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].script(ApiKey.DELETE_GROUPS, CLOSE, CLOSE, lambda request, call: deleted(request))
        await admin.delete_consumer_groups("g")

    play(scene)


def test_retries_are_limited_where_the_user_says_so() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].on(ApiKey.DELETE_GROUPS, CLOSE)
        with pytest.raises(KafkaTimeoutError) as raised:
            await admin.delete_consumer_groups("g")
        assert len(fake[1].received(ApiKey.DELETE_GROUPS)) == 2
        assert isinstance(raised.value.__cause__, ConnectionFailedError)

    play(scene, retries=1)


def test_a_call_ends_with_its_time() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].on(ApiKey.DELETE_GROUPS, SILENCE)
        started_ms = virtual_now_ms()
        with pytest.raises(KafkaTimeoutError):
            await admin.delete_consumer_groups("g", timeout_s=5)
        assert virtual_now_ms() - started_ms <= 5_100
        loading = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        fake[1].on(ApiKey.DELETE_GROUPS, lambda request, call: deleted(request, loading))
        with pytest.raises(KafkaTimeoutError, match=r"delete_consumer_groups was not done .*LOAD_IN_PROGRESS"):
            await admin.delete_consumer_groups("g", timeout_s=5)
        with pytest.raises(ValueError, match="negative"):
            await admin.delete_consumer_groups("g", timeout_s=-1)

    play(scene)


def test_an_answer_without_an_item_is_an_error_of_the_item() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].on(ApiKey.DELETE_GROUPS, DeleteGroupsResponse())
        with pytest.raises(KafkaError, match="left it out") as raised:
            await admin.delete_consumer_groups("g")
        assert raised.value.code is ErrorCode.UNKNOWN_SERVER_ERROR

    play(scene)


def test_a_broker_answers_for_itself_and_one_that_does_not_exist_is_named() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        def described(request: Any, call: Any) -> DescribeConfigsResponse:
            return DescribeConfigsResponse(
                results=[
                    DescribeConfigsResult(resource_type=one.resource_type, resource_name=one.resource_name)
                    for one in request.resources
                ]
            )

        for broker in fake:
            broker.on(ApiKey.DESCRIBE_CONFIGS, described)
        await admin.describe_configs([ConfigResource.broker(1), ConfigResource.broker_logger(2)])
        assert [len(broker.received(ApiKey.DESCRIBE_CONFIGS)) for broker in fake] == [1, 1]
        with pytest.raises(KafkaError, match=r"There is no broker 9.*has brokers 1, 2"):
            await admin.describe_configs([ConfigResource.broker(9), ConfigResource.topic("orders")])
        await admin.describe_configs(ConfigResource.broker())

    play(scene, brokers=2)


def test_lists_come_from_all_brokers_and_tell_of_those_that_failed() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        state = TransactionState(transactional_id="t", producer_id=5, transaction_state="Ongoing")
        fake[1].on(ApiKey.LIST_TRANSACTIONS, ListTransactionsResponse(transaction_states=[state]))
        refused = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
        fake[2].script(ApiKey.LIST_TRANSACTIONS, ListTransactionsResponse(error_code=refused))
        fake[2].on(ApiKey.LIST_TRANSACTIONS, ListTransactionsResponse())
        with pytest.raises(KafkaError) as raised:
            await admin.list_transactions()
        assert list(raised.value.errors) == [2]
        assert [listing.transactional_id for listing in raised.value.results[1]] == ["t"]
        assert [listing.transactional_id for listing in await admin.list_transactions()] == ["t"]

    play(scene, brokers=2)


def test_controllers_answer_calls_about_the_cluster_only() -> None:
    async def main(_: SimulatedEnv) -> None:
        async with FakeCluster(2) as fake:
            fake.controller_id = 2
            fake.versions[ApiKey.LIST_GROUPS] = (0, -1)
            async with Admin(bootstrap_controllers=fake.bootstrap) as admin:
                fake[2].on(ApiKey.CREATE_TOPICS, lambda request, call: created(request))
                await admin.create_topics(NewTopic("a", 1, 1))
                cluster = await admin.describe_cluster()
                assert cluster.controller is not None
                assert cluster.controller.id == 2
                assert fake[2].received(ApiKey.DESCRIBE_CLUSTER)[-1].endpoint_type == 2
                for call in (
                    admin.list_offsets({ORDERS: OffsetSpec.LATEST}),
                    admin.delete_consumer_groups("g"),
                    admin.list_groups(),
                ):
                    with pytest.raises(KafkaError, match=r"bootstrap\.servers instead") as raised:
                        await call
                    assert raised.value.code is ErrorCode.UNSUPPORTED_ENDPOINT_TYPE
                with pytest.raises(ValueError, match="controllers"):
                    await admin.describe_cluster(include_fenced_brokers=True)

    simulate(main, seed=1)


def test_a_broker_that_is_too_old_says_so_at_once() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake.versions[ApiKey.DESCRIBE_TRANSACTIONS] = (0, -1)
        with pytest.raises(UnsupportedVersionError):
            await admin.describe_transactions("t")

    play(scene)


def test_nobody_answers_at_the_bootstrap_servers() -> None:
    async def main(_: SimulatedEnv) -> None:
        async with Admin("127.0.0.1:1") as admin:
            with pytest.raises(KafkaError) as raised:
                await admin.list_topics(timeout_s=3)
        assert isinstance(raised.value, BootstrapError), raised.value
        assert "127.0.0.1:1" in str(raised.value)

    simulate(main, seed=1)


def test_a_closed_client_says_so() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        await admin.list_topics()
        await admin.close()
        with pytest.raises(ClientClosedError):
            await admin.list_topics()
        fake[1].on(ApiKey.DELETE_GROUPS, SILENCE)

    play(scene)


def test_a_call_under_way_ends_when_the_client_is_closed() -> None:
    async def scene(fake: FakeCluster, admin: Admin) -> None:
        fake[1].on(ApiKey.DELETE_GROUPS, SILENCE)
        call = asyncio.ensure_future(admin.delete_consumer_groups("g"))
        await asyncio.sleep(1)
        await admin.close()
        with pytest.raises(ClientClosedError):
            await call

    play(scene)


def test_a_silent_broker_leaves_time_to_ask_another_for_leaders():
    async def scene(fake: FakeCluster, admin: Admin) -> float:
        fake.add_topic("orders")
        for broker in fake:
            broker.on(ApiKey.LIST_OFFSETS, lambda request, call: listed(request))
        await admin.describe_cluster()
        for broker in fake:
            broker.script(ApiKey.METADATA, SILENCE)
        begun_ms = virtual_now_ms()
        await admin.list_offsets({ORDERS: OffsetSpec.LATEST})
        return virtual_now_ms() - begun_ms

    taken_ms = play(scene, brokers=2, request_timeout_ms=2000, default_api_timeout_ms=60_000)
    assert taken_ms < 20_000


def test_what_an_unanswered_attempt_may_have_done_is_said():
    async def scene(fake: FakeCluster, admin: Admin) -> KafkaError:
        fake[1].on(ApiKey.CREATE_TOPICS, lambda request, _: created(request, code=ErrorCode.TOPIC_ALREADY_EXISTS))
        fake[1].script(ApiKey.CREATE_TOPICS, CLOSE)
        with pytest.raises(KafkaError) as caught:
            await admin.create_topics("orders")
        with pytest.raises(KafkaError) as plain:
            await admin.create_topics("orders")
        assert "may have done" not in str(plain.value)
        return caught.value

    error = play(scene)
    assert error.code is ErrorCode.TOPIC_ALREADY_EXISTS
    assert "may have done what was asked for" in str(error)


def test_a_call_to_all_brokers_has_one_deadline_for_finding_and_asking_them():
    async def scene(fake: FakeCluster, admin: Admin) -> float:
        await admin.describe_cluster()

        fake[1].script(ApiKey.METADATA, Delay(2.0))
        begun_ms = virtual_now_ms()
        with pytest.raises(KafkaTimeoutError):
            await admin.list_transactions(timeout_s=3)  # which nobody answers
        return virtual_now_ms() - begun_ms

    assert play(scene) <= 3100
