"""kafka-consumer-groups."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step
from tests.compatibility.tool_scenarios.group_setups import close_members, committed, consumer, topics

TOOL = "kafka-consumer-groups"
CLASS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"

MEMBER_ID = r"[\w-]*[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|(?<= )[\w-]{22}(?= )"


def classic_member(place: Place) -> None:
    """A group with a member of the classic protocol."""
    topics(place)
    consumer(place, "tools-classic", "tools-a", group_protocol="classic", client_id="tools-client")


def static_member(place: Place) -> None:
    """A group with a static member, which reads two topics."""
    topics(place)
    consumer(
        place, "tools-static", "tools-a", "tools-b",
        group_protocol="classic", group_instance_id="tools-instance", client_id="tools-client",
    )  # fmt: skip


def modern_member(place: Place) -> None:
    """A group with a member of the consumer protocol."""
    topics(place)
    consumer(place, "tools-modern", "tools-a", "tools-b", group_protocol="consumer", client_id="tools-client")


PLAN = "tools-a,0,1\ntools-a,1,100\ntools-b,0,0\n"
PLAN_OF_GROUPS = "tools-g1,tools-a,0,1\ntools-g2,tools-a,1,0\ntools-g2,tools-b,0,3\n"

SCENARIOS = [
    Scenario("help", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), quick=True),
    Scenario(
        "mistakes",
        "",
        Step("--list", bare=True),
        "--nonsense",
        "--list --describe",
        "--describe",
        "--describe --group tools-g1 --members --state",
        "--describe --group tools-g1 --state stable",
        "--describe --group tools-g1 --all-groups",
        "--describe --group tools-g1 --topic tools-a",
        "--describe --group",
        "--delete",
        "--delete --group tools-g1 --topic tools-a",
        "--delete-offsets --group tools-g1 --timeout x --topic tools-a",
        "--list --group tools-g1",
        "--list --members",
        "--list --timeout five",
        "--list --topic tools-a",
        "--group tools-g1 --type classic --describe",
        "--reset-offsets --group tools-g1 --dry-run --execute",
        "--reset-offsets --to-earliest --execute --topic tools-a --to-latest --group tools-g1",
        setup=committed,
        quick=True,
        ignore=[r"(?<=options: )\[.*", r"Option \"\[to-(earliest|latest)\]\" can't be used with option .*"],
    ),
    Scenario(
        "mistakes with a set of options",
        "--reset-offsets --to-earliest --execute",
        "--delete-offsets --group tools-g1",
        "--reset-offsets --group tools-g1 --dry-run",
        "--reset-offsets --group tools-g1 --dry-run --to-earliest",
        "--reset-offsets --group tools-g1 --dry-run --topic tools-a",
        setup=committed,
        ignore=[r"(?<=options: )\[.*", r"(?<=scenarios: )\[.*"],
    ),
    Scenario(
        "list",
        "--list",
        "--list --state",
        "--list --type",
        "--list --state --type",
        "--list --state empty",
        "--list --state 'Stable, Dead'",
        "--list --type classic",
        "--list --type Classic,consumer --state Empty",
        "--list --type consumer",
        "--list --timeout 5000",
        setup=committed,
        quick=True,
    ),
    Scenario(
        "list of what is not there",
        "--list --state nonsense",
        "--list --type share",
        "--list --type nonsense",
        ignore=[r"(?<=Valid states are: ).*", r"(?<=Valid types are: ).*"],
    ),
    Scenario(
        "describe",
        "--describe --group tools-g2",
        "--describe --group tools-g1 --offsets",
        "--describe --group tools-g2 --verbose",
        "--describe --group tools-g2 --state",
        "--describe --group tools-g2 --state --verbose",
        "--describe --group tools-g2 --members",
        "--describe --group tools-g2 --members --verbose",
        "--describe --group tools-g2 --group tools-another-one",
        "--describe --all-groups",
        "--describe --all-groups --state",
        "--describe --group tools-nobody",
        "--describe --group tools-nobody --state",
        setup=committed,
        quick=True,
    ),
    *(
        Scenario(
            f"describe with {name}",
            f"--describe --group {group}",
            f"--describe --group {group} --verbose",
            f"--describe --group {group} --state",
            f"--describe --group {group} --state --verbose",
            f"--describe --group {group} --members",
            f"--describe --group {group} --members --verbose",
            "--list --state --type",
            f"--delete --group {group}",
            f"--delete-offsets --group {group} --topic tools-a",
            f"--reset-offsets --group {group} --to-earliest --all-topics --execute",
            setup=setup,
            teardown=close_members,
            ignore=[MEMBER_ID],
        )
        for name, group, setup in (
            ("a classic member", "tools-classic", classic_member),
            ("a static member", "tools-static", static_member),
            ("a member of KIP-848", "tools-modern", modern_member),
        )
    ),
    Scenario(
        "delete",
        "--delete --group tools-g1 --group tools-nobody",
        "--delete --group tools-nobody",
        "--delete --group tools-g2",
        "--delete --group tools-another-one --group tools-x",
        "--delete --all-groups",
        "--list",
        setup=committed,
        quick=True,
    ),
    Scenario(
        "delete offsets",
        "--delete-offsets --group tools-g2 --topic tools-a:0,1 --topic tools-b",
        "--delete-offsets --group tools-g2 --topic tools-nobody",
        "--delete-offsets --group tools-g2 --topic tools-nobody --topic tools-a",
        "--delete-offsets --group tools-nobody --topic tools-a",
        "--delete-offsets --group tools-g1 --topic tools-a:x",
        "--delete-offsets --group tools-g1 --topic tools-a:7",
        "--delete-offsets --group tools-g1 --topic tools-a:0:1",
        "--describe --group tools-g1",
        "--describe --group tools-g2",
        setup=committed,
        quick=True,
    ),
    Scenario(
        "move offsets",
        "--reset-offsets --group tools-g1 --to-earliest --topic tools-a",
        "--reset-offsets --group tools-g1 --to-earliest --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --to-latest --topic tools-a --topic tools-b --execute",
        "--describe --group tools-g1",
        "--reset-offsets --group tools-g1 --to-offset 2 --topic tools-a:0,2 --execute",
        "--reset-offsets --group tools-g1 --to-offset 100 --all-topics --dry-run",
        "--reset-offsets --group tools-g1 --to-offset -5 --all-topics --dry-run",
        "--reset-offsets --group tools-g1 --shift-by 1 --all-topics --dry-run",
        "--reset-offsets --group tools-g1 --shift-by -1 --all-topics --execute",
        "--reset-offsets --group tools-g1 --shift-by -1 --topic tools-empty --execute",
        "--reset-offsets --group tools-g1 --to-current --all-topics --dry-run",
        "--reset-offsets --group tools-g1 --to-current --topic tools-empty --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --to-earliest --topic tools-nobody --dry-run",
        "--reset-offsets --group tools-g1 --to-earliest --topic tools-a:9 --dry-run",
        "--reset-offsets --group tools-g1 --to-earliest --topic tools-nobody:0 --dry-run",
        "--reset-offsets --group tools-g1 --to-earliest --topic tools-a: --dry-run",
        "--reset-offsets --group tools-new --to-earliest --topic tools-a --execute",
        "--describe --group tools-new",
        "--reset-offsets --group tools-g1 --group tools-g2 --to-latest --all-topics --dry-run --export",
        "--reset-offsets --group tools-g1 --to-latest --all-topics --dry-run --export",
        setup=committed,
        quick=True,
    ),
    Scenario(
        "move offsets of all groups",
        "--reset-offsets --all-groups --to-earliest --topic tools-b --execute",
        "--reset-offsets --all-groups --to-latest --all-topics --dry-run --export",
        setup=committed,
        unordered=True,  # of groups with the same hash code in a table: those of Java differ from run to run
    ),
    Scenario(
        "move offsets by time",
        "--reset-offsets --group tools-g1 --to-datetime 2023-11-14T22:13:20.004 --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --to-datetime 2023-11-14T22:13:20.004Z --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --to-datetime 2023-11-14T23:13:20.004+01:00 --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --to-datetime 2023-11-14T23:13:20.004+01 --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --to-datetime 2033-11-14T23:13:20.004 --topic tools-a --execute",
        "--reset-offsets --group tools-g1 --to-datetime 2023-11-14T22:13:20 --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --to-datetime 2023-11-14 --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --to-datetime nonsense --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --to-datetime 2023-13-14T22:13:20.004 --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --by-duration PT1M --topic tools-a --topic tools-empty --dry-run",
        "--reset-offsets --group tools-g1 --by-duration P30000D --topic tools-a --topic tools-empty --dry-run",
        "--reset-offsets --group tools-g1 --by-duration nonsense --topic tools-a --dry-run",
        "--reset-offsets --group tools-g1 --by-duration PT --topic tools-a --dry-run",
        setup=committed,
    ),
    Scenario(
        "move offsets as a plan says",
        "--reset-offsets --group tools-g1 --from-file {directory}/plan.csv --dry-run",
        "--reset-offsets --group tools-g1 --from-file {directory}/plan.csv --execute",
        "--reset-offsets --group tools-g1 --from-file {directory}/nobody.csv --dry-run",
        "--describe --group tools-g1",
        setup=committed,
        files={"plan.csv": PLAN},
    ),
    Scenario(
        "move offsets as a plan for several groups says",
        "--reset-offsets --group tools-g1 --group tools-g2 --from-file {directory}/groups.csv --dry-run",
        "--reset-offsets --group tools-g1 --group tools-x --from-file {directory}/groups.csv --dry-run",
        "--reset-offsets --all-groups --from-file {directory}/groups.csv --dry-run",
        setup=committed,
        files={"groups.csv": PLAN_OF_GROUPS},
        unordered=True,
        differs="Kafka's tool shows a Java exception when a plan of several groups is read; it means nothing",
    ),
    Scenario(
        "settings of the client",
        "--list --command-config {directory}/client.properties",
        "--list --command-config {directory}/nobody.properties",
        setup=committed,
        files={"client.properties": "request.timeout.ms=20000\nclient.id=tools\n"},
    ),
    Scenario(
        "regular expressions",
        *(
            f"--validate-regex '{text}'"
            for text in ("orders-.*", "a|b", "[a-z]+", "(", "[", "*a", "a**", "(?P<n>a)", "(?=a)", r"\\", "a{3,2}", "")
        ),
        bare=True,
        quick=True,
    ),
]
