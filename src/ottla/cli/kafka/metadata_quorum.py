"""`kafka-metadata-quorum`: the controllers, how far each has come, and who of them may vote (KIP-595, KIP-853)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ottla.cli.kafka.argparse4j import INTEGER, ArgumentError, ArgumentParser, HelpShown
from ottla.cli.kafka.common import ToolError, bootstrap_settings, java_error, load_properties, open_admin
from ottla.cli.kafka.tables import tabbed_table
from ottla.client.admin.clusters import RaftVoterEndpoint
from ottla.client.errors import KafkaError

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.admin.clusters import QuorumInfo, QuorumReplica

_HEADERS = (
    *("NodeId", "DirectoryId", "LogEndOffset", "Lag", "LastFetchTimestamp", "LastCaughtUpTimestamp"),
    "Status",
)
_NO_DIRECTORY = "AAAAAAAAAAAAAAAAAAAAAA"
_SURE = "Is this a valid controller configuration file?"


class TerseError(Exception):
    """What the user has to know, in one line."""


def run(arguments: list[str]) -> int:
    """The tool; returns its exit code."""
    parser = _parser()
    try:
        values = parser.parse(arguments)
    except HelpShown:
        return 0
    except ArgumentError as error:
        error.parser.report(error)
        return 1
    try:
        properties = _properties(values["command_config"])
        where = bootstrap_settings(values["bootstrap_server"], values["bootstrap_controller"])
        with open_admin(properties | where) as admin:
            _act(admin, values, properties)
    except (TerseError, ToolError) as error:
        print(error, file=sys.stderr)
        return 1
    except KafkaError as error:
        print(java_error(error), file=sys.stderr)
        return 1
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "kafka-metadata-quorum", description="This tool shows the quorum of the metadata log.", default_help=True
    )
    connection = parser.add_mutually_exclusive_group(required=True)
    connection.add_argument("--bootstrap-server", help="brokers, host:port, several separated by commas")
    connection.add_argument("--bootstrap-controller", help="controllers, host:port, several separated by commas")
    parser.add_argument(
        "--command-config",
        help="a file with settings of the client; for add-controller, that of the controller with its settings too",
    )
    commands = parser.add_subparsers(dest="command")
    describe = commands.add_parser("describe", help="Describe the quorum")
    describe.add_argument_group("Status").add_argument("--status", action="store_true", help="The quorum in short.")
    replication = describe.add_argument_group("Replication")
    replication.add_argument("--replication", action="store_true", help="How far each replica is")
    replication.add_argument("--human-readable", action="store_true", help="Times as how long ago they were")
    add = commands.add_parser("add-controller", help="Let a controller vote")
    add.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
    remove = commands.add_parser("remove-controller", help="Let a controller vote no longer")
    remove.add_argument("--controller-id", "-i", type=INTEGER, required=True, help="The id of the controller.")
    remove.add_argument("--controller-directory-id", "-d", required=True, help="The id of its directory.")
    remove.add_argument("--dry-run", action="store_true", help="Only say what would be done.")
    return parser


def _properties(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    if not os.path.exists(path):
        raise TerseError(f"Properties file {path} does not exists!")
    return load_properties(path)


def _act(admin: Admin, values: Mapping[str, Any], properties: Mapping[str, str]) -> None:
    command = values["command"]
    if command == "describe":
        _describe(admin, values)
    elif command == "add-controller":
        if values["command_config"] is None:
            raise TerseError(
                "You must supply the configuration file of the controller you are adding when using add-controller."
            )
        _add_controller(admin, properties, dry_run=values["dry_run"])
    else:
        _remove_controller(admin, values["controller_id"], values["controller_directory_id"], dry_run=values["dry_run"])


# Describe


def _describe(admin: Admin, values: Mapping[str, Any]) -> None:
    status, replication, human_readable = values["status"], values["replication"], values["human_readable"]
    if status and replication:
        raise TerseError("Only one of --status or --replication should be specified with describe sub-command")
    if replication:
        quorum = admin.describe_metadata_quorum()
        print(replication_table(quorum, None if not human_readable else time.time_ns() // 1_000_000))
    elif status:
        if human_readable:
            raise TerseError("The option --human-readable is only supported along with --replication")
        cluster_id = admin.describe_cluster().cluster_id
        print(status_text(cluster_id, admin.describe_metadata_quorum()))
    else:
        raise TerseError("One of --status or --replication must be specified with describe sub-command")


def replication_table(quorum: QuorumInfo, now_ms: int | None) -> str:
    """Leader, followers and observers; with `now_ms` times as how long ago they were."""
    leader = _leader(quorum)
    followers = [one for one in quorum.voters if one.replica_id != quorum.leader_id]
    kinds = (((leader,), "Leader"), (followers, "Follower"), (quorum.observers, "Observer"))
    rows = [
        (
            *(one.replica_id, one.replica_directory_id or _NO_DIRECTORY, one.log_end_offset),
            leader.log_end_offset - one.log_end_offset,
            _when(one.last_fetch_timestamp_ms, now_ms, "last fetch"),
            _when(one.last_caught_up_timestamp_ms, now_ms, "last caught up"),
            status,
        )
        for replicas, status in kinds
        for one in replicas
    ]
    return tabbed_table(_HEADERS, rows)


def _leader(quorum: QuorumInfo) -> QuorumReplica:
    return next(one for one in quorum.voters if one.replica_id == quorum.leader_id)


def _when(timestamp_ms: int | None, now_ms: int | None, what: str) -> object:
    if timestamp_ms is None:
        return -1
    if now_ms is None:
        return timestamp_ms
    if not 0 < timestamp_ms <= now_ms:
        raise TerseError(
            "Error while computing relative time, possible drift in system clock.\n"
            f"Current timestamp is {now_ms}, {what} timestamp is {timestamp_ms}"
        )
    return f"{now_ms - timestamp_ms} ms ago"


def status_text(cluster_id: str | None, quorum: QuorumInfo) -> str:
    """The quorum in short."""
    leader = _leader(quorum)
    slowest = min(quorum.voters, key=lambda one: one.log_end_offset)
    lag_ms = -1
    if slowest is leader:
        lag_ms = 0
    elif leader.last_caught_up_timestamp_ms is not None and slowest.last_caught_up_timestamp_ms is not None:
        lag_ms = leader.last_caught_up_timestamp_ms - slowest.last_caught_up_timestamp_ms
    rows = {
        "ClusterId": cluster_id,
        "LeaderId": quorum.leader_id,
        "LeaderEpoch": quorum.leader_epoch,
        "HighWatermark": quorum.high_watermark,
        "MaxFollowerLag": leader.log_end_offset - slowest.log_end_offset,
        "MaxFollowerLagTimeMs": lag_ms,
        "CurrentVoters": _nodes(quorum, quorum.voters),
        "CurrentObservers": _nodes(quorum, quorum.observers),
    }
    return "\n".join(f"{name + ':':<23} {value}" for name, value in rows.items())


def _nodes(quorum: QuorumInfo, replicas: Iterable[QuorumReplica]) -> str:
    nodes = []
    for one in replicas:
        parts = [f'"id": {one.replica_id}']
        if one.replica_directory_id is not None:
            parts.append(f'"directoryId": "{one.replica_directory_id}"')
        endpoints = quorum.nodes.get(one.replica_id)
        if endpoints:
            listed = ", ".join(f'"{end.listener}://{_bracketed(end.host)}:{end.port}"' for end in endpoints)
            parts.append(f'"endpoints": [{listed}]')
        nodes.append(f"{{{', '.join(parts)}}}")
    return f"[{', '.join(nodes)}]"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# Who may vote


def _add_controller(admin: Admin, properties: Mapping[str, str], *, dry_run: bool) -> None:
    controller_id = _controller_id(properties)
    directory_id = _directory_id(_metadata_directory(properties))
    endpoints = controller_endpoints(properties)
    if not dry_run:
        admin.add_raft_voter(controller_id, directory_id, endpoints)
    listed = ", ".join(f"{one.listener}://{_bracketed(one.host)}:{one.port}" for one in endpoints)
    done = "DRY RUN of adding" if dry_run else "Added"
    print(f"{done} controller {controller_id} with directory id {directory_id} and endpoints: {listed}")


def _controller_id(properties: Mapping[str, str]) -> int:
    if "node.id" not in properties:
        raise TerseError(f"node.id not found in configuration file. {_SURE}")
    try:
        node_id = int(properties["node.id"])
    except ValueError:
        raise TerseError(f'For input string: "{properties["node.id"]}"') from None
    if node_id < 0:
        raise TerseError(f"node.id was negative in configuration file. {_SURE}")
    if "controller" not in properties.get("process.roles", ""):
        raise TerseError(f"process.roles did not contain 'controller' in configuration file. {_SURE}")
    return node_id


def _metadata_directory(properties: Mapping[str, str]) -> str:
    if "metadata.log.dir" in properties:
        return properties["metadata.log.dir"]
    if "log.dirs" in properties:
        return properties["log.dirs"].strip().split(",")[0]
    raise TerseError(f"Neither metadata.log.dir nor log.dirs were found. {_SURE}")


def _directory_id(directory: str) -> str:
    path = os.path.join(directory, "meta.properties")
    if not os.path.exists(path):
        raise TerseError(f"Unable to read meta.properties from {directory}")
    found = load_properties(path).get("directory.id")
    if found is None:
        raise TerseError(f"No directory id found in {directory}")
    return found


def controller_endpoints(properties: Mapping[str, str]) -> list[RaftVoterEndpoint]:
    """Where a controller with these settings can be reached."""
    listeners: dict[str, RaftVoterEndpoint] = {}
    for setting in ("listeners", "advertised.listeners"):
        for text in filter(None, map(str.strip, properties.get(setting, "").split(","))):
            name, found, address = text.partition("://")
            host, colon, port = address.rpartition(":")
            if not found or not colon or not port.isdecimal():
                raise TerseError(f"Unable to parse {text} to a broker endpoint")
            name = name.upper()
            listeners[name] = RaftVoterEndpoint(name, host.strip("[]") or "localhost", int(port))
    if "controller.listener.names" not in properties:
        raise TerseError(f"controller.listener.names was not found. {_SURE}")
    endpoints = []
    for name in properties["controller.listener.names"].split(","):
        name = name.upper()
        if name not in listeners:
            raise TerseError(f"Cannot find information about controller listener name: {name}")
        endpoints.append(listeners[name])
    return list(dict.fromkeys(endpoints))


def _remove_controller(admin: Admin, controller_id: int, directory_id: str, *, dry_run: bool) -> None:
    if controller_id < 0:
        raise TerseError(f"Invalid negative --controller-id: {controller_id}")
    problem = _uuid_problem(directory_id)
    if problem:
        raise TerseError(f"Failed to parse --controller-directory-id: {problem}")
    if not dry_run:
        admin.remove_raft_voter(controller_id, directory_id)
    # The second space of the first is Kafka's.
    done = "DRY RUN of removing " if dry_run else "Removed "
    print(f"{done} KRaft controller {controller_id} with directory id {directory_id}")


def _uuid_problem(text: str) -> str:
    """Why it is no id, in the words of Java; empty when it is one."""
    if len(text) > 24:
        return f"Input string with prefix `{text[:24]}` is too long to be decoded as a base64 UUID"
    body = text.rstrip("=")
    for character in body:
        if not (character.isascii() and (character.isalnum() or character in "-_")):
            return f"Illegal base64 character {ord(character):x}"
    if len(body) % 4 == 1:
        return "Last unit does not have enough valid bits"
    size = len(body) * 3 // 4
    if size == 16:
        return ""
    return (
        f"Input string `{text}` decoded as {size} bytes, which is not equal to the expected 16 bytes of a "
        "base64-encoded UUID"
    )
