"""Consumer groups where the log refuses, and where a client comes back under the id it had."""

from __future__ import annotations

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
)
from tests.server.coordinator.consumer_driver import ConsumerDriver


@pytest.fixture
def driver() -> ConsumerDriver:
    driver = ConsumerDriver()
    driver.put_topic("t", 2)
    return driver


def test_a_member_whose_removal_was_refused_is_removed_a_moment_later(driver: ConsumerDriver) -> None:
    driver.heartbeat("a", topics=("t",))
    driver.refuse_next = ErrorCode.NOT_ENOUGH_REPLICAS
    driver.elapsed_ms += 45_000
    result = driver.shard.take_due(driver.now())
    assert result is not None
    driver.apply(result)
    assert driver.refuse_next is None
    assert "a" in driver.group().members
    driver.advance(1_000)
    assert not driver.group().members


def test_a_static_member_that_comes_back_under_its_id_is_still_watched(driver: ConsumerDriver) -> None:
    first = driver.heartbeat("a", topics=("t",), instance="i")
    driver.heartbeat("a", -2, instance="i")
    driver.restart()
    again = driver.heartbeat("a", topics=("t",), instance="i")
    assert driver.assigned(again) == driver.assigned(first) == {"t": [0, 1]}
    driver.restart()
    driver.advance(45_000)
    assert not driver.group().members


def test_expressions_are_tried_again_after_the_clock_was_set_back(
    driver: ConsumerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.heartbeat("a", regex="t.*")
    driver.advance(0)
    driver.put_topic("t2", 1)
    now = driver.now()
    earlier = now._replace(monotonic_ms=now.monotonic_ms + 20_000, wall_ms=now.wall_ms - 86_400_000)
    monkeypatch.setattr(driver, "now", lambda: earlier)
    driver.heartbeat("a", driver.group().members["a"].member_epoch)
    result = driver.shard.take_due(earlier)
    assert result is not None
    driver.apply(result)
    assert driver.group().resolved_regexes["t.*"].topics == {"t", "t2"}


def test_a_topic_that_a_member_names_twice_is_owned_as_both_say(driver: ConsumerDriver) -> None:
    epoch = driver.heartbeat("a", topics=("t",)).member_epoch
    driver.advance(2_000)
    driver.heartbeat("b", topics=("t",))
    driver.heartbeat("a", epoch, owned={"t": [0, 1]})
    given_up = next(iter(driver.group().members["a"].pending_revocation.values()))
    topic_id = driver.image.topics.id_of("t")
    assert topic_id is not None
    twice = [
        ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=topic_id, partitions=list(given_up)),
        ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=topic_id, partitions=[]),
    ]
    request = ConsumerGroupHeartbeatRequest(group_id="g", member_id="a", member_epoch=epoch, topic_partitions=twice)
    driver.apply(driver.machine.heartbeat(request, "c", "/127.0.0.1", driver.now()))
    assert driver.group().members["a"].pending_revocation
