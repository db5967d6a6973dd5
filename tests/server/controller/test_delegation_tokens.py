"""Delegation tokens in the controller: what is refused in which order, how long tokens live, who may prolong them."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.codec import decode, encode
from ottla.protocol.messages.create_delegation_token import CreatableRenewers, CreateDelegationTokenRequest
from ottla.protocol.messages.expire_delegation_token import ExpireDelegationTokenRequest
from ottla.protocol.messages.metadata_records import DelegationTokenRecord, FeatureLevelRecord
from ottla.protocol.messages.renew_delegation_token import RenewDelegationTokenRequest
from ottla.server.controller import delegation_tokens
from ottla.server.controller.result import Result
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE
from ottla.server.metadata.writer import image_records
from ottla.server.security.delegation_tokens import TokenCredentials, token_hmac
from tests.server.controller.worlds import World

DAY = 86_400_000
NOW = 1_700_000_000_000
ALICE, BOB, EVE = "User:alice", "User:bob", "User:eve"
KEYED = {"delegation_token_secret_key": "a secret of the cluster"}


def create(world: World, requester: str = ALICE, now_ms: int = NOW, **fields: Any) -> Any:
    return world.do(world.core.create_delegation_token(CreateDelegationTokenRequest(**fields), requester, now_ms))


def renew(world: World, hmac: bytes, requester: str = ALICE, now_ms: int = NOW, period_ms: int = -1) -> int:
    request = RenewDelegationTokenRequest(hmac=hmac, renew_period_ms=period_ms)
    return int(world.do(world.core.renew_delegation_token(request, requester, now_ms)).expiry_timestamp_ms)


def expire(world: World, hmac: bytes, requester: str = ALICE, now_ms: int = NOW, period_ms: int = -1) -> int:
    request = ExpireDelegationTokenRequest(hmac=hmac, expiry_time_period_ms=period_ms)
    return int(world.do(world.core.expire_delegation_token(request, requester, now_ms)).expiry_timestamp_ms)


def test_a_token_is_its_requesters_and_its_hmac_is_made_of_its_id() -> None:
    world = World(**KEYED)
    token = create(world)
    assert token.error_code == 0
    assert (token.principal_type, token.principal_name) == ("User", "alice")
    assert (token.token_requester_principal_type, token.token_requester_principal_name) == ("User", "alice")
    assert token.hmac == token_hmac("a secret of the cluster", token.token_id)
    assert len(token.token_id) == 22
    assert (token.issue_timestamp_ms, token.expiry_timestamp_ms, token.max_timestamp_ms) == (
        NOW,
        NOW + DAY,
        NOW + 7 * DAY,
    )
    kept = world.core.image.delegation_tokens[token.token_id]
    assert (kept.owner, kept.requester, kept.renewers) == (ALICE, ALICE, ())
    assert token.hmac not in repr(kept).encode()


@pytest.mark.parametrize(("asked_ms", "life_ms"), [(-1, 7 * DAY), (0, 7 * DAY), (1000, 1000), (8 * DAY, 7 * DAY)])
def test_a_token_lives_as_long_as_asked_but_no_longer_than_the_cluster_lets_it(asked_ms: int, life_ms: int) -> None:
    token = create(World(**KEYED), max_lifetime_ms=asked_ms)
    assert token.max_timestamp_ms == NOW + life_ms
    assert token.expiry_timestamp_ms == NOW + min(life_ms, DAY)


def test_a_token_for_somebody_else_names_both() -> None:
    world = World(**KEYED)
    token = create(
        world,
        BOB,
        owner_principal_type="User",
        owner_principal_name="alice",
        renewers=[CreatableRenewers(principal_type="User", principal_name="carol")],
    )
    assert (token.principal_name, token.token_requester_principal_name) == ("alice", "bob")
    kept = world.core.image.delegation_tokens[token.token_id]
    assert (kept.owner, kept.requester, kept.renewers) == (ALICE, BOB, ("User:carol",))
    assert renew(world, token.hmac, "User:carol", NOW + 5) == NOW + 5 + DAY
    with pytest.raises(ApiError) as refused:
        renew(world, token.hmac, BOB)  # who has only asked for it
    assert refused.value.code == ErrorCode.DELEGATION_TOKEN_OWNER_MISMATCH


def test_a_cluster_without_a_secret_key_has_no_tokens() -> None:
    for settings in ({}, {"delegation_token_secret_key": ""}):
        world = World(**settings)
        token = create(world, renewers=[CreatableRenewers(principal_type="Group", principal_name="x")])
        assert token.error_code == ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED
        assert (token.principal_name, token.token_id, token.hmac) == ("alice", "", b"")
        for call in (renew, expire):
            with pytest.raises(ApiError) as refused:
                call(world, b"hmac")
            assert refused.value.code == ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED


def test_an_old_metadata_version_has_no_records_for_tokens() -> None:
    world = World(**KEYED)
    world.do(Result([FeatureLevelRecord(name="metadata.version", feature_level=13)], None))
    assert create(world).error_code == ErrorCode.UNSUPPORTED_VERSION


def test_renewers_are_users() -> None:
    world = World(**KEYED)
    token = create(world, renewers=[CreatableRenewers(principal_type="Group", principal_name="x")])
    assert token.error_code == ErrorCode.INVALID_PRINCIPAL_TYPE
    assert not world.core.image.delegation_tokens


def test_renewing_never_passes_the_longest_life() -> None:
    world = World(**KEYED)
    token = create(world)
    assert renew(world, token.hmac, now_ms=NOW + DAY // 2) == NOW + DAY // 2 + DAY
    assert renew(world, token.hmac, now_ms=NOW + DAY, period_ms=1000) == NOW + DAY + 1000
    assert renew(world, token.hmac, now_ms=NOW + DAY, period_ms=9 * DAY) == NOW + 2 * DAY
    for day in range(2, 7):
        last = renew(world, token.hmac, now_ms=NOW + day * DAY)
    assert last == NOW + 7 * DAY == token.max_timestamp_ms
    assert world.core.image.delegation_tokens[token.token_id].expiration_timestamp_ms == last


@pytest.mark.parametrize("call", [renew, expire])
def test_refusals_of_renewing_and_ending(call: Any) -> None:
    world = World(**KEYED)
    token = create(world)
    for hmac, requester, now_ms, code in (
        (b"guessed", ALICE, NOW, ErrorCode.DELEGATION_TOKEN_NOT_FOUND),
        (token.hmac, EVE, NOW, ErrorCode.DELEGATION_TOKEN_OWNER_MISMATCH),
        (token.hmac, ALICE, NOW + DAY + 1, ErrorCode.DELEGATION_TOKEN_EXPIRED),
    ):
        with pytest.raises(ApiError) as refused:
            call(world, hmac, requester, now_ms, period_ms=5)
        assert refused.value.code == code


def test_a_token_is_ended_later_or_at_once_also_when_it_is_over() -> None:
    world = World(**KEYED)
    token = create(world)
    assert expire(world, token.hmac, period_ms=500) == NOW + 500
    assert expire(world, token.hmac, now_ms=NOW + 100, period_ms=0) == NOW + 100
    assert expire(world, token.hmac, now_ms=NOW + DAY) == NOW + DAY
    assert not world.core.image.delegation_tokens
    with pytest.raises(ApiError) as refused:
        expire(world, token.hmac)
    assert refused.value.code == ErrorCode.DELEGATION_TOKEN_NOT_FOUND


def test_what_is_over_is_swept_a_number_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delegation_tokens, "MOST_EXPIRED_AT_ONCE", 3)
    world = World(**KEYED)
    for _ in range(4):
        create(world, max_lifetime_ms=1000)
    kept = create(world)
    assert world.do(world.core.expire_delegation_tokens(NOW + 1000)) is False
    assert len(world.core.image.delegation_tokens) == 5
    assert world.do(world.core.expire_delegation_tokens(NOW + 1001)) is True
    assert world.do(world.core.expire_delegation_tokens(NOW + 1001)) is False
    assert list(world.core.image.delegation_tokens) == [kept.token_id]


def test_who_has_a_token_is_in_the_groups_of_its_owner() -> None:
    """Else what is denied to a group would be allowed to a member who logs in with a token of his own."""
    world = World(**KEYED)
    groups = ("contractors", "größe")
    request = CreateDelegationTokenRequest()
    token = world.do(world.core.create_delegation_token(request, ALICE, NOW, groups))
    renew(world, token.hmac, now_ms=NOW + 1000)
    kept = world.core.image.delegation_tokens[token.token_id]
    assert kept.groups == groups
    delta = MetadataDelta(EMPTY_IMAGE)
    for record in image_records(world.core.image):
        delta.replay(decode(type(record), 0, encode(record, 0)) if type(record) is DelegationTokenRecord else record)
    assert delta.apply(0, 0, 0).delegation_tokens == {token.token_id: kept}
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        found = TokenCredentials("a secret of the cluster").find(
            world.core.image.delegation_tokens, mechanism, token.token_id, NOW
        )
        assert found is not None
        assert found.groups == groups


def test_a_token_for_somebody_else_is_in_no_group_of_its_maker() -> None:
    world = World(**KEYED)
    request = CreateDelegationTokenRequest(owner_principal_type="User", owner_principal_name="bob")
    token = world.do(world.core.create_delegation_token(request, ALICE, NOW, ("admins",)))
    assert world.core.image.delegation_tokens[token.token_id].groups == ()
