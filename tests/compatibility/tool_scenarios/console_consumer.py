"""kafka-console-consumer."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-console-consumer"
CLASS = "org.apache.kafka.tools.consumer.ConsoleConsumer"

TOOLS = "org.apache.kafka.tools.consumer"
SERIALIZATION = "org.apache.kafka.common.serialization"
EVERYTHING = " ".join(
    f"--formatter-property print.{name}=true"
    for name in ("timestamp", "key", "offset", "epoch", "partition", "headers", "delivery")
)
READ = "--from-beginning --timeout-ms 10000 --topic tools-a"
HINT = "The consumer rebalance protocol .KIP-848. is production-ready!.*"


def records(place: Place) -> None:
    """Records with all that a record may have, with the same timestamps in every run."""
    import ottla
    from ottla.admin import NewTopic

    for_ever = {"retention.ms": -1}  # their timestamps are long ago
    place.admin.create_topics(
        [
            NewTopic("tools-a", 1, configs=for_ever),
            NewTopic("tools-b", 2, configs=for_ever),
            NewTopic("tools-numbers", 1),
        ]
    )
    with ottla.Producer(place.bootstrap, acks="all") as producer:
        rows = [
            ("plain", None, None),
            ("with key", "key", None),
            ("", "", {"empty": b""}),
            (None, "no value", {"a": b"1", "b": None, "ü": "grüße".encode()}),
            ("tab\tline\nfeed", "k\x00", None),
        ]
        for number, (value, key, headers) in enumerate(rows):
            producer.send("tools-a", value, key, headers=headers, timestamp_ms=1_700_000_000_000 + number)
        producer.send("tools-a", b"\xff\xfe", b"\\\x01", timestamp_ms=1_700_000_000_009)
        for number in range(4):
            producer.send("tools-b", f"b{number}", partition=number % 2, timestamp_ms=1_700_000_000_000)
        numbers = [b"\0\0\0\x2a", b"\xff\xff\xff\xff", b"\0\0\0\0\0\0\x01\0", b"@\t!\xfbTD-\x18", b"\x01", b"\0\x07"]
        for data in numbers:
            producer.send("tools-numbers", data, data)


def transactions(place: Place) -> None:
    """Two transactions, one of them aborted."""
    import ottla
    from ottla.admin import NewTopic

    place.admin.create_topics([NewTopic("tools-a", 1)])
    with ottla.Producer(place.bootstrap, transactional_id="tools-x") as producer:
        producer.begin_transaction()
        producer.send("tools-a", "aborted")
        producer.flush()
        producer.abort_transaction()
        producer.begin_transaction()
        producer.send("tools-a", "committed")
        producer.commit_transaction()


def committed(place: Place) -> None:
    """A group that has committed in the middle of a topic."""
    import ottla
    from ottla import TopicPartition

    records(place)
    with ottla.Consumer(place.bootstrap, group_id="tools-g", enable_auto_commit=False) as consumer:
        consumer.assign([TopicPartition("tools-a", 0)])
        consumer.commit({TopicPartition("tools-a", 0): 4})


def internal_records(place: Place) -> None:
    """Every record type of the internal topics, in every version, in topics that do not change while they are read."""
    import ottla
    from ottla.admin import NewTopic
    from ottla.cli.kafka import record_json
    from tests.cli.kafka.samples import coordinator_records

    topics = {
        "tools-offsets": record_json.CONSUMER_OFFSETS,
        "tools-transactions": record_json.TRANSACTION_STATE,
        "tools-share": record_json.SHARE_GROUP_STATE,
    }
    place.admin.create_topics([NewTopic(name, 1) for name in (*topics, "tools-broken")])
    with ottla.Producer(place.bootstrap, acks="all") as producer:
        for name, topic in topics.items():
            for key, value in coordinator_records(topic):
                producer.send(name, value, key)
            producer.send(name, b"value", b"\x7f\x00unknown")
            producer.send(name, b"value")
        producer.send("tools-broken", b"\x00\x7f", b"\0\1\0\1g\0\1t\0\0\0\0")
        producer.send("tools-broken", b"", b"\0")


def deserialized(kind: str, first: int = 0, count: int = 1) -> str:
    """Numbers read as one type."""
    return (
        f"--topic tools-numbers --partition 0 --offset {first} --max-messages {count} --timeout-ms 10000 "
        f"--value-deserializer {SERIALIZATION}.{kind}Deserializer"
    )


MISTAKES = [
    "--from-beginning",
    "--topic tools-a --include tools-a",
    "--topic tools-a --offset 3",
    "--partition 0 --include x",
    "--topic tools-a --partition 0 --offset 1 --from-beginning",
    "--topic tools-a --partition 0 --offset -3",
    "--topic tools-a --partition 0 --offset soon",
    "--topic tools-a --partition x",
    "--topic tools-a --partition 0 --group g",
    "--topic tools-a --group g --command-property group.id=h",
    "--topic tools-a --from-beginning --command-property auto.offset.reset=latest",
    "--topic tools-a --command-property x=y --consumer-property a=b",
    "--topic tools-a --command-config {directory}/c.properties --consumer.config {directory}/c.properties",
    "--topic tools-a --property a=b --formatter-property c=d",
    "--topic tools-a --formatter nobody.Knows",
    "--topic tools-a --formatter-config {directory}/nowhere.properties",
    "--topic tools-a --timeout-ms soon",
    "--topic tools-a --max-messages many",
    "--topic",
    "--nonsense",
    "--topic tools-a --nonsense",
]

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario("mistakes", *MISTAKES, Step("--topic tools-a", bare=True), files={"c.properties": ""}, quick=True),
    Scenario(
        "formats",
        f"{READ} --max-messages 6",
        f"{READ} --max-messages 6 {EVERYTHING}",
        f"{READ} --max-messages 5 --formatter-property print.key=true --formatter-property key.separator==> "
        "--formatter-property line.separator=; --formatter-property null.literal=NONE",
        f"{READ} --max-messages 5 --formatter-property print.headers=true --formatter-property headers.separator=+ "
        "--formatter-property print.value=false",
        f"{READ} --max-messages 2 --formatter-property print.value=false --formatter-property print.offset=TRUE",
        f"{READ} --max-messages 2 --formatter-property print.value=false",
        f"{READ} --max-messages 3 --property print.key=true",
        f"{READ} --max-messages 2 --formatter-config {{directory}}/f.properties",
        f"{READ} --max-messages 2 --formatter-config {{directory}}/f.properties --formatter-property print.key=false",
        f"{READ} --max-messages 2 --formatter {TOOLS}.DefaultMessageFormatter",
        f"{READ} --max-messages 2 --formatter {TOOLS}.LoggingMessageFormatter --formatter-property print.key=true",
        f"{READ} --max-messages 2 --formatter {TOOLS}.NoOpMessageFormatter",
        f"{READ} --max-messages 2 --formatter {TOOLS}.TransactionLogMessageFormatter",
        setup=records,
        files={"f.properties": "print.key=true\nkey.separator=\\u0020is\\u0020\n"},
        quick=True,
    ),
    Scenario(
        "deserializers",
        deserialized("Integer", 0, 2),
        deserialized("Long", 2),
        deserialized("Double", 3),
        deserialized("Double", 2),
        deserialized("Float", 0, 2),
        deserialized("Boolean", 4),
        deserialized("Short", 5),
        deserialized("Bytes", 0, 6),
        deserialized("ByteBuffer", 0, 2),
        deserialized("String", 0, 6),
        deserialized("Long", 0),
        deserialized("Boolean", 0),
        deserialized("Short", 0),
        deserialized("Float", 2),
        deserialized("UUID", 0),
        deserialized("Void", 0),
        deserialized("Nobody", 0),
        deserialized("Integer", 0, 6),
        deserialized("Integer", 0, 6) + " --skip-message-on-error",
        f"{READ} --max-messages 3 --key-deserializer {SERIALIZATION}.BytesDeserializer "
        "--formatter-property print.key=true",
        f"{READ} --max-messages 1 --formatter-property key.deserializer={SERIALIZATION}.IntegerDeserializer "
        "--formatter-property print.key=true",
        f"{READ} --max-messages 4 --formatter-property headers.deserializer={SERIALIZATION}.BytesDeserializer "
        "--formatter-property print.headers=true",
        f"{READ} --max-messages 2 --formatter-property value.deserializer={SERIALIZATION}.StringDeserializer "
        "--formatter-property value.deserializer.deserializer.encoding=UTF-16BE",
        f"{READ} --max-messages 2 --formatter-property value.deserializer={SERIALIZATION}.StringDeserializer "
        "--formatter-property value.deserializer.deserializer.encoding=KLINGON",
        setup=records,
        quick=True,
    ),
    Scenario(
        "places",
        "--topic tools-a --partition 0 --from-beginning --max-messages 2 --timeout-ms 10000",
        "--topic tools-a --partition 0 --offset earliest --max-messages 2 --timeout-ms 10000",
        "--topic tools-a --partition 0 --offset 3 --max-messages 2 --timeout-ms 10000",
        "--topic tools-a --partition 0 --offset +5 --max-messages 2 --timeout-ms 700",
        "--topic tools-a --partition 0 --offset LATEST --timeout-ms 700",
        "--topic tools-a --partition 0 --timeout-ms 700",
        "--topic tools-b --partition 1 --from-beginning --timeout-ms 700 --formatter-property print.partition=true",
        "--topic tools-a --timeout-ms 700",
        "--topic tools-a --from-beginning --max-messages 0",
        "--include 'tools-[b-c]' --from-beginning --max-messages 4 --timeout-ms 10000",
        setup=records,
        unordered=True,
    ),
    Scenario(
        "groups",
        "--topic tools-a --group tools-g --max-messages 1 --timeout-ms 10000",
        "--topic tools-a --group tools-g --max-messages 1 --timeout-ms 10000",
        "--topic tools-a --group tools-g --timeout-ms 1500",
        "--topic tools-a --group tools-h --from-beginning --max-messages 2 --timeout-ms 10000",
        "--topic tools-a --command-property group.id=tools-h --max-messages 2 --timeout-ms 10000",
        "--topic tools-a --group tools-i --from-beginning --max-messages 1 --timeout-ms 10000 "
        "--command-property group.protocol=consumer",
        setup=committed,
    ),
    Scenario(
        "settings",
        f"{READ} --max-messages 1 --consumer-property client.id=me",
        f"{READ} --max-messages 1 --consumer.config {{directory}}/c.properties",
        f"{READ} --max-messages 1 --command-config {{directory}}/c.properties",
        "--topic tools-a --max-messages 1 --timeout-ms 10000 --command-property auto.offset.reset=earliest",
        "--topic tools-a --max-messages 1 --timeout-ms 10000 --command-config {directory}/c.properties",
        f"{READ} --max-messages 1 --enable-systest-events",
        f"{READ} --max-messages 1 --command-property group.id=tools-j",
        setup=records,
        files={"c.properties": "client.id=console\nauto.offset.reset=earliest\n"},
    ),
    Scenario(
        "isolation",
        f"{READ} --max-messages 2",
        f"{READ} --max-messages 1 --isolation-level read_committed",
        f"{READ} --max-messages 1 --command-property isolation.level=read_committed",
        f"{READ} --max-messages 1 --isolation-level read_uncommitted --command-property isolation.level=read_committed",
        setup=transactions,
    ),
    Scenario(
        "internal records",
        *(
            f"--topic tools-{topic} --partition 0 --offset earliest --timeout-ms 1000 --formatter {TOOLS}.{formatter}"
            for topic, formatter in (
                ("offsets", "OffsetsMessageFormatter"),
                ("offsets", "GroupMetadataMessageFormatter"),
                ("offsets", "ShareGroupMessageFormatter"),
                ("transactions", "TransactionLogMessageFormatter"),
                ("share", "group.share.ShareGroupStateMessageFormatter"),
            )
        ),
        f"--topic tools-broken --partition 0 --offset 0 --timeout-ms 1000 --formatter {TOOLS}.OffsetsMessageFormatter",
        f"--topic tools-broken --partition 0 --offset 1 --timeout-ms 1000 --formatter {TOOLS}.OffsetsMessageFormatter",
        setup=internal_records,
    ),
    Scenario(
        "internal topics",
        *(
            f"--topic {topic} --from-beginning --timeout-ms 1500 --formatter {TOOLS}.{formatter}MessageFormatter"
            for topic, formatter in (("__consumer_offsets", "Offsets"), ("__transaction_state", "TransactionLog"))
        ),
        # What is in these topics grows while it is looked at.
        ignore=[r"\{\"key\".*", "total of [0-9]* messages"],
    ),
]
