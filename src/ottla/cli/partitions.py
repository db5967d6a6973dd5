"""`ottla partitions`: who has them; moving them to other brokers or directories, electing their leaders."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ottla.cli import reassignments
from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin
from ottla.cli.errors import CommandError
from ottla.cli.numbers import whole
from ottla.cli.output import Output
from ottla.cli.selection import add_topics_argument, select_partitions, select_topics
from ottla.core.ids import TopicPartition

if TYPE_CHECKING:
    import ottla
    from ottla.client.admin.log_dirs import ReplicaLogDirInfo, TopicPartitionReplica
    from ottla.client.admin.topics import PartitionDescription

run = run_action

_POLL_S = 0.5


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    listing = actions.add("list", _list, "Show leaders and replicas of partitions.", aliases=["ls", "describe"])
    add_topics_argument(listing, required=False)
    listing.add_argument("-i", "--internal", action="store_true", help="internal topics as well")
    listing.add_argument("--problems", action="store_true", help="only those without a leader, or out of sync")
    listing.add_argument("--broker", type=whole(), metavar="ID", help="only those that this broker has a replica of")
    listing.add_argument("--leader", type=whole(), metavar="ID", help="only those that this broker leads")
    reassignments.add_actions(actions)
    electing = actions.add("elect", _elect, "Elect leaders: the first replicas of the lists.", loses=True)
    add_topics_argument(electing, partitions=True, required=False)
    electing.add_argument(
        "--unclean", action="store_true", help="any replica that is alive, where none in sync is: records may be lost"
    )
    moving = actions.add("move", _move, "Move replicas to another directory of their broker.", changes=True)
    add_topics_argument(moving, partitions=True)
    moving.add_argument("-t", "--to", required=True, metavar="DIRECTORY", help="one of the broker's log.dirs")
    moving.add_argument("--broker", type=whole(), metavar="ID", help="whose replicas; every partition's leader without")
    moving.add_argument("-w", "--wait", action="store_true", help="until they are there")


def _list(options: Namespace) -> int:
    from ottla.cli.topic_details import is_troubled

    output = Output(options)
    with open_admin(options) as admin:
        topics = select_topics(admin, options.topics, internal=options.internal)
        described = admin.describe_topics(topics) if topics else {}

    def wanted(one: PartitionDescription) -> bool:
        return (
            (not options.problems or is_troubled(one))
            and (options.broker is None or options.broker in [node.id for node in one.replicas])
            and (options.leader is None or (one.leader is not None and one.leader.id == options.leader))
        )

    rows, json_rows = [], []
    for name in topics:
        for one in filter(wanted, described[name].partitions):
            ids = {
                "replicas": [node.id for node in one.replicas],
                "in_sync_replicas": [node.id for node in one.in_sync_replicas],
            }
            leader = None if one.leader is None else one.leader.id
            rows.append([f"{name}-{one.partition}", "none" if leader is None else leader, one.leader_epoch])
            rows[-1] += [",".join(map(str, brokers)) for brokers in ids.values()]
            json_rows.append(
                {
                    "topic": name,
                    "partition": one.partition,
                    "leader": leader,
                    "leader_epoch": one.leader_epoch,
                    **ids,
                    "offline_replicas": [node.id for node in one.offline_replicas],
                }
            )
    output.table(None, ["partition", "leader", "epoch", "replicas", "in sync"], rows, json_rows=json_rows)
    return 0


def _elect(options: Namespace) -> int:
    from ottla.client.admin.partitions import ElectionType
    from ottla.client.errors import KafkaError

    output = Output(options)
    kind = ElectionType.UNCLEAN if options.unclean else ElectionType.PREFERRED
    with open_admin(options) as admin:
        partitions = select_partitions(admin, options.topics, internal=not options.topics)
        waiting = _would_change(admin, partitions, unclean=options.unclean)
        if options.dry_run:
            lines = [f"would elect a leader of {partition}" for partition in waiting] or ["all have the right leader"]
            output.done("\n".join(lines), json={"dry_run": True, "elected": waiting, "failed": {}})
            return 0
        if options.unclean and waiting:
            output.confirm(f"Elect out-of-sync leaders of {len(waiting)} partitions, and lose what they lack?", options)
        failed: Mapping[TopicPartition, KafkaError] = {}
        try:
            elected = admin.elect_leaders(kind, partitions) if partitions else {}
        except KafkaError as error:
            if not error.errors:
                raise
            elected, failed = dict(error.results), error.errors
    changed = [partition for partition, is_new in elected.items() if is_new]
    lines = [f"elected a leader of {partition}" for partition in changed]
    output.done(
        "\n".join(lines) or "all have the right leader",
        json={
            "dry_run": False,
            "elected": changed,
            "failed": {str(partition): str(error) for partition, error in failed.items()},
        },
    )
    if failed:
        first, reason = next(iter(failed.items()))
        raise CommandError(f"no leader for {len(failed)} partitions, {first}: {reason}")
    return 0


def _would_change(admin: ottla.Admin, partitions: list[TopicPartition], *, unclean: bool) -> list[TopicPartition]:
    """Partitions that an election would give another leader, or any."""
    described = admin.describe_topics(list(dict.fromkeys(one.topic for one in partitions))) if partitions else {}
    wanted = set(partitions)
    return [
        TopicPartition(name, one.partition)
        for name, topic in described.items()
        for one in topic.partitions
        if TopicPartition(name, one.partition) in wanted
        and (one.leader is None if unclean else one.leader is None or one.leader.id != one.replicas[0].id)
    ]


def _move(options: Namespace) -> int:
    from ottla.client.admin.log_dirs import TopicPartitionReplica

    output = Output(options)
    with open_admin(options) as admin:
        partitions = select_partitions(admin, options.topics)
        brokers = {} if options.broker is not None else reassignments.leaders(admin, partitions)
        moves = {}
        for partition in partitions:
            broker = options.broker if options.broker is not None else brokers.get(partition)
            if broker is None:
                raise CommandError(f"{partition} has no leader; say with --broker whose replica to move")
            moves[TopicPartitionReplica(*partition, broker)] = options.to
        before = admin.describe_replica_log_dirs(moves)
        for replica, where in before.items():
            if where.current_log_dir is None:
                raise CommandError(f"broker {replica.broker_id} has no replica of {replica.topic}-{replica.partition}")
        _check_directories(admin, moves)
        going = {replica: path for replica, path in moves.items() if before[replica].current_log_dir != path}
        if going and not options.dry_run:
            admin.alter_replica_log_dirs(going)
            if options.wait:
                _wait_until_moved(admin, output, going)
    _tell_moves(output, options, going, before)
    return 0


def _check_directories(admin: ottla.Admin, moves: Mapping[TopicPartitionReplica, str]) -> None:
    found = admin.describe_log_dirs(sorted({replica.broker_id for replica in moves}))
    for replica, path in moves.items():
        known = found[replica.broker_id]
        if path not in known:
            raise CommandError(f"broker {replica.broker_id} has no directory {path}; it has {', '.join(sorted(known))}")


def _wait_until_moved(admin: ottla.Admin, output: Output, going: Mapping[TopicPartitionReplica, str]) -> None:
    with output.progress(len(going), "moving replicas") as bar:
        while True:
            now = admin.describe_replica_log_dirs(going)
            there = sum(where.current_log_dir == going[replica] for replica, where in now.items())
            bar.at(there)
            if there == len(going):
                return
            for replica, where in now.items():
                if where.current_log_dir != going[replica] and where.future_log_dir != going[replica]:
                    raise CommandError(
                        f"{replica} does not move to {going[replica]} any more; look at the broker's log"
                    )
            time.sleep(_POLL_S)


def _tell_moves(
    output: Output,
    options: Namespace,
    going: Mapping[TopicPartitionReplica, str],
    before: Mapping[TopicPartitionReplica, ReplicaLogDirInfo],
) -> None:
    did = "would move" if options.dry_run else "moved" if options.wait else "moving"
    lines = [f"{did} {replica}: {before[replica].current_log_dir} → {path}" for replica, path in going.items()]
    moved = [
        {**replica._asdict(), "from": before[replica].current_log_dir, "to": path} for replica, path in going.items()
    ]
    output.done(
        "\n".join(lines) or "nothing to move: all are there",
        json={"dry_run": options.dry_run, "finished": options.wait, "moved": moved},
    )
