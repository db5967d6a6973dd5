"""kafka-cluster."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario

TOOL = "kafka-cluster"
CLASS = "org.apache.kafka.tools.ClusterTool"
SCENARIOS = [
    Scenario(
        "cluster-id",
        "cluster-id --bootstrap-server {bootstrap}",
        "cluster-id -b {bootstrap} --config {directory}/client.properties",
        "cluster-id -b {bootstrap} --command-config {directory}/client.properties",
        "cluster-id -b {bootstrap} -c {directory}/client.properties --config {directory}/client.properties",
        "cluster-id -b {bootstrap} -c {directory}/nothing.properties",
        "cluster -b {bootstrap}",
        files={"client.properties": "client.id=tools\n"},
        bare=True,
        quick=True,
    ),
    Scenario(
        "list-endpoints",
        "list-endpoints -b {bootstrap}",
        "list-endpoints -b {bootstrap} --include-fenced-brokers",
        "list-endpoints -C {bootstrap} --include-fenced-brokers",
        bare=True,
        quick=True,
    ),
    Scenario(
        "unregister",
        "unregister -b {bootstrap} --id 77",
        "unregister -b {bootstrap} -i x",
        "unregister -b {bootstrap}",
        bare=True,
    ),
    Scenario(
        "usage",
        "",
        "--help",
        "-h",
        "cluster-id --help",
        "unregister --help",
        "list-endpoints --help",
        "cluster-id",
        "cluster-id -b a:1 -C b:1",
        "nonsense",
        "cluster-idd",
        "cluster-id --bootstrap-servr a",
        "cluster-id --boot a",
        "cluster-id -b",
        "cluster-id --nonsense",
        "list-endpoints -b {bootstrap} --include-fenced-brokers=x",
        "cluster-id -b {bootstrap} more",
        "cluster-id --bootstrap-controller nonsense",
        bare=True,
    ),
]
NOT_COMPARED: dict[str, str] = {}
