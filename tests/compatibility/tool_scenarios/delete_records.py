"""kafka-delete-records."""

from __future__ import annotations

import json

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-delete-records"
CLASS = "org.apache.kafka.tools.DeleteRecordsCommand"


def records(place: Place) -> None:
    from ottla.admin import NewTopic

    place.admin.create_topics([NewTopic("tools-a", 3), NewTopic("tools-bb", 3)])
    for topic in ("tools-a", "tools-bb"):
        for partition in range(3):
            place.produce(topic, ["1", "2", "3"], partition=partition)


def offsets(*entries: tuple[str, int, int], version: object = 1) -> str:
    partitions = [{"topic": topic, "partition": partition, "offset": offset} for topic, partition, offset in entries]
    return json.dumps({"partitions": partitions, "version": version})


EVERYTHING = [(topic, partition, partition + 1) for topic in ("tools-a", "tools-bb") for partition in range(3)]
FILES = {
    "one.json": offsets(("tools-a", 1, 2)),
    "all.json": offsets(*EVERYTHING),
    "beyond.json": offsets(("tools-a", 1, 2), ("tools-bb", 0, 100)),
    "highest.json": offsets(("tools-a", 0, -1)),
    "twice.json": offsets(("tools-a", 1, 2), ("tools-a", 1, 3)),
    "version.json": offsets(version=2),
    "words.json": offsets(version="one"),
    "empty.json": "",
    "none.json": "{}",
    "list.json": "[1]",
    "field.json": '{"partitions": [{"topic": "tools-a", "partition": 1}]}',
    "types.json": '{"partitions": [{"topic": "tools-a", "partition": "1", "offset": 1}]}',
    "array.json": '{"partitions": {"topic": "tools-a"}}',
}
SCENARIOS = [
    Scenario(
        "delete",
        *(f"--offset-json-file {{directory}}/{name}.json" for name in ("one", "beyond", "all", "highest")),
        setup=records,
        files=FILES,
        unordered=True,  # Java's order differs from run to run
        quick=True,
    ),
    Scenario(
        "wrong files",
        *(f"--offset-json-file {{directory}}/{name}.json" for name in ("twice", "version", "words", "empty")),
        *(f"--offset-json-file {{directory}}/{name}.json" for name in ("none", "list", "field", "types", "array")),
        "--offset-json-file {directory}/missing.json",
        setup=records,
        files=FILES,
    ),
    Scenario(
        "usage",
        Step("", bare=True),
        Step("--help", bare=True),
        Step("--version", bare=True),
        "",
        "--offset-json-file x --command-config {directory}/missing.properties",
        "--nonsense",
    ),
]
NOT_COMPARED: dict[str, str] = {}
