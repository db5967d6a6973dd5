"""kafka-share-consumer-perf-test. What is measured differs from run to run; all else is the same."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario, Step
from tests.compatibility.tool_scenarios.console_share_consumer import records

TOOL = "kafka-share-consumer-perf-test"
CLASS = "org.apache.kafka.tools.ShareConsumerPerformance"

MEASURED = [r"[0-9]{4}-[0-9-]+ [0-9:]+", r"[0-9]+[.][0-9]{4}", r"(?m)(?<=, )[0-9]+$"]
RUN = "--topic tools-a --num-records 4 --timeout 20000"

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario(
        "mistakes",
        "--num-records 6",
        "--topic tools-a",
        "--topic tools-a --num-records 1 --messages 1",
        Step("--topic tools-a --num-records 1", bare=True),
        "--topic tools-a --num-records 1 --consumer.config a --command-config b",
        "--topic tools-a --nonsense",
        quick=True,
    ),
    Scenario("reads", f"{RUN} --group tools-g --fetch-size 100000", setup=records, ignore=MEASURED),
    Scenario(
        "reads by several",
        f"{RUN} --group tools-g --threads 2 --hide-header --socket-buffer-size 100000 --command-property client.id=x",
        setup=records,
        ignore=MEASURED,
    ),
    Scenario(
        "tells of each",
        f"{RUN} --group tools-g --show-consumer-stats --show-detailed-stats --reporting-interval 100000 "
        "--consumer.config {directory}/c.properties",
        setup=records,
        files={"c.properties": "client.id=me\n"},
        ignore=[*MEASURED, "(?m)[0-9]+$"],
    ),
    Scenario(
        "too few",
        "--topic tools-a --messages 100 --timeout 1500 --group tools-g --command-config {directory}/c.properties "
        "--date-format HH",
        setup=records,
        files={"c.properties": "client.id=me\n"},
        ignore=[*MEASURED, "^[0-9]{2}, [0-9]{2}", "(?m)[0-9]+$"],
    ),
    Scenario(
        "metrics",
        f"{RUN} --group tools-g --print-metrics",
        setup=records,
        ignore=[*MEASURED, r"(?s)Metric Name.*"],
        differs="our client has metrics of its own beside Kafka's, and no app-info",
    ),
]
