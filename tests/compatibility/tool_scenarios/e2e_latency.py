"""kafka-e2e-latency."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario, Step
from tests.compatibility.tool_scenarios.producer_perf_test import count, topic

TOOL = "kafka-e2e-latency"
CLASS = "org.apache.kafka.tools.EndToEndLatency"

MEASURED = [r"(?m)(?<=\t)[0-9.]+", r"(?<=latency: )[0-9.]+", r"(?<== )[0-9]+"]
RUN = "--topic tools-a --num-records 3 --producer-acks all --record-size 10"

SCENARIOS = [
    Scenario(
        "help",
        *(Step(line, bare=True) for line in ("", "--help", "--bootstrap-server", "a b", "a b c d")),
        "--topic tools-a",
        "--topic tools-a --num-records 1 --record-size 1",
        "--topic tools-a --num-records 1 --record-size 1 --producer-acks 0",
        "--topic tools-a --num-records 0 --record-size 1 --producer-acks 1",
        "--topic tools-a --num-records 1 --record-size -1 --producer-acks 1",
        f"{RUN} --record-key-size -1",
        f"{RUN} --record-header-size -2",
        f"{RUN} --record-header-key-size -1",
        f"{RUN} --num-headers -1",
        f"{RUN} --nonsense",
        f"{RUN} --command-config {{directory}}/nowhere.properties",
    ),
    Scenario(
        "measures",
        RUN,
        f"{RUN} --record-key-size 5 --num-headers 2 --record-header-key-size 3 --record-header-size 4",
        f"{RUN} --num-headers 1 --record-header-size -1 --command-config {{directory}}/c.properties",
        Step("{bootstrap} tools-a 2 1 10", bare=True),
        Step("{bootstrap} tools-a 2 1 10 {directory}/c.properties", bare=True),
        setup=topic,
        result=count,
        files={"c.properties": "client.id=me\n"},
        ignore=MEASURED,
    ),
    Scenario("makes its topic", RUN, result=count, ignore=MEASURED),
]
