"""kafka-verifiable-share-consumer."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario, Step
from tests.compatibility.tool_scenarios.console_consumer import records

TOOL = "kafka-verifiable-share-consumer"
CLASS = "org.apache.kafka.tools.VerifiableShareConsumer"

GROUP = "--topic tools-a --offset-reset-strategy earliest --max-messages 6 --group-id tools-s"

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), process=True),
    Scenario(
        "mistakes",
        "",
        Step("--topic tools-a --group-id tools-s", bare=True),
        "--topic tools-a",
        "--topic tools-a --group-id tools-s --max-messages many",
        "--topic tools-a --group-id tools-s --command-config {directory}/nowhere.properties",
        process=True,
    ),
    Scenario(
        "records",
        f"{GROUP} --verbose --acknowledgement-mode sync",
        f"{GROUP}-2 --acknowledgement-mode async",
        f"{GROUP}-3 --acknowledgement-mode auto --command-config {{directory}}/c.properties",
        setup=records,
        files={"c.properties": "client.id=me\n"},
        ignore=['"timestamp":[0-9]+', r'"offsets":\[[0-9,]*\]\}\],"success"'],  # a set has no order
        process=True,
    ),
]
