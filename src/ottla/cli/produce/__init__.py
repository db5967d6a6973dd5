"""`ottla produce`: sends arguments, files or what comes through a pipe, and says where it went.

A line that cannot be sent does not stop the others: it is told of, and the exit code is 1. With `--transaction` it is
all or nothing.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ottla.cli.connection import add_connection_arguments, client_settings, tell_warnings, timeout_of
from ottla.cli.consume.ranges import partitions_of
from ottla.cli.errors import FAILURE, CommandError
from ottla.cli.numbers import positive, whole
from ottla.cli.output import Output, add_output_arguments
from ottla.cli.selection import complete_topics

if TYPE_CHECKING:
    import ottla
    from ottla.cli.formats import Format
    from ottla.cli.produce.parsing import Parser
    from ottla.cli.produce.sending import Pace, Sender, Tally
    from ottla.cli.produce.source import Piece


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of `ottla produce`."""
    # Values may stand before, between and behind options, which argparse does not allow by itself.
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]
    topic = parser.add_argument("topic", metavar="TOPIC", help="where to")
    topic.completer = complete_topics  # type: ignore[attr-defined]
    parser.add_argument(
        "values", metavar="VALUE", nargs="*", default=[], help="what to send; without, standard input is read"
    )
    read = parser.add_argument_group("what is read")
    read.add_argument("-f", "--file", action="append", default=[], metavar="FILE", help="a file, - is standard input")
    read.add_argument(
        "--input",
        choices=("lines", "json", "whole"),
        default="lines",
        help="a record a line (as without); a record a JSON document, or element of an array; a record a file",
    )
    read.add_argument("-D", "--delimiter", metavar="TEXT", default=r"\n", help=r"what ends a record in place of \n")
    read.add_argument("--value-format", metavar="FORMAT", default="string", help=_formats())
    read.add_argument("--key-format", metavar="FORMAT", default="string", help="the same for keys")
    read.add_argument("-K", "--key-separator", metavar="TEXT", help=r"a line is a key, this text (\t), and a value")
    read.add_argument(
        "--header-separator", metavar="TEXT", help=r"a line begins with name=value,name=value and this text (\t)"
    )
    read.add_argument("--null", metavar="TEXT", help="a key or value that is exactly this text is null")
    read.add_argument("-E", "--envelope", action="store_true", help="JSON as `ottla consume --json` prints it")
    sent = parser.add_argument_group("what all records get")
    sent.add_argument("-k", "--key", metavar="KEY", help="the key")
    sent.add_argument("-H", "--header", action="append", default=[], metavar="NAME=VALUE", help="a header")
    sent.add_argument("-p", "--partition", type=whole(), metavar="N", help="the partition")
    sent.add_argument("-T", "--timestamp", metavar="TIME", help="2026-01-31T08:15, 10m (ago), milliseconds, …")
    sent.add_argument("--tombstone", action="store_true", help="a null value for the key of -k, nothing is read")
    how = parser.add_argument_group("how it is sent")
    how.add_argument("-z", "--compression", metavar="TYPE", help="none, gzip, snappy, lz4 or zstd")
    how.add_argument("-a", "--acks", choices=("0", "1", "all"), help="who has to have a record before it counts")
    how.add_argument("--transaction", action="store_true", help="all records or none of them")
    how.add_argument("--transactional-id", metavar="ID", help="the id of the transaction (one of its own)")
    how.add_argument("-r", "--rate", type=positive(), metavar="N", help="at most so many records a second")
    how.add_argument("--repeat", type=whole(1), default=1, metavar="N", help="send it all so many times")
    add_connection_arguments(parser)
    add_output_arguments(parser)


