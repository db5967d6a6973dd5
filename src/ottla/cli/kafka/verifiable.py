"""What the verifiable tools have in common: an event is a line of JSON on standard output."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ottla.cli.kafka.argparse4j import ArgumentError, ArgumentParser
from ottla.cli.kafka.common import ToolError, load_properties
from ottla.cli.kafka.message_json import compact_json

_lock = threading.Lock()


def tell(name: str, *before: tuple[str, object], **fields: object) -> None:
    """An event now; `before` stands in front of the other fields. Any thread may tell."""
    event = {"timestamp": time.time_ns() // 1_000_000, "name": name, **dict(before), **fields}
    with _lock:
        sys.stdout.write(compact_json(event) + "\n")
        sys.stdout.flush()


def add_config_arguments(parser: ArgumentParser, kind: str) -> None:
    """`--producer.config` or `--consumer.config`."""
    parser.add_argument(f"--{kind}.config", metavar="CONFIG-FILE", help="Deprecated: as --command-config.")


def add_command_config(parser: ArgumentParser) -> None:
    """`--command-config`."""
    parser.add_argument("--command-config", metavar="CONFIG-FILE", help="A file with properties of the client.")


def config_file(parser: ArgumentParser, values: Mapping[str, Any], kind: str) -> dict[str, str]:
    """The properties of the file that was given, by its old or its new name."""
    old, new = values.get(f"{kind}.config"), values["command_config"]
    if old is not None and new is not None:
        raise ArgumentError(f"Options --{kind}.config and --command-config are mutually exclusive.", parser)
    if old is not None:
        print(
            f"Option --{kind}.config has been deprecated and will be removed in a future version. "
            "Use --command-config instead."
        )
    path = new if old is None else old
    if path is None:
        return {}
    try:
        return load_properties(path)
    except ToolError as error:
        raise ArgumentError(str(error), parser) from None


def partition_fields(partitions: Iterable[Any]) -> list[dict[str, object]]:
    """Partitions as JSON has them."""
    return [{"topic": each.topic, "partition": each.partition} for each in partitions]


def text(data: bytes | None) -> str | None:
    """A key or value as Java's StringDeserializer has it."""
    return None if data is None else data.decode("utf-8", "replace")
