"""kafka-streams-application-reset."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step
from tests.compatibility.tool_scenarios.group_setups import close_members, consumer, topics

TOOL = "kafka-streams-application-reset"
CLASS = "org.apache.kafka.tools.StreamsResetter"

OWN = (
    "tools-app-counts-changelog",
    "tools-app-by-key-repartition",
    "tools-app-KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION-0000000001-topic",
    "tools-app-output",
    "tools-app2-counts-changelog",
)


def application(place: Place) -> None:
    """The topics of an application, and where it is."""
    from ottla import OffsetAndMetadata, TopicPartition
    from ottla.admin import NewTopic

    topics(place)
    place.admin.create_topics([NewTopic(name, 1) for name in OWN])
    offsets = {TopicPartition("tools-a", number): OffsetAndMetadata(2) for number in range(3)}
    place.admin.alter_consumer_group_offsets("tools-app", offsets)


def running(place: Place) -> None:
    """The application runs."""
    application(place)
    consumer(place, "tools-app", "tools-a", group_protocol="classic", client_id="tools-client", session_timeout_ms=6000)


APP = "--application-id tools-app "
INPUT = APP + "--input-topics tools-a "
FILES = {
    "plan.csv": "tools-a,0,1\ntools-a,1,100\ntools-a,2,0\n",
    "some.csv": "tools-a,0,1\n",
    "columns.csv": "tools-a,0\n",
    "numbers.csv": "tools-a,zero,0\n",
    "nothing.csv": "",
    "client.properties": "client.id=tools\n",
    "earliest.properties": "auto.offset.reset=earliest\n",
}
MEMBER_ID = r"tools-client-[0-9a-f-]{36}"

SCENARIOS = [
    Scenario(
        "help and mistakes",
        Step("", bare=True),
        Step("--version", bare=True),
        "",
        "--nonsense",
        "--input-topics tools-a",
        f"{INPUT} --to-earliest --to-latest",
        f"{INPUT} --shift-by x",
        f"{APP} --config-file a --command-config b",
        f"{APP} --command-config {{directory}}/nobody.properties",
        f"{APP} --application-id two",
        setup=application,
        quick=True,
    ),
    Scenario("help", Step("--help", bare=True), differs="the help is in our own words"),
    Scenario(
        "without doing it",
        *(
            f"{INPUT} --dry-run {target}"
            for target in (
                *("", "--to-earliest", "--to-latest", "--to-offset 2", "--to-offset 100", "--to-offset -1"),
                *("--shift-by 1", "--shift-by -1", "--shift-by -100", "--by-duration PT1M", "--by-duration nonsense"),
                *("--to-datetime 2023-11-14T22:13:20.004", "--to-datetime 2033-11-14T22:13:20.004"),
                *("--to-datetime nonsense", "--from-file {directory}/plan.csv", "--from-file {directory}/columns.csv"),
                *("--from-file {directory}/numbers.csv", "--from-file {directory}/nothing.csv"),
                *("--from-file {directory}/nobody.csv", "--internal-topics tools-app-counts-changelog"),
                *("--internal-topics tools-app-output", "--force", "--config-file {directory}/client.properties"),
                "--command-config {directory}/client.properties",
            )
        ),
        f"{APP} --dry-run",
        "--application-id tools-nobody --dry-run",
        f"{APP} --dry-run --input-topics tools-a,tools-nobody,tools-b",
        f"{APP} --dry-run --input-topics tools-nobody",
        f"{APP} --dry-run --intermediate-topics tools-b,tools-nobody",
        f"{APP} --dry-run --input-topics tools-a --intermediate-topics tools-b",
        f"{APP} --dry-run --input-topics tools-b --shift-by 0 --command-config {{directory}}/earliest.properties",
        setup=application,
        files=FILES,
        quick=True,
    ),
    Scenario(
        "a plan that lacks a partition",
        f"{INPUT} --dry-run --from-file {{directory}}/some.csv",
        setup=application,
        files=FILES,
        differs="what a plan lacks is told in words; Kafka's tool ends with a NullPointerException",
    ),
    Scenario(
        "reset",
        f"{INPUT} --shift-by 1 --internal-topics tools-app-counts-changelog",
        f"{APP} --input-topics tools-a,tools-b --to-latest --intermediate-topics tools-empty",
        f"{INPUT} --dry-run --shift-by 0",
        INPUT,
        f"{INPUT} --dry-run",
        setup=application,
        files=FILES,
    ),
    Scenario(
        "a running application",
        INPUT,
        f"{INPUT} --dry-run",
        f"{INPUT} --force --dry-run",
        setup=running,
        teardown=close_members,
        ignore=[MEMBER_ID, r"(?<=topicPartitions=)[^)]*"],
    ),
]
