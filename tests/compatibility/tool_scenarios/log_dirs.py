"""kafka-log-dirs."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-log-dirs"
CLASS = "org.apache.kafka.tools.LogDirsCommand"


def records(place: Place) -> None:
    from ottla.admin import NewTopic

    place.admin.create_topics([NewTopic("tools-a", 3), NewTopic("tools-bb", 20)])
    place.produce("tools-a", ["1", "2", "3"])


SCENARIOS = [
    Scenario(
        "describe",
        "--describe --topic-list tools-a",
        "--describe --topic-list tools-a,tools-bb",
        "--describe --topic-list tools-nobody",
        "--describe --broker-list 1 --topic-list tools-a,",
        "--describe --broker-list 1,7,9",
        "--describe --broker-list x",
        setup=records,
        ignore=('"size":[1-9][0-9]*',),
        quick=True,
    ),
    Scenario(
        "usage",
        Step("", bare=True),
        Step("--help", bare=True),
        Step("--version", bare=True),
        Step("--describe", bare=True),
        "",
        "--nonsense",
        "--describe --command-config {directory}/missing.properties",
    ),
]
NOT_COMPARED: dict[str, str] = {}
