"""What may be subscribed, and what comes of it."""

from __future__ import annotations

import re

import pytest

from ottla.client.consumer.resets import EARLIEST, LATEST, reset_strategy
from ottla.client.consumer.subscription import Mode, Subscription, SubscriptionPattern
from ottla.client.errors import ConfigError, IllegalStateError, InvalidTopicError
from ottla.client.model import TopicPartition

A0, A1, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)


def test_names_patterns_and_the_coordinators_patterns_are_told_apart() -> None:
    subscription = Subscription()
    subscription.subscribe(["a", "b"])
    assert (subscription.mode, subscription.topics) == (Mode.TOPICS, {"a", "b"})
    subscription.subscribe("a")
    assert subscription.topics == {"a"}
    subscription.subscribe(re.compile("a.*"))
    assert (subscription.mode, subscription.topics) == (Mode.PATTERN, frozenset())
    subscription.subscribe("^a")
    assert subscription.mode is Mode.PATTERN
    subscription.subscribe(SubscriptionPattern("a.*"))
    assert (subscription.mode, subscription.server_pattern, subscription.pattern) == (Mode.SERVER_PATTERN, "a.*", None)
    subscription.subscribe([])
    assert subscription.mode is Mode.NONE
    subscription.check_invariants()


def test_a_pattern_matches_from_the_beginning_of_a_name_and_no_internal_topics() -> None:
    topics = {"orders": False, "orders-eu": False, "my-orders": False, "__consumer_offsets": True}
    subscription = Subscription()
    subscription.subscribe(re.compile("orders"))
    assert subscription.match(topics)
    assert subscription.topics == {"orders", "orders-eu"}
    assert not subscription.match(topics)
    subscription.subscribe(re.compile(".*"))
    assert subscription.match(topics)
    assert "__consumer_offsets" not in subscription.topics
    everything = Subscription(exclude_internal_topics=False)
    everything.subscribe(["^__", "my-orders"])
    everything.match(topics)
    assert everything.topics == {"__consumer_offsets", "my-orders"}


def test_every_change_of_the_subscription_has_a_version() -> None:
    subscription = Subscription()
    before = subscription.version
    subscription.subscribe("^a")
    assert subscription.version == before + 1
    subscription.match({"a": False})
    assert subscription.version == before + 2
    subscription.match({"a": False})
    assert subscription.version == before + 2


def test_a_group_and_assigned_partitions_do_not_mix() -> None:
    subscription = Subscription()
    subscription.assign([A0])
    with pytest.raises(IllegalStateError, match="unsubscribe"):
        subscription.subscribe("a")
    subscription.unsubscribe()
    subscription.subscribe("a")
    with pytest.raises(IllegalStateError, match="unsubscribe"):
        subscription.assign([A0])


def test_partitions_that_stay_assigned_keep_their_positions() -> None:
    subscription = Subscription()
    first = subscription.assign([A0, A1])
    assert [state.tp for state in first] == [A0, A1]
    first[0].jump(42)
    assert [state.tp for state in subscription.assign([A0, B0])] == [B0]
    assert subscription.state(A0).position == 42
    with pytest.raises(IllegalStateError, match="a-1"):
        subscription.state(A1)


@pytest.mark.parametrize("topics", [[""], [None], [3]])
def test_what_is_no_topic_is_refused(topics: list[str]) -> None:
    with pytest.raises(InvalidTopicError):
        Subscription().subscribe(topics)


def test_what_is_no_pattern_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="regular expressions"):
        Subscription().subscribe("^(")
    with pytest.raises(ConfigError):
        Subscription().subscribe(SubscriptionPattern(""))


def test_reset_strategies() -> None:
    assert reset_strategy("earliest", None) is EARLIEST
    assert reset_strategy("latest", None) is LATEST
    assert reset_strategy("none", None) is None
    by_duration = reset_strategy("by_duration:PT1H", 3_600_000)
    assert by_duration is not None
    assert by_duration.timestamp(10_000_000) == 6_400_000
    assert by_duration.timestamp(5) == 0
    assert (EARLIEST.timestamp(7), LATEST.timestamp(7)) == (-2, -1)
