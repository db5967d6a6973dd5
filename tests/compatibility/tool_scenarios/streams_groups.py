"""kafka-streams-groups."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step
from tests.compatibility.tool_scenarios.group_setups import close_members, streams_member, topics

TOOL = "kafka-streams-groups"
CLASS = "org.apache.kafka.tools.streams.StreamsGroupCommand"


def member(place: Place) -> None:
    """A streams group with a member."""
    topics(place)
    streams_member(place, "tools-streams", "tools-a")


def empty(place: Place) -> None:
    """A streams group that nobody is in, with offsets and topics of its own."""
    from ottla import OffsetAndMetadata, TopicPartition

    member(place)
    close_members()
    offsets = {TopicPartition("tools-a", number): OffsetAndMetadata(number + 1) for number in range(3)}
    place.admin.alter_streams_group_offsets("tools-streams", offsets)


PLAN = "tools-a,0,1\ntools-a,1,100\n"

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario(
        "mistakes",
        "",
        Step("--list", bare=True),
        "--nonsense",
        "--list --describe",
        "--describe",
        "--describe --group tools-streams --members --state",
        "--describe --group tools-streams --state stable",
        "--describe --group tools-streams --all-groups",
        "--describe --group tools-streams --input-topic tools-a",
        "--delete",
        "--delete --group tools-streams --input-topic tools-a",
        "--delete --group tools-streams --execute",
        "--delete-offsets --group tools-streams",
        "--delete-offsets --group tools-streams --group tools-2 --all-input-topics",
        "--list --group tools-streams",
        "--list --members",
        "--list --timeout five",
        "--list --state nonsense",
        "--list --delete-all-internal-topics",
        "--list --delete-internal-topic x",
        "--reset-offsets --group tools-streams --dry-run --execute",
        "--reset-offsets --group tools-streams",
        "--reset-offsets --dry-run --all-input-topics",
        "--reset-offsets --dry-run --group tools-streams",
        "--reset-offsets --dry-run --group tools-streams --all-input-topics --delete-all-internal-topics",
        ignore=[r"(?<=Valid states are: ).*", r"can't be used with option .*", r"(?<=scenarios: )\[.*"],
        quick=True,
    ),
    Scenario(
        "a group with a member",
        "--list",
        "--list --state",
        "--list --state stable",
        "--describe --group tools-streams",
        "--describe --group tools-streams --offsets --verbose",
        "--describe --group tools-streams --members",
        "--describe --group tools-streams --members --verbose",
        "--describe --group tools-streams --state",
        "--describe --group tools-streams --state --verbose",
        "--describe --all-groups --timeout 10000",
        "--delete --group tools-streams",
        "--delete --group tools-streams --delete-all-internal-topics",
        "--delete-offsets --group tools-streams --input-topic tools-a",
        "--reset-offsets --group tools-streams --all-input-topics --to-earliest --execute",
        setup=member,
        teardown=close_members,
    ),
    Scenario(
        "a group without members",
        "--list --state",
        "--describe --group tools-streams",
        "--describe --group tools-streams --members",
        "--describe --group tools-streams --state",
        "--describe --group tools-nobody",
        "--reset-offsets --group tools-streams --all-input-topics --to-earliest --dry-run",
        "--reset-offsets --group tools-streams --all-input-topics --to-latest --dry-run --export",
        "--reset-offsets --group tools-streams --input-topic tools-a:0,2 --to-offset 2 --execute",
        "--reset-offsets --group tools-streams --input-topic tools-a --to-current --dry-run",
        "--reset-offsets --group tools-streams --input-topic tools-a --shift-by 1 --dry-run",
        "--reset-offsets --group tools-streams --input-topic tools-a --by-duration PT1M --dry-run",
        "--reset-offsets --group tools-streams --input-topic tools-a --to-datetime 2023-11-14T22:13:20.004 --dry-run",
        "--reset-offsets --group tools-streams --input-topic tools-a --to-datetime nonsense --dry-run",
        "--reset-offsets --group tools-streams --input-topic tools-b --to-earliest --dry-run",
        "--reset-offsets --group tools-streams --input-topic tools-nobody --to-earliest --dry-run",
        "--reset-offsets --group tools-streams --from-file {directory}/plan.csv --dry-run",
        "--reset-offsets --group tools-streams --all-input-topics --to-earliest --execute "
        "--delete-internal-topic tools-nobody",
        "--reset-offsets --group tools-streams --all-input-topics --to-earliest --execute --delete-all-internal-topics",
        "--delete-offsets --group tools-streams --input-topic tools-a:0",
        "--delete-offsets --group tools-streams --input-topic tools-nobody",
        "--delete-offsets --group tools-streams --all-input-topics",
        "--delete --group tools-nobody",
        "--delete --group tools-streams --group tools-nobody",
        "--list",
        setup=empty,
        teardown=close_members,
        files={"plan.csv": PLAN},
    ),
    Scenario(
        "delete with its topics",
        "--delete --group tools-streams --delete-all-internal-topics",
        "--delete --all-groups",
        setup=empty,
        teardown=close_members,
    ),
    Scenario(
        "settings of the client",
        "--list --command-config {directory}/client.properties",
        "--list --command-config {directory}/nobody.properties",
        files={"client.properties": "request.timeout.ms=20000\nclient.id=tools\n"},
    ),
]
