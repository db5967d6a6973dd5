"""kafka-features: the features of the cluster, and the levels they stand at (KIP-584, KIP-1022)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ottla.cli.kafka.argparse4j import INTEGER, ArgumentError, ArgumentParser, HelpShown, Subparsers
from ottla.cli.kafka.common import (
    ToolError,
    bootstrap_settings,
    cause,
    java_error,
    java_message,
    load_properties,
    open_admin,
)
from ottla.cli.kafka.feature_versions import (
    FEATURES,
    LATEST_PRODUCTION,
    METADATA_VERSION,
    METADATA_VERSIONS,
    default_level,
    metadata_version_of,
)

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.admin.clusters import FeatureUpdate, UpgradeType
    from ottla.client.errors import KafkaError

Values = dict[str, Any]


def run(arguments: list[str]) -> int:
    """Run the tool."""
    from ottla.client.errors import KafkaError

    try:
        _run(_parser().parse(arguments))
    except HelpShown:
        return 0
    except ArgumentError as error:
        print(f"Command line error: {error}. Type --help for help.", end="", file=sys.stderr)
        return 1
    except ToolError as error:
        print(error, file=sys.stderr)
        return 1
    except KafkaError as error:
        print(java_error(error), file=sys.stderr)
        return 1
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "kafka-features", default_help=True, description="This tool manages feature flags in Kafka."
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--bootstrap-server", help="Brokers of the cluster, as host:port,host:port.")
    group.add_argument("--bootstrap-controller", help="Controllers of the cluster, as host:port,host:port.")
    parser.add_argument("--command-config", help="A file with settings of the admin client.")
    commands = parser.add_subparsers(dest="command")
    describe = commands.add_parser("describe", help="Print the features and their levels.")
    describe.add_argument("--node-id", type=INTEGER, help="Which node to ask; any without it.")
    _add_change(commands, "upgrade", "Bring features to higher levels.")
    _add_change(commands, "downgrade", "Bring features back to lower levels.")
    disable = commands.add_parser("disable", help="Switch features off: bring them to level 0.")
    disable.add_argument("--feature", action="append", help="A feature.")
    disable.add_argument("--unsafe", action="store_true", help="Even if metadata may be lost.")
    disable.add_argument("--dry-run", action="store_true", help="Only try whether it can be done.")
    mapping = commands.add_parser("version-mapping", help="Print the levels that belong to a release of Kafka.")
    mapping.add_argument(
        "--release-version",
        help=f"The release; from {METADATA_VERSIONS[min(METADATA_VERSIONS)]} on, by default "
        f"{METADATA_VERSIONS[LATEST_PRODUCTION]}.",
    )
    dependencies = commands.add_parser("feature-dependencies", help="Print what levels of features need.")
    dependencies.add_argument(
        "--feature", action="append", required=True, help="Feature and level, as `metadata.version=5`."
    )
    return parser


def _add_change(commands: Subparsers, name: str, text: str) -> None:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("--metadata", help="DEPRECATED: the level of metadata.version by its name, as 3.3-IV3.")
    parser.add_argument("--release-version", help="The release of Kafka whose levels all features shall have.")
    parser.add_argument("--feature", action="append", help="Feature and level, as `metadata.version=5`.")
    if name == "downgrade":
        parser.add_argument("--unsafe", action="store_true", help="Even if metadata may be lost.")
    parser.add_argument("--dry-run", action="store_true", help="Only try whether it can be done.")


def _run(values: Values) -> None:
    command = values["command"]
    if command == "version-mapping":
        _version_mapping(values["release_version"])
    elif command == "feature-dependencies":
        _dependencies(values["feature"])
    else:
        config = values["command_config"]
        settings = load_properties(config) if config is not None else {}
        try:
            settings |= bootstrap_settings(values["bootstrap_server"], values["bootstrap_controller"])
        except ToolError as error:
            raise ArgumentError(str(error), _parser()) from None
        with open_admin(settings) as admin:
            _ADMIN_COMMANDS[command](values, admin)


# Without a cluster


def _version_mapping(release: str | None) -> None:
    text = METADATA_VERSIONS[LATEST_PRODUCTION] if release is None else release
    level = _metadata_level(text)
    print(f"{METADATA_VERSION}={level} ({text})")
    for feature in FEATURES:
        print(f"{feature}={default_level(feature, level)}")


def _metadata_level(text: str) -> int:
    try:
        return metadata_version_of(text, unstable=True)
    except ValueError as error:
        raise ToolError(str(error)) from None


def _dependencies(arguments: list[str]) -> None:
    for argument in arguments:
        feature, level = _name_and_level(argument)
        if feature == METADATA_VERSION:
            if level not in METADATA_VERSIONS:
                raise ToolError(f"Unknown metadata.version {level}")
            print(f"{feature}={level} ({METADATA_VERSIONS[level]}) has no dependencies.")
            continue
        if feature not in FEATURES:
            raise ToolError(f"Unknown feature: {feature}")
        if not 0 <= level < len(FEATURES[feature]):
            raise ToolError(f"No feature:{feature} with feature level {level}")
        needed = FEATURES[feature][level].dependencies
        print(f"{feature}={level} requires:" if needed else f"{feature}={level} has no dependencies.")
        for other, other_level in needed.items():
            named = f" ({METADATA_VERSIONS[other_level]})" if other == METADATA_VERSION else ""
            print(f"    {other}={other_level}{named}")


def _name_and_level(text: str) -> tuple[str, int]:
    name, equals, level = text.partition("=")
    if not equals:
        raise ToolError(f"Can't parse feature=level string {text}: equals sign not found.", "RuntimeException")
    try:
        number = int(level.strip()) if "_" not in level else -(1 << 16)
        if not -(1 << 15) <= number < 1 << 15:
            raise ValueError
    except ValueError:
        raise ToolError(
            f"Can't parse feature=level string {text}: unable to parse {level.strip()} as a short.", "RuntimeException"
        ) from None
    return name.strip(), number


# On a cluster


def _describe(values: Values, admin: Admin) -> None:
    node_id = values["node_id"]
    if node_id is not None and node_id < 0:
        raise ToolError(f"Invalid node id {node_id}: must be non-negative.")
    found = admin.describe_features(node_id=node_id)
    epoch = "-" if found.finalized_epoch is None else str(found.finalized_epoch)
    for feature in sorted(found.supported):
        low, high = found.supported[feature]
        level = found.finalized[feature].max_version if feature in found.finalized else 0
        low_text, high_text, level_text = (_level_text(feature, number) for number in (low, high, level))
        print(
            f"Feature: {feature:<40}  SupportedMinVersion: {low_text:<15}  SupportedMaxVersion: {high_text:<15}  "
            f"FinalizedVersionLevel: {level_text:<15}  Epoch: {epoch}"
        )


def _level_text(feature: str, level: int) -> str:
    return METADATA_VERSIONS.get(level, f"UNKNOWN {level}") if feature == METADATA_VERSION else str(level)


def _downgrade_type(values: Values) -> UpgradeType:
    from ottla.client.admin.clusters import UpgradeType

    return UpgradeType.UNSAFE_DOWNGRADE if values["unsafe"] else UpgradeType.SAFE_DOWNGRADE


def _change(values: Values, admin: Admin) -> None:
    from ottla.client.admin.clusters import FeatureUpdate, UpgradeType

    upgrade = values["command"] == "upgrade"
    kind = UpgradeType.UPGRADE if upgrade else _downgrade_type(values)
    release, metadata, features = values["release_version"], values["metadata"], values["feature"]
    levels: dict[str, int] = {}
    if release is not None:
        if metadata is not None or features is not None:
            raise ToolError("Can not specify `release-version` with other feature flags.")
        levels[METADATA_VERSION] = _metadata_level(release)
        for feature in FEATURES:
            level = default_level(feature, levels[METADATA_VERSION])
            if level > 0 or not upgrade:
                levels[feature] = level
    if metadata is not None:
        print(" `metadata` flag is deprecated and may be removed in a future release.")
        levels[METADATA_VERSION] = _metadata_level(metadata)
    for text in features or ():
        feature, level = _name_and_level(text)
        if feature in levels:
            raise ToolError(f"Feature {feature} was specified more than once.", "RuntimeException")
        levels[feature] = level
    updates = {feature: FeatureUpdate(level, kind) for feature, level in levels.items()}
    _update(values["command"], admin, updates, values["dry_run"])


def _disable(values: Values, admin: Admin) -> None:
    from ottla.client.admin.clusters import FeatureUpdate

    features = values["feature"] or []
    for feature in features:
        if features.count(feature) > 1:
            raise ToolError(f"Feature {feature} was specified more than once.", "RuntimeException")
    kind = _downgrade_type(values)
    _update("disable", admin, {feature: FeatureUpdate(0, kind) for feature in features}, values["dry_run"])


def _update(operation: str, admin: Admin, updates: Mapping[str, FeatureUpdate], dry_run: bool) -> None:
    from ottla.client.errors import KafkaError

    if not updates:
        raise ToolError(f"You must specify at least one feature to {operation}")
    errors: Mapping[str, KafkaError] = {}
    try:
        admin.update_features(updates, validate_only=dry_run)
    except KafkaError as error:
        errors = error.errors or dict.fromkeys(updates, error)
    for feature in sorted(updates):
        level = updates[feature].max_version_level
        if feature in errors:
            what = f"disable {feature}" if operation == "disable" else f"{operation} {feature} to {level}"
            print(f"{'Can not' if dry_run else 'Could not'} {what}. {java_message(cause(errors[feature]))}")
        else:
            done = "disabled." if operation == "disable" else f"{operation}d to {level}."
            print(f"{feature}{' can be ' if dry_run else ' was '}{done}")
    if errors:
        raise ToolError(f"{len(errors)} out of {len(updates)} operation(s) failed.")


_ADMIN_COMMANDS: dict[str, Callable[[Values, Admin], None]] = {
    "describe": _describe,
    "upgrade": _change,
    "downgrade": _change,
    "disable": _disable,
}
