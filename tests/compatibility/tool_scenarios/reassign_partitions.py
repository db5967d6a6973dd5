"""kafka-reassign-partitions."""

from __future__ import annotations

import json

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-reassign-partitions"
CLASS = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"


def topics(place: Place) -> dict[str, str]:
    """Two topics, and where the broker has its data."""
    from ottla.admin import NewTopic

    place.admin.create_topics([NewTopic("tools-a", 3), NewTopic("tools-b", 1)])
    node = place.admin.describe_cluster().nodes[0].id
    directory = next(iter(place.admin.describe_log_dirs()[node]))
    move = {"topic": "tools-b", "partition": 0, "replicas": [node], "log_dirs": [directory]}
    (place.directory / "move.json").write_text(json.dumps({"version": 1, "partitions": [move]}))
    move["log_dirs"] = ["/nowhere"]
    (place.directory / "nowhere.json").write_text(json.dumps({"version": 1, "partitions": [move]}))
    return {"node": str(node)}


def plan(*partitions: dict[str, object], version: int = 1) -> str:
    """A plan as a file."""
    return json.dumps({"version": version, "partitions": partitions})


A0 = {"topic": "tools-a", "partition": 0, "replicas": [1]}
FILES = {
    "same.json": plan(A0, {**A0, "partition": 1}),
    "other.json": plan({**A0, "replicas": [2]}),
    "more.json": plan({**A0, "replicas": [1, 2]}),
    "nobody.json": plan({**A0, "topic": "tools-nobody"}),
    "partition.json": plan({**A0, "partition": 9}),
    "next-partition.json": plan({**A0, "partition": 3}),
    "empty.json": plan(),
    "no-replicas.json": plan({**A0, "replicas": []}),
    "twice.json": plan(A0, A0),
    "twice-replicas.json": plan({**A0, "replicas": [1, 1]}),
    "dirs.json": plan({**A0, "log_dirs": ["any", "any"]}),
    "any.json": plan({**A0, "log_dirs": ["any"]}),
    "version.json": plan(A0, version=7),
    "no-topic.json": json.dumps({"partitions": [{"partition": 0, "replicas": [1]}]}),
    "wrong-type.json": plan({**A0, "partition": "zero"}),
    "list.json": "[]",
    "text.json": "nonsense",
    "topics.json": json.dumps({"version": 1, "topics": [{"topic": "tools-a"}, {"topic": "tools-b"}]}),
    "topics-nobody.json": json.dumps({"topics": [{"topic": "tools-nobody"}]}),
    "topics-twice.json": json.dumps({"topics": [{"topic": "tools-a"}, {"topic": "tools-a"}]}),
    "topics-version.json": json.dumps({"version": 2, "topics": []}),
}
PLAN = "--reassignment-json-file {directory}/"
TOPICS = "--topics-to-move-json-file {directory}/"
DATA = [r'(?<="log_dirs":\[")[^"]*', r"(?<=log directory to )\S+"]

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario(
        "mistakes",
        "",
        "--nonsense",
        Step("--list", bare=True),
        "--list --verify",
        "--list --bootstrap-controller {bootstrap}",
        "--verify",
        "--execute",
        "--cancel",
        "--generate",
        f"--generate {TOPICS}topics.json",
        f"--list --throttle 5 {PLAN}same.json",
        f"--verify --throttle 5 {PLAN}same.json",
        f"--generate --additional {TOPICS}topics.json --broker-list 1",
        f"--execute --preserve-throttles {PLAN}same.json",
        f"--verify {PLAN}missing.json",
        f"--execute --throttle x {PLAN}same.json",
        setup=topics,
        files=FILES,
        quick=True,
    ),
    Scenario(
        "list",
        "--list",
        Step("--list --bootstrap-server {bootstrap}", bare=True),
        "--list --command-config {directory}/client.properties",
        "--list --command-config {directory}/nobody.properties",
        setup=topics,
        files={"client.properties": "client.id=tools\n"},
        quick=True,
    ),
    Scenario(
        "verify",
        *(
            f"--verify {PLAN}{name}.json"
            for name in ("same", "nobody", "partition", "next-partition", "any", "move", "nowhere", "empty")
        ),
        f"--verify {PLAN}same.json --preserve-throttles",
        setup=topics,
        files=FILES,
        ignore=DATA + [r"log dir \S+ to"],
        quick=True,
    ),
    Scenario(
        "verify with a broker that is not there",
        f"--verify {PLAN}other.json --command-config {{directory}}/quick.properties",
        setup=topics,
        files=FILES | {"quick.properties": "default.api.timeout.ms=2000\nrequest.timeout.ms=1000\n"},
        differs="a broker that is not there is told of at once; Kafka's tool waits for it for a minute",
    ),
    Scenario(
        "plans that cannot be read",
        *(
            f"--execute {PLAN}{name}.json"
            for name in ("empty", "no-replicas", "twice", "twice-replicas", "dirs", "version", "no-topic", "wrong-type")
        ),
        f"--execute {PLAN}list.json",
        f"--execute {PLAN}text.json",
        setup=topics,
        files=FILES,
        ignore=[r"Unrecognized token [^\n]*(\n at \[[^\n]*)?"],
    ),
    Scenario(
        "generate",
        f"--generate {TOPICS}topics.json --broker-list 1",
        f"--generate {TOPICS}topics.json --broker-list 1 --disable-rack-aware",
        f"--generate {TOPICS}topics.json --broker-list 5",
        f"--generate {TOPICS}topics.json --broker-list 1,1",
        f"--generate {TOPICS}topics.json --broker-list one",
        f"--generate {TOPICS}topics-nobody.json --broker-list 1",
        f"--generate {TOPICS}topics-twice.json --broker-list 1",
        f"--generate {TOPICS}topics-version.json --broker-list 1",
        f"--generate {TOPICS}text.json --broker-list 1",
        setup=topics,
        files=FILES,
        ignore=DATA,
    ),
    Scenario(
        "execute",
        f"--execute {PLAN}same.json",
        f"--execute {PLAN}any.json",
        f"--execute {PLAN}move.json",
        f"--execute {PLAN}nowhere.json --timeout 500",
        f"--execute {PLAN}other.json",
        f"--execute {PLAN}more.json",
        f"--execute {PLAN}nobody.json",
        f"--execute {PLAN}partition.json",
        f"--execute {PLAN}same.json --additional",
        f"--execute {PLAN}same.json --disallow-replication-factor-change",
        f"--execute {PLAN}same.json --throttle 5000",
        f"--execute {PLAN}move.json --replica-alter-log-dirs-throttle 5000",
        Step(f"--verify {PLAN}same.json", settle_ms=300),
        setup=topics,
        files=FILES,
        ignore=DATA,
    ),
    Scenario(
        "cancel",
        f"--cancel {PLAN}same.json",
        f"--cancel {PLAN}move.json",
        f"--cancel {PLAN}same.json --preserve-throttles",
        f"--cancel {PLAN}same.json --timeout 100",
        f"--cancel {PLAN}empty.json",
        setup=topics,
        files=FILES,
    ),
]
