"""kafka-verifiable-producer: sends numbers, and tells of each whether it was written."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ottla.cli.kafka.argparse4j import INTEGER, LONG, ArgumentError, ArgumentParser, HelpShown
from ottla.cli.kafka.common import java_class, java_message, known_settings
from ottla.cli.kafka.console_options import Stopped, close_quietly, stopped_by_signals
from ottla.cli.kafka.java_text import divide
from ottla.cli.kafka.perf_stats import Throttle
from ottla.cli.kafka.verifiable import add_command_config, add_config_arguments, config_file, tell


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "verifiable-producer",
        default_help=True,
        description='Writes increasing integers to a topic, and a line of JSON for each "send" to standard output: '
        "which records were acknowledged, and which were not.",
    )
    add = parser.add_argument
    add("--topic", required=True, metavar="TOPIC", help="The topic to write to.")
    connection = parser.add_mutually_exclusive_group("Connection Group", "How the brokers are reached", required=True)
    connection.add_argument(
        "--bootstrap-server",
        metavar="HOST1:PORT1[,HOST2:PORT2[...]]",
        help="REQUIRED: The server(s) to connect to, as HOST1:PORT1,HOST2:PORT2,...",
    )
    add("--max-messages", default=-1, type=INTEGER, metavar="MAX-MESSAGES", help="How many records; -1 for no end.")
    add("--throughput", default=-1, type=INTEGER, metavar="THROUGHPUT", help="About how many in a second, if not -1.")
    add("--acks", default=-1, type=INTEGER, choices=(0, 1, -1), metavar="ACKS", help="The producer's acks.")
    add_config_arguments(parser, "producer")
    add(
        "--message-create-time",
        default=-1,
        type=LONG,
        metavar="CREATE-TIME",
        dest="createTime",
        help="The timestamp of the first record, in milliseconds since 1970.",
    )
    add("--value-prefix", type=INTEGER, metavar="VALUE-PREFIX", help="What stands before each value, with a dot.")
    add(
        "--repeating-keys",
        type=INTEGER,
        metavar="REPEATING-KEYS",
        help="Keys count from 0 to this number (exclusive), again and again.",
    )
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
        settings = {
            "bootstrap.servers": values["bootstrap_server"],
            "acks": str(values["acks"]),
            "retries": "0",
            **config_file(parser, values, "producer"),
        }
    except HelpShown:
        return 1
    except ArgumentError as error:
        error.parser.report(error)
        return 1
    return _VerifiableProducer(values, settings).run()


class _VerifiableProducer:
    def __init__(self, values: dict[str, Any], settings: dict[str, str]) -> None:
        from ottla.client.producer.blocking import Producer

        self._topic: str = values["topic"]
        self._maximum: int = values["max_messages"]
        self._throughput: int = values["throughput"]
        self._prefix: int | None = values["value_prefix"]
        self._create_time_ms: int | None = None if values["createTime"] == -1 else values["createTime"]
        self._repeating_keys: int | None = values["repeating_keys"]
        self._next_key = 0
        self._sent = self._acknowledged = 0
        self._started_ms = _now_ms()
        known = known_settings(settings, "producer")
        for name in ("key.serializer", "value.serializer"):
            known.pop(name, None)
        self._producer: Producer[Any, Any] = Producer(known)

    def run(self) -> int:
        code = 0
        try:
            with stopped_by_signals():
                self._run()
        except Stopped as stopped:
            code = stopped.exit_code
        close_quietly(self._producer.close)
        tell("shutdown_complete")
        elapsed_ms = _now_ms() - self._started_ms
        tell(
            "tool_data",
            sent=self._sent,
            acked=self._acknowledged,
            target_throughput=self._throughput,
            avg_throughput=1000 * divide(self._acknowledged, elapsed_ms),
        )
        return code

    def _run(self) -> None:
        tell("startup_complete")
        throttle = Throttle(self._throughput, self._started_ms)
        number = 0
        while number < self._maximum or self._maximum < 0:
            now_ms = _now_ms()
            self._send(self._key(), str(number) if self._prefix is None else f"{self._prefix}.{number}")
            throttle.wait(number, now_ms)
            number += 1

    def _key(self) -> str | None:
        if self._repeating_keys is None:
            return None
        key = str(self._next_key)
        self._next_key += 1
        if self._next_key == self._repeating_keys:
            self._next_key = 0
        return key

    def _send(self, key: str | None, value: str) -> None:
        from ottla.client.errors import KafkaError

        created_ms = self._create_time_ms
        if created_ms is not None:
            self._create_time_ms = created_ms + _now_ms() - self._started_ms
        self._sent += 1
        try:
            delivery = self._producer.send(self._topic, value, key, timestamp_ms=created_ms)
        except KafkaError as error:
            self._failed(key, value, error)
        else:
            delivery.add_done_callback(self._done(key, value))

    def _done(self, key: str | None, value: str) -> Callable[[Any], None]:
        def done(delivery: Any) -> None:
            error = delivery.exception()
            if error is not None:
                self._failed(key, value, error)
                return
            self._acknowledged += 1
            written = delivery.result()
            tell(
                "producer_send_success",
                key=key,
                value=value,
                offset=written.offset,
                topic=self._topic,
                partition=written.partition,
            )

        return done

    def _failed(self, key: str | None, value: str, error: Exception) -> None:
        tell(
            "producer_send_error",
            key=key,
            value=value,
            topic=self._topic,
            exception=f"class {java_class(error)}",
            message=java_message(error),
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
