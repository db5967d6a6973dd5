"""kafka-leader-election: preferred replicas become leaders again, or any replica where there is no leader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import (
    ToolError,
    ToolParser,
    cause,
    guarded,
    java_error,
    java_list,
    load_properties,
    open_admin,
)
from ottla.cli.kafka.jopt import INTEGER, OptionSet, one_of
from ottla.cli.kafka.partition_files import (
    COMMAND_ERROR,
    OPERATION_ERROR,
    as_array,
    as_object,
    dashed,
    parse_json,
    partition_of,
    read_text,
)
from ottla.client.model import TopicPartition

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.errors import KafkaError

_PURPOSE = (
    "This tool attempts to elect a new leader for a set of topic partitions. The type of elections supported are "
    "preferred replicas and unclean replicas."
)
_TIMEOUT_MS = 30_000


class Parser(ToolParser):
    """The options of kafka-leader-election."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.accepts(
            "bootstrap-server", "REQUIRED: brokers of the cluster, as host:port,host:port.", described_as="host:port"
        )
        self.admin_config = self.accepts(
            "admin.config", "(DEPRECATED) The same as --command-config.", described_as="config file"
        )
        self.config = self.accepts(
            "command-config", "A file with settings of the admin client.", described_as="Config file"
        )
        self.file = self.accepts(
            "path-to-json-file",
            "A JSON file that names the partitions:\n"
            '{"partitions":\n\t[{"topic": "foo", "partition": 1},\n\t {"topic": "foobar", "partition": 2}]\n}\n'
            "Not together with --all-topic-partitions or --topic.",
            described_as="Path to JSON file",
        )
        self.topic = self.accepts(
            "topic",
            "The topic. Not together with --path-to-json-file or --all-topic-partitions.",
            described_as="topic name",
        )
        self.partition = self.accepts(
            "partition",
            "The number of the partition. REQUIRED with --topic.",
            type=INTEGER,
            described_as="partition id",
        )
        self.all = self.accepts(
            "all-topic-partitions", "All partitions. Not together with --topic or --path-to-json-file."
        )
        self.type = self.accepts(
            "election-type",
            'REQUIRED: "preferred" puts the first replica back where another one leads; "unclean" takes any replica '
            "where there is no leader, and may lose records.",
            type=one_of("PREFERRED", "UNCLEAN"),
            described_as="election type",
        )

    def check(self, options: OptionSet) -> None:
        """End with the usage, or raise `ToolError`, for what is missing or does not go together."""
        missing = [option.names[0] for option in (self.server, self.type) if not options.has(option)]
        if missing:
            raise ToolError(f"Missing required option(s): {', '.join(missing)}", COMMAND_ERROR)
        self.refuse(options, self.admin_config, (self.config,))
        choices = (self.topic, self.all, self.file)
        if sum(options.has(option) for option in choices) != 1:
            named = ", ".join(option.names[0] for option in choices)
            raise ToolError(f"One and only one of the following options is required: {named}", COMMAND_ERROR)
        if options.has(self.topic) and not options.has(self.partition):
            raise ToolError("Missing required option(s): partition", COMMAND_ERROR)
        if options.has(self.partition) and not options.has(self.topic):
            raise ToolError("Option partition is only allowed if topic is used", COMMAND_ERROR)


def run(arguments: list[str]) -> int:
    """Run the tool."""
    return guarded(lambda: _run(arguments))


def _run(arguments: list[str]) -> None:
    parser = Parser()
    options = parser.parse(arguments)
    parser.help_or_version(arguments, options, _PURPOSE)
    parser.check(options)
    election_type = options.value(parser.type)
    partitions: list[TopicPartition] | None = None
    if options.has(parser.file):
        partitions = _from_file(options.value(parser.file))
    elif options.has(parser.topic):
        partitions = [TopicPartition(options.value(parser.topic), options.value(parser.partition))]
    config = options.value(parser.config)
    if options.has(parser.admin_config):
        print(
            "Option --admin.config has been deprecated and will be removed in a future version. "
            "Use --command-config instead."
        )
        config = options.value(parser.admin_config)
    settings = {"default.api.timeout.ms": str(_TIMEOUT_MS), "request.timeout.ms": str(_TIMEOUT_MS // 2)}
    settings |= load_properties(config) if config is not None else {}
    with open_admin(settings | {"bootstrap.servers": options.value(parser.server)}) as admin:
        _elect(admin, election_type, partitions)


def _elect(admin: Admin, election_type: str, partitions: Sequence[TopicPartition] | None) -> None:
    from ottla.client.admin.partitions import ElectionType
    from ottla.client.errors import AuthorizationError, KafkaError, KafkaTimeoutError

    failed: Mapping[TopicPartition, KafkaError] = {}
    try:
        outcomes: Mapping[TopicPartition, bool] = admin.elect_leaders(ElectionType[election_type], partitions)
    except KafkaError as error:
        if error.errors:
            outcomes, failed = error.results, error.errors
        elif isinstance(error, KafkaTimeoutError):
            print("Timeout waiting for election results")
            raise ToolError("Timeout waiting for election results", COMMAND_ERROR) from None
        elif isinstance(error, AuthorizationError):
            print("Not authorized to perform leader election")
            raise ToolError("Not authorized to perform leader election", COMMAND_ERROR) from None
        else:
            raise ToolError(
                f"java.util.concurrent.ExecutionException: {java_error(cause(error))}", "RuntimeException"
            ) from None
    _tell(election_type, outcomes, failed)


def _tell(
    election_type: str, outcomes: Mapping[TopicPartition, bool], failed: Mapping[TopicPartition, KafkaError]
) -> None:
    from ottla.cli.kafka.hash_order import hash_ordered

    def named(wanted: bool) -> str:
        chosen = [one for one, elected in outcomes.items() if elected is wanted]
        return ", ".join(dashed(one) for one in hash_ordered(hash_ordered(chosen)))

    if succeeded := named(True):
        print(f"Successfully completed leader election ({election_type}) for partitions {succeeded}")
    if already := named(False):
        print(f"Valid replica already elected for partitions {already}")
    if failed:
        for partition in hash_ordered(failed):
            print(
                f"Error completing leader election ({election_type}) for partition: {dashed(partition)}: "
                f"{java_error(failed[partition])}"
            )
        raise ToolError(f"{len(failed)} replica(s) could not be elected", COMMAND_ERROR)


def _from_file(path: str) -> list[TopicPartition]:
    content = parse_json(read_text(path))
    if content is None:
        raise ToolError("Replica election data is empty", OPERATION_ERROR)
    top = as_object(content)
    if "partitions" not in top:
        raise ToolError('Replica election data is missing "partitions" field', OPERATION_ERROR)
    found = [partition_of(entry) for entry in as_array(top["partitions"])]
    twice = [dashed(one) for one in dict.fromkeys(found) if found.count(one) > 1]
    if twice:
        raise ToolError(f"Replica election data contains duplicate partitions: {java_list(twice)}", OPERATION_ERROR)
    return found
