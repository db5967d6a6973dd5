"""The options that both perf tests of consumers have."""

from __future__ import annotations

from ottla.cli.kafka.common import ToolError, ToolParser, load_properties
from ottla.cli.kafka.console_options import key_values
from ottla.cli.kafka.java_text import SimpleDateFormat, divide, fixed
from ottla.cli.kafka.jopt import INTEGER, LONG, OptionError, OptionSet, matching
from ottla.cli.kafka.perf_stats import MEGABYTE


class PerfParser(ToolParser):
    """Options of kafka-consumer-perf-test and kafka-share-consumer-perf-test."""

    def __init__(self, kind: str, group: str, *, required: str = "REQUIRED:") -> None:
        super().__init__()
        self.bootstrap_server = self.accepts(
            "bootstrap-server", f"{required} The server(s) to connect to.", described_as="server to connect to"
        )
        self.topic = self.accepts("topic", "The topic to read.", described_as="topic")
        self.group = self.accepts("group", "The group to be in.", described_as="gid", defaults=(group,))
        self.fetch_size = self.accepts(
            "fetch-size",
            "How many bytes to fetch at most.",
            type=INTEGER,
            described_as="size",
            defaults=(1024 * 1024,),
        )
        self.properties = self.accepts(
            "command-property", f"A property of the {kind}, as key=value.", described_as="prop1=val1"
        )
        self.socket_buffer_size = self.accepts(
            "socket-buffer-size",
            "The size of the socket's buffer for received data.",
            type=INTEGER,
            described_as="size",
            defaults=(2 * 1024 * 1024,),
        )
        self.old_config = self.accepts(
            "consumer.config", "Deprecated: as --command-config.", described_as="config file"
        )
        self.config = self.accepts(
            "command-config", f"A file with properties of the {kind}.", described_as="config file"
        )
        self.print_metrics = self.accepts("print-metrics", "Print the metrics.")
        self.detailed = self.accepts("show-detailed-stats", "A line for each reporting interval.")
        self.timeout = self.accepts(
            "timeout",
            "How many milliseconds to wait for the next record.",
            takes="optional",
            type=LONG,
            described_as="milliseconds",
            defaults=(10_000,),
        )
        self.messages = self.accepts("messages", "Deprecated: as --num-records.", type=LONG, described_as="count")
        self.num_records = self.accepts(
            "num-records", "REQUIRED: How many records to read.", type=LONG, described_as="count"
        )
        self.interval = self.accepts(
            "reporting-interval",
            "Milliseconds between two lines of progress.",
            takes="required",
            type=matching(r"\d+")._replace(name="Long"),
            described_as="interval_ms",
            defaults=(5_000,),
        )
        self.date_format = self.accepts(
            "date-format",
            "The format of times, as java.text.SimpleDateFormat has it.",
            described_as="date format",
            defaults=("yyyy-MM-dd HH:mm:ss:SSS",),
        )
        self.hide_header = self.accepts("hide-header", "Leave out the line that names the columns.")

    def read_options(self, arguments: list[str], message: str) -> OptionSet:
        try:
            options = self.parse(arguments)
        except OptionError as error:
            self.usage_error(str(error))
        self.help_or_version(arguments, options, message)
        self.check(options)
        self.exactly_one(options, self.messages, self.num_records)
        self.refuse(options, self.old_config, [self.config])
        if options.has(self.messages):
            print("Warning: --messages is deprecated. Use --num-records instead.")
        if options.has(self.old_config):
            print("Warning: --consumer.config is deprecated. Use --command-config instead.")
        return options

    def check(self, options: OptionSet) -> None:
        """What has to be given."""

    def settings(self, options: OptionSet) -> dict[str, str]:
        """The client's settings that both tools have."""
        file = options.value(self.old_config if options.has(self.old_config) else self.config)
        settings = load_properties(file) if file is not None else {}
        settings.update(key_values(options.values(self.properties)))
        for name in ("key.deserializer", "value.deserializer"):
            settings.pop(name, None)
        return {
            **settings,
            "bootstrap.servers": options.value(self.bootstrap_server),
            "group.id": options.value(self.group),
            "receive.buffer.bytes": str(options.value(self.socket_buffer_size)),
            "check.crcs": "false",
        }

    def records_count(self, options: OptionSet) -> int:
        count: int = options.value(self.messages if options.has(self.messages) else self.num_records)
        return count

    def interval_ms(self, options: OptionSet) -> int:
        value = int(options.value(self.interval))
        if value <= 0:
            raise ToolError("Reporting interval must be greater than 0.")
        return value

    def times(self, options: OptionSet) -> SimpleDateFormat:
        try:
            return SimpleDateFormat(options.value(self.date_format))
        except ValueError as error:
            raise ToolError(str(error)) from None


def megabytes(size: int) -> float:
    """Of 1024 * 1024 bytes."""
    return size / MEGABYTE


def per_second(amount: float, elapsed_ms: int) -> str:
    """A rate with four digits behind the point, as Java writes it."""
    return fixed(divide(amount, elapsed_ms / 1000), 4)


def too_few(timeout_ms: int) -> str:
    """What is said when records did not come in time."""
    return (
        f"WARNING: Exiting before consuming the expected number of records: timeout ({timeout_ms} ms) exceeded. "
        "You can use the --timeout option to increase the timeout."
    )
