"""Quotas of users who have logged in: by name, by name and client id, by default; nobody pays for somebody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ottla
from ottla.client.admin.quotas import DEFAULT, ClientQuotaEntity
from ottla.testing import Cluster

RATE = "producer_byte_rate"


@pytest.fixture(scope="module", params=["SASL_PLAINTEXT", "SSL"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with Cluster(security=request.param, users=["alice", "bob"], topics="orders") as cluster:
        yield cluster


def waited(cluster: Cluster, user: str, client_id: str) -> bool:
    """Whether a client had to wait for having sent 30,000 bytes."""
    settings = {**cluster.client_settings(user), "client.id": client_id, "linger.ms": "0"}
    with ottla.Producer(settings.pop("bootstrap.servers"), settings) as producer:
        producer.send("orders", bytes(30_000)).result(20)
        throttled = [
            value for name, value in _metrics(producer).items() if name.startswith("produce-throttle-time-max")
        ]
    assert throttled
    return any(value > 0 for value in throttled)


def _metrics(producer: ottla.Producer) -> dict[str, float]:
    return {str(getattr(name, "name", name)): float(value) for name, value in producer.metrics().items()}


@pytest.mark.parametrize(
    ("entity", "alice", "alice_import", "bob"),
    [
        (ClientQuotaEntity(user="alice"), True, True, False),
        (ClientQuotaEntity(user="alice", client_id="import"), False, True, False),
        (ClientQuotaEntity(user=DEFAULT), True, True, True),
        (ClientQuotaEntity(client_id="import"), False, True, False),
    ],
    ids=["user", "user and client id", "every user", "client id"],
)
def test_a_quota_is_for_whom_it_names(
    cluster: Cluster, entity: ClientQuotaEntity, alice: bool, alice_import: bool, bob: bool
) -> None:
    cluster.reset()
    settings = cluster.client_settings("bob")
    with ottla.Admin(settings.pop("bootstrap.servers"), settings) as admin:
        admin.alter_client_quotas({entity: {RATE: 500.0}})
    found = [waited(cluster, *who) for who in (("alice", "other"), ("alice", "import"), ("bob", "other"))]
    assert found == [alice, alice_import, bob]
