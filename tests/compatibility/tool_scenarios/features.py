"""kafka-features."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario

TOOL = "kafka-features"
CLASS = "org.apache.kafka.tools.FeatureCommand"
AT = "--bootstrap-server {bootstrap} "
SCENARIOS = [
    Scenario(
        "describe",
        AT + "describe",
        AT + "describe --node-id 1",
        AT + "describe --node-id -1",
        AT + "describe --node-id x",
        AT + "--command-config {directory}/client.properties describe",
        AT + "--command-config {directory}/missing.properties describe",
        files={"client.properties": "client.id=tools\n"},
        ignore=(r"Epoch: \d+",),
        bare=True,
        quick=True,
    ),
    Scenario(
        "change",
        AT + "upgrade --feature group.version=1 --dry-run",
        AT + "upgrade --feature group.version=9 --dry-run",
        AT + "upgrade --feature nonsense.version=1",
        AT + "upgrade --feature group.version=1 --feature group.version=1",
        AT + "upgrade --feature group.version=x",
        AT + "upgrade --feature group.version",
        AT + "upgrade --metadata 4.0-IV1 --dry-run",
        AT + "upgrade --metadata nonsense",
        AT + "upgrade --release-version 4.2 --dry-run",
        AT + "upgrade --release-version 4.2 --feature group.version=1",
        AT + "upgrade --release-version nonsense",
        AT + "upgrade",
        AT + "downgrade --metadata 3.3-IV3 --dry-run",
        AT + "downgrade --metadata 3.3-IV3 --unsafe --dry-run",
        AT + "downgrade --feature streams.version=0 --dry-run",
        AT + "downgrade --release-version 4.2 --dry-run",
        AT + "disable --feature streams.version --dry-run",
        AT + "disable --feature streams.version --feature share.version --unsafe --dry-run",
        AT + "disable",
        bare=True,
    ),
    Scenario(
        "mapping",
        "version-mapping",
        "version-mapping --release-version 3.9",
        "version-mapping --release-version 4.0-IV2",
        "version-mapping --release-version nonsense",
        "feature-dependencies --feature group.version=1",
        "feature-dependencies --feature eligible.leader.replicas.version=1 --feature metadata.version=20",
        "feature-dependencies --feature metadata.version=99",
        "feature-dependencies --feature group.version=99",
        "feature-dependencies --feature nonsense=1",
        "feature-dependencies",
        bare=True,
        quick=True,
    ),
    Scenario(
        "usage",
        "",
        "--help",
        *(f"{command} --help" for command in ("describe", "upgrade", "downgrade", "disable", "version-mapping")),
        "feature-dependencies --help",
        "describe",
        "nonsense",
        "--bootstrap-server a:1 --bootstrap-controller b:1 describe",
        bare=True,
    ),
]
NOT_COMPARED: dict[str, str] = {}
