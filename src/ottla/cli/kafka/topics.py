"""kafka-topics: topics are made, listed, described, given more partitions, deleted."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import ToolError, ToolExit, ToolParser, java_list, java_message, load_properties, open_admin
from ottla.cli.kafka.jopt import INTEGER, Option, OptionError, OptionSet

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.admin.configs import ConfigEntry
    from ottla.client.admin.partitions import PartitionReassignment
    from ottla.client.admin.topics import PartitionDescription, TopicDescription

_USE_CONFIGS = " (To alter topic configurations, the kafka-configs tool can be used.)"
_MOST_REPLICAS = 32767


class Parser(ToolParser):
    """The options of kafka-topics."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.accepts(
            "bootstrap-server", "REQUIRED: a broker of the cluster.", described_as="server to connect to"
        )
        self.command_config = self.accepts(
            "command-config", "A file with settings of the admin client.", described_as="command config property file"
        )
        self.list = self.accepts("list", "List all topics.")
        self.create = self.accepts("create", "Make a topic.")
        self.delete = self.accepts("delete", "Delete a topic.")
        self.alter = self.accepts("alter", "Give a topic more partitions." + _USE_CONFIGS)
        self.describe = self.accepts("describe", "Describe topics.")
        self.topic = self.accepts(
            "topic",
            "The topic. A regular expression stands for all that it matches, but not with --create.",
            described_as="topic",
        )
        self.topic_id = self.accepts("topic-id", "The id of the topic to describe.", described_as="topic-id")
        self.config = self.accepts("config", _config_text(), described_as="name=value")
        self.delete_config = self.accepts("delete-config", "No longer supported since 4.0.", described_as="name")
        self.partitions = self.accepts(
            "partitions",
            "How many partitions the topic shall have; the broker's default when it is made without. Keys may go to "
            "other partitions when their number grows.",
            type=INTEGER,
            described_as="# of partitions",
        )
        self.replication_factor = self.accepts(
            "replication-factor",
            "How many replicas each partition of a new topic shall have; the broker's default without.",
            type=INTEGER,
            described_as="replication factor",
        )
        self.replica_assignment = self.accepts(
            "replica-assignment",
            "Which brokers have the replicas of each partition.",
            described_as="broker_id_for_part1_replica1 : broker_id_for_part1_replica2 , "
            "broker_id_for_part2_replica1 : broker_id_for_part2_replica2 , ...",
        )
        self.under_replicated = self.accepts(
            "under-replicated-partitions", "With --describe: only partitions with replicas that are not in sync."
        )
        self.unavailable = self.accepts(
            "unavailable-partitions", "With --describe: only partitions whose leader is not available."
        )
        self.under_min_isr = self.accepts(
            "under-min-isr-partitions", "With --describe: only partitions with fewer replicas in sync than required."
        )
        self.at_min_isr = self.accepts(
            "at-min-isr-partitions", "With --describe: only partitions with just as many replicas in sync as required."
        )
        self.overridden = self.accepts(
            "topics-with-overrides", "With --describe: only topics with settings of their own."
        )
        self.if_exists = self.accepts("if-exists", "Do nothing, without an error, when there is no such topic.")
        self.if_not_exists = self.accepts("if-not-exists", "With --create: no error when the topic is there already.")
        self.exclude_internal = self.accepts(
            "exclude-internal", "With --list and --describe: leave out Kafka's internal topics."
        )
        self.size_limit = self.accepts(
            "partition-size-limit-per-response",
            "How many partitions a response describes at most.",
            type=INTEGER,
            described_as="maximum number of partitions per response",
        )
        self.actions = (self.alter, self.create, self.describe, self.list, self.delete)
        self.reports = (self.under_replicated, self.under_min_isr, self.at_min_isr, self.unavailable)

    def check(self, arguments: Sequence[str], options: OptionSet) -> None:
        """End with the usage, or raise `ToolError`, for what does not go together."""
        if not arguments:
            self.usage_error("Create, delete, describe, or change a topic.")
        self.help_or_version(arguments, options, "This tool helps to create, delete, describe, or change a topic.")
        if sum(options.has(action) for action in self.actions) != 1:
            self.usage_error(
                "Command must include exactly one action: --list, --describe, --create, --alter or --delete"
            )
        if options.has(self.delete_config):
            print(
                "delete-config option is no longer supported and deprecated since version 4.0. "
                "The config will be fully removed in future releases.",
                file=sys.stderr,
            )
        self._check_required(options)
        self._check_invalid(options)

    def _check_required(self, options: OptionSet) -> None:
        if not options.has(self.server):
            raise ToolError("--bootstrap-server must be specified")
        if options.has(self.describe) and options.has(self.if_exists):
            if not options.has_any((self.topic, self.topic_id)):
                self.usage_error("--topic or --topic-id is required to describe a topic")
            if options.has(self.topic) and options.has(self.topic_id):
                print(
                    "Only topic id will be used when both --topic and --topic-id are specified "
                    "and topicId is not Uuid.ZERO_UUID"
                )
        if not options.has_any((self.list, self.describe)):
            self.require(options, self.topic)
        if options.has(self.alter):
            self.refuse_all(options, (self.server, self.config), (self.alter,), _USE_CONFIGS)
            self.require(options, self.partitions)

    def _check_invalid(self, options: OptionSet) -> None:
        allowed: tuple[tuple[Option, tuple[Option, ...]], ...] = (
            (self.config, (self.alter, self.create)),
            (self.partitions, (self.alter, self.create)),
            (self.replication_factor, (self.create,)),
            (self.replica_assignment, (self.alter, self.create)),
        )
        for option, actions in allowed:
            self.refuse(options, option, self._other_actions(*actions))
        if options.has(self.create):
            self.refuse(options, self.replica_assignment, (self.partitions, self.replication_factor))
        for report in (self.under_replicated, self.under_min_isr, self.at_min_isr, self.unavailable):
            self.refuse(options, report, (*self._other_actions(self.describe), self.overridden))
        self.refuse(options, self.overridden, (*self._other_actions(self.describe), *self.reports))
        self.refuse(options, self.if_exists, self._other_actions(self.alter, self.delete, self.describe))
        self.refuse(options, self.if_not_exists, self._other_actions(self.create))
        self.refuse(options, self.exclude_internal, self._other_actions(self.list, self.describe))

    def _other_actions(self, *actions: Option) -> list[Option]:
        return [action for action in self.actions if action not in actions]


