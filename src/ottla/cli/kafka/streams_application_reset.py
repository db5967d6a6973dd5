"""`kafka-streams-application-reset`: set an application of Kafka Streams back to its beginning.

Its offsets in the topics that it reads are moved, and the topics that it made for itself are deleted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import (
    ToolError,
    ToolParser,
    java_class,
    java_error,
    java_list,
    java_text,
    load_properties,
    open_admin,
)
from ottla.cli.kafka.hash_order import hash_ordered
from ottla.cli.kafka.jopt import LONG, OptionError
from ottla.cli.kafka.offset_resets import Offsets, committed_offsets, parse_datetime, parse_duration_ms
from ottla.cli.kafka.streams_topics import is_internal
from ottla.cli.kafka.thrown import by_future
from ottla.client.admin.offsets import OffsetSpec
from ottla.client.errors import KafkaError
from ottla.client.model import OffsetAndMetadata, TopicPartition
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.admin.groups import MemberDescription

_HELP = (
    "This tool sets an application of Kafka Streams back, so that it processes its data again from the beginning.\n"
    "* Offsets of input topics are moved to the beginning, or to where other options say.\n"
    '* Topics that Kafka Streams made for the application (they begin with "<application.id>-") are deleted; they are '
    "found by their names, --dry-run shows which, and --internal-topics takes only some of them.\n"
    "* Output topics are not deleted.\n"
    "* State on the machines of the application is not deleted: call KafkaStreams#cleanUp(), or delete the directory "
    "that state.dir names.\n"
    "* --force removes members that are still in the group. Stop the application before.\n\n"
    "*** With old local state the application will give wrong results.\n\n"
    '*** What is done cannot be taken back. Try it with "--dry-run" first.\n\n'
)
_ILLEGAL_STATE = "IllegalStateException"


class Options:
    """The options, and what of them was given."""

    def __init__(self, arguments: Sequence[str]) -> None:
        parser = self.parser = ToolParser()
        accepts = parser.accepts
        self.application_id = accepts(
            "application-id", "REQUIRED: The id of the application.", described_as="id", required=True
        )
        self.bootstrap_server = accepts(
            "bootstrap-server",
            "Where the cluster is: HOST1:PORT1,HOST2:PORT2. (default: localhost:9092)",
            described_as="server to connect to",
        )
        self.input_topics = accepts(
            "input-topics",
            "The topics that the application reads, separated by commas. Their offsets are moved to the beginning, or "
            "to where another option says.",
            described_as="list",
            separator=",",
        )
        self.intermediate_topics = accepts(
            "intermediate-topics",
            "[deprecated] Topics that the application both writes and reads: their offsets are moved to the end.",
            described_as="list",
            separator=",",
        )
        self.internal_topics = accepts(
            "internal-topics",
            "The topics to delete, instead of all that --dry-run shows.",
            described_as="list",
            separator=",",
        )
        self.to_offset = accepts("to-offset", "Move to this offset.", type=LONG)
        self.to_datetime = accepts("to-datetime", "Move to a time: 'YYYY-MM-DDThh:mm:ss.sss'", takes="required")
        self.by_duration = accepts("by-duration", "Move to so long ago: 'PnDTnHnMnS'", takes="required")
        self.to_earliest = accepts("to-earliest", "Move to the first offset.")
        self.to_latest = accepts("to-latest", "Move to the end.")
        self.from_file = accepts("from-file", "Move as a plan in CSV says.", takes="required")
        self.shift_by = accepts(
            "shift-by", "Move so many records on, or back.", type=LONG, described_as="number-of-offsets"
        )
        self.config_file = accepts("config-file", "(DEPRECATED) Use --command-config.", described_as="file name")
        self.command_config = accepts(
            "command-config", "A file with settings of the clients.", described_as="file name"
        )
        self.force = accepts("force", "Remove members that are still in the group.")
        self.dry_run = accepts("dry-run", "Only show what would be done.")
        try:
            self.given = parser.parse(arguments)
            parser.help_or_version(arguments, self.given, _HELP)
            targets = [
                *(self.to_offset, self.to_datetime, self.by_duration, self.to_earliest, self.to_latest),
                *(self.from_file, self.shift_by),
            ]
            for option in targets:
                parser.refuse(self.given, option, [other for other in targets if other is not option])
            parser.refuse(self.given, self.config_file, [self.command_config])
        except OptionError as error:
            parser.usage_error(str(error))

    def settings(self) -> dict[str, str]:
        """Those of the clients."""
        given = self.given
        path = None
        if given.has(self.config_file):
            print(
                "Option --config-file has been deprecated and will be removed in a future version. "
                "Use --command-config instead."
            )
            path = given.value(self.config_file)
        elif given.has(self.command_config):
            path = given.value(self.command_config)
        where = given.value(self.bootstrap_server) if given.has(self.bootstrap_server) else "localhost:9092"
        return {**(load_properties(path) if path is not None else {}), "bootstrap.servers": where}


def run(arguments: list[str]) -> int:
    """The tool; returns its exit code: 1 also when some of the topics are not there."""
    options = Options(arguments)
    try:
        settings = options.settings()
        reset_policy = settings.get("auto.offset.reset", "latest")
        with open_admin(settings) as admin:
            return Tool(admin, options, reset_policy).reset()
    except ToolError as error:
        print(f"ERROR: {java_error(error)}", file=sys.stderr)
    except KafkaError as error:
        print(f"ERROR: java.util.concurrent.ExecutionException: {java_error(error)}", file=sys.stderr)
    except OptionError as error:
        print(f"ERROR: {java_error(error)}", file=sys.stderr)
    return 1


class Tool:
    """The steps of a reset."""

    def __init__(self, admin: Admin, options: Options, reset_policy: str) -> None:
        self._admin = admin
        self._options = options
        self._given = options.given
        self._group: str = options.given.value(options.application_id)
        self._dry_run = options.given.has(options.dry_run)
        self._reset_policy = reset_policy

    def reset(self) -> int:
        """All of it. Raises `ToolError`, `KafkaError`."""
        self._empty_group()
        topics = hash_ordered(self._admin.list_topics(timeout_s=60))
        if self._dry_run:
            print("----Dry run displays the actions which will be performed when running Streams Reset Tool----")
        code = self._move_offsets(topics)
        self._delete_internal_topics(topics)
        return code

    def _empty_group(self) -> None:
        try:
            group = self._admin.describe_consumer_groups(self._group, timeout_s=10)[self._group]
        except KafkaError as error:
            if error.code is ErrorCode.GROUP_ID_NOT_FOUND:
                return
            raise
        if not group.members:
            return
        if not self._given.has(self._options.force):
            raise ToolError(
                f"Consumer group '{self._group}' is still active and has following members: "
                f"{java_list(map(_member_text, group.members))}. Make sure to stop all running application instances "
                "before running the reset tool. You can use option '--force' to remove active members from the group.",
                _ILLEGAL_STATE,
            )
        print(f"Force deleting all active members in the group: {self._group}")
        self._admin.remove_members_from_consumer_group(self._group)

    # Offsets

    def _move_offsets(self, topics: Sequence[str]) -> int:
        options, given = self._options, self._given
        inputs = given.values(options.input_topics)
        if given.has(options.intermediate_topics):
            print("WARN: `--intermediate-topics` is deprecated and will be removed in a future release")
        intermediate = given.values(options.intermediate_topics)
        if not inputs and not intermediate:
            print("No input or intermediate topics specified. Skipping seek.")
            return 0
        if inputs:
            print(f"Reset-offsets for input topics {java_list(inputs)}")
        if intermediate:
            print(f"Seek-to-end for intermediate topics {java_list(intermediate)}")
        code = 0
        for kind, named, label in (("input", inputs, "Topic: "), ("intermediate", intermediate, "Topic:")):
            missing = [topic for topic in named if topic not in topics]
            if missing:
                print(f"Following {kind} topics are not found, skipping them")
                print("".join(f"{label}{topic}\n" for topic in missing), end="")
                code = 1
        found = hash_ordered(topic for topic in (*inputs, *intermediate) if topic in topics)
        if not found:
            return code
        described = self._admin.describe_topics(found)
        partitions = [TopicPartition(topic, one.partition) for topic in found for one in described[topic].partitions]
        offsets = self._input_offsets([one for one in partitions if one.topic in inputs])
        offsets |= self._ends_of_intermediate([one for one in partitions if one.topic not in inputs])
        if not self._dry_run:
            new = {partition: OffsetAndMetadata(offset) for partition, offset in offsets.items()}
            self._admin.alter_consumer_group_offsets(self._group, new)
        print("Done.")
        return code

    def _input_offsets(self, partitions: Sequence[TopicPartition]) -> Offsets:
        if not partitions:
            return {}
        print(f"Following input topics offsets will be reset to (for consumer group {self._group})")
        wanted = hash_ordered(partitions)
        try:
            offsets = self._new_offsets(wanted)
        except ToolError as error:
            if java_class(error) in ("java.text.ParseException", "java.io.IOException"):
                print("ERROR: Resetting offsets failed.", file=sys.stderr)
            raise
        for partition in wanted:
            print(f"Topic: {partition.topic} Partition: {partition.partition} Offset: {offsets[partition]}")
        return offsets

    def _new_offsets(self, wanted: Sequence[TopicPartition]) -> Offsets:
        options, given = self._options, self._given
        if given.has(options.to_offset):
            return self._in_range(dict.fromkeys(wanted, given.value(options.to_offset)), wanted)
        if given.has(options.to_latest):
            return self._log_offsets(wanted, OffsetSpec.LATEST)
        if given.has(options.shift_by):
            by = given.value(options.shift_by)
            shifted = {partition: offset + by for partition, offset in self._positions(wanted).items()}
            return self._in_range(shifted, wanted)
        if given.has(options.to_datetime):
            try:
                return self._at_time(wanted, parse_datetime(given.value(options.to_datetime)))
            except ValueError as error:
                raise ToolError(str(error), "java.text.ParseException") from None
        if given.has(options.by_duration):
            ago = parse_duration_ms(given.value(options.by_duration))
            return self._at_time(wanted, time.time_ns() // 1_000_000 - ago)
        if given.has(options.from_file):
            return self._in_range(_read_plan(given.value(options.from_file)), wanted)
        return self._log_offsets(wanted, OffsetSpec.EARLIEST)

    def _ends_of_intermediate(self, partitions: Sequence[TopicPartition]) -> Offsets:
        if not partitions:
            return {}
        print(f"Following intermediate topics offsets will be reset to end (for consumer group {self._group})")
        print("".join(f"Topic: {partition.topic}\n" for partition in hash_ordered(partitions)), end="")
        return self._log_offsets(partitions, OffsetSpec.LATEST)

    def _positions(self, wanted: Sequence[TopicPartition]) -> Offsets:
        """Where the group is; where it is not yet, where a consumer of it would begin."""
        committed = self._committed()
        start = OffsetSpec.EARLIEST if self._reset_policy == "earliest" else OffsetSpec.LATEST
        found = self._log_offsets([one for one in wanted if one not in committed], start)
        return {one: committed[one].offset if one in committed else found[one] for one in wanted}

    def _committed(self) -> Mapping[TopicPartition, OffsetAndMetadata]:
        return committed_offsets(self._admin, self._group, 60)

    def _log_offsets(self, partitions: Sequence[TopicPartition], spec: OffsetSpec) -> Offsets:
        if not partitions:
            return {}
        with by_future("listOffsets"):
            found = self._admin.list_offsets(dict.fromkeys(partitions, spec))
        return {partition: found[partition].offset or 0 for partition in partitions}

    def _at_time(self, wanted: Sequence[TopicPartition], timestamp_ms: int) -> Offsets:
        found = self._admin.list_offsets(dict.fromkeys(wanted, timestamp_ms))
        late = [partition for partition in wanted if found[partition].offset is None]
        for partition in late:
            print(
                f"Partition {partition.partition} from topic {partition.topic} is empty, without a committed record. "
                "Falling back to latest known offset."
            )
        ends = self._log_offsets(late, OffsetSpec.LATEST)
        return {
            partition: ends[partition] if (offset := found[partition].offset) is None else offset
            for partition in wanted
        }

    def _in_range(self, offsets: Offsets, wanted: Sequence[TopicPartition]) -> Offsets:
        """As near as the logs allow; the edges are told of too, as in Kafka."""
        ends, starts = (self._log_offsets(wanted, spec) for spec in (OffsetSpec.LATEST, OffsetSpec.EARLIEST))
        found: Offsets = {}
        for partition in hash_ordered(offsets):
            offset = offsets[partition]
            if partition not in ends:
                raise ToolError(f"{partition} is in the plan and not among the input topics", "NullPointerException")
            if offset >= ends[partition]:
                end = ends[partition]
                print(f"New offset ({offset}) is higher than latest offset. Value will be set to {end}")
                offset = end
            elif offset <= starts[partition]:
                start = starts[partition]
                print(f"New offset ({offset}) is lower than earliest offset. Value will be set to {start}")
                offset = start
            found[partition] = offset
        for partition in wanted:
            if partition not in found:
                raise ToolError(f"{partition} is not in the plan", "NullPointerException")
        return found

    # Internal topics

    def _delete_internal_topics(self, topics: Iterable[str]) -> None:
        options, given = self._options, self._given
        own = {*given.values(options.input_topics), *given.values(options.intermediate_topics)}
        inferred = [topic for topic in topics if topic not in own and is_internal(topic, self._group)]
        specified = given.values(options.internal_topics)
        if specified and not set(specified) <= set(inferred):
            raise ToolError(
                "Invalid topic specified in the --internal-topics option. Ensure that the topics specified are all "
                "internal topics. Do a dry run without the --internal-topics option to see the list of all internal "
                "topics that can be deleted."
            )
        chosen = specified or inferred
        print(f"Deleting {'specified' if specified else 'inferred'} internal topics {java_list(chosen)}")
        if chosen and not self._dry_run:
            self._delete(chosen)
        print("Done.")

    def _delete(self, topics: Sequence[str]) -> None:
        try:
            self._admin.delete_topics(topics, timeout_s=30)
        except KafkaError as error:
            for topic in hash_ordered(error.errors):
                print(f"ERROR: deleting topic {topic}", file=sys.stderr)
            raise ToolError("Encountered an error deleting one or more topics", "RuntimeException") from None


def _read_plan(path: str) -> Offsets:
    """A plan: `topic,partition,offset` in each line. Raises `ToolError`."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError:
        raise ToolError(f"Unable to read file {path}", "java.io.IOException") from None
    if not text:
        raise ToolError("Error parsing reset plan CSV file. It is empty,", "java.text.ParseException")
    plan: Offsets = {}
    for line in text.rstrip("\n").split("\n"):
        cells = line.split(",")
        if len(cells) != 3:
            raise ToolError(
                "Reset plan CSV file is not following the format `TOPIC,PARTITION,OFFSET`.", "java.text.ParseException"
            )
        topic, *numbers = cells
        for number in numbers:
            if not number.removeprefix("-").isdecimal():
                raise ToolError(f'For input string: "{number}"', "NumberFormatException")
        plan[TopicPartition(topic, int(numbers[0]))] = int(numbers[1])
    return plan


def _member_text(member: MemberDescription) -> str:
    def optional(value: object) -> str:
        return "Optional.empty" if value is None else f"Optional[{value}]"

    def assigned(partitions: Iterable[TopicPartition]) -> str:
        return f"(topicPartitions={','.join(map(str, sorted(partitions)))})"

    target = None if member.target_assignment is None else assigned(member.target_assignment)
    return (
        f"(memberId={member.member_id}, groupInstanceId={member.group_instance_id or 'null'}, "
        f"rackId={member.rack_id or 'null'}, clientId={member.client_id}, host={member.host}, "
        f"assignment={assigned(member.assignment)}, targetAssignment={optional(target)}, "
        f"memberEpoch={java_text(member.member_epoch)}, upgraded={java_text(member.upgraded)})"
    )
