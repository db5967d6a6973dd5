"""What the two console consumers have in common: the options of formatters and clients, and the loop."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, BinaryIO

from ottla.cli.kafka.common import ToolError, ToolExit, ToolParser, load_properties
from ottla.cli.kafka.formatters import Formatter, Record, formatter
from ottla.cli.kafka.jopt import Option, OptionSet
from ottla.cli.kafka.tool_log import log_error

DEFAULT_FORMATTER = "org.apache.kafka.tools.consumer.DefaultMessageFormatter"
_PROPERTIES = """
 print.timestamp=true|false
 print.key=true|false
 print.offset=true|false{more}
 print.epoch=true|false
 print.partition=true|false
 print.headers=true|false
 print.value=true|false
 key.separator=<key.separator>
 line.separator=<line.separator>
 headers.separator=<headers.separator>
 null.literal=<null.literal>
 key.deserializer=<key.deserializer>
 value.deserializer=<value.deserializer>
 header.deserializer=<header.deserializer>
"""


class FormatterOptions:
    """`--formatter` and all that sets one up."""

    def __init__(self, parser: ToolParser, *, more: str = "") -> None:
        self._parser = parser
        listed = _PROPERTIES.format(more=more)
        self._class = parser.accepts(
            "formatter", "Who writes the records.", described_as="class", defaults=(DEFAULT_FORMATTER,)
        )
        self._deprecated = parser.accepts(
            "property", f"Deprecated: as --formatter-property. {listed}", described_as="prop"
        )
        self._properties = parser.accepts(
            "formatter-property",
            f"A property of the formatter; the default one has: {listed}",
            described_as="prop",
        )
        self._file = parser.accepts(
            "formatter-config", "A file with properties of the formatter.", described_as="config file"
        )
        self._key = parser.accepts(
            "key-deserializer", "The class that reads keys.", described_as="deserializer for keys"
        )
        self._value = parser.accepts(
            "value-deserializer", "The class that reads values.", described_as="deserializer for values"
        )

    def make(self, options: OptionSet) -> Formatter:
        """The formatter that was asked for."""
        parser = self._parser
        name = options.value(self._class)
        try:
            formatter(name, {})
        except LookupError:
            parser.usage_error(name)
        given = self._properties
        if options.has(self._properties) and options.has(self._deprecated):
            parser.usage_error("Options --property and --formatter-property cannot be specified together.")
        if options.has(self._deprecated):
            print(
                "Option --property is deprecated and will be removed in a future version. "
                "Use --formatter-property instead."
            )
            given = self._deprecated
        try:
            properties = load_properties(options.value(self._file)) if options.has(self._file) else {}
        except ToolError as error:
            parser.usage_error(str(error))
        for option, setting in ((self._key, "key.deserializer"), (self._value, "value.deserializer")):
            if options.value(option):
                properties[setting] = options.value(option)
        properties.update(key_values(options.values(given)))
        return formatter(name, properties)


class ClientOptions:
    """The client's own properties: on the command line and in a file, with today's names and those of yesterday."""

    def __init__(self, parser: ToolParser, kind: str, deprecated_file: str) -> None:
        self._parser = parser
        self._kind = kind.lower()
        self._deprecated_file_name = deprecated_file
        prop = f"{self._kind}_prop"
        self._deprecated = parser.accepts(
            f"{self._kind}-property", "Deprecated: as --command-property.", described_as=prop
        )
        self._properties = parser.accepts(
            "command-property", f"A property of the {self._kind}, as key=value.", described_as=prop
        )
        self._deprecated_file = parser.accepts(
            deprecated_file, "Deprecated: as --command-config.", described_as="config file"
        )
        self._file = parser.accepts(
            "command-config",
            f"A file with properties of the {self._kind}; {self._properties} comes before it.",
            described_as="config file",
        )

    def read(self, options: OptionSet) -> tuple[dict[str, str], dict[str, str]]:
        """What the file says, and what the command line says."""
        self._refuse_both(options, self._deprecated, self._properties)
        self._refuse_both(options, self._deprecated_file, self._file)
        given, file = self._properties, self._file
        if options.has(self._deprecated):
            self._warn(f"{self._kind}-property", "command-property")
            given = self._deprecated
        if options.has(self._deprecated_file):
            self._warn(self._deprecated_file_name, "command-config")
            file = self._deprecated_file
        from_file = load_properties(options.value(file)) if options.has(file) else {}
        return from_file, key_values(options.values(given))

    def _refuse_both(self, options: OptionSet, one: Option, other: Option) -> None:
        if options.has(one) and options.has(other):
            self._parser.usage_error(f"Options --{one.names[0]} and --{other.names[0]} cannot be specified together.")

    def _warn(self, old: str, new: str) -> None:
        print(f"Option --{old} is deprecated and will be removed in a future version. Use --{new} instead.")


def key_values(pairs: list[str]) -> dict[str, str]:
    """`key=value` each; without a value it is empty."""
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def group_of(
    parser: ToolParser, given: str | None, properties: tuple[Mapping[str, str], ...], deprecated_file: str
) -> str | None:
    """The group id, wherever it is told; a usage error when it is told differently."""
    from ottla.cli.kafka.hash_order import hash_ordered

    found = [given] if given is not None else []
    found += [each["group.id"] for each in properties if "group.id" in each]
    ids = hash_ordered(found)
    if len(ids) > 1:
        detected = ", ".join(f"'{each}'" for each in ids)
        parser.usage_error(
            "The group ids provided in different places (directly using '--group', via '--consumer-property', "
            f"or via '--{deprecated_file}') do not match. Detected group ids: {detected}"
        )
    return ids[0] if ids else None


class Stopped(BaseException):
    """A signal asks the tool to end; what is open is closed in an orderly way."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Stopped` inside of the block."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: nobody gets signals here
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