def run(options: Namespace) -> int:
    """Send and report; returns 1 when a record was not written."""
    output = Output(options)
    try:
        parser, headers = _parser(options)
        timestamp_ms = None if options.timestamp is None else _time(options.timestamp)
        _check(options)
    except ValueError as error:
        raise CommandError(str(error)) from None
    from ottla.cli.produce.sending import Defaults, Sender, Tally
    from ottla.client.errors import KafkaError
    from ottla.client.producer.blocking import Producer

    tell_warnings()
    settings = _producer_settings(options)
    began_s = time.monotonic()
    tally = Tally(output.note)
    servers = settings.pop("bootstrap.servers", None)
    with Producer(servers, settings) as producer:
        count = len(partitions_of(producer, options.topic, timeout_of(options)))
        if options.partition is not None and options.partition >= count:
            raise CommandError(f"topic {options.topic} has no partition {options.partition}, only 0 to {count - 1}")
        defaults = Defaults(options.topic, count, options.partition, headers, timestamp_ms)
        sender = Sender(producer, defaults, tally, asks_for_offsets=options.acks != "0")
        try:
            if options.transaction or options.transactional_id:
                _in_transaction(producer, sender, parser, options, output)
            else:
                _send_all(sender, parser, options, output)
        except KafkaError:
            if tally.written and not options.transaction:
                output.note(f"{tally.written} records were written before it went wrong")
            raise
    _report(tally, time.monotonic() - began_s, options, output)
    return FAILURE if tally.failed else 0


class _TakenBackError(Exception):
    """The transaction was aborted because of a record that cannot be sent."""


def _in_transaction(
    producer: ottla.Producer[Any, Any], sender: Sender, parser: Parser, options: Namespace, output: Output
) -> None:
    tally = sender.tally
    try:
        with producer.transaction():
            _send_all(sender, parser, options, output, stops_at_failure=True)
            if tally.failed:
                raise _TakenBackError
    except _TakenBackError:
        raise CommandError("nothing was sent: the transaction was aborted because of what cannot be sent") from None


def _send_all(
    sender: Sender, parser: Parser, options: Namespace, output: Output, *, stops_at_failure: bool = False
) -> None:
    from ottla.client.errors import KafkaError

    tally = sender.tally
    pace = _pace(options.rate)
    try:
        for piece in _pieces(options, output, 8192 if pace is None else pace.piece_records):

            def problem(index: int, why: str, piece: Piece = piece) -> None:
                tally.failed_at(piece.place(index), why)

            records = parser(piece.items, problem)
            if stops_at_failure and tally.failed:
                return
            if pace is not None:
                pace.wait(len(piece.items))
            sender.send(piece, records)
    except KeyboardInterrupt:
        raise  # the producer is given a moment to deliver, not minutes
    except KafkaError:
        raise  # nothing can be written any more
    except BaseException:
        sender.finish()
        raise
    sender.finish()


def _pieces(options: Namespace, output: Output, most: int) -> Iterator[Piece]:
    """All that is to be sent, as often as asked; what came through a pipe is kept for the next time."""
    from ottla.cli.produce.source import BLOCK_BYTES, file_bytes, from_arguments, from_file

    paths: list[str] = options.file or ([] if options.values or options.tombstone else ["-"])
    if paths == ["-"] and not options.file and sys.stdin.isatty():
        output.note("a record a line; Ctrl-D ends")
    sizes = [file_bytes(path) for path in paths]
    total = sum(size or 0 for size in sizes) * options.repeat
    kept: list[Piece] | None = [] if options.repeat > 1 and "-" in paths else None
    with ExitStack() as stack:
        advance: Callable[[int], None] = _nothing
        if total > 16 * BLOCK_BYTES and None not in sizes:
            advance = stack.enter_context(output.progress(total, "bytes read")).advance
        for turn in range(options.repeat):
            if kept is not None and turn:
                yield from kept
                continue
            if options.values:
                yield from _cut(from_arguments(options.values), most, None)
            elif options.tombstone:
                yield from _cut(from_arguments([""]), most, None)
            for path in paths:
                from ottla.cli.consume.printing import unescaped

                pieces = from_file(path, options.input, unescaped(options.delimiter), advance)
                yield from _cut(pieces, most, kept)


def _cut(pieces: Iterator[Piece], most: int, kept: list[Piece] | None) -> Iterator[Piece]:
    for piece in pieces:
        for start in range(0, len(piece.items), most):
            part = piece
            if len(piece.items) > most:
                part = piece._replace(first=piece.first + start, items=piece.items[start : start + most])
            if kept is not None:
                kept.append(part)
            yield part


def _nothing(_: int) -> None:
    """Nobody watches."""


