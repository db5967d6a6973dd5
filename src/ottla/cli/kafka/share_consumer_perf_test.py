"""kafka-share-consumer-perf-test: how fast the consumers of a share group read, each in a thread of its own."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from ottla.cli.kafka.common import ToolExit, java_message
from ottla.cli.kafka.java_text import SimpleDateFormat, fixed
from ottla.cli.kafka.jopt import INTEGER, OptionSet
from ottla.cli.kafka.perf_options import PerfParser, megabytes, per_second, too_few
from ottla.cli.kafka.perf_stats import print_metrics
from ottla.cli.kafka.share_client import share_settings

_POLL_S = 0.1
_CLOSE_S = 2.0
_HEADER = "start.time, end.time, data.consumed.in.MB, MB.sec, nMsg.sec, data.consumed.in.nMsg, fetch.time.ms"


class _Parser(PerfParser):
    def __init__(self) -> None:
        super().__init__("share consumer", "perf-share-consumer", required="REQUIRED.")
        self.threads = self.accepts(
            "threads", "How many share consumers share the work.", type=INTEGER, described_as="count", defaults=(1,)
        )
        self.consumer_stats = self.accepts("show-consumer-stats", "A line for each share consumer.")

    def check(self, options: OptionSet) -> None:
        self.require(options, self.topic, self.bootstrap_server)


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = _Parser()
    options = parser.read_options(arguments, "This tool is used to verify the share consumer performance.")
    try:
        _measure(parser, options)
    except ToolExit:
        raise
    except Exception as error:  # as Kafka's tool does
        print(java_message(error), file=sys.stderr)
        return 1
    return 0


def _measure(parser: _Parser, options: OptionSet) -> None:
    from ottla.client.share.blocking import ShareConsumer

    if not options.has(parser.hide_header):
        print(_HEADER)
    settings = {**parser.settings(options), "fetch.max.bytes": str(options.value(parser.fetch_size))}
    client_id = settings.setdefault("client.id", "perf-share-consumer-client")
    threads: int = options.value(parser.threads)
    client_ids = [client_id] if threads == 1 else [f"{client_id}-{number + 1}" for number in range(threads)]
    consumers: list[ShareConsumer[Any, Any]] = [
        ShareConsumer(share_settings({**settings, "client.id": name})) for name in client_ids
    ]
    try:
        for consumer in consumers:
            consumer.subscribe([options.value(parser.topic)])
        total = _Total(parser, options)
        lines = total.read(consumers, client_ids)
        metrics = [consumer.metrics() for consumer in consumers] if options.has(parser.print_metrics) else []
        for consumer in consumers:
            consumer.commit()
        print("\n".join(lines))
        for each in metrics:
            print_metrics(each)
    finally:
        for consumer in consumers:
            consumer.close(_CLOSE_S)


class _Total:
    """What all consumers have read together."""

    def __init__(self, parser: _Parser, options: OptionSet) -> None:
        self.times = parser.times(options)
        self.wanted = parser.records_count(options)
        self.timeout_ms: int = options.value(parser.timeout)
        self.interval_ms = parser.interval_ms(options)
        self.detailed = options.has(parser.detailed)
        self._by_consumer = options.has(parser.consumer_stats)
        self.count = 0
        self.lock = threading.Lock()

    def read(self, consumers: list[Any], client_ids: list[str]) -> list[str]:
        """Read until there is enough or nothing comes; the lines that tell of it."""
        started_ms = _now_ms()
        readers = [_Reader(self, consumer, number) for number, consumer in enumerate(consumers, 1)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        failed = next((reader.error for reader in readers if reader.error is not None), None)
        if failed is not None:
            raise failed
        ended_ms = _now_ms()
        lines = []
        if self._by_consumer:
            for number, (reader, client_id) in enumerate(zip(readers, client_ids, strict=True), 1):
                lines.append(
                    f"Share consumer {number} having client id {client_id} consumption metrics- "
                    f"{_line(self.times, started_ms, ended_ms, reader.size, reader.count)}"
                )
        if self.count < self.wanted:
            lines.append(too_few(self.timeout_ms))
        size = sum(reader.size for reader in readers)
        lines.append(_line(self.times, started_ms, ended_ms, size, self.count))
        return lines


class _Reader(threading.Thread):
    """One share consumer."""

    def __init__(self, total: _Total, consumer: Any, number: int) -> None:
        super().__init__(daemon=True)
        self._total = total
        self._consumer = consumer
        self._number = number
        self.count = self.size = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._read()
        except Exception as error:  # told in the main thread
            self.error = error

    def _read(self) -> None:
        total = self._total
        now_ms = consumed_ms = reported_ms = _now_ms()
        reported_size = reported_count = 0
        while total.count < total.wanted and now_ms - consumed_ms <= total.timeout_ms:
            records = self._consumer.poll(_POLL_S)
            now_ms = _now_ms()
            if not records:
                continue
            consumed_ms = now_ms
            self.count += len(records)
            self.size += sum(len(record.key or b"") + len(record.value or b"") for record in records)
            with total.lock:
                total.count += len(records)
                if now_ms - reported_ms >= total.interval_ms:
                    if total.detailed:
                        line = _line(
                            total.times, reported_ms, now_ms, self.size, self.count,
                            self.size - reported_size, self.count - reported_count,
                        )  # fmt: skip
                        print(f"{line} for share consumer {self._number}", flush=True)
                    reported_ms, reported_size, reported_count = now_ms, self.size, self.count


def _line(
    times: SimpleDateFormat,
    started_ms: int,
    ended_ms: int,
    size: int,
    count: int,
    new_size: int | None = None,
    new_count: int | None = None,
) -> str:
    elapsed_ms = ended_ms - started_ms
    return (
        f"{times.format(started_ms)}, {times.format(ended_ms)}, {fixed(megabytes(size), 4)}, "
        f"{per_second(megabytes(size if new_size is None else new_size), elapsed_ms)}, "
        f"{per_second(count if new_count is None else new_count, elapsed_ms)}, {count}, {elapsed_ms}"
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
