"""kafka-verifiable-producer."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario, Step
from tests.compatibility.tool_scenarios.console_producer import topic, written

TOOL = "kafka-verifiable-producer"
CLASS = "org.apache.kafka.tools.VerifiableProducer"

TIMES = ['"timestamp":[0-9]+', '"avg_throughput":[0-9.E]+']

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), process=True),
    Scenario(
        "mistakes",
        "",
        Step("--topic tools-a", bare=True),
        "--topic tools-a --max-messages many",
        "--topic tools-a --acks 2",
        "--topic tools-a --nonsense",
        "--topic tools-a --producer.config a --command-config b",
        "--topic tools-a --command-config {directory}/nowhere.properties",
        process=True,
    ),
    Scenario(
        "numbers",
        "--topic tools-a --max-messages 3",
        "--topic tools-a --max-messages 2 --value-prefix 7 --repeating-keys 2 --acks 1 --command-config "
        "{directory}/p.properties",
        "--topic tools-a --max-messages 2 --throughput 100 --message-create-time 1000",
        "--topic tools-a --max-messages 1 --acks 0 --producer.config {directory}/p.properties",
        "--topic tools-a --max-messages 0",
        setup=topic,
        files={"p.properties": "client.id=me\nenable.idempotence=false\n"},
        result=written,
        ignore=TIMES,
        process=True,
    ),
]
