"""`ottla storage`: prepare the data directories of a node that shall belong to a cluster, and tell what is in them.

A node alone prepares its directory when it starts. Nodes of a cluster must agree first on the cluster's id and on who
begins the quorum of controllers (KIP-853), which is what `format` writes down; see docs/cluster.md.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import split_assignments
from ottla.cli.errors import FAILURE, CommandError
from ottla.cli.output import Output

if TYPE_CHECKING:
    from ottla.cli.kafka.storage_format import InitialVoter
    from ottla.schema.config import BrokerConfig

run = run_action

UNOPENED = ("localhost", 9093)
"""For a node alone that has no controller listener: the format has a place for one."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    form = actions.add("format", _format, "Prepare the data directories of a node for a cluster.", connects=False)
    _add_config_arguments(form)
    form.add_argument(
        "--cluster-id",
        metavar="ID",
        help="the same for all nodes of the cluster; `ottla storage random-uuid` makes one",
    )
    quorum = form.add_mutually_exclusive_group()
    quorum.add_argument("--standalone", action="store_true", help="begin as the only controller; others may join")
    quorum.add_argument(
        "--initial-controllers",
        metavar="ID@HOST:PORT:DIRECTORY,…",
        help="begin with these controllers: the same text on each, a random uuid for each directory",
    )
    quorum.add_argument(
        "--no-initial-controllers", action="store_true", help="begin as none of them: this node joins later"
    )
    form.add_argument("--release-version", metavar="VERSION", help="begin with the features of this release")
    form.add_argument(
        "--feature", action="append", default=[], metavar="NAME=LEVEL", help="begin with this level; may be repeated"
    )
    form.add_argument(
        "--add-scram", action="append", default=[], metavar="CREDENTIAL", help="begin with it, as kafka-storage has it"
    )
    form.add_argument("--ignore-formatted", action="store_true", help="pass over directories that are formatted")
    info = actions.add("info", _info, "Tell whose the data directories are.", connects=False)
    _add_config_arguments(info)
    actions.add("random-uuid", _random_uuid, "Print a random id, for a cluster or a directory.", connects=False)


def _add_config_arguments(parser: ArgumentParser) -> None:
    """The settings of a node, as `ottla start` takes them."""
    parser.add_argument("--config", metavar="FILE", help="a properties file with Kafka's settings")
    parser.add_argument("--data", metavar="DIR", help="the data directory (log.dirs)")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="assignments", help="a setting; may be repeated"
    )
    parser.set_defaults(log_level=None, log_format=None)


def _format(options: Namespace) -> int:
    from ottla.cli.kafka.common import ToolError
    from ottla.cli.kafka.feature_versions import metadata_version_of
    from ottla.cli.kafka.storage_format import Format, FormatError
    from ottla.cli.start import load_config
    from ottla.runtime.real_disk import RealDisk

    output = Output(options)
    config = load_config(options, os.environ)
    cluster_id = _cluster_id(options, config)
    unstable = config["unstable.feature.versions.enable"]
    release = options.release_version
    lines: list[str] = []
    try:
        voters = _voters(options, config)
        Format(
            node_id=config.node_id,
            cluster_id=cluster_id,
            directories=_directories(config),
            metadata_log_directory=config.metadata_log_dir,
            controller_listener_name=_controller_listener_name(config),
            release_level=None if release is None else metadata_version_of(release, unstable=unstable),
            features=_levels(options.feature),
            unstable=unstable,
            ignore_formatted=options.ignore_formatted,
            scram=options.add_scram,
            voters=voters,
            has_dynamic_quorum=not config["controller.quorum.voters"],
        ).run(RealDisk(), lines.append)
    except (FormatError, ToolError, ValueError) as error:
        raise CommandError(str(error)) from None
    formatted = [line.split(" with ")[0] for line in lines if line.startswith("Formatting ")]
    output.done(
        "\n".join([*(line.replace("Formatting ", "formatted ") for line in formatted), f"cluster id {cluster_id}"])
        if formatted
        else "all data directories are formatted already",
        json={"cluster_id": cluster_id, "node_id": config.node_id, "directories": _directories(config)},
    )
    return 0


