"""`kafka-share-groups`: list, describe and delete share groups (KIP-932), move and delete where they start."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import (
    ToolError,
    ToolExit,
    ToolParser,
    java_class,
    java_error,
    java_message,
    open_admin,
)
from ottla.cli.kafka.consumer_groups import check_described, check_one_target
from ottla.cli.kafka.group_offsets import client_settings, print_error
from ottla.cli.kafka.group_service import GroupService
from ottla.cli.kafka.hash_order import hash_ordered, hash_ordered_items
from ottla.cli.kafka.jopt import LONG, OptionError
from ottla.cli.kafka.offset_resets import Offsets, print_resets
from ottla.cli.kafka.tables import assignment_text, columns, quoted_list, widest
from ottla.cli.kafka.thrown import by_future, by_runtime, plainly
from ottla.client.admin.groups import GroupState, GroupType
from ottla.client.errors import KafkaError
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.client.admin.group_offsets import SharePartitionOffset
    from ottla.client.admin.groups import GroupListing
    from ottla.client.admin.modern_groups import ShareGroupDescription

MISSING = "-"
_HELP = "This tool helps to list, describe, reset and delete share groups."
_GROUP_ERRORS = (
    ErrorCode.INVALID_GROUP_ID,
    ErrorCode.GROUP_ID_NOT_FOUND,
    ErrorCode.GROUP_AUTHORIZATION_FAILED,
    ErrorCode.NON_EMPTY_GROUP,
)
_TOPIC_ERRORS = (ErrorCode.TOPIC_AUTHORIZATION_FAILED, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


class Options:
    """The options, and what of them was given."""

    def __init__(self, arguments: Sequence[str]) -> None:
        parser = self.parser = ToolParser()
        accepts = parser.accepts
        self.bootstrap_server = accepts(
            "bootstrap-server", "REQUIRED: Where the cluster is.", described_as="server to connect to"
        )
        self.group = accepts("group", "The group; may be given several times.", described_as="share group")
        self.topic = accepts(
            "topic",
            "The topic whose offsets are deleted or moved; `topic1:0,1,2` to move those of single partitions.",
            described_as="topic",
        )
        self.all_topics = accepts("all-topics", "Move the offsets of all topics of the group.")
        self.list = accepts("list", "List all share groups.")
        self.describe = accepts("describe", "Describe a group: its offsets, members or state.")
        self.all_groups = accepts("all-groups", "All share groups.")
        self.delete = accepts("delete", "Delete groups.")
        self.timeout = accepts(
            "timeout", "How long to wait for an answer.", type=LONG, described_as="timeout (ms)", defaults=[30000]
        )
        self.command_config = accepts(
            "command-config", "A file with settings of the client.", described_as="command config property file"
        )
        self.reset_offsets = accepts(
            "reset-offsets",
            "Move where a group starts that nobody is in.\n"
            "--dry-run shows what would be done, --execute does it; one of both is needed.\n"
            "Where to is said by one of --to-datetime, --to-earliest, --to-latest.\n"
            "Of what: --all-topics or --topic.",
        )
        self.delete_offsets = accepts("delete-offsets", "Delete the offsets of topics; one group at a time.")
        self.dry_run = accepts("dry-run", "Only show what would be done, with --reset-offsets.")
        self.execute = accepts("execute", "Do it, with --reset-offsets.")
        self.to_datetime = accepts("to-datetime", "Move to a time: 'YYYY-MM-DDThh:mm:ss.sss'", described_as="datetime")
        self.to_earliest = accepts("to-earliest", "Move to the first offset.")
        self.to_latest = accepts("to-latest", "Move to the end.")
        self.members = accepts("members", "Describe the members of the group, with --describe.")
        self.offsets = accepts("offsets", "Describe the offsets of the group: what --describe does anyway.")
        self.state = accepts(
            "state",
            "With --describe: the state of the group. With --list: the states of all groups, or only the groups in "
            "these states: Empty, Stable, Dead.",
            takes="optional",
        )
        self.verbose = accepts("verbose", "Tell more, with --describe.")
        for option in (self.members, self.offsets, self.verbose):
            option.available_if.append(self.describe)
        self.state.available_if += [self.describe, self.list]
        self.targets = [self.to_datetime, self.to_earliest, self.to_latest]
        self.given = parser.parse(arguments)
        self._check(arguments)

    def _check(self, arguments: Sequence[str]) -> None:
        parser, given = self.parser, self.given
        parser.help_or_version(arguments, given, _HELP)
        parser.require(given, self.bootstrap_server)
        if given.has(self.describe):
            if not given.has_any([self.group, self.all_groups]):
                parser.usage_error(f"Option {self.describe} takes one of these options: [all-groups], [group]")
            check_described(parser, given, self.describe, [self.members, self.offsets, self.state], self.state)
        if given.has(self.delete):
            if not given.has_any([self.group, self.all_groups]):
                parser.usage_error(f"Option {self.delete} takes the options {self.group} or {self.all_groups}")
            if given.has(self.group) and given.has(self.all_groups):
                parser.usage_error(f"Option {self.delete} takes either {self.group} or {self.all_groups}, not both.")
            if given.has(self.topic):
                parser.usage_error(f"Option {self.delete} does not take the option: {self.topic}")
        if given.has(self.delete_offsets) and not (given.has(self.group) and given.has(self.topic)):
            parser.usage_error(f"Option {self.delete_offsets} takes the following options: {self.group}, {self.topic}")
        if given.has(self.reset_offsets):
            self._check_reset()
        parser.refuse(given, self.group, [self.all_groups])
        parser.refuse(given, self.group, [self.list])
        parser.refuse(given, self.topic, [self.list, self.describe])

    def _check_reset(self) -> None:
        parser, given, reset = self.parser, self.given, self.reset_offsets
        if given.has(self.dry_run) and given.has(self.execute):
            parser.usage_error(f"Option {reset} only accepts one of {self.execute} and {self.dry_run}")
        if not given.has_any([self.dry_run, self.execute]):
            parser.usage_error(f"Option {reset} takes the option: {self.execute} or {self.dry_run}")
        if not given.has(self.group):
            parser.usage_error(f"Option {reset} takes the option: {self.group}")
        if not given.has_any([self.topic, self.all_topics]):
            parser.usage_error(f"Option {reset} takes one of these options: {self.all_topics}, {self.topic}")
        if not given.has_any(self.targets):
            named = ", ".join(map(str, self.targets))
            parser.usage_error(f"Option {reset} takes one of these options: {named}")
        check_one_target(parser, given, self.targets)


def run(arguments: list[str]) -> int:
    """The tool; returns its exit code."""
    options = Options(arguments)
    parser, given = options.parser, options.given
    actions = [options.list, options.describe, options.delete, options.reset_offsets, options.delete_offsets]
    if sum(given.has(action) for action in actions) != 1:
        named = ", ".join(f"--{action.names[0]}" for action in actions)
        parser.usage_error(f"Command must include exactly one action: {named}.")
    try:
        with open_admin(client_settings(given, options.command_config, options.bootstrap_server)) as admin:
            Service(options, admin).act()
    except (ToolError, OptionError) as error:
        if java_class(error) == "java.lang.IllegalArgumentException":
            parser.usage_error(str(error))
        print_error(f"Executing share group command failed due to {error}", error)
    return 0


class Service(GroupService[Options]):
    """The actions."""

    LISTED = {"types": (GroupType.SHARE,)}
    STATES = ("Stable", "Dead", "Empty")

    # Describe

    def _describe(self) -> None:
        options, given = self._options, self._given
        groups = self._groups()
        verbose = given.has(options.verbose)
        described: dict[str, ShareGroupDescription] = {}
        if groups:
            with by_future("describeShareGroups"):
                described = self._admin.describe_share_groups(groups, timeout_s=self._timeout_s)
        if given.has(options.members):
            for group in sorted(described):
                _print_members(described[group], verbose)
        elif given.has(options.state):
            for group in sorted(described):
                _print_state(described[group], verbose)
        else:
            offsets = {group: self._offsets(group) for group in hash_ordered(described)}
            for group in sorted(offsets):
                _print_offsets(group, offsets[group], verbose)

    def _offsets(self, group: str) -> dict[TopicPartition, SharePartitionOffset | None]:
        with by_runtime("describeShareGroupOffsets"):
            return self._admin.list_share_group_offsets(group, timeout_s=self._timeout_s)[group]

    # Delete

    def _delete(self) -> None:
        listings = {listing.group_id: listing for listing in self._all_listings()}
        given = self._given
        groups = list(listings) if given.has(self._options.all_groups) else given.values(self._options.group)
        failed: dict[str, str] = {}
        for group in dict.fromkeys(groups):
            reason = _not_deletable(group, listings.get(group))
            if reason is not None:
                failed[group] = java_error(reason)
        wanted = [group for group in dict.fromkeys(groups) if group not in failed]
        try:
            if wanted:
                self._admin.delete_share_groups(wanted, timeout_s=self._timeout_s)
        except KafkaError as error:
            failed |= {group: java_error(error.errors[group]) for group in error.errors}
        deleted = quoted_list(group for group in hash_ordered(wanted) if group not in failed)
        if not failed:
            print(f"Deletion of requested share groups ({deleted}) was successful.")
            return
        print_error("Deletion of some share groups failed:")
        for group, text in hash_ordered_items(failed):
            print(f"* Group '{group}' could not be deleted due to: {text}")
        if deleted:
            print(f"\nThese share groups were deleted successfully: {deleted}")

    def _delete_offsets(self) -> None:
        group = self._given.value(self._options.group)
        topics = hash_ordered(self._given.values(self._options.topic))
        of_group: KafkaError | None = None
        errors: Mapping[str, KafkaError] = {}
        try:
            self._admin.delete_share_group_offsets(group, topics, timeout_s=self._timeout_s)
        except KafkaError as error:
            # A group and a topic may have the same name; an error of the group comes alone.
            of_group = error.errors.get(group) if error.code in _GROUP_ERRORS else None
            errors = {} if of_group else error.errors
        first = of_group or next((errors[topic] for topic in topics if topic in errors), None)
        if first is not None and first.code in _GROUP_ERRORS:
            print_error(java_message(first))
        elif first is not None and first.code not in _TOPIC_ERRORS:
            print_error(f"Encounter some unknown error: {java_error(first)}")
        width = widest(15, topics)
        print(f"\n{'TOPIC':<{width}} STATUS", end="")
        for topic in sorted(topics):
            failure = of_group or errors.get(topic)
            status = "Successful" if failure is None else f"Error: {java_message(failure)}"
            print(f"\n{topic:<{width}} {status}", end="")
        print()

    # Move offsets

    def _reset_offsets(self) -> None:
        group = self._given.value(self._options.group)
        try:
            found = self._admin.describe_share_groups(group, timeout_s=self._timeout_s)[group]
        except KafkaError as error:
            if error.code is not ErrorCode.GROUP_ID_NOT_FOUND:
                _fail(java_message(error, "describeShareGroups"))
        else:
            if found.state not in (GroupState.EMPTY, GroupState.DEAD):
                _fail(f"Share group '{group}' is not empty.")
        with plainly("describeTopics"):
            partitions = self._partitions_to_reset(group)
        offsets = self._new_offsets(partitions)
        if self._given.has(self._options.execute):
            with plainly("alterShareGroupOffsets"):
                self._admin.alter_share_group_offsets(group, offsets, timeout_s=self._timeout_s)
        print_resets({group: offsets})

    def _partitions_to_reset(self, group: str) -> list[TopicPartition]:
        if self._given.has(self._options.topic):
            return self._resets.named_partitions(self._given.values(self._options.topic))
        return hash_ordered(self._admin.list_share_group_offsets(group, timeout_s=self._timeout_s)[group])

    def _new_offsets(self, partitions: list[TopicPartition]) -> Offsets:
        options, given = self._options, self._given
        self._resets.check(partitions)
        if given.has(options.to_earliest):
            return self._resets.to_earliest(partitions)
        if given.has(options.to_latest):
            return self._resets.to_latest(partitions)
        return self._resets.to_datetime(partitions, given.values(options.to_datetime)[0])


def _fail(message: str) -> None:
    print(message, file=sys.stderr)
    raise ToolExit(1)


def _not_deletable(group: str, listing: GroupListing | None) -> ToolError | None:
    if listing is None:
        return ToolError(f"Group '{group}' is not a share group.")
    if listing.state is GroupState.DEAD:
        return ToolError(f"Share group '{group}' group state is DEAD.", "IllegalStateException")
    if listing.state is not None and listing.state is not GroupState.EMPTY:
        return ToolError(
            f"Share group '{group}' is not EMPTY.", "org.apache.kafka.common.errors.GroupNotEmptyException"
        )
    return None


# Output


def _print_offsets(group: str, offsets: Mapping[TopicPartition, SharePartitionOffset | None], verbose: bool) -> None:
    if not offsets:
        print(f"\nShare group '{group}' has no offset information.")
        return
    widths = [widest(15, [group]), widest(15, [one.topic for one in offsets]), 10, *([13, 13] if verbose else [13])]
    numbers = [*(["LEADER-EPOCH"] if verbose else []), "START-OFFSET", "LAG"]
    print(f"\n{columns(widths, ['GROUP', 'TOPIC', 'PARTITION', *numbers])}", end="")
    for partition in sorted(offsets):
        found = offsets[partition]
        known = (None, None, None) if found is None else (found.leader_epoch, found.start_offset, found.lag)
        values = [MISSING if value is None else value for value in known[0 if verbose else 1 :]]
        print(f"\n{columns(widths, [group, *partition, *values])}", end="")
    print()


def _print_state(group: ShareGroupDescription, verbose: bool) -> None:
    _has_members(group)
    coordinator = f"{group.coordinator.host}:{group.coordinator.port}  ({group.coordinator.id})"
    widths = [widest(15, [group.group_id]), widest(25, [coordinator]), 15, *([12, 17] if verbose else [])]
    epochs = ["GROUP-EPOCH", "ASSIGNMENT-EPOCH"] if verbose else []
    values = [group.group_epoch, group.target_assignment_epoch] if verbose else []
    print(f"\n{columns(widths, ['GROUP', 'COORDINATOR (ID)', 'STATE', *epochs, '#MEMBERS'])}", end="")
    print(f"\n{columns(widths, [group.group_id, coordinator, group.state.value, *values, len(group.members)])}")


def _print_members(group: ShareGroupDescription, verbose: bool) -> None:
    if not _has_members(group) or not group.members:
        return
    members = sorted(group.members, key=lambda member: member.member_id)
    widths = [
        widest(15, [group.group_id]),
        widest(15, [member.member_id for member in members]),
        widest(15, [member.host for member in members]),
        widest(15, [member.client_id for member in members]),
        *([12, 13] if verbose else [12]),
    ]
    epoch = ["MEMBER-EPOCH"] if verbose else []
    header = ["GROUP", "CONSUMER-ID", "HOST", "CLIENT-ID", "#PARTITIONS", *epoch, "ASSIGNMENT"]
    print(f"\n{columns(widths, header)}", end="")
    for member in members:
        cells: list[object] = [group.group_id, member.member_id, member.host, member.client_id, len(member.assignment)]
        cells += [member.member_epoch] if verbose else []
        print(f"\n{columns(widths, [*cells, assignment_text(member.assignment)])}", end="")
    print()


def _has_members(group: ShareGroupDescription) -> bool:
    """Says what is special about the group; whether there is something to print of it."""
    if group.state is GroupState.DEAD:
        print_error(f"Share group '{group.group_id}' does not exist.")
    elif group.state is GroupState.EMPTY:
        print(f"\nShare group '{group.group_id}' has no active members.", file=sys.stderr)
    return group.state is not GroupState.DEAD
