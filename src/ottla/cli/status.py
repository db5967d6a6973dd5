"""`ottla status`: is a node there, and is all well with its cluster.

Exit codes, as of service scripts: 0 all is well, 1 there are problems, 3 nothing runs or nobody answers.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ottla.cli.connection import add_connection_arguments, open_admin
from ottla.cli.errors import FAILURE
from ottla.cli.output import Output, add_output_arguments
from ottla.cli.running import DEFAULT_DATA, RunningNode, find_node

if TYPE_CHECKING:
    import ottla
    from ottla.client.admin.clusters import ClusterDescription
    from ottla.client.admin.log_dirs import LogDirDescription
    from ottla.client.admin.topics import TopicDescription

NOT_RUNNING = 3
TIMEOUT_S = 5.0
LEAST_FREE = 0.05
"""A volume with less of it free is a problem."""
MOST_NAMED = 5


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of `ottla status`."""
    parser.add_argument(
        "--data", metavar="DIR", help=f"look at the node of this data directory ({DEFAULT_DATA} if one runs there)"
    )
    add_connection_arguments(parser)
    add_output_arguments(parser)


def run(options: Namespace) -> int:
    """Look, and say what there is."""
    from ottla.client.errors import ConnectionFailedError, KafkaTimeoutError

    output = Output(options)
    node = None
    if options.data is not None or not _is_remote(options):
        node = find_node(options.data or DEFAULT_DATA)
        if node is not None:
            options.bootstrap_servers = options.bootstrap_servers or node.bootstrap_servers
        elif options.data is not None:
            return _nothing(output, f"no node runs on {options.data}")
    if options.timeout is None:
        options.timeout = TIMEOUT_S
    try:
        with open_admin(options) as admin:
            status = look(admin, node)
    except (ConnectionFailedError, KafkaTimeoutError) as error:
        return _nothing(output, str(error))
    _show(output, status)
    return FAILURE if status.problems else 0


@dataclass(slots=True)
class Status:
    """What was found."""

    node: RunningNode | None
    cluster: ClusterDescription
    metadata_level: int | None
    topics: Mapping[str, TopicDescription]
    groups_count: int | None
    log_dirs: Mapping[int, Mapping[str, LogDirDescription]]
    partitions_count: int = 0
    silent: set[int] = field(default_factory=set)
    """Brokers of the cluster that did not answer."""
    leaderless: list[str] = field(default_factory=list)
    under_replicated: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def used_bytes(self, broker_id: int) -> int | None:
        """What a broker's replicas take; None when it did not say."""
        found = self.log_dirs.get(broker_id)
        if found is None:
            return None
        return sum(replica.size_bytes for one in found.values() for replica in one.replicas.values())


def look(admin: ottla.Admin, node: RunningNode | None) -> Status:
    """Ask the cluster. What it does not know, or does not allow, is left out."""
    from ottla.cli.cluster import describe_all_brokers

    cluster = describe_all_brokers(admin)
    features = _optional(admin.describe_features)
    level = None if features is None else features.finalized.get("metadata.version")
    names = list(admin.list_topics(list_internal=True))
    topics = admin.describe_topics(names) if names else {}
    silent: set[int] = set()
    groups = _of_those_that_answer(silent, admin.list_groups)
    if isinstance(groups, dict):  # of each broker
        groups = {listing.group_id for listings in groups.values() for listing in listings}
    asked = [broker.id for broker in cluster.nodes if not broker.fenced and broker.id not in silent]
    status = Status(
        node,
        cluster,
        None if level is None else level.max_version,
        topics,
        None if groups is None else len(groups),
        _of_those_that_answer(silent, admin.describe_log_dirs, asked) or {},
        silent=silent,
    )
    _diagnose(status)
    return status


def _diagnose(status: Status) -> None:
    for name, topic in sorted(status.topics.items()):
        for partition in topic.partitions:
            status.partitions_count += 1
            if partition.leader is None:
                status.leaderless.append(f"{name}-{partition.partition}")
            elif len(partition.in_sync_replicas) < len(partition.replicas):
                status.under_replicated.append(f"{name}-{partition.partition}")
    problems = status.problems
    for broker in sorted(status.cluster.nodes):
        if broker.fenced:
            problems.append(f"broker {broker.id} is down")
        elif broker.id in status.silent:
            problems.append(f"broker {broker.id} does not answer")
    if status.leaderless:
        problems.append(f"{_counted(status.leaderless)} without a leader: {_named(status.leaderless)}")
    if status.under_replicated:
        problems.append(f"{_counted(status.under_replicated)} under-replicated: {_named(status.under_replicated)}")
    if status.cluster.controller is None:
        problems.append("there is no controller")
    for broker_id, directories in sorted(status.log_dirs.items()):
        for path, one in sorted(directories.items()):
            if one.error is not None:
                problems.append(f"broker {broker_id}: {path}: {one.error.message}")
            elif one.total_bytes and one.usable_bytes is not None and one.usable_bytes < LEAST_FREE * one.total_bytes:
                free = 100 * one.usable_bytes / one.total_bytes
                problems.append(f"broker {broker_id}: only {free:.1f} % of the volume of {path} is free")


