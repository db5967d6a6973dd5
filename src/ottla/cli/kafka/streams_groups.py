"""`kafka-streams-groups`: list, describe and delete streams groups (KIP-1071), move and delete their offsets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import ToolError, java_class, java_error, open_admin
from ottla.cli.kafka.group_offsets import (
    client_settings,
    delete_named_offsets,
    delete_offsets,
    new_offsets,
    print_error,
)
from ottla.cli.kafka.group_service import GroupService
from ottla.cli.kafka.hash_order import hash_ordered, hash_ordered_items
from ottla.cli.kafka.jopt import OptionError
from ottla.cli.kafka.offset_resets import Offsets, committed_offsets, plan_csv
from ottla.cli.kafka.streams_group_options import Options
from ottla.cli.kafka.streams_group_output import print_members, print_offsets, print_state
from ottla.cli.kafka.streams_topics import is_internal
from ottla.cli.kafka.tables import columns
from ottla.cli.kafka.thrown import by_future, by_runtime, plainly
from ottla.client.admin.groups import GroupState, GroupType
from ottla.client.admin.offsets import OffsetSpec
from ottla.client.errors import KafkaError
from ottla.client.model import OffsetAndMetadata, TopicPartition
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.client.admin.modern_groups import StreamsGroupDescription


def run(arguments: list[str]) -> int:
    """The tool; returns its exit code."""
    options = Options()
    try:
        given = options.read(arguments)
    except OptionError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        options.check(arguments)
        actions = [options.list, options.describe, options.reset_offsets, options.delete, options.delete_offsets]
        if sum(given.has(action) for action in actions) != 1:
            raise ToolError(
                "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, or "
                "--delete-offsets."
            )
        with open_admin(client_settings(given, options.command_config, options.bootstrap_server)) as admin:
            Service(options, admin).act()
    except OptionError as error:
        options.parser.usage_error(str(error))
    except ToolError as error:
        if java_class(error) == "java.lang.IllegalArgumentException":
            options.parser.usage_error(str(error))
        print_error(f"Executing streams group command failed due to {error}", error)
        return 1
    return 0


class Service(GroupService[Options]):
    """The actions."""

    LISTED = {"types": (GroupType.STREAMS,)}
    STATES = ("Stable", "Dead", "Empty", "Assigning", "Reconciling", "NotReady")

    # Describe

    def _describe(self) -> None:
        verbose = self._given.has(self._options.verbose)
        for group_id in self._groups():
            with by_future("describeStreamsGroups"):
                group = self._admin.describe_streams_groups(group_id, timeout_s=self._timeout_s)[group_id]
            if self._given.has(self._options.members):
                print_members(group, verbose)
            elif self._given.has(self._options.state):
                print_state(group, verbose)
            else:
                partitions = _consumed(group)
                with by_future("listOffsets"):
                    earliest = self._log_offsets(partitions, OffsetSpec.EARLIEST)
                    latest = self._log_offsets(partitions, OffsetSpec.LATEST)
                print_offsets(group, earliest, latest, self._committed(group_id, repartitioned=True), verbose)

    def _log_offsets(self, partitions: Sequence[TopicPartition], spec: OffsetSpec) -> Offsets:
        if not partitions:
            return {}
        found = self._admin.list_offsets(dict.fromkeys(partitions, spec), timeout_s=self._timeout_s)
        return {
            partition: -1 if found[partition].offset is None else found[partition].offset or 0
            for partition in partitions
        }

    def _committed(self, group_id: str, *, repartitioned: bool) -> dict[TopicPartition, OffsetAndMetadata]:
        """What is committed for the topics that the topology reads, with or without those that it writes itself."""
        with by_runtime("describeStreamsGroups"):
            group = self._admin.describe_streams_groups(group_id, timeout_s=self._timeout_s)[group_id]
        topics = {topic for part in group.subtopologies for topic in part.source_topics}
        if repartitioned:
            topics |= {topic.name for part in group.subtopologies for topic in part.repartition_source_topics}
        found = committed_offsets(self._admin, group_id, self._timeout_s, streams=True)
        return {partition: offset for partition, offset in found.items() if partition.topic in topics}

    # Delete

    def _delete(self) -> None:
        groups = list(dict.fromkeys(self._groups()))
        failed = self._not_deletable(groups)
        wanted = [group for group in groups if group not in failed]
        internal: dict[str, list[str]] = {}
        if wanted:
            if self._given.has(self._options.delete_all_internal_topics):
                internal = self._internal_topics(wanted)
            try:
                self._admin.delete_streams_groups(wanted, timeout_s=self._timeout_s)
            except KafkaError as error:
                failed |= {group: java_error(error.errors[group]) for group in error.errors}
        deleted = [group for group in hash_ordered(wanted) if group not in failed]
        remaining = self._delete_internal_topics(deleted, internal)
        named = "'" + "', '".join(deleted) + "'"
        if not failed:
            print(f"Deletion of requested streams groups ({named}) was successful.")
        else:
            print_error("Deletion of some streams groups failed:")
            for group, text in hash_ordered_items(failed):
                print(f"* Group '{group}' could not be deleted due to: {text}")
            if deleted:
                print(f"\nThese streams groups were deleted successfully: {named}.")
        if internal and deleted:
            _print_internal(deleted, internal, remaining)

    def _not_deletable(self, groups: Iterable[str]) -> dict[str, str]:
        listings = {listing.group_id: listing for listing in self._all_listings()}
        failed: dict[str, str] = {}
        for group in groups:
            listing = listings.get(group)
            if listing is None:
                text = f"Group '{group}' does not exist or is not a streams group."
                failed[group] = f"java.lang.IllegalArgumentException: {text}"
            elif listing.state is GroupState.DEAD:
                failed[group] = f"java.lang.IllegalStateException: Streams group '{group}' group state is DEAD."
            elif listing.state is not None and listing.state is not GroupState.EMPTY:
                text = f"Streams group '{group}' is not EMPTY."
                failed[group] = f"org.apache.kafka.common.errors.GroupNotEmptyException: {text}"
        return failed

    def _internal_topics(self, groups: Sequence[str]) -> dict[str, list[str]]:
        """The topics that the topologies of these groups made for themselves."""
        try:
            described = self._admin.describe_streams_groups(groups, timeout_s=self._timeout_s)
        except KafkaError as error:
            print_error(f"Retrieving internal topics failed due to {java_error(error)}", error)
            return {}
        found = {}
        for group_id in hash_ordered(described):
            parts = described[group_id].subtopologies
            sources = {topic for part in parts for topic in part.source_topics}
            topics = []
            for part in parts:
                for topic in (*part.repartition_source_topics, *part.state_changelog_topics):
                    if topic.name in sources:
                        continue
                    if is_internal(topic.name, group_id):
                        topics.append(topic.name)
                    else:
                        print_error(
                            f"The internal topic '{topic.name}' is not inferred as internal and thus will not be "
                            f"deleted with the group '{group_id}'."
                        )
            if topics:
                found[group_id] = topics
        return found

    def _delete_internal_topics(
        self, groups: Sequence[str], internal: Mapping[str, list[str]]
    ) -> dict[str, KafkaError]:
        failures = {}
        for group in groups:
            if internal.get(group):
                try:
                    self._admin.delete_topics(internal[group], timeout_s=self._timeout_s)
                except KafkaError as error:
                    for topic in hash_ordered(error.errors):
                        print(f"Failed to delete internal topic: {topic}")
                    failures[group] = error
        return failures

    def _delete_offsets(self) -> None:
        options, given = self._options, self._given
        group = given.value(options.group)
        if given.has(options.all_input_topics):
            partitions = self._committed(group, repartitioned=False)
            delete_offsets(self._admin, group, partitions, self._timeout_s, {}, streams=True)
        else:
            topics = given.values(options.input_topic)
            delete_named_offsets(self._admin, group, topics, self._timeout_s, streams=True)

    # Move offsets

    def _reset_offsets(self) -> None:
        options, given = self._options, self._given
        groups = self._groups()
        assignments: dict[str, Offsets] = {}
        if groups:
            for group, state in self._states(groups).items():
                assignments[group] = self._reset(group, state)
        if given.has(options.export):
            print(plan_csv(assignments, with_group=len(given.values(options.group)) != 1))
            return
        widths = [30, 30, 10, 15]
        if assignments:
            print(f"\n{columns(widths, ['GROUP', 'TOPIC', 'PARTITION', 'NEW-OFFSET'])}", end="")
        for group, offsets in assignments.items():
            for partition, offset in offsets.items():
                print(f"\n{columns(widths, [group, *partition, offset])}", end="")
        print()

    def _states(self, groups: Sequence[str]) -> dict[str, str | None]:
        """None: the group is not there; it can be given offsets all the same."""
        states: dict[str, str | None] = dict.fromkeys(groups)
        try:
            described = self._admin.describe_streams_groups(groups, timeout_s=self._timeout_s)
        except KafkaError as error:
            for one in error.errors.values():
                if one.code is not ErrorCode.GROUP_ID_NOT_FOUND:
                    with by_runtime("describeStreamsGroups"):
                        raise one from None
            described = dict(error.results)
        states |= {group: found.state.value for group, found in described.items()}
        return dict(hash_ordered_items(states))

    def _reset(self, group: str, state: str | None) -> Offsets:
        if state not in (None, "Empty", "Dead"):
            print_error(
                f"Assignments can only be reset if the group '{group}' is inactive, but the current state is {state}."
            )
            return {}
        with plainly("describeTopics"):
            partitions = self._partitions_to_reset(group)
        options = self._options
        found = new_offsets(
            self._resets,
            self._given,
            options,
            group,
            partitions,
            lambda: self._committed(group, repartitioned=True),
        )
        if found is None:
            named = ", ".join(map(str, options.targets))
            options.parser.usage_error(
                f"Option '{options.reset_offsets}' requires one of the following scenarios: [{named}]"
            )
        if self._given.has(options.execute):
            with plainly("alterStreamsGroupOffsets"):
                new = {partition: OffsetAndMetadata(offset) for partition, offset in found.items()}
                self._admin.alter_streams_group_offsets(group, new, timeout_s=self._timeout_s)
            if state is not None:
                self._forget_internal_topics(group)
        return found

    def _partitions_to_reset(self, group: str) -> list[TopicPartition]:
        options, given = self._options, self._given
        if given.has(options.all_input_topics):
            return list(self._committed(group, repartitioned=False))
        if given.has(options.input_topic):
            partitions = self._resets.named_partitions(given.values(options.input_topic))
            self._resets.check(partitions)
            committed = committed_offsets(self._admin, group, self._timeout_s, streams=True)
            if all(partition in committed for partition in partitions):
                return partitions
            print_error(f"One or more topics are not part of the group '{group}'.")
            return []
        if not given.has(options.from_file):
            options.parser.usage_error("One of the reset scopes should be defined: --all-topics, --topic.")
        return []

    def _forget_internal_topics(self, group: str) -> None:
        options, given = self._options, self._given
        topics: list[str] = []
        if given.has(options.delete_all_internal_topics):
            topics = self._internal_topics([group]).get(group, [])
        elif given.has(options.delete_internal_topic):
            topics = given.values(options.delete_internal_topic)
        if not topics:
            return
        try:
            self._admin.delete_topics(topics, timeout_s=self._timeout_s)
        except KafkaError as error:
            what = f"Deleting internal topics for group '{group}' failed"
            if error.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                print_error(f"{what} because the topics do not exist.")
            else:
                print_error(f"{what} due to {java_error(error)}", error)


def _print_internal(
    deleted: Sequence[str], internal: Mapping[str, list[str]], failures: Mapping[str, KafkaError]
) -> None:
    if not failures:
        named = "', '".join(group for group in deleted if group in internal)
        print(f"Deletion of associated internal topics of the streams groups ('{named}') was successful.")
        return
    print("Deletion of some associated internal topics failed:")
    for group, error in hash_ordered_items(failures):
        print(f"* Internal topics of the streams group '{group}' could not be deleted due to: {java_error(error)}")


def _consumed(group: StreamsGroupDescription) -> list[TopicPartition]:
    """The partitions that the members' active tasks read."""
    topics = {
        part.subtopology_id: [*part.source_topics, *(topic.name for topic in part.repartition_source_topics)]
        for part in group.subtopologies
    }
    found = []
    for member in group.members:
        for task in sorted(member.assignment.active_tasks):
            if task.subtopology_id not in topics:
                raise ToolError(f"Subtopology {task.subtopology_id} not found in group description!")
            found += [TopicPartition(topic, task.partition) for topic in topics[task.subtopology_id]]
    return hash_ordered(found)
