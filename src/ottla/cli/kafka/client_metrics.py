"""kafka-client-metrics: which metrics the cluster wants of which clients (KIP-714)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import ToolError, ToolExit, ToolParser, java_message, load_properties, open_admin
from ottla.cli.kafka.jopt import INTEGER, OptionError, OptionSet

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.admin.configs import ConfigEntry

_PURPOSE = "This tool helps to manipulate and describe client metrics configurations."
_SELECTORS = (
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
)


class Parser(ToolParser):
    """The options of kafka-client-metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.accepts(
            "bootstrap-server", "REQUIRED: a broker of the cluster.", described_as="server to connect to"
        )
        self.config = self.accepts(
            "command-config", "A file with settings of the admin client.", described_as="command config property file"
        )
        self.alter = self.accepts("alter", "Make or change a subscription.")
        self.delete = self.accepts("delete", "Delete a subscription.")
        self.describe = self.accepts("describe", "Describe subscriptions.")
        self.list = self.accepts("list", "List subscriptions.")
        self.name = self.accepts("name", "The name of the subscription.", described_as="name")
        self.generate_name = self.accepts("generate-name", "Take a random name.")
        self.interval = self.accepts(
            "interval",
            "How often clients shall push, in milliseconds.\nEmpty: the default.",
            described_as="push interval",
        )
        selectors = "\n".join(f"\t{selector}" for selector in _SELECTORS)
        self.match = self.accepts(
            "match", f"Which clients, as 'k1=v1,k2=v2' of:\n{selectors}", described_as="k1=v1,k2=v2", separator=","
        )
        self.metrics = self.accepts(
            "metrics", "Beginnings of names of metrics, 'm1,m2'.", described_as="m1,m2", separator=","
        )

    def check(self, arguments: Sequence[str], options: OptionSet) -> None:
        """End with the usage, or raise `ToolError`, for what is missing or does not go together."""
        self.help_or_version(arguments, options, _PURPOSE)
        if sum(options.has(action) for action in (self.alter, self.delete, self.describe, self.list)) != 1:
            self.usage_error("Command must include exactly one action: --alter, --delete, --describe or --list.")
        if not options.has(self.server):
            raise ToolError("--bootstrap-server must be specified.")
        contents = (self.generate_name, self.interval, self.match, self.metrics)
        self.refuse(options, self.delete, contents)
        self.refuse(options, self.describe, contents)
        self.refuse(options, self.list, (self.name, *contents))
        if options.has(self.alter):
            if options.has(self.name) == options.has(self.generate_name):
                raise ToolError("One of --name or --generate-name must be specified with --alter.")
            interval = options.value(self.interval)
            try:
                if interval:
                    INTEGER.convert(interval)
            except ValueError:
                raise ToolError("Invalid interval value. Enter an integer, or leave empty to reset.") from None
        if options.has(self.delete) and not options.has(self.name):
            raise ToolError("A client metrics resource name must be specified with --delete.")


def run(arguments: list[str]) -> int:
    """Run the tool."""
    parser = Parser()
    try:
        options = parser.parse(arguments)
    except OptionError as error:
        parser.usage_error(str(error))
    try:
        parser.check(arguments, options)
        settings = load_properties(options.value(parser.config)) if options.has(parser.config) else {}
    except (ToolError, OptionError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        with open_admin(settings | {"bootstrap.servers": options.value(parser.server)}) as admin:
            _carry_out(admin, parser, options)
    except ToolExit:
        raise
    except Exception as error:
        call = "incrementalAlterConfigs" if options.has(parser.alter) else "listConfigResources"
        print(f"Error while executing client metrics command : {java_message(error, call)}")
        return 1
    return 0


def _carry_out(admin: Admin, parser: Parser, options: OptionSet) -> None:
    if options.has(parser.alter):
        _alter(admin, parser, options)
    elif options.has(parser.describe):
        _describe(admin, options.value(parser.name))
    elif options.has(parser.delete):
        _delete(admin, options.value(parser.name))
    else:
        print("\n".join(admin.list_client_metrics_resources()))


def _alter(admin: Admin, parser: Parser, options: OptionSet) -> None:
    from ottla.client.admin.configs import AlterConfigOp, ConfigResource
    from ottla.core.ids import uuid_to_text

    name = options.value(parser.name)
    if options.has(parser.generate_name):
        import uuid

        name = uuid_to_text(uuid.uuid4().bytes)
    wanted = {
        "interval.ms": options.value(parser.interval) if options.has(parser.interval) else None,
        "metrics": ",".join(options.values(parser.metrics)) if options.has(parser.metrics) else None,
        "match": ",".join(options.values(parser.match)) if options.has(parser.match) else None,
    }
    changes = [
        AlterConfigOp.set(key, value) if value else AlterConfigOp.delete(key)
        for key, value in wanted.items()
        if value is not None
    ]
    admin.incremental_alter_configs({ConfigResource.client_metrics(name): changes})
    print(f"Altered client metrics config for {name}.")


def _describe(admin: Admin, name: str | None) -> None:
    known = admin.list_client_metrics_resources()
    if name is not None and name not in known:
        print(f"The client metric resource {name} doesn't exist and doesn't have dynamic config.")
        return
    for one in known if name is None else [name]:
        print(f"Client metrics configs for {one} are:")
        for entry in _entries(admin, one):
            print(f"  {entry.name}={entry.value}")


def _delete(admin: Admin, name: str) -> None:
    from ottla.client.admin.configs import AlterConfigOp, ConfigResource

    changes = [AlterConfigOp.delete(entry.name) for entry in _entries(admin, name)]
    admin.incremental_alter_configs({ConfigResource.client_metrics(name): changes})
    print(f"Deleted client metrics config for {name}.")


def _entries(admin: Admin, name: str) -> Iterable[ConfigEntry]:
    from ottla.cli.kafka.hash_order import hash_ordered
    from ottla.client.admin.configs import ConfigResource

    resource = ConfigResource.client_metrics(name)
    entries = admin.describe_configs(resource)[resource]
    return [entries[key] for key in hash_ordered(entries)]
