"""kafka-verifiable-consumer: consumes as a member of a group, and tells of everything that happens."""

from __future__ import annotations

from typing import Any

from ottla.cli.kafka.argparse4j import INTEGER, ArgumentError, ArgumentParser, HelpShown
from ottla.cli.kafka.common import ToolError, java_message, known_settings
from ottla.cli.kafka.console_options import Stopped, close_quietly, stopped_by_signals
from ottla.cli.kafka.tool_log import log_error
from ottla.cli.kafka.verifiable import (
    add_command_config,
    add_config_arguments,
    config_file,
    partition_fields,
    tell,
    text,
)

_SOURCE = "org.apache.kafka.tools.VerifiableConsumer"
_RANGE = "org.apache.kafka.clients.consumer.RangeAssignor"
_PROTOCOLS = ("CLASSIC", "CONSUMER")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "verifiable-consumer",
        default_help=True,
        description="Reads a topic, and writes what happens to the consumer (rebalances, records, commits) to standard "
        "output, as lines of JSON.",
    )
    add = parser.add_argument
    connection = parser.add_mutually_exclusive_group("Connection Group", "How the brokers are reached", required=True)
    connection.add_argument(
        "--bootstrap-server",
        required=True,
        metavar="HOST1:PORT1[,HOST2:PORT2[...]]",
        help="The server(s) to connect to, as HOST1:PORT1,HOST2:PORT2,...",
    )
    add("--topic", required=True, metavar="TOPIC", help="The topic to read.")
    add(
        "--group-protocol",
        default="classic",
        metavar="GROUP-PROTOCOL",
        help=f"The group's protocol: {', '.join(_PROTOCOLS)}",
    )
    add(
        "--group-remote-assignor",
        metavar="GROUP-REMOTE-ASSIGNOR",
        help="The broker's assignor, with the protocol CONSUMER",
    )
    add("--group-id", required=True, metavar="GROUP-ID", help="The consumer group")
    add("--group-instance-id", metavar="GROUP-INSTANCE-ID", help="The id of a static member")
    add("--max-messages", type=INTEGER, default=-1, metavar="MAX-MESSAGES", help="How many records; -1 for no end")
    add(
        "--session-timeout",
        type=INTEGER,
        metavar="TIMEOUT-MS",
        help="The session timeout; not with the protocol CONSUMER",
    )
    add("--verbose", action="store_true", metavar="VERBOSE", help="Tell of each record")
    add(
        "--enable-autocommit",
        action="store_true",
        dest="useAutoCommit",
        metavar="ENABLE-AUTOCOMMIT",
        help="Commit offsets in the background",
    )
    add(
        "--reset-policy",
        default="earliest",
        metavar="RESET-POLICY",
        help="Where a new group begins: 'earliest', 'latest' or 'none'",
    )
    add(
        "--assignment-strategy",
        default=_RANGE,
        metavar="ASSIGNMENT-STRATEGY",
        help="The assignor, with the protocol CLASSIC",
    )
    add_config_arguments(parser, "consumer")
    add_command_config(parser)
    return parser


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    try:
        values = parser.parse(arguments)
        settings = _settings(values, config_file(parser, values, "consumer"))
    except HelpShown:
        return 1
    except ArgumentError as error:
        error.parser.report(error)
        return 1
    return _VerifiableConsumer(values, settings).run()


def _settings(values: dict[str, Any], from_file: dict[str, str]) -> dict[str, str]:
    protocol = values["group_protocol"].upper()
    if protocol not in _PROTOCOLS:
        raise ToolError(f"No enum constant org.apache.kafka.clients.consumer.GroupProtocol.{protocol}")
    settings = {
        **from_file,
        "group.protocol": protocol.lower(),
        "group.id": values["group_id"],
        "bootstrap.servers": values["bootstrap_server"],
        "enable.auto.commit": "true" if values["useAutoCommit"] else "false",
        "auto.offset.reset": values["reset_policy"],
    }
    optional = {
        "session.timeout.ms": values["session_timeout"],
        "group.instance.id": values["group_instance_id"],
        "group.remote.assignor": values["group_remote_assignor"] if protocol == "CONSUMER" else None,
        "partition.assignment.strategy": values["assignment_strategy"] if protocol == "CLASSIC" else None,
    }
    settings.update({name: str(value) for name, value in optional.items() if value is not None})
    for name in ("key.deserializer", "value.deserializer"):
        settings.pop(name, None)
    return settings


class _VerifiableConsumer:
    def __init__(self, values: dict[str, Any], settings: dict[str, str]) -> None:
        from ottla.client.consumer.blocking import Consumer

        self._topic: str = values["topic"]
        self._maximum: int = values["max_messages"]
        self._verbose: bool = values["verbose"]
        self._commits_itself: bool = not values["useAutoCommit"]
        self._consumed = 0
        self._consumer: Consumer[Any, Any] = Consumer(known_settings(settings, "consumer"))

    def run(self) -> int:
        code = 0
        try:
            with stopped_by_signals():
                self._run()
        except Stopped as stopped:
            code = stopped.exit_code
            tell("shutdown_requested")
        except Exception as error:  # told, as Kafka's tool does
            log_error(_SOURCE, "Error during processing, terminating consumer process: ", error)
        close_quietly(self._consumer.close)
        tell("shutdown_complete")
        if not code:
            tell("shutdown_requested")  # the tool's end comes as a request to stop, after it
        return code

    def _run(self) -> None:
        tell("startup_complete")
        self._consumer.subscribe(
            [self._topic],
            on_assigned=lambda partitions: tell("partitions_assigned", partitions=partition_fields(partitions)),
            on_revoked=lambda partitions: tell("partitions_revoked", partitions=partition_fields(partitions)),
        )
        while not 0 <= self._maximum <= self._consumed:
            records = self._consumer.poll()
            offsets = self._received(records)
            if self._commits_itself:
                self._commit(offsets)

    def _received(self, records: Any) -> dict[Any, int]:
        offsets: dict[Any, int] = {}
        summaries: list[dict[str, object]] = []
        for partition, found in records.by_partition().items():
            taken = found if self._maximum < 0 else found[: self._maximum - self._consumed]
            if not taken:
                continue
            first, last = taken[0].offset, taken[-1].offset
            offsets[partition] = last + 1
            summaries.append(
                {
                    "topic": partition.topic,
                    "partition": partition.partition,
                    "count": len(taken),
                    "minOffset": first,
                    "maxOffset": last,
                }
            )
            for record in taken if self._verbose else ():
                tell(
                    "record_data",
                    key=text(record.key),
                    value=text(record.value),
                    topic=record.topic,
                    partition=record.partition,
                    offset=record.offset,
                )
            self._consumed += len(taken)
        tell("records_consumed", count=len(records), partitions=summaries)
        return offsets

    def _commit(self, offsets: dict[Any, int]) -> None:
        from ottla.client.errors import FencedInstanceIdError, KafkaError

        shown = [
            {"topic": partition.topic, "partition": partition.partition, "offset": offset}
            for partition, offset in offsets.items()
        ]
        try:
            self._consumer.commit(offsets)
        except FencedInstanceIdError:
            raise
        except KafkaError as error:
            tell("offsets_committed", offsets=shown, error=java_message(error), success=False)
        else:
            tell("offsets_committed", offsets=shown, success=True)