def _cluster_id(options: Namespace, config: BrokerConfig) -> str:
    from ottla.cli.kafka.storage_format import random_id
    from ottla.core.ids import uuid_to_text

    given: str | None = options.cluster_id or config.cluster_id
    if given is not None:
        if len(given) != 22 or not given.replace("-", "").replace("_", "").isalnum():
            raise CommandError(f"'{given}' is not a cluster id; `ottla storage random-uuid` makes one")
        return given
    if not config.is_single:
        raise CommandError("say which cluster with --cluster-id; `ottla storage random-uuid` makes an id for a new one")
    return uuid_to_text(random_id())


def _voters(options: Namespace, config: BrokerConfig) -> tuple[InitialVoter, ...]:
    """Who begins the quorum, as far as this node has to know."""
    from ottla.cli.kafka.storage_format import InitialVoter, parse_voters, random_id

    is_static = bool(config["controller.quorum.voters"])
    begins = options.standalone or options.initial_controllers is not None
    if is_static:
        if begins:
            raise CommandError(
                "controller.quorum.voters already says who begins: leave it out (controller.quorum.bootstrap.servers "
                "is for such quorums), or leave --standalone and --initial-controllers out"
            )
        return ()
    if options.no_initial_controllers or (not config.is_controller and not begins):
        return ()
    if options.initial_controllers is not None:
        return parse_voters(options.initial_controllers)
    if not options.standalone and not config.is_single:
        raise CommandError(
            "say who begins: --initial-controllers with the text that all of them get, --standalone for this one "
            "alone, or --no-initial-controllers when this one joins others"
        )
    if not config.is_controller:
        raise CommandError("--standalone is for a controller, and process.roles is broker")
    host, port = _own_endpoint(config)
    return (InitialVoter(config.node_id, host, port, random_id()),)


def _own_endpoint(config: BrokerConfig) -> tuple[str, int]:
    from ottla.schema.quorum import advertised_controller_listeners

    for listener in advertised_controller_listeners(config):
        return listener.host or "localhost", listener.port
    return UNOPENED


def _controller_listener_name(config: BrokerConfig) -> str:
    return next(iter(config.controller_listener_names), "CONTROLLER")


def _directories(config: BrokerConfig) -> list[str]:
    return list(dict.fromkeys([*config.log_dirs, config.metadata_log_dir]))


def _levels(given: list[str]) -> dict[str, int]:
    levels = {}
    for name, text in split_assignments(given, "--feature").items():
        if not text.isdecimal():
            raise CommandError(f"--feature wants NAME=LEVEL with a number, not {name}={text}")
        levels[name] = int(text)
    return levels


def _info(options: Namespace) -> int:
    from ottla.cli.start import load_config

    output = Output(options)
    found, problems = look_at(_directories(load_config(options, os.environ)))
    rows = [[path, *fields.values()] for path, fields in found.items()]
    output.table(
        None,
        ["directory", "cluster id", "node", "directory id"],
        rows,
        json_rows=[{"directory": path, **fields} for path, fields in found.items()],
    )
    for problem in problems:
        output.note(problem)
    return FAILURE if problems else 0


def look_at(directories: list[str]) -> tuple[Mapping[str, Mapping[str, object]], list[str]]:
    """What `meta.properties` of each says, and what is wrong with them."""
    from ottla.core.ids import uuid_to_text
    from ottla.runtime.real_disk import RealDisk
    from ottla.server.log.errors import LogError
    from ottla.server.log.meta_properties import read_meta_properties

    found: dict[str, Mapping[str, object]] = {}
    problems = []
    for directory in directories:
        path = os.path.join(directory, "meta.properties")
        try:
            meta = read_meta_properties(RealDisk(), path)
        except (LogError, OSError) as error:
            problems.append(str(error))
            continue
        if meta is None:
            problems.append(f"{directory} is not formatted")
            continue
        identity = None if meta.directory_id is None else uuid_to_text(meta.directory_id)
        found[directory] = {"cluster_id": meta.cluster_id, "node_id": meta.node_id, "directory_id": identity}
    for name, what in (("cluster_id", "clusters"), ("node_id", "nodes")):
        values = {fields[name] for fields in found.values()}
        if len(values) > 1:
            problems.append(f"the directories are of different {what}: {', '.join(map(str, sorted(values, key=str)))}")
    return found, problems


def _random_uuid(options: Namespace) -> int:
    from ottla.cli.kafka.storage_format import random_id
    from ottla.core.ids import uuid_to_text

    output = Output(options)
    text = uuid_to_text(random_id())
    if output.is_json:
        output.json({"uuid": text})
    else:
        output.line(text)
    return 0