def run(arguments: list[str]) -> int:
    """Run the tool."""
    parser = Parser()
    try:
        options = parser.parse(arguments)
        parser.check(arguments, options)
        settings = load_properties(options.value(parser.command_config)) if options.has(parser.command_config) else {}
        admin = open_admin(settings | {"bootstrap.servers": options.value(parser.server)})
    except (OptionError, ToolError) as error:
        print(error, file=sys.stderr)
        return 1
    with admin:
        try:
            _carry_out(admin, parser, options)
        except ToolExit:
            raise
        except Exception as error:
            call = "createTopics" if options.has(parser.create) else "listTopics"
            print(f"Error while executing topic command : {java_message(error, call)}")
            return 1
    return 0


def _carry_out(admin: Admin, parser: Parser, options: OptionSet) -> None:
    if options.has(parser.create):
        _create(admin, parser, options)
    elif options.has(parser.alter):
        _alter(admin, parser, options)
    elif options.has(parser.list):
        print("\n".join(_topics(admin, parser, options)))
    elif options.has(parser.describe):
        _describe(admin, parser, options)
    else:
        _delete(admin, parser, options)


def _create(admin: Admin, parser: Parser, options: OptionSet) -> None:
    from ottla.client.admin.topics import NewTopic
    from ottla.client.errors import KafkaError
    from ottla.core.errors import ErrorCode

    name = options.value(parser.topic)
    partitions, factor = options.value(parser.partitions), options.value(parser.replication_factor)
    assignment = _assignment(parser, options)
    configs = _configs_to_add(options.values(parser.config))
    if "." in name or "_" in name:
        print(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could "
            "collide. To avoid issues it is best to use either, but not both."
        )
    if factor is not None and not 1 <= factor <= _MOST_REPLICAS:
        raise ToolError(f"The replication factor must be between 1 and {_MOST_REPLICAS} inclusive")
    if partitions is not None and partitions < 1:
        raise ToolError("The partitions must be greater than 0")
    topic = (
        NewTopic(name, replicas_assignments=assignment, configs=configs)
        if assignment
        else NewTopic(name, partitions, factor, configs=configs)
    )
    try:
        admin.create_topics(topic, retry_on_quota_violation=False)
    except KafkaError as error:
        if error.code is not ErrorCode.TOPIC_ALREADY_EXISTS or not options.has(parser.if_not_exists):
            raise
    else:
        print(f"Created topic {name}.")


