"""kafka-console-producer, with what it has written."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-console-producer"
CLASS = "org.apache.kafka.tools.ConsoleProducer"

LINES = "one\ntwo\n\ngrüße\nlast without an end"
KEYS = "k1\tv1\nk2\t\n\tv3\nk4\tv\t4\n"
HEADERS = "a:1,b:2\tk1\tv1\nc:\tk2\tv2\n:x\tk3\tNULL\nNULL\tNULL\tv4\na:NULL,a:2\tk5\tv:5\n"


def topic(place: Place) -> None:
    from ottla.admin import NewTopic

    place.admin.create_topics([NewTopic("tools-a", 1)])


def written(place: Place) -> str:
    """All records, with their headers and how they are compressed."""
    import ottla
    from ottla import TopicPartition

    partition = TopicPartition("tools-a", 0)
    with ottla.Consumer(place.bootstrap) as consumer:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        found = []
        while consumer.position(partition) < end:
            found += [(each.key, each.value, each.headers) for each in consumer.poll(timeout_s=5)]
    return "\n".join(map(repr, found))


def properties(*pairs: str) -> str:
    return "--topic tools-a " + " ".join(f"--reader-property '{pair}'" for pair in pairs)


PARSED = ("parse.key=true", "parse.headers=true", "null.marker=NULL")
MISTAKES = [
    Step("", "x\n"),
    Step("--topic tools-a", bare=True),
    Step("--topic tools-a --bootstrap-server ''", bare=True),
    Step("--topic tools-a --bootstrap-server host", bare=True),
    Step("--topic tools-a --bootstrap-server a:1,b", bare=True),
    "--topic tools-a --command-property a=b --producer-property c=d",
    "--topic tools-a --command-config x --producer.config y",
    "--topic tools-a --reader-property a=b --property c=d",
    "--topic tools-a --nonsense",
    "--topic tools-a --timeout",
    Step("--topic tools-a --timeout soon", "x\n"),
    Step("--topic tools-a --batch-size many", "x\n"),
    Step("--topic tools-a --line-reader nobody.Reads", "x\n"),
    Step("--topic tools-a --reader-config {directory}/nowhere.properties", "x\n"),
    Step("--topic tools-a --command-config {directory}/nowhere.properties", "x\n"),
    *(
        Step(properties(*pairs), "x\n")
        for pairs in (
            ("headers.delimiter=,",),
            ("headers.delimiter=:",),
            ("headers.separator=:",),
            ("null.marker=\t",),
            ("null.marker=,",),
            ("null.marker=:",),
            ("null.marker=|", "headers.delimiter=|"),
        )
    ),
]

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario("mistakes", *MISTAKES, setup=topic, quick=True),
    Scenario(
        "lines",
        Step("--topic tools-a", LINES),
        Step("--topic tools-a --sync", "sync\r\nreturn\rboth\r\n"),
        Step(properties("parse.key=true"), KEYS),
        Step(properties("parse.key=true", "key.separator= is "), "a is b\n"),
        Step(properties("parse.key=true", "key.separator=|", "null.marker=NULL"), "NULL|a\nb|NULL\n"),
        Step(properties(*PARSED), HEADERS),
        Step(
            properties(
                *PARSED, "headers.delimiter=/", "headers.separator=;", "headers.key.separator==", "key.separator=|"
            ),
            "a=1;b=2/k|v\n",
        ),
        Step(properties("parse.headers=true"), "a:1\tvalue\n"),
        Step(properties("parse.headers=TRUE ", "headers.separator=[;,]"), "a:1;b:2,c:3\tvalue\n"),
        setup=topic,
        result=written,
        quick=True,
    ),
    Scenario(
        "lines that cannot be read",
        Step(properties("parse.key=true"), "k\tv\nno key\n"),
        Step(properties("parse.headers=true"), "no headers\n"),
        Step(properties("parse.headers=true"), "a\tv\n"),
        Step(properties(*PARSED), "NULL:1\tk\tv\n"),
        Step(properties("parse.key=true", "ignore.error=true"), "no key\n"),
        Step(properties("parse.headers=true", "parse.key=true", "ignore.error=true"), "a\tb\tc\nonly\n"),
        setup=topic,
        result=written,
    ),
    Scenario(
        "files and old names",
        Step("--topic tools-a --reader-config {directory}/r.properties", "k|v\n"),
        Step("--topic tools-a --reader-config {directory}/r.properties --reader-property key.separator=+", "k+v|w\n"),
        Step("--topic tools-a --property parse.key=true", "k\tv\n"),
        Step("--topic tools-a --command-config {directory}/p.properties", "x\n"),
        Step("--topic tools-a --producer.config {directory}/p.properties", "x\n"),
        Step("--topic tools-a --command-property client.id=me --command-property acks=1", "x\n"),
        Step("--topic tools-a --producer-property linger.ms=1", "x\n"),
        Step("--topic tools-a --max-partition-memory-bytes 1000", "x\n"),
        setup=topic,
        result=written,
        files={"r.properties": "parse.key=true\nkey.separator=|\n", "p.properties": "client.id=me\nlinger.ms=3\n"},
    ),
    Scenario(
        "settings",
        *(
            Step(f"--topic tools-a {options}", "x\ny\n")
            for options in (
                "--compression-codec",
                "--compression-codec none",
                "--compression-codec snappy --batch-size 100",
                "--compression-codec=lz4 --timeout 5",
                "--compression-codec zstd --request-required-acks 1 --command-property enable.idempotence=false",
                "--message-send-max-retries 1 --retry-backoff-ms 10 --request-timeout-ms 9000",
                "--metadata-expiry-ms 1000 --max-block-ms 9000 --max-memory-bytes 100000 --socket-buffer-size 5000",
                "--line-reader org.apache.kafka.tools.LineMessageReader",
            )
        ),
        setup=topic,
        result=written,
    ),
    Scenario(
        "what producers refuse",
        *(
            Step(f"--topic tools-a {options}", "x\n")
            for options in (
                "--compression-codec zip",
                "--request-required-acks 7",
                "--batch-size -1",
                "--command-property linger.ms=soon",
            )
        ),
        differs="a producer's setting is refused in our client's own words",
    ),
    Scenario(
        "records that are too large",
        Step("--topic tools-a --command-property max.request.size=100", "x" * 200 + "\nok\n"),
        setup=topic,
        result=written,
    ),
    Scenario(
        "records that are too large, one by one",
        Step("--topic tools-a --sync --command-property max.request.size=100", "x" * 200 + "\nok\n"),
        setup=topic,
        result=written,
        differs="the error has our client's own words",
    ),
]
