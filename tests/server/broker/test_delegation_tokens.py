"""Delegation tokens on a running broker: who gets them, who logs in with them, and for how long."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace

import pytest

import ottla
from ottla.cli.client_properties import scram_settings
from ottla.client.admin.tokens import DelegationToken
from ottla.client.errors import AuthenticationError, KafkaError
from ottla.core.errors import ErrorCode
from ottla.testing import Cluster

SETTINGS = {
    "delegation.token.secret.key": "a secret of the cluster",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin",
}
USERS = ["admin", "alice", "bob", "eve"]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(security="SASL_PLAINTEXT", users=USERS, settings=SETTINGS) as cluster:
        yield cluster


def admin_of(settings: dict[str, str]) -> ottla.Admin:
    short = {"default.api.timeout.ms": "5000", "request.timeout.ms": "5000", **settings}
    return ottla.Admin(short.pop("bootstrap.servers"), short)


def token_settings(cluster: Cluster, token: DelegationToken, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
    base = cluster.client_settings("alice")
    return scram_settings(base, token.token_id, b64encode(token.hmac).decode(), mechanism, token=True)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_token_logs_in_as_its_owner_and_makes_no_further_ones(cluster: Cluster, mechanism: str) -> None:
    with admin_of(cluster.client_settings("admin")) as admin:
        token = admin.create_delegation_token(renewers=["User:bob"])
        assert admin.describe_delegation_token() == [token]
    with admin_of(token_settings(cluster, token, mechanism)) as admin:
        assert admin.list_topics() is not None
        admin.create_topics({"made-by-token": 1})  # which only the owner, a super user, may
        for call in (
            admin.create_delegation_token,
            admin.describe_delegation_token,
            lambda: admin.renew_delegation_token(token.hmac),
            lambda: admin.expire_delegation_token(token.hmac),
        ):
            with pytest.raises(KafkaError) as refused:
                call()
            assert refused.value.code == ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
    wrong = token_settings(cluster, replace(token, hmac=b"guessed"))
    with pytest.raises(AuthenticationError), admin_of(wrong) as admin:
        admin.list_topics()


def test_a_token_ends_when_nobody_renews_it_and_its_connections_with_it(cluster: Cluster) -> None:
    with admin_of(cluster.client_settings("alice")) as admin:
        token = admin.create_delegation_token(renewers=["User:bob"])
    with admin_of(token_settings(cluster, token)) as holder:
        holder.list_topics()
        cluster.skip(20 * 3600)
        with admin_of(cluster.client_settings("bob")) as admin:
            assert admin.renew_delegation_token(token.hmac) > token.expiry_timestamp_ms
        cluster.skip(20 * 3600)
        with admin_of(token_settings(cluster, token)) as again:
            again.list_topics()
        cluster.skip(25 * 3600)
        with pytest.raises(KafkaError):
            holder.list_topics()
    with pytest.raises(AuthenticationError), admin_of(token_settings(cluster, token)) as again:
        again.list_topics()
    with admin_of(cluster.client_settings("alice")) as admin:
        assert admin.describe_delegation_token() == []  # swept
        with pytest.raises(KafkaError) as refused:
            admin.renew_delegation_token(token.hmac)
        assert refused.value.code == ErrorCode.DELEGATION_TOKEN_NOT_FOUND


def test_tokens_are_seen_by_owners_renewers_and_whom_rules_allow(cluster: Cluster) -> None:
    from ottla.client.admin.acls import AclBinding, AclFilter, AclOperation, AclResourceType

    with admin_of(cluster.client_settings("alice")) as admin:
        token = admin.create_delegation_token(renewers=["User:bob"])
        assert admin.describe_delegation_token(["User:eve"]) == []
        assert admin.describe_delegation_token(["User:bob"]) == [token]  # who may renew it
        assert admin.describe_delegation_token([]) == []
    for user, seen in (("bob", [token]), ("eve", []), ("admin", [token])):
        with admin_of(cluster.client_settings(user)) as admin:
            assert admin.describe_delegation_token() == seen
    for rule in (
        AclBinding(AclResourceType.DELEGATION_TOKEN, token.token_id, "User:eve", AclOperation.DESCRIBE),
        AclBinding(AclResourceType.USER, "User:alice", "User:eve", AclOperation.DESCRIBE_TOKENS),
    ):
        with admin_of(cluster.client_settings("admin")) as admin:
            admin.create_acls(rule)
            with admin_of(cluster.client_settings("eve")) as eve:
                assert eve.describe_delegation_token() == [token]
            admin.delete_acls(AclFilter())


def test_a_token_for_somebody_else_takes_a_rule(cluster: Cluster) -> None:
    from ottla.client.admin.acls import AclBinding, AclOperation, AclResourceType

    with admin_of(cluster.client_settings("eve")) as eve:
        with pytest.raises(KafkaError) as refused:
            eve.create_delegation_token(owner="User:alice")
        assert refused.value.code == ErrorCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED
        with admin_of(cluster.client_settings("admin")) as admin:
            admin.create_acls(AclBinding(AclResourceType.USER, "User:alice", "User:eve", AclOperation.CREATE_TOKENS))
        token = eve.create_delegation_token(owner="User:alice")
        assert (str(token.owner), str(token.requester)) == ("User:alice", "User:eve")
        with pytest.raises(KafkaError) as refused:
            eve.renew_delegation_token(token.hmac)
        assert refused.value.code == ErrorCode.DELEGATION_TOKEN_OWNER_MISMATCH
        with pytest.raises(KafkaError) as refused:
            eve.create_delegation_token(renewers=["Group:ops"])
        assert refused.value.code == ErrorCode.INVALID_PRINCIPAL_TYPE


def test_a_broker_without_a_secret_or_without_authentication_makes_none() -> None:
    with Cluster(settings=SETTINGS) as cluster, admin_of(cluster.client_settings()) as admin:
        with pytest.raises(KafkaError) as refused:
            admin.create_delegation_token()
        assert refused.value.code == ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
    with (
        Cluster(security="SASL_PLAINTEXT", users=["alice"]) as cluster,
        admin_of(cluster.client_settings()) as admin,
    ):
        for call in (admin.create_delegation_token, admin.describe_delegation_token):
            with pytest.raises(KafkaError) as refused:
                call()
            assert refused.value.code == ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED


def test_in_a_cluster_any_broker_makes_tokens_unless_they_would_travel_in_clear() -> None:
    with Cluster(3, security="SASL_PLAINTEXT", users=["alice"], settings=SETTINGS) as cluster:
        with admin_of(cluster.client_settings("alice")) as admin, pytest.raises(KafkaError) as refused:
            admin.create_delegation_token()
        assert refused.value.code == ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
