"""`ottla cluster`: who is in it, what its brokers can and hold, and forgetting a broker that is gone."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin
from ottla.cli.numbers import whole
from ottla.cli.output import Column, Output
from ottla.cli.units import size_text

if TYPE_CHECKING:
    import ottla
    from ottla.client.admin.log_dirs import LogDirDescription

run = run_action


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    actions.add("describe", _describe, "Show the cluster's id, controller, brokers and how they are.", aliases=["info"])
    brokers = actions.add("brokers", _brokers, "Show the brokers.", aliases=["nodes", "list"])
    brokers.add_argument("-a", "--all", action="store_true", help="brokers that are down as well")
    directories = actions.add("log-dirs", _log_dirs, "Show the data directories of brokers, and what is in them.")
    directories.add_argument("brokers", nargs="*", type=whole(), metavar="BROKER", help="all without")
    directories.add_argument("-l", "--long", action="store_true", help="with every replica")
    actions.add("id", _id, "Show the cluster's id.")
    forgetting = actions.add("unregister", _unregister, "Forget a broker that is gone for good.", loses=True)
    forgetting.add_argument("broker", type=whole(), metavar="BROKER")


def _describe(options: Namespace) -> int:
    from ottla.cli.topic_details import is_troubled

    output = Output(options)
    with open_admin(options) as admin:
        cluster = describe_all_brokers(admin)
        features = _features(admin)
        names = list(admin.list_topics(list_internal=True))
        topics = admin.describe_topics(names) if names else {}
    partitions = {
        f"{name}-{partition.partition}": partition
        for name, topic in sorted(topics.items())
        for partition in topic.partitions
    }
    leaderless = [one for one, partition in partitions.items() if partition.leader is None]
    out_of_sync = [one for one, partition in partitions.items() if is_troubled(partition) and one not in leaderless]
    level = features.get("metadata.version")
    if output.is_json:
        output.json(
            {
                "cluster_id": cluster.cluster_id,
                "controller": cluster.controller,
                "brokers": cluster.nodes,
                "features": features,
                "metadata_version": release_name(level),
                "topics": len(topics),
                "partitions": len(partitions),
                "partitions_without_leader": leaderless,
                "partitions_out_of_sync": out_of_sync,
            }
        )
        return 0
    facts: dict[str, object] = {
        "cluster id": cluster.cluster_id,
        "controller": str(cluster.controller) if cluster.controller else None,
        "metadata version": release_of(level),
        "topics": len(topics),
        "partitions": len(partitions),
        "without a leader": len(leaderless),
        "out of sync": len(out_of_sync),
    }
    output.fields(None, facts)
    output.line()
    _print_brokers(output, cluster)
    return 0


def describe_all_brokers(admin: ottla.Admin) -> ottla.admin.ClusterDescription:
    """The cluster, with brokers that are down where it tells of them (Kafka 4.0 and later)."""
    from ottla.client.errors import UnsupportedVersionError

    try:
        return admin.describe_cluster(include_fenced_brokers=True)
    except UnsupportedVersionError:
        return admin.describe_cluster()


def _features(admin: ottla.Admin) -> dict[str, int]:
    from ottla.client.errors import UnsupportedVersionError

    try:
        return {name: levels.max_version for name, levels in admin.describe_features().finalized.items()}
    except UnsupportedVersionError:  # before Kafka 2.7
        return {}


def release_of(level: int | None) -> str | None:
    """`4.3-IV0 (level 29)` for a level of metadata.version."""
    if level is None:
        return None
    name = release_name(level)
    return f"{name} (level {level})" if name else f"level {level}"


def release_name(level: int | None) -> str | None:
    """`4.3-IV0` for a level of metadata.version; None for one that is newer than we are."""
    from ottla.cli.kafka.feature_versions import METADATA_VERSIONS

    return None if level is None else METADATA_VERSIONS.get(level)


def _brokers(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        cluster = admin.describe_cluster(include_fenced_brokers=options.all)
    _print_brokers(output, cluster)
    return 0


def _print_brokers(output: Output, cluster: ottla.admin.ClusterDescription) -> None:
    controller = None if cluster.controller is None else cluster.controller.id
    rows = [
        [
            node.id,
            f"{node.host}:{node.port}",
            node.rack,
            ", ".join(["down"] * node.fenced + ["controller"] * (node.id == controller)) or None,
        ]
        for node in sorted(cluster.nodes)
    ]
    json_rows = [{**node._asdict(), "controller": node.id == controller} for node in sorted(cluster.nodes)]
    output.table(None, [Column("broker", "cyan"), "address", "rack", "state"], rows, json_rows=json_rows)


def _log_dirs(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        found = admin.describe_log_dirs(options.brokers or None)
    listed = [(broker, path, one) for broker, paths in sorted(found.items()) for path, one in sorted(paths.items())]
    if options.long:
        rows = [
            [
                broker,
                path,
                f"{partition.topic}-{partition.partition}",
                size_text(one.size_bytes),
                one.offset_lag,
                one.is_future,
            ]
            for broker, path, directory in listed
            for partition, one in sorted(directory.replicas.items())
        ]
        size = Column("size", right=True)
        output.table(
            None,
            ["broker", "directory", "partition", size, "behind", "moving in"],
            rows,
            json_rows=[_log_dir_json(*one) for one in listed],
        )
        return 0
    rows = [
        [
            broker,
            path,
            len(one.replicas),
            size_text(sum(replica.size_bytes for replica in one.replicas.values())),
            None if one.usable_bytes is None else size_text(one.usable_bytes),
            None if one.total_bytes is None else size_text(one.total_bytes),
            one.error.message if one.error else "cordoned" if one.is_cordoned else None,
        ]
        for broker, path, one in listed
    ]
    columns: list[str | Column] = ["broker", "directory", "replicas"]
    columns += [Column(name, right=True) for name in ("used", "free", "volume")]
    output.table(None, [*columns, "state"], rows, json_rows=[_log_dir_json(*one) for one in listed])
    return 0


def _log_dir_json(broker: int, path: str, directory: LogDirDescription) -> dict[str, object]:
    return {
        "broker": broker,
        "directory": path,
        "error": None if directory.error is None else directory.error.message,
        "total_bytes": directory.total_bytes,
        "usable_bytes": directory.usable_bytes,
        "cordoned": directory.is_cordoned,
        "replicas": [
            {"topic": partition.topic, "partition": partition.partition, **one._asdict()}
            for partition, one in sorted(directory.replicas.items())
        ],
    }


def _id(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        cluster_id = admin.describe_cluster().cluster_id
    if output.is_json:
        output.json({"cluster_id": cluster_id})
    else:
        print(cluster_id)
    return 0


def _unregister(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        if not options.dry_run:
            output.confirm(f"Forget broker {options.broker}, and that it has replicas?", options)
            admin.unregister_broker(options.broker)
    would = "would unregister" if options.dry_run else "unregistered"
    output.done(f"{would} broker {options.broker}", json={"dry_run": options.dry_run, "unregistered": options.broker})
    return 0
