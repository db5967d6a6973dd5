"""kafka-groups: all groups of the cluster, of whatever kind."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import ToolError, ToolExit, ToolParser, java_message, load_properties, open_admin
from ottla.cli.kafka.jopt import OptionError, OptionSet

if TYPE_CHECKING:
    from ottla.client.admin.groups import GroupListing

_PURPOSE = "This tool helps to list groups of all types."
_NARROWEST = 20


class Parser(ToolParser):
    """The options of kafka-groups."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.accepts(
            "bootstrap-server",
            "REQUIRED: a broker of the cluster.",
            described_as="server to connect to",
            required=True,
        )
        self.config = self.accepts(
            "command-config", "A file with settings of the admin client.", described_as="command config property file"
        )
        self.list = self.accepts("list", "List the groups.")
        self.type = self.accepts(
            "group-type", "Only groups of this type: 'classic', 'consumer', 'share' or 'streams'.", described_as="type"
        )
        self.protocol = self.accepts("protocol", "Only groups with this protocol.", described_as="protocol")
        self.consumer = self.accepts(
            "consumer",
            "Only groups of consumers: of type 'consumer', and classic ones of consumers or without members.",
        )
        self.share = self.accepts("share", "Only share groups.")
        self.streams = self.accepts("streams", "Only streams groups.")

    def check(self, arguments: Sequence[str], options: OptionSet) -> None:
        """End with the usage, or raise `ToolError`, for what does not go together."""
        self.help_or_version(arguments, options, _PURPOSE)
        if not options.has(self.list):
            self.usage_error("Command must include exactly one action: --list.")
        if options.has(self.type) and options.value(self.type).lower() not in _TYPES:
            raise ToolError("--group-type must be a valid group type.")
        kinds = (self.consumer, self.share, self.streams)
        filters = (self.consumer, self.type, self.protocol, self.share, self.streams)
        for kind in kinds:
            order = filters if kind is self.consumer else (self.consumer, self.type, self.protocol, *kinds[1:])
            self.refuse(options, kind, [one for one in order if one is not kind])


_TYPES = ("classic", "consumer", "share", "streams")


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
            groups = admin.list_groups()
    except ToolExit:
        raise
    except Exception as error:
        print(f"Error while executing groups command : {java_message(error, 'findAllBrokers')}")
        return 1
    from ottla.cli.kafka.hash_order import hash_ordered

    by_id = {group.group_id: group for group in groups}
    _print([by_id[group_id] for group_id in hash_ordered(by_id) if _passes(by_id[group_id], parser, options)])
    return 0


def _passes(group: GroupListing, parser: Parser, options: OptionSet) -> bool:
    kind = str(group.type.value).lower() if group.type is not None else ""
    protocol = group.protocol_type
    wanted = options.value(parser.protocol)
    if options.has(parser.type):
        return kind == options.value(parser.type).lower() and wanted in (None, protocol)
    if wanted is not None:
        return bool(protocol == wanted)
    if options.has(parser.consumer):
        return protocol in ("consumer", "") or kind == "consumer"
    if options.has(parser.share):
        return kind == "share"
    return not options.has(parser.streams) or kind == "streams"


def _print(groups: Sequence[GroupListing]) -> None:
    rows = [
        (group.group_id, group.type.value.capitalize() if group.type is not None else "", group.protocol_type)
        for group in groups
    ]
    width = max([_NARROWEST, *(len(cell) for row in rows for cell in row)])
    print(" ".join(f"{head:<{width}}" for head in ("GROUP", "TYPE", "PROTOCOL")))
    for row in rows:
        print("".join(f"{cell:<{width}} " for cell in row))
