"""kafka-share-groups."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step
from tests.compatibility.tool_scenarios.group_setups import close_members, share_consumer, topics

TOOL = "kafka-share-groups"
CLASS = "org.apache.kafka.tools.consumer.group.ShareGroupCommand"

MEMBER_ID = r"(?<= )(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{22}(?= )"


def member(place: Place) -> None:
    """A share group with a member."""
    topics(place)
    share_consumer(place, "tools-share", "tools-a")


def empty(place: Place) -> None:
    """Share groups that nobody is in, with offsets."""
    topics(place)
    for group in ("tools-share", "tools-share-2"):
        share_consumer(place, group, "tools-a")
    close_members()


SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario(
        "mistakes",
        "",
        Step("--list", bare=True),
        "--nonsense",
        "--list --describe",
        "--describe",
        "--describe --group tools-share --members --state",
        "--describe --group tools-share --members --offsets",
        "--describe --group tools-share --state stable",
        "--describe --group tools-share --all-groups",
        "--describe --group tools-share --topic tools-a",
        "--delete",
        "--delete --group tools-share --all-groups",
        "--delete --group tools-share --topic tools-a",
        "--delete-offsets --group tools-share",
        "--list --group tools-share",
        "--list --timeout five",
        "--list --state nonsense",
        "--list --verbose",
        "--reset-offsets --group tools-share --dry-run --execute",
        "--reset-offsets --group tools-share",
        "--reset-offsets --dry-run --all-topics",
        "--reset-offsets --dry-run --group tools-share",
        "--reset-offsets --dry-run --group tools-share --all-topics",
        "--reset-offsets --dry-run --group tools-share --all-topics --to-earliest --to-datetime 2020",
        ignore=[r"(?<=Valid states are: ).*", r"can't be used with option .*"],
        quick=True,
    ),
    Scenario(
        "a group with a member",
        "--list",
        "--list --state",
        "--list --state stable",
        "--list --state Empty,dead",
        "--describe --group tools-share",
        "--describe --group tools-share --offsets --verbose",
        "--describe --group tools-share --members",
        "--describe --group tools-share --members --verbose",
        "--describe --group tools-share --state",
        "--describe --group tools-share --state --verbose",
        "--describe --all-groups",
        "--describe --all-groups --state --timeout 10000",
        "--delete --group tools-share",
        "--delete-offsets --group tools-share --topic tools-a",
        "--reset-offsets --group tools-share --all-topics --to-earliest --execute",
        setup=member,
        teardown=close_members,
        ignore=[MEMBER_ID],
    ),
    Scenario(
        "a group without members",
        "--list --state",
        "--describe --group tools-share",
        "--describe --group tools-share --verbose",
        "--describe --group tools-share --members",
        "--describe --group tools-share --state",
        "--describe --all-groups",
        "--describe --group tools-nobody",
        "--reset-offsets --group tools-share --all-topics --to-earliest --dry-run",
        "--reset-offsets --group tools-share --all-topics --to-earliest --execute",
        Step("--describe --group tools-share", settle_ms=300),
        "--reset-offsets --group tools-share --topic tools-a:0,2 --to-latest --execute",
        "--reset-offsets --group tools-share --topic tools-a --to-datetime 2023-11-14T22:13:20.004 --dry-run",
        "--reset-offsets --group tools-share --topic tools-a --to-datetime nonsense --dry-run",
        "--reset-offsets --group tools-share --topic tools-nobody --to-latest --execute",
        "--reset-offsets --group tools-share --topic tools-a:9 --to-latest --execute",
        "--delete-offsets --group tools-share --topic tools-a",
        "--delete-offsets --group tools-share --topic tools-a --topic tools-nobody",
        "--delete-offsets --group tools-nobody --topic tools-a",
        "--delete --group tools-nobody",
        "--delete --group tools-share --group tools-nobody",
        "--delete --all-groups",
        "--list",
        setup=empty,
        teardown=close_members,
        quick=True,
    ),
    Scenario(
        "a new group",
        "--reset-offsets --group tools-share-new --topic tools-b --to-earliest --dry-run",
        "--reset-offsets --group tools-share-new --topic tools-b --to-earliest --execute",
        Step("--describe --group tools-share-new", settle_ms=300),
        "--delete --group tools-share-new",
        setup=topics,
    ),
    Scenario(
        "settings of the client",
        "--list --command-config {directory}/client.properties",
        "--list --command-config {directory}/nobody.properties",
        files={"client.properties": "request.timeout.ms=20000\nclient.id=tools\n"},
    ),
]
