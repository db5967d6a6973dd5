"""kafka-producer-perf-test: how fast a producer is, and how long its records take."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from ottla.cli.kafka.argparse4j import DOUBLE, INTEGER, LONG, ArgumentError, ArgumentParser, HelpShown
from ottla.cli.kafka.common import ToolError, java_error, known_settings, load_properties
from ottla.cli.kafka.perf_stats import LatencyStats, Throttle, print_metrics

_TRANSACTION_PREFIX = "performance-producer-"
_TRANSACTION_MS = 3000
_PAYLOAD_POOL = 1024
_NUMBER = "the number of records in the test, --num-records"
_SERVER_OPTIONS = "--bootstrap-server, --command-property, --producer-props, --producer.config or --command-config"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "kafka-producer-perf-test",
        default_help=True,
        description="Measures a producer. Records are sent in transactions when there is a transactional id (from "
        "--transactional-id, or transactional.id in --command-property or --command-config) or a "
        "--transaction-duration-ms.",
    )
    add = parser.add_argument
    add("--bootstrap-server", metavar="BOOTSTRAP-SERVER", help="The server(s) to connect to.")
    one_of = "Exactly one of --record-size, --payload-file and --payload-monotonic is needed."
    payload = parser.add_mutually_exclusive_group(description=one_of, required=True)
    add("--topic", required=True, metavar="TOPIC", help="The topic to write to.")
    add("--num-records", required=True, type=LONG, metavar="NUM-RECORDS", help="How many records to send.")
    payload.add_argument(
        "--record-size", type=INTEGER, metavar="RECORD-SIZE", help=f"The size of records in bytes. {one_of}"
    )
    payload.add_argument(
        "--payload-file",
        metavar="PAYLOAD-FILE",
        help=f"A text file (UTF-8) of values; each record has one of them at random. {one_of}",
    )
    payload.add_argument(
        "--payload-monotonic",
        action="store_true",
        metavar="PAYLOAD-MONOTONIC",
        help=f"Values are numbers that count up. {one_of}",
    )
    add(
        "--payload-delimiter",
        metavar="PAYLOAD-DELIMITER",
        default="\\n",
        help="What separates the values in the payload file.",
    )
    add(
        "--throughput",
        required=True,
        type=DOUBLE,
        metavar="THROUGHPUT",
        help="About how many records to send in a second; -1 for as many as possible.",
    )
    _add_settings(parser)
    return parser


def _add_settings(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--producer-props",
        nargs="+",
        metavar="PROP-NAME=PROP-VALUE",
        dest="producerConfig",
        help="Deprecated: as --command-property.",
    )
    add(
        "--command-property",
        nargs="+",
        metavar="PROP-NAME=PROP-VALUE",
        dest="commandProperties",
        help="Properties of the producer; they come before those of the file.",
    )
    add(
        "--producer.config",
        metavar="CONFIG-FILE",
        dest="producerConfigFile",
        help="Deprecated: as --command-config.",
    )
    add(
        "--command-config",
        metavar="CONFIG-FILE",
        dest="commandConfigFile",
        help="A file with the producer's properties.",
    )
    add(
        "--print-metrics", action="store_true", metavar="PRINT-METRICS", help="Print the producer's metrics at the end."
    )
    add(
        "--transactional-id",
        metavar="TRANSACTIONAL-ID",
        help=f"The transactional id. If there is only a duration, it is {_TRANSACTION_PREFIX} and a random id.",
    )
    add(
        "--transaction-duration-ms",
        type=LONG,
        metavar="TRANSACTION-DURATION",
        help=f"Commit when a transaction is as old as this; {_TRANSACTION_MS} if there is only a transactional id.",
    )
    add(
        "--warmup-records",
        type=LONG,
        metavar="WARMUP-RECORDS",
        default=0,
        help="How many of the first records are not counted in the line about the steady state.",
    )
    add(
        "--reporting-interval",
        type=LONG,
        metavar="INTERVAL-MS",
        default=5000,
        help="Milliseconds between two lines of progress.",
    )


@dataclass
class _Test:
    """What is to be done."""

    topic: str
    records_count: int
    warmup_count: int
    throughput: float
    reporting_interval_ms: int
    settings: dict[str, str]
    transaction_ms: int | None
    prints_metrics: bool
    payload: Callable[[int], bytes]


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = _parser()
    try:
        test = _read(parser, parser.parse(arguments))
    except HelpShown:
        return 1
    except ArgumentError as error:
        if not arguments:
            parser.print_help()
            return 0
        error.parser.report(error)
        return 1
    _send(test)
    return 0


def _read(parser: ArgumentParser, values: Mapping[str, Any]) -> _Test:
    count, warmup = values["num_records"], max(values["warmup_records"], 0)
    given, old = values["commandProperties"], values["producerConfig"]
    file, old_file = values["commandConfigFile"], values["producerConfigFile"]
    size, duration_ms = values["record_size"], values["transaction_duration_ms"]
    server = values["bootstrap_server"]
    checks = [
        (count <= 0, "--num-records should be greater than zero."),
        (
            warmup >= count,
            f"The value for --warmup-records must be strictly fewer than {_NUMBER}.",
        ),
        (size is not None and size <= 0, "--record-size should be greater than zero."),
        (
            all(each is None for each in (server, given, old, file, old_file)),
            f"At least one of {_SERVER_OPTIONS} must be specified.",
        ),
        (
            given is not None and old is not None,
            "--command-property and --producer-props cannot be specified together.",
        ),
        (
            file is not None and old_file is not None,
            "--command-config and --producer.config cannot be specified together.",
        ),
        (duration_ms is not None and duration_ms <= 0, "--transaction-duration-ms should be greater than zero."),
        (values["reporting_interval"] <= 0, "--reporting-interval should be greater than zero."),
    ]
    for is_wrong, message in checks:
        if is_wrong:
            raise ArgumentError(message, parser)
    delimiter = values["payload_delimiter"]
    payload = _payload(values, "\n" if delimiter == "\\n" else delimiter)
    for new, name, instead in (
        (old, "--producer-props", "--command-property"),
        (old_file, "--producer.config", "--command-config"),
    ):
        if new is not None:
            print(f"Option {name} has been deprecated and will be removed in a future version. Use {instead} instead.")
    settings = _settings(given if old is None else old, file if old_file is None else old_file)
    if server is not None:
        settings["bootstrap.servers"] = server
    transactional_id = values["transactional_id"]
    if duration_ms is not None or transactional_id is not None or "transactional.id" in settings:
        from ottla.core.ids import uuid_to_text

        made_up = _TRANSACTION_PREFIX + uuid_to_text(os.urandom(16))
        settings["transactional.id"] = transactional_id or settings.get("transactional.id") or made_up
        duration_ms = _TRANSACTION_MS if duration_ms is None else duration_ms
    return _Test(
        values["topic"], count, warmup, values["throughput"], values["reporting_interval"], settings, duration_ms,
        values["print_metrics"], payload,
    )  # fmt: skip


def _settings(properties: list[str] | None, file: str | None) -> dict[str, str]:
    settings = load_properties(file) if file is not None else {}
    for entry in properties or ():
        pieces = entry.split("=")
        while len(pieces) > 1 and not pieces[-1]:
            pieces.pop()
        if len(pieces) != 2:
            raise ToolError(f"Invalid property: {entry}")
        settings[pieces[0]] = pieces[1]
    settings.setdefault("client.id", "perf-producer-client")
    return settings


def _payload(values: Mapping[str, Any], delimiter: str) -> Callable[[int], bytes]:
    """A function from the number of a record to its value."""
    path, size = values["payload_file"], values["record_size"]
    random = Random(0)
    if path is not None:
        listed = _read_payloads(path, delimiter)
        return lambda number: random.choice(listed)
    if size is not None:
        # Letters for every record cost more than sending it; a pool of them looks the same to compression.
        letters = bytes(random.choices(range(65, 91), k=size + _PAYLOAD_POOL))
        return lambda number: letters[(start := random.randrange(_PAYLOAD_POOL)) : start + size]
    return lambda number: b"%d" % number


def _read_payloads(path: str, delimiter: str) -> list[bytes]:
    print(f"Reading payloads from: {os.path.abspath(path)}")
    if not os.path.exists(path) or not os.path.getsize(path):
        raise ToolError("File does not exist or empty file provided.")
    with open(path, encoding="utf-8", newline="") as file:
        texts = re.split(delimiter, file.read())
    # As Java's Scanner: nothing before a delimiter at the beginning, nothing behind one at the end.
    if texts and not texts[-1]:
        texts.pop()
    if texts and not texts[0]:
        del texts[0]
    print(f"Number of records read: {len(texts)}")
    return [text.encode() for text in texts]


def _send(test: _Test) -> None:
    from ottla.client.errors import KafkaError
    from ottla.client.producer.blocking import Producer

    known = known_settings(test.settings, "producer")
    for name in ("key.serializer", "value.serializer"):
        known.pop(name, None)
    producer: Producer[Any, Any] = Producer(known)
    try:
        stats, steady = _Run(test, producer).run()
        try:
            producer.flush() if test.prints_metrics else producer.close()
        except KafkaError:
            pass  # each record has told what became of it
        now_ms = _now_ms()
        print(stats.total(now_ms))
        if steady is not None:
            print(steady.total(now_ms))
        if test.prints_metrics:
            print_metrics(producer.metrics())
    finally:
        try:
            producer.close()
        except KafkaError:
            pass


class _Run:
    """One run: sends, and hears in the background what became of the records."""

    def __init__(self, test: _Test, producer: Any) -> None:
        self._test = test
        self._producer = producer
        self._lock = threading.Lock()
        if test.warmup_count:
            print(
                f"Warmup first {test.warmup_count} records. Steady state results will print after the complete test "
                "summary."
            )
        if test.transaction_ms is not None:
            producer.init_transactions()
        self._stats = LatencyStats(test.records_count, test.reporting_interval_ms, _now_ms())
        self._steady: LatencyStats | None = None

    def run(self) -> tuple[LatencyStats, LatencyStats | None]:
        test, producer = self._test, self._producer
        throttle = Throttle(test.throughput, _now_ms())
        for number in self._in_transactions(range(test.records_count)):
            value = test.payload(number)
            now_ms = _now_ms()
            if test.warmup_count and number == test.warmup_count:
                self._steady = LatencyStats(
                    test.records_count - test.warmup_count, test.reporting_interval_ms, now_ms, is_steady_state=True
                )
                self._stats.is_silent = True
            delivery = producer.send(test.topic, value)
            delivery.add_done_callback(self._callback(now_ms, len(value), self._steady))
            throttle.wait(number, now_ms)
        return self._stats, self._steady

    def _in_transactions(self, numbers: range) -> Iterator[int]:
        duration_ms = self._test.transaction_ms
        if duration_ms is None:
            yield from numbers
            return
        begun_ms = -1
        for number in numbers:
            if begun_ms < 0:
                self._producer.begin_transaction()
                begun_ms = _now_ms()
            yield number
            if _now_ms() - begun_ms >= duration_ms:
                self._producer.commit_transaction()
                begun_ms = -1
        if begun_ms >= 0:
            self._producer.commit_transaction()

    def _callback(self, sent_ms: int, size: int, steady: LatencyStats | None) -> Callable[[Any], None]:
        def done(delivery: Any) -> None:
            error = delivery.exception()
            if error is not None:
                print(java_error(error), file=sys.stderr)
                return
            now_ms = _now_ms()
            with self._lock:
                self._stats.record(now_ms - sent_ms, size, now_ms)
                if steady is not None:
                    steady.record(now_ms - sent_ms, size, now_ms)

        return done


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
