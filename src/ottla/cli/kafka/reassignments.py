"""Moves of partitions as kafka-reassign-partitions reads, plans and tells them: no cluster is asked here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar

from ottla.cli.kafka.common import ToolError
from ottla.cli.kafka.hash_order import hash_ordered
from ottla.cli.kafka.message_json import compact_json
from ottla.client.admin.log_dirs import ReplicaLogDirInfo, TopicPartitionReplica
from ottla.client.admin.partitions import PartitionReassignment
from ottla.client.model import TopicPartition
from ottla.core.errors import ApiError
from ottla.server.controller.placement import place
from ottla.server.metadata.image import BrokerImage

T = TypeVar("T")
ANY_LOG_DIR = "any"
Assignment = dict[TopicPartition, tuple[int, ...]]
_FAILED = "org.apache.kafka.tools.AdminCommandFailedException"
_OPERATION = "org.apache.kafka.tools.AdminOperationException"


class TerseError(Exception):
    """What the user has to know, without the word Error in front."""


class Plan(NamedTuple):
    """What a file asks for: the brokers of each partition, and the directories of some replicas."""

    partitions: list[tuple[TopicPartition, tuple[int, ...]]]
    log_dirs: dict[TopicPartitionReplica, str]


# Files


def read_plan(text: str) -> Plan:
    """A file for --reassignment-json-file. Raises `ToolError`."""
    found = _object(_json(text))
    _check_version(found)
    plan = Plan([], {})
    for one in _list(found.get("partitions", [])):
        fields = _object(one)
        topic = _field(fields, "topic", str)
        partition = TopicPartition(topic, _field(fields, "partition", int))
        replicas = tuple(_checked(each, int) for each in _list(_field(fields, "replicas", list)))
        log_dirs = [ANY_LOG_DIR for _ in replicas]
        if "log_dirs" in fields:
            log_dirs = [_checked(each, str) for each in _list(fields["log_dirs"])]
        if len(replicas) != len(log_dirs):
            raise ToolError(
                f"Size of replicas list {_java(replicas)} is different from size of log dirs list {_java(log_dirs)} "
                f"for partition {partition}",
                _FAILED,
            )
        plan.partitions.append((partition, replicas))
        for broker_id, log_dir in zip(replicas, log_dirs, strict=True):
            if log_dir != ANY_LOG_DIR:
                plan.log_dirs[TopicPartitionReplica(*partition, broker_id)] = log_dir
    return plan


def read_topics(text: str) -> list[str]:
    """A file for --topics-to-move-json-file. Raises `ToolError`."""
    try:
        found = _object(json.loads(text))
    except ValueError:
        raise ToolError("The input string is not a valid JSON", _OPERATION) from None
    _check_version(found)
    topics = [_field(_object(one), "topic", str) for one in _list(found.get("topics", []))]
    twice = duplicates(topics)
    if twice:
        raise ToolError(f"List of topics to reassign contains duplicate entries: {_java(twice)}", _FAILED)
    return topics


def read_brokers(text: str) -> list[int]:
    """`0,1,2`. Raises `ToolError`."""
    brokers = []
    for part in text.split(","):
        try:
            brokers.append(int(part))
        except ValueError:
            raise ToolError(f'For input string: "{part}"', "NumberFormatException") from None
    twice = duplicates(brokers)
    if twice:
        raise ToolError(f"Broker list contains duplicate entries: {_java(twice)}", _FAILED)
    return brokers


def check_executable(plan: Plan) -> Assignment:
    """The brokers of each partition; `ToolError` when they cannot be meant."""
    if not plan.partitions:
        raise ToolError("Partition reassignment list cannot be empty", _FAILED)
    if any(not replicas for _, replicas in plan.partitions):
        raise ToolError("Partition replica list cannot be empty", _FAILED)
    twice = duplicates([partition for partition, _ in plan.partitions])
    if twice:
        named = ",".join(map(str, twice))
        raise ToolError(f"Partition reassignment contains duplicate topic partitions: {named}", _FAILED)
    wrong = [(partition, duplicates(replicas)) for partition, replicas in plan.partitions if duplicates(replicas)]
    if wrong:
        told = ". ".join(
            f"{partition} contains multiple entries for {','.join(map(str, brokers))}" for partition, brokers in wrong
        )
        raise ToolError(f"Partition replica lists may not contain duplicate entries: {told}", _FAILED)
    return dict(plan.partitions)


def duplicates(items: Sequence[T]) -> list[T]:
    """What is there more than once, in the order in which Java shows it."""
    return hash_ordered(item for item in items if items.count(item) > 1)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ToolError(f"Unrecognized token at {where}: {error.msg}", _OPERATION) from None


def _check_version(found: Mapping[str, Any]) -> None:
    version = _checked(found.get("version", 1), int)
    if version != 1:
        raise ToolError(f"Not supported version field value {version}", _OPERATION)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ToolError(f"Expected JSON object, received {compact_json(value)}", _MAPPING)
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ToolError(f"Expected JSON array, received {compact_json(value)}", _MAPPING)
    return value


def _field(fields: Mapping[str, Any], name: str, kind: type[T]) -> T:
    if name not in fields:
        raise ToolError(f"No such field exists: `{name}`", _MAPPING)
    return fields[name] if kind is list else _checked(fields[name], kind)


_MAPPING = "com.fasterxml.jackson.databind.JsonMappingException"
_KIND_NAMES = {int: "Integer", str: "String"}


def _checked(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ToolError(
            f"Expected `{_KIND_NAMES.get(kind, kind.__name__)}` value, received {compact_json(value)}", _MAPPING
        )
    return value


def _java(items: Iterable[object]) -> str:
    return f"[{', '.join(map(str, items))}]"


def plan_json(partitions: Mapping[TopicPartition, Sequence[int]], log_dirs: Mapping[TopicPartitionReplica, str]) -> str:
    """A file for --reassignment-json-file."""
    return compact_json(
        {
            "version": 1,
            "partitions": [
                {
                    "topic": partition.topic,
                    "partition": partition.partition,
                    "replicas": list(partitions[partition]),
                    "log_dirs": [
                        log_dirs.get(TopicPartitionReplica(*partition, broker_id), ANY_LOG_DIR)
                        for broker_id in partitions[partition]
                    ],
                }
                for partition in sorted(partitions)
            ],
        }
    )


# What became of it


class PartitionState(NamedTuple):
    """Who has a partition, who shall have it, and whether nothing is under way any more."""

    current: tuple[int, ...]
    target: tuple[int, ...]
    done: bool


def states_text(states: Mapping[TopicPartition, PartitionState]) -> str:
    """How far partitions are."""
    lines = ["Status of partition reassignment:"]
    for partition in sorted(states):
        state = states[partition]
        if not state.done:
            lines.append(f"Reassignment of partition {partition} is still in progress.")
        elif state.current == state.target:
            lines.append(f"Reassignment of partition {partition} is completed.")
        else:
            lines.append(
                f"There is no active reassignment of partition {partition}, but replica set is "
                f"{_commas(state.current)} rather than {_commas(state.target)}."
            )
    return "\n".join(lines)


class MoveState(NamedTuple):
    """Where a replica is, and where it shall be. `info` None: nobody told."""

    target: str
    info: ReplicaLogDirInfo | None

    @property
    def is_active(self) -> bool:
        return self.info is not None and self.info.current_log_dir is not None and self.info.future_log_dir is not None

    @property
    def is_done(self) -> bool:
        return self.info is not None and self.info.current_log_dir is not None and self.info.future_log_dir is None

    def text(self, replica: TopicPartitionReplica) -> str:
        """In one sentence."""
        name, broker = f"{replica.topic}-{replica.partition}", replica.broker_id
        info = self.info
        if info is None:
            return f"Partition {name} cannot be found in any live log directory on broker {broker}."
        if info.current_log_dir is None:
            return (
                f"Partition {name} is not found in any live log dir on broker {broker}. "
                "There is likely an offline log directory on the broker."
            )
        if info.future_log_dir is not None:
            if info.future_log_dir == self.target:
                return f"Reassignment of replica {replica_name(replica)} is still in progress."
            return (
                f"Partition {name} on broker {broker} is being moved to log dir {info.future_log_dir} "
                f"instead of {self.target}."
            )
        if info.current_log_dir == self.target:
            return f"Reassignment of replica {replica_name(replica)} completed successfully."
        return (
            f"Partition {name} on broker {broker} is not being moved from log dir {info.current_log_dir} "
            f"to {self.target}."
        )


def moves_text(states: Mapping[TopicPartitionReplica, MoveState]) -> str:
    """How far replicas are that change their directory."""
    return "\n".join(states[replica].text(replica) for replica in sorted(states, key=by_broker))


def by_broker(replica: TopicPartitionReplica) -> tuple[int, str, int]:
    """To sort replicas by."""
    return replica.broker_id, replica.topic, replica.partition


def replica_name(replica: TopicPartitionReplica) -> str:
    """`topic-0-1`."""
    return f"{replica.topic}-{replica.partition}-{replica.broker_id}"


def list_text(reassignments: Mapping[TopicPartition, PartitionReassignment]) -> str:
    """What is under way."""
    if not reassignments:
        return "No partition reassignments found."
    lines = []
    for partition in sorted(reassignments):
        found = reassignments[partition]
        line = f"{partition}: replicas: {_commas(found.replicas)}."
        line += f" adding: {_commas(found.adding_replicas)}." if found.adding_replicas else ""
        line += f" removing: {_commas(found.removing_replicas)}." if found.removing_replicas else ""
        lines.append(line)
    return "\n".join(["Current partition reassignments:", *lines])


def _commas(brokers: Iterable[int]) -> str:
    return ",".join(map(str, brokers))


# Throttles


class Move(NamedTuple):
    """Which brokers of a partition send, and which receive."""

    sources: frozenset[int]
    destinations: frozenset[int]


Moves = dict[str, dict[int, Move]]


def planned_moves(
    current: Mapping[TopicPartition, PartitionReassignment], proposed: Assignment, now: Assignment
) -> Moves:
    """What is under way already, and what will be: by topic and partition."""
    moves: Moves = {}
    for partition, found in current.items():
        adding = frozenset(found.adding_replicas)
        moves.setdefault(partition.topic, {})[partition.partition] = Move(frozenset(found.replicas) - adding, adding)
    for partition, replicas in proposed.items():
        of_topic = moves.setdefault(partition.topic, {})
        before = of_topic.get(partition.partition)
        sources = frozenset(now[partition]) if before is None else before.sources
        of_topic[partition.partition] = Move(sources, frozenset(replicas) - sources)
    return moves


def leader_throttles(moves: Moves) -> dict[str, str]:
    """`leader.replication.throttled.replicas` by topic."""
    return {topic: _throttles((number, one.sources) for number, one in of.items()) for topic, of in moves.items()}


def follower_throttles(moves: Moves) -> dict[str, str]:
    """`follower.replication.throttled.replicas` by topic."""
    return {topic: _throttles((number, one.destinations) for number, one in of.items()) for topic, of in moves.items()}


def _throttles(brokers: Iterable[tuple[int, frozenset[int]]]) -> str:
    return ",".join(sorted({f"{partition}:{broker_id}" for partition, ids in brokers for broker_id in ids}))


def moving_brokers(moves: Moves) -> list[int]:
    """All brokers that send or receive."""
    return sorted({broker for of in moves.values() for one in of.values() for broker in one.sources | one.destinations})


# Proposals


def propose(current: Assignment, brokers: Mapping[int, str | None], random: Random) -> Assignment:
    """Replicas on these brokers (with their racks), as many as there are now, placed as new topics are."""
    images = {
        broker_id: BrokerImage(broker_id, 0, bytes(16), {}, {}, rack=rack, fenced=False)
        for broker_id, rack in brokers.items()
    }
    if not images:
        raise ToolError(
            "All brokers are currently fenced, or have all their log directories cordoned.",
            "org.apache.kafka.common.errors.InvalidReplicationFactorException",
        )
    proposed: Assignment = {}
    for topic in hash_ordered(partition.topic for partition in current):
        assignments = [replicas for partition, replicas in current.items() if partition.topic == topic]
        try:
            placed = place(images, 0, len(assignments), len(assignments[0]), random.randrange)
        except ApiError as error:
            raise ToolError(error.message, "org.apache.kafka.common.errors.InvalidReplicationFactorException") from None
        proposed |= {TopicPartition(topic, number): tuple(replicas) for number, replicas in enumerate(placed)}
    return proposed
