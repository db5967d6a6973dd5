"""kafka-broker-api-versions."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario, Step

TOOL = "kafka-broker-api-versions"
CLASS = "org.apache.kafka.tools.BrokerApiVersionsCommand"
NEWER = "our client knows the APIs and versions of Kafka 4.4, Kafka's tool those of 4.3.1"
SCENARIOS = [
    Scenario("versions", "", only="kafka", quick=True, differs=NEWER),
    Scenario("versions of Ottla", "", only="ottla", differs=NEWER),
    Scenario("usage", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario(
        "settings",
        "--command-config {directory}/nothing.properties",
        "--nonsense",
        Step("--command-config x", bare=True),
    ),
]
NOT_COMPARED: dict[str, str] = {}
