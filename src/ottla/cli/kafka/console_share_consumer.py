"""kafka-console-share-consumer: records of a share group on standard output, each acknowledged when it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ottla.cli.kafka.common import ToolParser
from ottla.cli.kafka.console_options import (
    ClientOptions,
    ConsoleLoop,
    FormatterOptions,
    close_quietly,
    group_of,
    run_console,
)
from ottla.cli.kafka.formatters import Formatter
from ottla.cli.kafka.jopt import INTEGER, OptionError, OptionSet
from ottla.cli.kafka.share_client import share_settings
from ottla.cli.kafka.tool_log import log_error

_SOURCE = "org.apache.kafka.tools.consumer.ConsoleShareConsumer"
_DEPRECATED_FILE = "consumer-config"


class _Parser(ToolParser):
    def __init__(self) -> None:
        super().__init__()
        self.topic = self.accepts("topic", "The topic to read.", described_as="topic")
        self.client = ClientOptions(self, "Consumer", _DEPRECATED_FILE)
        self.formatter = FormatterOptions(self, more="\n print.delivery=true|false")
        self.max_messages = self.accepts(
            "max-messages", "End after this many records.", type=INTEGER, described_as="num_messages"
        )
        self.timeout_ms = self.accepts(
            "timeout-ms", "End when no record came for so long.", type=INTEGER, described_as="timeout_ms"
        )
        self.reject = self.accepts("reject", "Reject records when they are written.")
        self.release = self.accepts("release", "Release records when they are written.")
        self.reject_on_error = self.accepts(
            "reject-message-on-error", "Reject a record that cannot be written, and go on."
        )
        self.bootstrap_server = self.accepts(
            "bootstrap-server", "REQUIRED: The server(s) to connect to.", described_as="server to connect to"
        )
        self.group = self.accepts("group", "The share group to be in.", described_as="share group id")
        self.systest = self.accepts("enable-systest-events", "Tell of the consumer's life too (for system tests).")

    def read(self, arguments: list[str]) -> OptionSet:
        try:
            options = self.parse(arguments)
        except OptionError as error:
            self.usage_error(str(error))
        self.help_or_version(
            arguments,
            options,
            "This tool helps to read data from Kafka topics using share groups and outputs it to standard output.",
        )
        if not options.has(self.topic):
            self.usage_error("--topic is a required argument")
        self.require(options, self.bootstrap_server)
        if options.has(self.reject) and options.has(self.release):
            self.usage_error("At most one of --reject and --release may be specified.")
        return options

    def settings(self, options: OptionSet) -> dict[str, str]:
        from_file, given = self.client.read(options)
        group = group_of(
            self, options.value(self.group) if options.has(self.group) else None, (from_file, given), _DEPRECATED_FILE
        )
        settings = {**from_file, **given, "bootstrap.servers": options.value(self.bootstrap_server)}
        settings.setdefault("client.id", "console-share-consumer")
        settings["group.id"] = "console-share-consumer" if group is None else group
        settings["share.acknowledgement.mode"] = "explicit"
        return settings


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = _Parser()
    options = parser.read(arguments)
    settings = parser.settings(options)
    formatter = parser.formatter.make(options)

    def consume() -> None:
        _consume(parser, options, settings, formatter)

    return run_console(_SOURCE, consume, systest_events=options.has(parser.systest))


def _consume(parser: _Parser, options: OptionSet, settings: Mapping[str, str], formatter: Formatter) -> None:
    from ottla.client.share.blocking import ShareConsumer
    from ottla.client.share.deliveries import AcknowledgeType

    how = AcknowledgeType.ACCEPT
    if options.has(parser.reject):
        how = AcknowledgeType.REJECT
    elif options.has(parser.release):
        how = AcknowledgeType.RELEASE
    consumer: ShareConsumer[Any, Any] = ShareConsumer(share_settings(settings))

    def write(record: Any, output: Any) -> None:
        try:
            formatter.write(record, output)
            consumer.acknowledge(record, how)
        except Exception as error:  # whatever a formatter cannot write is rejected
            if not options.has(parser.reject_on_error):
                raise
            log_error(_SOURCE, "Error processing message, rejecting this message: ", error)
            consumer.acknowledge(record, AcknowledgeType.REJECT)

    timeout_ms = options.value(parser.timeout_ms) if options.has(parser.timeout_ms) else -1
    loop = ConsoleLoop(_SOURCE, consumer.poll, None if timeout_ms < 0 else timeout_ms)
    try:
        consumer.subscribe([options.value(parser.topic)])
        loop.run(write, options.value(parser.max_messages) if options.has(parser.max_messages) else -1)
    finally:
        close_quietly(consumer.close)
        loop.report()
