"""kafka-verifiable-consumer."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario, Step
from tests.compatibility.tool_scenarios.console_consumer import records

TOOL = "kafka-verifiable-consumer"
CLASS = "org.apache.kafka.tools.VerifiableConsumer"

GROUP = "--topic tools-a --group-id tools-g"

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), process=True),
    Scenario(
        "mistakes",
        "",
        Step(GROUP, bare=True),
        "--topic tools-a",
        f"{GROUP} --max-messages many",
        f"{GROUP} --consumer.config a --command-config b",
        f"{GROUP} --command-config {{directory}}/nowhere.properties",
        process=True,
    ),
    Scenario(
        "records",
        f"{GROUP} --max-messages 6 --verbose",
        f"{GROUP}-2 --max-messages 2 --verbose --enable-autocommit --session-timeout 10000",
        f"{GROUP}-3 --max-messages 3 --group-protocol consumer --group-remote-assignor uniform",
        f"{GROUP}-4 --max-messages 3 --group-instance-id tools-i --assignment-strategy "
        "org.apache.kafka.clients.consumer.RoundRobinAssignor --reset-policy earliest",
        f"{GROUP}-5 --max-messages 1 --consumer.config {{directory}}/c.properties",
        f"{GROUP}-6 --max-messages 1 --command-config {{directory}}/c.properties",
        setup=records,
        files={"c.properties": "client.id=me\n"},
        ignore=['"timestamp":[0-9]+'],
        process=True,
    ),
]
