"""kafka-consumer-perf-test: how fast a consumer group of one reads."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from ottla.cli.kafka.common import ToolExit, java_message, known_settings
from ottla.cli.kafka.java_text import divide, fixed
from ottla.cli.kafka.jopt import OptionSet
from ottla.cli.kafka.perf_options import PerfParser, megabytes, per_second, too_few
from ottla.cli.kafka.perf_stats import print_metrics

_POLL_S = 0.1
_MORE = ", rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec"


class _Parser(PerfParser):
    def __init__(self) -> None:
        super().__init__("consumer", f"perf-consumer-{random.randrange(100_000)}")
        self.include = self.accepts(
            "include", "A regular expression of topics to read.", described_as="Java regex (String)"
        )
        self.from_latest = self.accepts(
            "from-latest", "Begin behind the last record, where the group has no committed offset."
        )

    def check(self, options: OptionSet) -> None:
        self.require(options, self.bootstrap_server)
        self.exactly_one(options, self.topic, self.include)


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = _Parser()
    options = parser.read_options(arguments, "This tool is used to verify the consumer performance.")
    try:
        _measure(parser, options)
    except ToolExit:
        raise
    except Exception as error:  # as Kafka's tool does
        print(java_message(error), file=sys.stderr)
        return 1
    return 0


def _measure(parser: _Parser, options: OptionSet) -> None:
    from ottla.client.consumer.blocking import Consumer

    detailed = options.has(parser.detailed)
    if not options.has(parser.hide_header):
        first = "time, threadId" if detailed else "start.time, end.time"
        print(f"{first}, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec{_MORE}")
    settings = {
        **parser.settings(options),
        "max.partition.fetch.bytes": str(options.value(parser.fetch_size)),
        "auto.offset.reset": "latest" if options.has(parser.from_latest) else "earliest",
    }
    settings.setdefault("client.id", "perf-consumer-client")
    consumer: Consumer[Any, Any] = Consumer(known_settings(settings, "consumer"))
    with consumer:
        reading = _Reading(parser, options)
        reading.run(consumer)
        ended_ms = _now_ms()
        if not detailed:
            print(reading.summary(ended_ms))
        if options.has(parser.print_metrics):
            print_metrics(consumer.metrics())


class _Reading:
    """Reads and counts."""

    def __init__(self, parser: _Parser, options: OptionSet) -> None:
        self._options = options
        self._parser = parser
        self._times = parser.times(options)
        self._wanted = parser.records_count(options)
        self._timeout_ms: int = options.value(parser.timeout)
        self._interval_ms = parser.interval_ms(options)
        self._detailed = options.has(parser.detailed)
        self._started_ms = self._join_started_ms = _now_ms()
        self._joining_ms = self._joining_in_round_ms = 0
        self._assigned: set[Any] = set()
        self._count = self._size = 0
        self._reported_count = self._reported_size = 0
        self._reported_ms = self._started_ms

    def run(self, consumer: Any) -> None:
        options, parser = self._options, self._parser
        topics = (
            [options.value(parser.topic)] if options.has(parser.topic) else re.compile(options.value(parser.include))
        )
        consumer.subscribe(topics, on_assigned=self._on_assigned, on_revoked=self._on_revoked)
        now_ms = consumed_ms = self._reported_ms = _now_ms()
        while self._count < self._wanted and now_ms - consumed_ms <= self._timeout_ms:
            records = consumer.poll(_POLL_S)
            now_ms = _now_ms()
            if records:
                consumed_ms = now_ms
                self._take(records, now_ms)
        if self._count < self._wanted:
            print(too_few(self._timeout_ms))

    def _take(self, records: Sequence[Any], now_ms: int) -> None:
        first = records[0]
        if now_ms - self._reported_ms >= self._interval_ms:
            # Kafka's tool tells of the interval when it has counted the first record behind it.
            self._count += 1
            self._size += len(first.key or b"") + len(first.value or b"")
            if self._detailed:
                print(self._progress(now_ms), flush=True)
            self._joining_in_round_ms = 0
            self._reported_ms, self._reported_count, self._reported_size = now_ms, self._count, self._size
            records = records[1:]
        self._count += len(records)
        self._size += sum(len(record.value or b"") for record in records)
        self._size += sum(len(record.key) for record in records if record.key is not None)

    def _on_assigned(self, partitions: Sequence[Any]) -> None:
        if not self._assigned:
            elapsed_ms = _now_ms() - self._join_started_ms
            self._joining_ms += elapsed_ms
            self._joining_in_round_ms += elapsed_ms
        self._assigned.update(partitions)

    def _on_revoked(self, partitions: Sequence[Any]) -> None:
        self._assigned.difference_update(partitions)
        if not self._assigned:
            self._join_started_ms = _now_ms()

    def _progress(self, now_ms: int) -> str:
        elapsed_ms = now_ms - self._reported_ms
        fetching_ms = elapsed_ms - self._joining_in_round_ms
        size = megabytes(self._size - self._reported_size)
        count = self._count - self._reported_count
        rates = (divide(size, fetching_ms / 1000), divide(count, fetching_ms / 1000)) if fetching_ms > 0 else (0.0, 0.0)
        return (
            f"{self._times.format(now_ms)}, 0, {fixed(megabytes(self._size), 4)}, {per_second(size, elapsed_ms)}, "
            f"{self._count}, {per_second(count, elapsed_ms)}, {self._joining_in_round_ms}, {fetching_ms}, "
            f"{fixed(rates[0], 4)}, {fixed(rates[1], 4)}"
        )

    def summary(self, ended_ms: int) -> str:
        elapsed_ms = ended_ms - self._started_ms
        fetching_ms = elapsed_ms - self._joining_ms
        size = megabytes(self._size)
        return (
            f"{self._times.format(self._started_ms)}, {self._times.format(ended_ms)}, {fixed(size, 4)}, "
            f"{per_second(size, elapsed_ms)}, {self._count}, {per_second(self._count, elapsed_ms)}, "
            f"{self._joining_ms}, {fetching_ms}, {per_second(size, fetching_ms)}, "
            f"{per_second(self._count, fetching_ms)}"
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
