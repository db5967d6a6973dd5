"""`ottla metadata`: the quorum that keeps the cluster's metadata, and what its log says.

    ottla metadata quorum
    ottla metadata log ./ottla-data --type PartitionChangeRecord
    ottla metadata show ./ottla-data topics/orders

`log` and `show` read the files of a node, without it and without changing them: also of one that does not start any
more, and of Apache Kafka.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin
from ottla.cli.errors import CommandError, suggestion
from ottla.cli.numbers import whole
from ottla.cli.output import Column, Output, cell_text, plain
from ottla.cli.units import duration_text, time_text

if TYPE_CHECKING:
    from ottla.client.admin.clusters import QuorumInfo, QuorumReplica, RaftVoterEndpoint

run = run_action

DEFAULT_DIRECTORY = "ottla-data"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    actions.add("quorum", _quorum, "Show the quorum: leader, voters, observers, how far each is.", aliases=["status"])
    actions.add("voters", _voters, "Show the voters and where they listen.")
    adding = actions.add("add-voter", _add_voter, "Let a controller vote (KIP-853).", changes=True)
    _add_voter_arguments(adding)
    adding.add_argument("endpoints", nargs="+", metavar="LISTENER://HOST:PORT", help="where it listens")
    removing = actions.add("remove-voter", _remove_voter, "Let a controller vote no longer (KIP-853).", loses=True)
    _add_voter_arguments(removing)
    reading = actions.add("log", _log, "Show the records of the metadata log, from a node's files.", connects=False)
    _add_directory(reading)
    reading.add_argument("--from", dest="first", type=whole(), default=0, metavar="OFFSET", help="from this offset on")
    reading.add_argument("--to", dest="end", type=whole(), metavar="OFFSET", help="up to this offset, without it")
    reading.add_argument("-t", "--type", action="append", default=[], metavar="NAME", help="only records of this type")
    reading.add_argument("-s", "--snapshot", action="store_true", help="the newest snapshot instead of the log")
    showing = actions.add("show", _show, "Show what the metadata amount to, from a node's files.", connects=False)
    _add_directory(showing)
    showing.add_argument(
        "path", nargs="?", default="", metavar="PATH", help="as topics/orders or brokers/1; all without"
    )


def _add_voter_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("voter", type=whole(), metavar="ID", help="the controller's node.id")
    parser.add_argument("directory", metavar="DIRECTORY-ID", help="the directory.id in its meta.properties")


def _add_directory(parser: ArgumentParser) -> None:
    parser.add_argument(
        "directory",
        nargs="?",
        default=DEFAULT_DIRECTORY,
        metavar="DIR",
        help=f"a node's data directory (./{DEFAULT_DIRECTORY}), or its __cluster_metadata-0",
    )


def _quorum(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        quorum = admin.describe_metadata_quorum()
    replicas = _replicas(quorum)
    if output.is_json:
        output.json(
            {
                "leader_id": quorum.leader_id,
                "leader_epoch": quorum.leader_epoch,
                "high_watermark": quorum.high_watermark,
                "max_follower_lag": max((one["lag"] for one in replicas), default=0),
                "replicas": replicas,
            }
        )
        return 0
    output.line(
        f"leader {quorum.leader_id}, epoch {quorum.leader_epoch}, committed up to {quorum.high_watermark}, "
        f"{len(quorum.voters)} voter{'' if len(quorum.voters) == 1 else 's'}, {len(quorum.observers)} observers"
    )
    now_ms = time.time() * 1000
    rows = [
        [one["id"], one["role"], one["log_end_offset"], one["lag"], _ago(one["last_caught_up_timestamp_ms"], now_ms)]
        for one in replicas
    ]
    output.table(None, [Column("node", "cyan"), "role", "log end", "behind", "caught up"], rows)
    return 0


def _replicas(quorum: QuorumInfo) -> list[dict[str, Any]]:
    end = next((one.log_end_offset for one in quorum.voters if one.replica_id == quorum.leader_id), None)

    def told(one: QuorumReplica, role: str) -> dict[str, Any]:
        return {
            "id": one.replica_id,
            "role": "leader" if one.replica_id == quorum.leader_id else role,
            "directory_id": one.replica_directory_id,
            "log_end_offset": one.log_end_offset,
            "lag": 0 if end is None else max(end - one.log_end_offset, 0),
            "last_fetch_timestamp_ms": one.last_fetch_timestamp_ms,
            "last_caught_up_timestamp_ms": one.last_caught_up_timestamp_ms,
            "endpoints": [_endpoint_text(endpoint) for endpoint in quorum.nodes.get(one.replica_id, ())],
        }

    return [told(one, "voter") for one in quorum.voters] + [told(one, "observer") for one in quorum.observers]


def _ago(timestamp_ms: int | None, now_ms: float) -> str | None:
    return None if timestamp_ms is None else f"{duration_text(max(now_ms - timestamp_ms, 0))} ago"


def _voters(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        quorum = admin.describe_metadata_quorum()
    voters = [one for one in _replicas(quorum) if one["role"] != "observer"]
    rows = [[one["id"], one["directory_id"], one["endpoints"], one["id"] == quorum.leader_id] for one in voters]
    output.table(None, [Column("voter", "cyan"), "directory id", "endpoints", "leads"], rows, json_rows=voters)
    return 0


def _endpoint_text(endpoint: RaftVoterEndpoint) -> str:
    return f"{endpoint.listener}://{endpoint.host}:{endpoint.port}"


def _add_voter(options: Namespace) -> int:
    output = Output(options)
    endpoints = [parse_endpoint(text) for text in options.endpoints]
    _check_directory_id(options.directory)
    with open_admin(options) as admin:
        if options.dry_run:
            quorum = admin.describe_metadata_quorum()
            if options.voter in [one.replica_id for one in quorum.voters]:
                raise CommandError(f"node {options.voter} is a voter already")
        else:
            admin.add_raft_voter(options.voter, options.directory, endpoints)
    would = "would add" if options.dry_run else "added"
    output.done(f"{would} voter {options.voter}", json={"dry_run": options.dry_run, "added": options.voter})
    return 0


def _remove_voter(options: Namespace) -> int:
    output = Output(options)
    _check_directory_id(options.directory)
    with open_admin(options) as admin:
        if options.dry_run:
            quorum = admin.describe_metadata_quorum()
            if options.voter not in [one.replica_id for one in quorum.voters]:
                raise CommandError(f"node {options.voter} is no voter")
        else:
            output.confirm(f"Remove voter {options.voter} from the quorum?", options)
            admin.remove_raft_voter(options.voter, options.directory)
    would = "would remove" if options.dry_run else "removed"
    output.done(f"{would} voter {options.voter}", json={"dry_run": options.dry_run, "removed": options.voter})
    return 0


def _check_directory_id(text: str) -> None:
    from ottla.core.ids import uuid_from_text

    try:
        uuid_from_text(text)
    except ValueError:
        raise CommandError(
            f"{text!r} is no directory id; it stands in the meta.properties of the controller's metadata directory"
        ) from None


def parse_endpoint(text: str) -> RaftVoterEndpoint:
    """`CONTROLLER://host:9093` as an endpoint; raises `CommandError`."""
    from ottla.client.admin.clusters import RaftVoterEndpoint

    listener, separator, address = text.partition("://")
    host, _, port = address.rpartition(":")
    if not separator or not listener or not host or not port.isdigit():
        raise CommandError(f"{text!r} is no endpoint; write CONTROLLER://host:9093")
    return RaftVoterEndpoint(listener, host.strip("[]"), int(port))


def _log(options: Namespace) -> int:
    from ottla.cli.metadata_files import MetadataFiles, record_types

    output = Output(options)
    types = record_types()
    for name in options.type:
        if name not in types:
            raise CommandError(f"there is no record type {name!r}; {suggestion(name, types, ', '.join(types))}")
    files = MetadataFiles(options.directory)
    rows, json_rows = [], []
    for entry in files.snapshot() if options.snapshot else files.log():
        if entry.offset < options.first or (options.end is not None and entry.offset >= options.end):
            continue
        if options.type and entry.type not in options.type:
            continue
        fields = entry.fields()
        said = " ".join(f"{name}={_short(value)}" for name, value in fields.items())
        rows.append([entry.offset, entry.epoch, time_text(entry.timestamp_ms), entry.type, said])
        json_rows.append(
            {
                "offset": entry.offset,
                "epoch": entry.epoch,
                "timestamp_ms": entry.timestamp_ms,
                "type": entry.type,
                "version": entry.version,
                "record": fields,
            }
        )
    output.table(None, ["offset", "epoch", "time", Column("type", "cyan"), "record"], rows, json_rows=json_rows)
    return 0


def _short(value: object) -> str:
    import json

    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)


def _show(options: Namespace) -> int:
    from ottla.cli.metadata_files import MetadataFiles

    output = Output(options)
    # `ottla metadata show topics/orders`: the first argument is a path when no such directory is there.
    import os

    directory, path = options.directory, options.path
    if not path and not os.path.exists(directory) and directory != DEFAULT_DIRECTORY:
        directory, path = DEFAULT_DIRECTORY, directory
    value: Any = MetadataFiles(directory).picture()
    walked: list[str] = []
    for step in filter(None, path.strip("/").split("/")):
        if not isinstance(value, Mapping) or step not in value:
            known = [str(key) for key in value] if isinstance(value, Mapping) else []
            where = "/".join(walked) or "the metadata"
            raise CommandError(f"{where} has no {step!r}; {suggestion(step, known, 'it has ' + ', '.join(known[:10]))}")
        walked.append(step)
        value = value[step]
    if output.is_json:
        output.json(value)
    else:
        _print_tree(output, plain(value), "")
    return 0


def _print_tree(output: Output, value: Any, indent: str) -> None:
    if not isinstance(value, dict):
        output.line(indent + cell_text(value))
        return
    for name, item in value.items():
        shown = output.styled(cell_text(name), "cyan")
        if isinstance(item, dict) and item:
            output.line(f"{indent}{shown}:")
            _print_tree(output, item, indent + "  ")
        else:
            output.line(f"{indent}{shown}: {cell_text(None if item == {} else item)}")
