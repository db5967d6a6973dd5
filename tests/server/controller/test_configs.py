"""Changing settings: operations, refusals with Kafka's codes and words, records; describing them with sources."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.schema.describe import Synonym
from ottla.server.controller.configs import APPEND, DELETE, SET, SUBTRACT, Change, Refusal, describe
from tests.server.controller.worlds import NODE_ID, World, topic

E = ErrorCode
TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
ALPHA = (TOPIC, "alpha")


def new_world(**settings: object) -> World:
    world = World(**settings)
    world.create(topic("alpha", configs={"retention.ms": "1000", "cleanup.policy": "compact,delete"}))
    return world


def alter(
    world: World, resource: tuple[int, str], *changes: Change, replace: bool = False, validate_only: bool = False
) -> Refusal:
    result = world.core.alter_configs([(resource, list(changes))], replace=replace, validate_only=validate_only)
    (answer,) = world.do(result)
    assert isinstance(answer, Refusal)
    return answer


@pytest.mark.parametrize(
    ("resource", "changes", "code", "text"),
    [
        ((TOPIC, "zzz"), [Change("segment.ms", SET, "5")], E.UNKNOWN_TOPIC_OR_PARTITION, "'zzz' does not exist."),
        (ALPHA, [Change("segment.ms", SET, "x")], E.INVALID_CONFIG, "Not a number of type LONG"),
        (ALPHA, [Change("nope", SET, "x")], E.INVALID_CONFIG, "Unknown topic config name: nope"),
        (
            ALPHA,
            [Change("segment.ms", APPEND, "1")],
            E.INVALID_CONFIG,
            "Can't APPEND to key segment.ms because its type is not LIST.",
        ),
        (ALPHA, [Change("nope", SUBTRACT, "1")], E.INVALID_CONFIG, "Can't SUBTRACT to key nope"),
        (ALPHA, [Change("segment.ms", SET, None)], E.INVALID_REQUEST, "Null value not supported for : segment.ms"),
        (
            ALPHA,
            [Change("segment.ms", SET, "1"), Change("segment.ms", DELETE, None)],
            E.INVALID_REQUEST,
            "Error due to duplicate config keys",
        ),
        (ALPHA, [Change("segment.ms", 9, "1")], E.INVALID_REQUEST, "Unknown operations type 9"),
        ((TOPIC, ""), [Change("segment.ms", SET, "5")], E.INVALID_REQUEST, "Default topic resources"),
        ((TOPIC, "z z"), [Change("segment.ms", SET, "5")], E.INVALID_TOPIC_EXCEPTION, "is invalid"),
        ((BROKER, "1"), [Change("broker.id", SET, "2")], E.INVALID_REQUEST, "Cannot update these configs dynamically"),
        ((BROKER, "1"), [Change("message.max.bytes", SET, "-1")], E.INVALID_REQUEST, "must be at least 0"),
        ((BROKER, "x"), [Change("log.cleaner.threads", SET, "2")], E.INVALID_REQUEST, "must be an integer"),
        ((LOGGER, "1"), [Change("root", SET, "INFO")], E.INVALID_REQUEST, "Unknown resource type 8"),
        ((99, "1"), [Change("root", SET, "INFO")], E.INVALID_REQUEST, "Unknown resource type 99"),
        ((GROUP, ""), [Change("share.session.timeout.ms", SET, "50000")], E.INVALID_REQUEST, "Default group resources"),
        ((GROUP, "g"), [Change("nope", SET, "1")], E.INVALID_CONFIG, "Unknown group config name: nope"),
        ((CLIENT_METRICS, ""), [Change("interval.ms", SET, "1000")], E.INVALID_REQUEST, "can't be empty"),
        ((CLIENT_METRICS, "s"), [Change("nope", SET, "1")], E.INVALID_REQUEST, "Unknown client metrics configuration"),
        ((CLIENT_METRICS, "s"), [Change("interval.ms", SET, "99")], E.INVALID_REQUEST, "must be between"),
        ((CLIENT_METRICS, "s"), [Change("interval.ms", SET, "x")], E.INVALID_CONFIG, "Not a number of type INT"),
        ((CLIENT_METRICS, "s"), [Change("match", SET, "nope=1")], E.INVALID_CONFIG, "Illegal client matching pattern"),
        ((CLIENT_METRICS, "s"), [Change("match", SET, "client_id=(")], E.INVALID_CONFIG, "Illegal client matching"),
    ],
    ids=lambda value: None,
)
def test_refusals(resource: tuple[int, str], changes: list[Change], code: ErrorCode, text: str) -> None:
    world = new_world()
    before = world.core.image
    answer = alter(world, resource, *changes)
    assert answer.code == code
    assert text in (answer.text or "")
    assert world.core.image is before


def test_operations() -> None:
    world = new_world()
    answer = alter(
        world,
        ALPHA,
        Change("segment.ms", SET, "5"),
        Change("retention.ms", DELETE, None),
        Change("cleanup.policy", SUBTRACT, "compact"),
    )
    assert answer == Refusal(E.NONE, None)
    assert world.core.image.config_of(*ALPHA) == {"segment.ms": "5", "cleanup.policy": "delete"}
    alter(world, ALPHA, Change("cleanup.policy", APPEND, "compact"))
    assert world.core.image.config_of(*ALPHA)["cleanup.policy"] == "delete,compact"


def test_append_begins_with_the_default() -> None:
    world = World()
    world.create(topic("alpha"))
    alter(world, ALPHA, Change("cleanup.policy", APPEND, "compact"))
    assert world.core.image.config_of(*ALPHA) == {"cleanup.policy": "delete,compact"}


def test_the_old_api_drops_what_is_not_named() -> None:
    world = new_world()
    assert alter(world, ALPHA, Change("segment.ms", SET, "5"), replace=True).code == E.NONE
    assert world.core.image.config_of(*ALPHA) == {"segment.ms": "5"}
    assert alter(world, ALPHA, replace=True).code == E.NONE
    assert ALPHA not in world.core.image.configs


def test_only_changes_are_written_but_for_brokers() -> None:
    world = new_world()
    same = world.core.alter_configs(
        [(ALPHA, [Change("retention.ms", SET, "1000")])], replace=False, validate_only=False
    )
    assert same.records == []
    change = [((BROKER, ""), [Change("log.retention.ms", SET, "7200000")])]
    world.do(world.core.alter_configs(change, replace=False, validate_only=False))
    again = world.core.alter_configs(change, replace=False, validate_only=False)
    assert len(again.records) == 1


def test_validation_only_changes_nothing() -> None:
    world = new_world()
    assert alter(world, ALPHA, Change("segment.ms", SET, "5"), validate_only=True).code == E.NONE
    assert "segment.ms" not in world.core.image.config_of(*ALPHA)


def test_a_resource_twice_and_one_that_is_fine() -> None:
    world = new_world()
    world.create(topic("beta"))
    change = [Change("segment.ms", SET, "5")]
    result = world.core.alter_configs(
        [(ALPHA, change), ((TOPIC, "beta"), change), (ALPHA, change)], replace=False, validate_only=False
    )
    answers = world.do(result)
    assert [answer.code for answer in answers] == [E.INVALID_REQUEST, E.NONE, E.INVALID_REQUEST]
    assert answers[0].text == "Each resource must appear at most once."
    assert world.core.image.config_of(TOPIC, "beta") == {"segment.ms": "5"}


def test_groups_and_subscriptions_need_not_exist() -> None:
    world = new_world()
    assert alter(world, (GROUP, "g"), Change("consumer.session.timeout.ms", SET, "50000")).code == E.NONE
    assert alter(world, (CLIENT_METRICS, "s"), Change("match", SET, "client_id=a.*")).code == E.NONE
    assert world.core.image.config_of(GROUP, "g") == {"consumer.session.timeout.ms": "50000"}


def test_dynamic_broker_settings_take_effect_for_new_topics() -> None:
    world = new_world(log_retention_ms=100)
    alter(world, (BROKER, ""), Change("log.retention.ms", SET, "200"))
    assert world.core.config["log.retention.ms"] == 200
    alter(world, (BROKER, str(NODE_ID)), Change("log.retention.ms", SET, "300"))
    assert world.core.config["log.retention.ms"] == 300
    (answer,) = world.create(topic("t"), with_configs=True)
    assert {one.name: (one.value, one.config_source) for one in answer.configs}["retention.ms"] == ("300", 2)
    alter(world, (BROKER, str(NODE_ID)), Change("log.retention.ms", DELETE, None))
    alter(world, (BROKER, ""), Change("log.retention.ms", DELETE, None))
    assert world.core.config["log.retention.ms"] == 100


def described(world: World, resource: tuple[int, str], keys: list[str] | None = None) -> dict[str, Any]:
    entries = describe(world.core.config, world.core.image, NODE_ID, resource, keys)
    return {entry.name: entry for entry in entries}


def test_sources_of_a_topics_settings() -> None:
    world = new_world(log_segment_bytes=2_000_000, log_retention_hours=5)
    alter(world, (BROKER, "1"), Change("log.retention.ms", SET, "300"))
    alter(world, (BROKER, ""), Change("log.index.interval.bytes", SET, "77"))
    topic_settings = described(world, ALPHA)
    sources = {name: (entry.value, entry.source) for name, entry in topic_settings.items()}
    assert sources["retention.ms"] == ("1000", 1)
    assert sources["index.interval.bytes"] == ("77", 3)
    assert sources["segment.bytes"] == ("2000000", 4)
    assert sources["compression.type"] == ("producer", 5)
    # As Apache Kafka 4.3.1 lists them.
    assert topic_settings["retention.ms"].synonyms == [
        Synonym("retention.ms", "1000", 1),
        Synonym("log.retention.ms", "300", 2),
        Synonym("log.retention.hours", "5", 4),
        Synonym("log.retention.hours", "168", 5),
    ]
    assert not any(entry.is_read_only for entry in topic_settings.values())
    world.create(topic("beta"))
    assert described(world, (TOPIC, "beta"))["retention.ms"].source == 2


def test_keys_limit_the_answer_and_none_means_all() -> None:
    world = new_world()
    assert list(described(world, ALPHA, ["retention.ms", "nope"])) == ["retention.ms"]
    assert len(described(world, ALPHA, [])) == len(described(world, ALPHA)) > 30


def test_broker_resources() -> None:
    world = new_world(num_partitions=3)
    alter(world, (BROKER, ""), Change("log.retention.ms", SET, "200"))
    own = described(world, (BROKER, "1"))
    assert (own["num.partitions"].value, own["num.partitions"].source) == ("3", 4)
    assert own["num.partitions"].is_read_only
    assert (own["log.retention.ms"].value, own["log.retention.ms"].source) == ("200", 3)
    assert own["ssl.keystore.password"].is_sensitive
    assert own["ssl.keystore.password"].value is None
    cluster_wide = described(world, (BROKER, ""))
    assert {name: (one.value, one.source) for name, one in cluster_wide.items()} == {"log.retention.ms": ("200", 3)}


@pytest.mark.parametrize(
    ("resource", "code", "text"),
    [
        ((TOPIC, "zzz"), E.UNKNOWN_TOPIC_OR_PARTITION, ""),
        ((TOPIC, "z z"), E.INVALID_TOPIC_EXCEPTION, ""),
        ((BROKER, "2"), E.INVALID_REQUEST, "Unexpected broker id, expected 1 or empty string, but received 2"),
        ((CLIENT_METRICS, ""), E.INVALID_REQUEST, "Client metrics subscription name must not be empty"),
        ((GROUP, ""), E.INVALID_REQUEST, "Group name must not be empty"),
        ((3, "x"), E.INVALID_REQUEST, "Unsupported resource type: 3"),
    ],
)
def test_what_cannot_be_described(resource: tuple[int, str], code: ErrorCode, text: str) -> None:
    with pytest.raises(ApiError) as caught:
        described(new_world(), resource)
    assert caught.value.code == code
    assert text in caught.value.message


def test_group_and_client_metrics_sources() -> None:
    world = new_world()
    alter(world, (GROUP, "g"), Change("consumer.session.timeout.ms", SET, "50000"))
    alter(world, (CLIENT_METRICS, "s"), Change("interval.ms", SET, "1000"))
    assert described(world, (GROUP, "g"))["consumer.session.timeout.ms"].source == 8
    assert described(world, (CLIENT_METRICS, "s"))["interval.ms"].source == 7
    assert described(world, (CLIENT_METRICS, "s"))["match"].source == 5