def _show(output: Output, status: Status) -> None:
    from ottla.cli.cluster import release_of
    from ottla.cli.units import duration_text, size_text

    if output.is_json:
        output.json(_as_json(status))
        return
    node, cluster = status.node, status.cluster
    facts: dict[str, object] = {
        "health": "healthy" if not status.problems else "; ".join(status.problems),
    }
    if node is not None:
        uptime = duration_text(max(0, int(time.time() * 1000) - node.started_ms))
        facts["node"] = f"ottla {node.version}, pid {node.pid}, up {uptime}, data in {node.data}"
        facts["listeners"] = node.bootstrap_servers
    facts["cluster"] = cluster.cluster_id
    facts["metadata version"] = release_of(status.metadata_level)
    facts["controller"] = None if cluster.controller is None else str(cluster.controller)
    facts["topics"] = f"{len(status.topics)} with {status.partitions_count} partitions"
    facts["groups"] = status.groups_count
    output.fields(None, facts)
    rows = []
    for broker in sorted(cluster.nodes):
        used = status.used_bytes(broker.id)
        directories = status.log_dirs.get(broker.id, {}).values()
        free = [one.usable_bytes for one in directories if one.usable_bytes is not None]
        rows.append(
            [
                broker.id,
                f"{broker.host}:{broker.port}",
                broker.rack,
                None if used is None else size_text(used),
                size_text(min(free)) if free else None,
                "down" if broker.fenced else "no answer" if broker.id in status.silent else None,
            ]
        )
    output.line()
    output.table(None, ["broker", "address", "rack", "used", "free", "state"], rows)


def _as_json(status: Status) -> dict[str, Any]:
    from ottla.cli.cluster import release_name

    node, cluster = status.node, status.cluster
    return {
        "health": "degraded" if status.problems else "healthy",
        "problems": status.problems,
        "node": None
        if node is None
        else {**node._asdict(), "uptime_ms": max(0, int(time.time() * 1000) - node.started_ms)},
        "cluster_id": cluster.cluster_id,
        "controller": cluster.controller,
        "metadata_version": release_name(status.metadata_level),
        "topics": len(status.topics),
        "partitions": status.partitions_count,
        "partitions_without_leader": status.leaderless,
        "partitions_out_of_sync": status.under_replicated,
        "groups": status.groups_count,
        "brokers": [
            {
                **broker._asdict(),
                "used_bytes": status.used_bytes(broker.id),
                "log_dirs": [
                    {
                        "path": path,
                        "error": None if one.error is None else one.error.message,
                        "total_bytes": one.total_bytes,
                        "usable_bytes": one.usable_bytes,
                    }
                    for path, one in sorted(status.log_dirs.get(broker.id, {}).items())
                ],
            }
            for broker in sorted(cluster.nodes)
        ],
    }


def _nothing(output: Output, why: str) -> int:
    if output.is_json:
        output.json({"health": "down", "problems": [why], "node": None})
    else:
        output.note(why)
    return NOT_RUNNING


def _is_remote(options: Namespace) -> bool:
    """Whether the user named a cluster: then the node that may run in this directory is not what is meant."""
    import os

    given = (options.bootstrap_servers, options.profile, options.command_config, *options.client_settings)
    return any(given) or bool(os.environ.get("OTTLA_BOOTSTRAP_SERVERS") or os.environ.get("OTTLA_PROFILE"))


def _optional(call: Any) -> Any:
    """What an older cluster does not know, or this user may not see, is nothing to fail for."""
    from ottla.client.errors import AuthorizationError, UnsupportedVersionError

    try:
        return call()
    except (UnsupportedVersionError, AuthorizationError):
        return None


def _of_those_that_answer(silent: set[int], call: Any, *arguments: Any) -> Any:
    """The results of those brokers that answered, by broker, when some did not: they are added to `silent`."""
    from ottla.client.errors import KafkaError

    try:
        return _optional(lambda: call(*arguments))
    except KafkaError as error:
        if not error.results:
            raise
        silent.update(error.errors)
        return dict(error.results)


def _counted(partitions: list[str]) -> str:
    return f"{len(partitions)} partition{'' if len(partitions) == 1 else 's'}"


def _named(partitions: list[str]) -> str:
    more = ", …" if len(partitions) > MOST_NAMED else ""
    return ", ".join(partitions[:MOST_NAMED]) + more
