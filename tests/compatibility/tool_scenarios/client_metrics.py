"""kafka-client-metrics."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario, Step

TOOL = "kafka-client-metrics"
CLASS = "org.apache.kafka.tools.ClientMetricsCommand"
SCENARIOS = [
    Scenario(
        "alter",
        "--alter --name tools-a --interval 1000 --metrics org.apache.kafka.producer.,b "
        "--match client_id=x,client_source_port=1",
        "--describe --name tools-a",
        "--alter --name tools-a --interval ''",
        "--describe --name tools-a",
        "--alter --name tools-a --metrics ''",
        "--describe --name tools-a",
        "--alter --name tools-b --interval 5000 --metrics '*'",
        "--list",
        "--describe",
        "--delete --name tools-a",
        "--describe --name tools-a",
        "--delete --name tools-b",
        "--list",
        "--describe",
        "--delete --name tools-nobody",
        "--alter --name tools-a --interval x",
        "--alter --name tools-a --interval 1",
        "--alter --name tools-a --match nonsense=1",
        "--alter --name tools-a --match client_id=[",
        "--list --command-config {directory}/missing.properties",
        quick=True,
    ),
    Scenario(
        "generated names",
        "--alter --generate-name --interval 2000",
        # 22 characters that the comparison does not always take for an id
        ignore=(r"for \S+\.",),
    ),
    Scenario(
        "usage",
        Step("", bare=True),
        Step("--help", bare=True),
        Step("--version", bare=True),
        Step("--list", bare=True),
        "",
        "--nonsense",
        "--alter",
        "--alter --name a --generate-name",
        "--delete",
        "--delete --name a --interval 1",
        "--list --name a",
        "--describe --metrics a",
    ),
]
NOT_COMPARED: dict[str, str] = {}
