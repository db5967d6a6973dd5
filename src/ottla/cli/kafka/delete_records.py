"""kafka-delete-records: records before an offset are deleted, partition by partition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import ToolError, ToolParser, guarded, java_error, load_properties, open_admin
from ottla.cli.kafka.partition_files import (
    COMMAND_ERROR,
    OPERATION_ERROR,
    as_array,
    as_object,
    as_whole,
    dashed,
    field,
    parse_json,
    partition_of,
    read_text,
)
from ottla.client.model import TopicPartition

if TYPE_CHECKING:
    from ottla.client.errors import KafkaError


def run(arguments: list[str]) -> int:
    """Run the tool."""
    return guarded(lambda: _run(arguments))


def _run(arguments: list[str]) -> None:
    parser = ToolParser()
    server = parser.accepts(
        "bootstrap-server", "REQUIRED: a broker of the cluster.", described_as="server(s) to use for bootstrapping"
    )
    file = parser.accepts(
        "offset-json-file",
        "REQUIRED: a JSON file that says up to which offset:\n"
        '{"partitions":\n  [{"topic": "foo", "partition": 1, "offset": 1}],\n "version":1\n}',
        described_as="Offset json file path",
    )
    config = parser.accepts(
        "command-config", "A file with settings of the admin client.", described_as="command config property file path"
    )
    options = parser.parse(arguments)
    parser.help_or_version(
        arguments, options, "This tool helps to delete records of the given partitions down to the specified offset."
    )
    parser.require(options, server, file)
    settings = load_properties(options.value(config)) if options.has(config) else {}
    with open_admin(settings | {"bootstrap.servers": options.value(server)}) as admin:
        before = _offsets(read_text(options.value(file)))
        print("Executing records delete operation")
        results, errors = _outcomes(lambda: admin.delete_records(before)) if before else ({}, {})
        print("Records delete operation completed:")
        for partition in before:  # in Java in an order that differs from run to run
            if partition in errors:
                print(f"partition: {dashed(partition)}\terror: {java_error(errors[partition])}")
            else:
                print(f"partition: {dashed(partition)}\tlow_watermark: {results[partition]}")


def _outcomes(
    call: Callable[[], Mapping[TopicPartition, int]],
) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, KafkaError]]:
    from ottla.client.errors import KafkaError

    try:
        return call(), {}
    except KafkaError as error:
        if not error.errors:
            raise
        return error.results, error.errors


def _offsets(text: str) -> Mapping[TopicPartition, int]:
    content = parse_json(text)
    if content is None:
        raise ToolError("The input string is not a valid JSON", OPERATION_ERROR)
    top = as_object(content)
    version = as_whole(top["version"]) if "version" in top else 1
    if version != 1:
        raise ToolError(f"Not supported version field value {version}", OPERATION_ERROR)
    if "partitions" not in top:
        raise ToolError("Missing partitions field", OPERATION_ERROR)
    offsets: dict[TopicPartition, int] = {}
    twice = []
    for entry in as_array(top["partitions"]):
        partition = partition_of(entry)
        if partition in offsets:
            twice.append(partition)
        offsets.setdefault(partition, as_whole(field(as_object(entry), "offset"), 64))
    if twice:
        from ottla.cli.kafka.hash_order import hash_ordered

        named = ",".join(dashed(partition) for partition in hash_ordered(twice))
        raise ToolError(f"Offset json file contains duplicate topic partitions: {named}", COMMAND_ERROR)
    return offsets
