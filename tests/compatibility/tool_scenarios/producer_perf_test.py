"""kafka-producer-perf-test. What is measured differs from run to run; all else is the same."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-producer-perf-test"
CLASS = "org.apache.kafka.tools.ProducerPerformance"

NUMBERS = [r"(?<=sent, )[0-9.]+(?= records/sec)", r"[0-9.]+ MB/sec", r"[0-9.]+ ms"]
RUN = "--topic tools-a --num-records 20 --throughput -1"


def topic(place: Place) -> None:
    from ottla.admin import NewTopic

    place.admin.create_topics([NewTopic("tools-a", 1)])


def count(place: Place) -> str:
    """How many records there are, markers of transactions left out, and how long the first ones are."""
    import ottla
    from ottla import TopicPartition

    partition = TopicPartition("tools-a", 0)
    with ottla.Consumer(place.bootstrap) as consumer:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        found = []
        while records := consumer.poll(timeout_s=1):
            found += [len(record.value or b"") for record in records]
    return f"{len(found)} records of {sorted(set(found))} bytes"


SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True)),
    Scenario(
        "mistakes",
        RUN,
        "--topic tools-a --num-records 0 --throughput -1 --record-size 1",
        "--topic tools-a --num-records x --throughput -1 --record-size 1",
        "--topic tools-a --num-records 5 --throughput x --record-size 1",
        f"{RUN} --record-size 0",
        f"{RUN} --record-size 1 --payload-monotonic",
        f"{RUN} --record-size 1 --warmup-records 20",
        f"{RUN} --record-size 1 --reporting-interval 0",
        f"{RUN} --record-size 1 --transaction-duration-ms 0",
        f"{RUN} --record-size 1 --command-property a=b --producer-props c=d",
        f"{RUN} --record-size 1 --command-config a --producer.config b",
        Step(f"{RUN} --record-size 1", bare=True),
        f"{RUN} --nonsense",
    ),
    Scenario(
        "sends",
        f"{RUN} --record-size 100",
        f"{RUN} --record-size 100 --warmup-records 5",
        f"{RUN} --payload-monotonic --command-property acks=1 linger.ms=0",
        f"{RUN} --payload-file {{directory}}/payloads.txt --producer-props client.id=me",
        f"{RUN} --payload-file {{directory}}/payloads.txt --payload-delimiter ;",
        f"{RUN} --record-size 7 --command-config {{directory}}/p.properties --reporting-interval 1000",
        f"{RUN} --record-size 7 --producer.config {{directory}}/p.properties",
        setup=topic,
        result=count,
        files={"payloads.txt": "a;b\nbb;ccc\n", "p.properties": "linger.ms=1\n"},
        ignore=NUMBERS,
    ),
    Scenario(
        "transactions",
        f"{RUN} --record-size 100 --transactional-id tools-x",
        f"{RUN} --record-size 100 --transaction-duration-ms 1",
        f"{RUN} --record-size 100 --command-property transactional.id=tools-y",
        setup=topic,
        result=count,
        ignore=NUMBERS,
    ),
    Scenario(
        "metrics",
        f"{RUN} --record-size 100 --print-metrics",
        setup=topic,
        ignore=[*NUMBERS, r"(?s)Metric Name.*"],
        differs="our client has metrics of its own beside Kafka's, and no app-info",
    ),
]
