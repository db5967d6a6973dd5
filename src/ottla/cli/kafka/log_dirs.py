"""kafka-log-dirs: what lies in the log directories of brokers, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ottla.cli.kafka.common import ToolError, ToolParser, guarded, java_class, load_properties, open_admin
from ottla.cli.kafka.jopt import INTEGER, Option, OptionSet
from ottla.cli.kafka.partition_files import dashed

if TYPE_CHECKING:
    from ottla.client.admin.log_dirs import LogDirDescription


def run(arguments: list[str]) -> int:
    """Run the tool."""
    return guarded(lambda: _run(arguments))


def _run(arguments: list[str]) -> None:
    from ottla.cli.kafka.hash_order import hash_ordered

    parser = ToolParser()
    server = parser.accepts(
        "bootstrap-server", "REQUIRED: brokers of the cluster.", described_as="The server(s) to use for bootstrapping"
    )
    config = parser.accepts(
        "command-config", "A file with settings of the admin client.", described_as="Admin client property file"
    )
    describe = parser.accepts("describe", "Describe the log directories.")
    topic_list = parser.accepts(
        "topic-list", 'Only these topics, as "topic1,topic2".', described_as="Topic list", defaults=[""]
    )
    broker_list = parser.accepts(
        "broker-list", 'Only these brokers, as "0,1,2".', described_as="Broker list", defaults=[""]
    )
    options = parser.parse(arguments)
    parser.help_or_version(arguments, options, "This tool helps to query log directory usage on the specified brokers.")
    parser.require(options, server, describe)
    settings = {"client.id": "log-dirs-tool"}
    settings |= load_properties(options.value(config)) if options.has(config) else {}
    with open_admin(settings | {"bootstrap.servers": options.value(server)}) as admin:
        topics = set(_parts(options, topic_list))
        known = [node.id for node in admin.describe_cluster().nodes]
        asked = [_number(part) for part in _parts(options, broker_list)]
        missing = [broker for broker in asked if broker not in known]
        if missing:
            raise ToolError(
                f"ERROR: The given brokers do not exist from --broker-list: {_ids(missing)}. "
                f"Current existent brokers: {_ids(known)}"
            )
        brokers = asked or known
        print("Querying brokers for log directories information")
        described = admin.describe_log_dirs(brokers)
    print(f"Received log directory information from brokers {_ids(brokers)}")
    content = {
        "version": 1,
        "brokers": [
            {"broker": broker, "logDirs": _directories(described[broker], topics)} for broker in hash_ordered(described)
        ],
    }
    print(json.dumps(_ordered(content), separators=(",", ":"), ensure_ascii=False))


def _parts(options: OptionSet, option: Option) -> list[str]:
    return [part for part in options.value(option).split(",") if part]


def _number(text: str) -> int:
    try:
        return int(INTEGER.convert(text))
    except ValueError:
        raise ToolError(f'For input string: "{text}"', "NumberFormatException") from None


def _ids(brokers: Iterable[int]) -> str:
    from ottla.cli.kafka.hash_order import hash_ordered

    return ",".join(map(str, hash_ordered(brokers)))


def _directories(found: Mapping[str, LogDirDescription], topics: set[str]) -> list[dict[str, Any]]:
    from ottla.cli.kafka.hash_order import hash_ordered

    directories = []
    for path in hash_ordered(found, capacity=len(found)):
        described = found[path]
        # What is printed went through two of Java's hash tables.
        replicas = [one for one in hash_ordered(described.replicas) if not topics or one.topic in topics]
        partitions = [
            {
                "partition": dashed(one),
                "size": described.replicas[one].size_bytes,
                "offsetLag": described.replicas[one].offset_lag,
                "isFuture": described.replicas[one].is_future,
            }
            for one in hash_ordered(replicas)
        ]
        error = None if described.error is None else java_class(described.error)
        directories.append({"logDir": path, "error": error, "partitions": partitions})
    return directories


def _ordered(value: Any) -> Any:
    """Fields in the order in which Java's hash tables give them."""
    from ottla.cli.kafka.hash_order import hash_ordered

    if isinstance(value, dict):
        return {name: _ordered(value[name]) for name in hash_ordered(value)}
    return [_ordered(one) for one in value] if isinstance(value, list) else value
