"""Setting and removing quotas: every refusal with Kafka's code and words, and what acceptance comes to."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.server.controller.client_quotas import QuotaAlteration
from ottla.server.controller.configs import ACCEPTED
from tests.server.controller.worlds import World

ALICE = (("user", "alice"),)
BOTH = (("client-id", None), ("user", "alice"))
RATE, PERCENT, CONNECTIONS = "producer_byte_rate", "request_percentage", "connection_creation_rate"


def alter(world: World, *alterations: tuple[Any, Any], **options: Any) -> Any:
    options = {"unknown_hosts": (), "validate_only": False, **options}
    return world.do(world.core.alter_client_quotas([QuotaAlteration(*one) for one in alterations], **options))


@pytest.mark.parametrize(
    ("entity", "key", "value", "text"),
    [
        ((), RATE, 1.0, "Invalid empty client quota entity"),
        ((("group", "g"),), RATE, 1.0, "Unhandled client quota entity type: group"),
        ((("user", ""),), RATE, 1.0, "Empty user not supported"),
        ((("ip", "10.0.0.1"), ("user", "u")), CONNECTIONS, 1.0, "IP entity should not be combined"),
        ((("ip", "nowhere"),), CONNECTIONS, 1.0, "nowhere is not a valid IP or resolvable host."),
        ((("ip", "10.0.0.1"),), RATE, 1.0, "Invalid configuration key producer_byte_rate"),
        (ALICE, CONNECTIONS, 1.0, "Invalid configuration key connection_creation_rate"),
        (ALICE, "nonsense", 1.0, "Invalid configuration key nonsense"),
        (ALICE, RATE, 0.0, "Quota producer_byte_rate must be greater than 0"),
        (ALICE, RATE, -5.0, "Quota producer_byte_rate must be greater than 0"),
        (ALICE, PERCENT, float("nan"), "Quota request_percentage must be greater than 0"),
        (ALICE, RATE, 1.5, "producer_byte_rate cannot be a fractional value."),
        (ALICE, RATE, 1e19, "Proposed value for producer_byte_rate is too large for a LONG."),
        (((("ip", None)),), CONNECTIONS, 3e9, "Proposed value for connection_creation_rate is too large for an INT."),
    ],
)
def test_what_there_cannot_be_is_refused(entity: Any, key: str, value: float, text: str) -> None:
    world = World()
    [(answered, refusal)] = alter(world, (entity, [(key, value)]), unknown_hosts=["nowhere"]).items()
    assert answered == entity
    assert refusal.code == ErrorCode.INVALID_REQUEST
    assert text in refusal.text
    assert not world.core.image.client_quotas


def test_quotas_are_set_changed_and_removed() -> None:
    world = World()
    assert alter(world, (ALICE, [(RATE, 1000.0), (PERCENT, 12.5)]), (BOTH, [(RATE, 5.0)])) == {
        ALICE: ACCEPTED,
        BOTH: ACCEPTED,
    }
    assert world.core.image.client_quotas == {ALICE: {RATE: 1000.0, PERCENT: 12.5}, BOTH: {RATE: 5.0}}
    before = len(world.records)
    alter(world, (ALICE, [(RATE, 1000.0), (PERCENT, 13.0), ("consumer_byte_rate", None)]))
    assert len(world.records) == before + 1, "only what changes is written"
    alter(world, (BOTH, [(RATE, None)]))
    assert world.core.image.client_quotas == {ALICE: {RATE: 1000.0, PERCENT: 13.0}}


def test_an_entity_changes_as_a_whole_or_not_at_all() -> None:
    world = World()
    answers = alter(world, (ALICE, [(RATE, 5.0), (PERCENT, -1.0)]), (BOTH, [(RATE, 7.0)]))
    assert [answer.code for answer in answers.values()] == [ErrorCode.INVALID_REQUEST, ErrorCode.NONE]
    assert world.core.image.client_quotas == {BOTH: {RATE: 7.0}}


def test_the_same_entity_or_key_twice_is_refused() -> None:
    world = World()
    answers = alter(world, (ALICE, [(RATE, 5.0)]), (ALICE, [(RATE, 6.0)]), (BOTH, [(RATE, 5.0), (RATE, None)]))
    assert {answer.code for answer in answers.values()} == {ErrorCode.INVALID_REQUEST}
    assert answers[ALICE].text == "Ignoring duplicate entity ClientQuotaEntity(entries={user=alice})"
    assert answers[BOTH].text == "Ignoring duplicate entity ClientQuotaEntity(entries={client-id=null, user=alice})"
    assert world.core.image.client_quotas == {ALICE: {RATE: 5.0}}, "the first of the two was good"


def test_validation_alone_changes_nothing() -> None:
    world = World()
    assert alter(world, (ALICE, [(RATE, 5.0)]), validate_only=True) == {ALICE: ACCEPTED}
    assert not world.core.image.client_quotas
    assert alter(world, (ALICE, [(RATE, -5.0)]), validate_only=True)[ALICE].code == ErrorCode.INVALID_REQUEST
