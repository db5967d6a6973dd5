"""A broker whose KIP-848 groups rebalance quickly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.brokers import Broker
from tests.conftest import new_broker

SETTINGS = {
    "group.consumer.heartbeat.interval.ms": "100",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.assignment.interval.ms": "0",
    "group.min.session.timeout.ms": "1000",
}


@pytest.fixture(scope="session")
def quick_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker that the tests of the consumer share."""
    broker: Broker = new_broker(tmp_path_factory.mktemp("broker"), SETTINGS)
    broker.start()
    yield broker.bootstrap
    broker.stop()
