"""kafka-storage: prepares data directories, and tells what is in them. Kafka's directories and Ottla's are the same.

A node of Ottla formats what is empty when it starts; this is for who wants to choose the cluster id, the features or
the first credentials, or has scripts that call it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from ottla.cli.kafka.argparse4j import ArgumentError, ArgumentParser, HelpShown
from ottla.cli.kafka.common import ToolError, java_map, load_properties
from ottla.cli.kafka.feature_versions import (
    FEATURES,
    LATEST_PRODUCTION,
    LOWEST_LEVEL,
    METADATA_VERSION,
    METADATA_VERSIONS,
    default_level,
    metadata_version_of,
)
from ottla.cli.kafka.storage_format import (
    META_PROPERTIES,
    Format,
    FormatError,
    InitialVoter,
    parse_voters,
    random_id,
)
from ottla.core.ids import uuid_to_text

_QUORUM_VOTERS = "controller.quorum.voters"
_QUORUM_BOOTSTRAP = "controller.quorum.bootstrap.servers"
_ROLES = ("broker", "controller")
_SHORT = 1 << 15


def _parser() -> ArgumentParser:
    parser = ArgumentParser("kafka-storage", default_help=True, description="Prepares and shows data directories.")
    commands = parser.add_subparsers(dest="command")
    releases = f"the lowest is {METADATA_VERSIONS[LOWEST_LEVEL]}, the default {METADATA_VERSIONS[LATEST_PRODUCTION]}"
    info = commands.add_parser("info", help="Tell about this node's log directories.")
    _config(info)
    format_ = commands.add_parser("format", help="Format this node's log directories.")
    _config(format_)
    add = format_.add_argument
    add("--cluster-id", "-t", required=True, help="The id of the cluster.")
    add(
        "--add-scram",
        "-S",
        action="append",
        help="A SCRAM credential to begin with, as\n'SCRAM-SHA-256=[name=alice,password=alice-secret]' or\n"
        '\'SCRAM-SHA-512=[name=alice,iterations=8192,salt="N3E=",saltedpassword="YCE="]\'',
    )
    add("--ignore-formatted", "-g", action="store_true", help="Pass over directories that are formatted already.")
    add("--release-version", "-r", help=f"The release whose features to begin with; {releases}")
    add("--feature", "-f", action="append", help="The level of a feature, as `kraft.version=1`.")
    quorum = format_.add_mutually_exclusive_group()
    quorum.add_argument(
        "--standalone",
        "-s",
        action="store_true",
        help="Begin as the only controller of a dynamic quorum, without controller.quorum.voters.",
    )
    quorum.add_argument(
        "--no-initial-controllers",
        "-N",
        action="store_true",
        help="Begin without a quorum: this node joins that of others, without controller.quorum.voters.",
    )
    quorum.add_argument(
        "--initial-controllers",
        "-I",
        help="Begin with this dynamic quorum, the same on all nodes: id@hostname:port:directory, several with commas.",
    )
    mapping = commands.add_parser(
        "version-mapping", help="Show the levels of all features for a release, the latest if none is given."
    )
    mapping.add_argument("--release-version", "-r", help=f"The release; {releases}")
    dependencies = commands.add_parser("feature-dependencies", help="Show what levels of features need.")
    dependencies.add_argument(
        "--feature", "-f", required=True, action="append", help="A feature and its level, as `metadata.version=5`."
    )
    commands.add_parser("random-uuid", help="Print a random id.")
    return parser


def _config(parser: ArgumentParser) -> None:
    parser.add_argument("--config", "-c", required=True, help="The file with the node's settings.")


class _NodeConfig:
    """What the tool needs of a node's settings; raises `ToolError` as Kafka does for what must be there."""

    def __init__(self, path: str) -> None:
        self.values = load_properties(path)
        for name in ("process.roles", "node.id", "controller.listener.names"):
            if name not in self.values:
                self._refuse(f'Missing required configuration "{name}" which has no default value.')
        self.roles = self._list("process.roles")
        for role in self.roles:
            if role not in _ROLES:
                self._refuse(
                    f"Invalid value {role} for configuration process.roles: String must be one of: {', '.join(_ROLES)}"
                )
        text = self.values["node.id"].strip()
        if not text.removeprefix("-").isdecimal():
            self._refuse(f"Invalid value {text} for configuration broker.id: Not a number of type INT")
        self.node_id = int(text)
        if self.node_id < 0:
            self._refuse(f"Invalid value {text} for configuration node.id: Value must be at least 0")
        self.log_dirs = self._list("log.dirs") or self._list("log.dir") or ["/tmp/kafka-logs"]
        self.metadata_log_dir = self.values.get("metadata.log.dir") or self.log_dirs[0]
        self.has_static_voters = bool(self._list(_QUORUM_VOTERS))
        if not self.has_static_voters and not self._list(_QUORUM_BOOTSTRAP):
            self._refuse(
                f"If using process.roles, either {_QUORUM_BOOTSTRAP} must contain the set of bootstrap controllers or "
                f"{_QUORUM_VOTERS} must contain a parseable set of controllers."
            )
        self.controller_listener_names = self._list("controller.listener.names")
        self.unstable = self.values.get("unstable.feature.versions.enable", "false").strip().lower() == "true"

    def directories(self) -> list[str]:
        return sorted({*self.log_dirs, self.metadata_log_dir})

    def controller_endpoint(self) -> tuple[str, int]:
        """Where this node's controller is reached."""
        for setting in ("advertised.listeners", "listeners"):
            for entry in self._list(setting):
                name, _, address = entry.partition("://")
                if name == self.controller_listener_names[0]:
                    host, _, port = address.rpartition(":")
                    return host.strip("[]") or "localhost", int(port)
        raise ToolError("No controller listeners found.", "RuntimeException")

    def _list(self, name: str) -> list[str]:
        return [part.strip() for part in self.values.get(name, "").split(",") if part.strip()]

    def _refuse(self, message: str) -> None:
        raise ToolError(message, "org.apache.kafka.common.config.ConfigException")


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = _parser()
    try:
        values = parser.parse(_with_files(parser, arguments))
    except HelpShown:
        return 0
    except ArgumentError as error:
        error.parser.report(error)
        return 1
    try:
        return _COMMANDS[values["command"]](values)
    except FormatError as error:
        print(error, file=sys.stderr)
        return 1


