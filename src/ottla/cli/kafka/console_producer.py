"""kafka-console-producer: lines of standard input become records."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from ottla.cli.kafka.common import ToolError, ToolParser, java_error, known_settings, load_properties
from ottla.cli.kafka.console_options import Stopped, close_quietly, key_values, stopped_by_signals
from ottla.cli.kafka.jopt import INTEGER, LONG, Option, OptionError, OptionSet
from ottla.cli.kafka.line_reader import LineReader, LineRecord
from ottla.cli.kafka.tool_log import log_error

_LINE_READER = "org.apache.kafka.tools.LineMessageReader"
_CALLBACK = "org.apache.kafka.clients.producer.internals.ErrorLoggingCallback"
_READER_PROPERTIES = r"""
 parse.key=false
 parse.headers=false
 ignore.error=false
 key.separator=\t
 headers.delimiter=\t
 headers.separator=,
 headers.key.separator=:
 null.marker=   what stands for null, in keys, values and headers
Lines are:
 parse.headers=true and parse.key=true:
  "h1:v1,h2:v2...\tkey\tvalue"
 parse.key=true:
  "key\tvalue"
 parse.headers=true:
  "h1:v1,h2:v2...\tvalue"
"""


class _Parser(ToolParser):
    def __init__(self) -> None:
        super().__init__()
        self.topic = self.accepts("topic", "REQUIRED: The topic to write to.", described_as="topic")
        self.bootstrap_server = self.accepts(
            "bootstrap-server",
            "REQUIRED: The server(s) to connect to, as HOST1:PORT1,HOST2:PORT2.",
            described_as="server to connect to",
        )
        self.sync = self.accepts("sync", "Wait for each record to be written before the next one is read.")
        self.compression = self.accepts(
            "compression-codec",
            "'none', 'gzip', 'snappy', 'lz4' or 'zstd'; without a value 'gzip'.",
            takes="optional",
            described_as="compression-codec",
        )
        self.merged: list[tuple[str, Option]] = []
        self._setting("linger.ms", "timeout", LONG, 1000, "timeout_ms")
        self._setting("acks", "request-required-acks", None, "-1", "request required acks")
        self._setting("request.timeout.ms", "request-timeout-ms", INTEGER, 1500, "request timeout ms")
        self._setting("retries", "message-send-max-retries", INTEGER, 3, "")
        self._setting("retry.backoff.ms", "retry-backoff-ms", LONG, 100, "")
        self._setting("send.buffer.bytes", "socket-buffer-size", INTEGER, 102400, "size")
        self._setting("buffer.memory", "max-memory-bytes", LONG, 33554432, "total memory in bytes")
        self._setting("batch.size", "batch-size", INTEGER, 16384, "size")
        self.partition_memory = self._setting(
            "batch.size", "max-partition-memory-bytes", INTEGER, 16384, "memory in bytes per partition"
        )
        self._setting("metadata.max.age.ms", "metadata-expiry-ms", LONG, 300000, "metadata expiration interval")
        self._setting("max.block.ms", "max-block-ms", LONG, 60000, "max block on send")
        self.reader = self.accepts(
            "line-reader", "The class that reads lines.", described_as="reader_class", defaults=(_LINE_READER,)
        )
        self.property = self.accepts(
            "property", f"Deprecated: as --reader-property. {_READER_PROPERTIES}", described_as="prop"
        )
        self.reader_property = self.accepts(
            "reader-property", f"A property of the line reader; the default one has: {_READER_PROPERTIES}",
            described_as="prop",
        )  # fmt: skip
        self.reader_config = self.accepts(
            "reader-config", "A file with properties of the line reader.", described_as="config file"
        )
        self.producer_property = self.accepts(
            "producer-property", "Deprecated: as --command-property.", described_as="producer_prop"
        )
        self.command_property = self.accepts(
            "command-property", "A property of the producer, as key=value.", described_as="producer_prop"
        )
        self.producer_config = self.accepts(
            "producer.config", "Deprecated: as --command-config.", described_as="config file"
        )
        self.command_config = self.accepts(
            "command-config", "A file with properties of the producer.", described_as="config file"
        )

    def _setting(self, setting: str, name: str, kind: Any, default: object, described_as: str) -> Option:
        options: dict[str, Any] = {} if kind is None else {"type": kind}
        option = self.accepts(
            name,
            f"The producer's {setting}.",
            takes="required",
            described_as=described_as,
            defaults=(default,),
            **options,
        )
        self.merged.append((setting, option))
        return option

    def read(self, arguments: list[str]) -> OptionSet:
        try:
            options = self.parse(arguments)
        except OptionError as error:
            self.usage_error(str(error))
        self.help_or_version(
            arguments, options, "This tool helps to read data from standard input and publish it to Kafka."
        )
        self.require(options, self.topic)
        pairs = [
            (self.command_config, self.producer_config),
            (self.command_property, self.producer_property),
            (self.reader_property, self.property),
        ]
        for new, old in pairs:
            if options.has(new) and options.has(old):
                self.usage_error(f"Options --{new.names[0]} and --{old.names[0]} cannot be specified together.")
        for new, old in (pairs[1], pairs[0], pairs[2]):
            if options.has(old):
                print(
                    f"Warning: --{old.names[0]} is deprecated and will be removed in a future version. "
                    f"Use --{new.names[0]} instead."
                )
        if options.has(self.partition_memory):
            print(
                "Warning: --max-partition-memory-bytes is deprecated and will be removed in Apache Kafka 5.0. "
                "Use --batch-size instead."
            )
        reason = bad_servers(options.value(self.bootstrap_server))
        if reason:
            self.usage_error(reason)
        return options

    def reader_properties(self, options: OptionSet) -> dict[str, str]:
        given = self.property if options.has(self.property) else self.reader_property
        from_file = load_properties(options.value(self.reader_config)) if options.has(self.reader_config) else {}
        return {**from_file, "topic": options.value(self.topic), **key_values(options.values(given))}

    def producer_settings(self, options: OptionSet) -> dict[str, str]:
        file = self.producer_config if options.has(self.producer_config) else self.command_config
        given = self.producer_property if options.has(self.producer_property) else self.command_property
        settings = load_properties(options.value(file)) if options.has(file) else {}
        settings.update(key_values(options.values(given)))
        settings["bootstrap.servers"] = options.value(self.bootstrap_server)
        compression = "none"
        if options.has(self.compression):
            compression = options.value(self.compression) or "gzip"
        settings["compression.type"] = compression
        settings.setdefault("client.id", "console-producer")
        for setting, option in self.merged:
            if options.has(option) or setting not in settings:
                settings[setting] = str(options.value(option))
        return settings


def bad_servers(text: str | None) -> str:
    """What is wrong with a list of host:port; empty when nothing is."""
    if text is None or not text.strip():
        return "Error while validating the bootstrap address\n"
    import re

    pattern = re.compile(r"(.*?\[?([0-9a-zA-Z\-._%:]*)\]?:([0-9]+))")
    servers = text.split(",")
    while servers and not servers[-1]:
        servers.pop()
    if not servers or not all(pattern.fullmatch(each) for each in servers):
        return "Please provide valid host:port like host1:9091,host2:9092\n"
    return ""


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = _Parser()
    try:
        options = parser.read(arguments)
        with stopped_by_signals():
            return _produce(parser, options)
    except OptionError as error:
        print(error, file=sys.stderr)
        return 1
    except ToolError as error:
        print(java_error(error), file=sys.stderr)
        return 1
    except Stopped as stopped:
        return stopped.exit_code


def _produce(parser: _Parser, options: OptionSet) -> int:
    from ottla.client.errors import KafkaError, KafkaTimeoutError, RecordTooLargeError, UnknownTopicError
    from ottla.client.producer.blocking import Producer

    try:
        reader = _reader(options.value(parser.reader), parser.reader_properties(options))
        known = known_settings(parser.producer_settings(options), "producer")
        producer: Producer[Any, Any] = Producer(_told(known, options.has(parser.sync)))
    except KafkaError as error:
        print(java_error(error), file=sys.stderr)
        return 1
    topic = options.value(parser.topic)
    is_sync = options.has(parser.sync)
    try:
        for record in reader.records(_lines()):
            try:
                delivery = producer.send(topic, record.value, record.key, headers=record.headers)
                if is_sync:
                    delivery.result()
                    continue
            except KafkaError as error:
                if is_sync or not isinstance(error, RecordTooLargeError | KafkaTimeoutError | UnknownTopicError):
                    raise
                _complain(topic, record, error)
            else:
                delivery.add_done_callback(
                    lambda done, record=record: _complain(topic, record, done.exception())  # type: ignore[misc]
                )
    except KafkaError as error:
        wrapping = "java.util.concurrent.ExecutionException: " if is_sync else ""
        print(f"{wrapping}{java_error(error)}", file=sys.stderr)
        return 1
    finally:
        close_quietly(producer.close)
    return 0


def _told(settings: dict[str, str], is_sync: bool) -> dict[str, str]:
    for name in ("key.serializer", "value.serializer"):
        settings.pop(name, None)
    # The broker's answer may take longer than this tool's default for a request, as long as it is tried again.
    linger_ms, request_ms = settings["linger.ms"], settings["request.timeout.ms"]
    if "delivery.timeout.ms" not in settings and linger_ms.isdecimal() and request_ms.isdecimal():
        needed = int(linger_ms) + int(request_ms)
        if needed > 120_000:
            settings["delivery.timeout.ms"] = str(needed)
    return settings


def _complain(topic: str, record: LineRecord, error: Exception | None) -> None:
    if error is None:
        return

    def size(data: bytes | None) -> str:
        return "null" if data is None else f"{len(data)} bytes"

    log_error(
        _CALLBACK,
        f"Error when sending message to topic {topic} with key: {size(record.key)}, value: {size(record.value)} "
        "with error:",
        error,
    )


def _reader(name: str, properties: dict[str, str]) -> Any:
    if name == _LINE_READER:
        return LineReader(properties)
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(import_module(module), attribute)(properties)
        except (ImportError, AttributeError):
            pass
    raise ToolError(name, "ClassNotFoundException")


def _lines() -> Iterator[str]:
    """Lines as Java reads them, ended by \\n, \\r or both; with a prompt for who sits at a terminal."""
    if sys.stdin.isatty():
        yield from _typed()
        return
    source: Iterable[str] = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace", newline=None)
    for line in source:
        yield line.removesuffix("\n")


def _typed() -> Iterator[str]:
    while True:
        print(">", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        yield line.removesuffix("\n")
