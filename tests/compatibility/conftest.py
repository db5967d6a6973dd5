"""The foreign clients as fixtures. A driver process lives as long as the session; a missing client skips its tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compatibility.drivers import Client, Go, Java, KafkaJS, Kcat
from tests.compatibility.python_clients import PYTHON_CLIENTS, PythonProcess
from tests.conftest import require

CLIENT_NAMES = ("confluent-kafka", "kafka-python", "aiokafka", "kcat", "java", "franz-go", "sarama", "kafkajs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings are errors in our own code; what foreign clients warn of is theirs."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def clients() -> Iterator[dict[str, Client]]:
    python, go = PythonProcess.start(), Go.start()
    made: list[Client] = [PythonProcess(python, kind) for kind in PYTHON_CLIENTS]
    made += [Kcat(), Java(), Go(go, "franz-go"), Go(go, "sarama"), KafkaJS()]
    yield {client.name: client for client in made}
    for client in made:
        client.close()


@pytest.fixture
def client(clients: dict[str, Client], request: pytest.FixtureRequest) -> Client:
    """The client that the test is parametrized with (indirect)."""
    chosen = clients[request.param]
    require(chosen.missing())
    return chosen


@pytest.fixture
def java(clients: dict[str, Client]) -> Java:
    chosen = clients["java"]
    assert isinstance(chosen, Java)
    require(chosen.missing())
    return chosen