def _alter(admin: Admin, parser: Parser, options: OptionSet) -> None:
    from ottla.client.admin.topics import NewPartitions

    assignment = _assignment(parser, options)
    _configs_to_add(options.values(parser.config))
    topics = _topics(admin, parser, options)
    _ensure_found(topics, parser, options)
    if not topics:
        return
    total = options.value(parser.partitions)
    described = admin.describe_topics(topics) if assignment else {}
    wanted = {}
    for topic in topics:
        # The assignment names all partitions, those that are there already too.
        new = list(assignment.values())[len(described[topic].partitions) :] if assignment else None
        wanted[topic] = NewPartitions(total, new)
    admin.create_partitions(wanted, retry_on_quota_violation=False)


def _delete(admin: Admin, parser: Parser, options: OptionSet) -> None:
    topics = _topics(admin, parser, options)
    _ensure_found(topics, parser, options)
    if topics:
        admin.delete_topics(topics, retry_on_quota_violation=False)


def _topics(admin: Admin, parser: Parser, options: OptionSet) -> list[str]:
    """The topics that are meant, in the order of the alphabet."""
    exclude_internal = options.has(parser.exclude_internal)
    found = sorted(admin.list_topics(list_internal=not exclude_internal))
    if not options.has(parser.topic):
        return found
    pattern = topic_pattern(options.value(parser.topic))
    return [topic for topic in found if pattern.fullmatch(topic)]


def topic_pattern(text: str) -> re.Pattern[str]:
    """A regular expression of topics as Kafka's tools take it: commas stand for "or", quotes around it do not count.

    Raises `ToolError`.
    """
    expression = re.sub(r"^[\"']+|[\"']+$", "", text.strip().replace(",", "|").replace(" ", ""))
    try:
        return re.compile(expression)
    except re.error:
        raise ToolError(f"{expression} is an invalid regex.", "RuntimeException") from None


def _ensure_found(topics: Sequence[str], parser: Parser, options: OptionSet) -> None:
    asked = options.value(parser.topic)
    if asked and not topics and not options.has(parser.if_exists):
        raise ToolError(f"Topic '{asked}' does not exist as expected")


def _assignment(parser: Parser, options: OptionSet) -> dict[int, list[int]]:
    """`0:1,1:0`: the brokers of each partition."""
    text = options.value(parser.replica_assignment)
    found: dict[int, list[int]] = {}
    for partition, part in enumerate(text.split(",") if text else ()):
        brokers = [_broker(one.strip()) for one in part.split(":")]
        twice = [broker for broker in dict.fromkeys(brokers) if brokers.count(broker) > 1]
        if twice:
            raise ToolError(
                f"Partition replica lists may not contain duplicate entries: {','.join(map(str, twice))}",
                "org.apache.kafka.server.common.AdminCommandFailedException",
            )
        if found and len(brokers) != len(found[0]):
            raise ToolError(
                f"Partition {partition} has different replication factor: {java_list(brokers)}",
                "org.apache.kafka.server.common.AdminOperationException",
            )
        found[partition] = brokers
    return found


