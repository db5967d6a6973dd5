"""Clusters for tests that let in only who belongs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

import ottla
from ottla.client.errors import AuthenticationError, ConfigError, KafkaError
from ottla.testing import Cluster
from ottla.testing.security import MECHANISMS, authority


@pytest.fixture(scope="module")
def secured() -> Iterator[Cluster]:
    with Cluster(security="SASL_SSL", users={"alice": 'a "secret"', "bob": "b\\ob"}, topics="orders") as cluster:
        yield cluster


def topics_of(settings: dict[str, str]) -> set[str]:
    with ottla.Admin(settings.pop("bootstrap.servers"), settings) as admin:
        return set(admin.list_topics())


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("user", [None, "bob"])
def test_users_log_in_with_every_mechanism(secured: Cluster, user: str | None, mechanism: str) -> None:
    assert topics_of(secured.client_settings(user, mechanism)) == {"orders"}


def test_other_clients_are_told_in_their_own_words(secured: Cluster) -> None:
    admin = AdminClient(secured.client_settings("alice", "SCRAM-SHA-256", librdkafka=True))
    assert set(admin.list_topics(timeout=10).topics) == {"orders"}


def test_a_wrong_password_is_refused(secured: Cluster) -> None:
    for mechanism in ("PLAIN", "SCRAM-SHA-512"):
        settings = secured.client_settings("alice", mechanism)
        settings["sasl.jaas.config"] = settings["sasl.jaas.config"].replace("secret", "guess")
        with pytest.raises(AuthenticationError):
            topics_of({**settings, "default.api.timeout.ms": "5000", "request.timeout.ms": "5000"})


def test_helpers_and_reset_work_as_ever(secured: Cluster) -> None:
    secured.produce("orders", b"one")
    assert [record.value for record in secured.records("orders")] == [b"one"]
    before = secured.thread().node
    secured.reset()
    assert secured.thread().node is before  # credentials are as at the start: nothing had to be started anew
    assert topics_of(secured.client_settings("bob", "SCRAM-SHA-512")) == {"orders"}


def test_certificates_are_users_over_ssl() -> None:
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:alice;User:ANONYMOUS",
    }
    with Cluster(security="SSL", users=["alice", "eve"], settings=settings, topics="orders") as cluster:
        assert topics_of(cluster.client_settings("alice")) == {"orders"}
        assert topics_of(cluster.client_settings("eve")) == set()
        anybody = {
            name: value for name, value in cluster.client_settings("alice").items() if not name.startswith("ssl.key")
        }
        with pytest.raises(KafkaError):
            topics_of({**anybody, "default.api.timeout.ms": "1000", "request.timeout.ms": "1000"})


def test_several_brokers_know_all_users() -> None:
    with Cluster(3, security="SASL_PLAINTEXT", users=["alice"], topics={"orders": 3}) as cluster:
        settings = cluster.client_settings(mechanism="SCRAM-SHA-256")
        with ottla.Producer(settings.pop("bootstrap.servers"), settings) as producer:
            for partition in range(3):
                producer.send("orders", b"one", partition=partition).result(20)
        assert len(cluster.records("orders")) == 3


def test_data_that_are_kept_keep_their_users(tmp_path: Path) -> None:
    for _ in range(2):
        with Cluster(data=tmp_path, security="SASL_PLAINTEXT", users={"alice": "secret"}) as cluster:
            assert topics_of(cluster.client_settings("alice", "SCRAM-SHA-256")) == set()


def test_a_cluster_without_security_has_settings_too() -> None:
    with Cluster() as cluster:
        assert cluster.client_settings() == {"bootstrap.servers": cluster.bootstrap_servers}


def test_certificates_are_made_once() -> None:
    assert authority() is authority()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"security": "TLS"}, "'TLS' is no security protocol"),
        ({"security": "SASL_SSL"}, "somebody has to log in"),
        ({"users": {"a": "b"}}, "nobody can log in over PLAINTEXT"),
        ({"security": "SASL_SSL", "users": ["a b"]}, "'a b' is no name of a user"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cluster(**arguments)  # type: ignore[arg-type]


def test_strangers_are_named(secured: Cluster) -> None:
    with pytest.raises(ConfigError, match="'carol' is no user"):
        secured.client_settings("carol")
    with pytest.raises(ConfigError, match="nobody logs in with GSSAPI"):
        secured.client_settings("alice", "GSSAPI")
