"""Moving partitions to other brokers: make a plan, carry it out, see how far it is, call it off, slow it down.

    ottla partitions plan --brokers 1,2,3 -o plan.json
    ottla partitions reassign --plan plan.json --throttle 50MB --wait

Plans are files in the format of Kafka's own tool, so that either can carry out what the other planned. A throttle is
four settings on brokers and topics (KIP-73); `verify`, `reassign --wait` and `throttle off` remove it again: it would
slow down everything that catches up later.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ottla.cli.actions import Actions
from ottla.cli.connection import open_admin
from ottla.cli.errors import CommandError
from ottla.cli.numbers import whole
from ottla.cli.output import Output
from ottla.cli.selection import add_topics_argument, select_partitions
from ottla.cli.units import parse_size_bytes, size_text
from ottla.core.ids import TopicPartition

if TYPE_CHECKING:
    import ottla
    from ottla.client.admin.partitions import PartitionReassignment

_POLL_S = 0.5
_BROKER_RATES = (
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
)
_LEADERS = "leader.replication.throttled.replicas"
_FOLLOWERS = "follower.replication.throttled.replicas"


class Target(NamedTuple):
    """Where a partition shall be: brokers, and their directories where the plan names some."""

    replicas: tuple[int, ...]
    log_dirs: tuple[str, ...] = ()


Plan = dict[TopicPartition, Target]


def add_actions(actions: Actions) -> None:
    """Declare the actions of `ottla partitions` that are about moves between brokers."""
    planning = actions.add("plan", _plan, "Plan which brokers should have which partitions.")
    add_topics_argument(planning, required=False)
    planning.add_argument("--brokers", metavar="ID,…", help="brokers to use; all that are up without")
    planning.add_argument(
        "-r", "--replicas", type=whole(1), metavar="N", help="how many replicas each partition shall have"
    )
    planning.add_argument("-o", "--output", metavar="FILE", help="write the plan there")
    reassigning = actions.add("reassign", _reassign, "Move partitions to other brokers.", changes=True)
    reassigning.add_argument(
        "moves", nargs="*", metavar="TOPIC:PARTITION=BROKERS", help="as orders:0=1,2, the preferred leader first"
    )
    reassigning.add_argument(
        "--plan", metavar="FILE", help="a plan of `ottla partitions plan`; - is the standard input"
    )
    reassigning.add_argument("--save", metavar="FILE", help="write where they are now there, as a plan for going back")
    reassigning.add_argument("--throttle", metavar="RATE", help="bytes a second between brokers, as 50MB")
    reassigning.add_argument("-w", "--wait", action="store_true", help="until it is done, then remove the throttle")
    moves = actions.add("moves", _moves, "Show the moves under way.")
    add_topics_argument(moves, partitions=True, required=False)
    verifying = actions.add("verify", _verify, "Show how far a plan is; remove the throttle when all is done.")
    verifying.add_argument("--plan", metavar="FILE", required=True, help="the plan; - is the standard input")
    verifying.add_argument("--keep-throttle", action="store_true", help="leave the throttle as it is")
    cancelling = actions.add("cancel", _cancel, "Call moves off; partitions stay where they are.", changes=True)
    add_topics_argument(cancelling, partitions=True, required=False)
    cancelling.add_argument("--plan", metavar="FILE", help="the moves of this plan")
    throttling = actions.add("throttle", _throttle, "Slow moves under way down, or let them go again.", changes=True)
    throttling.add_argument("rate", metavar="RATE|off", help="bytes a second between brokers, as 50MB; off removes it")


def leaders(admin: ottla.Admin, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """The leader of each partition that has one."""
    names = list(dict.fromkeys(one.topic for one in partitions))
    described = admin.describe_topics(names) if names else {}
    return {
        TopicPartition(name, one.partition): one.leader.id
        for name, topic in described.items()
        for one in topic.partitions
        if one.leader is not None
    }


def replicas_now(admin: ottla.Admin, topics: Iterable[str]) -> dict[TopicPartition, tuple[int, ...]]:
    """The brokers of every partition of the topics, in order."""
    names = list(dict.fromkeys(topics))
    described = admin.describe_topics(names) if names else {}
    return {
        TopicPartition(name, one.partition): tuple(node.id for node in one.replicas)
        for name, topic in described.items()
        for one in topic.partitions
    }


def _plan(options: Namespace) -> int:
    from ottla.cli.placement import PlacementError, plan
    from ottla.cli.selection import select_topics

    output = Output(options)
    with open_admin(options) as admin:
        topics = select_topics(admin, options.topics)
        current = replicas_now(admin, topics)
        racks = {node.id: node.rack for node in admin.describe_cluster().nodes}
    chosen = set(racks) if options.brokers is None else set(_broker_ids(options.brokers, "--brokers"))
    if unknown := chosen - set(racks):
        raise CommandError(f"broker {min(unknown)} is not up; there are {', '.join(map(str, sorted(racks)))}")
    try:
        planned = plan(current, {broker: racks[broker] for broker in chosen}, replicas=options.replicas)
    except PlacementError as error:
        raise CommandError(str(error)) from None
    moves = {one: Target(replicas) for one, replicas in planned.items() if replicas != current[one]}
    text = plan_json(moves)
    if options.output is not None:
        _write(options.output, text)
    if output.is_json:
        output.json(json.loads(text))
        return 0
    rows = [[one, _ids(current[one]), _ids(target.replicas)] for one, target in moves.items()]
    output.table(None, ["partition", "brokers now", "planned"], rows)
    _tell_plan(output, options, len(moves))
    return 0


def _tell_plan(output: Output, options: Namespace, count: int) -> None:
    if not count:
        output.note("nothing has to move")
    elif options.output is not None:
        output.note(f"carry it out with `ottla partitions reassign --plan {options.output}`")
    else:
        output.note("write it to a file with -o FILE, then `ottla partitions reassign --plan FILE`")


def _reassign(options: Namespace) -> int:
    from ottla.client.admin.log_dirs import TopicPartitionReplica

    output = Output(options)
    if (options.plan is None) == (not options.moves):
        raise CommandError("say which partitions move where, as orders:0=1,2, or name a --plan")
    wanted = read_plan(options.plan) if options.plan is not None else parse_moves(options.moves)
    rate = None if options.throttle is None else _rate(options.throttle)
    with open_admin(options) as admin:
        current = replicas_now(admin, (one.topic for one in wanted))
        _check_plan(admin, wanted, current)
        going = {one: target for one, target in wanted.items() if target.replicas != current[one]}
        if options.save is not None and not options.dry_run:
            _write(options.save, plan_json({one: Target(current[one]) for one in wanted}))
        if not options.dry_run:
            directories = {
                TopicPartitionReplica(*one, broker): path
                for one, target in wanted.items()
                for broker, path in zip(target.replicas, target.log_dirs, strict=False)
                if path != "any"
            }
            if rate is not None:
                set_throttle(admin, {one: (current[one], target.replicas) for one, target in going.items()}, rate)
            if going:
                admin.alter_partition_reassignments({one: target.replicas for one, target in going.items()})
            if directories:
                _move_directories(admin, directories)
            if options.wait:
                _wait(admin, output, going)
                remove_throttle(admin, {one.topic for one in going})
    did = "would move" if options.dry_run else "moved" if options.wait else "moving"
    lines = [f"{did} {one}: {_ids(current[one])} → {_ids(target.replicas)}" for one, target in going.items()]
    if rate is not None and not options.wait:
        would = "would throttle" if options.dry_run else "throttled"
        lines.append(f"{would} to {size_text(rate)} a second; `ottla partitions verify` or `throttle off` ends that")
    moved = [{**one._asdict(), "from": current[one], "to": target.replicas} for one, target in going.items()]
    output.done(
        "\n".join(lines) or "nothing to move: all are there",
        json={"dry_run": options.dry_run, "finished": options.wait, "throttle": rate, "moved": moved},
    )
    return 0


def _move_directories(admin: ottla.Admin, moves: Mapping[ottla.admin.TopicPartitionReplica, str]) -> None:
    """A replica that is only coming gets its directory before its first byte, if the broker is told in time."""
    from ottla.client.errors import KafkaError

    deadline = time.monotonic() + 10
    left = dict(moves)
    while left:
        try:
            admin.alter_replica_log_dirs(left)
            return
        except KafkaError as error:
            left = {replica: path for replica, path in left.items() if replica in error.errors}
            codes = {one.code.name for one in error.errors.values() if one.code is not None}
            if codes - {"REPLICA_NOT_AVAILABLE"} or not left or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _check_plan(admin: ottla.Admin, wanted: Plan, current: Mapping[TopicPartition, Sequence[int]]) -> None:
    known = {node.id for node in admin.describe_cluster().nodes}
    for one, target in wanted.items():
        if one not in current:
            raise CommandError(f"there is no partition {one}")
        if not target.replicas or len(set(target.replicas)) < len(target.replicas):
            raise CommandError(f"{one} needs brokers, each of them once, not {_ids(target.replicas) or 'none'}")
        missing = [broker for broker in target.replicas if broker not in known and broker not in current[one]]
        if missing:
            raise CommandError(
                f"{one} cannot move to broker {missing[0]}, which is not up; "
                f"there are {', '.join(map(str, sorted(known)))}"
            )


def _wait(admin: ottla.Admin, output: Output, going: Mapping[TopicPartition, Target]) -> None:
    with output.progress(len(going), "moving partitions") as bar:
        while going:
            left = admin.list_partition_reassignments(going)
            bar.at(len(going) - len(left))
            if not left:
                return
            time.sleep(_POLL_S)


def _moves(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        found = admin.list_partition_reassignments(select_partitions(admin, options.topics) if options.topics else None)
    _print_moves(output, found)
    return 0


def _print_moves(output: Output, found: Mapping[TopicPartition, PartitionReassignment]) -> None:
    rows = [
        [one, _ids(move.replicas), _ids(move.adding_replicas) or None, _ids(move.removing_replicas) or None]
        for one, move in sorted(found.items())
    ]
    json_rows = [{**one._asdict(), **move._asdict()} for one, move in sorted(found.items())]
    output.table(None, ["partition", "brokers", "coming", "going"], rows, json_rows=json_rows)


def _verify(options: Namespace) -> int:
    output = Output(options)
    wanted = read_plan(options.plan)
    with open_admin(options) as admin:
        current = replicas_now(admin, (one.topic for one in wanted))
        moving = admin.list_partition_reassignments(wanted)
        states = {one: _state(one, target, current, one in moving) for one, target in wanted.items()}
        is_over = not moving
        if is_over and not options.keep_throttle:
            remove_throttle(admin, {one.topic for one in wanted if one in current})
    rows = [[one, _ids(current.get(one, ())), _ids(wanted[one].replicas), state] for one, state in states.items()]
    names = ("brokers", "planned")
    json_rows = [
        {**one._asdict(), **dict(zip(names, (current.get(one), wanted[one].replicas), strict=True)), "state": state}
        for one, state in states.items()
    ]
    output.table(None, ["partition", "brokers", "planned", "state"], rows, json_rows=json_rows)
    return 0 if all(state == "done" for state in states.values()) else 1


def _state(
    one: TopicPartition, target: Target, current: Mapping[TopicPartition, Sequence[int]], is_moving: bool
) -> str:
    if one not in current:
        return "no such partition"
    if is_moving:
        return "moving"
    return "done" if tuple(current[one]) == target.replicas else "elsewhere"


def _cancel(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        if options.plan is not None:
            partitions: list[TopicPartition] | None = list(read_plan(options.plan))
        else:
            partitions = select_partitions(admin, options.topics) if options.topics else None
        moving = admin.list_partition_reassignments(partitions)
        if moving and not options.dry_run:
            admin.alter_partition_reassignments(dict.fromkeys(moving))
            remove_throttle(admin, {one.topic for one in moving})
    would = "would call off" if options.dry_run else "called off"
    output.done(
        "\n".join(f"{would} the move of {one}" for one in moving) or "nothing is moving",
        json={"dry_run": options.dry_run, "cancelled": [one._asdict() for one in moving]},
    )
    return 0


def _throttle(options: Namespace) -> int:
    output = Output(options)
    is_off = options.rate.lower() in ("off", "none")
    rate = 0 if is_off else _rate(options.rate)
    with open_admin(options) as admin:
        if is_off:
            topics = _throttled_topics(admin)
            if not options.dry_run:
                remove_throttle(admin, topics)
            did = "would remove" if options.dry_run else "removed"
            text = f"{did} the throttle from all brokers and {len(topics)} topics"
        else:
            moving = admin.list_partition_reassignments()
            topics = {one.topic for one in moving}
            targets = {one: _from_to(move) for one, move in moving.items()}
            if not options.dry_run:
                set_throttle(admin, targets, rate)
            did = "would throttle" if options.dry_run else "throttled"
            text = f"{did} {len(moving)} moves to {size_text(rate)} a second" if moving else "nothing is moving"
    output.done(text, json={"dry_run": options.dry_run, "rate": None if is_off else rate, "topics": sorted(topics)})
    return 0


def _from_to(move: PartitionReassignment) -> tuple[tuple[int, ...], tuple[int, ...]]:
    before = tuple(broker for broker in move.replicas if broker not in move.adding_replicas)
    after = tuple(broker for broker in move.replicas if broker not in move.removing_replicas)
    return before, after


def set_throttle(
    admin: ottla.Admin,
    moves: Mapping[TopicPartition, tuple[Sequence[int], Sequence[int]]],
    rate: int,
) -> None:
    """Let replicas that move take and give so many bytes a second on every broker (KIP-73)."""
    from ottla.client.admin.configs import AlterConfigOp, ConfigResource

    topics: dict[str, tuple[list[str], list[str]]] = {}
    for one, (before, after) in moves.items():
        givers, takers = topics.setdefault(one.topic, ([], []))
        givers += [f"{one.partition}:{broker}" for broker in before]
        takers += [f"{one.partition}:{broker}" for broker in after if broker not in before]
    changes = {
        ConfigResource.topic(topic): [
            AlterConfigOp.set(name, ",".join(replicas))
            for name, replicas in ((_LEADERS, givers), (_FOLLOWERS, takers))
            if replicas
        ]
        for topic, (givers, takers) in topics.items()
    }
    for node in admin.describe_cluster().nodes:
        changes[ConfigResource.broker(node.id)] = [AlterConfigOp.set(name, rate) for name in _BROKER_RATES]
    admin.incremental_alter_configs({resource: ops for resource, ops in changes.items() if ops})


def remove_throttle(admin: ottla.Admin, topics: Iterable[str]) -> None:
    """Put the settings of a throttle back to their defaults, on all brokers and these topics."""
    from ottla.client.admin.configs import AlterConfigOp, ConfigResource, ConfigSource

    names: dict[ConfigResource, tuple[str, ...]] = {
        ConfigResource.topic(topic): (_LEADERS, _FOLLOWERS) for topic in topics
    }
    names |= {ConfigResource.broker(node.id): _BROKER_RATES for node in admin.describe_cluster().nodes}
    changes = {}
    for resource, entries in admin.describe_configs(names).items():
        own = (ConfigSource.DYNAMIC_TOPIC_CONFIG, ConfigSource.DYNAMIC_BROKER_CONFIG)
        found = [name for name in names[resource] if name in entries and entries[name].source in own]
        if found:
            changes[resource] = [AlterConfigOp.delete(name) for name in found]
    if changes:
        admin.incremental_alter_configs(changes)


def _throttled_topics(admin: ottla.Admin) -> set[str]:
    from ottla.client.admin.configs import ConfigResource, ConfigSource

    topics = [ConfigResource.topic(name) for name in admin.list_topics(list_internal=True)]
    found = admin.describe_configs(topics, names=[_LEADERS, _FOLLOWERS]) if topics else {}
    return {
        resource.name
        for resource, entries in found.items()
        if any(entry.source is ConfigSource.DYNAMIC_TOPIC_CONFIG for entry in entries.values())
    }


def plan_json(wanted: Mapping[TopicPartition, Target]) -> str:
    """A plan in the format of Kafka's own tool."""
    partitions = [
        {
            **one._asdict(),
            "replicas": list(target.replicas),
            "log_dirs": list(target.log_dirs) or ["any"] * len(target.replicas),
        }
        for one, target in wanted.items()
    ]
    return json.dumps({"version": 1, "partitions": partitions}, indent=1)


