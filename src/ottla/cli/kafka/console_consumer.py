"""kafka-console-consumer: records on standard output, as the formatter writes them."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

from ottla.cli.kafka.common import ToolExit, ToolParser, known_settings
from ottla.cli.kafka.console_options import (
    ClientOptions,
    ConsoleLoop,
    FormatterOptions,
    close_quietly,
    group_of,
    run_console,
)
from ottla.cli.kafka.formatters import Formatter
from ottla.cli.kafka.jopt import INTEGER, LONG, OptionError, OptionSet
from ottla.cli.kafka.tool_log import log_error

_SOURCE = "org.apache.kafka.tools.consumer.ConsoleConsumer"
_EARLIEST, _LATEST = -2, -1
_DEPRECATED_FILE = "consumer.config"


class _Parser(ToolParser):
    def __init__(self) -> None:
        super().__init__()
        self.topic = self.accepts("topic", "The topic to read.", described_as="topic")
        self.include = self.accepts(
            "include", "A regular expression of topics to read.", described_as="Java regex (String)"
        )
        self.partition = self.accepts(
            "partition",
            "The partition to read, from its end unless '--offset' says otherwise.",
            type=INTEGER,
            described_as="partition",
        )
        self.offset = self.accepts(
            "offset",
            "The offset to begin at: a number, 'earliest' or 'latest'.",
            described_as="consume offset",
            defaults=("latest",),
        )
        self.client = ClientOptions(self, "Consumer", _DEPRECATED_FILE)
        self.formatter = FormatterOptions(self)
        self.from_beginning = self.accepts(
            "from-beginning", "Begin with the first record there is, where the group has no committed offset."
        )
        self.max_messages = self.accepts(
            "max-messages", "End after this many records.", type=INTEGER, described_as="num_messages"
        )
        self.timeout_ms = self.accepts(
            "timeout-ms", "End when no record came for so long.", type=LONG, described_as="timeout_ms"
        )
        self.skip = self.accepts("skip-message-on-error", "Go on after a record that cannot be written.")
        self.bootstrap_server = self.accepts(
            "bootstrap-server", "REQUIRED: The server(s) to connect to.", described_as="server to connect to"
        )
        self.systest = self.accepts("enable-systest-events", "Tell of the consumer's life too (for system tests).")
        self.isolation_level = self.accepts(
            "isolation-level",
            "read_committed leaves out records of transactions that are not committed; read_uncommitted reads all.",
            takes="required",
            defaults=("read_uncommitted",),
        )
        self.group = self.accepts("group", "The consumer group to be in.", described_as="consumer group id")

    def read(self, arguments: list[str]) -> OptionSet:
        try:
            options = self.parse(arguments)
        except OptionError as error:
            self.usage_error(str(error))
        self.help_or_version(
            arguments, options, "This tool helps to read data from Kafka topics and outputs it to standard output."
        )
        self.exactly_one(options, self.topic, self.include)
        if options.has(self.partition):
            options.value(self.partition)
            if not options.has(self.topic):
                self.usage_error("The topic is required when partition is specified.")
            if options.has(self.from_beginning) and options.has(self.offset):
                self.usage_error("Options from-beginning and offset cannot be specified together.")
        elif options.has(self.offset):
            self.usage_error("The partition is required when offset is specified.")
        self.require(options, self.bootstrap_server)
        return options

    def settings(self, options: OptionSet) -> dict[str, str]:
        from_file, given = self.client.read(options)
        group = group_of(
            self, options.value(self.group) if options.has(self.group) else None, (from_file, given), _DEPRECATED_FILE
        )
        if group is not None and options.has(self.partition):
            self.usage_error("Options group and partition cannot be specified together.")
        settings = {**from_file, **given}
        self._reset(options, settings)
        settings["bootstrap.servers"] = options.value(self.bootstrap_server)
        settings.setdefault("client.id", "console-consumer")
        if options.has(self.isolation_level) or "isolation.level" not in settings:
            settings["isolation.level"] = options.value(self.isolation_level)
        if group is None:
            group = f"console-consumer-{random.randrange(100_000)}"
            settings.setdefault("enable.auto.commit", "false")
        settings["group.id"] = group
        return settings

    def _reset(self, options: OptionSet, settings: dict[str, str]) -> None:
        from_beginning = options.has(self.from_beginning)
        asked = settings.get("auto.offset.reset")
        if asked is None:
            settings["auto.offset.reset"] = "earliest" if from_beginning else "latest"
        elif from_beginning and asked != "earliest":
            print(
                f"Can't simultaneously specify --from-beginning and 'auto.offset.reset={asked}', "
                "please remove one option",
                file=sys.stderr,
            )
            raise ToolExit(1)

    def start(self, options: OptionSet) -> int:
        """Where to begin in the partition."""
        if not options.has(self.offset):
            return _EARLIEST if options.has(self.from_beginning) else _LATEST
        text: str = options.value(self.offset)
        if text.lower() in ("earliest", "latest"):
            return _EARLIEST if text.lower() == "earliest" else _LATEST
        number = text.removeprefix("+")
        if not number.isdecimal() or int(number) >= 1 << 63:
            self.usage_error(
                f"The provided offset value '{text}' is incorrect. Valid values are 'earliest', 'latest', "
                "or a non-negative long."
            )
        return int(number)


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = _Parser()
    options = parser.read(arguments)
    settings = parser.settings(options)
    start = parser.start(options)
    timeout_ms = options.value(parser.timeout_ms) if options.has(parser.timeout_ms) else -1
    formatter = parser.formatter.make(options)

    def consume() -> None:
        _consume(parser, options, settings, start, None if timeout_ms < 0 else timeout_ms, formatter)

    return run_console(_SOURCE, consume, systest_events=options.has(parser.systest))


def _consume(
    parser: _Parser,
    options: OptionSet,
    settings: Mapping[str, str],
    start: int,
    timeout_ms: int | None,
    formatter: Formatter,
) -> None:
    from ottla.client.consumer.blocking import Consumer

    consumer: Consumer[Any, Any] = Consumer(_client_settings(settings))
    if not options.has(parser.partition) and settings.get("group.protocol", "classic").lower() == "classic":
        print(
            "The consumer rebalance protocol (KIP-848) is production-ready! Set group.protocol=consumer to try it out. "
            "See https://kafka.apache.org/documentation/#consumer_rebalance_protocol",
            file=sys.stderr,
        )
    loop = ConsoleLoop(_SOURCE, consumer.poll, timeout_ms)
    write = formatter.write
    if options.has(parser.skip):

        def write(record: Any, output: Any) -> None:
            try:
                formatter.write(record, output)
            except Exception as error:  # whatever a formatter cannot write is skipped
                log_error(_SOURCE, "Error processing message, skipping this message: ", error)

    try:
        _place(consumer, parser, options, start)
        loop.run(write, options.value(parser.max_messages) if options.has(parser.max_messages) else -1)
    finally:
        _give_back(consumer, loop)
        close_quietly(consumer.close)
        loop.report()


def _client_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """What the client is told: a name that Kafka's would pass over, ours would refuse."""
    known = known_settings(settings, "consumer")
    for name in ("key.deserializer", "value.deserializer"):
        known.pop(name, None)
    return known


def _place(consumer: Any, parser: _Parser, options: OptionSet, start: int) -> None:
    if not options.has(parser.topic):
        import re

        consumer.subscribe(re.compile(options.value(parser.include)))
        return
    topic = options.value(parser.topic)
    if not options.has(parser.partition):
        consumer.subscribe([topic])
        return
    from ottla.client.model import TopicPartition

    partition = TopicPartition(topic, options.value(parser.partition))
    consumer.assign([partition])
    if start == _EARLIEST:
        consumer.seek_to_beginning(partition)
    elif start == _LATEST:
        consumer.seek_to_end(partition)
    else:
        consumer.seek(partition, start)


def _give_back(consumer: Any, loop: ConsoleLoop) -> None:
    """Records that were not written are not to be committed."""
    from ottla.client.errors import KafkaError
    from ottla.client.model import TopicPartition

    first = {TopicPartition(record.topic, record.partition): record.offset for record in loop.unread}
    for partition, offset in first.items():
        try:
            consumer.seek(partition, offset)
        except KafkaError:  # the partition is somebody else's by now, and so are its commits
            pass