def _broker(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ToolError(f'For input string: "{text}"', "NumberFormatException") from None


def _configs_to_add(assignments: Iterable[str]) -> dict[str, str]:
    """`name=value` as settings that a topic may have. Raises `ToolError`."""
    from ottla.schema.definition import SettingError
    from ottla.schema.topic import TOPIC_SETTINGS

    # An empty value is none, as Java's split drops empty parts at the end.
    parts = [re.split(r"\s*=\s*", one) for one in assignments]
    for part in parts:
        while part and not part[-1]:
            part.pop()
    if any(len(part) != 2 for part in parts):
        raise ToolError(
            'requirement failed: Invalid topic config: all configs to be added must be in the format "key=val".'
        )
    configs = {name.strip(): value.strip() for name, value in parts}
    for name, value in configs.items():
        if name not in TOPIC_SETTINGS:
            raise ToolError(
                f"Unknown topic config name: {name}", "org.apache.kafka.common.errors.InvalidConfigurationException"
            )
        try:
            TOPIC_SETTINGS[name].parse(value)
        except SettingError as error:
            raise ToolError(error.reason, "org.apache.kafka.common.config.ConfigException") from None
    return configs


def _config_text() -> str:
    from ottla.schema.topic import TOPIC_SETTINGS

    names = "\n".join(f"\t{name}" for name in sorted(TOPIC_SETTINGS) if not TOPIC_SETTINGS[name].internal)
    return f"A setting of the new topic, one of:\n{names}\nOnly with --create.{_USE_CONFIGS}"


# Describe


def _describe(admin: Admin, parser: Parser, options: OptionSet) -> None:
    from ottla.client.admin.configs import ConfigResource
    from ottla.client.model import TopicPartition

    described = _described(admin, parser, options)
    resources = {topic.name: ConfigResource.topic(topic.name) for topic in described}
    configs = admin.describe_configs(list(resources.values())) if resources else {}
    live = {node.id for node in admin.describe_cluster().nodes}
    wanted = [TopicPartition(topic.name, one.partition) for topic in described for one in topic.partitions]
    moving = _reassignments(admin, wanted) if wanted else {}
    only_reports = options.has_any(parser.reports)
    for topic in described:
        entries = configs[resources[topic.name]]
        first = moving.get(TopicPartition(topic.name, topic.partitions[0].partition))
        own = any(not entry.is_default for entry in entries.values())
        if not only_reports and (own or not options.has(parser.overridden)):
            print(_topic_line(topic, entries, first))
        if options.has(parser.overridden):
            continue
        for partition in topic.partitions:
            reassignment = moving.get(TopicPartition(topic.name, partition.partition))
            least = int(entries["min.insync.replicas"].value or 1)
            if not only_reports or _is_reported(partition, reassignment, least, live, parser, options):
                print(_partition_line(topic.name, partition, reassignment))


def _described(admin: Admin, parser: Parser, options: OptionSet) -> list[TopicDescription]:
    from ottla.cli.kafka.hash_order import hash_ordered
    from ottla.core.ids import ZERO_UUID, uuid_from_text, uuid_to_text

    topic_id = options.value(parser.topic_id)
    if topic_id is not None:
        try:
            uuid = uuid_from_text(topic_id)
        except ValueError:
            raise ToolError(_bad_uuid(topic_id)) from None
        if uuid != ZERO_UUID:
            text = uuid_to_text(uuid)
            listed = admin.list_topics(list_internal=not options.has(parser.exclude_internal))
            if any(topic.topic_id == text for topic in listed.values()):
                return list(admin.describe_topics(topic_ids=[text]).values())
            if not options.has(parser.if_exists):
                raise ToolError(f"TopicId '{text}' does not exist as expected")
            return []
    topics = _topics(admin, parser, options)
    _ensure_found(topics, parser, options)
    if not topics:
        return []
    described = admin.describe_topics(topics)
    # The names went through two of Java's hash tables before they were printed.
    return [described[name] for name in hash_ordered(hash_ordered(topics), capacity=len(topics))]


def _bad_uuid(text: str) -> str:
    if len(text) > 24:
        return f"Input string with prefix `{text[:24]}` is too long to be decoded as a base64 UUID"
    return f"Input string `{text}` decoded as {len(text) * 6 // 8} bytes, which is not equal to the expected 16 bytes of a base64-encoded UUID"  # noqa: E501


def _reassignments(admin: Admin, partitions: Sequence[object]) -> Mapping[object, PartitionReassignment]:
    """Partitions that are being moved; none when the cluster does not tell."""
    from ottla.client.errors import AuthorizationError, UnsupportedVersionError

    try:
        return admin.list_partition_reassignments(partitions)  # type: ignore[arg-type, return-value]
    except (UnsupportedVersionError, AuthorizationError):
        return {}


def _replication_factor(partition: PartitionDescription, reassignment: PartitionReassignment | None) -> int:
    if reassignment is not None:
        changing = {*reassignment.removing_replicas, *reassignment.adding_replicas}
        if changing.intersection(node.id for node in partition.replicas):
            return len(reassignment.replicas) - len(reassignment.adding_replicas)
    return len(partition.replicas)


def _is_reported(
    partition: PartitionDescription,
    reassignment: PartitionReassignment | None,
    least: int,
    live: set[int],
    parser: Parser,
    options: OptionSet,
) -> bool:
    in_sync = len(partition.in_sync_replicas)
    leader = partition.leader
    return (
        (options.has(parser.under_replicated) and _replication_factor(partition, reassignment) > in_sync)
        or (options.has(parser.unavailable) and (leader is None or leader.id not in live))
        or (options.has(parser.under_min_isr) and (leader is None or in_sync < least))
        or (options.has(parser.at_min_isr) and in_sync == least)
    )


def _topic_line(
    topic: TopicDescription, entries: Mapping[str, ConfigEntry], first: PartitionReassignment | None
) -> str:
    from ottla.cli.kafka.hash_order import hash_ordered

    own = ",".join(f"{name}={entries[name].value}" for name in hash_ordered(entries) if not entries[name].is_default)
    topic_id = "" if topic.topic_id is None else f"\tTopicId: {topic.topic_id}"
    factor = _replication_factor(topic.partitions[0], first)
    return (
        f"Topic: {topic.name}{topic_id}\tPartitionCount: {len(topic.partitions)}\tReplicationFactor: {factor}"
        f"\tConfigs: {own}"
    )


def _partition_line(topic: str, partition: PartitionDescription, reassignment: PartitionReassignment | None) -> str:
    def ids(nodes: Iterable[object] | None) -> str:
        return "N/A" if nodes is None else ",".join(str(getattr(node, "id", node)) for node in nodes)

    leader = "none" if partition.leader is None else str(partition.leader.id)
    line = f"\tTopic: {topic}\tPartition: {partition.partition}\tLeader: {leader}\tReplicas: {ids(partition.replicas)}"
    line += f"\tIsr: {ids(partition.in_sync_replicas)}"
    if reassignment is not None:
        line += f"\tAdding Replicas: {ids(reassignment.adding_replicas)}"
        line += f"\tRemoving Replicas: {ids(reassignment.removing_replicas)}"
    elr = ids(partition.eligible_leader_replicas)
    return f"{line}\tElr: {elr}\tLastKnownElr: {ids(partition.last_known_eligible_leader_replicas)}"