def _with_files(parser: ArgumentParser, arguments: list[str]) -> list[str]:
    """`@file` stands for the lines of the file, an argument each."""
    expanded = []
    for argument in arguments:
        if not argument.startswith("@"):
            expanded.append(argument)
            continue
        try:
            with open(argument[1:], encoding="utf-8") as file:
                expanded += file.read().splitlines()
        except OSError:
            commands = parser.subparsers.parsers if parser.subparsers is not None else {}
            teller = commands.get(arguments[0], parser)
            raise ArgumentError(f"Could not read arguments from file '{argument[1:]}'", teller) from None
    return expanded


def _run_info(values: Mapping[str, Any]) -> int:
    from ottla.server.log.meta_properties import VERSION

    directories = _NodeConfig(values["config"]).directories()
    found, problems = [], []
    first: dict[str, str] | None = None
    for directory in directories:
        if not os.path.isdir(directory):
            what = "is not a directory" if os.path.exists(directory) else "does not exist"
            problems.append(f"{directory} {what}")
            continue
        found.append(directory)
        path = os.path.join(directory, META_PROPERTIES)
        if not os.path.exists(path):
            problems.append(f"{directory} is not formatted.")
            continue
        try:
            properties = _meta(path)
        except ToolError as error:
            problems.append(f"Error loading {path}: {error}")
            continue
        if first is None:
            first = properties
        elif first.get("cluster.id") != properties.get("cluster.id"):
            problems.append("Mismatched cluster IDs between storage directories.")
        elif first.get("node.id", first.get("broker.id")) != properties.get("node.id", properties.get("broker.id")):
            problems.append("Mismatched node IDs between storage directories.")
    if first is not None and first["version"] != str(VERSION):
        problems.append(
            "The kafka configuration file appears to be for a cluster in KRaft mode, but the directories are "
            "formatted for legacy mode."
        )
    _print_list("Found log directory:", "Found log directories:", found)
    if first is not None:
        print(f"Found metadata: {java_map(dict(sorted(first.items())))}\n")
    _print_list("Found problem:", "Found problems:", problems)
    return 1 if problems else 0


def _print_list(one: str, many: str, entries: list[str]) -> None:
    if entries:
        print(one if len(entries) == 1 else many)
        for entry in entries:
            print(f"  {entry}")
        print()


def _meta(path: str) -> dict[str, str]:
    """The properties of a `meta.properties`, those that count."""
    values = load_properties(path)
    version = values.get("version", "0")
    if version not in ("0", "1"):
        raise ToolError(
            f"Unknown meta.properties version number {version}"
            if version.isdecimal()
            else (f"Invalid meta.properties version string '{version}'"),
            "RuntimeException",
        )
    node = "broker.id" if version == "0" else "node.id"
    if version == "1" and node not in values:
        raise ToolError(f"Failed to find {node}", "RuntimeException")
    if version == "1" and "cluster.id" not in values:
        raise ToolError("cluster.id was not found.", "RuntimeException")
    kept = {name: values[name] for name in ("cluster.id", node, "directory.id") if name in values}
    return {**kept, "version": version}


