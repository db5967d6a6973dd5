"""kafka-get-offsets."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-get-offsets"
CLASS = "org.apache.kafka.tools.GetOffsetShell"


def records(place: Place) -> None:
    from ottla.admin import NewTopic

    place.admin.create_topics([NewTopic("tools-a", 12), NewTopic("tools-bb", 2)])
    for partition in range(3):
        values = ["1", "2", "3"][: partition + 1]
        place.produce("tools-a", values, partition=partition, timestamp_ms=1_700_000_000_000)
    place.produce("tools-bb", ["1", "2"])


SCENARIOS = [
    Scenario(
        "topics",
        "--topic tools-a",
        "--topic 'tools-.*' --exclude-internal-topics",
        "--topic 'tools-a,tools-bb' --partitions 0,1",
        "--topic tools-a --partitions 0,x",
        "--topic tools-a --partitions 77",
        "--topic tools-nobody",
        "--topic '['",
        setup=records,
        quick=True,
    ),
    Scenario(
        "rules",
        "--topic-partitions tools-a:1",
        "--topic-partitions tools-a:1-3,tools-bb",
        "--topic-partitions tools-a:10-",
        "--topic-partitions 'tools-.*:-1'",
        "--topic-partitions :1",
        "--topic-partitions tools-a:x",
        "--topic-partitions tools-a --topic tools-a",
        "--topic-partitions tools-a --partitions 1",
        setup=records,
    ),
    Scenario(
        "time",
        *(f"--topic tools-a --time {time}" for time in ("latest", "earliest", "-1", "-2", "-4", "earliest-local")),
        *(f"--topic tools-a --time {time}" for time in ("max-timestamp", "-3", "1700000000001", "99999999999999")),
        *(f"--topic tools-a --time {time}" for time in ("latest-tiered", "-5", "sometime")),
        setup=records,
    ),
    Scenario(
        "time not served",
        *(f"--topic tools-bb --time {time}" for time in ("earliest-pending-upload", "-6")),
        setup=records,
    ),
    Scenario(
        "usage",
        Step("", bare=True),
        Step("--help", bare=True),
        Step("--version", bare=True),
        Step("--topic a", bare=True),
        Step("--bootstrap-server nonsense", bare=True),
        "--nonsense",
        "--topic tools-a --command-config {directory}/missing.properties",
    ),
]
NOT_COMPARED: dict[str, str] = {}
