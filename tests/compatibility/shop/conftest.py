"""Where the shop is served: the one place that knows. Every test of it runs with both."""

from __future__ import annotations

import pytest

from tests.compatibility.shop.service import Shop


@pytest.fixture(params=["fixture", pytest.param("apache", marks=pytest.mark.xdist_group("kafka"))])
def bootstrap_servers(request: pytest.FixtureRequest) -> str:
    """Ottla's fixture, and an Apache Kafka that the session shares."""
    if request.param == "fixture":
        return str(request.getfixturevalue("kafka").bootstrap_servers)
    return str(request.getfixturevalue("kafka_bootstrap"))


@pytest.fixture
def shop(bootstrap_servers: str, name: str) -> Shop:
    """A shop that has just opened."""
    shop = Shop(bootstrap_servers, name)
    shop.open()
    return shop
