"""kafka-consumer-perf-test. What is measured differs from run to run; all else is the same."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario, Step
from tests.compatibility.tool_scenarios.console_consumer import records

TOOL = "kafka-consumer-perf-test"
CLASS = "org.apache.kafka.tools.ConsumerPerformance"

# Times and rates are taken out; the size and the number of records stay.
MEASURED = [
    r"[0-9]{4}-[0-9-]+ [0-9:]+",
    r"[0-9]+[.][0-9]{4}|Infinity|NaN",
    r"(?m)-?[0-9]+, -?[0-9]+, \W*(ignored\W*)*$",
]
RUN = "--topic tools-a --num-records 6 --timeout 20000"

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario(
        "mistakes",
        "--num-records 6",
        "--topic tools-a",
        "--topic tools-a --include x --num-records 1",
        "--topic tools-a --num-records 1 --messages 1",
        Step("--topic tools-a --num-records 1", bare=True),
        "--topic tools-a --num-records 1 --consumer.config a --command-config b",
        "--topic tools-a --nonsense",
        quick=True,
    ),
    Scenario(
        "reads",
        f"{RUN} --group tools-g",
        f"{RUN} --hide-header --fetch-size 100000 --socket-buffer-size 100000",
        f"{RUN} --show-detailed-stats --reporting-interval 100000",
        "--topic tools-a --messages 6",
        "--include 'tools-[a]' --num-records 6 --date-format yyyy",
        f"{RUN} --consumer.config {{directory}}/c.properties",
        f"{RUN} --command-config {{directory}}/c.properties --command-property client.id=you",
        "--topic tools-a --num-records 6 --from-latest --timeout 500",
        setup=records,
        files={"c.properties": "client.id=me\n"},
        ignore=[*MEASURED, r"^[0-9]{4}, [0-9]{4}"],
    ),
    Scenario(
        "metrics",
        f"{RUN} --print-metrics",
        setup=records,
        ignore=[*MEASURED, r"(?s)Metric Name.*"],
        differs="our client has metrics of its own beside Kafka's, and no app-info",
    ),
]
