"""kafka-configs."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-configs"
CLASS = "kafka.admin.ConfigCommand"


def topics(place: Place) -> None:
    from ottla.admin import NewTopic

    place.admin.create_topics(
        [NewTopic("tools-a", 1), NewTopic("tools-b", 1, configs={"retention.ms": 1000, "cleanup.policy": "compact"})]
    )


def wait(line: str) -> Step:
    """A description of what was changed just before."""
    return Step(line, settle_ms=150)


FILES = {"settings.properties": "retention.ms=7000\nsegment.bytes=2000000\n"}
SCENARIOS = [
    Scenario(
        "topics",
        "--describe --topic tools-a",
        "--describe --entity-type topics --entity-name tools-b",
        "--describe --topic tools-nobody",
        "--describe --topic a/b",
        "--alter --topic tools-a --add-config retention.ms=5000,cleanup.policy=[compact,delete]",
        wait("--describe --topic tools-a"),
        "--alter --topic tools-a --delete-config retention.ms,cleanup.policy",
        wait("--describe --topic tools-a"),
        "--alter --topic tools-a --add-config-file {directory}/settings.properties",
        wait("--describe --topic tools-a"),
        "--alter --topic tools-a --add-config segment.bytes=3000000 --delete-config retention.ms",
        wait("--describe --topic tools-a"),
        "--alter --topic tools-a --add-config retention.ms=soon",
        "--alter --topic tools-a --add-config nonsense=1",
        "--alter --topic tools-a --add-config retention.ms",
        "--alter --topic tools-a --add-config 'reten tion=1'",
        "--alter --topic tools-a --delete-config nonsense",
        "--alter --topic tools-nobody --add-config retention.ms=1",
        "--alter --topic tools-a --add-config-file {directory}/missing.properties",
        setup=topics,
        files=FILES,
        quick=True,
    ),
    Scenario("all settings of a topic", "--describe --topic tools-b --all", setup=topics),
    Scenario("all topics", "--describe --entity-type topics", setup=topics),
    Scenario(
        "brokers",
        "--alter --broker 1 --add-config log.cleaner.threads=2,log.retention.ms=7200000",
        wait("--describe --broker 1"),
        "--describe --entity-type brokers",
        "--alter --broker-defaults --add-config log.retention.ms=3600000",
        wait("--describe --broker-defaults"),
        "--describe --entity-type brokers --entity-default",
        "--alter --entity-type brokers --entity-default --delete-config log.retention.ms",
        "--alter --entity-type brokers --entity-name 1 --delete-config log.cleaner.threads,log.retention.ms",
        wait("--describe --broker 1"),
        "--describe --broker 7",
        "--describe --broker x",
        "--alter --broker 1 --add-config broker.id=3",
        "--alter --broker 1 --add-config log.cleaner.threads=many",
    ),
    Scenario("brokers' loggers", "--describe --broker-logger 7", "--describe --entity-type broker-loggers"),
    Scenario(
        "loggers of Apache Kafka",
        "--alter --broker-logger 1 --add-config kafka.server.KafkaApis=DEBUG",
        "--alter --broker-logger 1 --delete-config kafka.server.KafkaApis",
        "--alter --broker-logger 1 --add-config tools.nonsense=DEBUG",
        only="kafka",
    ),
    Scenario(
        "quotas",
        "--alter --user tools-u --add-config producer_byte_rate=1024,consumer_byte_rate=2048.5",
        wait("--describe --user tools-u"),
        "--alter --client tools-c --add-config request_percentage=1E9",
        "--alter --user tools-u --client tools-c --add-config producer_byte_rate=4096",
        "--alter --user tools-u --client-defaults --add-config producer_byte_rate=8192",
        "--alter --user-defaults --add-config producer_byte_rate=123456789012",
        "--alter --entity-type clients --entity-default --add-config producer_byte_rate=7",
        "--alter --ip 127.0.0.9 --add-config connection_creation_rate=50",
        "--alter --ip-defaults --add-config connection_creation_rate=500",
        wait("--describe --entity-type users"),
        "--describe --entity-type clients",
        "--describe --entity-type users --entity-type clients",
        "--describe --entity-type users --entity-name tools-u --entity-type clients",
        "--describe --entity-type users --entity-name tools-u --entity-type clients --entity-name tools-c",
        "--describe --entity-type ips",
        "--describe --ip 127.0.0.9",
        "--describe --ip-defaults",
        "--describe --client tools-c",
        "--describe --user-defaults",
        "--alter --user tools-u --delete-config producer_byte_rate,consumer_byte_rate",
        "--alter --user tools-u --delete-config producer_byte_rate",
        "--alter --user tools-u --add-config producer_byte_rate=fast",
        "--alter --user tools-u --add-config nonsense=1",
        "--alter --user tools-u --delete-config nonsense",
        "--alter --client tools-c --add-config SCRAM-SHA-256=[password=a]",
        "--alter --client tools-c --delete-config nonsense",
        "--alter --ip 127.0.0.9 --add-config producer_byte_rate=1",
        "--alter --ip not-an-address. --add-config connection_creation_rate=1",
    ),
    Scenario(
        "credentials",
        "--alter --user tools-u "
        "--add-config SCRAM-SHA-256=[iterations=8192,password=secret],SCRAM-SHA-512=[password=x]",
        wait("--describe --user tools-u"),
        "--describe --entity-type users",
        "--alter --user tools-u --delete-config SCRAM-SHA-512",
        wait("--describe --user tools-u"),
        "--alter --user tools-u --delete-config SCRAM-SHA-256",
        "--describe --user tools-nobody",
        "--alter --user tools-u --delete-config SCRAM-SHA-256",
        "--alter --user tools-u --add-config SCRAM-SHA-256=[iterations=1,password=x]",
        "--alter --user tools-u --add-config SCRAM-SHA-256=x",
        "--alter --user-defaults --add-config SCRAM-SHA-256=[password=x]",
        "--alter --user tools-u --add-config SCRAM-SHA-256=[password=x],producer_byte_rate=1",
    ),
    Scenario(
        "groups and client metrics",
        "--describe --group tools-g",
        "--alter --group tools-g --add-config consumer.session.timeout.ms=50000",
        wait("--describe --group tools-g"),
        "--alter --group tools-g --add-config consumer.session.timeout.ms=1",
        "--alter --group tools-g --add-config nonsense=1",
        "--alter --group tools-g --delete-config consumer.session.timeout.ms",
        "--describe --client-metrics tools-m",
        "--alter --client-metrics tools-m --add-config interval.ms=1000,metrics=[a,b],match=[client_id=c]",
        wait("--describe --client-metrics tools-m"),
        "--describe --entity-type client-metrics",
        "--alter --client-metrics tools-m --delete-config interval.ms,metrics,match",
        "--describe --client-metrics tools-m",
    ),
    Scenario(
        "usage",
        Step("", bare=True),
        Step("--help", bare=True),
        Step("--version", bare=True),
        Step("--describe --topic a", bare=True),
        Step("--describe --topic a --bootstrap-controller a:1 --bootstrap-server b:1", bare=True),
        "",
        "--nonsense",
        "--describe",
        "--describe --alter",
        "--describe --entity-type nonsense",
        "--describe --entity-type topics --entity-type topics",
        "--describe --entity-type topics --entity-type brokers",
        "--describe --entity-type topics --topic a",
        "--describe --entity-type topics --entity-default",
        "--describe --topic a --add-config b=c",
        "--alter --entity-type topics",
        "--alter --entity-type topics --add-config a=b",
        "--alter --entity-type users --add-config a=b",
        "--alter --topic a",
        "--alter --topic a --add-config a=b --add-config-file c",
        "--alter --entity-type brokers --entity-name x --add-config a=b",
        "--describe --topic a --command-config {directory}/missing.properties",
    ),
]
NOT_COMPARED: dict[str, str] = {}
