"""kafka-broker-api-versions: which versions of which APIs each broker serves, and which of them a client can use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import ToolParser, guarded, java_error, load_properties, node_text, open_admin

if TYPE_CHECKING:
    from ottla.client.admin.clusters import VersionRange


def run(arguments: list[str]) -> int:
    """Run the tool."""
    return guarded(lambda: _run(arguments))


def _run(arguments: list[str]) -> None:
    from ottla.cli.kafka.hash_order import hash_ordered, node_hash
    from ottla.client.errors import KafkaError

    parser = ToolParser()
    config = parser.accepts(
        "command-config", "A file with settings of the admin client.", described_as="command config property file"
    )
    server = parser.accepts(
        "bootstrap-server", "REQUIRED: a broker of the cluster.", described_as="server(s) to use for bootstrapping"
    )
    options = parser.parse(arguments)
    parser.help_or_version(arguments, options, "This tool helps to retrieve broker version information.")
    parser.require(options, server)
    settings = load_properties(options.value(config)) if options.has(config) else {}
    with open_admin(settings | {"bootstrap.servers": options.value(server)}) as admin:
        nodes = admin.describe_cluster().nodes
        try:
            versions, errors = admin.describe_api_versions([node.id for node in nodes]), {}
        except KafkaError as error:
            versions, errors = dict(error.results), dict(error.errors)
        for node in hash_ordered(sorted(nodes), node_hash):
            if node.id in versions:
                print(f"{node_text(node)} -> {versions_text(versions[node.id])}")
            else:
                print(f"{node_text(node)} -> ERROR: {java_error(errors[node.id])}")


def versions_text(served: Mapping[int, VersionRange]) -> str:
    """Every API that the node serves or that a client would like it to, in the order of their numbers."""
    from ottla.protocol.apis import APIS

    lines = {number: _line(number, versions) for number, versions in served.items()}
    for number, api in APIS.items():
        if number not in lines and "broker" in api.listeners and api.latest_stable_version >= 0:
            lines[number] = f"{api.name}({int(number)}): UNSUPPORTED"
    return "(\n\t" + ",\n\t".join(text for _, text in sorted(lines.items())) + "\n)"


def _line(number: int, served: VersionRange) -> str:
    from ottla.protocol.apis import APIS

    api = APIS.get(number)
    low, high = served
    span = f"{low}" if low == high else f"{low} to {high}"
    if api is None:
        return f"UNKNOWN({number}): {span}"
    oldest, latest = api.versions
    if latest < low:
        usable = "unusable: node too new"
    elif high < oldest:
        usable = "unusable: node too old"
    else:
        usable = f"usable: {min(latest, high)}"
    return f"{api.name}({number}): {span} [{usable}]"
