"""kafka-leader-election."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-leader-election"
CLASS = "org.apache.kafka.tools.LeaderElectionCommand"


def topics(place: Place) -> None:
    from ottla.admin import NewTopic

    place.admin.create_topics([NewTopic("tools-a", 3), NewTopic("tools-bb", 3)])


PARTITIONS = ",".join(
    f'{{"topic": "{topic}", "partition": {partition}}}' for topic in ("tools-a", "tools-bb") for partition in range(3)
)
FILES = {
    "all.json": f'{{"partitions": [{PARTITIONS}]}}',
    "unknown.json": '{"partitions": [{"topic": "tools-a", "partition": 0}, {"topic": "tools-x", "partition": 0}]}',
    "twice.json": '{"partitions": [{"topic": "tools-a", "partition": 0}, {"topic": "tools-a", "partition": 0}]}',
    "none.json": "{}",
    "empty.json": "",
    "client.properties": "client.id=tools\n",
}
SCENARIOS = [
    Scenario(
        "elect",
        "--election-type preferred --topic tools-a --partition 0",
        "--election-type unclean --topic tools-a --partition 0",
        "--election-type PREFERRED --topic tools-a --partition 77",
        "--election-type preferred --topic tools-nobody --partition 0",
        "--election-type preferred --all-topic-partitions",
        "--election-type unclean --all-topic-partitions",
        "--election-type preferred --path-to-json-file {directory}/all.json",
        "--election-type preferred --path-to-json-file {directory}/unknown.json",
        setup=topics,
        files=FILES,
        quick=True,
    ),
    Scenario(
        "wrong",
        "--election-type sometimes --all-topic-partitions",
        "--election-type preferred",
        "--election-type preferred --topic tools-a",
        "--election-type preferred --partition 0 --all-topic-partitions",
        "--election-type preferred --topic a --partition 0 --all-topic-partitions",
        "--election-type preferred --topic a --partition x",
        "--all-topic-partitions",
        "--election-type preferred --path-to-json-file {directory}/twice.json",
        "--election-type preferred --path-to-json-file {directory}/none.json",
        "--election-type preferred --path-to-json-file {directory}/empty.json",
        "--election-type preferred --all-topic-partitions --admin.config {directory}/client.properties",
        "--election-type preferred --all-topic-partitions --admin.config {directory}/x --command-config y",
        "--election-type preferred --all-topic-partitions --command-config {directory}/missing.properties",
        Step("--election-type preferred --all-topic-partitions", bare=True),
        Step("--all-topic-partitions", bare=True),
        files=FILES,
    ),
    Scenario("usage", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), "--nonsense"),
]
NOT_COMPARED: dict[str, str] = {}
