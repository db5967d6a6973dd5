"""kafka-topics."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-topics"
CLASS = "org.apache.kafka.tools.TopicCommand"

NAMES = ("tools-a", "tools-b", "tools-c.d", "tools-ee", "tools-f_f", "tools-1", "tools-22", "tools-333")


def topics(place: Place) -> None:
    """Some topics, half of them with settings of their own."""
    from ottla.admin import NewTopic

    place.admin.create_topics(
        NewTopic(name, 1 + number, configs={"retention.ms": 1000} if number % 2 else None)
        for number, name in enumerate(NAMES)
    )


def one_topic(place: Place) -> dict[str, str]:
    """A topic, and its id."""
    from ottla.admin import NewTopic

    created = place.admin.create_topics(NewTopic("tools-a", 3, configs={"max.message.bytes": 5000}))
    return {"id": str(created["tools-a"].topic_id)}


SCENARIOS = [
    Scenario(
        "create, describe, delete",
        "--create --topic tools-a --partitions 2 --replication-factor 1 --config retention.ms=60000",
        "--list",
        "--describe --topic tools-a",
        "--delete --topic tools-a",
        quick=True,
    ),
    Scenario("help", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario(
        "create",
        "--create --topic tools-a",
        "--create --topic tools-a",
        "--create --topic tools-a --if-not-exists",
        "--create --topic tools-b.c_d",
        "--create --topic tools/b",
        "--create --topic tools-c --partitions 0",
        "--create --topic tools-c --partitions two",
        "--create --topic tools-c --replication-factor 0",
        "--create --topic tools-c --replication-factor 40000",
        "--create --topic tools-c --replication-factor 3",
        "--create --topic tools-c --config nonsense=1",
        "--create --topic tools-c --config nonsense",
        "--create --topic tools-c --config retention.ms=soon",
        "--create --topic tools-c --config cleanup.policy=sometimes",
        "--create --topic tools-c --config cleanup.policy=compact,delete --config segment.ms=100000",
        "--create --topic tools-d --replica-assignment 1,1",
        "--create --topic tools-e --replica-assignment 1:1",
        "--create --topic tools-e --replica-assignment 1:2,1",
        "--create --topic tools-e --replica-assignment 1,x",
        "--create --topic tools-e --replica-assignment 1 --partitions 2",
        "--create",
        "--describe",
        quick=True,
    ),
    Scenario(
        "describe",
        "--describe --exclude-internal",
        "--describe --topic tools-a",
        "--describe --topic 'tools-.*'",
        "--describe --topic 'tools-a,tools-b'",
        "--describe --topic tools-nobody",
        "--describe --topic tools-nobody --if-exists",
        "--describe --if-exists",
        "--describe --topic '['",
        "--describe --topics-with-overrides",
        "--describe --under-replicated-partitions",
        "--describe --unavailable-partitions",
        "--describe --under-min-isr-partitions",
        "--describe --at-min-isr-partitions --topic tools-b",
        "--describe --at-min-isr-partitions --topics-with-overrides",
        "--describe --partition-size-limit-per-response 2 --topic tools-333",
        "--describe --topic tools-b --topic tools-a",
        setup=topics,
    ),
    Scenario(
        "describe by id",
        "--describe --topic-id {id}",
        "--describe --topic-id {id} --topic tools-a --if-exists",
        "--describe --topic-id AAAAAAAAAAAAAAAAAAAAAA --topic tools-a",
        "--describe --topic-id AAAAAAAAAAAAAAAAAAABAA",
        "--describe --topic-id AAAAAAAAAAAAAAAAAAABAA --if-exists",
        "--describe --topic-id AAAA",
        "--describe --topic-id AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        setup=one_topic,
    ),
    Scenario("list", "--list", "--list --topic 'tools-[0-9]+'", "--list --exclude-internal", "--list x", setup=topics),
    Scenario(
        "alter",
        "--alter --topic tools-a --partitions 4",
        Step("--describe --topic tools-a", settle_ms=100),
        "--alter --topic tools-a --partitions 2",
        "--alter --topic tools-a --partitions 4",
        "--alter --topic tools-a --partitions 5 --replica-assignment 1,1,1,1,1",
        "--alter --topic tools-a",
        "--alter --topic tools-nobody --partitions 4",
        "--alter --topic tools-nobody --partitions 4 --if-exists",
        "--alter --topic tools-a --partitions 6 --config retention.ms=1",
        "--alter --topic tools-a --partitions 6 --delete-config retention.ms",
        "--alter --topic tools-a --partitions 7 --replication-factor 1",
        setup=one_topic,
        # A set without an order of its own, in Kafka's tool too.
        ignore=(r'combination "\[.*\]\]"',),
    ),
    Scenario(
        "delete",
        "--delete --topic tools-nobody",
        "--delete --topic tools-nobody --if-exists",
        "--delete",
        "--delete --topic tools-a --partitions 1",
        "--delete --topic 'tools-.*'",
        Step("--list", settle_ms=100),
        setup=topics,
    ),
    Scenario(
        "usage",
        "--list --describe",
        Step("--list", bare=True),
        "--list --nonsense",
        "--list --topic",
        "-list",
        "--list --if-not-exists",
        "--list --if-exists",
        "--list --config a=b",
        "--create --topic a --exclude-internal",
        "--create --topic a --under-replicated-partitions",
        "--list --command-config {directory}/client.properties",
        "--list --command-config {directory}/nothing.properties",
        Step("--list --bootstrap-server nonsense", bare=True),
        files={"client.properties": "client.id=tools\nrequest.timeout.ms=20000\n"},
    ),
]
NOT_COMPARED: dict[str, str] = {}