Poll = Callable[["float | None", "int | None"], "list[Record]"]


class ConsoleLoop:
    """Polls, writes, counts. `source` names the tool's class in what it logs."""

    def __init__(self, source: str, poll: Poll, timeout_ms: int | None) -> None:
        self._source = source
        self._poll = poll
        self._timeout_ms = timeout_ms
        self.count = 0
        self.unread: list[Record] = []
        """Records of the last poll that were not written."""

    def run(self, write: Callable[[Record, BinaryIO], None], maximum: int) -> None:
        """Until there are `maximum` (-1: without end), or none for too long. Errors of polling end it with a log line,
        as in Kafka's tool; those of `write` are raised."""
        output = sys.stdout.buffer
        sys.stdout.flush()
        try:
            while self.count < maximum or maximum == -1:
                records = self._receive(None if maximum == -1 else maximum - self.count)
                if records is None:
                    return
                self.unread = records[::-1]
                while self.unread:
                    record = self.unread.pop()
                    self.count += 1
                    write(record, output)
                output.flush()
        except BrokenPipeError:
            print("Unable to write to standard out, closing consumer.", file=sys.stderr)
            silence_output()
        finally:
            try:
                output.flush()
            except BrokenPipeError:
                silence_output()

    def _receive(self, wanted: int | None) -> list[Record] | None:
        timeout_s = None if self._timeout_ms is None else self._timeout_ms / 1000
        started = time.monotonic()
        try:
            while True:
                records = self._poll(timeout_s, wanted)
                if records:
                    return records
                if timeout_s is not None and time.monotonic() - started > timeout_s:
                    raise ToolError("", "org.apache.kafka.common.errors.TimeoutException")
        except Exception as error:  # whatever it is, the tool says it and closes its consumer
            log_error(self._source, "Error processing message, terminating consumer process: ", error)
            return None

    def report(self) -> None:
        """How many it was."""
        print(f"Processed a total of {self.count} messages", file=sys.stderr)


def silence_output() -> None:
    """Nobody reads: what is still buffered goes nowhere."""
    import os

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def run_console(source: str, consume: Callable[[], None], *, systest_events: bool) -> int:
    """Run `consume`; its exit code, with what Kafka's tool says in the end."""
    code = 0
    try:
        with stopped_by_signals():
            consume()
    except Stopped as stopped:
        code = stopped.exit_code
    except ToolExit:
        raise
    except Exception as error:  # the outermost frame: everything becomes a line
        from ottla.client.errors import AuthenticationError

        authentication = isinstance(error, AuthenticationError)
        what = (
            "Authentication failed: terminating consumer process"
            if authentication
            else ("Unknown error when running consumer: ")
        )
        log_error(source, what, error)
        code = 1
    if systest_events:
        print("shutdown_complete")
    return code


def close_quietly(close: Callable[..., Any]) -> None:
    """Close a client whose work is done; what goes wrong then changes nothing any more."""
    from ottla.client.errors import KafkaError

    try:
        close()
    except KafkaError:
        pass
