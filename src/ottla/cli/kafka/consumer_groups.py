"""`kafka-consumer-groups`: list, describe and delete consumer groups, move and delete their offsets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import ToolError, ToolParser, java_class, java_error, open_admin
from ottla.cli.kafka.consumer_group_output import MISSING, Row, print_members, print_offsets, print_state
from ottla.cli.kafka.error_words import regex_words
from ottla.cli.kafka.group_offsets import chosen, client_settings, delete_named_offsets, new_offsets, print_error
from ottla.cli.kafka.group_service import GroupService
from ottla.cli.kafka.hash_order import hash_ordered, hash_ordered_items
from ottla.cli.kafka.jopt import LONG, Option, OptionError, OptionSet
from ottla.cli.kafka.offset_resets import Offsets, committed_offsets, plan_csv, print_resets
from ottla.cli.kafka.tables import columns, quoted_list, widest
from ottla.cli.kafka.thrown import by_future, by_runtime, plainly
from ottla.client.admin.groups import GroupState, GroupType
from ottla.client.errors import KafkaError
from ottla.client.model import OffsetAndMetadata, TopicPartition
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.client.admin.groups import ConsumerGroupDescription, GroupListing

_HELP = (
    "This tool helps to list all consumer groups, describe a consumer group, delete consumer group info, or reset "
    "consumer group offsets."
)
_TYPES = ("Classic", "Consumer")


class Options:
    """The options, and what of them was given."""

    def __init__(self, arguments: Sequence[str]) -> None:
        parser = self.parser = ToolParser()
        accepts = parser.accepts
        self.bootstrap_server = accepts(
            "bootstrap-server",
            "Where the cluster is. Needed by all actions but --validate-regex.",
            described_as="server to connect to",
        )
        self.group = accepts("group", "The group; may be given several times.", described_as="consumer group")
        self.topic = accepts(
            "topic",
            "The topic whose offsets are deleted or moved; `topic1:0,1,2` for single partitions. May be given several "
            "times.",
            described_as="topic",
        )
        self.all_topics = accepts("all-topics", "Move the offsets of all topics that the group has offsets of.")
        self.list = accepts("list", "List all consumer groups.")
        self.describe = accepts("describe", "Describe a group, and how far behind it is.")
        self.all_groups = accepts("all-groups", "All consumer groups.")
        self.delete = accepts("delete", "Delete groups with all that is known of them: --group g1 --group g2.")
        self.timeout = accepts(
            "timeout",
            "How long to wait for an answer.",
            type=LONG,
            described_as="timeout (ms)",
            defaults=[30000],
        )
        self.command_config = accepts(
            "command-config", "A file with settings of the client.", described_as="command config property file"
        )
        self.reset_offsets = accepts(
            "reset-offsets",
            "Move the offsets of a group that nobody is in.\n"
            "--dry-run (the default) shows what would be done, --execute does it; with --export the plan is printed "
            "as CSV.\n"
            "Where to is said by one of --to-datetime, --by-duration, --to-earliest, --to-latest, --shift-by, "
            "--from-file, --to-current, --to-offset.\n"
            "Of what: --all-topics or --topic, unless --from-file says it.",
        )
        self.delete_offsets = accepts("delete-offsets", "Delete the offsets of topics; one group at a time.")
        self.dry_run = accepts("dry-run", "Only show what would be done, with --reset-offsets.")
        self.execute = accepts("execute", "Do it, with --reset-offsets.")
        self.export = accepts("export", "Print the plan as CSV, with --reset-offsets.")
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
        self.members = accepts("members", "Describe the members of the group, with --describe.")
        self.verbose = accepts("verbose", "Tell more, with --describe.")
        self.offsets = accepts("offsets", "Describe the offsets of the group and its lag: what --describe does anyway.")
        self.state = accepts(
            "state",
            "With --describe: the state of the group. With --list: the states of all groups, or only the groups in "
            "these states, as in `--state stable,empty`.",
            takes="optional",
        )
        self.type = accepts(
            "type",
            "With --list: the types of all groups, or only the groups of these types, as in `--type classic,consumer`.",
            takes="optional",
        )
        self.validate_regex = accepts(
            "validate-regex", "Whether RE2 takes this regular expression.", described_as="regex"
        )
        for option in (self.members, self.verbose, self.offsets):
            option.available_if.append(self.describe)
        self.state.available_if += [self.describe, self.list]
        self.type.available_if.append(self.list)
        self.group_scopes = [self.group, self.all_groups]
        self.targets = [
            *(self.to_offset, self.shift_by, self.to_datetime, self.by_duration),
            *(self.to_earliest, self.to_latest, self.to_current, self.from_file),
        ]
        self.given = parser.parse(arguments)
        self._check(arguments)

    def _check(self, arguments: Sequence[str]) -> None:
        parser, given = self.parser, self.given
        parser.help_or_version(arguments, given, _HELP)
        if not given.has(self.validate_regex):
            parser.require(given, self.bootstrap_server)
        if given.has(self.describe):
            self.need_group(self.describe)
            check_described(parser, given, self.describe, [self.members, self.offsets, self.state], self.state)
        if given.has(self.delete):
            self.need_group(self.delete)
            if given.has(self.topic):
                parser.usage_error(
                    "The consumer does not support topic-specific offset deletion from a consumer group."
                )
        if given.has(self.delete_offsets) and not (given.has(self.group) and given.has(self.topic)):
            parser.usage_error(f"Option {self.delete_offsets} takes the following options: {self.group}, {self.topic}")
        if given.has(self.reset_offsets):
            self._check_reset()
        parser.refuse(given, self.group, [self.all_groups])
        parser.refuse(given, self.group, [self.list])
        parser.refuse(given, self.topic, [self.list, self.describe])

    def _check_reset(self) -> None:
        parser, given = self.parser, self.given
        if given.has(self.dry_run) and given.has(self.execute):
            parser.usage_error(f"Option {self.reset_offsets} only accepts one of {self.execute} and {self.dry_run}")
        if not given.has_any([self.dry_run, self.execute]):
            print(
                "WARN: No action will be performed as the --execute option is missing. In version 5.0, this command "
                "will require either --dry-run or --execute to be specified. You should add the --dry-run option "
                "explicitly if you are scripting this command and want to keep the current default behavior without "
                "prompting.",
                file=sys.stderr,
            )
        self.need_group(self.reset_offsets)
        check_one_target(parser, given, self.targets)

    def need_group(self, action: Option) -> None:
        """A usage error unless it is said which groups."""
        if not self.given.has_any(self.group_scopes):
            named = ", ".join(map(str, self.group_scopes))
            self.parser.usage_error(f"Option {action} takes one of these options: {named}")


def check_described(
    parser: ToolParser, given: OptionSet, describe: Option, choices: Sequence[Option], state: Option
) -> None:
    """At most one thing is described, and the state is not filtered by. `choices` in the order they are named in."""
    if sum(given.has(option) for option in choices) > 1:
        named = ", ".join(map(str, choices))
        parser.usage_error(f"Option {describe} takes at most one of these options: {named}")
    if given.has(state) and given.value(state) is not None:
        parser.usage_error(f"Option {describe} does not take a value for {state}")


def check_one_target(parser: ToolParser, given: OptionSet, targets: Sequence[Option]) -> None:
    """Offsets cannot be moved to two places."""
    for option in targets:
        parser.refuse(given, option, [other for other in targets if other is not option])


def run(arguments: list[str]) -> int:
    """The tool; returns its exit code, which is 0 also where an action failed."""
    options = Options(arguments)
    parser, given = options.parser, options.given
    actions = [
        *(options.list, options.describe, options.delete),
        *(options.reset_offsets, options.delete_offsets, options.validate_regex),
    ]
    if sum(given.has(action) for action in actions) != 1:
        named = ", ".join(f"--{action.names[0]}" for action in actions)
        parser.usage_error(f"Command must include exactly one action: {named}")
    try:
        if given.has(options.validate_regex):
            _validate_regex(given.value(options.validate_regex))
            return 0
        with open_admin(client_settings(given, options.command_config, options.bootstrap_server)) as admin:
            Service(options, admin).act()
    except (ToolError, OptionError) as error:
        if java_class(error) == "java.lang.IllegalArgumentException":
            parser.usage_error(str(error))
        print_error(f"Executing consumer group command failed due to {error}", error)
    return 0


def _validate_regex(text: str) -> None:
    from ottla.core.regex import Regex, RegexError

    try:
        Regex(text)
    except RegexError as error:
        print(f"The regular expression `{text}` is invalid: {regex_words(str(error), text)}.")
    else:
        print(f"The regular expression `{text}` is valid.")


class Service(GroupService[Options]):
    """The actions."""

    LISTED = {"protocol_types": ("", "consumer")}
    STATES = ("PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Empty", "Assigning", "Reconciling")

    def _all_listings(self) -> list[GroupListing]:
        with by_runtime("listGroups"):
            return self._listings(types=(GroupType.CONSUMER, GroupType.CLASSIC))

    # List

    def _list(self) -> None:
        options, given = self._options, self._given
        with_type, with_state = given.has(options.type), given.has(options.state)
        if not with_type and not with_state:
            super()._list()
            return
        types = chosen(given.value(options.type), _TYPES, "types") if with_type else []
        states = chosen(given.value(options.state), self.STATES, "state") if with_state else []
        with by_future("listGroups"):
            listings = self._listings(
                types=[GroupType(one.lower()) for one in types], states=[GroupState(one) for one in states]
            )
        width = widest(15, [listing.group_id for listing in listings]) + 10
        header = ["GROUP", *(["TYPE"] if with_type else []), *(["STATE"] if with_state else [])]
        print(columns([width, 20, 20], header))
        for listing in listings:
            kind = (listing.type or GroupType.UNKNOWN).value.capitalize()
            state = (listing.state or GroupState.UNKNOWN).value
            cells = [listing.group_id, *([kind] if with_type else []), *([state] if with_state else [])]
            print(columns([width, 20, 20], cells))

    # Describe

    def _describe(self) -> None:
        options, given = self._options, self._given
        groups = self._groups()
        verbose = given.has(options.verbose)
        with by_future("describeConsumerGroups"):
            described = self._admin.describe_consumer_groups(groups, timeout_s=self._timeout_s) if groups else {}
        if given.has(options.members):
            for group in sorted(described):
                print_members(described[group], verbose)
        elif given.has(options.state):
            for group in sorted(described):
                print_state(described[group], verbose)
        else:
            rows = {group: self._rows(described[group]) for group in hash_ordered(described)}
            for group in sorted(rows):
                print_offsets(described[group], rows[group], verbose)

    def _rows(self, group: ConsumerGroupDescription) -> list[Row]:
        committed = committed_offsets(self._admin, group.group_id, self._timeout_s)
        rows: list[Row] = []
        assigned: set[TopicPartition] = set()
        for member in sorted(group.members, key=lambda member: -len(member.assignment)):
            if member.assignment:
                assigned |= member.assignment
                rows += self._partition_rows(
                    group.group_id, member.assignment, committed, (member.member_id, member.host, member.client_id)
                )
        unassigned = [partition for partition in committed if partition not in assigned]
        return rows + self._partition_rows(group.group_id, unassigned, committed, (MISSING, MISSING, MISSING))

    def _partition_rows(
        self,
        group: str,
        partitions: Iterable[TopicPartition],
        committed: dict[TopicPartition, OffsetAndMetadata],
        consumer: tuple[str, str, str],
    ) -> list[Row]:
        listed = sorted(partitions)
        leaderless = set(self._resets.without_leader(listed))
        ends = self._resets.to_latest(one for one in listed if one not in leaderless)
        return [Row(group, one, committed.get(one), ends.get(one), *consumer) for one in listed]

    # Delete

    def _delete(self) -> None:
        groups = self._groups()
        failed: dict[str, KafkaError] = {}
        try:
            if groups:
                self._admin.delete_consumer_groups(groups, timeout_s=self._timeout_s)
        except KafkaError as error:
            failed = {group: error.errors[group] for group in hash_ordered(error.errors)}
        deleted = quoted_list(group for group in hash_ordered(groups) if group not in failed)
        if not failed:
            print(f"Deletion of requested consumer groups ({deleted}) was successful.")
            return
        print_error("Deletion of some consumer groups failed:")
        for group, failure in failed.items():
            print(f"* Group '{group}' could not be deleted due to: {java_error(failure)}")
        if deleted:
            print(f"\nThese consumer groups were deleted successfully: {deleted}")

    def _delete_offsets(self) -> None:
        group = self._given.value(self._options.group)
        topics = self._given.values(self._options.topic)
        delete_named_offsets(self._admin, group, topics, self._timeout_s, streams=False)

    # Move offsets

    def _reset_offsets(self) -> None:
        options, given = self._options, self._given
        groups = self._groups()
        assignments = {group: self._reset(group, state) for group, state in self._states(groups).items()}
        if given.has(options.export):
            print(plan_csv(assignments, with_group=len(given.values(options.group)) != 1))
        else:
            print_resets(assignments)

    def _states(self, groups: Sequence[str]) -> dict[str, str]:
        """A group that is not there can be given offsets too: it is as good as dead."""
        states = dict.fromkeys(groups, "Dead")
        try:
            described = self._admin.describe_consumer_groups(groups, timeout_s=self._timeout_s) if groups else {}
        except KafkaError as error:
            for group in hash_ordered(error.errors):
                if error.errors[group].code is not ErrorCode.GROUP_ID_NOT_FOUND:
                    with by_runtime("describeConsumerGroups"):
                        raise error.errors[group] from None
            described = dict(error.results)
        states |= {group: found.state.value for group, found in described.items()}
        return dict(hash_ordered_items(states))

    def _reset(self, group: str, state: str) -> Offsets:
        if state not in ("Empty", "Dead"):
            print_error(
                f"Assignments can only be reset if the group '{group}' is inactive, but the current state is {state}."
            )
            return {}
        with plainly("describeTopics"):
            partitions = self._partitions_to_reset(group)
        offsets = self._new_offsets(group, partitions)
        if self._given.has(self._options.execute) and not self._given.has(self._options.dry_run):
            with plainly("alterConsumerGroupOffsets"):
                new = {partition: OffsetAndMetadata(offset) for partition, offset in offsets.items()}
                self._admin.alter_consumer_group_offsets(group, new, timeout_s=self._timeout_s)
        return offsets

    def _partitions_to_reset(self, group: str) -> list[TopicPartition]:
        options, given = self._options, self._given
        if given.has(options.all_topics):
            return list(committed_offsets(self._admin, group, self._timeout_s))
        if given.has(options.topic):
            return self._resets.named_partitions(given.values(options.topic))
        if not given.has(options.from_file):
            options.parser.usage_error("One of the reset scopes should be defined: --all-topics, --topic.")
        return []

    def _new_offsets(self, group: str, partitions: list[TopicPartition]) -> Offsets:
        self._resets.check(partitions)
        options = self._options
        found = new_offsets(self._resets, self._given, options, group, partitions, lambda: self._committed(group))
        if found is None:
            named = ", ".join(map(str, options.targets))
            options.parser.usage_error(
                f"Option '{options.reset_offsets}' requires one of the following scenarios: [{named}]"
            )
        return found

    def _committed(self, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
        return committed_offsets(self._admin, group, self._timeout_s)
