"""The foreign clients as fixtures. A driver process lives as long as the session; a missing client skips its tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.brokers import KAFKA_HOME, ApacheKafka
from tests.compatibility.drivers import Client, Go, Java, KafkaJS, Kcat
from tests.compatibility.python_clients import PYTHON_CLIENTS, PythonProcess
from tests.conftest import SETTINGS, require

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


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Apache Kafka broker that the whole session shares: use topics and groups of your own."""
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
    broker = ApacheKafka(tmp_path_factory.mktemp("kafka"), settings=SETTINGS, heap=heap)
    broker.start()
    yield broker.bootstrap
    broker.stop()


# One process runs what needs Apache Kafka, so that only one is started.
@pytest.fixture(params=["ottla", pytest.param("kafka", marks=pytest.mark.xdist_group("kafka"))])
def cluster(request: pytest.FixtureRequest) -> str:
    """The address of a broker, Ottla and Apache Kafka in turn: for tests of Ottla's own clients."""
    address: str = request.getfixturevalue("bootstrap" if request.param == "ottla" else "kafka_bootstrap")
    return address
