"""kafka-console-share-consumer."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-console-share-consumer"
CLASS = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"

TOOLS = "org.apache.kafka.tools.consumer"
SERIALIZATION = "org.apache.kafka.common.serialization"
READ = "--topic tools-a --group tools-g --timeout-ms 10000"
EVERYTHING = " ".join(
    f"--formatter-property print.{name}=true"
    for name in ("timestamp", "key", "offset", "epoch", "partition", "headers", "delivery")
)


def records(place: Place) -> None:
    """Records, and groups that begin with the first one."""
    import ottla
    from ottla.admin import ConfigResource, NewTopic

    place.admin.create_topics([NewTopic("tools-a", 1, configs={"retention.ms": -1})])
    for group in ("tools-g", "tools-h", "console-share-consumer"):
        place.admin.set_config(ConfigResource.group(group), {"share.auto.offset.reset": "earliest"})
    with ottla.Producer(place.bootstrap, acks="all") as producer:
        rows = [("one", "1", {"h": b"x"}), ("two", None, None), (None, "3", None), ("", "", None)]
        for value, key, headers in rows:
            producer.send("tools-a", value, key, headers=headers, timestamp_ms=1_700_000_000_000)


MISTAKES = [
    "--group g",
    Step("--topic tools-a", bare=True),
    "--topic tools-a --reject --release",
    "--topic tools-a --command-property x=y --consumer-property a=b",
    "--topic tools-a --command-config {directory}/c.properties --consumer-config {directory}/c.properties",
    "--topic tools-a --property a=b --formatter-property c=d",
    "--topic tools-a --group a --command-property group.id=b",
    "--topic tools-a --formatter nobody.Knows",
    "--topic tools-a --timeout-ms soon",
    "--topic tools-a --max-messages many",
    "--topic tools-a --nonsense",
    "--topic tools-a --formatter-config {directory}/nowhere.properties",
]

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario("mistakes", *MISTAKES, files={"c.properties": ""}, quick=True),
    Scenario("formats", f"{READ} --max-messages 4 {EVERYTHING}", setup=records, quick=True),
    Scenario(
        "again and again",
        f"{READ} --max-messages 4 --release --formatter-property print.delivery=true",
        f"{READ} --max-messages 4 --release --formatter-property print.delivery=true",
        Step(f"{READ} --max-messages 4 --reject --property print.delivery=true", settle_ms=2000),
        "--topic tools-a --group tools-g --timeout-ms 1000",
        setup=records,
    ),
    Scenario(
        "default group",
        "--topic tools-a --timeout-ms 10000 --max-messages 4 --enable-systest-events",
        "--topic tools-a --timeout-ms 1000",
        setup=records,
    ),
    Scenario(
        "settings",
        "--topic tools-a --timeout-ms 10000 --max-messages 4 --consumer-property group.id=tools-g",
        "--topic tools-a --timeout-ms 10000 --max-messages 4 --consumer-config {directory}/c.properties "
        "--formatter-config {directory}/f.properties",
        setup=records,
        files={"c.properties": "group.id=tools-h\nclient.id=me\n", "f.properties": "print.key=true\n"},
    ),
    Scenario(
        "settings by their new names",
        "--topic tools-a --timeout-ms 10000 --max-messages 4 --command-config {directory}/c.properties",
        "--topic tools-a --timeout-ms 10000 --max-messages 4 --command-property group.id=tools-g "
        f"--formatter {TOOLS}.NoOpMessageFormatter",
        setup=records,
        files={"c.properties": "group.id=tools-h\nclient.id=me\n"},
    ),
    Scenario(
        "records that cannot be written",
        f"{READ} --max-messages 4 --reject-message-on-error --value-deserializer {SERIALIZATION}.IntegerDeserializer "
        f"--formatter-property print.key=true --key-deserializer {SERIALIZATION}.StringDeserializer",
        "--topic tools-a --group tools-g --timeout-ms 1000",
        setup=records,
    ),
    Scenario(
        "a record that cannot be written",
        f"{READ} --max-messages 4 --value-deserializer {SERIALIZATION}.LongDeserializer",
        setup=records,
    ),
]
