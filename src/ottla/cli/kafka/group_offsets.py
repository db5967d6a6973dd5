"""What the tools for consumer groups and for streams groups do alike with offsets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from ottla.cli.kafka.common import ToolError, java_error, load_properties
from ottla.cli.kafka.error_words import words_of
from ottla.cli.kafka.hash_order import hash_ordered
from ottla.cli.kafka.jopt import Option, OptionSet
from ottla.cli.kafka.offset_resets import OffsetResets, Offsets, partitions_of, read_plan
from ottla.cli.kafka.tables import columns, widest
from ottla.client.errors import KafkaError
from ottla.client.model import OffsetAndMetadata, TopicPartition
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin

_GROUP_ERRORS = (
    ErrorCode.INVALID_GROUP_ID,
    ErrorCode.GROUP_ID_NOT_FOUND,
    ErrorCode.GROUP_AUTHORIZATION_FAILED,
    ErrorCode.NON_EMPTY_GROUP,
)
_PARTITION_ERRORS = (
    ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
)


class ResetOptions(Protocol):
    """The options that say where to."""

    group: Option
    to_offset: Option
    to_earliest: Option
    to_latest: Option
    shift_by: Option
    to_datetime: Option
    by_duration: Option
    from_file: Option
    to_current: Option


def new_offsets(
    resets: OffsetResets,
    given: OptionSet,
    options: ResetOptions,
    group: str,
    partitions: Sequence[TopicPartition],
    committed: Callable[[], Mapping[TopicPartition, OffsetAndMetadata]],
) -> Offsets | None:
    """The offsets that the command line asks for; None when it does not say where to."""
    ways: list[tuple[Option, Callable[[], Offsets]]] = [
        (options.to_offset, lambda: resets.to_offset(partitions, given.values(options.to_offset)[0])),
        (options.to_earliest, lambda: resets.to_earliest(partitions)),
        (options.to_latest, lambda: resets.to_latest(partitions)),
        (options.shift_by, lambda: resets.shifted(partitions, given.value(options.shift_by), committed())),
        (options.to_datetime, lambda: resets.to_datetime(partitions, given.values(options.to_datetime)[0])),
        (options.by_duration, lambda: resets.by_duration(partitions, given.value(options.by_duration))),
        (
            options.from_file,
            lambda: resets.from_plan(read_plan(given.values(options.from_file)[0], given.values(options.group)), group),
        ),
        (options.to_current, lambda: resets.to_current(partitions, committed())),
    ]
    for option, way in ways:
        if given.has(option):
            return way()
    return None


def print_error(message: str, thrown: Exception | None = None) -> None:
    """On standard output, as the tools for groups do; what was thrown goes to standard error."""
    print(f"\nError: {message}")
    if thrown is not None:
        print(java_error(thrown), file=sys.stderr)


def client_settings(given: OptionSet, command_config: Option, bootstrap_server: Option) -> dict[str, str]:
    """The settings of the admin client. Raises `ToolError`."""
    settings = {}
    if given.has(command_config):
        try:
            settings = load_properties(given.value(command_config))
        except ToolError as error:
            raise ToolError(java_error(error), "RuntimeException") from None
    return settings | {"bootstrap.servers": given.value(bootstrap_server)}


def chosen(text: str | None, names: Sequence[str], what: str) -> list[str]:
    """The names in a list separated by commas, in any case. Raises `ToolError` for one that is not among them."""
    if not text:
        return []
    known = {name.lower(): name for name in names}
    wanted = [part.strip().lower() for part in text.split(",")]
    if any(part not in known for part in wanted):
        raise ToolError(f"Invalid {what} list '{text}'. Valid {what.rstrip('s')}s are: {', '.join(names)}")
    return [known[part] for part in wanted]


def delete_named_offsets(admin: Admin, group: str, topics: Iterable[str], timeout_s: float, *, streams: bool) -> None:
    """Delete a group's offsets of topics, or of partitions as in `topic:0,1`, and tell what came of each."""
    listed = list(topics)
    partitions = [one for topic in listed if ":" in topic for one in partitions_of(topic)]
    whole = list(dict.fromkeys(topic for topic in listed if ":" not in topic))
    outcomes: dict[TopicPartition, KafkaError | None] = {}
    try:
        described = admin.describe_topics(whole, timeout_s=timeout_s) if whole else {}
    except KafkaError as error:
        described = dict(error.results)
        outcomes = {TopicPartition(topic, -1): one for topic, one in error.errors.items()}
    partitions += [TopicPartition(topic, one.partition) for topic in described for one in described[topic].partitions]
    delete_offsets(admin, group, partitions, timeout_s, outcomes, streams=streams)


def delete_offsets(
    admin: Admin,
    group: str,
    partitions: Iterable[TopicPartition],
    timeout_s: float,
    outcomes: dict[TopicPartition, KafkaError | None],
    *,
    streams: bool,
) -> None:
    """Delete a group's offsets of partitions; `outcomes` has what is known to have failed already."""
    wanted = hash_ordered(partitions)
    call = admin.delete_streams_group_offsets if streams else admin.delete_consumer_group_offsets
    of_group: KafkaError | None = None
    errors: Mapping[TopicPartition, KafkaError] = {}
    try:
        call(group, wanted, timeout_s=timeout_s)
    except KafkaError as error:
        of_group = error.errors.get(group)
        errors = {} if of_group else error.errors
    outcomes |= {partition: of_group or errors.get(partition) for partition in wanted}
    _print_outcome(group, of_group or next((errors[one] for one in wanted if one in errors), None))
    _print_deletions(outcomes)


def _print_outcome(group: str, error: KafkaError | None) -> None:
    if error is None:
        print(f"Request succeeded for deleting offsets from group {group}.")
    elif error.code in _GROUP_ERRORS:
        print_error(words_of(error.code))
    elif error.code in _PARTITION_ERRORS:
        print_error("Encountered some partition-level error, see the follow-up details.")
    else:
        print_error(f"Encountered some unknown error: {error.code.name if error.code else 'UNKNOWN_SERVER_ERROR'}")


def _print_deletions(outcomes: Mapping[TopicPartition, KafkaError | None]) -> None:
    widths = [widest(15, [partition.topic for partition in outcomes]), 10, 15]
    print(f"\n{columns(widths, ['TOPIC', 'PARTITION', 'STATUS'])}", end="")
    for partition in sorted(outcomes, key=lambda one: f"{one.topic}{one.partition}"):
        error = outcomes[partition]
        number = "-" if partition.partition < 0 else partition.partition
        status = "Successful" if error is None else f"Error: {java_error(error)}"
        print(f"\n{columns(widths, [partition.topic, number, status])}", end="")
    print()
