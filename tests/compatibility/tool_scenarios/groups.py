"""kafka-groups."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-groups"
CLASS = "org.apache.kafka.tools.GroupsCommand"


def groups(place: Place) -> None:
    """Groups with committed offsets only, one that had members of the new protocol, and a share group."""
    import ottla
    from ottla.admin import NewTopic
    from ottla.client.model import OffsetAndMetadata, TopicPartition

    place.admin.create_topics(NewTopic("tools-a", 1))
    for name in ("tools-simple", "tools-b", "tools-a-group-with-a-rather-long-name"):
        place.admin.alter_consumer_group_offsets(name, {TopicPartition("tools-a", 0): OffsetAndMetadata(0)})
    for name, protocol in (("tools-classic", "classic"), ("tools-new", "consumer")):
        with ottla.Consumer(place.bootstrap, group_id=name, group_protocol=protocol) as consumer:
            consumer.subscribe(["tools-a"])
            for _ in range(100):
                consumer.poll(0.05)
                if consumer.assignment():
                    break


SCENARIOS = [
    Scenario(
        "list",
        "--list",
        "--list --consumer",
        "--list --share",
        "--list --streams",
        *(f"--list --group-type {kind}" for kind in ("classic", "consumer", "Share", "streams", "unknown", "x")),
        "--list --protocol consumer",
        "--list --protocol connect",
        "--list --group-type classic --protocol consumer",
        "--list --command-config {directory}/missing.properties",
        setup=groups,
        quick=True,
    ),
    Scenario(
        "usage",
        Step("", bare=True),
        Step("--help", bare=True),
        Step("--version", bare=True),
        Step("--list", bare=True),
        "",
        "--nonsense",
        "--list --share --streams",
        "--list --consumer --group-type x",
        "--list --consumer --protocol x",
        "--list --share --protocol x",
    ),
]
NOT_COMPARED: dict[str, str] = {}
