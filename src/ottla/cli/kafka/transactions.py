"""`kafka-transactions`: what transactions are under way, which of them hang, and how to get rid of those."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from ottla.cli.kafka.argparse4j import INTEGER, LONG, ArgumentError, ArgumentParser, HelpShown, Subparsers, Type
from ottla.cli.kafka.common import TOOLS_VERSION, ToolError, ToolExit, java_message, load_properties, open_admin
from ottla.cli.kafka.hash_order import hash_ordered, hash_ordered_items
from ottla.cli.kafka.tables import tabbed_table
from ottla.client.admin.transactions import AbortTransactionSpec, ProducerState
from ottla.client.errors import KafkaError
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.admin.transactions import TransactionDescription

T = TypeVar("T")
_BATCH_SIZE = 500
_COMMIT = "26b251a451ce941d"
"""Of Apache Kafka that has this version."""
_MINUTE_MS = 60_000
_HEADERS = {
    "list": ("TransactionalId", "Coordinator", "ProducerId", "TransactionState"),
    "describe": (
        *("CoordinatorId", "TransactionalId", "ProducerId", "ProducerEpoch", "TransactionState"),
        *("TransactionTimeoutMs", "CurrentTransactionStartTimeMs", "TransactionDurationMs", "TopicPartitions"),
    ),
    "describe-producers": (
        *("ProducerId", "ProducerEpoch", "LatestCoordinatorEpoch", "LastSequence", "LastTimestamp"),
        "CurrentTransactionStartOffset",
    ),
    "find-hanging": (
        *("Topic", "Partition", "ProducerId", "ProducerEpoch", "CoordinatorEpoch", "StartOffset", "LastTimestamp"),
        "Duration(min)",
    ),
}


def _short(text: str) -> int:
    value = int(INTEGER.convert(text))
    if not -(1 << 15) <= value < 1 << 15:
        raise ValueError(f'Value out of range. Value:"{text}" Radix:10')
    return value


SHORT = Type("Short", _short)


def run(arguments: list[str]) -> int:
    """The tool; returns its exit code."""
    parser = _parser()
    try:
        values = parser.parse(arguments)
    except HelpShown:
        return 1  # as Kafka's tool has it
    except ArgumentError as error:
        error.parser.report(error)
        return 1
    settings: dict[str, str] = {}
    if values["command_config"] is not None:
        try:
            settings = load_properties(values["command_config"])
        except ToolError as error:
            _fail_because("Failed to load admin client properties", error)
    with open_admin(settings | {"bootstrap.servers": values["bootstrap_server"]}) as admin:
        _COMMANDS[values["command"]](admin, values)
    return 0


def _version() -> NoReturn:
    print(f"{TOOLS_VERSION} (Commit:{_COMMIT})")
    raise ToolExit(0)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "kafka-transactions.sh",
        description="This tool shows the state of transactions and of the producers behind them, finds transactions "
        "that hang and ends them.",
    )
    parser.add_argument("-v", "--version", action=_version, help="show the version of Kafka and exit")
    parser.add_argument("--command-config", metavar="FILE", help="a file with settings of the client")
    parser.add_argument(
        "--bootstrap-server",
        metavar="host:port",
        required=True,
        help="where the cluster is, `host:port`, several separated by commas",
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    _add_views(commands)
    _add_changes(commands)
    return parser


def _add_views(commands: Subparsers) -> None:
    listing = commands.add_parser("list", help="list transactions")
    listing.add_argument(
        "--duration-filter",
        type=LONG,
        help="only transactions that run for longer than so many milliseconds; all if it is negative",
    )
    listing.add_argument("--transactional-id-pattern", help="only ids that this regular expression matches")
    describe = commands.add_parser("describe", help="describe the transaction of a transactional id")
    describe.description = "Describe the transaction of a transactional id."
    describe.add_argument("--transactional-id", required=True, help="transactional id")
    producers = commands.add_parser("describe-producers", help="describe the producers that a partition remembers")
    producers.add_argument("--broker-id", type=INTEGER, help="the replica to ask, instead of the leader")
    producers.add_argument("--topic", required=True, help="topic name")
    producers.add_argument("--partition", type=INTEGER, required=True, help="partition number")


def _add_changes(commands: Subparsers) -> None:
    abort = commands.add_parser("abort", help="abort a hanging transaction (for administrators)")
    abort.add_argument("--topic", required=True, help="topic name")
    abort.add_argument("--partition", type=INTEGER, required=True, help="partition number")
    newer = abort.add_argument_group(
        "Brokers on versions 3.0 and above",
        "For newer brokers, only the start offset of the transaction to be aborted is required",
    )
    newer.add_argument("--start-offset", type=LONG, help="where the transaction begins")
    older = abort.add_argument_group(
        "Brokers on versions older than 3.0", "For older brokers, you must provide all of these arguments"
    )
    older.add_argument("--producer-id", type=LONG, help="producer id")
    older.add_argument("--producer-epoch", type=SHORT, help="producer epoch")
    older.add_argument("--coordinator-epoch", type=INTEGER, help="coordinator epoch")
    hanging = commands.add_parser("find-hanging", help="find hanging transactions")
    hanging.add_argument("--broker-id", type=INTEGER, help="the broker on which to search")
    hanging.add_argument(
        "--max-transaction-timeout",
        type=INTEGER,
        default=15,
        help="how many minutes a transaction may take (15 by default)",
    )
    hanging.add_argument("--topic", help="the topic in which to search (needed with --partition)")
    hanging.add_argument("--partition", type=INTEGER, help="partition number")
    force = commands.add_parser(
        "forceTerminateTransaction", help="end the transaction of a transactional id (for administrators)"
    )
    force.description = "End the transaction of a transactional id"
    force.add_argument("--transactionalId", required=True, help="transactional id")


def _fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise ToolExit(1)


def _fail_because(message: str, error: Exception) -> NoReturn:
    _fail(f"{message}: {java_message(error)}. Enable debug logging for additional detail.")


# Views


def _list(admin: Admin, values: dict[str, Any]) -> None:
    duration_ms, pattern = values["duration_filter"], values["transactional_id_pattern"]
    try:
        listings = admin.list_transactions(running_longer_than_ms=duration_ms, transactional_id_pattern=pattern)
    except KafkaError as error:
        if error.code is not None and error.errors:
            broker_id = next(iter(error.errors))
            what = f"ListTransactions request sent to broker {broker_id} failed with an unexpected exception"
            error = KafkaError(what, code=error.code)
        _fail_because("Failed to list transactions", error)
    rows = [(one.transactional_id, one.coordinator_id, one.producer_id, one.state.value) for one in listings]
    print(tabbed_table(_HEADERS["list"], rows))


def _describe(admin: Admin, values: dict[str, Any]) -> None:
    name = values["transactional_id"]
    try:
        found = admin.describe_transactions(name)[name]
    except KafkaError as error:
        if error.code is ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:
            what = f"DescribeTransactions request for transactionalId `{name}` failed because the ID could not be found"
            error = KafkaError(what, code=error.code)
        _fail_because(f"Failed to describe transaction state of transactional-id `{name}`", error)
    start = found.transaction_start_time_ms
    row = (
        *(found.coordinator_id, name, found.producer_id, found.producer_epoch, found.state.value),
        found.transaction_timeout_ms,
        *(("None", "None") if start is None else (start, _now_ms() - start)),
        ",".join(map(str, hash_ordered(found.partitions))),
    )
    print(tabbed_table(_HEADERS["describe"], [row]))


def _describe_producers(admin: Admin, values: dict[str, Any]) -> None:
    partition = TopicPartition(values["topic"], values["partition"])
    broker_id = values["broker_id"]
    try:
        producers = admin.describe_producers([partition], broker_id=broker_id)[partition]
    except KafkaError as error:
        place = "leader" if broker_id is None else f"broker {broker_id}"
        _fail_because(f"Failed to describe producers for partition {partition} on {place}", error)
    rows = [
        (
            *(one.producer_id, one.producer_epoch, _or(one.coordinator_epoch), _or(one.last_sequence)),
            _or(one.last_timestamp_ms),
            _or(one.current_transaction_start_offset, "None"),
        )
        for one in producers
    ]
    print(tabbed_table(_HEADERS["describe-producers"], rows))


def _or(value: int | None, otherwise: object = -1) -> object:
    return otherwise if value is None else value


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# Changes


def _abort(admin: Admin, values: dict[str, Any]) -> None:
    partition = TopicPartition(values["topic"], values["partition"])
    start_offset, producer_id = values["start_offset"], values["producer_id"]
    if start_offset is not None:
        spec = _spec_of_open_transaction(admin, partition, start_offset)
    elif producer_id is not None:
        for name in ("producer_epoch", "coordinator_epoch"):
            if values[name] is None:
                _fail(f"Missing required argument --{name.replace('_', '-')}")
        coordinator_epoch = max(values["coordinator_epoch"], 0)
        spec = AbortTransactionSpec(partition, producer_id, values["producer_epoch"], coordinator_epoch)
    else:
        _fail(
            "The transaction to abort must be identified either with --start-offset (for brokers on 3.0 or above) or "
            "with --producer-id, --producer-epoch, and --coordinator-epoch (for older brokers)"
        )
    try:
        admin.abort_transaction(spec)
    except KafkaError as error:
        text = (
            f"AbortTransactionSpec(topicPartition={spec.partition}, producerId={spec.producer_id}, "
            f"producerEpoch={spec.producer_epoch}, coordinatorEpoch={spec.coordinator_epoch})"
        )
        _fail_because(f"Failed to abort transaction {text}", error)


def _spec_of_open_transaction(admin: Admin, partition: TopicPartition, start_offset: int) -> AbortTransactionSpec:
    try:
        producers = admin.describe_producers([partition])[partition]
    except KafkaError as error:
        _fail_because(f"Failed to validate producer state for partition {partition}", error)
    for one in producers:
        if one.current_transaction_start_offset == start_offset:
            return AbortTransactionSpec(partition, one.producer_id, one.producer_epoch, one.coordinator_epoch or 0)
    _fail(f"Could not find any open transactions starting at offset {start_offset} on partition {partition}")


def _force_terminate(admin: Admin, values: dict[str, Any]) -> None:
    name = values["transactionalId"]
    try:
        admin.force_terminate_transaction(name)
    except KafkaError as error:
        _fail_because(f"Failed to force terminate transactionalId `{name}`", error)


# Hanging transactions: open in a partition for too long, and their coordinator does not know of it


class OpenTransaction(NamedTuple):
    """A transaction that is open in a partition."""

    partition: TopicPartition
    producer: ProducerState


def _find_hanging(admin: Admin, values: dict[str, Any]) -> None:
    topic, number, broker_id = values["topic"], values["partition"], values["broker_id"]
    if topic is None and broker_id is None:
        _fail("The `find-hanging` command requires either --topic or --broker-id to limit the scope of the search")
    if number is not None and topic is None:
        _fail("The --partition argument requires --topic to be provided")
    if number is not None:
        partitions = [TopicPartition(topic, number)]
    else:
        partitions = _partitions(admin, [topic] if topic is not None else _topics(admin), broker_id)
    timeout_ms = values["max_transaction_timeout"] * _MINUTE_MS
    candidates = [one for batch in _batches(partitions) for one in _open_too_long(admin, batch, broker_id, timeout_ms)]
    now_ms = _now_ms()
    rows = [
        (
            *partition,
            *(producer.producer_id, producer.producer_epoch, _or(producer.coordinator_epoch)),
            *(_or(producer.current_transaction_start_offset), _or(producer.last_timestamp_ms)),
            (now_ms - (producer.last_timestamp_ms or 0)) // _MINUTE_MS,
        )
        for partition, producer in _unknown_to_coordinators(admin, candidates)
    ]
    print(tabbed_table(_HEADERS["find-hanging"], rows))


def _topics(admin: Admin) -> list[str]:
    try:
        return hash_ordered(admin.list_topics(list_internal=True))
    except KafkaError as error:
        _fail_because("Failed to list topics", error)


def _partitions(admin: Admin, topics: Sequence[str], broker_id: int | None) -> list[TopicPartition]:
    """The partitions of topics, or those that a broker has a replica of."""
    found = []
    for batch in _batches(topics):
        try:
            described = admin.describe_topics(batch)
        except KafkaError as error:
            _fail_because(f"Failed to describe {len(batch)} topics", error)
        for topic, description in hash_ordered_items(described):
            found += [
                TopicPartition(topic, one.partition)
                for one in description.partitions
                if broker_id is None or any(node.id == broker_id for node in one.replicas)
            ]
    return found


def _open_too_long(
    admin: Admin, partitions: Sequence[TopicPartition], broker_id: int | None, timeout_ms: int
) -> list[OpenTransaction]:
    try:
        found = admin.describe_producers(partitions, broker_id=broker_id)
    except KafkaError as error:
        place = "Optional.empty" if broker_id is None else f"Optional[{broker_id}]"
        _fail_because(f"Failed to describe producers for {len(partitions)} partitions on broker {place}", error)
    now_ms = _now_ms()
    return [
        OpenTransaction(partition, producer)
        for partition, producers in hash_ordered_items(found)
        for producer in producers
        if producer.current_transaction_start_offset is not None
        and now_ms - (producer.last_timestamp_ms or 0) > timeout_ms
    ]


def _unknown_to_coordinators(admin: Admin, candidates: Iterable[OpenTransaction]) -> list[OpenTransaction]:
    """Those that no coordinator will ever end: it does not know the producer, or not that it wrote there."""
    by_producer: dict[int, list[OpenTransaction]] = {}
    for one in candidates:
        by_producer.setdefault(one.producer.producer_id, []).append(one)
    if not by_producer:
        return []
    try:
        listings = admin.list_transactions(producer_ids=by_producer)
    except KafkaError as error:
        _fail_because(f"Failed to list transactions for {len(by_producer)} producers", error)
    names = {one.producer_id: one.transactional_id for one in listings if one.producer_id in by_producer}
    described = _descriptions(admin, list(names.values()))
    hanging = []
    for producer_id in hash_ordered(by_producer):
        description = described.get(names.get(producer_id, ""))
        known = frozenset() if description is None else description.partitions
        hanging += [one for one in by_producer[producer_id] if one.partition not in known]
    return hanging


def _descriptions(admin: Admin, names: Sequence[str]) -> dict[str, TransactionDescription]:
    """Without those that are gone meanwhile."""
    if not names:
        return {}
    try:
        return admin.describe_transactions(names)
    except KafkaError as error:
        for one in error.errors.values():
            if one.code is not ErrorCode.TRANSACTIONAL_ID_NOT_FOUND:
                _fail_because(f"Failed to describe {len(names)} transactions", one)
        return dict(error.results)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _BATCH_SIZE):
        yield items[start : start + _BATCH_SIZE]


_COMMANDS: dict[str, Callable[[Admin, dict[str, Any]], None]] = {
    "list": _list,
    "describe": _describe,
    "describe-producers": _describe_producers,
    "abort": _abort,
    "find-hanging": _find_hanging,
    "forceTerminateTransaction": _force_terminate,
}