def _run_format(values: Mapping[str, Any]) -> int:
    from ottla.runtime.real_disk import RealDisk

    config = _NodeConfig(values["config"])
    release = values["release_version"]
    try:
        level = None if release is None else metadata_version_of(release, unstable=config.unstable)
    except ValueError as error:
        raise FormatError(str(error)) from None
    features = dict(_name_and_level(each) for each in values["feature"] or ())
    voters = _voters(values, config)
    Format(
        node_id=config.node_id,
        cluster_id=values["cluster_id"],
        directories=config.directories(),
        metadata_log_directory=config.metadata_log_dir,
        controller_listener_name=config.controller_listener_names[0],
        release_level=level,
        features=features,
        unstable=config.unstable,
        ignore_formatted=values["ignore_formatted"],
        scram=values["add_scram"] or (),
        voters=voters,
        has_dynamic_quorum=not config.has_static_voters,
    ).run(RealDisk(), print)
    return 0


def _name_and_level(text: str) -> tuple[str, int]:
    name, equals, level = text.partition("=")
    if not equals:
        raise ToolError(f"Can't parse feature=level string {text}: equals sign not found.", "RuntimeException")
    try:
        return name.strip(), _short(level.strip())
    except ValueError:
        raise ToolError(
            f"Can't parse feature=level string {text}: unable to parse {level.strip()} as a short.", "RuntimeException"
        ) from None


def _short(text: str) -> int:
    value = int(text)
    if not -_SHORT <= value < _SHORT or "_" in text or text != text.strip():
        raise ValueError(text)
    return value


def _voters(values: Mapping[str, Any], config: _NodeConfig) -> tuple[InitialVoter, ...]:
    initial, standalone = values["initial_controllers"], values["standalone"]
    if config.has_static_voters and (initial is not None or standalone):
        raise FormatError(
            f"You cannot specify {_QUORUM_VOTERS} and format the node with --initial-controllers or --standalone. If "
            f"you want to use dynamic quorum, please remove {_QUORUM_VOTERS} and specify "
            f"{_QUORUM_BOOTSTRAP} instead."
        )
    voters: tuple[InitialVoter, ...] = () if initial is None else parse_voters(initial)
    if standalone:
        if "controller" not in config.roles:
            raise FormatError("You can only use --standalone on a controller.")
        host, port = config.controller_endpoint()
        voters = (InitialVoter(config.node_id, host, port, random_id()),)
    if (
        not values["no_initial_controllers"]
        and "controller" in config.roles
        and not config.has_static_voters
        and not voters
    ):
        raise FormatError(
            f"Because {_QUORUM_VOTERS} is not set on this controller, you must specify one of the following: "
            "--standalone, --initial-controllers, or --no-initial-controllers."
        )
    return voters


def _run_version_mapping(values: Mapping[str, Any]) -> int:
    release = values["release_version"] or METADATA_VERSIONS[LATEST_PRODUCTION]
    try:
        level = metadata_version_of(release, unstable=True)
    except ValueError as error:
        raise FormatError(str(error)) from None
    print(f"metadata.version={level} ({release})")
    for name in FEATURES:
        print(f"{name}={default_level(name, level)}")
    return 0


def _run_feature_dependencies(values: Mapping[str, Any]) -> int:
    for text in values["feature"]:
        name, equals, number = (part.strip() for part in text.partition("="))
        if not equals:
            raise FormatError(
                f"Invalid feature format: {text}. Expected format: 'feature=version' (e.g. 'group.version=1')"
            )
        try:
            level = _short(number)
        except ValueError:
            raise FormatError(f"Invalid version format: {number} for feature {name}") from None
        if name == METADATA_VERSION:
            if level not in METADATA_VERSIONS:
                raise FormatError(f"Unknown metadata.version {level}")
            print(f"{name}={level} ({METADATA_VERSIONS[level]}) has no dependencies.")
        elif name not in FEATURES:
            raise FormatError(f"Unknown feature: {name}")
        elif not 0 <= level < len(FEATURES[name]):
            raise FormatError(f"Feature level {level} is not supported for feature {name}")
        else:
            _print_dependencies(name, level)
    return 0


def _print_dependencies(name: str, level: int) -> None:
    dependencies = FEATURES[name][level].dependencies
    if not dependencies:
        print(f"{name}={level} has no dependencies.")
        return
    print(f"{name}={level} requires:")
    for other, needed in dependencies.items():
        version = f" ({METADATA_VERSIONS[needed]})" if other == METADATA_VERSION else ""
        print(f"    {other}={needed}{version}")


def _run_random_uuid(values: Mapping[str, Any]) -> int:
    print(uuid_to_text(random_id()))
    return 0


_COMMANDS = {
    "info": _run_info,
    "format": _run_format,
    "version-mapping": _run_version_mapping,
    "feature-dependencies": _run_feature_dependencies,
    "random-uuid": _run_random_uuid,
}
