"""Each fault of the test kit reaches foreign clients as their own errors, and they go on when it is over.

`EXPECTED` is what they raise; the table of docs/testing-other-clients.md is made from it, and compared with it here.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from ottla.testing import Cluster
from tests.compatibility.kit_clients import (
    GROUP,
    SHOPS,
    TOPIC,
    JavaShop,
    ShopCode,
    receive_one,
    until_done,
    until_raised,
)

pytestmark = pytest.mark.kafka(
    topics=[TOPIC], settings={"log.retention.ms": "60000", "auto.create.topics.enable": "false"}
)

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "testing-other-clients.md"
Scenario = Callable[[Cluster, ShopCode], BaseException]


@pytest.fixture
def shop(kafka: Cluster, request: pytest.FixtureRequest) -> Iterator[ShopCode]:
    """Code under test, in the library that the test is parametrized with (indirect)."""
    address = kafka.bootstrap_servers
    shop = (
        JavaShop(address, request.getfixturevalue("java")) if request.param == "java" else SHOPS[request.param](address)
    )
    yield shop
    shop.close()
    gc.collect()  # what a library leaves open is not for other tests to find


def failing(call: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011  which one is what the table says
        call()
    return caught.value


def arrived(kafka: Cluster) -> list[str]:
    """What is in the topic, besides what may be there as it was sent before it was given up."""
    return [one for one in dict.fromkeys(kafka.read(TOPIC, str)) if one != "lost"]


def sending_fails(
    kafka: Cluster, shop: ShopCode, begin: Callable[[], object], end: Callable[[], object]
) -> BaseException:
    """What is raised between two records that arrive."""
    with closing(shop.sender()) as sender:
        until_done(lambda: sender.send(b"before"))  # on a machine that is busy the first one may take too long
        begin()
        error = failing(lambda: sender.send(b"lost"))
        end()
        until_done(lambda: sender.send(b"after"))
    assert arrived(kafka) == ["before", "after"]
    return error


def refused(kafka: Cluster, shop: ShopCode) -> BaseException:
    faults = kafka.faults
    return sending_fails(kafka, shop, lambda: faults.fail("Produce", "TOPIC_AUTHORIZATION_FAILED"), faults.clear)


def too_large(kafka: Cluster, shop: ShopCode) -> BaseException:
    faults = kafka.faults
    return sending_fails(kafka, shop, lambda: faults.fail("Produce", "MESSAGE_TOO_LARGE"), faults.clear)


def no_replicas(kafka: Cluster, shop: ShopCode) -> BaseException:
    faults = kafka.faults
    return sending_fails(kafka, shop, lambda: faults.fail("Produce", "NOT_ENOUGH_REPLICAS", times=None), faults.clear)


def delayed(kafka: Cluster, shop: ShopCode) -> BaseException:
    def end() -> None:
        kafka.faults.clear()
        kafka.skip(60)

    return sending_fails(kafka, shop, lambda: kafka.faults.delay("Produce", 60), end)


def dropped(kafka: Cluster, shop: ShopCode) -> BaseException:
    return sending_fails(kafka, shop, lambda: kafka.faults.drop("Produce", times=None), kafka.faults.clear)


def stalled(kafka: Cluster, shop: ShopCode) -> BaseException:
    return sending_fails(kafka, shop, kafka.faults.stall, kafka.faults.resume)


def cut_off(kafka: Cluster, shop: ShopCode) -> BaseException:
    with closing(shop.sender()) as sender, closing(shop.sender(client_id="other")) as other:
        until_done(lambda: sender.send(b"1"))
        until_done(lambda: other.send(b"2"))
        with kafka.faults.partition(client_id="shop"):
            error = failing(lambda: sender.send(b"lost"))
            until_done(lambda: other.send(b"3"))
        until_done(lambda: sender.send(b"4"))
    assert arrived(kafka) == ["1", "2", "3", "4"]
    return error


def killed(kafka: Cluster, shop: ShopCode) -> BaseException:
    return sending_fails(kafka, shop, kafka.kill, kafka.restart)


def disk_full(kafka: Cluster, shop: ShopCode) -> BaseException:
    return sending_fails(kafka, shop, kafka.faults.disk_full, kafka.faults.disk_free)


def nobody_listens(kafka: Cluster, shop: ShopCode) -> BaseException:
    def order() -> None:
        with closing(shop.sender()) as sender:
            sender.send(b"lost")

    with kafka.faults.refuse_connections():
        error = failing(order)
    with closing(shop.sender()) as sender:
        assert sender.send(b"after") == 0
    return error


def topic_refused(kafka: Cluster, shop: ShopCode) -> BaseException:
    kafka.faults.fail("CreateTopics", "POLICY_VIOLATION", message="not on Sundays")
    error = failing(lambda: shop.create_topic("news"))
    shop.create_topic("news")
    return error


def fetch_refused(kafka: Cluster, shop: ShopCode) -> BaseException:
    kafka.produce(TOPIC, "1")
    with closing(shop.receiver()) as receiver:
        assert receive_one(receiver) == b"1"
        with kafka.faults.fail("Fetch", "TOPIC_AUTHORIZATION_FAILED", times=None):
            error = until_raised(lambda: receiver.receive(0.2))
        kafka.produce(TOPIC, "2")
        assert until_done(lambda: receive_one(receiver)) == b"2"
    return error


def join_refused(kafka: Cluster, shop: ShopCode) -> BaseException:
    kafka.produce(TOPIC, "1")
    fault = kafka.faults.fail("JoinGroup", "GROUP_AUTHORIZATION_FAILED", times=None)

    def join() -> None:
        with closing(shop.receiver()) as receiver:
            while True:
                receiver.receive(0.2)

    error = failing(join)
    fault.clear()
    with closing(shop.receiver()) as receiver:
        assert receive_one(receiver) == b"1"
    return error


def commit_refused(kafka: Cluster, shop: ShopCode) -> BaseException:
    kafka.produce(TOPIC, "1")
    with closing(shop.receiver()) as receiver:
        receive_one(receiver)
        with kafka.faults.fail("OffsetCommit", "GROUP_AUTHORIZATION_FAILED"):
            error = failing(receiver.commit)
        receiver.commit()
    kafka.assert_lag_zero(GROUP)
    return error


def silent_for_a_session(kafka: Cluster, shop: ShopCode) -> BaseException:
    kafka.produce(TOPIC, "1")
    with closing(shop.receiver()) as receiver:
        receive_one(receiver)
        kafka.skip(15)
        error = failing(receiver.commit)
        assert receive_one(receiver) == b"1"
        receiver.commit()
    kafka.assert_lag_zero(GROUP)
    return error


def over_the_transaction_timeout(kafka: Cluster, shop: ShopCode) -> BaseException:
    with closing(shop.sender(transactional_id="shop")) as sender:
        sender.begin()
        sender.send(b"1")
        kafka.skip(30)
        error = failing(sender.commit)
    assert kafka.read(TOPIC) == []
    with closing(shop.sender(transactional_id="shop")) as sender:
        sender.begin()
        sender.send(b"2")
        sender.commit()
    assert kafka.read(TOPIC, str) == ["2"]
    return error


def over_the_retention(kafka: Cluster, shop: ShopCode) -> BaseException:
    kafka.produce(TOPIC, "1")
    kafka.skip(3600)
    assert kafka.read(TOPIC) == []
    with closing(shop.receiver(in_group=False)) as receiver:
        return until_raised(lambda: receiver.receive(0.2))


class Row(NamedTuple):
    """What is done to what, and what the clients raise."""

    what: str
    confluent: str
    kafka_python: str
    aiokafka: str
    java: str = ""


EXPECTED = {
    refused: Row(
        'sending: `fail("Produce", "TOPIC_AUTHORIZATION_FAILED")`',
        "KafkaException(TOPIC_AUTHORIZATION_FAILED)",
        "TopicAuthorizationFailedError",
        "TopicAuthorizationFailedError",
        "TopicAuthorizationException",
    ),
    too_large: Row(
        'sending: `fail("Produce", "MESSAGE_TOO_LARGE")`',
        "KafkaException(MSG_SIZE_TOO_LARGE)",
        "MessageSizeTooLargeError",
        "MessageSizeTooLargeError",
        "RecordTooLargeException",
    ),
    no_replicas: Row(
        'sending: `fail("Produce", "NOT_ENOUGH_REPLICAS")`',
        "KafkaException(NOT_ENOUGH_REPLICAS)",
        "NotEnoughReplicasError",
        "NotEnoughReplicasError",
        "NotEnoughReplicasException",
    ),
    delayed: Row(
        'sending: `delay("Produce", 60)`',
        "KafkaException(_MSG_TIMED_OUT)",
        "RequestTimedOutError",
        "RequestTimedOutError",
        "TimeoutException",
    ),
    dropped: Row(
        'sending: `drop("Produce")`',
        "KafkaException(_TRANSPORT)",
        "KafkaConnectionError",
        "KafkaConnectionError",
        "NetworkException",
    ),
    stalled: Row(
        "sending: `stall()`",
        "KafkaException(_MSG_TIMED_OUT)",
        "RequestTimedOutError",
        "RequestTimedOutError",
        "TimeoutException",
    ),
    cut_off: Row(
        'sending: `partition(client_id="shop")`',
        "KafkaException(_MSG_TIMED_OUT)",
        "RequestTimedOutError",
        "RequestTimedOutError",
        "TimeoutException",
    ),
    killed: Row(
        "sending: `kill()`",
        "KafkaException(_MSG_TIMED_OUT)",
        "KafkaConnectionError or KafkaTimeoutError",
        "KafkaConnectionError or NodeNotReadyError",
        "TimeoutException",
    ),
    disk_full: Row(
        "sending: `disk_full()`",
        "KafkaException(KAFKA_STORAGE_ERROR)",
        "KafkaStorageError",
        "KafkaStorageError",
        "KafkaStorageException",
    ),
    nobody_listens: Row(
        "a new producer: `refuse_connections()`",
        "KafkaException(_MSG_TIMED_OUT)",
        "KafkaTimeoutError",
        "KafkaConnectionError",
    ),
    topic_refused: Row(
        'creating a topic: `fail("CreateTopics", "POLICY_VIOLATION")`',
        "KafkaException(POLICY_VIOLATION)",
        "PolicyViolationError",
        "PolicyViolationError",
    ),
    fetch_refused: Row(
        'receiving: `fail("Fetch", "TOPIC_AUTHORIZATION_FAILED")`',
        "KafkaException(TOPIC_AUTHORIZATION_FAILED)",
        "TopicAuthorizationFailedError",
        "TopicAuthorizationFailedError",
    ),
    join_refused: Row(
        'receiving: `fail("JoinGroup", "GROUP_AUTHORIZATION_FAILED")`',
        "KafkaException(GROUP_AUTHORIZATION_FAILED)",
        "GroupAuthorizationFailedError",
        "GroupAuthorizationFailedError",
    ),
    commit_refused: Row(
        'committing: `fail("OffsetCommit", "GROUP_AUTHORIZATION_FAILED")`',
        "KafkaException(GROUP_AUTHORIZATION_FAILED)",
        "GroupAuthorizationFailedError",
        "GroupAuthorizationFailedError",
    ),
    silent_for_a_session: Row(
        "committing: `skip()` over the session timeout",
        "KafkaException(UNKNOWN_MEMBER_ID)",
        "CommitFailedError",
        "CommitFailedError",
    ),
    over_the_transaction_timeout: Row(
        "committing a transaction: `skip()` over its timeout",
        "KafkaException(_FENCED)",
        "ProducerFencedError",
        "ProducerFenced",
    ),
    over_the_retention: Row(
        "receiving from a place of its own: `skip()` over the retention",
        "KafkaException(_AUTO_OFFSET_RESET)",
        "OffsetOutOfRangeError",
        "OffsetOutOfRangeError",
    ),
}
CLIENTS = (*SHOPS, "java")
CASES = [
    pytest.param(scenario, client, told, id=f"{scenario.__name__}-{client}")
    for scenario, row in EXPECTED.items()
    for client, told in zip(CLIENTS, row[1:], strict=True)
    if told
]


@pytest.mark.parametrize(("scenario", "shop", "told"), CASES, indirect=["shop"])
def test_a_fault_is_the_clients_own_error(kafka: Cluster, shop: ShopCode, scenario: Scenario, told: str) -> None:
    assert shop.told(scenario(kafka, shop)) in told.split(" or ")


@pytest.mark.parametrize("shop", CLIENTS, indirect=True)
def test_what_can_be_tried_again_is_no_error_and_is_written_once(kafka: Cluster, shop: ShopCode) -> None:
    faults = [
        kafka.faults.fail("Produce", "NOT_LEADER_OR_FOLLOWER", times=2),
        kafka.faults.drop("Produce", when="response"),
    ]
    with closing(shop.sender(retries=True)) as sender:
        assert sender.send(b"1") == 0
    assert [fault.hits for fault in faults] == [2, 1]
    assert kafka.read(TOPIC, str) == ["1"]


def test_the_guide_shows_what_clients_raise() -> None:
    lines = [
        "| what is done, and what goes wrong | confluent-kafka | kafka-python | aiokafka | Java |",
        "| --- " * 5 + "|",
    ]
    for what, *told in EXPECTED.values():
        cells = [" or ".join(f"`{one}`" for one in text.split(" or ")) if text else "" for text in told]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    table = "\n".join(lines)
    assert table in GUIDE.read_text(), f"{GUIDE.name} should have:\n{table}"
