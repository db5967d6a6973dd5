"""The options of `kafka-streams-groups`."""

from __future__ import annotations

from collections.abc import Sequence

from ottla.cli.kafka.common import ToolParser, java_list
from ottla.cli.kafka.consumer_groups import check_described, check_one_target
from ottla.cli.kafka.jopt import LONG, OptionSet

HELP = "This tool helps to list, or describe streams groups."


class Options:
    """The options, and after `read` what of them was given."""

    def __init__(self) -> None:
        parser = self.parser = ToolParser()
        accepts = parser.accepts
        self.given = OptionSet()
        self.bootstrap_server = accepts(
            "bootstrap-server", "REQUIRED: Where the cluster is.", described_as="server to connect to"
        )
        self.group = accepts("group", "The group; may be given several times.", described_as="streams group")
        self.input_topic = accepts(
            "input-topic",
            "The input topic whose offsets are deleted or moved; `topic1:0,1,2` for single partitions. May be given "
            "several times.",
            described_as="topic",
        )
        self.all_input_topics = accepts("all-input-topics", "All topics that the topology reads.")
        self.list = accepts("list", "List all streams groups.")
        self.describe = accepts("describe", "Describe a group, and how far behind it is.")
        self.all_groups = accepts("all-groups", "All streams groups.")
        self.delete = accepts("delete", "Delete groups with all that is known of them: --group g1 --group g2.")
        self.delete_offsets = accepts("delete-offsets", "Delete the offsets of topics; one group at a time.")
        self.timeout = accepts(
            "timeout", "How long to wait for an answer.", type=LONG, described_as="timeout (ms)", defaults=[30000]
        )
        self.command_config = accepts(
            "command-config", "A file with settings of the client.", described_as="command config property file"
        )
        self.state = accepts(
            "state",
            "With --describe: the state of the group. With --list: the states of all groups, or only the groups in "
            "these states: Empty, NotReady, Stable, Assigning, Reconciling, Dead.",
            takes="optional",
        )
        self.members = accepts("members", "Describe the members of the group, with --describe.")
        self.offsets = accepts("offsets", "Describe the offsets of the group: what --describe does anyway.")
        self.reset_offsets = accepts(
            "reset-offsets",
            "Move the offsets of a group that nobody is in.\n"
            "--dry-run shows what would be done, --execute does it; one of both is needed.\n"
            "Where to is said by one of --to-datetime, --by-duration, --to-earliest, --to-latest, --shift-by, "
            "--from-file, --to-current, --to-offset.\n"
            "Of what: --all-input-topics or --input-topic, unless --from-file says it.",
        )
        self._accept_targets()
        self.delete_internal_topic = accepts(
            "delete-internal-topic",
            "Delete this topic of the group's own too, with --reset-offsets and --execute.",
            takes="required",
        )
        self.delete_all_internal_topics = accepts(
            "delete-all-internal-topics",
            "Delete all topics of the group's own too, with --delete, or --reset-offsets and --execute.",
        )
        self.verbose = accepts(
            "verbose",
            "With --describe: tell more of the state (epochs), the members (epochs and target assignments) or the "
            "offsets (leader epochs).",
        )
        self.dry_run = accepts("dry-run", "Only show what would be done, with --reset-offsets.")
        self.execute = accepts("execute", "Do it, with --reset-offsets.")
        self.export = accepts("export", "Print the plan as CSV, with --reset-offsets.")
        for option in (self.members, self.offsets, self.verbose):
            option.available_if.append(self.describe)
        self.state.available_if += [self.list, self.describe]

    def _accept_targets(self) -> None:
        accepts = self.parser.accepts
        self.to_offset = accepts("to-offset", "Move to this offset.", type=LONG, described_as="offset")
        self.from_file = accepts("from-file", "Move as a plan in CSV says.", described_as="path to CSV file")
        self.to_datetime = accepts("to-datetime", "Move to a time: 'YYYY-MM-DDThh:mm:ss.sss'", described_as="datetime")
        self.by_duration = accepts("by-duration", "Move to so long ago: 'PnDTnHnMnS'", described_as="duration")
        self.to_earliest = accepts("to-earliest", "Move to the first offset.")
        self.to_latest = accepts("to-latest", "Move to the end.")
        self.to_current = accepts("to-current", "Move to where the group is.")
        self.shift_by = accepts(
            "shift-by", "Move so many records on, or back.", type=LONG, described_as="number-of-offsets"
        )
        self.targets = [
            *(self.to_offset, self.shift_by, self.to_datetime, self.by_duration),
            *(self.to_earliest, self.to_latest, self.to_current, self.from_file),
        ]

    def read(self, arguments: Sequence[str]) -> OptionSet:
        """Read a command line. Raises `OptionError`."""
        self.given = self.parser.parse(arguments)
        return self.given

    def check(self, arguments: Sequence[str]) -> None:
        """Whether what was given goes together."""
        parser, given = self.parser, self.given
        parser.help_or_version(arguments, given, HELP)
        parser.require(given, self.bootstrap_server)
        scopes = "[all-groups], [group]"
        if given.has(self.describe):
            if not given.has_any([self.group, self.all_groups]):
                parser.usage_error(f"Option {self.describe} takes one of these options: {scopes}")
            check_described(parser, given, self.describe, [self.members, self.offsets, self.state], self.state)
        if given.has(self.delete):
            if not given.has_any([self.group, self.all_groups]):
                parser.usage_error(f"Option {self.delete} takes one of these options: {scopes}")
            if given.has_any([self.input_topic, self.all_input_topics]):
                parser.usage_error(
                    "Kafka Streams does not support topic-specific offset deletion from a streams group."
                )
        if given.has(self.delete_offsets):
            self._check_delete_offsets()
        if given.has(self.reset_offsets):
            self._check_reset(scopes)
        self._check_internal_topics()
        if given.has_any([self.dry_run, self.execute]) and not given.has(self.reset_offsets):
            parser.usage_error(f"Only Option {self.reset_offsets} accepts {self.execute} or {self.dry_run}")
        parser.refuse(given, self.list, [self.members, self.offsets])
        parser.refuse(given, self.group, [self.all_groups])
        parser.refuse(given, self.group, [self.list])
        parser.refuse(given, self.input_topic, [self.list, self.describe, self.delete])

    def _check_delete_offsets(self) -> None:
        parser, given = self.parser, self.given
        if not given.has_any([self.input_topic, self.all_input_topics]) or not given.has(self.group):
            parser.usage_error(
                f"Option {self.delete_offsets} takes the {self.group} and one of these options: "
                f"{self.all_input_topics}, {self.input_topic}"
            )
        groups = given.values(self.group)
        if len(groups) > 1:
            parser.usage_error(
                f"Option {self.delete_offsets} supports only one {self.group} at a time, but found: {java_list(groups)}"
            )

    def _check_reset(self, scopes: str) -> None:
        parser, given, reset = self.parser, self.given, self.reset_offsets
        if given.has(self.dry_run) and given.has(self.execute):
            parser.usage_error(f"Option {reset} only accepts one of {self.execute} and {self.dry_run}")
        if not given.has_any([self.dry_run, self.execute]):
            parser.usage_error(f"Option {reset} takes the option: {self.execute} or {self.dry_run}")
        if not given.has_any([self.group, self.all_groups]):
            parser.usage_error(f"Option {reset} takes one of these options: {scopes}")
        check_one_target(parser, given, self.targets)

    def _check_internal_topics(self) -> None:
        parser, given, reset = self.parser, self.given, self.reset_offsets
        every = self.delete_all_internal_topics
        if given.has(every):
            if not given.has_any([reset, self.delete]):
                parser.usage_error(f"Option {every} takes one of these options: {self.delete}, {reset}")
            if given.has(reset) and not given.has(self.execute):
                parser.usage_error(f"Option {every} takes {self.execute} when {reset} is used.")
        elif given.has(self.delete_internal_topic) and not (given.has(reset) and given.has(self.execute)):
            parser.usage_error(f"Option {self.delete_internal_topic} takes {reset} when {self.execute} is used.")