def _parser(options: Namespace) -> tuple[Parser, tuple[tuple[str, bytes | None], ...]]:
    from ottla.cli.consume.printing import unescaped
    from ottla.cli.formats import format_of
    from ottla.cli.produce.parsing import Parser, Syntax, parse_header

    key_format, value_format = format_of(options.key_format), format_of(options.value_format)
    null = None if options.null is None else options.null.encode()
    syntax = Syntax(
        key_format,
        value_format,
        None if options.key_separator is None else unescaped(options.key_separator),
        None if options.header_separator is None else unescaped(options.header_separator),
        b"" if options.tombstone else null,
        _key(options.key, key_format),
        options.key is not None,
        options.envelope,
        options.input == "json",
    )
    for separator in (syntax.key_separator, syntax.header_separator, unescaped(options.delimiter)):
        if separator == b"":
            raise ValueError("a separator cannot be empty")
    headers = tuple(parse_header(header.encode(), null) for header in options.header)
    return Parser(syntax, _now_ms), headers


def _key(text: str | None, key_format: Format) -> bytes | None:
    try:
        return None if text is None else key_format.encode(text.encode())
    except ValueError as error:
        raise ValueError(f"--key: {error}") from None


def _check(options: Namespace) -> None:
    if options.values and options.file:
        raise ValueError("values are given as arguments or in files, not both")
    if options.key is not None and options.key_separator is not None:
        raise ValueError("--key is the key of all records, --key-separator finds one in each line; give one of them")
    if options.envelope and (options.key_separator is not None or options.header_separator is not None):
        raise ValueError("an --envelope has its key and headers in it; leave the separators out")
    if options.input != "lines" and (options.key_separator is not None or options.header_separator is not None):
        raise ValueError("separators are for --input lines")
    if options.tombstone and (options.key is None or options.values or options.file or options.envelope):
        raise ValueError("--tombstone sends null for the key of -k, and nothing else")
    if options.values and options.input == "whole":
        raise ValueError("--input whole is for files")


def _producer_settings(options: Namespace) -> dict[str, str]:
    from ottla.client.settings import ProducerSettings

    settings = client_settings(options, ProducerSettings)
    settings.setdefault("client.id", "ottla-produce")
    if options.compression is not None:
        settings["compression.type"] = options.compression
    if options.acks is not None:
        settings["acks"] = options.acks
        if options.acks != "all":
            settings.setdefault("enable.idempotence", "false")
    settings.pop("transactional.id", None)
    if options.transaction or options.transactional_id:
        if options.acks not in (None, "all"):
            raise CommandError("a transaction needs --acks all")
        settings["transactional.id"] = options.transactional_id or _own_id()
    if options.timeout is not None:
        settings.setdefault("max.block.ms", str(int(options.timeout * 1000)))
        settings.setdefault("delivery.timeout.ms", str(max(int(options.timeout * 1000), 1000)))
        settings["request.timeout.ms"] = str(min(int(settings["request.timeout.ms"]), int(options.timeout * 1000) // 2))
    return settings


def _own_id() -> str:
    import uuid

    return f"ottla-produce-{uuid.uuid4().hex}"


def _report(tally: Tally, seconds: float, options: Namespace, output: Output) -> None:
    partitions = sorted(tally.by_partition.items())
    report = {
        "topic": options.topic,
        "records": tally.written,
        "failed": tally.failed,
        "seconds": round(seconds, 3),
        "partitions": [
            {
                "partition": partition,
                "records": count.records,
                "start_offset": None if count.start_offset < 0 else count.start_offset,
                "end_offset": None if count.end_offset < 0 else count.end_offset,
            }
            for partition, count in partitions
        ],
    }
    where = ""
    if 0 < len(partitions) <= 8:
        where = ": " + ", ".join(
            f"partition {partition}: {count.records}"
            if count.start_offset < 0
            else f"partition {partition}: {count.records} from offset {count.start_offset}"
            for partition, count in partitions
        )
    elif partitions:
        where = f" in {len(partitions)} partitions"
    failed = f"; {tally.failed} could not be sent" if tally.failed else ""
    what = "record" if tally.written == 1 else "records"
    output.done(f"{tally.written} {what} to {options.topic}{where}{failed}", json=report)


def _pace(rate: float | None) -> Pace | None:
    from ottla.cli.produce.sending import Pace

    return None if rate is None else Pace(rate)


def _time(text: str) -> int:
    from ottla.cli.units import parse_time_ms

    return parse_time_ms(text, _now_ms())


def _now_ms() -> int:
    return int(time.time() * 1000)


def _formats() -> str:
    return "string (as without), json, hex, base64, int8 to int64, float32, float64"
