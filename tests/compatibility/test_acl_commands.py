"""`ottla acls` prints the same of rules in Apache Kafka and in Ottla; what both refuse is refused in the same words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.brokers import KAFKA_HOME, ApacheKafka, Broker, OttlaBroker
from ottla.cli.main import main
from tests.conftest import SETTINGS, require

pytestmark = pytest.mark.xdist_group("kafka")

SECURED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}
COMMANDS = (
    "acls list",
    "acls allow alice read,describe topic/orders group/billing",
    "acls allow alice read topic/orders",
    "acls allow bob produce topic/orders-* transactional-id/* --host 10.0.0.1",
    "acls deny * all topic/secrets",
    "acls allow Group:staff alter-configs cluster",
    "acls allow carol create-tokens user/User:dave",
    "acls list",
    "acls list topic/orders-eu --match",
    "acls list --principal alice --json",
    "acls list topic --operation write --permission allow",
    "acls list --host 10.0.0.1",
    "acls remove --principal alice --operation read --dry-run",
    "acls remove --principal alice --operation read --yes",
    "acls list",
    "acls remove topic/secrets --yes --json",
    "acls remove --host 10.0.0.1 --yes",
    "acls remove --principal nobody --yes",
    "acls list --json",
)


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Broker]]:
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    directory: Path = tmp_path_factory.mktemp("acls")
    settings = SETTINGS | SECURED
    kafka = ApacheKafka(directory / "kafka", settings=settings, heap="-Xmx512m -Xms128m -XX:TieredStopAtLevel=1")
    found: list[Broker] = [kafka, OttlaBroker(directory / "ottla", settings=settings)]
    try:
        yield [broker.start() for broker in found]
    finally:
        for broker in found:
            broker.kill()


def test_rules_look_the_same(brokers: list[Broker], capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for broker in brokers:
        lines = []
        for command in COMMANDS:
            capsys.readouterr()
            code = main([*command.split(), "--bootstrap-servers", broker.bootstrap])
            captured = capsys.readouterr()
            lines.append((command, code, _in_order(captured.out), captured.err))
        told.append(lines)
    for of_kafka, of_ottla in zip(*told, strict=True):
        assert of_ottla == of_kafka
    assert not any(code for _, code, _, _ in told[1])
    assert "User:alice" in told[1][7][2]


def _in_order(output: str) -> str:
    """What was removed comes in the order of a hash table from Apache Kafka."""
    if output.startswith(("{", "[")):
        found = json.loads(output)
        rows = found if isinstance(found, list) else found.get("removed", [])
        rows.sort(key=str)
        return json.dumps(found)
    return "\n".join(sorted(output.splitlines()))
