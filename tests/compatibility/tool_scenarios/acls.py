"""kafka-acls. The order of rules is that of hash tables over Java's identities: different in every run."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario, Step

TOOL = "kafka-acls"
CLASS = "org.apache.kafka.tools.AclCommand"
TOPIC = "--topic tools-a "
SCENARIOS = [
    Scenario(
        "rules",
        "--list --topic tools-a",
        "--add --allow-principal User:tools-a --operation Read --operation describe --topic tools-a",
        "--add --allow-principal User:tools-a --operation READ --topic tools-a",
        "--list --topic tools-a",
        "--add --deny-principal User:tools-b --deny-host 10.0.0.1 --deny-host 10.0.0.2 --topic tools-a",
        "--add --allow-principal User:tools-a --allow-host 10.0.0.3 --operation All --group tools-g --cluster",
        "--add --allow-principal User:tools-a --resource-pattern-type prefixed --operation Write --topic tools-",
        "--add --allow-principal User:tools-a --producer --idempotent --topic tools-p --transactional-id tools-t",
        "--add --allow-principal User:tools-c --consumer --topic tools-p --group tools-g",
        "--add --allow-principal User:tools-d --producer --consumer --topic tools-p --group tools-g",
        "--add --allow-principal User:tools-a --operation CreateTokens --user-principal User:tools-u",
        "--add --allow-principal User:tools-a --operation Describe --delegation-token tools-token",
        "--list",
        "--list --topic tools-a --resource-pattern-type match",
        "--list --topic tools- --resource-pattern-type any",
        "--list --principal User:tools-a --topic tools-a",
        "--list --principal User:tools-a --principal User:tools-b",
        "--remove --force --allow-principal User:tools-a --operation Read --topic tools-a",
        "--remove --force --topic tools-a",
        "--list --topic tools-a",
        "--remove --force --topic tools-p --resource-pattern-type any",
        "--remove --force --group tools-g --cluster --transactional-id tools-t --user-principal User:tools-u "
        "--delegation-token tools-token",
        "--remove --force --topic tools- --resource-pattern-type prefixed",
        "--list",
        unordered=True,
        remove=(r"(?m)^ (?=\t)",),  # a blank in front of whichever comes first
    ),
    Scenario(
        "one rule",
        "--list",
        "--add --allow-principal User:tools-a --topic tools-a",
        "--remove --force --topic tools-a",
        quick=True,
    ),
    Scenario(
        "wrong",
        "--add --topic a",
        "--add --allow-principal User:a",
        "--add --allow-principal nonsense --topic a",
        "--add --allow-principal User:a --topic a --resource-pattern-type match",
        "--add --allow-principal User:a --topic a --resource-pattern-type nonsense",
        "--add --allow-principal User:a --topic a --operation CreateTokens",
        "--add --allow-principal User:a --topic a --operation nonsense",
        "--list --producer",
        "--add --producer --operation read",
        "--add --producer",
        "--add --consumer --topic a",
        "--add --consumer --topic a --group b --cluster",
        "--add --idempotent --topic a",
        "--add --principal User:a --topic a",
        "--add --list",
        "--list --bootstrap-controller a:1",
        Step("--list", bare=True),
        "--list --command-config {directory}/missing.properties",
        ignore=(r"only supports operations \[.*\]",),
    ),
    Scenario("usage", Step("", bare=True), Step("--help", bare=True), Step("--version", bare=True), "", "--nonsense"),
]
NOT_COMPARED: dict[str, str] = {}