def read_plan(path: str) -> Plan:
    """The plan in a file (`-`: on standard input); raises `CommandError`."""
    try:
        if path == "-":
            text = sys.stdin.read()
        else:
            with open(path, encoding="utf-8") as file:
                text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"cannot read the plan {path}: {reason.lower()}") from None
    try:
        plan: Plan = {}
        for entry in json.loads(text)["partitions"]:
            one = TopicPartition(str(entry["topic"]), int(entry["partition"]))
            if one in plan:
                raise CommandError(f"{path} names {one} twice")
            plan[one] = Target(tuple(map(int, entry["replicas"])), tuple(map(str, entry.get("log_dirs", ()))))
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path} is no plan of `ottla partitions plan`: {type(error).__name__} {error}") from None
    return plan


def parse_moves(texts: Sequence[str]) -> Plan:
    """`orders:0=1,2` as a plan; raises `CommandError`."""
    plan: Plan = {}
    for text in texts:
        name, _, brokers = text.partition("=")
        topic, _, partition = name.rpartition(":")
        if not topic or not partition.isdigit() or not brokers:
            raise CommandError(f"{text!r} is no move; write TOPIC:PARTITION=BROKERS, as orders:0=1,2")
        plan[TopicPartition(topic, int(partition))] = Target(tuple(_broker_ids(brokers, text)))
    return plan


def _broker_ids(text: str, whole: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise CommandError(f"{whole}: brokers are numbers, as 1,2,3, not {text!r}") from None


def _rate(text: str) -> int:
    rate = parse_size_bytes(text)
    if rate < 1:
        raise CommandError("a throttle is at least 1 byte a second; `ottla partitions throttle off` removes it")
    return rate


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None


def _ids(brokers: Iterable[int]) -> str:
    return ",".join(map(str, brokers))
